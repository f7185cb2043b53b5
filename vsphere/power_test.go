package vsphere_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

// wants checks an error's kind and what it and its hint say.
func wants(t *testing.T, err error, kind transfer.Kind, text, hint string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", text)
	}
	if transfer.KindOf(err) != kind || !strings.Contains(err.Error(), text) || !strings.Contains(transfer.HintOf(err), hint) {
		t.Errorf("error %v (%v), hint %q; want %v, %q, hint %q", err, transfer.KindOf(err), transfer.HintOf(err), kind, text, hint)
	}
}

func (e *env) fired(name string, n int) {
	e.Helper()
	if got := e.faults.Fired()[name]; got != n {
		e.Errorf("rule %s fired %d times, want %d", name, got, n)
	}
}

// seen waits until the client's waits went on since there were n of them.
func (e *env) seen(n int) {
	for end := time.Now().Add(30 * time.Second); e.v.Calls()["WaitForUpdatesEx"] <= n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			e.Error("the client does not wait for updates")
			return
		}
	}
}

// later runs do beside the test.
func (e *env) later(do func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return done
}

func TestPowerOffWaitsForTheGuest(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	var asked, cut atomic.Int32
	up, entered := make(chan struct{}), make(chan struct{})
	vm.SetGuest(vcenter.GuestHooks{
		Shutdown: func(context.Context) error { asked.Add(1); close(entered); <-up; return nil },
		Off:      func() { cut.Add(1) },
	})
	done := e.later(func() error { return e.c.PowerOff(e.ctx, e.id(vm), false) })
	<-entered
	// As after a crash: the guest is on its way down and its Tools have stopped.
	vm.SetTools(vcenter.ToolsStopped)
	again := e.later(func() error { return e.c.PowerOff(e.ctx, e.id(vm), false) })
	select {
	case err := <-done:
		t.Fatalf("PowerOff returned while the guest was on: %v", err)
	case err := <-again:
		t.Fatalf("the second PowerOff returned while the guest was on: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	e.v.KillSessions() // under the calls that wait
	close(up)
	if err := errors.Join(<-done, <-again); err != nil {
		t.Fatal(err)
	}
	if vm.PoweredOn() || asked.Load() != 1 || cut.Load() != 0 {
		t.Errorf("on: %v, asked %d times, cut %d times", vm.PoweredOn(), asked.Load(), cut.Load())
	}
	e.v.ResetCalls()
	for _, force := range []bool{false, true} {
		if err := e.c.PowerOff(e.ctx, e.id(vm), force); err != nil {
			t.Errorf("of a VM that is off: %v", err)
		}
	}
	if c := e.v.Calls(); c["ShutdownGuest"]+c["PowerOffVM_Task"] > 0 {
		t.Errorf("a VM that is off was asked: %v", c)
	}
}

func TestPowerOffWithoutTools(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	vm.SetTools(vcenter.ToolsAbsent)
	wants(t, e.c.PowerOff(e.ctx, e.id(vm), false), transfer.Permanent, "VMware Tools are not installed", "Force")
	vm.SetTools(vcenter.ToolsStopped)
	wants(t, e.c.PowerOff(e.ctx, e.id(vm), false), transfer.Permanent, "VMware Tools do not run", "by hand")
	if n := e.v.Calls()["ShutdownGuest"]; n > 0 || !vm.PoweredOn() {
		t.Errorf("%d requests; on: %v", n, vm.PoweredOn())
	}
	// vCenter's status can be behind: it is the refusal that counts.
	vm.SetTools(vcenter.ToolsRun)
	e.faults.Add(fault.Rule{Name: "gone", Op: "ShutdownGuest", Kind: fault.Error, Detail: "ToolsUnavailable", Times: -1})
	wants(t, e.c.PowerOff(e.ctx, e.id(vm), false), transfer.Permanent, "does not reach VMware Tools", "Force")
	e.fired("gone", 3)
	if err := e.c.PowerOff(e.ctx, e.id(vm), true); err != nil || vm.PoweredOn() {
		t.Errorf("by force: %v; on: %v", err, vm.PoweredOn())
	}
}

func TestPowerOffOfAGuestThatBoots(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	vm.SetTools(vcenter.ToolsStopped)
	cfg := e.config()
	cfg.Timing.Settle = 20 * time.Second
	c, err := vsphere.Dial(e.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(e.ctx) }() // the session ends with the vCenter, too
	n := e.v.Calls()["WaitForUpdatesEx"]
	done := e.later(func() error { return c.PowerOff(e.ctx, e.id(vm), false) })
	e.seen(n + 1) // it has seen that the Tools do not run, and waits
	vm.SetTools(vcenter.ToolsRun)
	if err := <-done; err != nil || vm.PoweredOn() {
		t.Errorf("%v; on: %v", err, vm.PoweredOn())
	}
}

func TestPowerOffOfAGuestThatIgnoresIt(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	ctx, cancel := context.WithCancel(e.ctx)
	gone, cut := make(chan error, 1), 0
	vm.SetGuest(vcenter.GuestHooks{
		Shutdown: func(ctx context.Context) error { cancel(); <-ctx.Done(); gone <- ctx.Err(); return ctx.Err() },
		Off:      func() { cut++ },
	})
	err := e.c.PowerOff(ctx, e.id(vm), false)
	wants(t, err, transfer.Canceled, "the guest has not shut down", "console")
	if !errors.Is(err, context.Canceled) || !vm.PoweredOn() {
		t.Errorf("%v; on: %v", err, vm.PoweredOn())
	}
	if err := e.c.PowerOff(e.ctx, e.id(vm), true); err != nil || vm.PoweredOn() {
		t.Errorf("by force: %v; on: %v", err, vm.PoweredOn())
	}
	if err := <-gone; err == nil || cut != 1 {
		t.Errorf("the guest heard %v and lost power %d times", err, cut)
	}
}

func TestPowerOffOfAGuestThatRestarts(t *testing.T) {
	for _, obeys := range []int32{2, 100} { // at which request
		t.Run(fmt.Sprint(obeys), func(t *testing.T) {
			e := start(t)
			vm := e.vm("app", mib)
			var asked atomic.Int32
			vm.SetGuest(vcenter.GuestHooks{Shutdown: func(context.Context) error {
				if asked.Add(1) >= obeys {
					return nil
				}
				// Again and again, until the client has come back for more.
				n := e.v.Calls()["WaitForUpdatesEx"]
				for end := time.Now().Add(30 * time.Second); e.v.Calls()["WaitForUpdatesEx"] < n+2 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					vm.SetTools(vcenter.ToolsStopped)
				}
				vm.SetTools(vcenter.ToolsRun)
				return errors.New("it restarted")
			}})
			err := e.c.PowerOff(e.ctx, e.id(vm), false)
			if obeys == 2 {
				if err != nil || vm.PoweredOn() || asked.Load() != 2 {
					t.Errorf("%v; on: %v, asked %d times", err, vm.PoweredOn(), asked.Load())
				}
				return
			}
			wants(t, err, transfer.Permanent, "asked 3 times and came up again each time", "console")
			if n := len(e.v.State().Guests); n != 3 {
				t.Errorf("%d restarts", n)
			}
		})
	}
}

func TestPowerOffOfAVMThatIsPoweredOnAgain(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	e.faults.Add(fault.Rule{Name: "slow", Op: "ShutdownGuest", Kind: fault.Stall, Delay: time.Second})
	vm.SetGuest(vcenter.GuestHooks{Shutdown: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	done := e.later(func() error { return e.c.PowerOff(e.ctx, e.id(vm), false) })
	for e.faults.Fired()["slow"] == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := errors.Join(vm.PowerOff(), vm.PowerOn()); err != nil {
		t.Fatal(err)
	}
	wants(t, <-done, transfer.Retry, "somebody powered it on again", "events")
	e.fired("slow", 1)
}

func TestPowerOfASuspendedVM(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	if err := vm.Suspend(); err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		wants(t, e.c.PowerOff(e.ctx, e.id(vm), force), transfer.Permanent, "it is suspended", "resumes it")
	}
	if err := e.c.PowerOn(e.ctx, e.id(vm)); err != nil || !vm.PoweredOn() {
		t.Errorf("resume: %v; on: %v", err, vm.PoweredOn())
	}
}

func TestPowerOfAVMThatAsks(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	vm.Ask("msg.hbacommon.outofspace:There is no more space for virtual disk app.vmdk.", "Retry", "Cancel")
	for _, force := range []bool{false, true} {
		wants(t, e.c.PowerOff(e.ctx, e.id(vm), force), transfer.Permanent, `no more space for virtual disk app.vmdk." (Retry / Cancel)`, "Answer Question")
	}
	vm.Answer()
	if err := e.c.PowerOff(e.ctx, e.id(vm), false); err != nil {
		t.Fatal(err)
	}
	vm.AskAtPowerOn("msg.uuid.altered:This virtual machine might have been moved or copied.", "Cancel", "I Moved It", "I Copied It")
	for range 2 { // the second time the task of the first still waits
		wants(t, e.c.PowerOn(e.ctx, e.id(vm)), transfer.Permanent, "moved or copied", "I Moved It")
	}
	if n := e.v.Calls()["PowerOnVM_Task"]; n != 1 {
		t.Errorf("%d power-ons", n)
	}
	vm.Answer()
	if err := e.c.PowerOn(e.ctx, e.id(vm)); err != nil || !vm.PoweredOn() {
		t.Errorf("%v; on: %v", err, vm.PoweredOn())
	}
}

func TestAQuestionWhileTheGuestShutsDown(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	vm.SetGuest(vcenter.GuestHooks{Shutdown: func(ctx context.Context) error {
		vm.Ask("Disk full?")
		<-ctx.Done()
		return ctx.Err()
	}})
	wants(t, e.c.PowerOff(e.ctx, e.id(vm), false), transfer.Permanent, "Disk full?", "Answer Question")
}

func TestPowerNeedsPrivileges(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	e.v.Deny("VirtualMachine.Interact.PowerOff")
	for _, force := range []bool{false, true} {
		wants(t, e.c.PowerOff(e.ctx, e.id(vm), force), transfer.Permanent, "lacks the privilege VirtualMachine.Interact.PowerOff", "Grant")
	}
	e.v.Allow("VirtualMachine.Interact.PowerOff")
	e.v.Deny("VirtualMachine.Interact.PowerOn")
	if err := e.c.PowerOff(e.ctx, e.id(vm), false); err != nil {
		t.Fatal(err)
	}
	wants(t, e.c.PowerOn(e.ctx, e.id(vm)), transfer.Permanent, "lacks the privilege VirtualMachine.Interact.PowerOn", "Grant")
}

func TestPowerTasksThatFail(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	e.faults.Add(fault.Rule{Name: "off", Op: "PowerOffVM_Task", Kind: fault.TaskFault, Detail: "FileLocked:[vmfs1] app/app.vmdk"},
		fault.Rule{Name: "on", Op: "PowerOnVM_Task", Kind: fault.TaskFault, Detail: "InsufficientMemoryResourcesFault"})
	wants(t, e.c.PowerOff(e.ctx, e.id(vm), true), transfer.Retry, "app.vmdk is locked", "")
	if err := e.c.PowerOff(e.ctx, e.id(vm), true); err != nil {
		t.Fatal(err)
	}
	wants(t, e.c.PowerOn(e.ctx, e.id(vm)), transfer.Retry, "has not the resources", "Free CPU and memory")
	e.fired("off", 1)
	e.fired("on", 1)
	vm.SetGuest(vcenter.GuestHooks{On: func() error { return errors.New("no boot disk") }})
	if err := e.c.PowerOn(e.ctx, e.id(vm)); err == nil || vm.PoweredOn() {
		t.Errorf("a guest that does not start: %v; on: %v", err, vm.PoweredOn())
	}
	if err := e.c.PowerOff(e.ctx, transfer.VMID{VCenter: e.v.InstanceUUID(), Moref: "vm-999"}, false); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a VM that does not exist: %v", err)
	}
	if err := e.c.PowerOn(e.ctx, transfer.VMID{VCenter: "another", Moref: vm.Moref()}); err == nil || !strings.Contains(err.Error(), "another vCenter") {
		t.Errorf("another vCenter's VM: %v", err)
	}
}

func TestPowerWaitsForOtherTasks(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	e.faults.Add(fault.Rule{Name: "guest", Op: "ShutdownGuest", Kind: fault.Error, Detail: "TaskInProgress", Times: 3},
		fault.Rule{Name: "on", Op: "PowerOnVM_Task", Kind: fault.TaskFault, Detail: "TaskInProgress", Times: 2},
		fault.Rule{Name: "off", Op: "PowerOffVM_Task", Kind: fault.TaskFault, Detail: "TaskInProgress", Times: 2})
	for _, do := range []func() error{
		func() error { return e.c.PowerOff(e.ctx, e.id(vm), false) },
		func() error { return e.c.PowerOn(e.ctx, e.id(vm)) },
		func() error { return e.c.PowerOff(e.ctx, e.id(vm), true) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if vm.PoweredOn() {
		t.Error("the VM is on")
	}
	e.fired("guest", 3)
	e.fired("on", 2)
	e.fired("off", 2)
}

// TestPowerOfOtherHands: what another hand did between the look and the task is
// what was wanted.
func TestPowerOfOtherHands(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	for _, op := range []struct {
		call string
		hand func() error
		do   func() error
	}{
		{"ShutdownGuest", vm.PowerOff, func() error { return e.c.PowerOff(e.ctx, e.id(vm), false) }},
		{"PowerOnVM_Task", vm.PowerOn, func() error { return e.c.PowerOn(e.ctx, e.id(vm)) }},
		{"PowerOffVM_Task", vm.PowerOff, func() error { return e.c.PowerOff(e.ctx, e.id(vm), true) }},
	} {
		e.faults.Add(fault.Rule{Name: op.call, Op: op.call, Kind: fault.Stall, Delay: 500 * time.Millisecond})
		done := e.later(op.do)
		for e.faults.Fired()[op.call] == 0 {
			time.Sleep(time.Millisecond)
		}
		if err := op.hand(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s after another hand: %v", op.call, err)
		}
	}
}

// TestPowerRidesOutFaults plays each fault at every call of every operation.
func TestPowerRidesOutFaults(t *testing.T) {
	isOn := func(s vcenter.VMState) bool { return s.PoweredOn }
	isOff := func(s vcenter.VMState) bool { return !s.PoweredOn }
	ops := map[string]struct {
		calls int  // at least
		on    bool // before
		do    func(e *env, vm *vcenter.VM) error
		ok    func(s vcenter.VMState) bool
	}{
		"shutdown": {7, true, func(e *env, vm *vcenter.VM) error { return e.c.PowerOff(e.ctx, e.id(vm), false) }, isOff},
		"off":      {6, true, func(e *env, vm *vcenter.VM) error { return e.c.PowerOff(e.ctx, e.id(vm), true) }, isOff},
		"on":       {6, false, func(e *env, vm *vcenter.VM) error { return e.c.PowerOn(e.ctx, e.id(vm)) }, isOn},
		"untrack":  {6, true, func(e *env, vm *vcenter.VM) error { return e.c.StopTracking(e.ctx, e.id(vm)) }, func(s vcenter.VMState) bool { return !s.ChangeTracking }},
		"nics":     {1, true, func(e *env, vm *vcenter.VM) error { _, err := e.c.NICs(e.ctx, e.id(vm)); return err }, isOn},
	}
	for name, op := range ops {
		for _, kind := range []fault.Kind{fault.DeadSession, fault.Cut, fault.LostAnswer} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				e := start(t)
				for n := 0; ; n++ {
					vm := e.addVM(vcenter.VMSpec{Name: fmt.Sprintf("vm%d", n), CBT: true, PoweredOff: !op.on, Disks: []vcenter.DiskSpec{{Size: mib}}})
					rule := fmt.Sprintf("call %d", n)
					e.faults.Clear()
					e.faults.Add(fault.Rule{Name: rule, Op: "*", Kind: kind, Skip: n})
					if err := op.do(e, vm); err != nil {
						t.Fatalf("%s: %v", rule, err)
					}
					fired := e.faults.Fired()[rule]
					e.faults.Clear()
					if s, _ := e.v.State().VM(vm.Moref()); !op.ok(s) {
						t.Fatalf("%s: no error, and the VM is %+v", rule, s)
					}
					if fired == 0 {
						if n < op.calls {
							t.Errorf("only %d calls", n)
						}
						return
					}
				}
			})
		}
	}
}
