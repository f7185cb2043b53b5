package console_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
)

// fill makes a path of a route.
func fill(path, vm string) string {
	path = strings.NewReplacer("/runs/{id}", "/runs/1", "/launches/{id}", "/launches/1").Replace(path)
	return strings.NewReplacer("{id}", vm, "{name}", "none", "{action}", "sync").Replace(path)
}

// TestRolesAndRoutes tries every route as everybody.
func TestRolesAndRoutes(t *testing.T) {
	r := newRig(t)
	n := 0
	for _, rt := range r.server.Routes() {
		path := fill(rt.Path, vcenter+":vm-none")
		q := request{method: rt.Method, path: path}
		if rt.Body && strings.Contains(path, "csv") {
			q.kind = "text/csv"
		}
		for _, as := range []struct {
			who, token string
			may        bool
			denied     int
		}{
			{"nobody", "", rt.Role == "", 401},
			{"a wrong token", "wrong", rt.Role == "" && rt.Method == "GET", 401},
			{"a viewer", viewer, rt.Role != schedule.RoleOperator, 403},
			{"an operator", operator, true, 0},
		} {
			n++
			q.token, q.from = as.token, fmt.Sprintf("192.0.2.%d:99", n) // each has its own wrong ones
			w := r.ask(q)
			switch {
			case as.may && (w.Code == 401 || w.Code == 403):
				if path != "/login" { // whose body has no right token
					t.Errorf("%s %s as %s: %d %s", rt.Method, path, as.who, w.Code, w.Body)
				}
			case !as.may && w.Code != as.denied:
				t.Errorf("%s %s as %s: %d, want %d: %s", rt.Method, path, as.who, w.Code, as.denied, w.Body)
			case !as.may:
				if e := failure(t, w); w.Code == 401 && (w.Header().Get("WWW-Authenticate") == "" || e.Hint == "") {
					t.Errorf("%s %s as %s: %v %+v", rt.Method, path, as.who, w.Header(), e)
				}
			}
		}
	}
}

