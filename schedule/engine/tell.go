package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// teller writes how far a run is: before each step begins, and now and then.
// The same statement is the fence and brings the wish to cancel.
type teller struct {
	j *job
	p *transfer.Progress

	telling sync.Mutex // one Tell at a time: a later state must not be overwritten by an earlier

	mu        sync.Mutex
	steps     []schedule.StepTime
	lines     []schedule.LogLine
	told      time.Time // last time that the database had it
	cancelled bool      // somebody asked for it
	read, put int64     // that the throughput knows of
}

func newTeller(j *job, p *transfer.Progress) *teller {
	return &teller{j: j, p: p, told: j.e.Now(), steps: j.run.Steps}
}

// step is called by the cycle before a step begins, by several goroutines
// where disks seal side by side. It returns when the step may begin.
func (t *teller) step(ctx context.Context, s transfer.Step) {
	t.mu.Lock()
	if n := len(t.steps); n == 0 || t.steps[n-1].Step != s {
		t.steps = append(t.steps, schedule.StepTime{Step: s, Began: t.j.e.Now()})
	}
	t.mu.Unlock()
	wait := 200 * time.Millisecond
	for {
		err := t.tell(ctx)
		if err == nil || !t.must(s) || ctx.Err() != nil {
			return
		}
		if t.impatient() {
			return
		}
		t.j.e.Log.Warn("a step waits for the database", "run", t.j.run.ID, "step", s, "error", err)
		sleep(ctx, wait)
		wait = min(2*wait, 5*time.Second)
	}
}

// must reports whether a step may begin only once the database has confirmed
// that the run is still ours. Sealing makes a point, and confirming renews
// one: never without. Cleaning up is never wrong. All others wait once this
// appliance may have been given up by the fleet.
func (t *teller) must(s transfer.Step) bool {
	switch s {
	case transfer.StepSeal, transfer.StepCommit:
		return true
	case transfer.StepDetach, transfer.StepRelease:
		return false
	}
	return t.j.e.alive.doubtful()
}

// keep tells until ctx ends.
func (t *teller) keep(ctx context.Context) {
	tick := time.NewTicker(t.j.e.TellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := t.tell(ctx); err != nil && ctx.Err() == nil {
			t.j.e.Log.Warn("tell how far a run is", "run", t.j.run.ID, "error", err)
			if t.impatient() {
				return
			}
		}
		t.flush(ctx)
	}
}

// impatient gives the cycle up when the database was away for too long.
func (t *teller) impatient() bool {
	e := t.j.e
	t.mu.Lock()
	since := e.Now().Sub(t.told)
	t.mu.Unlock()
	if since < e.Patience {
		return false
	}
	t.j.stop(fmt.Errorf("%w (%v)", errPatience, since.Round(time.Second)))
	return true
}

// tell writes the state of now. When the run belongs to another it never
// returns.
func (t *teller) tell(ctx context.Context) error {
	t.telling.Lock()
	defer t.telling.Unlock()
	e := t.j.e
	var cancel bool
	// Not the cycle's context: what it does after it was cancelled is told too.
	err := bounded(context.WithoutCancel(ctx), func(ctx context.Context) (err error) {
		cancel, err = e.Store.Tell(ctx, t.j.run.ID, t.j.run.Epoch, t.p.Report(), t.stepTimes())
		return err
	})
	if errors.Is(err, ErrFenced) {
		e.fence(fmt.Errorf("run %d of %s: %w", t.j.run.ID, t.j.vm.Name, err))
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.told = e.Now()
	t.cancelled = t.cancelled || cancel
	t.mu.Unlock()
	if cancel {
		t.j.stop(errCancelled)
	}
	return nil
}

func (t *teller) stepTimes() []schedule.StepTime {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]schedule.StepTime(nil), t.steps...)
}

func (t *teller) wasCancelled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cancelled
}

// maxLines is how many log lines a run keeps in memory while the database is
// away: more would be a flood, not a log.
const maxLines = 1000

// logf keeps a line for the run's log.
func (t *teller) logf(level, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < maxLines {
		t.lines = append(t.lines, schedule.LogLine{Run: t.j.run.ID, At: t.j.e.Now(), Level: level, Text: text})
	}
}

// flush writes the lines that were kept.
func (t *teller) flush(ctx context.Context) {
	t.mu.Lock()
	lines := t.lines
	t.lines = nil
	t.mu.Unlock()
	if len(lines) == 0 {
		return
	}
	err := bounded(ctx, func(ctx context.Context) error { return t.j.e.Store.AppendLog(ctx, t.j.run.ID, lines) })
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(lines, t.lines...)
	t.lines = t.lines[:min(len(t.lines), maxLines)]
}

// meter adds what the run has moved since the last time.
func (t *teller) meter(read, put *int64) {
	r := t.p.Report()
	var nowRead, nowPut int64
	for _, d := range r.Disks {
		nowRead += d.BytesRead
		nowPut += d.Put * transfer.BlockSize
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	*read += nowRead - t.read
	*put += nowPut - t.put
	t.read, t.put = nowRead, nowPut
}
