package vcenter_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

// diary is what a guest's hooks were called for.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

// is compares and begins anew.
func (d *diary) is(t *testing.T, when string, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(want) != len(d.lines) {
		t.Errorf("%s: the guest saw %v, want %v", when, d.lines, want)
	} else {
		for i := range want {
			if want[i] != d.lines[i] {
				t.Errorf("%s: the guest saw %v, want %v", when, d.lines, want)
			}
		}
	}
	d.lines = nil
}

func (e *env) power(vm *vcenter.VM) types.VirtualMachinePowerState {
	e.Helper()
	return e.props(vm, "runtime.powerState").Runtime.PowerState
}

func TestShutdownGuestIsStrict(t *testing.T) {
	t.Parallel()
	e := start(t, func(o *vcenter.Options) { o.TaskDelay = 50 * time.Millisecond })
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: mib}}})
	for _, tools := range []vcenter.Tools{vcenter.ToolsStopped, vcenter.ToolsAbsent} {
		vm.SetTools(tools)
		if err := e.obj(vm).ShutdownGuest(e.ctx); !gfault.Is(err, &types.ToolsUnavailable{}) {
			t.Errorf("Tools %s: %v", tools, err)
		}
	}
	vm.SetTools(vcenter.ToolsRun)
	e.v.Deny("VirtualMachine.Interact.PowerOff")
	if err := e.obj(vm).ShutdownGuest(e.ctx); !gfault.Is(err, &types.NoPermission{}) {
		t.Errorf("without the privilege: %v", err)
	}
	e.v.Allow("VirtualMachine.Interact.PowerOff")
	task, err := e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.obj(vm).ShutdownGuest(e.ctx); !gfault.Is(err, &types.TaskInProgress{}) {
		t.Errorf("beside a task: %v", err)
	}
	e.must(task, nil)
	e.faults.Add(fault.Rule{Name: "deaf", Op: "ShutdownGuest", Kind: fault.Lie, Detail: "guest-ignores"})
	for range 2 { // the second one is heard
		if err := e.obj(vm).ShutdownGuest(e.ctx); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the guest", func() bool { return !vm.PoweredOn() })
	m := e.props(vm, "runtime", "guest")
	if m.Runtime.PowerState != "poweredOff" || m.Runtime.BootTime != nil || m.Guest.ToolsRunningStatus != "guestToolsNotRunning" || m.Guest.GuestState != "notRunning" {
		t.Errorf("off: %+v %+v", m.Runtime, m.Guest)
	}
	if err := e.obj(vm).ShutdownGuest(e.ctx); !gfault.Is(err, &types.InvalidPowerState{}) {
		t.Errorf("of a VM that is off: %v", err)
	}
	e.faults.Add(fault.Rule{Name: "deaf again", Op: "ShutdownGuest", Kind: fault.Lie, Detail: "guest-ignores"})
	e.must(e.obj(vm).PowerOn(e.ctx))
	if err := e.obj(vm).ShutdownGuest(e.ctx); err != nil {
		t.Fatal(err)
	}
	e.snap(vm, "later") // takes as long as a guest that obeys
	if g := e.props(vm, "guest").Guest; !vm.PoweredOn() || g.GuestState != "running" || e.faults.Unfired() != nil {
		t.Errorf("a guest that ignores it: on %v, %s, unfired %v", vm.PoweredOn(), g.GuestState, e.faults.Unfired())
	}
}

func TestGuestHooks(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	var d diary
	obeys := make(chan error, 1)
	vm.SetGuest(vcenter.GuestHooks{
		Shutdown: func(ctx context.Context) error {
			d.note("shutdown")
			select {
			case err := <-obeys:
				return err
			case <-ctx.Done():
				d.note("cut")
				return ctx.Err()
			}
		},
		Off: func() {
			if !vm.PoweredOn() {
				d.note("too late")
			}
			d.note("off")
		},
		On: func() error { d.note("on"); return nil },
	})
	on := func() { e.must(e.obj(vm).PowerOn(e.ctx)) }
	ask := func() {
		t.Helper()
		if err := e.obj(vm).ShutdownGuest(e.ctx); err != nil {
			t.Fatal(err)
		}
	}
	on()
	d.is(t, "power-on", "on")
	ask()
	ask()
	waitFor(t, "the guest's state", func() bool { return e.props(vm, "guest").Guest.GuestState == "shuttingDown" })
	if e.power(vm) != "poweredOn" {
		t.Error("off before its guest is")
	}
	obeys <- nil
	waitFor(t, "the guest", func() bool { return e.power(vm) == "poweredOff" })
	d.is(t, "a clean end", "shutdown")

	on()
	ask()
	obeys <- errors.New("refused")
	waitFor(t, "the complaint", func() bool { return len(e.v.State().Guests) == 1 })
	if g := e.props(vm, "guest").Guest; e.power(vm) != "poweredOn" || g.GuestState != "running" {
		t.Errorf("after a refusal: %v, %v", e.power(vm), g.GuestState)
	}
	d.is(t, "a refusal", "on", "shutdown")

	ask()
	waitFor(t, "the request", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.lines) == 1 })
	e.must(e.obj(vm).PowerOff(e.ctx))
	waitFor(t, "the cut", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.lines) == 3 })
	on() // what the last run was asked for does not end this one
	if e.power(vm) != "poweredOn" || len(e.v.State().Guests) != 1 {
		t.Error("an old request turned the VM off, or complains")
	}
	d.mu.Lock()
	d.lines = nil
	d.mu.Unlock()

	e.must(e.obj(vm).Reset(e.ctx))
	d.is(t, "reset", "off", "on")
	snap := e.snap(vm, "s")
	for what, cut := range map[string]func() error{
		"power loss": vm.PowerLoss, "another hand": vm.PowerOff, "suspend": vm.Suspend, "revert": func() error { return vm.Revert(snap.Value) },
	} {
		if err := cut(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		d.is(t, what, "off")
		on()
		d.is(t, what, "on")
	}
}

