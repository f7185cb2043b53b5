package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// fast are timings for real connections.
var fast = Timing{Poll: time.Millisecond, RetryFirst: time.Millisecond, RetryMax: 5 * time.Millisecond}

// took waits for a signal of the receiver.
func took[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

type request struct {
	header http.Header
	body   []byte
}

func TestWhatIsSentIsSignedAndComplete(t *testing.T) {
	sent := make(chan request, 10)
	var n atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent <- request{r.Header, body}
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	key := []byte("0123456789abcdef0123456789abcdef")
	r := newRig(t)
	e := event(1, schedule.EventStalled)
	e.Data, e.Run, e.Actor = json.RawMessage(`{"reason":"DATASTORE_LOW"}`), 42, "a1"
	r.src.put(e)
	r.start(func(c *Config) {
		c.Hooks = []Hook{{Name: "h", URL: server.URL + "/in", Secret: Secret("whsec_" + base64.StdEncoding.EncodeToString(key)), CA: ca}}
		c.Timing = fast
	})
	first, second := took(t, sent), took(t, sent)
	for _, q := range []request{first, second} {
		id, at := q.header.Get("Webhook-Id"), q.header.Get("Webhook-Timestamp")
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + at + "." + string(q.body)))
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); q.header.Get("Webhook-Signature") != want {
			t.Errorf("signature %q, want %q", q.header.Get("Webhook-Signature"), want)
		}
		if n, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(n, 0)).Abs() > time.Minute {
			t.Errorf("timestamp %q", at)
		}
		if q.header.Get("Idempotency-Key") != id || q.header.Get("Content-Type") != "application/json" || q.header.Get("User-Agent") != "snapferry/1.2.3" {
			t.Errorf("header %v", q.header)
		}
	}
	if first.header.Get("Webhook-Id") != second.header.Get("Webhook-Id") || string(first.body) != string(second.body) {
		t.Errorf("the second try differs: %s, %s", first.body, second.body)
	}
	var p struct {
		Version, ID, Source, Appliance, Time string
		DetailType                           string `json:"detail-type"`
		Resources                            []string
		Detail                               schedule.Event
	}
	if err := json.Unmarshal(first.body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Version != "1" || p.ID != first.header.Get("Webhook-Id") || p.Source != "snapferry" || p.Appliance != "a1" ||
		p.DetailType != "REPLICATION_STALLED" || !slices.Equal(p.Resources, []string{"7f1c/vm-7"}) ||
		p.Detail.ID != 1 || p.Detail.Run != 42 || string(p.Detail.Data) != `{"reason":"DATASTORE_LOW"}` || p.Detail.VMName != "web" {
		t.Errorf("payload %s", first.body)
	}
	if at, err := time.Parse(time.RFC3339Nano, p.Time); err != nil || !at.Equal(e.At) || !strings.HasSuffix(p.Time, "Z") {
		t.Errorf("time %q, want %v: %v", p.Time, e.At, err)
	}
}

func TestASlowHookHoldsUpNoOther(t *testing.T) {
	free := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-free }))
	defer slow.Close()
	defer close(free)
	quick := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { quick <- number(r) }))
	defer server.Close()
	r := newRig(t)
	r.src.add(schedule.EventRunStart, schedule.EventRunEnd)
	r.start(func(c *Config) {
		c.Hooks = []Hook{{Name: "slow", URL: slow.URL}, {Name: "quick", URL: server.URL}}
		c.Timing = fast
		c.Timing.Farewell = time.Millisecond
	})
	if a, b := took(t, quick), took(t, quick); a != "1" || b != "2" {
		t.Errorf("received %s, %s", a, b)
	}
	r.stop()
	if at := r.cursors.of("slow"); at != 0 {
		t.Errorf("the slow hook's cursor is at %d", at)
	}
}

