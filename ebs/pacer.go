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
// by itself. A nil pacer does not pace. Safe for many goroutines.
type pacer struct {
	full rate.Limit
	lim  *rate.Limiter

	mu   sync.Mutex
	cut  time.Time // of the last slowdown
	seen time.Time // when the rate was last brought up to date
}

// newPacer paces to perSecond requests; nil for a rate that is not positive.
func newPacer(perSecond float64) *pacer {
	if perSecond <= 0 {
		return nil
	}
	burst := max(1, int(perSecond*burstShare))
	return &pacer{full: rate.Limit(perSecond), lim: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// newBytePacer paces to bytesPerSecond, a block being the least it lets go.
func newBytePacer(bytesPerSecond int64) *pacer {
	if bytesPerSecond <= 0 {
		return nil
	}
	// A tenth of a second of data: short enough that a link which is shaped
	// elsewhere to the same rate does not overflow.
	burst := max(transfer.BlockSize, bytesPerSecond/10)
	lim := rate.NewLimiter(rate.Limit(bytesPerSecond), int(min(burst, math.MaxInt32)))
	return &pacer{full: lim.Limit(), lim: lim}
}

// wait returns when n may go.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p == nil {
		return ctx.Err()
	}
	p.adjust(time.Now())
	if err := p.lim.WaitN(ctx, n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return context.DeadlineExceeded // the turn would come after ctx's deadline
	}
	return nil
}

// throttled says that AWS refused a request for its rate.
func (p *pacer) throttled(now time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.cut) < slowdownEvery {
		return
	}
	p.cut, p.seen = now, now
	p.lim.SetLimitAt(now, max(p.full*slowest, p.lim.Limit()*slowdown))
}

// adjust brings the rate up to what the time since the slowdown has earned.
func (p *pacer) adjust(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
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

func (p *pacer) rate() float64 { return float64(p.lim.Limit()) }
