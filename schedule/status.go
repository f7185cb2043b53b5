package schedule

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"snapferry/transfer"
)

const (
	// stalledAfter so many failures in a row; before that it may be a restart
	// of vCenter.
	stalledAfter = 3
	// lagMargin is what a run may wait for its turn beyond its own time before
	// its VM counts as late.
	lagMargin = 5 * time.Minute
)

// Status is how a VM stands at now. p is its policy, nil when it has none; run
// is the run that has not ended, nil when there is none. It is pure.
func Status(vm VM, p *Policy, run *Run, now time.Time) VMStatus {
	s := VMStatus{VM: vm, Run: run, Floor: Duration(Floor(vm.Measure))}
	if vm.Point.Cycle != "" && !vm.Point.Instant.IsZero() {
		s.Lag = Duration(max(0, now.Sub(vm.Point.Instant)))
	}
	w := standing{vm: &vm, p: p, run: run, now: now}
	s.Backlog, s.ETA = w.backlog()
	s.Forecast = Duration(w.forecast())
	s.Replication, s.Trouble = w.state()
	return s
}

// standing is a VM that is looked at.
type standing struct {
	vm  *VM
	p   *Policy
	run *Run
	now time.Time
}

func (w *standing) hasPoint() bool { return w.vm.Point.Cycle != "" }

// running reports that an appliance works on a run.
func (w *standing) running() bool {
	return w.run != nil && (w.run.State == RunStarting || w.run.State == RunRunning)
}

// state is the first of these that holds: ended, paused, stalled, no policy,
// initial sync, lagging, delta, waiting, up to date. A VM that is tried again
// stays stalled until that succeeds.
func (w *standing) state() (Replication, string) {
	vm := w.vm
	l := vm.Lifecycle
	trouble := w.trouble()
	late := w.late()
	switch {
	case vm.Gone, l == CutOver, l == Disconnected:
		return ReplicationEnded, trouble
	case vm.Paused:
		return ReplicationPaused, cmp.Or(vm.PausedWhy, trouble)
	case w.stalled():
		return ReplicationStalled, trouble
	case w.running() && !w.hasPoint():
		return ReplicationInitial, trouble
	case w.p == nil && !w.running():
		return ReplicationNone, trouble
	case late != "":
		return ReplicationLagging, cmp.Or(trouble, late)
	case w.running():
		return ReplicationDelta, trouble
	case !w.hasPoint():
		return ReplicationWaiting, trouble
	}
	return ReplicationCurrent, trouble
}

func (w *standing) stalled() bool {
	converges, _ := Converges(w.vm.Measure)
	return w.vm.Fails >= stalledAfter || (w.vm.Fails > 0 && w.vm.Reason.stays()) || !converges
}

// trouble is in words what is wrong, "" when nothing is.
func (w *standing) trouble() string {
	vm := w.vm
	converges, numbers := Converges(vm.Measure)
	switch {
	case vm.Gone:
		return "vCenter does not have it any more"
	case vm.Fails > 0:
		why := cmp.Or(vm.Problem, string(vm.Reason), "the run's log says why")
		if vm.Fails == 1 {
			return "the last run failed: " + why
		}
		return fmt.Sprintf("the last %d runs failed: %s", vm.Fails, why)
	case w.p != nil && w.obstacle() != "":
		return w.obstacle()
	case !converges:
		return numbers
	case vm.Point.Suspect != "":
		return "its newest point is in doubt: " + vm.Point.Suspect
	}
	return ""
}

// obstacle is the first reason against replicating it.
func (w *standing) obstacle() string {
	_, _, err := transfer.ChooseDisks(w.vm.VM, w.p.Exclude)
	if err == nil || len(w.vm.Disks) == 0 {
		return ""
	}
	return strings.TrimSpace(err.Error() + ". " + transfer.HintOf(err))
}

