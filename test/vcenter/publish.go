package vcenter

import (
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Everything a client sees of a VM is rendered anew from our own state after
// each change and handed to vcsim as fresh values: what it queued for a
// property collector is never touched again.

// republish is publish for callers that are no task.
func (vm *VM) republish() {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	vm.publish()
}

// publish renders disks, snapshots and what follows from them. The caller
// holds v.ops and no lock of vcsim.
func (vm *VM) publish() {
	m := vm.sim()
	if m == nil {
		return
	}
	vm.v.mu.Lock()
	disks, held, power, needed := vm.diskList(), vm.heldDisks(), powerState(vm.powered, vm.suspended), vm.consolidation
	tree, roots, current := renderTree(vm.roots), refs(vm.roots), vm.current
	vm.v.mu.Unlock()

	live := map[int32]*types.VirtualDisk{}
	var committed, uncommitted int64
	for _, d := range disks {
		live[d.key] = d.live()
		c, u := d.usage()
		committed, uncommitted = committed+c, uncommitted+u
	}
	changes := []types.PropertyChange{
		{Name: "runtime.consolidationNeeded", Val: needed},
		{Name: "summary.runtime.consolidationNeeded", Val: needed},
		{Name: "runtime.powerState", Val: power},
		{Name: "summary.runtime.powerState", Val: power},
		{Name: "summary.config.numVirtualDisks", Val: int32(len(disks))},
		{Name: "summary.storage", Val: &types.VirtualMachineStorageSummary{
			Committed: committed, Uncommitted: uncommitted, Unshared: committed, Timestamp: time.Now()}},
	}
	if len(tree) == 0 {
		changes = append(changes, types.PropertyChange{Name: "snapshot", Val: nil}, types.PropertyChange{Name: "rootSnapshot", Val: nil})
	} else {
		info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: tree}
		if current != nil {
			info.CurrentSnapshot = &current.ref
		}
		changes = append(changes, types.PropertyChange{Name: "snapshot", Val: info}, types.PropertyChange{Name: "rootSnapshot", Val: roots})
	}
	ctx := vm.v.context()
	ctx.WithLock(m, func() {
		devices := replaceDisks(m.Config.Hardware.Device, live)
		ctx.Update(m, append(changes, types.PropertyChange{Name: "config.hardware.device", Val: devices}))
	})
	vm.publishSnapshots(held)
}

// publishSnapshots renders the disks into each snapshot's config: merges below
// rename links.
func (vm *VM) publishSnapshots(disks []*Disk) {
	vm.v.mu.Lock()
	all := allSnapshots(vm.roots)
	vm.v.mu.Unlock()
	ctx := vm.v.context()
	for _, s := range all {
		obj, ok := vm.v.registry().Get(s.ref).(*simulator.VirtualMachineSnapshot)
		if !ok {
			continue
		}
		seen := map[int32]*types.VirtualDisk{}
		for _, d := range disks {
			if vd := d.asOf(s.ref.Value); vd != nil {
				seen[d.key] = vd
			}
		}
		ctx.WithLock(obj, func() {
			devices := replaceDisks(obj.Config.Hardware.Device, seen)
			ctx.Update(obj, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
		})
	}
}

// publishConfig renders what a spec can set besides devices.
func (vm *VM) publishConfig() {
	vm.v.mu.Lock()
	cbt := vm.cbt
	vm.v.mu.Unlock()
	s := vm.spec
	supported := s.HardwareVersion >= 7 && !s.FaultTolerant
	changes := []types.PropertyChange{
		{Name: "config.changeTrackingEnabled", Val: cbt},
		{Name: "capability.changeTrackingSupported", Val: supported},
		{Name: "capability.snapshotOperationsSupported", Val: true},
	}
	if s.FaultTolerant {
		changes = append(changes,
			types.PropertyChange{Name: "runtime.faultToleranceState", Val: types.VirtualMachineFaultToleranceStateRunning},
			types.PropertyChange{Name: "summary.runtime.faultToleranceState", Val: types.VirtualMachineFaultToleranceStateRunning},
			types.PropertyChange{Name: "config.ftInfo", Val: &types.FaultToleranceConfigInfo{Role: 1, InstanceUuids: []string{vm.instanceUUID}}})
	}
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() { ctx.Update(m, changes) })
}

// live renders the disk as the VM has it now. The change ID of the live
// backing is the position that the next snapshot would freeze.
func (d *Disk) live() *types.VirtualDisk {
	d.mu.RLock()
	defer d.mu.RUnlock()
	id := ""
	if d.track != nil {
		id = d.track.id(d.track.seq())
	}
	return d.device(d.top, d.size, id)
}

// asOf renders the disk as a snapshot froze it; nil if it did not.
func (d *Disk) asOf(snapshot string) *types.VirtualDisk {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f := d.frozen[snapshot]
	if f == nil {
		return nil
	}
	return d.device(f.link, f.size, f.changeID())
}

// usage is what the disk's files take and may yet take, in bytes.
func (d *Disk) usage() (committed, uncommitted int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, l := range d.links {
		for first, end := range l.held.runs() {
			committed += (end - first) * grain
		}
	}
	return committed, max(d.size-committed, 0)
}

// replaceDisks returns a copy of devices in which disks stand for those of
// the same key.
func replaceDisks(devices []types.BaseVirtualDevice, disks map[int32]*types.VirtualDisk) []types.BaseVirtualDevice {
	devices = slices.Clone(devices)
	for i, dev := range devices {
		if d := disks[dev.GetVirtualDevice().Key]; d != nil {
			devices[i] = d
		}
	}
	return devices
}

func powerState(on, suspended bool) types.VirtualMachinePowerState {
	switch {
	case on:
		return types.VirtualMachinePowerStatePoweredOn
	case suspended:
		return types.VirtualMachinePowerStateSuspended
	}
	return types.VirtualMachinePowerStatePoweredOff
}

func summary(size int64) string { return fmt.Sprintf("%d KB", size/1024) }
