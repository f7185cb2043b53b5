package scenario_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

// reading is a moment that is no step: a frozen disk is being read.
const reading transfer.Step = "copy, while reading"

// ours is the moref of our VM snapshot, "" if there is none.
func (r *rig) ours() string {
	for _, s := range r.vm.Snapshots() {
		if strings.HasPrefix(s.Name, vsphere.SnapshotPrefix) {
			return s.Moref
		}
	}
	return ""
}

// hand is what somebody else does to the VM, and how the VM gets well again.
type hand struct {
	name   string
	before func(*testing.T, *rig) // the cycle, and the one before
	do     func(*testing.T, *rig)
	after  func(*testing.T, *rig)
}

func otherHands() []hand {
	var backup, base string
	powerOn := func(t *testing.T, r *rig) {
		if !r.vm.PoweredOn() {
			must(t, r.vm.PowerOn())
		}
	}
	return []hand{
		{name: "a backup snapshot above ours", do: func(t *testing.T, r *rig) {
			id, err := r.vm.TakeSnapshot("nightly backup")
			must(t, err)
			backup = id
		}, after: func(t *testing.T, r *rig) { must(t, r.vm.RemoveSnapshot(backup)) }},
		{name: "a backup snapshot above ours that comes and goes", do: func(t *testing.T, r *rig) {
			id, err := r.vm.TakeSnapshot("nightly backup")
			must(t, err)
			r.Write(0, 77, mib, 3000)
			must(t, r.vm.RemoveSnapshot(id))
		}},
		{name: "ours deleted by hand", do: func(t *testing.T, r *rig) {
			if id := r.ours(); id != "" {
				must(t, r.vm.RemoveSnapshot(id))
			}
		}},
		{name: "ours deleted by hand, and a snapshot of others below", before: func(t *testing.T, r *rig) {
			_, err := r.vm.TakeSnapshot("before the upgrade")
			must(t, err)
			r.change()
		}, do: func(t *testing.T, r *rig) {
			if id := r.ours(); id != "" {
				must(t, r.vm.RemoveSnapshot(id))
			}
		}, after: func(t *testing.T, r *rig) {
			// Beside a snapshot of others Snapferry consolidates nothing: it alarms,
			// and refuses until somebody does.
			if s, _ := r.w.Lab.VCenter.State().VM(r.vm.Moref()); s.ConsolidationNeeded {
				if len(r.Last.Alarms) == 0 {
					t.Error("the VM needs consolidation and nobody says so")
				}
				if res := r.run(transfer.Options{}, nil, nil); transfer.KindOf(res.err) != transfer.Permanent || transfer.HintOf(res.err) == "" {
					t.Errorf("the VM needs consolidation: %v", res.err)
				}
				must(t, r.vm.Consolidate())
			}
		}},
		{name: "a revert to ours", do: func(t *testing.T, r *rig) {
			r.Write(0, 78, 0, mib)
			if id := r.ours(); id != "" {
				must(t, r.vm.Revert(id))
			}
		}, after: powerOn},
		{name: "a revert to a snapshot below ours", before: func(t *testing.T, r *rig) {
			id, err := r.vm.TakeSnapshot("before the upgrade")
			must(t, err)
			base = id
			r.change()
		}, do: func(t *testing.T, r *rig) { must(t, r.vm.Revert(base)) }, after: powerOn},
		{name: "vMotion", do: func(t *testing.T, r *rig) { must(t, r.vm.Migrate(r.w.Lab.VCenter.Hosts()[1])) }},
		{name: "storage vMotion of the source", do: func(t *testing.T, r *rig) { must(t, r.vm.MoveTo("vmfs2")) }},
		{name: "storage vMotion of the appliance", do: func(t *testing.T, r *rig) {
			if err := r.w.Lab.Appliance.MoveTo("vmfs2"); err != nil && !strings.Contains(err.Error(), "non-persistent") {
				t.Error(err)
			}
		}},
		{name: "vMotion of the appliance", do: func(t *testing.T, r *rig) { must(t, r.w.Lab.Appliance.Migrate(r.w.Lab.VCenter.Hosts()[1])) }},
		{name: "the host of the source crashes", do: func(t *testing.T, r *rig) {
			if r.vm.PoweredOn() {
				must(t, r.vm.PowerLoss())
			}
		}, after: powerOn},
		{name: "the guest writes over everything", do: func(t *testing.T, r *rig) { r.Write(0, 79, 0, 4*mib); r.Write(1, 80, 0, mib) }},
		{name: "CBT is reset", do: func(_ *testing.T, r *rig) { r.VM.ResetCBT() }},
	}
}

// TestOtherHands: whatever others do to the VM in mid-cycle, the cycle is a
// clean abort or its point is right.
func TestOtherHands(t *testing.T) {
	moments := []transfer.Step{transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy, reading, transfer.StepDetach, transfer.StepRelease, transfer.StepSeal}
	for n := range otherHands() {
		for m, moment := range moments {
			if !long && (n%3 == 0 && m != n%len(moments) || n%3 != 0 && moment != reading) {
				continue
			}
			h := otherHands()[n]
			t.Run(h.name+"/"+string(moment), func(t *testing.T) {
				t.Parallel()
				newRig(t, vcenter.VMSpec{CBT: true}).interfere(h, moment)
			})
		}
	}
}

func (r *rig) interfere(h hand, moment transfer.Step) {
	t := r.t
	r.Sync(transfer.Options{})
	if h.before != nil {
		h.before(t, r)
		r.Sync(transfer.Options{})
	}
	r.change()
	var once sync.Once
	done := false
	act := func() { once.Do(func() { h.do(t, r); done = true }) }
	if moment == reading {
		r.onRead = func(transfer.DiskID) { act() }
	}
	res := r.run(transfer.Options{}, nil, func(at transfer.Step) {
		if at == moment {
			act()
		}
	})
	r.onRead = nil
	if !done {
		t.Fatalf("the cycle never came to %s: %v", moment, res.err)
	}
	r.row(h.name, moment, r.outcome(res))
	if h.after != nil {
		h.after(t, r)
	}
	r.recover(transfer.Options{})
	if long {
		r.recover(transfer.Options{}) // and a plain cycle after the recovery
	}
}

// reconfigureCBT switches change tracking on as another tool would.
func reconfigureCBT(t *testing.T, r *rig) {
	t.Helper()
	on := true
	task, err := object.NewVirtualMachine(r.w.VSphere.VIM(), r.vm.Ref()).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &on})
	must(t, err)
	must(t, task.Wait(t.Context()))
}

// revert goes back to a snapshot through the API, so that rules apply.
func revert(t *testing.T, r *rig, snapshot string) {
	t.Helper()
	res, err := methods.RevertToSnapshot_Task(t.Context(), r.w.VSphere.VIM(), &types.RevertToSnapshot_Task{
		This: types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: snapshot}})
	must(t, err)
	must(t, object.NewTask(r.w.VSphere.VIM(), res.Returnval).Wait(t.Context()))
}
