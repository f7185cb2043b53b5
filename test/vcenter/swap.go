package vcenter

import (
	"fmt"
	"slices"
)

// ReplaceDisk takes a disk off the VM and hangs a fresh one in its place, by
// another hand: the same controller, unit and so device key, another file and
// another UUID. The old files stay; snapshots go on holding the old disk.
func (vm *VM) ReplaceDisk(key int32, spec DiskSpec) (*Disk, error) {
	v := vm.v
	v.ops.Lock()
	defer v.ops.Unlock()
	v.mu.Lock()
	old, serial := vm.disks[key], len(vm.spec.Disks)+vm.swaps
	vm.swaps++
	v.mu.Unlock()
	if old == nil {
		return nil, fmt.Errorf("replace disk %d of %s: no such disk", key, vm.spec.Name)
	}
	spec.Controller = old.spec.Controller
	if err := spec.complete(vm.spec.Datastore); err != nil {
		return nil, fmt.Errorf("replace disk %d of %s: %w", key, vm.spec.Name, err)
	}
	d, err := vm.newDisk(serial, spec, slot{key: key, controller: old.controller, unit: old.unit})
	if err != nil {
		return nil, fmt.Errorf("replace disk %d of %s: %w", key, vm.spec.Name, err)
	}
	d.label = old.label
	if old.tracked() {
		d.startTracking(false)
	}
	v.mu.Lock()
	vm.disks[key] = d
	v.mu.Unlock()
	vm.keepFor(old)
	vm.publish()
	return d, nil
}

// keepFor keeps a disk that left the VM for the snapshots that hold it.
func (vm *VM) keepFor(old *Disk) {
	old.mu.RLock()
	held := len(old.frozen) > 0
	old.mu.RUnlock()
	if !held {
		_ = old.closeFiles()
		return
	}
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	vm.gone = append(vm.gone, old)
}

// dropGone lets go of disks that left the VM and that no snapshot holds any
// more; their files stay.
func (vm *VM) dropGone() {
	vm.v.mu.Lock()
	gone := vm.gone
	vm.gone = nil
	vm.v.mu.Unlock()
	for _, d := range gone {
		vm.keepFor(d)
	}
}

func (d *Disk) tracked() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.track != nil
}

// heldDisks are the VM's disks, and behind them those that left it and that a
// snapshot still holds. Under v.mu.
func (vm *VM) heldDisks() []*Disk { return append(vm.diskList(), vm.gone...) }

// diskAsOf is the disk that a snapshot holds under a key; without one, or where
// it holds none, the disk that is there now.
func (vm *VM) diskAsOf(snapshot string, key int32) *Disk {
	vm.v.mu.Lock()
	all := vm.heldDisks()
	vm.v.mu.Unlock()
	var live *Disk
	for _, d := range slices.Backward(all) {
		if d.key != key {
			continue
		}
		d.mu.RLock()
		held := d.frozen[snapshot] != nil
		d.mu.RUnlock()
		if held {
			return d
		}
		live = d
	}
	return live
}

// SetCBT switches change tracking by another hand, and stuns the VM so that it
// begins or ends at once. Beside a snapshot it will lose writes (row 3).
func (vm *VM) SetCBT(on bool) {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	vm.setTracking(&on)
	vm.stunTracking()
	vm.publish()
}

// RevertKeepingChangeIDs is Revert on a vCenter that goes on counting as if
// nothing had happened: what the revert undid is in no answer about changes.
func (vm *VM) RevertKeepingChangeIDs(moref string) error {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	s := vm.findSnapshot(moref)
	if s == nil {
		return fmt.Errorf("revert %s to %s: no such snapshot", vm.spec.Name, moref)
	}
	if f := vm.revert(s, true); f != nil {
		return fmt.Errorf("revert %s to %s: %T", vm.spec.Name, moref, f)
	}
	return nil
}
