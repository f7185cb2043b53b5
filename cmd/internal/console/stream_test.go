package console_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
)

// tape is a backend with events and one run, which counts what it is asked.
type tape struct {
	stub
	mu     sync.Mutex
	events []schedule.Event
	lines  []schedule.LogLine
	run    schedule.Run
	asked  int
	fail   error
}

func newTape(events int) *tape {
	b := &tape{run: schedule.Run{ID: 7, State: schedule.RunRunning}}
	b.happen(events)
	return b
}

func (b *tape) happen(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		id := int64(len(b.events) + 1)
		b.events = append(b.events, schedule.Event{ID: id, Kind: schedule.EventRunEnd, Text: fmt.Sprintf("event %d\nof two lines", id)})
	}
}

func (b *tape) write(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		b.lines = append(b.lines, schedule.LogLine{Run: 7, Seq: int64(len(b.lines) + 1), Level: "info", Text: "line"})
	}
}

func (b *tape) set(f func(*schedule.Run)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.run)
}

func after[T any](all []T, id func(T) int64, behind int64, limit int) (out []T) {
	for _, v := range all {
		if id(v) > behind && len(out) < limit {
			out = append(out, v)
		}
	}
	return out
}

func (b *tape) Events(_ context.Context, behind int64, limit int) ([]schedule.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return after(b.events, func(e schedule.Event) int64 { return e.ID }, behind, limit), b.fail
}

func (b *tape) LastEvent(context.Context) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.events)), nil
}

func (b *tape) Run(_ context.Context, id int64) (schedule.Run, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id != b.run.ID {
		return schedule.Run{}, schedule.ErrNotFound
	}
	return b.run, nil
}

func (b *tape) RunLog(_ context.Context, _, behind int64, limit int) ([]schedule.LogLine, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return after(b.lines, func(l schedule.LogLine) int64 { return l.Seq }, behind, limit), nil
}

func (b *tape) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// reader is one that follows a stream, as its ResponseWriter.
type reader struct {
	mu     sync.Mutex
	header http.Header
	status int
	text   bytes.Buffer
	done   bool
	hold   chan struct{} // what is written waits for it, when there is one
	cancel context.CancelFunc
}

func (w *reader) Header() http.Header { return w.header }
func (w *reader) WriteHeader(s int)   { w.mu.Lock(); w.status = s; w.mu.Unlock() }
func (w *reader) Flush()              {}
func (w *reader) Write(p []byte) (int, error) {
	w.mu.Lock()
	hold := w.hold
	w.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *reader) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// got is what came, in short: ids, and names of what has none.
func (w *reader) got() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for message := range strings.SplitSeq(w.text.String(), "\n\n") {
		id, event, data := "", "", false
		for line := range strings.SplitSeq(message, "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "id":
				id = value
			case "event":
				event = value
			case "data":
				data = true
			case ":":
				out = append(out, "beat")
			}
		}
		if data {
			out = append(out, event+id)
		}
	}
	return strings.Join(out, " ")
}

// follow reads a stream in the background.
func follow(t *testing.T, s http.Handler, path string, header map[string]string) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &reader{header: http.Header{}, cancel: cancel}
	h := map[string]string{"Accept": "text/event-stream"}
	for k, v := range header {
		h[k] = v
	}
	q := request{method: "GET", path: path, header: h, token: viewer}
	if h["Cookie"] != "" {
		q.token = ""
	}
	go func() {
		s.ServeHTTP(w, q.make(ctx))
		w.mu.Lock()
		w.done = true
		w.mu.Unlock()
	}()
	return w
}

func streamed(b console.Backend) *console.Server {
	c := config(b)
	c.Poll = time.Second
	return console.New(c)
}

func ids(from, to int) string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return strings.Join(out, " ")
}