func TestATimeoutIsTriedAgain(t *testing.T) {
	calls := make(chan string, 10)
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls <- number(r)
		if n.Add(1) == 1 {
			_, _ = io.Copy(io.Discard, r.Body) // the server sees the end of the connection only behind the body
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	r := newRig(t)
	r.src.add(schedule.EventRunEnd)
	r.start(func(c *Config) {
		c.Hooks = []Hook{{Name: "h", URL: server.URL, Timeout: 200 * time.Millisecond}}
		c.Timing = fast
	})
	took(t, calls)
	for range 1000 {
		if r.cursors.of("h") == 1 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if s := r.sender.Status()[0]; s.Retried < 1 || s.Delivered != 1 {
		t.Errorf("status %+v", s)
	}
	if !strings.Contains(r.logged(), "no answer within 200ms") {
		t.Errorf("log: %s", r.logged())
	}
}

// A request that is under way when the service stops is let through, and not
// sent again after the start.
func TestShutdownLetsARequestEnd(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	calls := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls <- number(r)
		close(began)
		<-end
	}))
	defer server.Close()
	r := newRig(t)
	r.src.add(schedule.EventRunEnd)
	config := func(c *Config) {
		c.Hooks = []Hook{{Name: "h", URL: server.URL}}
		c.Timing = fast
		c.Timing.Farewell = 10 * time.Second
	}
	r.start(config)
	took(t, began)
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	select {
	case <-stopped:
		t.Error("it did not wait for the request")
	case <-time.After(50 * time.Millisecond):
	}
	close(end)
	took(t, stopped)
	if r.cursors.of("h") != 1 || len(calls) != 1 {
		t.Errorf("cursor %d after %d requests", r.cursors.of("h"), len(calls))
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ h, want string }{
		{"", "name must"}, {"url", "is not one such as"}, {"user", "holds a password"}, {"event", `no event "REPLICATION_STALED"`},
		{"short", "has 5 bytes"}, {"base64", "not base64"}, {"ca", "no such file"}, {"pem", "no certificate"}, {"timeout", "negative"}, {"twice", "two have this name"},
	} {
		h := Hook{Name: c.h, URL: hookURL}
		hooks := []Hook{h}
		switch c.h {
		case "url":
			hooks[0].URL = "hooks.example.com"
		case "user":
			hooks[0].URL = "https://me:pa55@hooks.example.com"
		case "event":
			hooks[0].Events = []schedule.EventKind{"REPLICATION_STALED"}
		case "short":
			hooks[0].Secret = "abcde"
		case "base64":
			hooks[0].Secret = "whsec_!!!"
		case "ca":
			hooks[0].CA = filepath.Join(dir, "none.pem")
		case "pem":
			hooks[0].CA = empty
		case "timeout":
			hooks[0].Timeout = -1
		case "twice":
			hooks = append(hooks, h)
		}
		_, err := New(Config{Hooks: hooks, Source: &events{}, Cursor: &cursors{}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.h, err)
			continue
		}
		for _, s := range []string{"pa55", "abcde", "!!!"} {
			if strings.Contains(err.Error(), s) {
				t.Errorf("%s tells a secret: %v", c.h, err)
			}
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no source is no error")
	}
}

// net/http reads the proxy's variables once in a process: the hook sends from
// one of its own.
func TestTheProxyOfTheEnvironmentIsUsed(t *testing.T) {
	const helper = "SNAPFERRY_TEST_PROXY_HELPER"
	if os.Getenv(helper) != "" {
		r := newRig(t)
		r.src.add(schedule.EventRunEnd)
		r.start(func(c *Config) {
			c.Hooks = []Hook{{Name: "direct", URL: os.Getenv(helper)}, {Name: "proxied", URL: "http://hooks.example.com/in"}}
			c.Timing = fast
		})
		for range 2000 {
			if r.cursors.of("proxied") == 1 && r.cursors.of("direct") == 1 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("not delivered: %+v", r.sender.Status())
	}
	seen := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- "proxy " + r.URL.Host }))
	defer proxy.Close()
	direct := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen <- "direct" }))
	defer direct.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTheProxyOfTheEnvironmentIsUsed$")
	cmd.Env = append(os.Environ(), helper+"="+direct.URL, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := []string{took(t, seen), took(t, seen)}
	slices.Sort(got)
	if !slices.Equal(got, []string{"direct", "proxy hooks.example.com"}) {
		t.Errorf("requests went %v", got)
	}
}

func TestFileCursor(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "hooks")
	c := &FileCursor{Dir: dir}
	if _, ok, err := c.Load(ctx, "a/../b"); ok || err != nil {
		t.Fatalf("before: %v %v", ok, err)
	}
	for _, step := range []struct {
		from, to int64
		want     error
	}{{-1, 5, nil}, {-1, 7, ErrMoved}, {4, 9, ErrMoved}, {5, 9, nil}, {9, 2, nil}} {
		if err := c.Save(ctx, "a/../b", step.from, step.to); !errors.Is(err, step.want) {
			t.Errorf("%d to %d: %v, want %v", step.from, step.to, err, step.want)
		}
	}
	again := &FileCursor{Dir: dir}
	if at, ok, err := again.Load(ctx, "a/../b"); at != 2 || !ok || err != nil {
		t.Errorf("after a restart: %d %v %v", at, ok, err)
	}
	if err := again.Save(ctx, "other", -1, 1); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name()), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := again.Load(ctx, "other"); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestLeads(t *testing.T) {
	fleet := []schedule.Appliance{{ID: "c", Alive: true}, {ID: "b", Alive: true}, {ID: "a"}}
	lead := func(id transfer.ApplianceID) bool { return Leads(id, fleet) }
	if !lead("b") || lead("a") || lead("c") || lead("d") {
		t.Error("the living one with the lowest ID leads")
	}
	fleet[1].Draining = true
	if !lead("c") || lead("b") {
		t.Error("one that is about to stop gives it up")
	}
	fleet[0].Draining = true
	if !lead("b") || lead("c") {
		t.Error("somebody leads while there is anybody")
	}
}
