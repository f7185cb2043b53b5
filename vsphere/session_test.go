package vsphere_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

// TestSessionsDieAnywhere kills the session before each call of a cycle in turn.
func TestSessionsDieAnywhere(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: mib}}})
	cycle := func() (int64, error) {
		before := e.c.Calls()
		f, err := e.source(vm).Freeze(e.ctx, spec())
		if err == nil {
			_, err = e.areas(f, 0, f.State().VM.Disks[0].ChangeID)
		}
		if err == nil {
			err = f.Release(e.ctx)
		}
		return e.c.Calls() - before, err
	}
	n, err := cycle()
	if err != nil {
		t.Fatal(err)
	}
	for i := range int(n) {
		e.faults.Clear()
		e.faults.Add(fault.Rule{Name: "die", Op: "*", Kind: fault.DeadSession, Skip: i})
		if _, err := cycle(); err != nil {
			t.Errorf("killed before call %d: %v", i, err)
		}
		if i < 10 && len(e.faults.Unfired()) > 0 {
			t.Errorf("call %d: no session died", i)
		}
	}
	e.faults.Clear()
	e.clean()
}

// TestSessionsDieInLists: a list of all VMs hangs on a view, which ends with the
// session.
func TestSessionsDieInLists(t *testing.T) {
	e := start(t)
	e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: mib}}})
	for i := range 4 {
		e.faults.Clear()
		e.faults.Add(fault.Rule{Op: "*", Kind: fault.DeadSession, Skip: i, Times: 2})
		vms, err := e.c.VMs(e.ctx)
		if err != nil || len(vms) == 0 || !slices.ContainsFunc(vms, func(vm transfer.VM) bool { return vm.Name == "app01" }) {
			t.Errorf("killed before calls %d and %d: %d VMs, %v", i, i+1, len(vms), err)
		}
	}
}