// TestDeniedWritesAreWrittenDown, and reads are not.
func TestDeniedWritesAreWrittenDown(t *testing.T) {
	r := newRig(t).seed()
	r.ask(request{method: "GET", path: "/api/v1/vms", token: "wrong"})
	r.ask(request{method: "GET", path: "/api/v1/vms"})
	before := len(r.deeds())
	if before != 1 { // the seed's own
		t.Fatalf("reading was written down: %v", r.deeds())
	}
	path := vmPath("a") + "/pause"
	r.ask(request{method: "POST", path: path})
	r.ask(request{method: "POST", path: path, token: "wrong"})
	r.ask(request{method: "POST", path: path, token: viewer})
	r.ask(request{method: "POST", path: path, token: operator, body: `{"why": 5}`})
	r.ask(request{method: "POST", path: path, token: operator})
	r.post(vmPath("broken")+"/sync", "")
	r.post("/api/v1/actions", `{"action":"sync","vms":["a","broken"]}`)
	r.ask(request{method: "DELETE", path: "/api/v1/waves/none%0Anone", token: operator})
	r.ask(request{method: "PUT", path: "/api/v1/policies/p", token: operator, body: `{"every":"1h"}`})
	got := r.deeds()[before:]
	want := []string{
		` () POST ` + path + ` []: unauthorized: this needs a token`,
		` () POST ` + path + ` []: unauthorized: the token is wrong`,
		`vera (viewer) POST ` + path + ` []: forbidden: this takes the role operator; vera is a viewer`,
		`alice (operator) POST ` + path + ` [` + console.ID(id("a")) + `]: bad_request: `,
		`alice (operator) POST ` + path + ` [` + console.ID(id("a")) + `]: ok`,
		`alice (operator) POST ` + vmPath("broken") + `/sync [` + console.ID(id("broken")) + `]: `,
		`alice (operator) POST /api/v1/actions [a, broken]: 1 of 2 failed; broken: `,
		`alice (operator) DELETE /api/v1/waves/none none [none none]: not_found: `,
		`alice (operator) PUT /api/v1/policies/p [p]: ok`,
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
	all, err := r.service.Deeds(t.Context(), 0, 1)
	must(t, err)
	if all[0].From != "192.0.2.1" || !all[0].At.Equal(start) {
		t.Errorf("the last: %+v", all[0])
	}
}

func TestWrongTokensAreLimited(t *testing.T) {
	r := newRig(t).seed()
	wrong := func(from string) int {
		return r.ask(request{method: "POST", path: vmPath("a") + "/pause", token: "wrong", from: from}).Code
	}
	right := func(from, token string) int {
		return r.ask(request{method: "GET", path: "/api/v1/whoami", token: token, from: from}).Code
	}
	if got := right("192.0.2.1:5", viewer); got != 200 {
		t.Fatal(got)
	}
	for i := range console.WrongTokens {
		if got := wrong("192.0.2.1:5"); got != 401 {
			t.Fatalf("wrong token %d: %d", i, got)
		}
	}
	before := len(r.deeds())
	w := r.ask(request{method: "POST", path: vmPath("a") + "/pause", token: "wrong", from: "192.0.2.1:6"})
	if w.Code != 429 || w.Header().Get("Retry-After") == "" || failure(t, w).Code != "rate_limited" {
		t.Errorf("one too many: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if n := len(r.deeds()); n != before {
		t.Errorf("guesses fill the audit log: %d more lines", n-before)
	}
	// A right one that was not seen from there before does not tell itself from
	// a wrong one; one that was goes on working; other addresses do.
	for _, c := range []struct {
		from, token string
		want        int
	}{{"192.0.2.1:7", operator, 429}, {"192.0.2.1:7", viewer, 200}, {"192.0.2.2:7", operator, 200}} {
		if got := right(c.from, c.token); got != c.want {
			t.Errorf("%s from %s: %d, want %d", c.token, c.from, got, c.want)
		}
	}
	login := r.ask(request{method: "POST", path: "/login", body: `{"token":"` + operator + `"}`, from: "192.0.2.1:8"})
	if login.Code != 429 {
		t.Errorf("login: %d", login.Code)
	}
	r.clock.pass(11 * time.Second)
	if got := right("192.0.2.1:7", operator); got != 200 {
		t.Errorf("after a while: %d", got)
	}
	for range console.WrongTokens {
		wrong("[2001:db8::1]:5")
	}
	if got := wrong("[2001:db8::2]:5"); got != 429 { // the same /64
		t.Errorf("from the same network: %d", got)
	}
	for i := range console.MaxAddresses + 50 {
		right(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), "wrong")
	}
	if n := r.server.Addresses(); n > console.MaxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
}

func TestRequestsOfATokenAreLimited(t *testing.T) {
	r := newRig(t, func(c *console.Config) { c.RateLimit = console.RateLimit{PerSecond: 2, Burst: 3} })
	for i := range 3 {
		if w := r.get("/api/v1/whoami"); w.Code != 200 {
			t.Fatalf("request %d: %d", i, w.Code)
		}
	}
	w := r.get("/api/v1/whoami")
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("one too many: %d %v", w.Code, w.Header())
	}
	if w := r.ask(request{method: "GET", path: "/api/v1/whoami", token: operator}); w.Code != 200 {
		t.Errorf("another token: %d", w.Code)
	}
	r.clock.pass(time.Second)
	if w := r.get("/api/v1/whoami"); w.Code != 200 {
		t.Errorf("a second later: %d", w.Code)
	}
}

