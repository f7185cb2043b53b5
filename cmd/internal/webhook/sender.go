package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"snapferry/schedule"
)

// Source is where events come from; *service.Service is one.
type Source interface {
	// Events are those behind an ID, ascending, at most limit.
	Events(ctx context.Context, after int64, limit int) ([]schedule.Event, error)
	// LastEvent is the highest ID, 0 without any.
	LastEvent(ctx context.Context) (int64, error)
}

// Config is what a Sender is made of.
type Config struct {
	Hooks  []Hook
	Source Source
	Cursor Cursor
	// Leader reports whether this appliance is the one that sends; nil is
	// always. It is asked before every request and should not block.
	Leader func() bool

	Appliance, Version string       // of this program
	Log                *slog.Logger // nil is slog.Default
	// Client is used instead of each hook's own, which follows HTTPS_PROXY and
	// NO_PROXY and trusts Hook.CA. Redirects are not followed either way.
	Client *http.Client

	// Observe is told of every attempt, for metrics. May be nil.
	Observe func(hook string, r Result)
	// GivenUp is told of an event that will not be delivered, Well when a hook
	// has taken everything for a while, after a start too: to raise and clear an
	// alarm. Both may be nil, and must not block.
	GivenUp func(hook string, e schedule.Event, cause error)
	Well    func(hook string)

	Timing Timing
}

// Result is what came of an attempt.
type Result string

// The results.
const (
	Delivered Result = "delivered"
	Retried   Result = "retried"  // failed, and is tried again
	GivenUp   Result = "given-up" // failed, and is not
)

// Timing are the waits; those that are 0 have the defaults that stand beside
// them.
type Timing struct {
	Poll time.Duration // 2 s: how late an event may be told
	// RetryFirst and RetryMax bound the pauses between tries, which double; 2 s
	// and 5 m: a receiver that restarts is met soon, one that is away for a night
	// is asked a hundred times.
	RetryFirst, RetryMax time.Duration
	// Patience is how old an event gets before a receiver that cannot take it
	// misses it; 24 h: a working day to repair it. Each is tried once at least.
	Patience time.Duration
	// RetryAfter is the longest wait that a receiver may ask for; 1 h.
	RetryAfter time.Duration
	// Tries of an event that the receiver refuses; 6: a minute, in which a proxy
	// that restarts may answer 404.
	Tries int
	// Settle is how long an event waits behind a gap in the IDs; 10 s: PostgreSQL
	// gives IDs before a transaction ends, and a lower one may show up later.
	Settle time.Duration
	// Farewell is how long a request that is under way may take at the end; 5 s.
	Farewell time.Duration
	// Quiet is how long nothing must have been given up before Well is told;
	// 1 h: an alarm that comes and goes with every event is none.
	Quiet time.Duration
}

func (t *Timing) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&t.Poll, 2*time.Second)
	set(&t.RetryFirst, 2*time.Second)
	set(&t.RetryMax, 5*time.Minute)
	set(&t.Patience, 24*time.Hour)
	set(&t.RetryAfter, time.Hour)
	set(&t.Settle, 10*time.Second)
	set(&t.Farewell, 5*time.Second)
	set(&t.Quiet, time.Hour)
	if t.Tries <= 0 {
		t.Tries = 6
	}
}

const defaultTimeout = 15 * time.Second

// Sender delivers events to all hooks.
type Sender struct {
	lanes []*lane
}

// New checks the hooks and reads their authorities; it sends nothing yet. Its
// errors tell no secret.
func New(c Config) (*Sender, error) {
	if c.Source == nil || c.Cursor == nil {
		return nil, errors.New("set up webhooks: Source and Cursor are needed")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Leader == nil {
		c.Leader = func() bool { return true }
	}
	c.Timing.defaults()
	s, seen := &Sender{}, map[string]bool{}
	for _, h := range c.Hooks {
		if err := h.check(); err != nil {
			return nil, err
		}
		if seen[h.Name] {
			return nil, fmt.Errorf("webhook %s: two have this name", h.Name)
		}
		seen[h.Name] = true
		l, err := newLane(c, h)
		if err != nil {
			return nil, err
		}
		s.lanes = append(s.lanes, l)
	}
	return s, nil
}

// Run delivers until ctx ends; a request that is under way then may take
// Timing.Farewell. It returns nil.
func (s *Sender) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, l := range s.lanes {
		all.Go(func() { l.run(ctx) })
	}
	all.Wait()
	return nil
}

// Status is how the hooks stand, in their order.
func (s *Sender) Status() []Status {
	var list []Status
	for _, l := range s.lanes {
		list = append(list, l.status())
	}
	return list
}

// Status is how a hook stands, since the start of this process.
type Status struct {
	Name      string    `json:"name"`
	Cursor    int64     `json:"cursor"` // the last event that it is done with
	Delivered int64     `json:"delivered"`
	Retried   int64     `json:"retried"`
	GivenUp   int64     `json:"givenUp"`
	Failing   time.Time `json:"failing"` // since when its requests fail; zero when they do not
	LastError string    `json:"lastError,omitempty"`
}

// client is a hook's own: its connections are nobody else's business.
func (h Hook) client(shared *http.Client) (*http.Client, error) {
	c := &http.Client{}
	if shared != nil {
		*c = *shared
	} else {
		pool, err := h.pool()
		if err != nil {
			return nil, err
		}
		t := http.DefaultTransport.(*http.Transport).Clone() // with ProxyFromEnvironment
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		t.MaxIdleConnsPerHost = 1 // one event at a time
		c.Transport = t
	}
	// What is sent is meant for who was named, not for whom that one names.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}
