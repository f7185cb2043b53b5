package vcenter_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

func TestThumbprintPinsTheCertificate(t *testing.T) {
	t.Parallel()
	e := start(t)
	for _, print := range []string{e.v.Thumbprint(), e.v.ThumbprintSHA1()} {
		s := soap.NewClient(e.v.URL(), false)
		s.SetThumbprint(e.v.URL().Host, print)
		if _, err := vim25.NewClient(e.ctx, s); err != nil {
			t.Errorf("with thumbprint %s: %v", print, err)
		}
	}
	s := soap.NewClient(e.v.URL(), false)
	if _, err := vim25.NewClient(e.ctx, s); !soap.IsCertificateUntrusted(err) && err == nil {
		t.Error("an unknown authority was trusted")
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	e := start(t)
	if got := e.c.ServiceContent.About.InstanceUuid; got != e.v.InstanceUUID() {
		t.Errorf("About.InstanceUuid %q, want %q", got, e.v.InstanceUUID())
	}
	u := e.v.URL()
	u.User = url.UserPassword(u.User.Username(), "wrong")
	if _, err := e.dial(u); !gfault.Is(err, &types.InvalidLogin{}) {
		t.Errorf("wrong password: %v, want InvalidLogin", err)
	}
	if _, err := e.dial(e.v.URL()); err != nil {
		t.Errorf("right password: %v", err)
	}
}

func TestNoSessionNoAnswer(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	if err := session.NewManager(e.c).Logout(e.ctx); err != nil {
		t.Fatal(err)
	}
	if e.v.Sessions() != 0 {
		t.Errorf("%d sessions after logout", e.v.Sessions())
	}
	_, err := e.obj(vm).PowerOff(e.ctx)
	if !gfault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("power off: %v, want NotAuthenticated", err)
	}
	_, err = e.obj(vm).PowerState(e.ctx)
	if !gfault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("read properties: %v, want NotAuthenticated", err)
	}
}

func TestIdleSessionExpires(t *testing.T) {
	t.Parallel()
	e := start(t, func(o *vcenter.Options) { o.SessionIdle = 500 * time.Millisecond })
	busy, idle := e.login(), e.login()
	deadline := time.Now().Add(700 * time.Millisecond)
	for time.Now().Before(deadline) { // a client that calls keeps its session
		if _, err := methods.GetCurrentTime(e.ctx, busy); err != nil {
			t.Fatal("busy session:", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	dc := object.NewRootFolder(idle)
	if _, err := dc.ObjectName(e.ctx); !gfault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("idle session: %v, want NotAuthenticated", err)
	}
	if err := session.NewManager(idle).Login(e.ctx, e.v.URL().User); err != nil {
		t.Errorf("login again: %v", err)
	}
	if _, err := dc.ObjectName(e.ctx); err != nil {
		t.Errorf("after login: %v", err)
	}
}

// TestKillSessionsWakesWaiters: a wait for a task ends when its session does.
func TestKillSessionsWakesWaiters(t *testing.T) {
	t.Parallel()
	e := start(t, func(o *vcenter.Options) { o.TaskDelay = time.Minute })
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	task, err := e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- task.Wait(e.ctx) }()
	for e.v.Calls()["WaitForUpdatesEx"] < 2 { // the first comes back with what is
		time.Sleep(time.Millisecond)
	}
	e.v.KillSessions()
	if err := <-done; !gfault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("wait: %v, want NotAuthenticated", err)
	}
}

// TestCloseEndsWaits: a client that waits for what never comes holds nobody up.
func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	wait := func(c *vim25.Client, ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			done <- property.Wait(ctx, property.DefaultCollector(c), vm.Ref(), []string{"name"}, func([]types.PropertyChange) bool { return false })
		}()
		return done
	}
	calls := func(n int) { waitFor(t, "waits", func() bool { return e.v.Calls()["WaitForUpdatesEx"] >= n }) }
	ctx, leave := context.WithCancel(e.ctx)
	first := wait(e.login(), ctx)
	calls(2)
	leave()
	<-first
	second := wait(e.login(), e.ctx)
	calls(4)
	closed := make(chan error, 1)
	go func() { closed <- e.v.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close hangs on a waiting client")
	}
	if err := <-second; err == nil {
		t.Error("a wait ended well though its vCenter is gone")
	}
}

