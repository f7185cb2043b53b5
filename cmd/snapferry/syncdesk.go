package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
	"snapferry/transfer"
)

// onlyAlone are the flags of sync that a daemon cannot be given: it replicates
// by policy, and the next of its cycles would undo what one flag did.
var onlyAlone = []string{
	"parallel", "limit", "max-freeze", "exclude-disk", "tag", "encrypted", "kms-key", "quiesce", "zeros",
}

// throughDaemon decides whether sync asks the daemon of this state folder.
func throughDaemon(fs *pflag.FlagSet, o *syncOptions, w *wire) (bool, error) {
	if o.plan || o.alone || !daemonRuns(w.cfg) {
		return false, nil
	}
	for _, name := range onlyAlone {
		if fs.Changed(name) {
			return false, cli.Usagef("--%s: a daemon runs on this machine and replicates by policy; set it there, or add --alone for one cycle beside the daemon", name)
		}
	}
	return true, nil
}

// syncAtDesk has the daemon replicate the VMs, and shows it.
func (w *wire) syncAtDesk(ctx context.Context, o syncOptions, names []string) (cli.Value, error) {
	show, err := newDisplay(o.progress, w.std)
	if err != nil {
		return nil, err
	}
	d, err := openDesk(ctx, w.cfg, remote{})
	if err != nil {
		return nil, err
	}
	defer d.close()
	vms, err := d.Resolve(ctx, names)
	if err != nil {
		return nil, serviceError(err)
	}
	done, err := d.Sync(ctx, d.by, vms, o.seed)
	if err != nil {
		return nil, serviceError(err)
	}
	result := &syncResult{Cycles: make([]transfer.Report, len(done))}
	errs := make([]error, len(done))
	var g errgroup.Group
	for i, one := range done {
		g.Go(func() error {
			result.Cycles[i], errs[i] = awaitRun(ctx, d, show, one)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	show.close()
	return result, errors.Join(errs...)
}

// runPause is how often the daemon is asked how far a run is.
const runPause = 500 * time.Millisecond

// awaitRun shows a run until it ends.
func awaitRun(ctx context.Context, d *desk, show *display, one schedule.Done) (transfer.Report, error) {
	report := transfer.Report{VM: one.VM, VMName: one.Name}
	if one.Run == 0 {
		report.Outcome, report.Error = transfer.OutcomeFailed, one.Error
		return report, transfer.Fail(transfer.Permanent, "replicate "+one.Name, errors.New(one.Error), "")
	}
	var mu sync.Mutex
	get := func() transfer.Report { mu.Lock(); defer mu.Unlock(); return report }
	r := &running{name: one.Name, report: get}
	defer show.follow(r)()
	var step transfer.Step
	for {
		run, err := d.Run(ctx, one.Run)
		if err != nil {
			return get(), waitError(one, err)
		}
		mu.Lock()
		report = run.Report
		report.VM, report.VMName = one.VM, one.Name
		mu.Unlock()
		if run.State.Ended() {
			return get(), runError(run)
		}
		if s := run.Report.Step; s != step {
			step = s
			show.stepped(r)
		}
		select {
		case <-ctx.Done():
			return get(), waitError(one, ctx.Err())
		case <-time.After(runPause):
		}
	}
}

func waitError(one schedule.Done, err error) error {
	kind := transfer.Retry
	if errors.Is(err, context.Canceled) {
		kind = transfer.Canceled
	}
	return transfer.Fail(kind, fmt.Sprintf("wait for run %d of %s", one.Run, one.Name), err,
		fmt.Sprintf("The daemon goes on with it: \"snapferry status %s\" shows how far it is, \"snapferry cancel %s\" gives it up.", one.Name, one.Name))
}

// runError is the error of a run that ended.
func runError(run schedule.Run) error {
	switch run.State {
	case schedule.RunDone:
		return nil
	case schedule.RunCancelled:
		return transfer.Fail(transfer.Canceled, "replicate "+run.VMName, errors.New("the run was cancelled"), "")
	}
	kind := transfer.Permanent
	if run.Reason == schedule.ReasonRetry {
		kind = transfer.Retry
	}
	return transfer.Fail(kind, "replicate "+run.VMName, errors.New(run.Error), run.Hint)
}
