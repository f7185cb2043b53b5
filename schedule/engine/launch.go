package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// launching is a launch run that this process works on.
type launching struct {
	e    *Engine
	run  schedule.LaunchRun
	vm   schedule.VM
	ctx  context.Context
	stop context.CancelCauseFunc

	mu  sync.Mutex
	job schedule.LaunchJob // saved last, of those that the run is about
}

// launcher takes launch runs in hand: when somebody queued one, when one has
// ended, and on every tick, since other appliances queue and die too. At its end
// it gives up those that are under way, for the next start or another appliance.
func (e *Engine) launcher(ctx context.Context) {
	tick := time.NewTicker(e.Tick)
	defer tick.Stop()
	var all sync.WaitGroup
	for ctx.Err() == nil {
		for e.takeLaunch(ctx, &all) {
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-e.take:
		}
	}
	e.mu.Lock()
	for _, l := range e.launching {
		l.stop(errStopping)
	}
	e.mu.Unlock()
	all.Wait()
}

// takeLaunch takes one launch run in hand, if there is one and room for it.
func (e *Engine) takeLaunch(ctx context.Context, all *sync.WaitGroup) bool {
	e.mu.Lock()
	vcenter := e.self.VCenter
	busy := make([]int64, 0, len(e.launching))
	for id := range e.launching {
		busy = append(busy, id)
	}
	e.mu.Unlock()
	if len(busy) >= e.LaunchesAtOnce || ctx.Err() != nil || e.alive.doubtful() {
		return false
	}
	var run schedule.LaunchRun
	err := bounded(ctx, func(ctx context.Context) (err error) {
		run, err = e.Launches.ClaimLaunch(ctx, e.Appliance, vcenter, busy, e.Now())
		return err
	})
	if err != nil {
		if !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
			e.Log.Warn("take a launch run in hand", "error", err)
		}
		return false
	}
	l := &launching{e: e, run: run, vm: schedule.VM{VM: transfer.VM{ID: run.VM, Name: run.VMName}}}
	l.ctx, l.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	e.mu.Lock()
	e.launching[run.ID] = l
	e.mu.Unlock()
	all.Go(func() {
		defer l.stop(nil)
		l.work()
		e.mu.Lock()
		delete(e.launching, run.ID)
		e.mu.Unlock()
		e.Kick() // there is room, and the VM's lifecycle may have changed
	})
	return true
}

// work does the run and writes how it ended; at a shutdown it leaves it as it
// is.
func (l *launching) work() {
	err := l.do()
	if errors.Is(err, ErrFenced) {
		l.e.fence(fmt.Errorf("launch run %d of %s: %w", l.run.ID, l.vm.Name, err))
	}
	if err != nil && errors.Is(context.Cause(l.ctx), errStopping) {
		l.e.Log.Info("gave up a launch run for now", "run", l.run.ID, "vm", l.vm.Name, "error", err)
		return
	}
	// It ends now, whatever ends meanwhile.
	l.finish(context.WithoutCancel(l.ctx), err)
}

// do prepares the task and has it done.
func (l *launching) do() error {
	task, err := l.prepare()
	if err != nil {
		return err
	}
	if err := l.begin(); err != nil {
		return err
	}
	task.VM = l.vm
	l.began()
	return l.launch(task)
}

// prepare reads what the task needs.
func (l *launching) prepare() (LaunchTask, error) {
	e := l.e
	t := LaunchTask{Run: l.run, Save: l.save, Sync: l.sync, Event: l.event}
	err := e.persist(l.ctx, "read VM and its launches", func(ctx context.Context) error {
		vm, err := e.Store.VM(ctx, l.run.VM)
		if err != nil {
			return err
		}
		l.vm = vm
		t.Jobs, err = e.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &l.run.VM, Open: true}, true)
		return err
	})
	switch {
	case err != nil:
		return t, err
	case l.run.Epoch > e.Attempts:
		return t, fmt.Errorf("%w: %d times", errAttempts, l.run.Epoch-1)
	case l.run.Cancel:
		l.stop(errCancelled)
		return t, errCancelled
	}
	for _, j := range t.Jobs {
		if j.ID == l.run.Job {
			l.job = j
		}
	}
	return t, nil
}

// begin moves the VM's lifecycle before the work.
func (l *launching) begin() error {
	if l.run.Action != schedule.LaunchTest && l.run.Action != schedule.LaunchCutover {
		return nil
	}
	to, from, err := l.vm.Lifecycle.Next(string(l.run.Action))
	if err != nil || to == l.vm.Lifecycle {
		return err
	}
	var refused error
	err = l.e.persist(l.ctx, "move VM", func(ctx context.Context) error {
		refused = nil
		err := l.e.Launches.SetLifecycle(ctx, l.run.VM, from, to)
		if errors.Is(err, schedule.ErrConflict) { // somebody was faster
			refused, err = err, nil
		}
		return err
	})
	if err = errors.Join(err, refused); err != nil {
		return err
	}
	l.moved(l.ctx, l.vm.Lifecycle, to)
	l.vm.Lifecycle = to
	return nil
}

