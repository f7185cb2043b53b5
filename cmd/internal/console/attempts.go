package console

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// wrongTokens from one address may come at once; then one in
	// wrongTokenEvery. A person mistypes a few times; a token of 256 bits is
	// not found at any rate, but a word that somebody chose is.
	wrongTokens     = 10
	wrongTokenEvery = 10 * time.Second
	// maxAddresses bounds what is remembered, some 300 bytes each; the one
	// that was quiet longest is forgotten first.
	maxAddresses = 10_000
)

// attempts counts wrong tokens by address.
type attempts struct {
	now func() time.Time

	mu    sync.Mutex
	all   map[string]*list.Element // of *attempt
	order *list.List               // the most recent in front
}

type attempt struct {
	from  string
	limit *rate.Limiter
	// known are the tokens that were right from here before: what others try
	// from behind the same proxy does not lock their holders out.
	known map[*door]bool
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, all: map[string]*list.Element{}, order: list.New()}
}

// network is what counts as one address: hosts have a whole /64 of IPv6.
func network(from string) string {
	a, err := netip.ParseAddr(from)
	if err != nil || !a.Is6() || a.Is4In6() {
		return from
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return from
	}
	return p.String()
}

// of finds or makes the entry of an address; the lock is held.
func (a *attempts) of(from string) *attempt {
	from = network(from)
	if e := a.all[from]; e != nil {
		a.order.MoveToFront(e)
		return e.Value.(*attempt)
	}
	if a.order.Len() >= maxAddresses {
		last := a.order.Back()
		delete(a.all, last.Value.(*attempt).from)
		a.order.Remove(last)
	}
	x := &attempt{from: from, limit: rate.NewLimiter(rate.Every(wrongTokenEvery), wrongTokens), known: map[*door]bool{}}
	a.all[from] = a.order.PushFront(x)
	return x
}

// judge says whether an attempt with the token of d (nil: a wrong one) counts.
// Once an address has used up its wrong ones, a right token that was not seen
// from there before does not help either.
func (a *attempts) judge(from string, d *door) (blocked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x, now := a.of(from), a.now()
	switch {
	case d == nil:
		return !x.limit.AllowN(now, 1)
	case x.known[d]:
		return false
	case x.limit.TokensAt(now) < 1:
		return true
	}
	x.known[d] = true
	return false
}
