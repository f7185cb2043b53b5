package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
	"snapferry/transfer"
)

// serve serves a rig's console and returns its address.
func (r *rig) serve(l net.Listener) {
	r.t.Helper()
	h := r.server.HTTP()
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			r.t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			r.t.Error(err)
		}
	})
}

// client is one of a rig, over a unix socket.
func (r *rig) client(secret string) *console.Client {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "s")
	l, err := console.Listen("unix:"+path, console.ListenOptions{})
	must(r.t, err)
	r.serve(l)
	c, err := console.NewClient(console.ClientConfig{Address: "unix:" + path, Token: secret})
	must(r.t, err)
	r.t.Cleanup(c.Close)
	return c
}

// plain is a value as JSON, or an error, to compare.
func plain[T any](v T, err error) string {
	if err != nil {
		return "error: " + err.Error() + "|" + transfer.HintOf(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestTheClientAnswersAsTheService: every question gets the same answer near
// and far, refusals included.
func TestTheClientAnswersAsTheService(t *testing.T) {
	r := newRig(t).seed()
	far := r.client(viewer)
	ctx := t.Context()
	b := id("b")
	for name, ask := range map[string]func(console.Backend) string{
		"overview": func(x console.Backend) string { return plain(x.Overview(ctx)) },
		"vms":      func(x console.Backend) string { return plain(x.VMs(ctx, schedule.VMQuery{})) },
		"some vms": func(x console.Backend) string {
			return plain(x.VMs(ctx, schedule.VMQuery{Text: "A", Sort: "lag", Desc: true, Offset: 1, Limit: 2, Policy: "gold", Wave: "w1"}))
		},
		"vm":      func(x console.Backend) string { return plain(x.VM(ctx, id("a"))) },
		"nobody":  func(x console.Backend) string { return plain(x.VM(ctx, id("nobody"))) },
		"resolve": func(x console.Backend) string { return plain(x.Resolve(ctx, []string{"a", "vm-b", "/DC0/vm/prod/c"})) },
		"unknown": func(x console.Backend) string { return plain(x.Resolve(ctx, []string{"nobody"})) },
		"runs":    func(x console.Backend) string { return plain(x.Runs(ctx, schedule.RunQuery{})) },
		"some runs": func(x console.Backend) string {
			return plain(x.Runs(ctx, schedule.RunQuery{VM: &b, Active: true, State: schedule.RunRunning, Before: 1000, Limit: 3}))
		},
		"run":      func(x console.Backend) string { return plain(x.Run(ctx, r.run)) },
		"log":      func(x console.Backend) string { return plain(x.RunLog(ctx, r.run, 0, 100)) },
		"events":   func(x console.Backend) string { return plain(x.Events(ctx, 0, 100)) },
		"last":     func(x console.Backend) string { return plain(x.LastEvent(ctx)) },
		"alarms":   func(x console.Backend) string { return plain(x.Alarms(ctx, true, 10)) },
		"deeds":    func(x console.Backend) string { return plain(x.Deeds(ctx, 0, 10)) },
		"policies": func(x console.Backend) string { return plain(x.Policies(ctx)) },
		"waves":    func(x console.Backend) string { return plain(x.Waves(ctx)) },
		"settings": func(x console.Backend) string { return plain(x.Settings(ctx)) },
		"table": func(x console.Backend) string {
			var b bytes.Buffer
			err := x.ExportCSV(ctx, &b)
			return plain(b.String(), err)
		},
	} {
		near, away := ask(r.service), ask(far)
		if near != away {
			t.Errorf("%s:\nnear %s\nfar  %s", name, near, away)
		}
		if len(near) < 3 && name != "last" {
			t.Errorf("%s: %s proves nothing", name, near)
		}
	}
}

// TestTheClientActsAsTheService does the same to two databases.
func TestTheClientActsAsTheService(t *testing.T) {
	by := schedule.Actor{Name: "alice", Role: schedule.RoleOperator}
	near, away := newRig(t).seed(), newRig(t).seed()
	far := away.client(operator)
	ctx := t.Context()
	vms := []transfer.VMID{id("a"), id("b"), id("broken")}
	said := func(err error) string { return plain("", err) }
	for _, step := range []struct {
		name string
		do   func(console.Backend) string
	}{
		{"pause", func(x console.Backend) string { return plain(x.Pause(ctx, by, vms, "why")) }},
		{"resume", func(x console.Backend) string { return plain(x.Resume(ctx, by, vms[:2])) }},
		{"sync", func(x console.Backend) string { return plain(x.Sync(ctx, by, vms, true)) }},
		{"cancel", func(x console.Backend) string { return plain(x.Cancel(ctx, by, vms)) }},
		{"mark", func(x console.Backend) string { return plain(x.Mark(ctx, by, vms, "ready-for-cutover")) }},
		{"choose", func(x console.Backend) string { return plain(x.Choose(ctx, by, vms, "silver")) }},
		{"take back", func(x console.Backend) string { return plain(x.Choose(ctx, by, vms[:1], "")) }},
		{"launch", func(x console.Backend) string { return said(x.SetLaunch(ctx, by, id("c"), schedule.Launch{"k": "v"})) }},
		{"no launch", func(x console.Backend) string { return said(x.SetLaunch(ctx, by, id("a"), nil)) }},
		{"policy", func(x console.Backend) string {
			return said(x.SavePolicy(ctx, by, schedule.Policy{Name: "new", Every: schedule.Duration(time.Hour), Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{From: "01:00", To: "02:00"}, Limit: 5e6}}}))
		}},
		{"policy of the file", func(x console.Backend) string {
			return said(x.SavePolicy(ctx, by, schedule.Policy{Name: "gold", Every: schedule.Duration(time.Hour)}))
		}},
		{"delete policy", func(x console.Backend) string { return said(x.DeletePolicy(ctx, by, "keen")) }},
		{"wave", func(x console.Backend) string {
			return said(x.SaveWave(ctx, by, schedule.Wave{Name: "w 2.ä", Note: "n", VMs: vms[1:]}))
		}},
		{"act", func(x console.Backend) string { return plain(x.ActOnWave(ctx, by, "w 2.ä", "pause")) }},
		{"act on none", func(x console.Backend) string { return plain(x.ActOnWave(ctx, by, "none", "pause")) }},
		{"delete wave", func(x console.Backend) string { return said(x.DeleteWave(ctx, by, "w1")) }},
		{"delete none", func(x console.Backend) string { return said(x.DeleteWave(ctx, by, "w1")) }},
		{"import", func(x console.Backend) string {
			return plain(x.ImportCSV(ctx, by, strings.NewReader("vm,wave\na,w9\n")))
		}},
		{"import nonsense", func(x console.Backend) string {
			return plain(x.ImportCSV(ctx, by, strings.NewReader("vm,wave\nx,w9\n")))
		}},
	} {
		a, b := step.do(near.service), step.do(far)
		if a != b {
			t.Errorf("%s:\nnear %s\nfar  %s", step.name, a, b)
		}
	}
	state := func(r *rig) string {
		return plain(r.service.VMs(ctx, schedule.VMQuery{})) + plain(r.service.Waves(ctx)) + plain(r.service.Policies(ctx)) + plain(r.service.Events(ctx, 0, 100))
	}
	if diff := cmp.Diff(state(near), state(away)); diff != "" {
		t.Error(diff)
	}
	deeds := len(away.deeds())
	if err := far.RecordDeed(ctx, schedule.Deed{Action: "x"}); err != nil || len(away.deeds()) != deeds {
		t.Errorf("a deed of its own: %v", err)
	}
	if _, err := far.Mark(ctx, by, vms, "pause"); !errors.Is(err, schedule.ErrInvalid) || len(away.deeds()) != deeds {
		t.Errorf("pause is no mark: %v", err)
	}
}

func TestErrorsOfTheClient(t *testing.T) {
	r := newRig(t).seed()
	ctx := t.Context()
	by := schedule.Actor{}
	op, vera := r.client(operator), r.client(viewer)
	_, noVM := op.VM(ctx, id("nobody"))
	for _, c := range []struct {
		name   string
		err    error
		is     error
		status int
	}{
		{"not found", noVM, schedule.ErrNotFound, 404},
		{"conflict", op.DeletePolicy(ctx, by, "gold"), schedule.ErrConflict, 409},
		{"invalid", op.SavePolicy(ctx, by, schedule.Policy{Name: "x"}), schedule.ErrInvalid, 422},
		{"forbidden", vera.DeleteWave(ctx, by, "w1"), nil, 403},
	} {
		var e *console.Error
		if !errors.As(c.err, &e) || e.Status != c.status || e.Message == "" || (c.is != nil && !errors.Is(c.err, c.is)) {
			t.Errorf("%s: %v", c.name, c.err)
		}
		if transfer.HintOf(c.err) != e.Hint || transfer.KindOf(c.err) != transfer.Permanent {
			t.Errorf("%s: hint %q of %+v", c.name, transfer.HintOf(c.err), e)
		}
	}
	far, err := console.NewClient(console.ClientConfig{Address: "unix:" + filepath.Join(t.TempDir(), "none"), Token: "secret"})
	must(t, err)
	_, err = far.Overview(ctx)
	if transfer.KindOf(err) != transfer.Retry || transfer.HintOf(err) == "" || strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("nobody there: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = op.Overview(gone); transfer.KindOf(err) != transfer.Canceled {
		t.Errorf("given up: %v", err)
	}
	for _, answer := range []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		},
	} {
		s := httptest.NewServer(http.HandlerFunc(answer))
		c, err := console.NewClient(console.ClientConfig{Address: s.URL, Token: "secret"})
		must(t, err)
		if _, err := c.Overview(ctx); transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("what is no connector: %v", err)
		}
		c.Close()
		s.Close()
	}
}

func TestAddressesOfTheClient(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://connector.example:8980": true, "https://connector.example/": true, "http://127.0.0.1:8980": true, "http://localhost:8980": true, "http://[::1]:8980": true, "unix:/run/x": true,
		"http://connector.example:8980": false, "connector.example": false, "ftp://x": false, "https://user:pw@connector.example": false, "https://connector.example/api": false, "": false, "https://": false,
	} {
		if _, err := console.NewClient(console.ClientConfig{Address: address}); (err == nil) != ok || (err != nil && strings.Contains(err.Error(), "pw")) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := console.NewClient(console.ClientConfig{Address: "http://connector.example", PlainHTTP: true}); err != nil {
		t.Error(err)
	}
	if _, err := console.NewClient(console.ClientConfig{Address: "https://x.example", CACerts: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("no CA file, no error")
	}
}
