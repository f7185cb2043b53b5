package engine

import (
	"context"
	"errors"
	"fmt"

	"snapferry/schedule"
	"snapferry/transfer"
)

// sync has the VM replicated once and waits for the end of that. The run is one
// like all others: it may go to another appliance, and survives this one. That
// the VM is being cut over keeps only the planner from queueing runs.
func (l *launching) sync(ctx context.Context, why string) (schedule.Run, error) {
	for {
		run, fresh, err := l.queue(ctx, why)
		if err != nil {
			return run, fmt.Errorf("replicate %s: %w", l.vm.Name, err)
		}
		// One that still waited freezes the source later than this moment.
		serves := fresh || run.State == schedule.RunQueued
		if run, err = l.await(ctx, run.ID); err != nil {
			return run, fmt.Errorf("wait for run %d of %s: %w", run.ID, l.vm.Name, err)
		}
		if fresh || serves && run.State == schedule.RunDone {
			return run, runError(run)
		}
	}
}

// queue makes a run that goes before all that waits by schedule, or joins the
// one that the VM has.
func (l *launching) queue(ctx context.Context, why string) (run schedule.Run, fresh bool, err error) {
	e := l.e
	err = e.persist(ctx, "queue run for a launch", func(ctx context.Context) error {
		w := schedule.Wanted{VM: l.run.VM, Trigger: why, Policy: l.vm.Policy, Urgent: true}
		p, err := e.policyOf(ctx, &l.vm)
		if err != nil {
			return err
		}
		if p != nil {
			w.Priority = p.Priority
		}
		run, fresh, err = e.Store.Queue(ctx, w, e.Now())
		return err
	})
	poke(e.admit)
	return run, fresh, cause(ctx, err)
}

// looks is how many times in a Poll a run is looked at that a launch waits for:
// the source may be off meanwhile.
const looks = 4

// await waits until a run has ended.
func (l *launching) await(ctx context.Context, id int64) (run schedule.Run, err error) {
	for {
		err = l.e.persist(ctx, "look at a run", func(ctx context.Context) (err error) {
			run, err = l.e.Store.Run(ctx, id)
			return err
		})
		if err != nil || run.State.Ended() {
			run.ID = id
			return run, cause(ctx, err)
		}
		if sleep(ctx, l.e.Poll/looks); ctx.Err() != nil {
			return run, context.Cause(ctx)
		}
	}
}

// cause is why a context ended, where that is what err comes from.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// runError is why a run made no point, nil when it did.
func runError(run schedule.Run) error {
	op := "replicate " + run.VMName
	switch {
	case run.State == schedule.RunDone:
		return nil
	case run.State == schedule.RunCancelled:
		return transfer.Fail(transfer.Canceled, op, fmt.Errorf("run %d was cancelled", run.ID), "")
	case run.Reason == schedule.ReasonRetry:
		return transfer.Fail(transfer.Retry, op, errors.New(run.Error), run.Hint)
	}
	return transfer.Fail(transfer.Permanent, op, errors.New(run.Error), run.Hint)
}
