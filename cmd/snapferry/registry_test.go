package main

import (
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// registry knows which lab a script has: testscript's own values can only be
// set before a script begins.
type registry struct {
	mu   sync.Mutex
	labs map[*testscript.TestScript]*lab
}

func newRegistry() *registry { return &registry{labs: map[*testscript.TestScript]*lab{}} }

func (r *registry) set(ts *testscript.TestScript, l *lab) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.labs[ts] = l
	ts.Defer(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.labs, ts)
	})
}

func (r *registry) get(ts *testscript.TestScript) *lab {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.labs[ts]
}
