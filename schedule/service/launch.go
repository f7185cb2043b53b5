package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/schedule"
	"snapferry/transfer"
)

const (
	// previewsAtOnce: each makes some ten calls to EC2, whose buckets for
	// describing refill with 20 a second and are others' too.
	previewsAtOnce = 4
	// queueTime is what writing all runs down may take once they are decided on:
	// thousands of short transactions.
	queueTime = time.Minute
)

func (s *Service) canLaunch() error {
	if s.launches == nil {
		return conflict("", "launches are not kept here")
	}
	return nil
}

// Launch queues an action on VMs: those that are named, or all of a wave, or
// both: those, which must be of the wave. All of them are looked at before any
// begins; where there are several, or a wave, and a daemon is at hand, its dry
// run is asked as well. The error names each VM that would be refused, and then
// nothing was queued.
func (s *Service) Launch(ctx context.Context, by schedule.Actor, vms []transfer.VMID, wave string, action schedule.LaunchAction, wish schedule.LaunchWish) ([]schedule.Done, error) {
	if err := s.canLaunch(); err != nil {
		return nil, err
	}
	if err := s.checkWish(action, &wish); err != nil {
		return nil, err
	}
	vms, err := s.crew(ctx, vms, wave)
	if err != nil {
		return nil, err
	}
	if wish.Point != "" && len(vms) > 1 {
		return nil, invalid("Leave it out: each VM's newest point is taken.", "point names that of one VM, and there are %d", len(vms))
	}
	scenes, err := s.mayAll(ctx, vms, wave == "" && len(vms) == 1, action, &wish)
	if err != nil {
		return nil, err
	}
	trigger := "user " + who(by)
	if wave != "" {
		trigger = "wave " + wave
	}
	// From here on it is all of them: somebody who hangs up does not leave half.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueTime)
	defer cancel()
	var all []schedule.LaunchWanted
	for _, c := range scenes {
		all = append(all, schedule.LaunchWanted{VM: c.vm.ID, VMName: c.vm.Name, Action: action, Wish: wish, Trigger: trigger, Wave: wave})
	}
	return s.queueLaunches(ctx, by, all)
}

// crew are the VMs to act on, each once.
func (s *Service) crew(ctx context.Context, vms []transfer.VMID, wave string) ([]transfer.VMID, error) {
	if wave != "" {
		w, err := s.wave(ctx, wave)
		if err != nil {
			return nil, err
		}
		for _, id := range vms {
			if !slices.Contains(w.VMs, id) {
				return nil, invalid("", "VM %s is not of wave %s", id, wave)
			}
		}
		if len(vms) == 0 {
			vms = w.VMs
		}
		if len(vms) == 0 {
			return nil, conflict("", "wave %s has no VMs", wave)
		}
	}
	if len(vms) == 0 {
		return nil, invalid("", "no VM is named")
	}
	seen, out := make(map[transfer.VMID]bool, len(vms)), make([]transfer.VMID, 0, len(vms))
	for _, id := range vms {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out, nil
}

// mayAll looks at every VM, and has those previewed that would go with others.
func (s *Service) mayAll(ctx context.Context, vms []transfer.VMID, single bool, a schedule.LaunchAction, w *schedule.LaunchWish) ([]*scene, error) {
	policies, err := s.policies(ctx)
	if err != nil {
		return nil, err
	}
	scenes, wrong := make([]*scene, len(vms)), several{of: len(vms)}
	for i, id := range vms {
		c, err := s.scene(ctx, id, w.Point != "", policies)
		if err == nil {
			err = s.may(c, a, w)
		}
		switch {
		case err == nil:
			scenes[i] = c
		case single || !isRefusal(err):
			return nil, err
		default:
			name := id.String()
			if c != nil {
				name = c.vm.Name
			}
			wrong.add(name, err)
		}
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	// The way back and the end of a test must not depend on what AWS answers.
	back := a == schedule.LaunchRevert || a == schedule.LaunchTestDone
	if single || back || s.preview == nil {
		return scenes, nil
	}
	return scenes, s.previewAll(ctx, scenes, a, *w)
}

// isRefusal tells what a person can put in order from a database that fails.
func isRefusal(err error) bool {
	return errors.Is(err, schedule.ErrNotFound) || errors.Is(err, schedule.ErrConflict) || errors.Is(err, schedule.ErrInvalid)
}

// scene reads what decides about a VM.
func (s *Service) scene(ctx context.Context, id transfer.VMID, points bool, policies map[string]*schedule.Policy) (*scene, error) {
	vm, err := s.load(ctx, id)
	if err != nil {
		return nil, err
	}
	c := &scene{vm: &vm}
	if p := policies[vm.Policy]; p != nil {
		c.exclude = p.Exclude
	}
	if c.run, err = s.activeLaunch(ctx, id); err != nil {
		return nil, err
	}
	if c.jobs, err = s.launches.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &id, Open: true}, false); err != nil {
		return nil, fmt.Errorf("read the launches of %s: %w", vm.Name, err)
	}
	if points {
		c.points, err = s.store.Points(ctx, id)
	}
	return c, err
}

// activeLaunch is the launch run of a VM that has not ended, or nil.
func (s *Service) activeLaunch(ctx context.Context, id transfer.VMID) (*schedule.LaunchRun, error) {
	runs, err := s.launches.LaunchRuns(ctx, schedule.LaunchQuery{VM: &id, Active: true, Limit: 1})
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return &runs[0], nil
}

