package metrics

import (
	"sync"
	"time"

	"snapferry/transfer"
)

// totals is what a cycle has done so far, all disks together: bytes read, the
// rest in blocks.
type totals struct {
	read, put, identical, zero, resumed, audited, lost int64
}

func totalsOf(r transfer.Report) (t totals) {
	for _, d := range r.Disks {
		t.read += d.BytesRead
		t.put += d.Put
		t.identical += d.Identical
		t.zero += d.Zero
		t.resumed += d.Resumed
		if d.Audit != nil {
			t.audited += d.Audit.Blocks
			t.lost += d.Audit.Wrong
		}
	}
	return t
}

// since is what was added to before. A value that is less than it was has
// begun anew: the VM was frozen again, and the disk reads from its start.
func (t totals) since(before totals) totals {
	grown := func(now, was int64) int64 {
		if now < was {
			return now
		}
		return now - was
	}
	return totals{
		read: grown(t.read, before.read), put: grown(t.put, before.put), identical: grown(t.identical, before.identical),
		zero: grown(t.zero, before.zero), resumed: grown(t.resumed, before.resumed),
		audited: grown(t.audited, before.audited), lost: grown(t.lost, before.lost),
	}
}

// tracker remembers what of each running cycle was counted.
type tracker struct {
	now func() time.Time

	mu   sync.Mutex
	runs map[int64]tracked
}

type tracked struct {
	cycle transfer.CycleID
	done  totals
	at    time.Time
}

const (
	// manyRuns is when the tracker looks for runs that never ended here, since
	// another appliance took them over.
	manyRuns = 1000
	// silentRun is how long such a one was not heard of: a cycle tells every two
	// seconds.
	silentRun = time.Hour
)

func newTracker(now func() time.Time) *tracker { return &tracker{now: now, runs: map[int64]tracked{}} }

// advance is what is new in a report.
func (t *tracker) advance(run int64, r transfer.Report) totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, at := totalsOf(r), t.now()
	before := t.runs[run]
	if before.cycle != r.Cycle { // taken in hand anew
		before = tracked{}
	}
	if len(t.runs) >= manyRuns {
		for id, old := range t.runs {
			if at.Sub(old.at) > silentRun {
				delete(t.runs, id)
			}
		}
	}
	t.runs[run] = tracked{r.Cycle, now, at}
	return now.since(before.done)
}

func (t *tracker) forget(run int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.runs, run)
}