func TestOneLoginForMany(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	e.v.KillSessions()
	e.v.ResetCalls()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := e.source(vm).Inspect(e.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := e.v.Calls()["Login"]; n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestIdleSessions(t *testing.T) {
	e := start(t, func(o *vcenter.Options) { o.SessionIdle = 1500 * time.Millisecond })
	vm := e.vm("app01", mib)
	cfg := e.config()
	cfg.Timing.KeepAlive = 75 * time.Millisecond // twenty in an idle time: a loaded machine loses some
	c, err := vsphere.Dial(e.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(e.ctx)
	e.v.ResetCalls()
	for e.v.Calls()["CurrentTime"] < 40 && e.ctx.Err() == nil { // 3 s, twice the idle limit
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := c.Inspect(e.ctx, e.id(vm)); err != nil {
		t.Fatal(err)
	}
	if n := e.v.Calls()["Login"]; n != 0 {
		t.Errorf("%d logins in spite of the keep-alive", n)
	}
	// the test's own client had none for so long, and logs in again
	if _, err := e.source(vm).Inspect(e.ctx); err != nil {
		t.Fatal(err)
	}
	if n := e.v.Calls()["Login"]; n != 1 {
		t.Errorf("%d logins after the session idled away", n)
	}
}

func TestOutagesAreRiddenOut(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	e.faults.Add(fault.Rule{Op: "RetrievePropertiesEx", Kind: fault.Cut, Times: 5})
	if _, err := e.source(vm).Inspect(e.ctx); err != nil {
		t.Error(err)
	}
	e.faults.Add(fault.Rule{Name: "wait", Op: "WaitForUpdatesEx", Kind: fault.Cut, Times: 3})
	e.release(e.freeze(vm))
	if left := e.faults.Unfired(); len(left) > 0 {
		t.Errorf("did not fire: %v", left)
	}
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if _, err := e.source(vm).Inspect(ctx); transfer.KindOf(err) != transfer.Canceled {
		t.Errorf("%v: %v", transfer.KindOf(err), err)
	}
	e.clean()
}

func TestNoAnswer(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	cfg := e.config()
	// Long enough for a login on a busy machine, and no repetition.
	cfg.Timing.Call, cfg.Timing.Outage = time.Second, 20*time.Millisecond
	c, err := vsphere.Dial(e.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.faults.Add(fault.Rule{Op: "RetrievePropertiesEx", Kind: fault.Stall, Times: -1})
	if _, err = c.Inspect(e.ctx, e.id(vm)); transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("%v: %v", transfer.KindOf(err), err)
	}
	e.faults.Clear()
	if err := c.Close(e.ctx); err != nil {
		t.Error(err)
	}
}

func TestLogins(t *testing.T) {
	e := start(t)
	for name, x := range map[string]struct {
		change func(*vsphere.Config)
		words  string
	}{
		"password":   {func(c *vsphere.Config) { c.Username, c.Password = e.v.URL().User.Username(), "geheim-7" }, "user name or the password"},
		"no user":    {func(c *vsphere.Config) { c.URL = e.v.URL().Host }, "no user name"},
		"no URL":     {func(c *vsphere.Config) { c.URL = "" }, "there is none"},
		"bad URL":    {func(c *vsphere.Config) { c.URL = "https://u:geheim-7#@[::1" }, "no URL"},
		"clear text": {func(c *vsphere.Config) { c.URL = "http://u:geheim-7@" + e.v.URL().Host }, "in the clear"},
		"closed":     {func(c *vsphere.Config) { c.URL = "u:geheim-7@127.0.0.1:1" }, "cannot be reached"},
		"no host":    {func(c *vsphere.Config) { c.URL = "u:geheim-7@nowhere.invalid" }, "cannot be"},
	} {
		cfg := e.config()
		x.change(&cfg)
		_, err := vsphere.Dial(e.ctx, cfg)
		if err == nil || !strings.Contains(err.Error(), x.words) || transfer.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error()+transfer.HintOf(err), "geheim") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	// host, user and password may also come apart
	cfg := e.config()
	u := e.v.URL()
	cfg.URL, cfg.Username = u.Host, u.User.Username()
	cfg.Password, _ = u.User.Password()
	c, err := vsphere.Dial(e.ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(e.ctx); err != nil {
		t.Error(err)
	}
}

func TestCertificates(t *testing.T) {
	e := start(t)
	known := filepath.Join(t.TempDir(), "known")
	lines := "other.example.com AA:BB\n" + e.v.URL().Host + " " + e.v.ThumbprintSHA1() + "\n"
	if err := os.WriteFile(known, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := strings.Repeat("AB:", 31) + "AB"
	for name, x := range map[string]struct {
		change func(*vsphere.Config)
		ok     bool
	}{
		"authority": {func(*vsphere.Config) {}, true},
		"unknown":   {func(c *vsphere.Config) { c.CACertFiles = "" }, false},
		"insecure":  {func(c *vsphere.Config) { c.CACertFiles, c.Insecure = "", true }, true},
		"pin":       {func(c *vsphere.Config) { c.CACertFiles, c.Thumbprint = "", e.v.Thumbprint() }, true},
		"pin without :": {func(c *vsphere.Config) {
			c.CACertFiles, c.Thumbprint = "", strings.ReplaceAll(strings.ToLower(e.v.Thumbprint()), ":", "")
		}, true},
		"pin SHA-1":        {func(c *vsphere.Config) { c.CACertFiles, c.Thumbprint = "", e.v.ThumbprintSHA1() }, true},
		"one of two pins":  {func(c *vsphere.Config) { c.CACertFiles, c.Thumbprint = "", wrong+","+e.v.Thumbprint() }, true},
		"wrong pin":        {func(c *vsphere.Config) { c.Thumbprint = wrong }, false},
		"pin and insecure": {func(c *vsphere.Config) { c.Thumbprint, c.Insecure = wrong, true }, false},
		"known host":       {func(c *vsphere.Config) { c.CACertFiles, c.KnownHosts = "", known }, true},
	} {
		cfg := e.config()
		x.change(&cfg)
		c, err := vsphere.Dial(e.ctx, cfg)
		switch {
		case err == nil && !x.ok:
			t.Errorf("%s: accepted", name)
		case err != nil && x.ok:
			t.Errorf("%s: %v", name, err)
		case err != nil && (!strings.Contains(err.Error(), e.v.Thumbprint()) || !strings.Contains(err.Error(), e.v.ThumbprintSHA1()) ||
			!strings.Contains(transfer.HintOf(err), "--vcenter-thumbprint") || transfer.KindOf(err) != transfer.Permanent):
			t.Errorf("%s does not help: %v", name, err)
		}
		if err == nil {
			_ = c.Close(e.ctx)
		}
	}
	cfg := e.config()
	cfg.Thumbprint = "AB:CD"
	if _, err := vsphere.Dial(e.ctx, cfg); err == nil || !strings.Contains(err.Error(), "thumbprint") {
		t.Error(err)
	}
}

// TestProxy runs this test binary with HTTPS_PROXY set: Go reads it once.
func TestProxy(t *testing.T) {
	if target := os.Getenv("SNAPFERRY_TEST_TARGET"); target != "" {
		c, err := vsphere.Dial(context.Background(), vsphere.Config{URL: target, Thumbprint: os.Getenv("SNAPFERRY_TEST_PIN"), Timing: quick})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		return
	}
	e := start(t)
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host)
		mu.Unlock()
		tunnel(w, e.v.URL().Host)
	}))
	defer proxy.Close()
	target := &url.URL{Scheme: "https", User: e.v.URL().User, Host: "vcenter.example.invalid", Path: "/sdk"}
	run := func(env ...string) error {
		cmd := exec.CommandContext(e.ctx, os.Args[0], "-test.run=^TestProxy$")
		cmd.Env = append(os.Environ(), append(env, "SNAPFERRY_TEST_TARGET="+target.String(), "SNAPFERRY_TEST_PIN="+e.v.Thumbprint(), "HTTPS_PROXY="+proxy.URL)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	}
	if err := run("NO_PROXY="); err != nil {
		t.Error(err)
	}
	if len(asked) == 0 || asked[0] != "CONNECT vcenter.example.invalid:443" {
		t.Errorf("the proxy was asked %v", asked)
	}
	n := len(asked)
	if err := run("NO_PROXY=example.invalid"); err == nil || len(asked) != n {
		t.Errorf("NO_PROXY: %v, the proxy was asked %v", err, asked[n:])
	}
}

// tunnel answers CONNECT by connecting to host.
func tunnel(w http.ResponseWriter, host string) {
	out, err := net.Dial("tcp", host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	// After the hijack: what a client sends as soon as it has the answer the
	// server would keep.
	_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(out, in) }()
	_, _ = io.Copy(in, out)
}