func pass(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

func TestReadersOfEventsShareOnePoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTape(3)
		s := streamed(b)
		var readers []*reader
		for range 20 {
			readers = append(readers, follow(t, s, "/api/v1/events", nil))
		}
		pass(100 * time.Millisecond)
		asked := b.count()
		b.happen(2)
		pass(time.Second)
		if n := b.count() - asked; n != 1 {
			t.Errorf("20 readers took %d queries in a second", n)
		}
		late := follow(t, s, "/api/v1/events?after=1", nil)
		again := follow(t, s, "/api/v1/events?after=1", map[string]string{"Last-Event-ID": "4"})
		ahead := follow(t, s, "/api/v1/events?after=999", nil)
		pass(time.Second)
		b.happen(1200)
		pass(time.Second)
		for i, r := range readers {
			if got := r.got(); got != ids(4, 1205) {
				t.Fatalf("reader %d got %.80s…", i, got)
			}
		}
		for name, c := range map[string][2]string{"late": {late.got(), ids(2, 1205)}, "again": {again.got(), ids(5, 1205)}, "ahead": {ahead.got(), ids(6, 1205)}} {
			if c[0] != c[1] {
				t.Errorf("%s got %.60s…, want %.60s…", name, c[0], c[1])
			}
		}
		if h := readers[0].header; h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("header: %v", h)
		}
		for _, r := range append(readers, late, again, ahead) {
			r.cancel()
		}
		pass(2 * time.Second)
		if topics, running := s.Followed(); topics != 0 || running {
			t.Errorf("nobody reads, and %d topics are followed (%v)", topics, running)
		}
		asked = b.count()
		pass(10 * time.Second)
		if n := b.count() - asked; n != 0 {
			t.Errorf("nobody reads, and %d queries are made", n)
		}
		r := follow(t, s, "/api/v1/events", nil)
		pass(time.Second)
		b.happen(1)
		pass(time.Second)
		if r.got() != "1206" {
			t.Errorf("after a pause: %s", r.got())
		}
		s.Close()
		synctest.Wait()
	})
}

func TestQuietStreamsBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTape(0)
		s := streamed(b)
		r := follow(t, s, "/api/v1/events", nil)
		pass(46 * time.Second)
		if r.got() != "beat beat beat" {
			t.Errorf("46 quiet seconds: %q", r.got())
		}
		// A database that fails for a while is ridden out.
		b.mu.Lock()
		b.fail = fmt.Errorf("gone for lunch")
		b.mu.Unlock()
		b.happen(1)
		pass(5 * time.Second)
		b.mu.Lock()
		b.fail = nil
		b.mu.Unlock()
		pass(2 * time.Second)
		if r.got() != "beat beat beat 1" {
			t.Errorf("after a failure: %q", r.got())
		}
		s.Close()
		synctest.Wait()
		if topics, running := s.Followed(); !r.over() || running {
			t.Errorf("after Close: over %v, %d topics, running %v", r.over(), topics, running)
		}
		refused := follow(t, s, "/api/v1/events", nil)
		synctest.Wait()
		if refused.status != http.StatusServiceUnavailable {
			t.Errorf("after Close: %d", refused.status)
		}
	})
}

func TestSlowReadersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTape(0)
		s := streamed(b)
		slow := follow(t, s, "/api/v1/events", nil)
		quick := follow(t, s, "/api/v1/events", nil)
		synctest.Wait()
		hold := make(chan struct{})
		slow.mu.Lock()
		slow.hold = hold
		slow.mu.Unlock()
		for range 60 {
			b.happen(1)
			pass(time.Second)
		}
		close(hold) // reads again, and is told that it has missed something
		pass(time.Second)
		if !slow.over() {
			t.Error("the slow reader is not dropped")
		}
		if got := strings.ReplaceAll(quick.got(), "beat ", ""); got != ids(1, 60) {
			t.Errorf("the quick reader got %s", got)
		}
		got := strings.ReplaceAll(slow.got(), "beat ", "")
		if !strings.HasPrefix(ids(1, 60), got) || got == "" || got == ids(1, 60) {
			t.Errorf("the slow reader got %s", got)
		}
		s.Close()
		synctest.Wait()
	})
}

func TestTheLogOfARunIsFollowedToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTape(0)
		b.write(2)
		s := streamed(b)
		r := follow(t, s, "/api/v1/runs/7/log", nil)
		other := follow(t, s, "/api/v1/runs/7/log?after=1", nil)
		pass(1500 * time.Millisecond)
		b.write(700)
		b.set(func(r *schedule.Run) { r.Report.Step = "seal" })
		pass(time.Second)
		b.set(func(r *schedule.Run) { r.State = schedule.RunDone })
		pass(900 * time.Millisecond)
		b.write(1) // behind its end
		late := follow(t, s, "/api/v1/runs/7/log", map[string]string{"Last-Event-ID": "700"})
		pass(3 * time.Second)
		ending := "run 703 end"
		if got := r.got(); !strings.HasPrefix(got, "1 2 run 3 4 ") || !strings.HasSuffix(got, ending) || strings.Count(got, "run") != 3 || !r.over() {
			t.Errorf("the log: %.30s … %s, over %v", got, got[max(0, len(got)-60):], r.over())
		}
		if got := other.got(); !strings.HasPrefix(got, "2 ") && !strings.HasPrefix(got, "run 2 ") {
			t.Errorf("the other: %.30s", got)
		}
		if got := late.got(); !strings.HasSuffix(got, "703 run end") || strings.Contains(got, " 700 ") || !strings.Contains(got, "701 702") {
			t.Errorf("the late one: %s", got)
		}
		again := follow(t, s, "/api/v1/runs/7/log", map[string]string{"Last-Event-ID": "703"})
		whole := follow(t, s, "/api/v1/runs/7/log", nil)
		beyond := follow(t, s, "/api/v1/runs/7/log?after=5000", nil)
		pass(3 * time.Second)
		if again.status != http.StatusNoContent {
			t.Errorf("who has all gets %d", again.status)
		}
		for name, r := range map[string]*reader{"whole": whole, "beyond": beyond} {
			if got := r.got(); !r.over() || !strings.HasSuffix(got, "703 run end") || strings.Count(got, " ") != 704 {
				t.Errorf("%s: %.30s…%s, over %v", name, got, got[max(0, len(got)-30):], r.over())
			}
		}
		none := follow(t, s, "/api/v1/runs/8/log", nil)
		synctest.Wait()
		if none.status != http.StatusNotFound {
			t.Errorf("no such run: %d", none.status)
		}
		s.Close()
		synctest.Wait()
	})
}

func TestStreamsEndWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := streamed(newTape(0))
		in := httptest.NewRecorder()
		s.ServeHTTP(in, request{method: "POST", path: "/login", body: `{"token":"` + viewer + `"}`}.make(t.Context()))
		cookie := in.Result().Cookies()[0]
		header := map[string]string{"Cookie": cookie.Name + "=" + cookie.Value}
		r := follow(t, s, "/api/v1/events", header)
		pass(5 * time.Hour) // an open page keeps its session
		if r.over() {
			t.Fatal("the stream ended by itself")
		}
		header["Sec-Fetch-Site"] = "same-origin"
		s.ServeHTTP(httptest.NewRecorder(), request{method: "POST", path: "/logout", header: header}.make(t.Context()))
		pass(16 * time.Second)
		if !r.over() {
			t.Error("the stream outlives its session")
		}
		s.Close()
		synctest.Wait()
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := streamed(newTape(0))
		for range console.MaxStreams {
			follow(t, s, "/api/v1/events", nil)
		}
		synctest.Wait()
		r := follow(t, s, "/api/v1/events", nil)
		synctest.Wait()
		if r.status != http.StatusServiceUnavailable {
			t.Errorf("one too many: %d", r.status)
		}
		s.Close()
		synctest.Wait()
	})
}

// TestStreamsOverHTTP: what is sent arrives at once, and shutting the server
// down does not wait for readers.
func TestStreamsOverHTTP(t *testing.T) {
	b := newTape(1)
	c := config(b)
	s := console.New(c)
	l, err := console.Listen("127.0.0.1:0", console.ListenOptions{})
	must(t, err)
	h := s.HTTP()
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	q, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/api/v1/events?after=0", nil)
	must(t, err)
	q.Header.Set("Accept", "text/event-stream")
	q.Header.Set("Authorization", "Bearer "+viewer)
	got, err := http.DefaultClient.Do(q)
	must(t, err)
	lines := bufio.NewScanner(got.Body)
	for want := range strings.SplitSeq("retry: 3000,,id: 1,data: {", ",") {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("got %q, want %q: %v", lines.Text(), want, lines.Err())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Errorf("shut down: %v", err)
	}
	for lines.Scan() {
	}
	if err := got.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
}
