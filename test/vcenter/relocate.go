package vcenter

import (
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// RelocateVMTask is RelocateVM_Task: another host, another datastore, or both.
func (m *machine) RelocateVMTask(ctx *simulator.Context, q *types.RelocateVM_Task) soap.HasFault {
	spec := q.Spec
	ref := m.vm.start(ctx, "relocate", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		return nil, m.vm.relocate(spec.Host, spec.Datastore)
	})
	return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: ref}}
}

// Migrate moves the VM to another host by another hand (vMotion).
func (vm *VM) Migrate(host types.ManagedObjectReference) error {
	return vm.byHand("migrate", func() types.BaseMethodFault { return vm.relocate(&host, nil) })
}

// MoveTo moves all the VM's files to another datastore by another hand
// (storage vMotion).
func (vm *VM) MoveTo(datastore string) error {
	ref, _, err := vm.v.Datastore(datastore)
	if err != nil {
		return err
	}
	return vm.byHand("move", func() types.BaseMethodFault { return vm.relocate(nil, &ref) })
}

// relocate runs with v.ops held.
func (vm *VM) relocate(host, store *types.ManagedObjectReference) types.BaseMethodFault {
	if store != nil {
		if f := vm.moveFiles(*store); f != nil {
			return f
		}
	}
	if host != nil {
		if _, ok := vm.v.registry().Get(*host).(*simulator.HostSystem); !ok {
			return &types.ManagedObjectNotFound{Obj: *host}
		}
		ctx, m := vm.v.context(), vm.sim()
		ctx.WithLock(m, func() {
			ctx.Update(m, []types.PropertyChange{{Name: "runtime.host", Val: host}, {Name: "summary.runtime.host", Val: host}})
		})
	}
	vm.v.mu.Lock()
	vm.v.log.stun(vm, "migrated")
	vm.v.mu.Unlock()
	vm.stunTracking()
	vm.publish()
	return nil
}

// moveFiles moves every file of the VM to another datastore. What another VM
// has attached keeps the path it was attached by.
func (vm *VM) moveFiles(ref types.ManagedObjectReference) types.BaseMethodFault {
	v := vm.v
	v.mu.Lock()
	var to *store
	for _, s := range v.stores {
		if s.ref == ref {
			to = s
		}
	}
	pinned := slices.ContainsFunc(v.attached, func(a *attachment) bool {
		return a.vm == vm && strings.HasSuffix(a.mode, "nonpersistent")
	})
	powered := vm.powered
	v.mu.Unlock()
	if to == nil {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if pinned && powered {
		return &types.NonPersistentDisksNotSupported{}
	}
	dir := freeDir(to, vm.dir())
	for _, d := range vm.Disks() {
		if err := d.moveTo(to, dir); err != nil {
			return &types.GenericVmConfigFault{Reason: err.Error()}
		}
	}
	vm.moveHome(to, dir)
	return nil
}

// freeDir is the name of a directory that is free on the datastore, or the
// VM's own there already.
func freeDir(s *store, dir string) string {
	name := dir
	for i := 1; ; i++ {
		if _, err := os.Stat(path.Join(s.dir, name)); err != nil {
			return name
		}
		name = dir + "_" + string(rune('0'+i))
	}
}

// moveTo renames the disk's files into another datastore's directory.
func (d *Disk) moveTo(to *store, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.MkdirAll(path.Join(to.dir, dir), 0o755); err != nil {
		return err
	}
	for _, l := range d.links {
		desc, ext := l.descriptor(), l.extent()
		l.store, l.rel = to, path.Join(dir, path.Base(l.rel))
		if err := os.Rename(desc, l.descriptor()); err != nil {
			return err
		}
		if err := os.Rename(ext, l.extent()); err != nil {
			return err
		}
	}
	return nil
}

func (vm *VM) moveHome(to *store, dir string) {
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() {
		home := "[" + to.name + "] " + dir
		vmx := home + "/" + path.Base(m.Config.Files.VmPathName)
		ctx.Update(m, []types.PropertyChange{
			{Name: "config.files", Val: types.VirtualMachineFileInfo{VmPathName: vmx, SnapshotDirectory: home, SuspendDirectory: home, LogDirectory: home}},
			{Name: "summary.config.vmPathName", Val: vmx},
			{Name: "datastore", Val: []types.ManagedObjectReference{to.ref}},
		})
	})
}

// UnregisterVM takes the VM out of the inventory; its files stay.
func (m *machine) UnregisterVM(ctx *simulator.Context, q *types.UnregisterVM) soap.HasFault {
	body := m.VirtualMachine.UnregisterVM(ctx, q)
	if body.Fault() == nil {
		m.vm.forgetMe()
	}
	return body
}

// forgetMe drops what the vCenter knows of a VM and returns its attachments.
func (vm *VM) forgetMe() (attached []*attachment) {
	v := vm.v
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.attached {
		if a.vm == vm {
			attached = append(attached, a)
		}
	}
	v.attached = slices.DeleteFunc(v.attached, func(a *attachment) bool { return a.vm == vm })
	for _, s := range allSnapshots(vm.roots) {
		delete(v.snapshots, s.ref.Value)
	}
	delete(v.vms, vm.ref.Value)
	delete(v.guests, vm)
	if v.appliance == vm {
		v.appliance = nil
	}
	return attached
}

// DestroyTask is Destroy_Task: the VM goes, and with it every disk attached
// to it, whoever it belongs to.
func (m *machine) DestroyTask(ctx *simulator.Context, _ *types.Destroy_Task) soap.HasFault {
	ref := m.vm.start(ctx, "destroy", m.rule, func() (types.AnyType, types.BaseMethodFault) { return nil, m.vm.destroy() })
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: ref}}
}

// destroy runs with v.ops held.
func (vm *VM) destroy() types.BaseMethodFault {
	v := vm.v
	if vm.PoweredOn() {
		return &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: types.VirtualMachinePowerStatePoweredOn}
	}
	ctx, sim := v.context(), vm.sim()
	var body soap.HasFault
	ctx.WithLock(sim, func() { body = sim.UnregisterVM(ctx, &types.UnregisterVM{This: vm.ref}) })
	if f := body.Fault(); f != nil {
		return &types.InvalidState{}
	}
	disks := vm.Disks()
	var files []string
	for _, a := range vm.forgetMe() {
		files = append(files, a.file)
	}
	for _, d := range disks {
		for _, l := range d.links {
			files = append(files, l.path())
		}
		_ = d.closeFiles()
	}
	for _, f := range files {
		v.destroyDisk(f)
	}
	return nil
}
