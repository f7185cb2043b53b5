package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
	"snapferry/transfer"
)

// TestStrictInput: what cannot be meant is refused, and nothing happens.
func TestStrictInput(t *testing.T) {
	r := newRig(t).seed()
	last, err := r.service.LastEvent(t.Context())
	must(t, err)
	const v1 = "/api/v1"
	big := `{"why":"` + strings.Repeat("x", 1<<20) + `"}`
	text := func(method, path, body, kind string) request {
		return request{method: method, path: path, token: operator, body: body, kind: kind}
	}
	post := func(path, body string) request { return text("POST", path, body, "") }
	get := func(path string) request { return request{method: "GET", path: path, token: viewer} }
	a := vmPath("a")
	for _, c := range []struct {
		request
		status int
		code   string
	}{
		{get(v1 + "/vms?colour=red"), 400, "bad_request"}, {get(v1 + "/vms?limit=x"), 400, "bad_request"}, {get(v1 + "/vms?limit=1001"), 400, "bad_request"},
		{get(v1 + "/vms?limit=-1"), 400, "bad_request"}, {get(v1 + "/vms?sort=colour"), 400, "bad_request"}, {get(v1 + "/vms?desc=yes"), 400, "bad_request"},
		{get(v1 + "/vms?text=a&text=b"), 400, "bad_request"}, {get(v1 + "/vms?%zz"), 400, "bad_request"}, {get(v1 + "/vms?a;b"), 400, "bad_request"}, {get(v1 + "/vms?lifecycle=x"), 400, "bad_request"},
		{get(v1 + "/runs?vm=a"), 400, "bad_request"}, {get(v1 + "/runs?state=x"), 400, "bad_request"}, {get(v1 + "/runs?limit=501"), 400, "bad_request"},
		{get(v1 + "/runs/x"), 400, "bad_request"}, {get(v1 + "/runs/0"), 400, "bad_request"}, {get(v1 + "/runs/1/log?limit=5001"), 400, "bad_request"},
		{get(v1 + "/events?after=-1"), 400, "bad_request"}, {get(v1 + "/events?before=1"), 400, "bad_request"}, {get(v1 + "/alarms?cleared=1"), 400, "bad_request"},
		{get(v1 + "/audit?after=1"), 400, "bad_request"}, {get(v1 + "/overview?x=1"), 400, "bad_request"}, {get(v1 + "/resolve"), 400, "bad_request"},
		{get(v1 + "/resolve?" + strings.Repeat("name=a&", 101)), 400, "bad_request"}, {get(v1 + "/vms/a"), 400, "bad_request"}, {get(v1 + "/vms/a:b:c"), 400, "bad_request"},
		{get(v1 + "/nothing"), 404, "not_found"}, {get(v1 + "/vms/"), 404, "not_found"}, {get("/api/v2/vms"), 404, "not_found"},
		{text("DELETE", v1+"/vms", "", ""), 405, "method_not_allowed"}, {text("POST", "/healthz", "", ""), 405, "method_not_allowed"}, {get(a + "/pause"), 405, "method_not_allowed"},

		{post(a+"/pause", `{"why":"x","more":1}`), 400, "bad_request"}, {post(a+"/pause", `{"why":`), 400, "bad_request"}, {post(a+"/pause", `{} {}`), 400, "bad_request"},
		{post(a+"/pause", `[]`), 400, "bad_request"}, {post(a+"/pause", "\xff"), 400, "bad_request"}, {post(a+"/pause?why=x", ""), 400, "bad_request"},
		{text("POST", a+"/pause", "why=x", "application/x-www-form-urlencoded"), 415, "unsupported_type"}, {text("POST", a+"/pause", "{}", "text/plain"), 415, "unsupported_type"},
		{post(a+"/pause", big), 413, "too_large"}, {post(a+"/pause", "{}"+strings.Repeat(" ", 1<<20)), 413, "too_large"}, {post(a+"/resume", `{"why":"x"}`), 400, "bad_request"},
		{post(a+"/pause", `{"why":"`+strings.Repeat("x", 501)+`"}`), 422, "invalid"}, {post(a+"/pause", `{"why":"a\nb"}`), 422, "invalid"},
		{post(a+"/mark", ``), 422, "invalid"}, {post(a+"/mark", `{"as":"pause"}`), 422, "invalid"}, {post(a+"/mark", `{"as":"cutover"}`), 422, "invalid"},
		{post(a+"/policy", `{"policy":"none"}`), 422, "invalid"}, {post(a+"/policy", ``), 422, "invalid"}, {post(v1+"/actions", `{"action":"policy","vms":["a"]}`), 422, "invalid"},
		{post(vmPath("nobody")+"/sync", ``), 404, "not_found"}, {post(vmPath("broken")+"/sync", ``), 409, "conflict"},
		{text("PUT", a+"/launch", "", ""), 422, "invalid"}, {text("PUT", a+"/launch", `null`, ""), 422, "invalid"}, {text("PUT", a+"/launch", `{"subnet":5}`, ""), 400, "bad_request"}, {text("PUT", a+"/launch", `{"a b":"x"}`, ""), 422, "invalid"},
		{post(v1+"/actions", ``), 422, "invalid"}, {post(v1+"/actions", `{"action":"sync"}`), 422, "invalid"}, {post(v1+"/actions", `{"action":"dance","vms":["a"]}`), 422, "invalid"},
		{post(v1+"/actions", `{"action":"sync","vms":["nobody"]}`), 404, "not_found"}, {post(v1+"/actions", `{"action":"resume","vms":["a"],"why":"x"}`), 422, "invalid"},
		{post(v1+"/actions", `{"action":"pause","vms":["a"],"seed":true}`), 422, "invalid"}, {post(v1+"/actions", `{"action":"pause","vms":["a"],"policy":"gold"}`), 422, "invalid"},
		{post(v1+"/actions", `{"action":"sync","vms":["`+strings.Repeat(`a","`, 5000)+`a"]}`), 422, "invalid"},
		{text("PUT", v1+"/policies/x", `{"name":"y","every":"1h"}`, ""), 422, "invalid"}, {text("PUT", v1+"/policies/x", ``, ""), 400, "bad_request"}, {text("PUT", v1+"/policies/x", `{"every":"often"}`, ""), 400, "bad_request"},
		{text("PUT", v1+"/policies/gold", `{"every":"1h"}`, ""), 409, "conflict"}, {text("PUT", v1+"/policies/x", `{"every":"1h","cron":"@daily"}`, ""), 422, "invalid"}, {text("PUT", v1+"/policies/x", `{"origin":"file"}`, ""), 400, "bad_request"},
		{text("PUT", v1+"/waves/-x", `{}`, ""), 422, "invalid"}, {text("PUT", v1+"/waves/x", `{"vms":[{"vcenter":"a","moref":"b"}]}`, ""), 422, "invalid"}, {text("DELETE", v1+"/waves/none", "", ""), 404, "not_found"},
		{post(v1+"/waves/w1/policy", ""), 404, "not_found"}, {post(v1+"/waves/w1/dance", ""), 404, "not_found"}, {post(v1+"/waves/none/sync", ""), 404, "not_found"},
		{post(a+"/launch/test", `{"colour":1}`), 400, "bad_request"}, {post(a+"/launch/test", `{"settings":{"subnet":5}}`), 400, "bad_request"}, {post(a+"/launch/test", `{"for":"long"}`), 400, "bad_request"},
		{post(a+"/launch/test", `{"action":"test"}`), 400, "bad_request"}, {post(a+"/launch/test?force=true", ``), 400, "bad_request"}, {post(a+"/launch/test", `{"point":"`+strings.Repeat("x", 1<<20)+`"}`), 413, "too_large"},
		{text("POST", a+"/launch/test", "force=true", "application/x-www-form-urlencoded"), 415, "unsupported_type"}, {get(a + "/launch/test"), 405, "method_not_allowed"}, {text("PUT", a+"/launch/cancel", "", ""), 405, "method_not_allowed"},
		{post(a+"/launch/dance", ``), 404, "not_found"}, {post(a+"/launch/cut-over", ``), 404, "not_found"}, {post(vmPath("nobody")+"/launch/test", ``), 404, "not_found"}, {post(v1+"/vms/a/launch/test", ``), 400, "bad_request"},
		{post(a+"/launch/cutover", ``), 409, "conflict"}, {post(a+"/launch/cutover", `{"prove":true}`), 422, "invalid"}, {post(a+"/launch/test-done", `{"force":true}`), 422, "invalid"}, {post(a+"/launch/finalize", `{"points":"some"}`), 422, "invalid"},
		{post(a+"/launch/cancel", `{"force":true}`), 400, "bad_request"}, {post(a+"/launch/cancel", ``), 409, "conflict"}, {post(vmPath("nobody")+"/launch/cancel", ``), 404, "not_found"},
		{post(a+"/launch/preview", ``), 422, "invalid"}, {post(a+"/launch/preview", `{"action":"dance"}`), 422, "invalid"}, {post(a+"/launch/preview", `{"action":"test","force":true}`), 400, "bad_request"}, {post(vmPath("nobody")+"/launch/preview", `{"action":"test"}`), 404, "not_found"},
		{post(v1+"/launches", ``), 422, "invalid"}, {post(v1+"/launches", `{"action":"test"}`), 422, "invalid"}, {post(v1+"/launches", `{"action":"dance","vms":["a"]}`), 422, "invalid"}, {post(v1+"/launches", `{"action":"test","vms":["nobody"]}`), 404, "not_found"},
		{post(v1+"/launches", `{"action":"test","vms":["a"],"force":true}`), 400, "bad_request"}, {post(v1+"/launches", `{"action":"test","wave":"none"}`), 404, "not_found"}, {post(v1+"/launches", `{"action":"test","wave":"w1","vms":["c"]}`), 422, "invalid"},
		{post(v1+"/launches", `{"action":"test","vms":["`+strings.Repeat(`a","`, 5000)+`a"]}`), 422, "invalid"}, {text("DELETE", v1+"/launches", "", ""), 405, "method_not_allowed"}, {post(v1+"/launches/1", ``), 405, "method_not_allowed"},
		{post(v1+"/launches/cancel", ``), 405, "method_not_allowed"}, {post(v1+"/actions", `{"action":"cancel-launch","vms":["nobody"]}`), 404, "not_found"}, {post(v1+"/waves/none/cancel-launch", ``), 404, "not_found"},
		{get(v1 + "/launches/x"), 400, "bad_request"}, {get(v1 + "/launches?state=done"), 400, "bad_request"}, {get(v1 + "/launches?vm=a"), 400, "bad_request"}, {get(v1 + "/launches?limit=501"), 400, "bad_request"}, {get(v1 + "/launches/9"), 404, "not_found"},
		{get(v1 + "/launch-jobs?open=1"), 400, "bad_request"}, {get(v1 + "/launch-jobs?limit=1001"), 400, "bad_request"}, {get(v1 + "/launch-jobs/none"), 404, "not_found"}, {get(v1 + "/launch-jobs/none?doc=1"), 400, "bad_request"},
		{post(v1+"/waves/w1/pause", `{"force":true}`), 400, "bad_request"}, {post(v1+"/waves/w1/test", `{"colour":1}`), 400, "bad_request"}, {post(v1+"/waves/w1/test", `{"points":"all"}`), 422, "invalid"}, {post(v1+"/waves/w1/preview", ``), 404, "not_found"},
		{post(v1+"/actions", `{"action":"test","vms":["a"]}`), 422, "invalid"}, {text("PUT", v1+"/policies/x", `{"every":"1h","prove":{"every":"1h"}}`, ""), 422, "invalid"}, {text("PUT", v1+"/policies/x", `{"every":"1h","prove":{"often":true}}`, ""), 400, "bad_request"},
		{text("POST", v1+"/import.csv", "vm\na\n", "application/json"), 415, "unsupported_type"}, {text("POST", v1+"/import.csv", "vm\nnobody\n", "text/csv"), 422, "invalid"},
		{text("POST", v1+"/import.csv", "vm\n"+strings.Repeat("a", 16<<20), "text/csv"), 413, "too_large"},
	} {
		w := r.ask(c.request)
		if e := failure(t, w); w.Code != c.status || e.Code != c.code {
			t.Errorf("%s %s %.60s: %d %s, want %d %s: %.200s", c.method, c.path, c.body, w.Code, e.Code, c.status, c.code, w.Body)
		}
		if w.Code == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
	}
	if events, err := r.service.Events(t.Context(), last, 10); err != nil || len(events) != 0 {
		t.Errorf("something happened: %+v, %v", events, err)
	}
}

