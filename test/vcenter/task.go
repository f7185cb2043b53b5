package vcenter

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
)

// effect is what a task does once its delay is over. It runs with v.ops held
// and no lock of vcsim.
type effect func() (types.AnyType, types.BaseMethodFault)

// start runs a task on vm and returns its reference at once. The rule, if it
// is a TaskFault, makes the task fail instead; a second task on the same VM
// fails with TaskInProgress.
func (vm *VM) start(ctx *simulator.Context, name string, r *fault.Rule, do effect) types.ManagedObjectReference {
	return vm.startAround(ctx, name, r, nil, do, nil)
}

// startAround has steps before and behind the effect, either may be nil, which
// run without v.ops: they may take long.
func (vm *VM) startAround(ctx *simulator.Context, name string, r *fault.Rule, before func() types.BaseMethodFault, do effect, behind func() types.BaseMethodFault) types.ManagedObjectReference {
	v := vm.v
	v.mu.Lock()
	v.taskNo++
	lock := types.ManagedObjectReference{Type: "TaskLock", Value: fmt.Sprintf("task-lock-%d", v.taskNo)}
	v.mu.Unlock()

	release := make(chan struct{}) // the task must not run before it is claimed
	var first bool
	var other types.ManagedObjectReference
	t := simulator.CreateTask(lock, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		<-release
		defer v.running.Done()
		if !first {
			return nil, &types.TaskInProgress{Task: other}
		}
		defer vm.done()
		if !v.sleep(v.opts.TaskDelay) {
			return nil, &types.RequestCanceled{}
		}
		if r != nil && r.Kind == fault.TaskFault {
			return nil, newFault(r.Detail, vm.ref)
		}
		return v.around(before, do, behind)
	})
	v.running.Add(1)
	own := *ctx // the task's own owner of locks: the caller's ends with the call
	ref := t.Run(&own)
	other, first = vm.claim(ref)
	v.announce(ctx, t, vm, name)
	close(release)
	return ref
}

func (v *VCenter) around(before func() types.BaseMethodFault, do effect, behind func() types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
	if before != nil {
		if f := before(); f != nil {
			return nil, f
		}
	}
	v.ops.Lock()
	result, f := do()
	v.ops.Unlock()
	if f == nil && behind != nil {
		f = behind()
	}
	return result, f
}

// claim makes task the one that runs on vm, or names the one that does.
func (vm *VM) claim(task types.ManagedObjectReference) (types.ManagedObjectReference, bool) {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	if vm.busy != nil {
		return *vm.busy, false
	}
	vm.busy = &task
	return task, true
}

func (vm *VM) done() {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	vm.busy = nil
}

// announce puts the VM's name on the task, which ran under a lock of its own,
// and the task on the VM's list.
func (v *VCenter) announce(ctx *simulator.Context, t *simulator.Task, vm *VM, name string) {
	own := *ctx
	own.WithLock(t, func() {
		own.Update(t, []types.PropertyChange{
			{Name: "info.entity", Val: &vm.ref},
			{Name: "info.entityName", Val: vm.spec.Name},
			{Name: "info.descriptionId", Val: "VirtualMachine." + name},
		})
	})
	m := vm.sim()
	if m == nil {
		return
	}
	ctx.WithLock(m, func() {
		recent := append(append([]types.ManagedObjectReference{}, m.RecentTask...), t.Self)
		// vCenter's list forgets; ten are plenty to find a rival in.
		recent = recent[max(0, len(recent)-10):]
		ctx.Update(m, []types.PropertyChange{{Name: "recentTask", Val: recent}})
	})
}

// later runs do once the locks that the caller holds are free, and before
// Close is over.
func (v *VCenter) later(do func()) {
	v.running.Add(1)
	go func() {
		defer v.running.Done()
		v.ops.Lock()
		defer v.ops.Unlock()
		do()
	}()
}

// sleep waits; false if the vCenter is closed first.
func (v *VCenter) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-v.closed:
		return false
	}
}