// TestTokensThatAreNotSet let nobody in.
func TestTokensThatAreNotSet(t *testing.T) {
	r := newRig(t, func(c *console.Config) {
		c.Tokens = []console.Token{{Name: "empty", Role: schedule.RoleOperator}, token("norole", "", "x"), token("odd", "admin", "y")}
		c.Local = console.Token{Role: schedule.RoleOperator}
	})
	for _, secret := range []string{"", " ", "x", "y", "\x00"} {
		q := request{method: "GET", path: "/api/v1/whoami", header: map[string]string{"Authorization": "Bearer " + secret}}
		if w := r.ask(q); w.Code != 401 {
			t.Errorf("%q: %d %s", secret, w.Code, w.Body)
		}
	}
	r = newRig(t, func(c *console.Config) { c.Tokens, c.Local = nil, token("local", schedule.RoleOperator, "secret") })
	if w := r.ask(request{method: "GET", path: "/api/v1/whoami", token: "secret", from: "@"}); w.Code != 200 || !strings.Contains(w.Body.String(), `"from":"socket"`) {
		t.Errorf("local: %d %s", w.Code, w.Body)
	}
	if w := r.ask(request{method: "GET", path: "/api/v1/whoami", header: map[string]string{"Authorization": "Basic c2VjcmV0"}}); w.Code != 401 {
		t.Errorf("basic: %d", w.Code)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	var why error
	r := newRig(t, func(c *console.Config) { c.Ready = func() error { return why } })
	if w := r.ask(request{method: "GET", path: "/readyz"}); w.Code != 200 {
		t.Errorf("ready: %d", w.Code)
	}
	why = errors.New("vCenter vc.example.com does not answer")
	w := r.ask(request{method: "GET", path: "/readyz"})
	if w.Code != 503 || strings.Contains(w.Body.String(), "example") {
		t.Errorf("not ready, for anybody: %d %s", w.Code, w.Body)
	}
	if w := r.get("/readyz"); w.Code != 503 || !strings.Contains(failure(t, w).Message, "vc.example.com") {
		t.Errorf("not ready, for a viewer: %d %s", w.Code, w.Body)
	}
	if w := r.ask(request{method: "GET", path: "/healthz"}); w.Code != 200 {
		t.Errorf("healthy: %d", w.Code)
	}
	open := newRig(t, func(c *console.Config) { c.OpenMetrics = true })
	if w := open.ask(request{method: "GET", path: "/metrics"}); w.Code != 200 || !strings.Contains(w.Body.String(), "up 1") {
		t.Errorf("open metrics: %d", w.Code)
	}
	none := newRig(t, func(c *console.Config) { c.Metrics = nil })
	if w := none.get("/metrics"); w.Code != 404 {
		t.Errorf("no metrics: %d", w.Code)
	}
}

// pages is a Web that tells who asked.
var pages = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if a, ok := console.ActorOf(r.Context()); ok {
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, a.Name, a.Role)
		return
	}
	if r.Method != "GET" {
		http.Error(w, "no", http.StatusTeapot)
	}
	_, _ = io.WriteString(w, "nobody")
})

func withPages(c *console.Config) { c.Web = pages }

// login returns the cookie of a new session.
func (r *rig) login(secret string, tls bool) *http.Cookie {
	r.t.Helper()
	q := request{method: "POST", path: "/login", body: `{"token":"` + secret + `"}`}
	if tls {
		q.header = map[string]string{"X-Forwarded-Proto": "https"}
	}
	w := r.ask(q)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 {
		r.t.Fatalf("login: %d %v %s", w.Code, cookies, w.Body)
	}
	return cookies[0]
}

// browse asks as a browser with a cookie does.
func (r *rig) browse(method, path, body string, c *http.Cookie, header map[string]string) *httptest.ResponseRecorder {
	r.t.Helper()
	h := map[string]string{"Cookie": c.Name + "=" + c.Value}
	for k, v := range header {
		h[k] = v
	}
	return r.ask(request{method: method, path: path, body: body, header: h})
}

var sameOrigin = map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://example.com"}

