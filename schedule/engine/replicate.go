package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"snapferry/schedule"
	"snapferry/transfer"
)

// job is a run that this process works on.
type job struct {
	e      *Engine
	run    schedule.Run
	vm     schedule.VM
	policy *schedule.Policy
	tell   *teller
	stop   context.CancelCauseFunc
}

var (
	errCancelled = errors.New("cancelled at somebody's request")
	errPatience  = errors.New("the database was out of reach for too long")
)

// replicate is the workflow of one run. It has no checkpoints of the library's:
// what is done is in the run's row, a cycle resumes by its own journal and by
// AWS's tags, and what is tidied afterwards may be tidied twice. So it is simply
// done again after a crash, and costs the library two writes.
func (e *Engine) replicate(ctx dbos.Context, g granted) (string, error) {
	id, err := dbos.GetWorkflowID(ctx)
	if err != nil {
		return "", err
	}
	state, err := e.work(ctx, id, g)
	if err == nil && state == schedule.RunDone {
		e.after(ctx, g)
	}
	return string(state), err
}

// work does the run unless it is not, or no longer, ours to do. At a shutdown
// it returns when the library ends, so that the workflow stays as it is.
func (e *Engine) work(ctx context.Context, workflow string, g granted) (schedule.RunState, error) {
	j := &job{e: e}
	ctx, j.stop = context.WithCancelCause(ctx)
	defer j.stop(nil)
	if !e.enter(g.Run, j) {
		return "", nil // another workflow of the same run is at it
	}
	left := false
	leave := func() {
		if !left {
			left = true
			e.leave(g.Run)
		}
	}
	defer leave()
	run, err := e.claim(ctx, workflow, g)
	switch {
	case errors.Is(err, errNotOurs):
		return run.State, nil
	case err == nil:
		j.run = run
		err = j.do(ctx, g.Dead)
	}
	switch {
	case err == nil:
		leave()
		poke(e.admit)
		return j.run.State, nil
	case ctx.Err() == nil:
		return "", err
	}
	leave()
	e.Log.Info("gave up a run for now", "run", g.Run, "cause", context.Cause(ctx))
	<-e.lib.ctx.Done() // only then the library does not write down an end
	return "", err
}

// errNotOurs: the run has ended, or it is another appliance's.
var errNotOurs = errors.New("the run is not ours")

// claim takes a run in hand, however long the database takes to answer.
func (e *Engine) claim(ctx context.Context, workflow string, g granted) (run schedule.Run, err error) {
	err = e.persist(ctx, "claim", func(ctx context.Context) error {
		if run, err = e.Store.Run(ctx, g.Run); err != nil {
			return err
		}
		if run.State.Ended() || run.Appliance != e.Appliance {
			return errNotOurs
		}
		if run.Epoch > 0 { // it was in other hands; one workflow of it counts, the newest
			all, err := e.lib.workflows(run)
			if err != nil {
				return err
			}
			if n := len(all); n > 0 && all[n-1].id != workflow {
				return errNotOurs
			}
		}
		run, err = e.Store.Claim(ctx, g.Run, e.Appliance, e.Now())
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = errNotOurs
	}
	return run, err
}

// do runs the cycle and writes how it ended. An error means that the run has
// not ended.
func (j *job) do(ctx context.Context, dead transfer.ApplianceID) error {
	e := j.e
	p := transfer.NewProgress(e.Now, nil)
	e.mu.Lock()
	j.tell = newTeller(j, p) // from now on its throughput is sampled
	e.mu.Unlock()
	report, err := j.prepare(ctx)
	if err == nil {
		e.began(ctx, j, dead)
		report, err = j.cycle(ctx, p, dead)
	}
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return err
	}
	// The run ends now, whatever ends meanwhile.
	return j.finish(context.WithoutCancel(ctx), report, err)
}