// may is the scene's word, and that on the settings that would hold.
func (s *Service) may(c *scene, a schedule.LaunchAction, w *schedule.LaunchWish) error {
	if err := c.may(a, w); err != nil {
		return err
	}
	if a != schedule.LaunchTest && a != schedule.LaunchCutover {
		return nil
	}
	return s.checkSettings(merged(c.vm.Launch, w.Settings))
}

// previewAll has every VM previewed; the error names each that would be
// refused.
func (s *Service) previewAll(ctx context.Context, scenes []*scene, a schedule.LaunchAction, w schedule.LaunchWish) error {
	refused := make([]error, len(scenes))
	g := errgroup.Group{}
	g.SetLimit(previewsAtOnce)
	for i, c := range scenes {
		g.Go(func() error {
			p, err := s.preview(ctx, *c.vm, a, w)
			if err == nil {
				err = problem(p)
			}
			refused[i] = err
			return nil
		})
	}
	_ = g.Wait() // its functions return none
	if ctx.Err() != nil {
		return fmt.Errorf("try the %s of %d VMs out: %w", a, len(scenes), context.Cause(ctx))
	}
	wrong := several{of: len(scenes)}
	for i, err := range refused {
		if err != nil {
			wrong.add(scenes[i].vm.Name, err)
		}
	}
	return wrong.err()
}

// problem is why a preview says that an action would be refused, or nil.
func problem(p schedule.LaunchPreview) error {
	switch {
	case p.Problem != "":
		return conflict(p.Hint, "%s", p.Problem)
	case len(p.Denied) > 0:
		return conflict("Add them to the role's policy.", "permissions are missing: %s", strings.Join(p.Denied, ", "))
	}
	return nil
}

// queueLaunches writes all runs down, or none: when one cannot be, those before
// it are taken back.
func (s *Service) queueLaunches(ctx context.Context, by schedule.Actor, all []schedule.LaunchWanted) ([]schedule.Done, error) {
	defer s.shared.forget()
	done := make([]schedule.Done, 0, len(all))
	var fresh []schedule.LaunchRun
	for _, w := range all {
		run, isNew, err := s.launches.QueueLaunch(ctx, w, s.now())
		switch {
		case err != nil:
			err = fmt.Errorf("queue the %s of %s: %w", w.Action, w.VMName, err)
		case isNew:
			fresh = append(fresh, run)
		case !same(&run, w.Action, &w.Wish): // begun since the VM was looked at
			err = busy(&run)
		}
		if err != nil {
			return nil, s.takeBack(ctx, by, fresh, err)
		}
		d := schedule.Done{VM: w.VM, Name: w.VMName, Run: run.ID, Result: "queued"}
		if !isNew {
			d.Result = "already " + string(run.State)
		}
		done = append(done, d)
	}
	if len(fresh) == 0 {
		return done, nil
	}
	s.kick()
	for _, run := range fresh {
		if err := s.recordLaunch(ctx, by, schedule.EventLaunchQueued, run, fmt.Sprintf("%s of %s was asked for: %s", run.Action, run.VMName, run.Trigger)); err != nil {
			return done, err
		}
	}
	return done, nil
}

// takeBack cancels what was queued before cause.
func (s *Service) takeBack(ctx context.Context, by schedule.Actor, fresh []schedule.LaunchRun, cause error) error {
	for _, run := range fresh {
		if _, _, err := s.launches.AskCancelLaunch(ctx, run.VM, s.now()); err != nil && !errors.Is(err, schedule.ErrNotFound) {
			return fmt.Errorf("%w; and the %s of %s, which was queued before, cannot be taken back: %w", cause, run.Action, run.VMName, err)
		}
		_ = s.recordLaunch(ctx, by, schedule.EventLaunchCancelled, run, fmt.Sprintf("%s of %s was taken back, since not all could be queued", run.Action, run.VMName))
	}
	return cause
}

func (s *Service) recordLaunch(ctx context.Context, by schedule.Actor, kind schedule.EventKind, run schedule.LaunchRun, text string) error {
	data, err := json.Marshal(schedule.LaunchTold{LaunchRun: run.ID, Action: run.Action, Wave: run.Wave, Trigger: run.Trigger, Prove: run.Wish.Prove})
	if err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	return s.record(ctx, by, schedule.Event{Kind: kind, VM: run.VM, VMName: run.VMName, Text: text, Data: data})
}

// CancelLaunch ends the launch runs of VMs: one that waits at once, one that
// runs as soon as it can leave off. What it has made stays, for a repeat or a
// revert.
func (s *Service) CancelLaunch(ctx context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	if err := s.canLaunch(); err != nil {
		return nil, err
	}
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		id, ended, err := s.launches.AskCancelLaunch(ctx, vm.ID, s.now())
		if errors.Is(err, schedule.ErrNotFound) {
			return conflict("", "%s has no launch to cancel", vm.Name)
		}
		if err != nil {
			return fmt.Errorf("cancel the launch of %s: %w", vm.Name, err)
		}
		d.Run, d.Result = id, "cancelling"
		if !ended { // the appliance that has it in hand says when it has ended
			return nil
		}
		d.Result = "cancelled"
		run, err := s.launches.LaunchRun(ctx, id)
		if err != nil {
			return fmt.Errorf("read the launch run that was cancelled: %w", err)
		}
		return s.recordLaunch(ctx, by, schedule.EventLaunchCancelled, run, fmt.Sprintf("%s of %s was cancelled before it began", run.Action, vm.Name))
	})
}
