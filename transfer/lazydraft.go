package transfer

import (
	"sync"

	"snapferry/transfer/manifest"
)

// lazyDraft is a draft that starts when the first block needs it, so that a
// cycle in which every block turns out identical starts none.
type lazyDraft struct {
	once    sync.Once
	err     error
	spec    DraftSpec
	asked   bool // StartSnapshot may have had an effect
	resumed bool // the draft is of an earlier freeze
	sealing bool // the seal has begun: EC2 may complete the draft at any time
	spoiled bool // it can never be sealed
	sealed  bool
	draft   Draft
	journal *manifest.Table
}

// open starts the draft with the first call; every call returns the outcome of
// that one.
func (l *lazyDraft) open(start func() error) (Draft, *manifest.Table, error) {
	l.once.Do(func() { l.err = start() })
	return l.draft, l.journal, l.err
}

// takeUp makes a draft that was started before the one of this cycle.
func (l *lazyDraft) takeUp(draft Draft, journal *manifest.Table, spec DraftSpec) {
	l.once.Do(func() {})
	l.draft, l.journal, l.spec = draft, journal, spec
	l.asked, l.resumed = true, true
}
