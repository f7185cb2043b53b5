package vcenter

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ReconfigVMTask is ReconfigVM_Task. All changes of one call have an effect,
// or none has.
func (m *machine) ReconfigVMTask(ctx *simulator.Context, q *types.ReconfigVM_Task) soap.HasFault {
	spec := q.Spec
	ref := m.vm.start(ctx, "reconfigure", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		return nil, m.vm.reconfigure(&spec)
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: ref}}
}

// plan is a reconfiguration on its way: what will be true if nothing refuses.
type plan struct {
	vm        *VM
	devices   object.VirtualDeviceList
	attach    []*attachment
	detach    []*attachment
	newDisks  []*Disk
	drop      []*Disk
	destroy   []string // datastore paths of VMDKs to delete
	grow      map[*Disk]int64
	newBuses  []int32
	busyDisk  bool // a disk of a running VM is among those attached
	undo      []func()
	keyOffset int32
}

// reconfigure runs with v.ops held.
func (vm *VM) reconfigure(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	p := &plan{vm: vm, devices: vm.deviceList(), grow: map[*Disk]int64{}}
	for i, c := range spec.DeviceChange {
		if f := p.change(int32(i), c.GetVirtualDeviceConfigSpec()); f != nil {
			p.rollBack()
			return f
		}
	}
	if on := spec.ChangeTrackingEnabled; on != nil && *on && vm.spec.HardwareVersion < 7 {
		p.rollBack()
		return &types.NotSupported{}
	}
	if f := p.addController(); f != nil {
		p.rollBack()
		return f
	}
	if f := p.apply(); f != nil {
		return f
	}
	vm.setOptions(p.devices, spec)
	vm.setTracking(spec.ChangeTrackingEnabled)
	vm.publish()
	p.showGuest()
	return nil
}

func (vm *VM) deviceList() object.VirtualDeviceList {
	ctx, m := vm.v.context(), vm.sim()
	var list object.VirtualDeviceList
	ctx.WithLock(m, func() { list = slices.Clone(object.VirtualDeviceList(m.Config.Hardware.Device)) })
	return list
}

func (p *plan) rollBack() {
	for _, f := range slices.Backward(p.undo) {
		f()
	}
}

func invalidSpec(i int32, property string) *types.InvalidDeviceSpec {
	return &types.InvalidDeviceSpec{DeviceIndex: i,
		InvalidVmConfig: types.InvalidVmConfig{Property: "virtualDeviceSpec." + property}}
}

func (p *plan) change(i int32, c *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
	disk, isDisk := c.Device.(*types.VirtualDisk)
	switch c.Operation {
	case types.VirtualDeviceConfigSpecOperationAdd:
		if isDisk {
			return p.addDisk(i, disk, c.FileOperation)
		}
		return p.addDevice(i, c.Device)
	case types.VirtualDeviceConfigSpecOperationRemove:
		return p.remove(i, c)
	case types.VirtualDeviceConfigSpecOperationEdit:
		if isDisk {
			return p.edit(i, disk)
		}
		return nil
	}
	return invalidSpec(i, "operation")
}

// addDevice adds what is no disk; only SCSI controllers have consequences.
func (p *plan) addDevice(i int32, dev types.BaseVirtualDevice) types.BaseMethodFault {
	c, ok := dev.(types.BaseVirtualSCSIController)
	if !ok {
		p.devices = append(p.devices, dev)
		return nil
	}
	bus := c.GetVirtualSCSIController().BusNumber
	if bus < 0 || int(bus) >= len(pvscsiSlots) || p.devices.FindByKey(1000+bus) != nil {
		return invalidSpec(i, "device.busNumber")
	}
	kind := PVSCSI
	if _, lsi := dev.(*types.VirtualLsiLogicController); lsi {
		kind = LSILogic
	}
	old := dev.GetVirtualDevice().Key
	added := newSCSI(kind, bus, "")
	p.devices = append(p.devices, added.(types.BaseVirtualDevice))
	p.newBuses = append(p.newBuses, bus)
	// A disk in the same spec may name its controller by the temporary key.
	p.keyOffset = added.GetVirtualController().Key - old
	return nil
}

// controllerOf finds the controller that a new disk names.
func (p *plan) controllerOf(key int32) types.BaseVirtualController {
	if key < 0 && len(p.newBuses) > 0 {
		key += p.keyOffset
	}
	c, _ := p.devices.FindByKey(key).(types.BaseVirtualController)
	return c
}

// addController plays what adding a controller does to a running VM: a stun,
// and with a disk in use elsewhere in the same spec, its death.
func (p *plan) addController() types.BaseMethodFault {
	v := p.vm.v
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(p.newBuses) == 0 || !p.vm.powered {
		return nil
	}
	v.log.stun(p.vm, "controller added")
	for _, a := range v.attached {
		if a.vm == p.vm {
			v.log.harm(p.vm, "a controller was added while disk %s was attached", a.file)
			break
		}
	}
	if !p.busyDisk {
		return nil
	}
	v.log.crashed = append(v.log.crashed, p.vm.ref.Value)
	p.vm.crashed, p.vm.powered = true, false
	v.later(func() {
		p.vm.stopGuest()
		p.vm.publish()
		p.vm.publishGuest()
		v.powerChanged(p.vm)
	})
	return &types.FileLocked{FileFault: fileFault(p.attach[0].file)}
}

