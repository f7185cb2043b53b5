package ebs

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"snapferry/transfer"
)

const (
	// slowdown is what a throttle leaves of the rate: 0.7, as in CUBIC and in
	// the SDK's own adaptive mode; enough to fall below a neighbour's share
	// within a few throttles, not so much as to stand still after one.
	slowdown = 0.7
	// slowdownEvery: the requests in flight when the bucket ran dry are all
	// refused together; they are one sign, not sixty-four.
	slowdownEvery = 500 * time.Millisecond
	// recoverIn is how long the way from nothing to the full rate takes. Others
	// may be using the quota, so that it is slow beside slowdownEvery.
	recoverIn = 20 * time.Second
	// slowest is the share of the full rate that is always kept: even ten
	// other writers leave that much.
	slowest = 0.02
	// burstShare of one second's requests may go at once. Together with 95 %
	// of the quota as rate no single second exceeds the quota.
	burstShare = 0.05
)

// pacer spaces requests to a rate that falls when AWS throttles and recovers
// by itself, and that can be set anew at any time. A nil pacer does not pace.
// Safe for many goroutines.
type pacer struct {
	burstOf func(perSecond float64) int

	mu      sync.Mutex
	full    rate.Limit
	lim     *rate.Limiter
	changed chan struct{} // closed when lim is replaced
	cut     time.Time     // of the last slowdown
	seen    time.Time     // when the rate was last brought up to date
}

// newPacer paces to perSecond requests; nil for a rate that is not positive.
func newPacer(perSecond float64) *pacer {
	if perSecond <= 0 {
		return nil
	}
	return pacerOf(perSecond, requestBurst)
}

// newBytePacer paces to bytesPerSecond, a block being the least it lets go.
func newBytePacer(bytesPerSecond int64) *pacer {
	if bytesPerSecond <= 0 {
		return nil
	}
	return pacerOf(float64(bytesPerSecond), byteBurst)
}

// pacerOf is a pacer that set can change; a rate that is not positive is none.
func pacerOf(perSecond float64, burstOf func(float64) int) *pacer {
	full := limitOf(perSecond)
	return &pacer{burstOf: burstOf, full: full, lim: rate.NewLimiter(full, burstOf(perSecond)), changed: make(chan struct{})}
}

func limitOf(perSecond float64) rate.Limit {
	if perSecond <= 0 {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

func requestBurst(perSecond float64) int { return max(1, int(perSecond*burstShare)) }

// byteBurst is a tenth of a second of data: short enough that a link which is
// shaped elsewhere to the same rate does not overflow.
func byteBurst(bytesPerSecond float64) int {
	return int(min(max(transfer.BlockSize, bytesPerSecond/10), math.MaxInt32))
}

// set changes the full rate, at once: those that wait for a turn at the old
// rate are given one at the new. What a throttle took away stays taken.
func (p *pacer) set(perSecond float64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := limitOf(perSecond)
	if full == p.full {
		return
	}
	now = p.latest(now)
	limit := full
	if p.full != rate.Inf && p.lim.Limit() < p.full {
		limit = min(full, p.lim.Limit())
	}
	// A limiter of its own, as turns that were given out at the old rate would
	// be a debt in the new one; with what the old one had to spare, as rates
	// that are set often must not give a burst each time.
	burst := p.burstOf(perSecond)
	lim := rate.NewLimiter(limit, burst)
	if spare := int(min(max(0, p.lim.TokensAt(now)), float64(burst))); limit != rate.Inf && p.full != rate.Inf {
		lim.ReserveN(now, burst-spare)
	}
	p.full, p.lim, p.seen = full, lim, now
	close(p.changed)
	p.changed = make(chan struct{})
}

// latest keeps times in order: callers read the clock before they have the lock.
func (p *pacer) latest(now time.Time) time.Time {
	if p.seen.After(now) {
		return p.seen
	}
	return now
}

// wait returns when n may go.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p == nil {
		return ctx.Err()
	}
	for ctx.Err() == nil {
		turn, changed := p.reserve(time.Now(), n)
		if again, err := await(ctx, turn, changed); !again {
			return err
		}
	}
	return ctx.Err()
}

// reserve takes a turn; changed tells that it is worth nothing any more.
func (p *pacer) reserve(now time.Time, n int) (turn *rate.Reservation, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now = p.latest(now)
	p.recover(now)
	return p.lim.ReserveN(now, min(n, p.lim.Burst())), p.changed
}

// await waits for a turn. again: another must be taken.
func await(ctx context.Context, turn *rate.Reservation, changed <-chan struct{}) (again bool, err error) {
	delay := turn.Delay()
	if delay <= 0 {
		return false, nil
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < delay {
		turn.Cancel()
		return false, context.DeadlineExceeded // the turn would come after ctx's deadline
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return false, nil
	case <-changed:
		return true, nil
	case <-ctx.Done():
		turn.Cancel()
		return false, ctx.Err()
	}
}

// throttled says that AWS refused a request for its rate.
func (p *pacer) throttled(now time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full == rate.Inf || now.Sub(p.cut) < slowdownEvery {
		return
	}
	now = p.latest(now)
	p.cut, p.seen = now, now
	p.lim.SetLimitAt(now, max(p.full*slowest, p.lim.Limit()*slowdown))
}

// adjust brings the rate up to what the time since the slowdown has earned.
func (p *pacer) adjust(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recover(p.latest(now))
}

// recover is adjust under p.mu.
func (p *pacer) recover(now time.Time) {
	if p.lim.Limit() >= p.full {
		return
	}
	// Not with every request: a limiter that is set anew loses fractions.
	since := now.Sub(p.seen)
	if since < slowdownEvery {
		return
	}
	p.seen = now
	gain := p.full * rate.Limit(float64(since)/float64(recoverIn))
	p.lim.SetLimitAt(now, min(p.full, p.lim.Limit()+gain))
}

func (p *pacer) rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(p.lim.Limit())
}
