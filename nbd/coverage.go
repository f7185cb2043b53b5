package nbd

import (
	"errors"
	"slices"
)

// maxFragments bounds how many separate runs a half-received reply may have.
// Servers send a reply in order, or in a few pieces read in parallel; thousands
// of islands only serve to make the client work.
const maxFragments = 4096

var (
	errOverlap    = errors.New("overlaps bytes that were already delivered")
	errFragmented = errors.New("leaves too many gaps in the reply")
)

type span struct{ lo, hi int64 }

// coverage records which bytes of a request its reply has delivered so far:
// sorted spans that neither overlap nor touch.
type coverage struct{ spans []span }

// add notes the delivery of [lo, hi), which must not be empty.
func (c *coverage) add(lo, hi int64) error {
	i, _ := slices.BinarySearchFunc(c.spans, lo, func(s span, lo int64) int {
		if s.hi < lo {
			return -1
		}
		return 1
	})
	// spans[i] is the first that ends at lo or later.
	if i < len(c.spans) && c.spans[i].hi == lo {
		if i+1 < len(c.spans) && c.spans[i+1].lo < hi {
			return errOverlap
		}
		c.spans[i].hi = hi
		if i+1 < len(c.spans) && c.spans[i+1].lo == hi {
			c.spans[i].hi = c.spans[i+1].hi
			c.spans = slices.Delete(c.spans, i+1, i+2)
		}
		return nil
	}
	if i < len(c.spans) && c.spans[i].lo < hi {
		return errOverlap
	}
	if i < len(c.spans) && c.spans[i].lo == hi {
		c.spans[i].lo = lo
		return nil
	}
	if len(c.spans) >= maxFragments {
		return errFragmented
	}
	c.spans = slices.Insert(c.spans, i, span{lo, hi})
	return nil
}

// missing returns the first bytes of [0, n) that were not delivered.
func (c *coverage) missing(n int64) (span, bool) {
	switch {
	case n == 0:
		return span{}, false
	case len(c.spans) == 0:
		return span{0, n}, true
	case c.spans[0].lo > 0:
		return span{0, c.spans[0].lo}, true
	case c.spans[0].hi == n:
		return span{}, false
	case len(c.spans) > 1:
		return span{c.spans[0].hi, c.spans[1].lo}, true
	}
	return span{c.spans[0].hi, n}, true
}
