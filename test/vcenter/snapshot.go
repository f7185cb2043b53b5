package vcenter

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// snapshot is one node of a VM's tree. v.mu guards it.
type snapshot struct {
	ref               types.ManagedObjectReference
	vm                *VM
	name, description string
	quiesced          bool
	created           time.Time
	id                int32
	parent            *snapshot
	children          []*snapshot
}

// Snapshot describes one snapshot of a VM.
type Snapshot struct {
	Moref, Name, Description string
	Quiesced                 bool
	Parent                   string // moref of the one below, or empty
	Created                  time.Time
}

// Snapshots lists the VM's snapshots, each behind its parent.
func (vm *VM) Snapshots() []Snapshot {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	var out []Snapshot
	for _, s := range allSnapshots(vm.roots) {
		o := Snapshot{Moref: s.ref.Value, Name: s.name, Description: s.description, Quiesced: s.quiesced, Created: s.created}
		if s.parent != nil {
			o.Parent = s.parent.ref.Value
		}
		out = append(out, o)
	}
	return out
}

// TakeSnapshot is another tool's or a user's snapshot; it returns the moref.
func (vm *VM) TakeSnapshot(name string) (string, error) { return vm.TakeSnapshotOf(name, "") }

// TakeSnapshotOf is TakeSnapshot with a description.
func (vm *VM) TakeSnapshotOf(name, description string) (string, error) {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	ref, f := vm.createSnapshot(name, description, false)
	if f != nil {
		return "", fmt.Errorf("take snapshot %s of %s: %T", name, vm.spec.Name, f)
	}
	return ref.Value, nil
}

// RemoveSnapshot removes one snapshot by another hand, its children stay.
func (vm *VM) RemoveSnapshot(moref string) error {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	s := vm.findSnapshot(moref)
	if s == nil {
		return fmt.Errorf("remove snapshot %s of %s: no such snapshot", moref, vm.spec.Name)
	}
	if f := vm.removeSnapshots([]*snapshot{s}, true); f != nil {
		return fmt.Errorf("remove snapshot %s of %s: %T", moref, vm.spec.Name, f)
	}
	return nil
}

// Revert goes back to a snapshot by another hand. What the guest wrote since
// is gone; change tracking starts a new life.
func (vm *VM) Revert(moref string) error {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	s := vm.findSnapshot(moref)
	if s == nil {
		return fmt.Errorf("revert %s to %s: no such snapshot", vm.spec.Name, moref)
	}
	if f := vm.revert(s, false); f != nil {
		return fmt.Errorf("revert %s to %s: %T", vm.spec.Name, moref, f)
	}
	return nil
}

// Consolidate folds up what removed snapshots left behind.
func (vm *VM) Consolidate() error {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	if f := vm.consolidate(); f != nil {
		return fmt.Errorf("consolidate %s: %T", vm.spec.Name, f)
	}
	return nil
}

func (vm *VM) findSnapshot(moref string) *snapshot {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	if s := vm.v.snapshots[moref]; s != nil && s.vm == vm {
		return s
	}
	return nil
}

// createSnapshot stuns the VM, freezes its disks at one instant and tells the
// observers. The caller holds v.ops, as for all that follow.
func (vm *VM) createSnapshot(name, description string, quiesced bool) (types.ManagedObjectReference, types.BaseMethodFault) {
	if f := vm.refuseSnapshot(); f != nil {
		return types.ManagedObjectReference{}, f
	}
	v := vm.v
	v.mu.Lock()
	if vm.consolidation {
		v.log.harm(vm, "a snapshot was created while consolidation was needed")
	}
	v.log.stun(vm, "snapshot created")
	disks := vm.diskList()
	v.mu.Unlock()
	vm.stunTracking()
	obj := vm.snapshotObject()
	if err := freezeAll(disks, obj.Self.Value); err != nil {
		v.registry().Remove(v.context(), obj.Self)
		return obj.Self, &types.GenericVmConfigFault{Reason: err.Error()}
	}
	s := &snapshot{ref: obj.Self, vm: vm, name: name, description: description, quiesced: quiesced, created: time.Now()}
	v.mu.Lock()
	vm.nextID++
	s.id, s.parent = vm.nextID, vm.current
	if s.parent == nil {
		vm.roots = append(vm.roots, s)
	} else {
		s.parent.children = append(s.parent.children, s)
	}
	vm.current = s
	v.snapshots[s.ref.Value] = s
	v.mu.Unlock()
	v.observeFreeze(s, disks)
	vm.publish()
	return s.ref, nil
}

// freezeAll freezes disks together: no guest write falls between two of them.
func freezeAll(disks []*Disk, snapshot string) error {
	var all []freezing
	for _, d := range disks {
		if !d.snapshotable() {
			continue
		}
		f, err := d.prepare()
		if err != nil {
			for _, f := range all {
				err = errors.Join(err, f.delta.remove())
			}
			return err
		}
		all = append(all, f)
	}
	for _, f := range all {
		f.d.mu.Lock()
		defer f.d.mu.Unlock()
	}
	for _, f := range all {
		f.freeze(snapshot)
	}
	return nil
}

