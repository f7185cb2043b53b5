package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/transfer"
)

// launchWork is what this appliance can do about launches for the engine.
type launchWork struct{ *work }

var _ engine.LaunchWork = launchWork{}

// joined is what a launch of a VM takes.
func (k launchWork) joined(ctx context.Context, vm schedule.VM) (*launching, error) {
	l, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	env := l.env
	env.LockWait = lockWait
	return &launching{
		cfg: k.cfg, id: vm.ID, name: vm.Name, vc: l.vc, store: l.store, env: env, settings: vm.Launch,
		clean: func(ctx context.Context) error {
			r := k.reaper(l)
			r.VMs = []transfer.VMID{vm.ID}
			_, err := r.Run(ctx, false)
			return err
		},
	}, nil
}

// Launch does an action, or goes on with it after a crash of anybody.
func (k launchWork) Launch(ctx context.Context, t engine.LaunchTask) error {
	j, err := k.joined(ctx, t.VM)
	if err != nil {
		return err
	}
	known, err := launchJobs(t.Jobs)
	if err != nil {
		return err
	}
	j.save = func(ctx context.Context, job launch.Job) error {
		row, err := launchRow(job)
		if err != nil {
			return err
		}
		return t.Save(ctx, row)
	}
	j.tell = func(job launch.Job, e launch.Event) {
		k.log.Info("launch", "vm", job.Request.VMName, "job", job.ID, "event", e.Kind, "step", e.Step, "text", e.Text)
	}
	j.sync = func(ctx context.Context, why string) (transfer.Report, error) {
		run, err := t.Sync(ctx, why)
		return run.Report, err
	}
	_, err = j.act(ctx, t.Run.Action, t.Run.Wish, known, launch.JobID(t.Run.Job))
	return err
}

// Preview says what an action on a VM would do.
func (k launchWork) Preview(ctx context.Context, vm schedule.VM, open, earlier []schedule.LaunchJob, a schedule.LaunchAction, w schedule.LaunchWish, pending int64) (schedule.LaunchPreview, error) {
	j, err := k.joined(ctx, vm)
	if err != nil {
		return schedule.LaunchPreview{}, err
	}
	known, err := launchJobs(open)
	if err != nil {
		return schedule.LaunchPreview{}, err
	}
	m := vm.Measure
	in := launch.ForecastInput{Pending: pending, Rate: m.PutRate, Overhead: m.Freeze + m.Release + m.Seal}
	if in.Jobs, err = launchJobs(earlier); err != nil {
		return schedule.LaunchPreview{}, err
	}
	return j.preview(ctx, a, w, known, in)
}

// orphanGrace is how long a test may outlive its end before it is taken for one
// that no book knows: the engine ends those that it knows by then.
const orphanGrace = 10 * time.Minute

// EndOrphans ends tests that are over and that no job of known tells of.
func (k launchWork) EndOrphans(ctx context.Context, known func(job string) bool) error {
	l, err := k.open(ctx)
	if err != nil {
		return err
	}
	j := &launching{cfg: k.cfg, store: l.store, env: l.env}
	launcher, err := j.launcher()
	if err != nil {
		return err
	}
	inventory, err := launcher.Inventory(ctx, transfer.VMID{})
	if err != nil {
		return err
	}
	var wrong []error
	for _, job := range launch.JobsOf(inventory) {
		if job.Request.VM.VCenter != l.vc.ID() || known(string(job.ID)) || !job.Due(time.Now().Add(-orphanGrace)) {
			continue
		}
		k.log.Warn("end a test that is over and that nobody knows any more", "job", job.ID, "vm", job.Request.VM)
		if err := launcher.EndTest(ctx, &job); err != nil {
			wrong = append(wrong, fmt.Errorf("end test %s: %w", job.ID, err))
		}
	}
	return errors.Join(wrong...)
}

// proveCost is the estimate of launching the newest points of some VMs every so
// often.
func proveCost(every time.Duration, vms []schedule.VM) string {
	if len(vms) == 0 {
		return "no VM has the policy yet; each proof is a launch of some minutes, with volumes of its disks' size"
	}
	var size int64
	for _, vm := range vms {
		size += vm.Bytes()
	}
	average := transfer.Snapshot{VolumeGiB: (size/int64(len(vms)) + gib - 1) / gib}
	e := launch.EstimateOf(launch.Request{Point: transfer.Point{Disks: []transfer.Snapshot{average}}}, "an instance of the VM's size", every, proofTakes)
	return fmt.Sprintf("each of %s: %s", plural(int64(len(vms)), "VM"), e.Text)
}

const (
	gib = 1 << 30
	// proofTakes is what a proof is reckoned to take: EC2's status checks alone
	// take three to five minutes, and AWS bills whole minutes.
	proofTakes = 10 * time.Minute
)