func TestSessions(t *testing.T) {
	r := newRig(t, withPages).seed()
	c := r.login(operator, false)
	if c.Name != "snapferry" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure || len(c.Value) != 43 {
		t.Errorf("cookie: %+v", c)
	}
	safe := r.login(operator, true)
	if safe.Name != "__Host-snapferry" || !safe.Secure || safe.Domain != "" || safe.Value == c.Value {
		t.Errorf("cookie over TLS: %+v", safe)
	}
	if w := r.browse("GET", "/vms/x", "", c, nil); w.Body.String() != "GET alice operator" {
		t.Errorf("page: %s", w.Body)
	}
	if w := r.ask(request{method: "GET", path: "/vms/x"}); w.Body.String() != "nobody" {
		t.Errorf("page of nobody: %s", w.Body)
	}
	if w := r.browse("POST", vmPath("a")+"/pause", "", c, sameOrigin); w.Code != 200 {
		t.Errorf("pause: %d %s", w.Code, w.Body)
	}
	for _, h := range []map[string]string{
		nil, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
		{"Sec-Fetch-Site": "cross-site", "Origin": "http://example.com"},
	} {
		for _, path := range []string{vmPath("a") + "/pause", "/logout", "/page"} {
			if w := r.browse("POST", path, "", c, h); w.Code != 403 {
				t.Errorf("POST %s with %v: %d %s", path, h, w.Code, w.Body)
			}
		}
	}
	if w := r.browse("GET", "/api/v1/vms", "", c, map[string]string{"Sec-Fetch-Site": "cross-site"}); w.Code != 200 {
		t.Errorf("a link from elsewhere: %d", w.Code)
	}
	// A wrong token is wrong whatever cookie comes with it.
	if w := r.browse("GET", "/api/v1/whoami", "", c, map[string]string{"Authorization": "Bearer wrong"}); w.Code != 401 {
		t.Errorf("a wrong token with a cookie: %d", w.Code)
	}
	if w := r.browse("POST", "/logout", "", c, sameOrigin); w.Code != 204 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d %v", w.Code, w.Result().Cookies())
	}
	if w := r.browse("GET", "/api/v1/whoami", "", c, nil); w.Code != 401 {
		t.Errorf("after that: %d", w.Code)
	}
	got := strings.Join(r.deeds(), "\n")
	for _, line := range []string{" () POST /login [a session of alice]: ok", "alice (operator) POST /logout [a session of alice]: ok", "alice (operator) POST /page []: forbidden: the request comes from another site"} {
		if !strings.Contains(got, line) {
			t.Errorf("the audit log lacks %q:\n%s", line, got)
		}
	}
	if strings.Contains(got, operator) || strings.Contains(r.log.String(), operator) || strings.Contains(got, c.Value) {
		t.Error("a secret was written down")
	}
}

func TestSessionsEnd(t *testing.T) {
	r := newRig(t, func(c *console.Config) { c.Backend = &stub{} })
	alive := func(c *http.Cookie) bool { return r.browse("GET", "/api/v1/whoami", "", c, nil).Code == 200 }
	idle, busy := r.login(viewer, false), r.login(viewer, false)
	for range int(console.SessionAge/console.SessionIdle) - 1 {
		r.clock.pass(console.SessionIdle - time.Minute)
		if !alive(busy) {
			t.Fatal("the busy session is over")
		}
	}
	if alive(idle) {
		t.Error("the idle session is not over")
	}
	for range 3 {
		r.clock.pass(console.SessionIdle - time.Minute)
		alive(busy)
	}
	if alive(busy) {
		t.Error("the busy session outlives its age")
	}
	first := r.login(viewer, false)
	r.clock.pass(time.Second)
	for range console.MaxSessions + 5 {
		r.login(viewer, false)
	}
	if n := r.server.Sessions(); n != console.MaxSessions || alive(first) {
		t.Errorf("%d sessions, the oldest alive: %v", n, alive(first))
	}
}

