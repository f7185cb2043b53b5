package ebs

import (
	"context"
	"sync"
	"time"
)

// gate bounds how many puts are under way at once. On an uplink that is too
// slow for that many each of them takes longer than the service waits for a
// body, and all fail: the bound then falls until one put takes less than slow,
// and rises again while puts are quick. Waiters are served in order.
type gate struct {
	max  int
	slow time.Duration

	mu      sync.Mutex
	limit   int
	held    int
	waiting []chan struct{} // closed when the waiter holds a place
	credit  int             // quick puts toward the next rise
	cut     time.Time       // of the last fall
	done    int64           // puts acknowledged so far
}

// place is one put under way.
type place struct {
	began time.Time
	done  int64 // acknowledged when it began
}

func newGate(places int, slow time.Duration) *gate {
	return &gate{max: places, slow: slow, limit: places}
}

// enter returns when there is a place.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	if g.held < g.limit && len(g.waiting) == 0 {
		g.held++
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == turn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	// The place was given while ctx ended: pass it on.
	g.held--
	g.admit()
	return ctx.Err()
}

// outcome is what one put says about the uplink.
type outcome int

const (
	unclear   outcome = iota // failed for another reason, or was cancelled
	quick                    // acknowledged; how quick is for the gate to say
	maybeSlow                // no answer in time: slow uplink, or a lost request
	slow                     // the service says that the body came too slowly
)

// begin says that a put which has entered is sent at now.
func (g *gate) begin(now time.Time) place {
	g.mu.Lock()
	defer g.mu.Unlock()
	return place{now, g.done}
}

// leave gives the place back at now.
func (g *gate) leave(p place, now time.Time, o outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	g.learn(p, now, o)
	g.admit()
}

func (g *gate) learn(p place, now time.Time, o outcome) {
	switch took := now.Sub(p.began); {
	case o == quick:
		g.done++
		if took > g.slow {
			g.fall(p.began, now)
		} else if took < g.slow/2 {
			g.rise()
		}
	case o == slow:
		g.fall(p.began, now)
	case o == maybeSlow && g.done-p.done < int64(g.limit):
		// Where a whole round of others went through meanwhile, this one was
		// lost on the way (a few are) and says nothing about the uplink.
		g.fall(p.began, now)
	}
}

// fall halves the bound: the time of one put goes with the number of those that
// share the uplink. Puts sent before the last fall still show the old bound.
func (g *gate) fall(began, now time.Time) {
	if began.Before(g.cut) {
		return
	}
	g.limit, g.cut, g.credit = max(1, g.limit/2), now, 0
}

// rise adds one place after as many quick puts as there are places, so that
// it probes about once a round.
func (g *gate) rise() {
	if g.limit >= g.max {
		return
	}
	if g.credit++; g.credit >= g.limit {
		g.limit, g.credit = g.limit+1, 0
	}
}

// admit hands free places to waiters; g.mu is held.
func (g *gate) admit() {
	for g.held < g.limit && len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.held++
	}
}

// places is the present bound.
func (g *gate) places() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}