// remove takes a device away. A file operation of "destroy" deletes the disk's
// files, whoever they belong to.
func (p *plan) remove(i int32, c *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
	key := c.Device.GetVirtualDevice().Key
	dev := p.devices.FindByKey(key)
	if dev == nil {
		return invalidSpec(i, "device.key")
	}
	for _, child := range p.devices {
		if _, isDisk := child.(*types.VirtualDisk); isDisk && child.GetVirtualDevice().ControllerKey == key {
			return invalidSpec(i, "device.key")
		}
	}
	disk, isDisk := dev.(*types.VirtualDisk)
	if isDisk {
		p.removeDisk(key)
		if c.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy {
			file, _, _ := fileName(disk.Backing)
			p.destroy = append(p.destroy, file)
		}
	}
	p.devices = slices.DeleteFunc(p.devices, func(d types.BaseVirtualDevice) bool { return d.GetVirtualDevice().Key == key })
	return nil
}

func (p *plan) removeDisk(key int32) {
	v := p.vm.v
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.attached {
		if a.vm == p.vm && a.key == key {
			p.detach = append(p.detach, a)
			return
		}
	}
	if d := p.vm.disks[key]; d != nil {
		p.drop = append(p.drop, d)
	}
}

// edit grows a disk; nothing else of a disk can be edited here.
func (p *plan) edit(i int32, disk *types.VirtualDisk) types.BaseMethodFault {
	p.vm.v.mu.Lock()
	d := p.vm.disks[disk.Key]
	p.vm.v.mu.Unlock()
	if d == nil {
		return invalidSpec(i, "device.key")
	}
	size := disk.CapacityInBytes
	if size == 0 {
		size = disk.CapacityInKB * 1024
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case size == d.size || size == 0:
		return nil
	case size < d.size:
		return invalidSpec(i, "device.capacityInKB")
	case len(d.links) > 1:
		return &types.InvalidState{}
	}
	p.grow[d] = size
	return nil
}

// apply makes the plan true; the checks are behind us.
func (p *plan) apply() types.BaseMethodFault {
	for d, size := range p.grow {
		if err := d.grow(size); err != nil {
			p.rollBack()
			return &types.GenericVmConfigFault{Reason: err.Error()}
		}
	}
	v := p.vm.v
	v.mu.Lock()
	v.attached = slices.DeleteFunc(v.attached, func(a *attachment) bool { return slices.Contains(p.detach, a) })
	v.attached = append(v.attached, p.attach...)
	for _, d := range p.newDisks {
		p.vm.disks[d.key] = d
	}
	for _, d := range p.drop {
		delete(p.vm.disks, d.key)
	}
	for _, a := range p.attach {
		if a.mode != "independent_nonpersistent" && a.mode != "nonpersistent" {
			v.log.harm(p.vm, "disk %s was attached in mode %s: the guest can write to it", a.file, a.mode)
		}
	}
	v.mu.Unlock()
	for _, a := range p.detach {
		v.unplug(p.vm, a.key)
	}
	for _, d := range p.drop {
		v.unplug(p.vm, d.key)
		p.vm.keepFor(d)
	}
	for _, file := range p.destroy {
		v.destroyDisk(file)
	}
	return nil
}

// setOptions publishes devices, extraConfig and the plain settings.
func (vm *VM) setOptions(devices object.VirtualDeviceList, spec *types.VirtualMachineConfigSpec) {
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() {
		changes := []types.PropertyChange{
			{Name: "config.hardware.device", Val: []types.BaseVirtualDevice(devices)},
			{Name: "config.extraConfig", Val: mergeOptions(m.Config.ExtraConfig, spec.ExtraConfig)},
			{Name: "config.changeVersion", Val: fmt.Sprint(len(m.RecentTask), "-", len(devices))},
		}
		add := func(set bool, val types.AnyType, names ...string) {
			for _, n := range names {
				if set {
					changes = append(changes, types.PropertyChange{Name: n, Val: val})
				}
			}
		}
		add(spec.Name != "", spec.Name, "name", "config.name", "summary.config.name")
		add(spec.Annotation != "", spec.Annotation, "config.annotation", "summary.config.annotation")
		add(spec.NumCPUs != 0, spec.NumCPUs, "config.hardware.numCPU", "summary.config.numCpu")
		add(spec.MemoryMB != 0, int32(spec.MemoryMB), "config.hardware.memoryMB", "summary.config.memorySizeMB")
		ctx.Update(m, changes)
	})
}

// mergeOptions sets keys; an empty value removes one.
func mergeOptions(old, change []types.BaseOptionValue) []types.BaseOptionValue {
	out := slices.Clone(old)
	for _, c := range change {
		o := c.GetOptionValue()
		out = slices.DeleteFunc(out, func(x types.BaseOptionValue) bool { return x.GetOptionValue().Key == o.Key })
		if s, ok := o.Value.(string); !ok || s != "" {
			out = append(out, &types.OptionValue{Key: o.Key, Value: o.Value})
		}
	}
	return out
}

// setTracking switches change tracking. On a powered-off VM it is real at
// once, otherwise at the next stun. Beside a snapshot it will lie (row 3).
func (vm *VM) setTracking(on *bool) {
	if on == nil {
		return
	}
	v := vm.v
	v.mu.Lock()
	if *on && !vm.cbt {
		vm.cbtLossy = len(vm.roots) > 0
	}
	vm.cbt = *on
	powered := vm.powered
	v.mu.Unlock()
	if !powered {
		vm.stunTracking()
	}
	ctx, m := v.context(), vm.sim()
	ctx.WithLock(m, func() {
		ctx.Update(m, []types.PropertyChange{{Name: "config.changeTrackingEnabled", Val: *on}})
	})
}