func TestLoginForms(t *testing.T) {
	r := newRig(t, withPages)
	post := func(secret, next string, header map[string]string) *httptest.ResponseRecorder {
		body := url.Values{"token": {secret}, "next": {next}}.Encode()
		return r.ask(request{method: "POST", path: "/login", kind: "application/x-www-form-urlencoded", body: body, header: header})
	}
	for next, want := range map[string]string{
		"": "/", "/vms?text=a&sort=lag": "/vms?text=a&sort=lag", "https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", "vms": "/", "/a\r\nSet-Cookie: x": "/", "javascript:alert(1)": "/", "/\t/evil": "/",
	} {
		w := post(viewer, next, sameOrigin)
		if w.Code != 303 || w.Header().Get("Location") != want || len(w.Result().Cookies()) != 1 {
			t.Errorf("next %q: %d to %q, cookies %v", next, w.Code, w.Header().Get("Location"), w.Result().Cookies())
		}
	}
	w := post("wrong", "/vms", nil)
	if w.Code != 303 || w.Header().Get("Location") != "/login?error=wrong&next=%2Fvms" || len(w.Result().Cookies()) != 0 {
		t.Errorf("wrong: %d %v", w.Code, w.Header())
	}
	if w := post(viewer, "", map[string]string{"Origin": "https://evil.example"}); w.Header().Get("Location") != "/login?error=origin" || len(w.Result().Cookies()) != 0 {
		t.Errorf("from elsewhere: %d %v", w.Code, w.Header())
	}
	for range console.WrongTokens {
		post("wrong", "", nil)
	}
	if w := post(operator, "", nil); w.Header().Get("Location") != "/login?error=limited" {
		t.Errorf("limited: %v", w.Header())
	}
	if w := r.ask(request{method: "GET", path: "/login"}); w.Body.String() != "nobody" {
		t.Errorf("the page: %d %s", w.Code, w.Body)
	}
	if w := r.ask(request{method: "POST", path: "/logout", kind: "application/x-www-form-urlencoded"}); w.Code != 303 || w.Header().Get("Location") != "/login" {
		t.Errorf("logout form: %d %v", w.Code, w.Header())
	}
	if w := r.ask(request{method: "POST", path: "/login?token=x", body: "{}"}); w.Code != 400 {
		t.Errorf("a token in the query: %d", w.Code)
	}
	bare := newRig(t)
	w = bare.ask(request{method: "POST", path: "/login", kind: "application/x-www-form-urlencoded", body: "token=wrong"})
	if w.Code != 401 {
		t.Errorf("without pages: %d", w.Code)
	}
}

// TestPagesThatWrite get through for operators, and are written down.
func TestPagesThatWrite(t *testing.T) {
	r := newRig(t, withPages)
	for _, c := range []struct {
		token string
		want  int
	}{{"", 401}, {viewer, 403}, {operator, 200}} {
		if w := r.ask(request{method: "POST", path: "/page", token: c.token}); w.Code != c.want {
			t.Errorf("with %q: %d, want %d", c.token, w.Code, c.want)
		}
	}
	if got := r.deeds(); len(got) != 3 || got[2] != "alice (operator) POST /page []: ok" {
		t.Errorf("audit: %v", got)
	}
	none := newRig(t)
	if w := none.ask(request{method: "GET", path: "/"}); w.Code != 404 || failure(t, w).Hint == "" {
		t.Errorf("without pages: %d %s", w.Code, w.Body)
	}
}

func TestSession(t *testing.T) {
	r := newRig(t)
	c := r.login(viewer, false)
	q := request{method: "GET", path: "/elsewhere", header: map[string]string{"Cookie": c.Name + "=" + c.Value}}
	if a, ok := r.server.Session(q.make(t.Context())); !ok || a.Name != "vera" || a.Role != schedule.RoleViewer {
		t.Errorf("%+v %v", a, ok)
	}
	q.method = "POST"
	if _, ok := r.server.Session(q.make(t.Context())); ok {
		t.Error("a write from nowhere has a session")
	}
	if _, ok := r.server.Session(request{method: "GET", path: "/"}.make(t.Context())); ok {
		t.Error("nobody has a session")
	}
}
