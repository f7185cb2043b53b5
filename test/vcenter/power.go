package vcenter

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// PowerOn turns the VM on by another hand.
func (vm *VM) PowerOn() error { return vm.byHand("power on", vm.powerOn) }

// PowerOff turns the VM off cleanly: tracking goes on where it was.
func (vm *VM) PowerOff() error {
	return vm.byHand("power off", func() types.BaseMethodFault { return vm.powerOff() })
}

// PowerLoss turns the VM off as a crash of its host does: change tracking
// starts a new life (row 7).
func (vm *VM) PowerLoss() error {
	return vm.byHand("lose power of", func() types.BaseMethodFault {
		vm.resetTracking()
		return vm.powerOff()
	})
}

func (vm *VM) byHand(what string, do func() types.BaseMethodFault) error {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	if f := do(); f != nil {
		return fmt.Errorf("%s %s: %s", what, vm.spec.Name, message(f))
	}
	return nil
}

func (vm *VM) resetTracking() {
	for _, d := range vm.Disks() {
		d.mu.Lock()
		if d.track != nil {
			d.track = newTracker()
		}
		d.mu.Unlock()
	}
}

// powerOn and powerOff run with v.ops held.
func (vm *VM) powerOn() types.BaseMethodFault {
	v := vm.v
	if f := vm.refusePower(true); f != nil {
		return f
	}
	if f := vm.lockFiles(); f != nil {
		return f
	}
	uuids := vm.ExtraConfig()["disk.EnableUUID"]
	v.mu.Lock()
	vm.powered, vm.enableUUID = true, uuids == "TRUE" || uuids == "true" || uuids == "1"
	v.log.stun(vm, "powered on")
	v.mu.Unlock()
	vm.stunTracking()
	vm.setBootTime(time.Now())
	vm.publish()
	v.powerChanged(vm)
	return nil
}

func (vm *VM) powerOff() types.BaseMethodFault {
	if f := vm.refusePower(false); f != nil {
		return f
	}
	vm.v.mu.Lock()
	vm.powered = false
	vm.v.mu.Unlock()
	vm.publish()
	vm.v.powerChanged(vm)
	return nil
}

func (vm *VM) refusePower(on bool) types.BaseMethodFault {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	if vm.powered == on {
		return &types.InvalidPowerState{RequestedState: powerState(on), ExistingState: powerState(on)}
	}
	return nil
}

func (vm *VM) setBootTime(t time.Time) {
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() {
		ctx.Update(m, []types.PropertyChange{{Name: "runtime.bootTime", Val: t}, {Name: "summary.runtime.bootTime", Val: t}})
	})
}

// PowerOnVMTask is PowerOnVM_Task.
func (m *machine) PowerOnVMTask(ctx *simulator.Context, _ *types.PowerOnVM_Task) soap.HasFault {
	ref := m.vm.start(ctx, "powerOn", m.rule, func() (types.AnyType, types.BaseMethodFault) { return nil, m.vm.powerOn() })
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: ref}}
}

// PowerOffVMTask is PowerOffVM_Task. ESXi closes the disks of a VM it powers
// off, so tracking survives; the lie "cbt-reset" plays one where it does not.
func (m *machine) PowerOffVMTask(ctx *simulator.Context, _ *types.PowerOffVM_Task) soap.HasFault {
	ref := m.vm.start(ctx, "powerOff", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		if lie(m.rule, "cbt-reset") {
			m.vm.resetTracking()
		}
		return nil, m.vm.powerOff()
	})
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: ref}}
}

// ResetVMTask is ResetVM_Task.
func (m *machine) ResetVMTask(ctx *simulator.Context, _ *types.ResetVM_Task) soap.HasFault {
	ref := m.vm.start(ctx, "reset", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		if f := m.vm.powerOff(); f != nil {
			return nil, f
		}
		return nil, m.vm.powerOn()
	})
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: ref}}
}

// ShutdownGuest asks the guest, which obeys after the task delay; there is no
// task to wait for.
func (m *machine) ShutdownGuest(*simulator.Context, *types.ShutdownGuest) soap.HasFault {
	v := m.vm.v
	if f := m.vm.refusePower(false); f != nil {
		return &methods.ShutdownGuestBody{Fault_: simulator.Fault(message(f), f)}
	}
	v.running.Add(1)
	go func() {
		defer v.running.Done()
		if !v.sleep(v.opts.TaskDelay) {
			return
		}
		v.ops.Lock()
		defer v.ops.Unlock()
		_ = m.vm.powerOff() // off already is what was asked for
	}()
	return &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
}
