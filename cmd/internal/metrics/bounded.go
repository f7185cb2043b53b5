package metrics

import (
	"sync"
	"time"
)

// other stands for every value behind a label's bound.
const other = "other"

// bounded lets the first so many different values of a label through.
type bounded struct {
	mu   sync.Mutex
	max  int
	seen map[string]bool
}

func newBounded(n int) *bounded { return &bounded{max: n, seen: map[string]bool{}} }

func (b *bounded) value(s string) string {
	if s == "" {
		return other
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.seen[s]:
		return s
	case len(b.seen) >= b.max:
		return other
	}
	b.seen[s] = true
	return s
}

// lockedValue is a value that is reckoned anew when it is old.
type lockedValue struct {
	mu sync.Mutex
	at time.Time
	v  float64
}

func (l *lockedValue) get(now time.Time, keep time.Duration, f func() float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := now.Sub(l.at); l.at.IsZero() || age < 0 || age >= keep {
		l.v, l.at = f(), now
	}
	return l.v
}
