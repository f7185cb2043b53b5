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
func (vm *VM) PowerOn() error {
	if err := vm.byHand("power on", vm.powerOn); err != nil {
		return err
	}
	if f := vm.startGuest(); f != nil {
		return fmt.Errorf("start the guest of %s: %s", vm.spec.Name, message(f))
	}
	return nil
}

// PowerOff turns the VM off by another hand. For its disks it is a clean end:
// tracking goes on where it was.
func (vm *VM) PowerOff() error { return vm.byHand("power off", vm.cutPower) }

// Suspend suspends the VM by another hand; a power-on resumes it.
func (vm *VM) Suspend() error {
	return vm.byHand("suspend", func() types.BaseMethodFault {
		if f := vm.cutPower(); f != nil {
			return f
		}
		vm.v.mu.Lock()
		vm.suspended = true
		vm.v.mu.Unlock()
		vm.publish()
		return nil
	})
}

// PowerLoss turns the VM off as a crash of its host does: change tracking
// starts a new life (row 7).
func (vm *VM) PowerLoss() error {
	return vm.byHand("lose power of", func() types.BaseMethodFault {
		f := vm.cutPower()
		vm.resetTracking()
		return f
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
			d.track = newTracker(d.size)
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
	resumed := vm.suspended
	vm.suspended = false
	vm.powered, vm.enableUUID = true, uuids == "TRUE" || uuids == "true" || uuids == "1"
	v.log.stun(vm, "powered on")
	v.mu.Unlock()
	vm.stunTracking()
	if !resumed {
		vm.setBootTime(time.Now())
	}
	vm.publish()
	vm.publishGuest()
	v.powerChanged(vm)
	return nil
}

// cutPower takes the guest's power away first, powerOff is for one that is down.
func (vm *VM) cutPower() types.BaseMethodFault {
	if f := vm.refusePower(false); f != nil {
		return f
	}
	vm.stopGuest()
	return vm.powerOff()
}

func (vm *VM) powerOff() types.BaseMethodFault {
	if f := vm.refusePower(false); f != nil {
		return f
	}
	vm.v.mu.Lock()
	vm.powered, vm.ending = false, nil
	vm.v.mu.Unlock()
	vm.setBootTime(time.Time{})
	vm.publish()
	vm.publishGuest()
	vm.v.powerChanged(vm)
	return nil
}

func (vm *VM) refusePower(on bool) types.BaseMethodFault {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	if vm.powered == on {
		return &types.InvalidPowerState{RequestedState: powerState(on, false), ExistingState: powerState(on, vm.suspended)}
	}
	return nil
}

// setBootTime says since when the VM is on; zero: it is off.
func (vm *VM) setBootTime(t time.Time) {
	var val types.AnyType
	if !t.IsZero() {
		val = t
	}
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() {
		ctx.Update(m, []types.PropertyChange{{Name: "runtime.bootTime", Val: val}, {Name: "summary.runtime.bootTime", Val: val}})
	})
}

// PowerOnVMTask is PowerOnVM_Task.
func (m *machine) PowerOnVMTask(ctx *simulator.Context, _ *types.PowerOnVM_Task) soap.HasFault {
	ref := m.vm.startAround(ctx, "powerOn", m.rule, m.vm.askFirst, func() (types.AnyType, types.BaseMethodFault) { return nil, m.vm.powerOn() }, m.vm.startGuest)
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: ref}}
}

// PowerOffVMTask is PowerOffVM_Task. ESXi closes the disks of a VM it powers
// off, so tracking survives; the lie "cbt-reset" plays one where it does not.
func (m *machine) PowerOffVMTask(ctx *simulator.Context, _ *types.PowerOffVM_Task) soap.HasFault {
	ref := m.vm.start(ctx, "powerOff", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		f := m.vm.cutPower()
		if lie(m.rule, "cbt-reset") {
			m.vm.resetTracking()
		}
		return nil, f
	})
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: ref}}
}

// ResetVMTask is ResetVM_Task.
func (m *machine) ResetVMTask(ctx *simulator.Context, _ *types.ResetVM_Task) soap.HasFault {
	ref := m.vm.startAround(ctx, "reset", m.rule, nil, func() (types.AnyType, types.BaseMethodFault) {
		if f := m.vm.cutPower(); f != nil {
			return nil, f
		}
		return nil, m.vm.powerOn()
	}, m.vm.startGuest)
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: ref}}
}
