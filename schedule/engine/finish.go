package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// finish writes how a run ended and what it means for its VM, then tells of
// it. cause is nil when the cycle made or confirmed a point.
func (j *job) finish(ctx context.Context, report transfer.Report, cause error) error {
	e := j.e
	var end schedule.End
	var before schedule.VM
	err := e.persist(ctx, "write how a run ended", func(ctx context.Context) error {
		// Anew: somebody may have acted on the VM while its cycle ran.
		vm, err := e.Store.VM(ctx, j.run.VM)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil {
			j.vm = vm
			if j.policy, err = e.policyOf(ctx, &vm); err != nil {
				return err
			}
		}
		before, end = j.vm, j.ending(report, cause)
		return e.Store.Finish(ctx, j.run.ID, j.run.Epoch, end)
	})
	if errors.Is(err, ErrFenced) {
		e.fence(fmt.Errorf("end run %d of %s: %w", j.run.ID, j.vm.Name, err))
	}
	if err != nil {
		return err
	}
	j.run.State = end.State
	e.announce(ctx, j.run, before, end)
	return nil
}

// ending decides how the run ended.
func (j *job) ending(report transfer.Report, cause error) schedule.End {
	now, vm := j.e.Now(), j.vm
	end := schedule.End{
		State: schedule.RunDone, At: now, Report: report, Steps: j.tell.stepTimes(),
		Measure: vm.Measure, Fails: vm.Fails, Point: vm.Point, Lifecycle: vm.Lifecycle,
	}
	in := schedule.DueInput{VM: vm.ID, Now: now, Last: vm.Point.Instant, Tried: now}
	switch {
	case cause == nil:
		j.succeeded(&end)
		in.Last = end.Point.Instant
	case j.tell.wasCancelled() || j.run.Cancel:
		end.State, end.Error = schedule.RunCancelled, errCancelled.Error()
		in.Last = now // as if it had run: who cancels does not want it anew at once
	default:
		end.State, end.Fails = schedule.RunFailed, vm.Fails+1
		end.Error, end.Hint, end.Reason = cause.Error(), transfer.HintOf(cause), reasonOf(cause)
	}
	in.Fails, in.Measure = end.Fails, end.Measure
	due := nextDue(j.policy, in)
	end.Next, end.NextWhy = due.At, due.Why
	if !end.Point.Instant.IsZero() {
		lag := schedule.Duration(now.Sub(end.Point.Instant))
		end.Lag = &lag
	}
	return end
}

// nextDue is schedule.NextDue, and never for a VM without a policy.
func nextDue(p *schedule.Policy, in schedule.DueInput) schedule.Due {
	if p == nil {
		return schedule.Due{Why: "it has no policy"}
	}
	return schedule.NextDue(p, in)
}

func (j *job) succeeded(end *schedule.End) {
	r := end.Report
	end.Fails = 0
	end.Measure = j.vm.Measure.After(r, end.Steps)
	suspect := ""
	if r.Point == j.vm.Point.Cycle {
		suspect = j.vm.Point.Suspect
	}
	end.Point = schedule.LastPoint{Cycle: r.Point, Instant: r.Frozen, Suspect: suspect}
	end.Lifecycle = j.vm.Lifecycle.AfterPoint()
}

// reasonOf knows what the engine itself causes, and asks schedule otherwise.
func reasonOf(err error) schedule.Reason {
	switch {
	case errors.Is(err, errAttempts):
		return schedule.ReasonAttempts
	case errors.Is(err, errPatience):
		return schedule.ReasonRetry
	}
	return schedule.ReasonOf(err)
}

// announce records the events of an end and settles the alarms about the VM.
func (e *Engine) announce(ctx context.Context, run schedule.Run, before schedule.VM, end schedule.End) {
	name := before.Name
	say := func(kind schedule.EventKind, text string, data any) {
		e.record(ctx, schedule.Event{Kind: kind, VM: run.VM, VMName: name, Run: run.ID, Actor: string(e.Appliance), Text: text}, data)
	}
	took := end.At.Sub(run.Started).Round(time.Millisecond)
	e.Log.Info("replicated", "run", run.ID, "vm", name, "state", end.State, "outcome", end.Report.Outcome, "took", took, "error", end.Error)
	switch end.State {
	case schedule.RunCancelled:
		say(schedule.EventRunCancelled, "replication of "+name+" was cancelled", nil)
		return
	case schedule.RunFailed:
		say(schedule.EventRunFail, fmt.Sprintf("replication of %s failed: %s", name, end.Error),
			map[string]any{"reason": end.Reason, "error": end.Error, "hint": end.Hint, "fails": end.Fails})
	default:
		what := "a new recovery point"
		if end.Report.Outcome == transfer.OutcomeConfirmed {
			what = "nothing had changed"
		}
		say(schedule.EventRunEnd, fmt.Sprintf("replication of %s ended after %v: %s", name, took, what),
			map[string]any{"outcome": end.Report.Outcome, "point": end.Report.Point, "tookMs": took.Milliseconds()})
		if before.Point.Cycle == "" {
			say(schedule.EventInitialDone, name+" has its first recovery point", nil)
		}
		if before.Lifecycle != end.Lifecycle {
			say(schedule.EventLifecycle, fmt.Sprintf("%s is %s", name, end.Lifecycle), map[string]any{"from": before.Lifecycle, "to": end.Lifecycle})
		}
	}
	e.settleRun(ctx, run.VM, name, end)
}

// settleRun raises and clears what a run showed of its VM. Whether it is
// stalled, late or does not converge is the watch's.
func (e *Engine) settleRun(ctx context.Context, vm transfer.VMID, name string, end schedule.End) {
	about := func(kind schedule.AlarmKind, prefix, text, hint string) schedule.Alarm {
		return schedule.Alarm{Key: prefix + vm.String(), Kind: kind, VM: vm, VMName: name, Text: text, Hint: hint}
	}
	r := end.Report
	if len(r.Alarms) > 0 {
		e.raise(ctx, about(schedule.AlarmOther, "cycle/", strings.Join(r.Alarms, "; "), "What is left is cleaned up by itself as far as possible."))
	} else if end.State == schedule.RunDone {
		e.clear(ctx, "cycle/"+vm.String(), name)
	}
	audited, wrong := false, int64(0)
	for _, d := range r.Disks {
		if d.Audit != nil && d.Audit.Blocks > 0 {
			audited, wrong = true, wrong+d.Audit.Wrong
		}
	}
	switch {
	case wrong > 0:
		e.raise(ctx, about(schedule.AlarmAudit, "audit/", fmt.Sprintf("change tracking lost changes of %s: %d blocks of the audit differ", name, wrong),
			"Points before this cycle are suspect. The cycle compared the whole disk anew; look for a known CBT defect of this ESXi version."))
	case audited && end.State == schedule.RunDone:
		e.clear(ctx, "audit/"+vm.String(), name)
	}
}
