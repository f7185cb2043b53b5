package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// events is a source that holds what the test puts in.
type events struct {
	mu   sync.Mutex
	list []schedule.Event
	err  error
}

func (s *events) add(kinds ...schedule.EventKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range kinds {
		id := int64(1)
		if n := len(s.list); n > 0 {
			id = s.list[n-1].ID + 1
		}
		s.list = append(s.list, event(id, k))
	}
}

func (s *events) put(e schedule.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, e)
	slices.SortFunc(s.list, func(a, b schedule.Event) int { return int(a.ID - b.ID) })
}

func event(id int64, k schedule.EventKind) schedule.Event {
	return schedule.Event{ID: id, At: time.Now(), Kind: k, VM: transfer.VMID{VCenter: "7f1c", Moref: "vm-7"}, VMName: "web", Text: "happened"}
}

func (s *events) Events(_ context.Context, after int64, limit int) (out []schedule.Event, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.list {
		if e.ID > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, s.err
}

func (s *events) LastEvent(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return 0, s.err
	}
	return s.list[len(s.list)-1].ID, s.err
}

// cursors is a cursor in memory, as strict as a database's.
type cursors struct {
	mu    sync.Mutex
	at    map[string]int64
	fails int // that many Saves to come fail
}

func (c *cursors) Load(_ context.Context, hook string) (int64, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.at[hook]
	return id, ok, nil
}

func (c *cursors) Save(_ context.Context, hook string, from, to int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails > 0 {
		c.fails--
		return errors.New("the database is away")
	}
	id, ok := c.at[hook]
	if !ok {
		id = noCursor
	}
	if id != from {
		return ErrMoved
	}
	if c.at == nil {
		c.at = map[string]int64{}
	}
	c.at[hook] = to
	return nil
}

func (c *cursors) of(hook string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[hook]
}

// trip answers requests in this process, so that a test can run on the clock of
// a synctest bubble.
type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(status int, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader([]byte("no secret here")))}
}

// rig is a sender in a synctest bubble.
type rig struct {
	t       *testing.T
	src     *events
	cursors *cursors
	log     bytes.Buffer
	logMu   sync.Mutex
	sender  *Sender
	stop    func()
}

func (r *rig) Write(b []byte) (int, error) {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	return r.log.Write(b)
}

func (r *rig) logged() string {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	return r.log.String()
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, src: &events{}, cursors: &cursors{at: map[string]int64{}}}
}

// start begins with what there is; every hook is at event 0 unless it is
// somewhere else already.
func (r *rig) start(change func(*Config)) {
	r.t.Helper()
	c := Config{Source: r.src, Cursor: r.cursors, Appliance: "a1", Version: "1.2.3", Log: slog.New(slog.NewTextHandler(r, nil))}
	change(&c)
	for _, h := range c.Hooks {
		if _, ok := r.cursors.at[h.Name]; !ok {
			r.cursors.at[h.Name] = 0
		}
	}
	r.begin(c)
}

func (r *rig) begin(c Config) {
	r.t.Helper()
	s, err := New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	}()
	r.sender = s
	r.stop = func() { cancel(); <-done }
	r.t.Cleanup(r.stop)
}

// received notes the kinds of events in the order in which they were taken.
type received struct {
	mu  sync.Mutex
	ids []string
	at  []time.Time
}

func (r *received) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids, r.at = append(r.ids, id), append(r.at, time.Now())
}

func (r *received) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}
