package webhook

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"snapferry/schedule"
)

// lane is one hook's way through the events. One goroutine runs it.
type lane struct {
	Config
	hook   Hook
	key    []byte
	client *http.Client
	log    *slog.Logger

	loaded   bool
	at       int64 // the last event that is done with
	saved    int64 // what the cursor has; noCursor where it has none
	streak   int   // failures in a row
	heldID   int64 // of an event behind a gap
	heldFrom time.Time
	lastLost time.Time // when an event was given up last
	well     bool      // Well was told since

	mu sync.Mutex
	st Status
}

func newLane(c Config, h Hook) (*lane, error) {
	key, err := h.Secret.key()
	if err != nil {
		return nil, errors.New("webhook " + h.Name + ": " + err.Error())
	}
	client, err := h.client(c.Client)
	if err != nil {
		return nil, err
	}
	if h.Timeout == 0 {
		h.Timeout = defaultTimeout
	}
	return &lane{Config: c, hook: h, key: key, client: client, log: c.Log.With("hook", h.Name), st: Status{Name: h.Name}}, nil
}

func (l *lane) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st
}

func (l *lane) note(f func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.st)
}

// run works until ctx ends.
func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := l.round(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			l.log.Warn("webhook: go through the events", "error", err)
			sleep(ctx, l.pause(l.Timing.RetryFirst))
		case !more:
			sleep(ctx, l.Timing.Poll)
		}
	}
	// What was delivered should not be so again, even now.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Timing.Farewell)
	defer cancel()
	if err := l.save(last); err != nil {
		l.log.Warn("webhook: some events will be delivered again", "error", err)
	}
}

// batch is how many events are read at once.
const batch = 100

// round takes the next events; more is true when there may be others already.
func (l *lane) round(ctx context.Context) (more bool, err error) {
	if !l.Leader() {
		if l.loaded {
			l.log.Info("webhook: another appliance sends from now on")
		}
		l.loaded = false
		return false, nil
	}
	if err := l.load(ctx); err != nil {
		return false, err
	}
	events, err := l.Source.Events(ctx, l.at, batch)
	if err != nil {
		return false, err
	}
	for _, e := range events {
		if l.holds(e) {
			return false, l.save(ctx)
		}
		if l.hook.wants(e.Kind) {
			if !l.deliver(ctx, e) {
				return false, nil
			}
			l.done(e)
			if err := l.save(ctx); err != nil {
				return false, err
			}
			continue
		}
		l.done(e)
	}
	return len(events) == batch, l.save(ctx)
}

func (l *lane) done(e schedule.Event) {
	l.at = e.ID
	l.note(func(s *Status) { s.Cursor = e.ID })
}

// load reads where to go on; a hook that is new begins behind the events that
// there are.
func (l *lane) load(ctx context.Context) error {
	if l.loaded {
		return nil
	}
	at, ok, err := l.Cursor.Load(ctx, l.hook.Name)
	if err != nil {
		return err
	}
	last, err := l.Source.LastEvent(ctx)
	if err != nil {
		return err
	}
	l.saved = at
	switch {
	case !ok:
		at, l.saved = last, noCursor
	case at > last:
		// The events of another database, or all of them have expired.
		l.log.Warn("webhook: the cursor is ahead of the newest event: going on from that one", "cursor", at, "newest", last)
		at = last
	}
	l.at, l.heldID = at, 0
	if err := l.save(ctx); err != nil {
		return err
	}
	l.loaded = true
	l.note(func(s *Status) { s.Cursor = at })
	return nil
}

// save moves the cursor, unless it is there already.
func (l *lane) save(ctx context.Context) error {
	if l.at == l.saved {
		return nil
	}
	err := l.Cursor.Save(ctx, l.hook.Name, l.saved, l.at)
	switch {
	case errors.Is(err, ErrMoved):
		l.loaded = false // another appliance has taken over; read anew
		l.saved = l.at
		return err
	case err != nil:
		return err
	}
	l.saved = l.at
	return nil
}

// holds reports whether an event should wait a moment for one with a lower ID
// that may still show up.
func (l *lane) holds(e schedule.Event) bool {
	now := time.Now()
	if e.ID <= l.at+1 || now.Sub(e.At) > 6*l.Timing.Settle {
		return false
	}
	if l.heldID != e.ID {
		l.heldID, l.heldFrom = e.ID, now
	}
	return now.Sub(l.heldFrom) < l.Timing.Settle
}

// deliver sends an event until it is delivered or given up; false means that
// the time for either has not come: ctx ended, or another appliance leads.
func (l *lane) deliver(ctx context.Context, e schedule.Event) bool {
	for try := 1; ; try++ {
		if ctx.Err() != nil || !l.Leader() {
			return false
		}
		a := l.attempt(ctx, e)
		if a.err == nil {
			l.delivered()
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if a.hopeless || (a.refused && try >= l.Timing.Tries) || (!a.refused && time.Since(e.At) > l.Timing.Patience) {
			l.giveUp(e, try, a)
			return true
		}
		wait := max(l.pause(l.backoff()), min(a.after, l.Timing.RetryAfter))
		l.streak++
		l.failed(Retried, a.err)
		l.log.Warn("webhook: not delivered", "event", e.ID, "kind", e.Kind, "try", try, "error", a.err, "again", wait.Round(time.Millisecond))
		sleep(ctx, wait)
	}
}

func (l *lane) delivered() {
	l.streak = 0
	l.note(func(s *Status) { s.Delivered++; s.Failing, s.LastError = time.Time{}, "" })
	l.observe(Delivered)
	if l.Well != nil && !l.well && (l.lastLost.IsZero() || time.Since(l.lastLost) >= l.Timing.Quiet) {
		l.well = true
		l.Well(l.hook.Name)
	}
}

func (l *lane) failed(r Result, err error) {
	l.note(func(s *Status) {
		if s.Failing.IsZero() {
			s.Failing = time.Now()
		}
		s.LastError = err.Error()
		if r == Retried {
			s.Retried++
		} else {
			s.GivenUp++
		}
	})
	l.observe(r)
}

func (l *lane) giveUp(e schedule.Event, try int, a answer) {
	if a.refused || a.hopeless {
		l.streak = 0 // it answers; the next event may suit it better
	} else {
		l.streak++
	}
	l.lastLost, l.well = time.Now(), false
	l.failed(GivenUp, a.err)
	l.log.Error("webhook: event given up", "event", e.ID, "kind", e.Kind, "tries", try, "error", a.err)
	if l.Config.GivenUp != nil {
		l.Config.GivenUp(l.hook.Name, e, a.err)
	}
}

func (l *lane) observe(r Result) {
	if l.Observe != nil {
		l.Observe(l.hook.Name, r)
	}
}

// backoff is the pause after so many failures in a row.
func (l *lane) backoff() time.Duration {
	d := l.Timing.RetryFirst
	for i := 0; i < l.streak && d < l.Timing.RetryMax; i++ {
		d *= 2
	}
	return min(d, l.Timing.RetryMax)
}

// pause is d less up to half of it, by chance, so that hooks with one receiver
// do not come together.
func (l *lane) pause(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
