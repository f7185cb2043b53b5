package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/console"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// launchAtDesk has the service do the action, and shows it.
func (w *wire) launchAtDesk(ctx context.Context, r remote, o launchOptions, names []string) (cli.Value, error) {
	show, err := newDisplay(o.progress, w.std)
	if err != nil {
		return nil, err
	}
	d, err := openDesk(ctx, w.cfg, r)
	if err != nil {
		return nil, err
	}
	defer d.close()
	vms, err := d.launchTargets(ctx, o, names)
	if err != nil {
		return nil, serviceError(err)
	}
	if o.plan {
		return d.launchPlans(ctx, o, vms)
	}
	if err := ask(ctx, w.std, o.question(names), o.yes, string(o.action), "Nothing was done. --yes goes on without asking."); err != nil {
		return nil, err
	}
	done, err := d.Launch(ctx, d.by, vms, o.wave, o.action, o.wish)
	if err != nil {
		return nil, serviceError(err)
	}
	if err := doneError(done); err != nil {
		return doneList{done, d.alone}, err
	}
	result := &launchResult{Action: o.action, Launches: make([]launch.Job, len(done))}
	errs := make([]error, len(done))
	var g errgroup.Group
	for i, one := range done {
		g.Go(func() error {
			result.Launches[i], errs[i] = d.awaitLaunch(ctx, show, w.std, one)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	show.close()
	return result, errors.Join(errs...)
}

// launchTargets are the VMs that are named, or those of the wave.
func (d *desk) launchTargets(ctx context.Context, o launchOptions, names []string) ([]transfer.VMID, error) {
	if o.wave == "" {
		return d.Resolve(ctx, names)
	}
	waves, err := d.Waves(ctx)
	if err != nil {
		return nil, err
	}
	for _, wave := range waves {
		if wave.Name == o.wave {
			return wave.VMs, nil
		}
	}
	return nil, transfer.Fail(transfer.Permanent, "find wave "+o.wave, schedule.ErrNotFound, "\"snapferry waves\" lists them.")
}

// launchPlans previews the action for each VM.
func (d *desk) launchPlans(ctx context.Context, o launchOptions, vms []transfer.VMID) (cli.Value, error) {
	list := &launchPlans{Plans: make([]schedule.LaunchPreview, len(vms))}
	for i, vm := range vms {
		var err error
		if list.Plans[i], err = d.PreviewLaunch(ctx, vm, o.action, o.wish); err != nil {
			return nil, serviceError(err)
		}
	}
	return list, nil
}

// awaitLaunch tells a launch's events until it ends.
func (d *desk) awaitLaunch(ctx context.Context, show *display, std cli.Streams, one schedule.Done) (launch.Job, error) {
	var told teller
	for {
		run, err := d.LaunchRun(ctx, one.Run)
		if err != nil {
			return told.job, launchWaitError(one, err)
		}
		if run.Job != "" {
			row, err := d.LaunchJob(ctx, run.Job)
			if err == nil {
				err = told.take(row)
			}
			if err != nil {
				return told.job, launchWaitError(one, err)
			}
			told.tell(func(e launch.Event) { show.tell(std, told.job, e) }, run.Started)
		}
		if run.State.Ended() {
			return told.job, launchError(run)
		}
		select {
		case <-ctx.Done():
			return told.job, launchWaitError(one, ctx.Err())
		case <-time.After(runPause):
		}
	}
}

// teller tells each event of a job once.
type teller struct {
	job  launch.Job
	last time.Time
}

func (t *teller) take(row schedule.LaunchJob) error {
	jobs, err := launchJobs([]schedule.LaunchJob{row})
	if err == nil {
		t.job = jobs[0]
	}
	return err
}

// tell is called with what happened since the last time; events of the job's
// earlier runs are left out.
func (t *teller) tell(f func(launch.Event), since time.Time) {
	for _, e := range t.job.Events {
		if e.At.After(t.last) && !e.At.Before(since) {
			f(e)
			t.last = e.At
		}
	}
}

func launchWaitError(one schedule.Done, err error) error {
	kind := transfer.Retry
	if errors.Is(err, context.Canceled) {
		kind = transfer.Canceled
	}
	return transfer.Fail(kind, fmt.Sprintf("wait for the launch of %s", one.Name), err,
		fmt.Sprintf("The service goes on with it: \"snapferry launches %s\" shows how far it is.", one.Name))
}

// launchError is the error of a run that ended.
func launchError(run schedule.LaunchRun) error {
	what := fmt.Sprintf("%s %s", run.Action, run.VMName)
	switch run.State {
	case schedule.RunDone:
		return nil
	case schedule.RunCancelled:
		return transfer.Fail(transfer.Canceled, what, errors.New("it was cancelled"), "Repeat it to go on where it stopped.")
	}
	kind := transfer.Permanent
	if run.Reason == schedule.ReasonRetry {
		kind = transfer.Retry
	}
	return transfer.Fail(kind, what, errors.New(run.Error), run.Hint)
}

var _ console.LaunchBackend = (*desk)(nil)
