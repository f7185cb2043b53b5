package ebs

import (
	"math/rand/v2"
	"time"
)

// retries is the budget of one operation. It is not safe for concurrent use:
// an operation makes one attempt at a time.
type retries struct {
	timing Timing
	end    time.Time      // of the operation
	known  time.Time      // until when a 404 may mean "not yet"
	spent  map[string]int // attempts by reason, for reasons worth only a few
	n      int            // retries so far
	jitter func() float64 // in [0,1)
}

// newRetries starts the budget of an operation at now; known is the zero time
// where a 404 is final.
func newRetries(t Timing, now, known time.Time) *retries {
	return &retries{timing: t, end: now.Add(t.Operation), known: known, jitter: rand.Float64}
}

// extend moves the end by time that was spent waiting for a turn.
func (r *retries) extend(d time.Duration) { r.end = r.end.Add(d) }

// next says whether to try again at now, and after which pause.
func (r *retries) next(v verdict, now time.Time) (pause time.Duration, again bool) {
	if v.tries == never {
		return 0, false
	}
	end := r.end
	switch {
	case v.tries == untilKnown:
		// The window is the service's own, and longer than an operation.
		end = r.known
	case v.tries > 0:
		if r.spent == nil {
			r.spent = map[string]int{}
		}
		if r.spent[v.why]++; r.spent[v.why] > v.tries {
			return 0, false
		}
	}
	pause = r.pause()
	if !now.Add(pause).Before(end) {
		return 0, false
	}
	r.n++
	return pause, true
}

// pause doubles from RetryFirst to RetryMax; the upper half of each is chance,
// so that workers that failed together do not come back together.
func (r *retries) pause() time.Duration {
	d := r.timing.RetryMax
	if r.n < 30 { // further doublings would overflow, and are past any RetryMax
		d = min(d, r.timing.RetryFirst<<r.n)
	}
	return d/2 + time.Duration(r.jitter()*float64(d/2))
}
