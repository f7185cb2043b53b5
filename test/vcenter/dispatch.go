package vcenter

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
)

// machine stands for a VM in one call: vcsim's methods, and ours over them.
// The embedded pointer comes first: locks and the property collector look
// through it.
type machine struct {
	*simulator.VirtualMachine
	vm   *VM
	rule *fault.Rule
}

// snapshotNode stands for a snapshot in one call.
type snapshotNode struct {
	*simulator.VirtualMachineSnapshot
	snap *snapshot
	rule *fault.Rule
}

// datastore keeps the free space that SetFreeSpace said.
type datastore struct {
	*simulator.Datastore
}

// open are the methods that need no session.
var open = map[string]bool{
	"Login": true, "LoginByToken": true, "LoginExtensionByCertificate": true, "CloneSession": true,
	"RetrieveServiceContent": true, "RetrieveInternalContent": true, "CurrentTime": true,
}

// dispatch is vcsim's hook before every call. Returning a handler is not
// enough: with a session, vcsim replaces it by what the session holds under
// the reference, unless that is unknown; so the call's reference is renamed.
func (v *VCenter) dispatch(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session == nil {
		if open[m.Name] {
			return nil, nil
		}
		return nil, &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &m.This, PrivilegeId: "System.View"}}
	}
	var rule *fault.Rule
	if c := callOf(ctx.Session.UserAgent); c != nil {
		rule = c.rule
		if m.This.Type == "PropertyCollector" {
			pc, _ := ctx.Session.Get(m.This).(*simulator.PropertyCollector)
			c.collector.Store(pc)
		}
	}
	if rule != nil && rule.Kind == fault.Error {
		return nil, newFault(rule.Detail, m.This)
	}
	if f := v.permit(m); f != nil {
		return nil, f
	}
	if v.disabled(m) {
		return nil, &types.MethodDisabled{}
	}
	v.closeLease(m)
	return v.standIn(ctx, m, rule)
}

// callOf takes the call from the token that rides in the agent.
func callOf(agent string) *call {
	_, token, ok := strings.Cut(agent, tokenMark)
	if !ok {
		return nil
	}
	c, ok := calls.Load(token)
	if !ok {
		return nil
	}
	return c.(*call)
}

// standIn picks the object that answers instead of vcsim's.
func (v *VCenter) standIn(ctx *simulator.Context, m *simulator.Method, rule *fault.Rule) (mo.Reference, types.BaseMethodFault) {
	v.mu.Lock()
	vm, snap := v.vms[m.This.Value], v.snapshots[m.This.Value]
	v.mu.Unlock()
	spoils := rule != nil && (rule.Kind == fault.TaskFault || rule.Kind == fault.Lie)
	switch obj := ctx.Map.Get(m.This).(type) {
	case *simulator.VirtualMachine:
		if vm != nil && (!spoils || plays(m.Name, rule)) {
			m.This.Value = "stand-in:" + m.This.Value
			return &machine{obj, vm, rule}, nil
		}
	case *simulator.VirtualMachineSnapshot:
		if snap != nil && (!spoils || plays(m.Name, rule)) {
			m.This.Value = "stand-in:" + m.This.Value
			return &snapshotNode{obj, snap, rule}, nil
		}
	case *simulator.Datastore:
		if m.Name == "RefreshDatastore" {
			m.This.Value = "stand-in:" + m.This.Value
			return &datastore{obj}, nil
		}
	}
	if spoils {
		return nil, unplayable("rule for "+m.Name, string(rule.Kind)+" "+rule.Detail)
	}
	return nil, nil
}

// lies are the wrong answers that can be had, by method.
var lies = map[string][]string{
	"CreateSnapshot_Task":   {"quiesce-fallback"},
	"CreateSnapshotEx_Task": {"quiesce-fallback"},
	"QueryChangedDiskAreas": {"under-report", "over-report", "whole-disk", "empty-page", "unsorted", "outside", "gap"},
	"RevertToSnapshot_Task": {"keep-change-ids"},
	"PowerOffVM_Task":       {"cbt-reset"},
	"RemoveSnapshot_Task":   {"consolidation-needed"},
	"ShutdownGuest":         {"guest-ignores"},
}

// tasks are the methods whose task can be made to fail.
var tasks = map[string]bool{
	"CreateSnapshot_Task": true, "CreateSnapshotEx_Task": true, "RemoveSnapshot_Task": true, "RemoveAllSnapshots_Task": true,
	"RevertToSnapshot_Task": true, "RevertToCurrentSnapshot_Task": true, "ConsolidateVMDisks_Task": true, "ReconfigVM_Task": true,
	"PowerOnVM_Task": true, "PowerOffVM_Task": true, "ResetVM_Task": true, "RelocateVM_Task": true, "Destroy_Task": true,
}

func plays(method string, r *fault.Rule) bool {
	if r.Kind == fault.TaskFault {
		return tasks[method]
	}
	for _, l := range lies[method] {
		if l == r.Detail {
			return true
		}
	}
	return false
}

func lie(r *fault.Rule, detail string) bool {
	return r != nil && r.Kind == fault.Lie && r.Detail == detail
}

// RefreshDatastore of vcsim would ask this machine's file system.
func (d *datastore) RefreshDatastore(*simulator.Context, *types.RefreshDatastore) soap.HasFault {
	return &refreshed{Res: &types.RefreshDatastoreResponse{}}
}

type refreshed struct {
	Res *types.RefreshDatastoreResponse
}

func (*refreshed) Fault() *soap.Fault { return nil }