func TestGuestThatDoesNotStart(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	vm.SetGuest(vcenter.GuestHooks{On: func() error { return errors.New("no boot disk") }})
	if err := e.wait(e.obj(vm).PowerOn(e.ctx)); err == nil || e.power(vm) != "poweredOff" {
		t.Errorf("%v; %v", err, e.power(vm))
	}
	if err := vm.PowerOn(); err == nil || vm.PoweredOn() {
		t.Errorf("by hand: %v; on: %v", err, vm.PoweredOn())
	}
}

func TestCloseDoesNotWaitForAGuest(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: mib}}})
	asked := make(chan struct{})
	vm.SetGuest(vcenter.GuestHooks{Shutdown: func(ctx context.Context) error { close(asked); <-ctx.Done(); return ctx.Err() }})
	if err := e.obj(vm).ShutdownGuest(e.ctx); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := e.v.Close(); err != nil {
		t.Error(err)
	}
}

func TestSuspendedVM(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: mib}}})
	boot := e.props(vm, "runtime.bootTime").Runtime.BootTime
	if err := vm.Suspend(); err != nil {
		t.Fatal(err)
	}
	if e.power(vm) != "suspended" {
		t.Errorf("state %v", e.power(vm))
	}
	err := e.wait(e.obj(vm).PowerOff(e.ctx))
	var f *types.InvalidPowerState
	if _, ok := gfault.As(err, &f); !ok || f.ExistingState != "suspended" {
		t.Errorf("power off: %v", err)
	}
	e.must(e.obj(vm).PowerOn(e.ctx))
	if now := e.props(vm, "runtime.bootTime").Runtime.BootTime; e.power(vm) != "poweredOn" || boot == nil {
		t.Errorf("resumed: %v, booted %v, before %v", e.power(vm), now, boot)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	vm.AskAtPowerOn("msg.uuid.altered:moved or copied?", "I Moved It", "I Copied It")
	task, err := e.obj(vm).PowerOn(e.ctx)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the question", func() bool {
		q := e.props(vm, "runtime.question").Runtime.Question
		return q != nil && len(q.Choice.ChoiceInfo) == 2
	})
	if err := e.wait(e.obj(vm).PowerOn(e.ctx)); !gfault.Is(err, &types.TaskInProgress{}) || vm.PoweredOn() {
		t.Errorf("another power-on beside the question: %v; on: %v", err, vm.PoweredOn())
	}
	vm.Answer()
	e.must(task, nil)
	if q := e.props(vm, "runtime.question").Runtime.Question; q != nil || !vm.PoweredOn() {
		t.Errorf("answered: %v; on: %v", q, vm.PoweredOn())
	}
}

func TestNICs(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", NICs: []vcenter.NICSpec{{IPs: []string{"10.0.0.5/16", "fe80::5"}}, {Network: "prod", Distributed: true}}})
	if m := e.props(vm, "guest.net", "network"); len(m.Guest.Net) != 2 || m.Guest.Net[0].DeviceConfigId != 4000 ||
		m.Guest.Net[0].IpConfig.IpAddress[0].PrefixLength != 16 || len(m.Network) != 2 || m.Network[1].Type != "DistributedVirtualPortgroup" {
		t.Errorf("%+v", m)
	}
	if err := vm.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if m := e.props(vm, "guest"); len(m.Guest.Net) != 0 || m.Guest.HostName != "app01" {
		t.Errorf("off: %+v", m.Guest)
	}
	if _, err := e.v.AddVM(vcenter.VMSpec{Name: "bad", NICs: []vcenter.NICSpec{{IPs: []string{"10.0.0"}}}}); err == nil {
		t.Error("a VM with half an address was made")
	}
}
