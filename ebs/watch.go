package ebs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"snapferry/transfer"
)

// ending is what EC2 says of a snapshot; state is empty if it lists none.
type ending struct {
	state   transfer.State
	message string
}

// watcher waits for snapshots to leave the state pending. All that wait share
// one DescribeSnapshots, however many disks and VMs are sealing: EC2 counts
// calls, not snapshots. Its goroutine lives while somebody waits.
type watcher struct {
	timing Timing
	look   func(ctx context.Context, ids []transfer.SnapshotID) (map[transfer.SnapshotID]ending, error)

	mu      sync.Mutex
	waiting map[*watched]bool
	kick    chan struct{} // somebody new waits
	stop    context.CancelFunc
}

// watched is one that waits.
type watched struct {
	id    transfer.SnapshotID
	since time.Time
	done  chan error // one value
}

func newWatcher(t Timing, look func(context.Context, []transfer.SnapshotID) (map[transfer.SnapshotID]ending, error)) *watcher {
	return &watcher{timing: t, look: look, waiting: map[*watched]bool{}, kick: make(chan struct{}, 1)}
}

// wait returns nil when EC2 calls the snapshot completed.
func (w *watcher) wait(ctx context.Context, id transfer.SnapshotID) error {
	me := &watched{id: id, since: time.Now(), done: make(chan error, 1)}
	w.mu.Lock()
	w.waiting[me] = true
	if w.stop == nil {
		run, stop := context.WithCancel(context.WithoutCancel(ctx))
		w.stop = stop
		go w.run(run)
	}
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default: // it will look at everybody anyway
	}
	select {
	case err := <-me.done:
		return err
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, me)
	if len(w.waiting) == 0 && w.stop != nil {
		w.stop()
		w.stop = nil
	}
	return canceled(ctx, sealing(id))
}

func sealing(id transfer.SnapshotID) string { return fmt.Sprintf("complete snapshot %s", id) }

// run looks until nobody waits.
func (w *watcher) run(ctx context.Context) {
	last := time.Now()
	for {
		due, ok := w.due(ctx, last)
		if !ok {
			return
		}
		t := time.NewTimer(time.Until(due))
		select {
		case <-t.C:
		case <-w.kick: // the new one may be due sooner
			t.Stop()
			continue
		case <-ctx.Done():
			t.Stop()
			return
		}
		w.round(ctx)
		last = time.Now()
	}
}

// due is when to look next: when the first of those that wait wants it. ok is
// false, and the watcher free to start again, when nobody waits.
func (w *watcher) due(ctx context.Context, last time.Time) (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil { // stopped; another may be running already
		return at, false
	}
	for me := range w.waiting {
		from := last
		if me.since.After(last) {
			from = me.since
		}
		if t := from.Add(w.interval(from.Sub(me.since))); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if !ok {
		w.stop()
		w.stop = nil
	}
	return at, ok
}

// interval is the pause for one that has waited so long already: a quarter of
// that, so that a short wait ends promptly and a long one costs few calls.
func (w *watcher) interval(waited time.Duration) time.Duration {
	return min(max(waited/4, w.timing.PollFirst), w.timing.PollMax)
}

// round looks once and tells those whose wait is over.
func (w *watcher) round(ctx context.Context) {
	w.mu.Lock()
	var all []*watched
	ids := make([]transfer.SnapshotID, 0, len(w.waiting))
	for me := range w.waiting {
		all, ids = append(all, me), append(ids, me.id)
	}
	w.mu.Unlock()
	found, err := w.look(ctx, ids)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	for _, me := range all {
		over, verdict := w.judge(me, found, err, now)
		if !over {
			continue
		}
		w.mu.Lock()
		delete(w.waiting, me)
		w.mu.Unlock()
		me.done <- verdict
	}
}

// judge says whether a wait is over, and how.
func (w *watcher) judge(me *watched, found map[transfer.SnapshotID]ending, err error, now time.Time) (over bool, _ error) {
	if err != nil {
		// What a later look may get past is ridden out.
		if transfer.KindOf(err) == transfer.Retry && now.Sub(me.since) < w.timing.SealLimit {
			return false, nil
		}
		return true, err
	}
	e := found[me.id]
	switch {
	case e.state == transfer.Completed:
		return true, nil
	case e.state == transfer.Failed:
		return true, failedSnapshot(me.id, e.message)
	case e.state == "" && now.Sub(me.since) > w.timing.NotYet:
		return true, transfer.Fail(transfer.Retry, sealing(me.id), errors.New("EC2 does not list the snapshot any more"),
			"somebody deleted it; the next cycle starts a new one")
	case now.Sub(me.since) > w.timing.SealLimit:
		return true, transfer.Fail(transfer.Retry, sealing(me.id),
			fmt.Errorf("EC2 still calls it %s after %v", transfer.Pending, w.timing.SealLimit.Round(time.Second)),
			"it may complete later and then counts; see the AWS Health Dashboard for EBS")
	}
	return false, nil
}