// late says that the VM is late by a whole cycle, or "": the run that was due
// after its newest point has not ended, and by now the one after that should
// have. Blackouts and the nights of a cron expression so make nobody late.
func (w *standing) late() string {
	vm := w.vm
	if w.p == nil || !w.hasPoint() || vm.Fails > 0 || !vm.Lifecycle.Replicates() {
		return ""
	}
	last := vm.Point.Instant
	in := DueInput{VM: vm.ID, Now: last, Last: last, Measure: vm.Measure}
	first := NextDue(w.p, in)
	in.Now, in.Last = first.At, first.At
	second := NextDue(w.p, in)
	if first.At.IsZero() || second.At.IsZero() || !w.now.After(second.At.Add(vm.Measure.Cycle+lagMargin)) {
		return ""
	}
	return fmt.Sprintf("its newest point is of %s, and since then it was due at %s and again at %s",
		clock(last, w.now, w.p.Location()), clock(first.At, w.now, w.p.Location()), clock(second.At, w.now, w.p.Location()))
}

// backlog is the bytes that the next cycle is expected to put, or that the
// running one has left, and when that one will be done.
func (w *standing) backlog() (bytes int64, eta time.Time) {
	if w.running() {
		if left, at, ok := w.left(); ok {
			return left, at
		}
	}
	if !w.hasPoint() {
		return w.vm.allocated(), time.Time{}
	}
	return w.changed(), time.Time{}
}

// allocated is what a first copy reads.
func (v *VM) allocated() int64 {
	var n int64
	for _, d := range v.Disks {
		if d.Allocated > 0 {
			n += min(d.Allocated, d.Size)
		} else {
			n += d.Size
		}
	}
	return n
}

// changed is what the guest is expected to have changed since the newest
// point; never more than there is.
func (w *standing) changed() int64 {
	since := w.vm.Measure.LastFrozen
	if since.IsZero() {
		since = w.vm.Point.Instant
	}
	n := w.vm.Measure.ChangeRate * max(0, w.now.Sub(since).Seconds())
	return int64(min(n, float64(w.vm.Bytes())))
}

// left is what the running cycle still has to put and when it will be done; ok
// once every disk is planned. Disks are copied side by side: the slowest
// counts.
func (w *standing) left() (bytes int64, eta time.Time, ok bool) {
	r := w.run.Report
	var slowest time.Duration
	known := true
	for _, d := range r.Disks {
		if d.Kind == "" {
			return 0, time.Time{}, false
		}
		todo := max(0, d.Blocks-d.Done) * transfer.BlockSize
		if todo == 0 || !d.CopyEnded.IsZero() {
			continue
		}
		share := 1.0
		if d.Done > 0 {
			share = float64(d.Put) / float64(d.Done)
		}
		bytes += int64(float64(todo) * share)
		rate := d.Rate
		if rate <= 0 { // it has not begun: as fast as its share of former cycles
			rate = w.vm.Measure.CopyRate / float64(len(r.Disks))
		}
		if rate <= 0 {
			known = false
			continue
		}
		slowest = max(slowest, time.Duration(float64(todo)/rate*float64(time.Second)))
	}
	if len(r.Disks) == 0 {
		return 0, time.Time{}, false
	}
	if known {
		eta = w.now.Add(slowest + w.ending(r)).Round(time.Second)
	}
	return bytes, eta, true
}

// ending is how long a cycle takes once everything is copied.
func (w *standing) ending(r transfer.Report) time.Duration {
	m := w.vm.Measure
	switch r.Step {
	case transfer.StepCommit, transfer.StepDone:
		return 0
	}
	return max(m.Release, m.Seal)
}

// forecast is how long a final sync would take if it began now: freezing,
// uploading what has changed, completing the snapshots. Zero before a first
// delta has shown what the guest changes.
func (w *standing) forecast() time.Duration {
	m := w.vm.Measure
	if !w.hasPoint() || m.Cycles == 0 || (m.ChangeRate > 0 && m.PutRate <= 0) {
		return 0
	}
	var upload time.Duration
	if m.ChangeRate > 0 {
		upload = time.Duration(float64(w.changed()) / m.PutRate * float64(time.Second))
	}
	return (m.Freeze + upload + m.Seal).Round(time.Second)
}