// prepare looks up what the cycle needs.
func (j *job) prepare(ctx context.Context) (transfer.Report, error) {
	e := j.e
	report := transfer.Report{VM: j.run.VM, VMName: j.run.VMName, Started: e.Now()}
	if j.run.Epoch > e.Attempts {
		return report, fmt.Errorf("%w: %d times", errAttempts, j.run.Epoch-1)
	}
	if j.run.Cancel {
		j.stop(errCancelled)
		return report, errCancelled
	}
	err := e.persist(ctx, "read VM and policies", func(ctx context.Context) error {
		var err error
		if j.vm, err = e.Store.VM(ctx, j.run.VM); err != nil {
			return err
		}
		j.policy, err = e.policyOf(ctx, &j.vm)
		return err
	})
	report.VMName = j.vm.Name
	return report, err
}

var errAttempts = errors.New("the run was taken in hand too often and never brought to its end")

// policyOf is the policy of a VM, nil where it has none.
func (e *Engine) policyOf(ctx context.Context, vm *schedule.VM) (*schedule.Policy, error) {
	all, err := e.Store.Policies(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == vm.Policy {
			return &all[i], nil
		}
	}
	return nil, nil
}

// cycle runs the cycle while the teller tells.
func (j *job) cycle(ctx context.Context, p *transfer.Progress, dead transfer.ApplianceID) (report transfer.Report, err error) {
	p.OnStep(func(s transfer.Step) {
		j.tell.logf("info", "step: "+string(s))
		j.tell.step(ctx, s)
	})
	telling, done := context.WithCancel(ctx)
	var stopped = make(chan struct{})
	go func() { defer close(stopped); j.tell.keep(telling) }()
	defer func() { done(); <-stopped; j.tell.flush(context.WithoutCancel(ctx)) }()
	defer func() {
		if r := recover(); r != nil {
			j.e.Log.Error("cycle panicked", "run", j.run.ID, "panic", r, "stack", string(debug.Stack()))
			report, err = p.Report(), fmt.Errorf("replicate %s: internal error: %v", j.vm.Name, r)
		}
	}()
	return j.e.Work.Cycle(ctx, Job{Run: j.run, VM: j.vm, Policy: j.policy, Dead: dead}, p, j.tell.logf)
}

// began says that a run is under way.
func (e *Engine) began(ctx context.Context, j *job, dead transfer.ApplianceID) {
	ev := schedule.Event{Kind: schedule.EventRunStart, VM: j.vm.ID, VMName: j.vm.Name, Run: j.run.ID, Actor: string(e.Appliance), Text: "replication of " + j.vm.Name + " began"}
	switch {
	case dead != "":
		ev.Kind, ev.Text = schedule.EventRunTakenOver, fmt.Sprintf("replication of %s was taken over from appliance %s", j.vm.Name, dead)
		j.tell.logf("warn", "taken over from appliance "+string(dead)+", which is gone; attempt "+fmt.Sprint(j.run.Epoch))
	case j.run.Epoch > 1:
		ev.Text = "replication of " + j.vm.Name + " is carried on"
		j.tell.logf("info", fmt.Sprintf("carried on after an interruption; attempt %d", j.run.Epoch))
	}
	e.Log.Info("replicating", "run", j.run.ID, "vm", j.vm.Name, "epoch", j.run.Epoch, "dead", dead)
	e.record(ctx, ev, map[string]any{"epoch": j.run.Epoch, "trigger": j.run.Trigger})
}

// enter notes that this process works on a run; false when it does already.
func (e *Engine) enter(run int64, j *job) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.active[run] != nil {
		return false
	}
	e.active[run] = j
	if e.stopping {
		j.stop(errStopping)
	}
	return true
}

func (e *Engine) leave(run int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j := e.active[run]; j != nil && j.tell != nil {
		j.tell.meter(&e.read, &e.put)
	}
	delete(e.active, run)
	if e.stopping && len(e.active) == 0 {
		select {
		case <-e.idle:
		default:
			close(e.idle)
		}
	}
}

// persist does something in the database however long it is out of reach,
// until ctx ends. What will never go well is returned.
func (e *Engine) persist(ctx context.Context, what string, f func(context.Context) error) error {
	wait := 200 * time.Millisecond
	for {
		err := bounded(ctx, f)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrNotFound) || errors.Is(err, errNotOurs) {
			return err
		}
		e.Log.Warn(what+": will be tried again", "error", err)
		sleep(ctx, wait)
		wait = min(2*wait, 5*time.Second)
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
