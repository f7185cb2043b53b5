package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// freeze is one freeze on its way.
type freeze struct {
	*source
	spec transfer.FreezeSpec
	op   string // "freeze app01"
	vm   ref
	live mo.VirtualMachine
	// before is the VM as it was just before.
	before   transfer.VM
	tracking trackingPlan
}

// Freeze implements transfer.Source. A powered-off VM satisfies
// QuiesceRequire: nothing writes to its disks.
func (s *source) Freeze(ctx context.Context, spec transfer.FreezeSpec) (transfer.Frozen, error) {
	f := freeze{source: s, spec: spec, op: "freeze " + s.id.Moref}
	if err := f.prepare(ctx); err != nil {
		return nil, err
	}
	snapshot, err := f.create(ctx)
	if err != nil {
		return nil, err
	}
	frozen, err := f.look(ctx, snapshot)
	if err != nil || ctx.Err() != nil {
		return nil, errors.Join(err, Explain(f.op, ctx.Err()), f.undo(ctx, snapshot))
	}
	return frozen, nil
}

// prepare looks at the VM, refuses, and enables CBT where that may be done.
func (f *freeze) prepare(ctx context.Context) error {
	var err error
	if f.vm, err = f.c.vmRef(f.id); err != nil {
		return err
	}
	facts, err := f.c.fetchVM(ctx, f.vm, inspectProps)
	if err != nil {
		return Explain(f.op, err)
	}
	f.live, f.before = facts.vms[f.vm], facts.describe(f.c.ID(), f.vm)
	f.op = "freeze " + f.before.Name
	if err := f.refuse(treeOf(facts, f.vm)); err != nil {
		return err
	}
	if err := checkSpace(f.live, facts.stores, f.o.MinFree); err != nil {
		return err
	}
	f.tracking = planTracking(f.before.CBT, f.before.Snapshots)
	if !f.tracking.enable {
		return nil
	}
	return f.enable(ctx)
}

// refuse names what a snapshot must not be added to.
func (f *freeze) refuse(tree []types.VirtualMachineSnapshotTree) error {
	if f.live.Runtime.ConsolidationNeeded {
		return transfer.Fail(transfer.Permanent, f.op, errors.New(reasonConsolidate), hintConsolidate)
	}
	if len(f.before.Obstacles) > 0 {
		o := f.before.Obstacles[0]
		return transfer.Fail(transfer.Permanent, f.op, errors.New(o.Reason), o.Remedy)
	}
	for _, s := range ourSnapshots(tree) {
		return transfer.Fail(transfer.Retry, f.op, ownExists(s), hintOwn)
	}
	return nil
}

const hintOwn = "Wait for that cycle to end. If it crashed, the next sync or clean of its appliance removes the snapshot; if that never runs again: snapferry clean --appliance ID --dead."

func ownExists(s OwnSnapshot) error {
	return fmt.Errorf("it has the snapshot %q (%s) of cycle %s of appliance %s already: another cycle runs, or crashed", s.Name, s.Moref, s.Cycle, s.Appliance)
}

// enable switches CBT on. Where vSphere refuses, the freeze goes on without
// and says why.
func (f *freeze) enable(ctx context.Context) error {
	err := f.c.setTracking(ctx, f.vm, true)
	switch {
	case err == nil:
		f.before.CBT = true
	case ctx.Err() != nil || IsLost(err):
		return Explain(f.op+": enable CBT", err)
	default:
		f.tracking.why = Explain("CBT cannot be enabled", err).Error()
	}
	return nil
}

// look reads what was frozen, and whether it is what was asked for.
func (f *freeze) look(ctx context.Context, snapshot ref) (*frozen, error) {
	facts, err := f.c.fetch(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: snapshot}, {Obj: f.vm}},
		PropSet: []types.PropertySpec{
			{Type: "VirtualMachineSnapshot", PathSet: []string{"config.hardware.device"}},
			{Type: "VirtualMachine", PathSet: []string{"snapshot.rootSnapshotList"}},
		},
	})
	if err != nil {
		return nil, Explain(f.op, err)
	}
	if err := errors.Join(facts.denied[snapshot], facts.denied[f.vm]); err != nil {
		return nil, Explain(f.op, err)
	}
	tree := treeOf(facts, f.vm)
	node, err := f.node(tree, snapshot)
	if err != nil {
		return nil, err
	}
	devices := facts.snapshots[snapshot].Config.Hardware.Device
	state := transfer.FrozenVM{VM: f.before, Snapshot: snapshot.Value, SnapshotName: node.Name, At: node.CreateTime, Quiesced: node.Quiesced}
	state.VM.Disks = describeDisks(devices)
	if f.tracking.enable && f.tracking.why == "" && foreignBeside(tree, snapshot) {
		f.tracking.why = "another tool took a snapshot while CBT was being enabled; the next cycle tells whether it works"
		for i := range state.VM.Disks {
			state.VM.Disks[i].ChangeID = ""
		}
	}
	state.Tracking = explainTracking(f.tracking, f.live, state.VM.Disks)
	f.keepAllocated(state.VM.Disks)
	return &frozen{c: f.c, vm: f.vm, snapshot: snapshot, state: state, devices: devices, spec: f.spec, reader: f.o.Reader, minFree: f.o.MinFree,
		release: release{c: f.c, vm: f.vm, snapshot: snapshot, name: node.Name, alone: f.before.Snapshots == 0}}, nil
}

// node finds our snapshot in the tree and checks what only the tree tells.
func (f *freeze) node(tree []types.VirtualMachineSnapshotTree, snapshot ref) (types.VirtualMachineSnapshotTree, error) {
	var ours types.VirtualMachineSnapshotTree
	for s := range walkTree(tree) {
		if s.Snapshot == snapshot {
			ours = s
		}
	}
	if ours.Snapshot.Value == "" {
		return ours, transfer.Fail(transfer.Retry, f.op, fmt.Errorf("the new VM snapshot %s is gone already", snapshot.Value),
			"Somebody deletes snapshots of this VM; see its tasks in vCenter.")
	}
	if f.spec.Quiesce == transfer.QuiesceRequire && !ours.Quiesced && f.before.PoweredOn {
		return ours, transfer.Fail(transfer.Retry, f.op, errors.New("vSphere took a snapshot without quiescing the guest, and quiescing is required"), hintQuiesce)
	}
	for s := range walkTree(tree) {
		// Two connectors froze at once, each before it could see the other: the
		// later one yields, and removes what it made. vCenter counts a VM's
		// snapshots up, so that both see the same order.
		if m, ok := readMark(s.Description); ok && s.Id < ours.Id {
			return ours, transfer.Fail(transfer.Retry, f.op, ownExists(OwnSnapshot{Moref: s.Snapshot.Value, Name: s.Name, Cycle: m.Cycle, Appliance: m.Appliance}), hintOwn)
		}
	}
	return ours, nil
}

// keepAllocated takes over what the files of the live disks take.
func (f *freeze) keepAllocated(disks []transfer.Disk) {
	for i := range disks {
		for _, d := range f.before.Disks {
			if d.ID == disks[i].ID {
				disks[i].Allocated = d.Allocated
			}
		}
	}
}