// TestHeaders holds for every kind of answer.
func TestHeaders(t *testing.T) {
	r := newRig(t, withPages).seed()
	for _, path := range []string{"/", "/healthz", "/api/v1/vms", "/api/v1/nothing", "/api/v1/export.csv"} {
		h := r.get(path).Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if !strings.Contains(h.Get(name), want) {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
	if h := r.get("/api/v1/export.csv").Header(); h.Get("Content-Disposition") != `attachment; filename="snapferry-2026-03-02.csv"` {
		t.Errorf("the table: %v", h)
	}
}

// stub is a backend that fails, or does what a test says.
type stub struct {
	console.Backend
	overview func(context.Context) (schedule.Overview, error)
	deeds    []schedule.Deed
}

func (s *stub) Overview(ctx context.Context) (schedule.Overview, error) { return s.overview(ctx) }
func (s *stub) RecordDeed(_ context.Context, d schedule.Deed) error {
	s.deeds = append(s.deeds, d)
	return nil
}

// TestFailuresInside are told to the log alone.
func TestFailuresInside(t *testing.T) {
	b := &stub{}
	r := newRig(t, func(c *console.Config) { c.Backend = b })
	for _, c := range []struct {
		name   string
		do     func(context.Context) (schedule.Overview, error)
		status int
	}{
		{"an error", func(context.Context) (schedule.Overview, error) {
			return schedule.Overview{}, errors.New("dial db.example: password secret1 wrong")
		}, 500},
		{"a panic", func(context.Context) (schedule.Overview, error) { panic("secret2") }, 500},
		{"too slow", func(context.Context) (schedule.Overview, error) {
			return schedule.Overview{}, fmt.Errorf("list VMs: %w", context.DeadlineExceeded)
		}, 503},
		{"not found", func(context.Context) (schedule.Overview, error) {
			return schedule.Overview{}, transfer.Fail(transfer.Permanent, "read", schedule.ErrNotFound, "Look there.")
		}, 404},
		{"no JSON", func(context.Context) (schedule.Overview, error) {
			var zero float64
			return schedule.Overview{Throughput: 1 / zero}, nil
		}, 500},
	} {
		b.overview = c.do
		w := r.get("/api/v1/overview")
		e := failure(t, w)
		if w.Code != c.status || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if c.status == 404 && e.Hint != "Look there." {
			t.Errorf("%s: hint %q", c.name, e.Hint)
		}
	}
	for _, part := range []string{"secret1", "secret2"} {
		if !strings.Contains(r.log.String(), part) {
			t.Errorf("the log lacks %s:\n%s", part, r.log)
		}
	}
}

func TestIDs(t *testing.T) {
	for text, want := range map[string]string{"vc:vm-1": "vc/vm-1", "vc%3Avm-1": "", "vc/vm-1": "", ":vm": "", "vc:": "", "a:b:c": "", "": "", strings.Repeat("x", 200) + ":b": ""} {
		got, err := console.ParseID(text)
		if (err == nil) != (want != "") || (err == nil && (got.String() != want || console.ID(got) != text)) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	r := newRig(t).seed()
	// An escaped colon in the path is a colon.
	if w := r.get("/api/v1/vms/" + vcenter + "%3Avm-a"); w.Code != http.StatusOK {
		t.Errorf("escaped: %d %s", w.Code, w.Body)
	}
}