// launch has the work done while the run is watched.
func (l *launching) launch(t LaunchTask) (err error) {
	watching, done := context.WithCancel(l.ctx)
	stopped := make(chan struct{})
	go func() { defer close(stopped); l.watch(watching) }()
	defer func() { done(); <-stopped }()
	defer func() {
		if r := recover(); r != nil {
			l.e.Log.Error("launch panicked", "run", l.run.ID, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s of %s: internal error: %v", l.run.Action, l.vm.Name, r)
		}
	}()
	return l.e.Launcher.Launch(l.ctx, t)
}

// watch looks now and then whether the run is still ours, and wanted. Saving
// finds that out as well; but a launch may wait for EC2 for a long time.
func (l *launching) watch(ctx context.Context) {
	tick := time.NewTicker(l.e.TellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var r schedule.LaunchRun
		err := bounded(ctx, func(ctx context.Context) (err error) {
			r, err = l.e.Launches.LaunchRun(ctx, l.run.ID)
			return err
		})
		switch {
		case err != nil:
			if ctx.Err() == nil {
				l.e.Log.Warn("look after a launch run", "run", l.run.ID, "error", err)
			}
		case r.Epoch != l.run.Epoch || r.State.Ended():
			err := fmt.Errorf("launch run %d of %s: %w", l.run.ID, l.vm.Name, ErrFenced)
			l.stop(err)
			l.e.fence(err)
		case r.Cancel:
			l.stop(errCancelled)
		}
	}
}

// save keeps a job. What the launch does after it was cancelled is kept too:
// there is always one try.
func (l *launching) save(ctx context.Context, j schedule.LaunchJob) error {
	wait := 200 * time.Millisecond
	for {
		var cancel bool
		err := bounded(context.WithoutCancel(ctx), func(ctx context.Context) (err error) {
			cancel, err = l.e.Launches.SaveLaunchJob(ctx, l.run.ID, l.run.Epoch, j)
			return err
		})
		switch {
		case err == nil:
			l.mu.Lock()
			if l.job.ID == "" || !j.Over || l.job.ID == j.ID {
				l.job = j
			}
			l.mu.Unlock()
			if cancel {
				l.stop(errCancelled)
			}
			return nil
		case errors.Is(err, ErrFenced):
			l.e.condemn(fmt.Errorf("launch run %d of %s: %w", l.run.ID, l.vm.Name, err))
			return err
		case ctx.Err() != nil || l.ctx.Err() != nil:
			return err
		}
		l.e.Log.Warn("save a launch: will be tried again", "run", l.run.ID, "job", j.ID, "error", err)
		sleep(ctx, wait)
		wait = min(2*wait, 5*time.Second)
	}
}

// saved is the job that the run is about, as it was saved last.
func (l *launching) saved() schedule.LaunchJob {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.job
}

// finish writes how the run ended and what it means for its VM, then tells of
// it.
func (l *launching) finish(ctx context.Context, cause error) {
	e := l.e
	var end schedule.LaunchEnd
	var open []schedule.LaunchJob
	err := e.persist(ctx, "write how a launch run ended", func(ctx context.Context) (err error) {
		if open, err = e.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &l.run.VM, Open: true}, false); err != nil {
			return err
		}
		end = l.ending(cause)
		end.From, end.To = moveAfter(&l.run, end.State == schedule.RunDone, open)
		return e.Launches.FinishLaunch(ctx, l.run.ID, l.run.Epoch, end)
	})
	if err != nil { // ErrFenced: all else is tried again
		e.fence(fmt.Errorf("end launch run %d of %s: %w", l.run.ID, l.vm.Name, err))
	}
	l.announce(ctx, end, open)
}

// ending says how the run ended.
func (l *launching) ending(cause error) schedule.LaunchEnd {
	end := schedule.LaunchEnd{At: l.e.Now(), State: schedule.RunDone}
	switch {
	case cause == nil:
	case errors.Is(context.Cause(l.ctx), errCancelled):
		end.State, end.Error = schedule.RunCancelled, errCancelled.Error()
	default:
		end.State, end.Reason, end.Error, end.Hint = schedule.RunFailed, reasonOf(cause), cause.Error(), transfer.HintOf(cause)
	}
	return end
}