// snapshotObject registers vcsim's object with a copy of the VM's config.
func (vm *VM) snapshotObject() *simulator.VirtualMachineSnapshot {
	ctx, m := vm.v.context(), vm.sim()
	obj := &simulator.VirtualMachineSnapshot{}
	obj.Vm = vm.ref
	ctx.WithLock(m, func() {
		// Values below config are replaced, never changed, so sharing is safe.
		obj.Config = *m.Config
		obj.Config.Hardware.Device = slices.Clone(m.Config.Hardware.Device)
		obj.Config.ExtraConfig = slices.Clone(m.Config.ExtraConfig)
	})
	vm.v.registry().Put(obj)
	return obj
}

// refuseSnapshot is row 12: what cannot be snapshotted.
func (vm *VM) refuseSnapshot() types.BaseMethodFault {
	if vm.spec.FaultTolerant {
		return &types.SnapshotDisabled{}
	}
	vm.v.mu.Lock()
	powered, disks := vm.powered, vm.diskList()
	vm.v.mu.Unlock()
	if vm.spec.PCIPassthrough && powered {
		return incompatible(&types.DeviceNotSupported{Device: "PCI device 0"})
	}
	for _, d := range disks {
		device := types.DeviceNotSupported{Device: d.label}
		switch {
		case d.spec.BusSharing != "" && d.spec.BusSharing != string(types.VirtualSCSISharingNoSharing):
			return incompatible(&types.SharedBusControllerNotSupported{DeviceNotSupported: device})
		case d.spec.Sharing == string(types.VirtualDiskSharingSharingMultiWriter):
			return incompatible(&types.MultiWriterNotSupported{DeviceNotSupported: device})
		}
	}
	return nil
}

func incompatible(f types.BaseMethodFault) types.BaseMethodFault {
	return &types.SnapshotIncompatibleDeviceInVm{Fault: types.LocalizedMethodFault{Fault: f, LocalizedMessage: message(f)}}
}

// removeSnapshots drops snapshots from the tree and merges their redo logs;
// what is open elsewhere stays and consolidation is needed.
func (vm *VM) removeSnapshots(gone []*snapshot, merge bool) types.BaseMethodFault {
	v := vm.v
	v.mu.Lock()
	for _, s := range gone {
		vm.unlink(s)
		delete(v.snapshots, s.ref.Value)
	}
	v.log.stun(vm, "snapshot removed")
	disks := vm.heldDisks()
	v.mu.Unlock()
	vm.stunTracking()
	left, err := false, error(nil)
	locked := v.lockedLinks()
	for _, s := range gone {
		for _, d := range disks {
			l, e := d.forget(s.ref.Value, merge, locked)
			left = left || l
			if err == nil {
				err = e
			}
		}
		v.registry().Remove(v.context(), s.ref)
	}
	v.mu.Lock()
	vm.consolidation = vm.consolidation || left
	v.mu.Unlock()
	vm.dropGone()
	vm.publish()
	if err != nil {
		return &types.GenericVmConfigFault{Reason: err.Error()}
	}
	return nil
}

// unlink takes s out of the tree; its children move up. Under v.mu.
func (vm *VM) unlink(s *snapshot) {
	list := &vm.roots
	if s.parent != nil {
		list = &s.parent.children
	}
	i := slices.Index(*list, s)
	*list = slices.Concat((*list)[:i], s.children, (*list)[i+1:])
	for _, c := range s.children {
		c.parent = s.parent
	}
	if vm.current == s {
		vm.current = s.parent
	}
}

func (vm *VM) revert(s *snapshot, keepTracking bool) types.BaseMethodFault {
	v := vm.v
	vm.stopGuest()
	locked, stays := v.lockedLinks(), false
	for _, d := range vm.Disks() {
		left, err := d.revert(s.ref.Value, keepTracking, locked)
		if err != nil {
			return &types.GenericVmConfigFault{Reason: err.Error()}
		}
		stays = stays || left
	}
	v.mu.Lock()
	vm.consolidation = vm.consolidation || stays
	vm.current = s
	vm.powered, vm.suspended = false, false // our snapshots hold no memory: the VM comes back off
	v.mu.Unlock()
	v.powerChanged(vm)
	vm.publish()
	vm.publishGuest()
	return nil
}

func (vm *VM) consolidate() types.BaseMethodFault {
	v, left := vm.v, false
	locked := v.lockedLinks()
	for _, d := range vm.Disks() {
		l, err := d.collapse(locked)
		if err != nil {
			return &types.GenericVmConfigFault{Reason: err.Error()}
		}
		left = left || l
	}
	v.mu.Lock()
	vm.consolidation = left
	v.mu.Unlock()
	vm.publish()
	if left {
		return &types.FileLocked{FileFault: types.FileFault{File: vm.spec.Name}}
	}
	return nil
}

func renderTree(list []*snapshot) (out []types.VirtualMachineSnapshotTree) {
	for _, s := range list {
		out = append(out, types.VirtualMachineSnapshotTree{
			Snapshot: s.ref, Vm: s.vm.ref, Name: s.name, Description: s.description, Id: s.id, CreateTime: s.created,
			State: types.VirtualMachinePowerStatePoweredOff, Quiesced: s.quiesced, ReplaySupported: types.NewBool(false),
			ChildSnapshotList: renderTree(s.children),
		})
	}
	return out
}

func refs(list []*snapshot) (out []types.ManagedObjectReference) {
	for _, s := range list {
		out = append(out, s.ref)
	}
	return out
}

func allSnapshots(list []*snapshot) (out []*snapshot) {
	for _, s := range list {
		out = append(append(out, s), allSnapshots(s.children)...)
	}
	return out
}