func TestFolderWantsASession(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(auth bool) int {
		u := e.v.URL()
		u.User, u.Path, u.RawQuery = nil, "/folder/a/a-flat.vmdk", "dcPath=DC0&dsName=vmfs1"
		req, _ := http.NewRequestWithContext(e.ctx, http.MethodGet, u.String(), nil)
		if auth {
			pw, _ := e.v.URL().User.Password()
			req.SetBasicAuth(e.v.URL().User.Username(), pw)
		}
		res, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := ask(false); got != http.StatusUnauthorized {
		t.Errorf("without a session: %d", got)
	}
	if got := ask(true); got != http.StatusInternalServerError {
		t.Errorf("extent of a running VM: %d, want 500 as ESXi says", got)
	}
	if err := vm.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if got := ask(true); got != http.StatusOK {
		t.Errorf("extent of a VM that is off: %d", got)
	}
}

// TestWireFaults plays each kind of rule on one call.
func TestWireFaults(t *testing.T) {
	t.Parallel()
	const op = "CreateSnapshot_Task"
	for _, c := range []struct {
		name    string
		rule    fault.Rule
		want    func(error) bool
		effects int // snapshots there afterwards
	}{
		{"cut", fault.Rule{Kind: fault.Cut}, notFault, 0},
		{"lost answer", fault.Rule{Kind: fault.LostAnswer}, notFault, 1},
		{"throttle", fault.Rule{Kind: fault.Throttle}, notFault, 0},
		{"wrong bytes", fault.Rule{Kind: fault.WrongBytes}, notFault, 1},
		{"short stall", fault.Rule{Kind: fault.Stall, Delay: time.Millisecond}, isNil, 1},
		{"dead session", fault.Rule{Kind: fault.DeadSession}, is(&types.NotAuthenticated{}), 0},
		{"error", fault.Rule{Kind: fault.Error, Detail: "TaskInProgress"}, is(&types.TaskInProgress{}), 0},
		{"no permission", fault.Rule{Kind: fault.Error, Detail: "NoPermission:X.Y"}, lacks("X.Y"), 0},
		{"task fault", fault.Rule{Kind: fault.TaskFault, Detail: "ApplicationQuiesceFault"}, is(&types.ApplicationQuiesceFault{}), 0},
		{"other subject", fault.Rule{Kind: fault.Cut, Subject: "vm-none"}, isNil, 1},
		{"unplayable", fault.Rule{Kind: fault.Lie, Detail: "moon"}, is(&types.SystemErrorFault{}), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := start(t)
			vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
			c.rule.Op = op
			e.faults.Add(c.rule)
			err := e.wait(e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false))
			if !c.want(err) {
				t.Errorf("got %v", err)
			}
			waitFor(t, "snapshots", func() bool { return len(vm.Snapshots()) == c.effects })
			if c.rule.Subject == "" && len(e.faults.Unfired()) > 0 {
				t.Error("the rule never fired")
			}
		})
	}
}

func TestStallEndsWithTheClient(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	e.faults.Add(fault.Rule{Op: "PowerOffVM_Task", Kind: fault.Stall})
	ctx, cancel := timeout(e, 50*time.Millisecond)
	defer cancel()
	if _, err := e.obj(vm).PowerOff(ctx); !strings.Contains(errText(err), "deadline") {
		t.Errorf("got %v, want a deadline", err)
	}
	if !vm.PoweredOn() {
		t.Error("a stall had its effect")
	}
}

func TestLoginFaults(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.faults.Add(fault.Rule{Op: "Login", Kind: fault.Error, Detail: "InvalidLogin"}, fault.Rule{Op: "Login", Kind: fault.Cut})
	if _, err := e.dial(e.v.URL()); !gfault.Is(err, &types.InvalidLogin{}) {
		t.Errorf("got %v, want InvalidLogin", err)
	}
	if _, err := e.dial(e.v.URL()); err == nil || soap.IsSoapFault(err) {
		t.Errorf("got %v, want a cut connection", err)
	}
	if _, err := e.dial(e.v.URL()); err != nil {
		t.Error(err)
	}
}

func notFault(err error) bool { return err != nil && !soap.IsSoapFault(err) }
func isNil(err error) bool    { return err == nil }
func is(f types.BaseMethodFault) func(error) bool {
	return func(err error) bool { return gfault.Is(err, f) }
}

func lacks(privilege string) func(error) bool {
	return func(err error) bool {
		var f *types.NoPermission
		_, ok := gfault.As(err, &f)
		return ok && f.PrivilegeId == privilege
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
