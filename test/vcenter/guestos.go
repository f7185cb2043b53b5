package vcenter

import (
	"context"
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// GuestHooks stand for the operating system of a VM: what a real one behind it
// does. Each may be nil.
type GuestHooks struct {
	// Shutdown is called in the background when the guest is asked to shut down
	// and returns once it is off: the VM then is, cleanly. An error, or ctx that
	// ended since the power was cut or the vCenter closed, leaves the VM as it is.
	// Nil: the guest obeys after Options.TaskDelay.
	Shutdown func(ctx context.Context) error
	// Off is called when the power is cut, before anybody sees the VM off: when it
	// returns the guest must be gone and write nothing any more. It can be called
	// with the guest gone already. The whole vCenter waits: it must be quick, and
	// must not call it.
	Off func()
	// On is called inside the power-on, behind it. An error fails the task, and the
	// VM is off again.
	On func() error
}

// Tools is how it is with VMware Tools in a guest.
type Tools string

// The states. Tools that run do so for as long as the VM is on.
const (
	ToolsRun     Tools = "" // the default
	ToolsStopped Tools = "stopped"
	ToolsAbsent  Tools = "absent"
)

// SetGuest puts something real behind the VM, from now on: On is not called for
// a VM that runs.
func (vm *VM) SetGuest(h GuestHooks) {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	vm.hooks = h
}

// SetTools changes how it is with VMware Tools. A guest that restarts is Tools
// that stop and run again.
func (vm *VM) SetTools(t Tools) {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	vm.v.mu.Lock()
	vm.tools = t
	vm.v.mu.Unlock()
	vm.publishGuest()
}

// Ask makes the VM ask a question, which stays pending until Answer.
func (vm *VM) Ask(text string, choices ...string) { vm.ask(question(text, choices)) }

// ask returns a channel that closes with the answer.
func (vm *VM) ask(q *types.VirtualMachineQuestionInfo) <-chan struct{} {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	answered := make(chan struct{})
	vm.v.mu.Lock()
	vm.question, vm.answered = q, answered
	vm.v.mu.Unlock()
	vm.publishGuest()
	return answered
}

// AskAtPowerOn makes the next power-on ask a question first; its task waits for
// Answer.
func (vm *VM) AskAtPowerOn(text string, choices ...string) {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	vm.asks = question(text, choices)
}

// Answer answers the pending question, if there is one.
func (vm *VM) Answer() {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	vm.v.mu.Lock()
	if vm.question != nil {
		close(vm.answered)
		vm.question = nil
	}
	vm.v.mu.Unlock()
	vm.publishGuest()
}

func question(text string, choices []string) *types.VirtualMachineQuestionInfo {
	q := &types.VirtualMachineQuestionInfo{Id: "0", Text: text}
	for i, c := range choices {
		q.Choice.ChoiceInfo = append(q.Choice.ChoiceInfo, &types.ElementDescription{Description: types.Description{Label: c, Summary: c}, Key: fmt.Sprint(i)})
	}
	return q
}

// askFirst is what a power-on does before it has its effect. It runs without
// v.ops, as Answer needs it.
func (vm *VM) askFirst() types.BaseMethodFault {
	v := vm.v
	v.mu.Lock()
	q := vm.asks
	vm.asks = nil
	v.mu.Unlock()
	if q == nil {
		return nil
	}
	select {
	case <-vm.ask(q):
		return nil
	case <-v.closed:
		return &types.RequestCanceled{}
	}
}

// ShutdownGuest asks the guest; there is no task to wait for.
func (m *machine) ShutdownGuest(*simulator.Context, *types.ShutdownGuest) soap.HasFault {
	if f := m.vm.askShutdown(lie(m.rule, "guest-ignores")); f != nil {
		return &methods.ShutdownGuestBody{Fault_: simulator.Fault(message(f), f)}
	}
	return &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
}

// askShutdown runs under a lock of vcsim's and must not take v.ops. A guest that
// is on its way down already hears no second request.
func (vm *VM) askShutdown(ignored bool) types.BaseMethodFault {
	if f := vm.refusePower(false); f != nil {
		return f
	}
	v := vm.v
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case vm.busy != nil:
		return &types.TaskInProgress{Task: *vm.busy}
	case vm.tools != ToolsRun:
		return &types.ToolsUnavailable{}
	case ignored, vm.ending != nil:
		return nil
	}
	select {
	case <-v.closed:
		return nil
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	vm.ending = cancel
	hooks := vm.hooks
	v.running.Add(1)
	go func() {
		defer v.running.Done()
		defer cancel()
		vm.shutDown(ctx, hooks.Shutdown)
	}()
	return nil
}

// shutDown is the guest's own way down.
func (vm *VM) shutDown(ctx context.Context, guest func(context.Context) error) {
	v := vm.v
	vm.republishGuest()
	var err error
	if guest != nil {
		err = guest(ctx)
	} else if !v.sleep(v.opts.TaskDelay) {
		return
	}
	v.ops.Lock()
	defer v.ops.Unlock()
	if ctx.Err() != nil { // the power was cut meanwhile, and may be on again
		return
	}
	if err != nil {
		v.mu.Lock()
		vm.ending = nil
		v.log.guests = append(v.log.guests, Event{vm.ref.Value, vm.spec.Name, "shut down: " + err.Error()})
		v.mu.Unlock()
		vm.publishGuest()
		return
	}
	_ = vm.powerOff() // off already is what was asked for
}

// stopGuest cuts the guest's power: who calls it turns the VM off, with v.ops
// held.
func (vm *VM) stopGuest() {
	vm.v.mu.Lock()
	ending, hooks := vm.ending, vm.hooks
	vm.ending = nil
	vm.v.mu.Unlock()
	if ending != nil {
		ending()
	}
	if hooks.Off != nil {
		hooks.Off()
	}
}

// startGuest lets the guest of a VM boot that was just powered on. It runs
// without v.ops.
func (vm *VM) startGuest() types.BaseMethodFault {
	vm.v.mu.Lock()
	on := vm.hooks.On
	vm.v.mu.Unlock()
	if on == nil {
		return nil
	}
	err := on()
	if err == nil {
		return nil
	}
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	_ = vm.cutPower() // off already is where it was to get
	return &types.GenericVmConfigFault{Reason: err.Error()}
}

func (vm *VM) republishGuest() {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	vm.publishGuest()
}

// publishGuest renders what vCenter knows of the guest, and the pending question.
func (vm *VM) publishGuest() {
	m := vm.sim()
	if m == nil {
		return
	}
	vm.v.mu.Lock()
	tools, powered, going := vm.tools, vm.powered, vm.ending != nil
	var asked types.AnyType
	if vm.question != nil {
		copied := *vm.question
		asked = &copied
	}
	vm.v.mu.Unlock()
	g := vm.guestInfo(tools, powered)
	if powered && going {
		g.GuestState = string(types.VirtualMachineGuestStateShuttingDown)
	}
	changes := []types.PropertyChange{
		{Name: "guest", Val: g}, {Name: "runtime.question", Val: asked}, {Name: "summary.runtime.question", Val: asked},
		// vcsim does not tell who watches a part that the whole has changed.
		{Name: "guest.toolsRunningStatus", Val: g.ToolsRunningStatus}, {Name: "guest.toolsVersionStatus2", Val: g.ToolsVersionStatus2},
		{Name: "guest.guestState", Val: g.GuestState}, {Name: "guest.net", Val: g.Net},
	}
	ctx := vm.v.context()
	ctx.WithLock(m, func() { ctx.Update(m, changes) })
}

func (vm *VM) guestInfo(tools Tools, powered bool) *types.GuestInfo {
	s := vm.spec
	g := &types.GuestInfo{
		ToolsStatus: types.VirtualMachineToolsStatusToolsNotInstalled, ToolsVersion: "0",
		ToolsVersionStatus2: string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled),
		ToolsRunningStatus:  string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning),
		GuestState:          string(types.VirtualMachineGuestStateNotRunning),
	}
	if tools == ToolsAbsent {
		return g
	}
	// What the Tools have said once stays known.
	g.HostName, g.GuestId, g.GuestFamily, g.GuestFullName = s.Name, s.GuestID, "linuxGuest", "Debian GNU/Linux 12 (64-bit)"
	g.ToolsStatus, g.ToolsVersion = types.VirtualMachineToolsStatusToolsNotRunning, "12389"
	g.ToolsVersionStatus2 = string(types.VirtualMachineToolsVersionStatusGuestToolsUnmanaged)
	if tools != ToolsRun || !powered {
		return g
	}
	g.ToolsStatus = types.VirtualMachineToolsStatusToolsOk
	g.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	g.GuestState = string(types.VirtualMachineGuestStateRunning)
	g.Net = vm.guestNet()
	return g
}

// bootedLongAgo is since when a VM runs that AddVM makes.
const bootedLongAgo = time.Hour

// abandonShutdown ends a shutdown under way without effect, as the vCenter closes.
func (vm *VM) abandonShutdown() {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	if vm.ending != nil {
		vm.ending()
	}
}
