package aws

import (
	"math"
	"sync"

	"golang.org/x/time/rate"
)

// limits are the request rates. They follow the real clock even where
// Options.Now does not.
type limits struct {
	puts, gets, starts, completes, lists *rate.Limiter
	perPut, perGet                       perSnapshot
}

// perSnapshot keeps one limiter for each snapshot.
type perSnapshot struct {
	rate float64
	mu   *sync.Mutex
	by   map[string]*rate.Limiter
}

// newLimiter has a burst of one second, since the quotas are published as
// requests per second.
func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(math.Ceil(perSecond)))
}

func newLimits(o Options) limits {
	return limits{
		puts: newLimiter(o.PutsPerSecondPerAccount), gets: newLimiter(o.GetsPerSecondPerAccount),
		starts: newLimiter(o.StartsPerSecond), completes: newLimiter(o.CompletesPerSecond), lists: newLimiter(o.ListPerSecond),
		perPut: perSnapshot{o.PutsPerSecondPerSnapshot, new(sync.Mutex), map[string]*rate.Limiter{}},
		perGet: perSnapshot{o.GetsPerSecondPerSnapshot, new(sync.Mutex), map[string]*rate.Limiter{}},
	}
}

func (p perSnapshot) allow(id string) bool {
	if p.rate <= 0 {
		return true
	}
	p.mu.Lock()
	l := p.by[id]
	if l == nil {
		l = newLimiter(p.rate)
		p.by[id] = l
	}
	p.mu.Unlock()
	return l.Allow()
}

func allow(l *rate.Limiter) bool { return l == nil || l.Allow() }

// check reports the reason for which a call of op has to wait, or "".
func (l limits) check(op, snapshotID string) string {
	account, resource := true, true
	switch op {
	case opPut:
		resource = l.perPut.allow(snapshotID)
		account = resource && allow(l.puts) || !resource
	case opGet:
		resource = l.perGet.allow(snapshotID)
		account = resource && allow(l.gets) || !resource
	case opStart:
		account = allow(l.starts)
	case opComplete:
		account = allow(l.completes)
	case opList, opChanged:
		account = allow(l.lists)
	}
	switch {
	case !resource:
		return "RESOURCE_LEVEL_THROTTLE"
	case !account:
		return "ACCOUNT_THROTTLED"
	}
	return ""
}
