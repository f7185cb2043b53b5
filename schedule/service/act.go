package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"snapferry/schedule"
	"snapferry/transfer"
)

// doing is something that is done to VMs, one after the other.
type doing func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error

// each does something to each VM, each once, and has one result for each. What
// one VM refuses does not keep the others from it; the error is for what no VM
// could do anything about.
func (s *Service) each(ctx context.Context, vms []transfer.VMID, do doing) ([]schedule.Done, error) {
	done := make([]schedule.Done, 0, len(vms))
	seen := make(map[transfer.VMID]bool, len(vms))
	acted := false
	defer s.shared.forget()
	for _, id := range vms {
		if seen[id] {
			continue
		}
		seen[id] = true
		d := schedule.Done{VM: id}
		vm, err := s.load(ctx, id)
		if err == nil {
			d.Name = vm.Name
			err = do(ctx, &vm, &d)
		}
		if err != nil {
			d.Error = withHint(err)
		} else {
			acted = true
		}
		done = append(done, d)
	}
	if acted {
		s.kick()
	}
	return done, nil
}

// withHint is an error with what to do about it, in one line.
func withHint(err error) string {
	if hint := transfer.HintOf(err); hint != "" {
		return err.Error() + ". " + hint
	}
	return err.Error()
}

func who(by schedule.Actor) string { return cmp.Or(by.Name, "somebody") }

// maxWhy bounds the reason of a pause.
const maxWhy = 500

// Pause keeps VMs from being replicated by schedule. A cycle that runs goes on;
// a run that waits for room is ended.
func (s *Service) Pause(ctx context.Context, by schedule.Actor, vms []transfer.VMID, why string) ([]schedule.Done, error) {
	if len(why) > maxWhy || !isText(why, "") {
		return nil, invalid("", "the reason of a pause is one line of at most %d bytes", maxWhy)
	}
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		return s.pause(ctx, by, vm, cmp.Or(why, "paused by "+who(by)), d)
	})
}

func (s *Service) pause(ctx context.Context, by schedule.Actor, vm *schedule.VM, why string, d *schedule.Done) error {
	changed := false
	if !vm.Paused { // who paused it first knows why
		var err error
		if changed, err = s.store.SetPaused(ctx, vm.ID, true, why); err != nil {
			return fmt.Errorf("pause %s: %w", vm.Name, err)
		}
	}
	d.Result = "already paused"
	if changed {
		d.Result = "paused"
		if err := s.record(ctx, by, schedule.Event{Kind: schedule.EventPaused, VM: vm.ID, VMName: vm.Name, Text: fmt.Sprintf("%s is paused: %s", vm.Name, why)}); err != nil {
			return err
		}
	}
	run, err := s.active(ctx, vm.ID)
	if err != nil || run == nil {
		return err
	}
	d.Run = run.ID
	if run.State != schedule.RunQueued || !changed {
		d.Result += "; run " + number(run.ID) + " goes on"
		return nil
	}
	d.Result += "; run " + number(run.ID) + ", which was queued, is cancelled"
	return s.endRun(ctx, by, vm, &schedule.Done{})
}

// active is the run of a VM that has not ended, or nil.
func (s *Service) active(ctx context.Context, vm transfer.VMID) (*schedule.Run, error) {
	runs, err := s.store.Runs(ctx, schedule.RunQuery{VM: &vm, Active: true, Limit: 1})
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return &runs[0], nil
}

func number(n int64) string { return fmt.Sprint(n) }

// Resume lets VMs be replicated by schedule again.
func (s *Service) Resume(ctx context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		return s.resume(ctx, by, vm, d)
	})
}

func (s *Service) resume(ctx context.Context, by schedule.Actor, vm *schedule.VM, d *schedule.Done) error {
	changed, err := s.store.SetPaused(ctx, vm.ID, false, "")
	if err != nil {
		return fmt.Errorf("resume %s: %w", vm.Name, err)
	}
	if !changed {
		d.Result = "was not paused"
		return nil
	}
	d.Result = "resumed"
	if err := s.replan(ctx, vm, "resumed by "+who(by)); err != nil {
		return err
	}
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventResumed, VM: vm.ID, VMName: vm.Name, Text: vm.Name + " is resumed"})
}

// replan makes a VM due when its policy says, as things stand now: what became
// due while it was paused is not made up for, but in its policy's way.
func (s *Service) replan(ctx context.Context, vm *schedule.VM, why string) error {
	policies, err := s.policies(ctx)
	if err != nil {
		return err
	}
	p := policies[vm.Policy]
	if p == nil {
		return nil // the planner gives it a policy, or nobody does
	}
	in := schedule.DueInput{VM: vm.ID, Now: s.now(), Last: vm.Point.Instant, Measure: vm.Measure}
	due := schedule.NextDue(p, in)
	if err := s.store.SetNext(ctx, vm.ID, due.At, why+"; "+due.Why); err != nil {
		return fmt.Errorf("plan %s anew: %w", vm.Name, err)
	}
	return nil
}

// Sync replicates VMs once, before all that waits by schedule, and whether they
// are paused or not. A VM that has a run keeps that one.
func (s *Service) Sync(ctx context.Context, by schedule.Actor, vms []transfer.VMID, seed bool) ([]schedule.Done, error) {
	return s.syncAll(ctx, by, vms, seed, "user "+who(by))
}

func (s *Service) syncAll(ctx context.Context, by schedule.Actor, vms []transfer.VMID, seed bool, trigger string) ([]schedule.Done, error) {
	policies, err := s.policies(ctx)
	if err != nil {
		return nil, err
	}
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		p := policies[vm.Policy]
		if err := replicable(vm, p); err != nil {
			return err
		}
		w := schedule.Wanted{VM: vm.ID, Trigger: trigger, Seed: seed, Policy: vm.Policy, Urgent: true}
		if p != nil {
			w.Priority = p.Priority
		}
		return s.queue(ctx, by, vm, w, d)
	})
}

// replicable refuses what cannot be replicated, in the obstacle's own words. p
// may be nil: then it is done as sync does it by default.
func replicable(vm *schedule.VM, p *schedule.Policy) error {
	switch {
	case vm.Gone:
		return conflict("", "%s is not in vCenter any more", vm.Name)
	case vm.Lifecycle == schedule.CutOver:
		return conflict("To go back to the source: snapferry revert "+shellWord(vm.Name), "%s is %s: its replication has ended", vm.Name, vm.Lifecycle)
	case vm.Lifecycle == schedule.Disconnected:
		return conflict("Mark it as reconnect first.", "%s is %s: its replication has ended", vm.Name, vm.Lifecycle)
	}
	var exclude []string
	if p != nil {
		exclude = p.Exclude
	}
	if _, _, err := transfer.ChooseDisks(vm.VM, exclude); err != nil {
		return conflict(transfer.HintOf(err), "%v", err)
	}
	return nil
}

func (s *Service) queue(ctx context.Context, by schedule.Actor, vm *schedule.VM, w schedule.Wanted, d *schedule.Done) error {
	run, fresh, err := s.store.Queue(ctx, w, s.now())
	if err != nil {
		return fmt.Errorf("queue %s: %w", vm.Name, err)
	}
	d.Run = run.ID
	switch {
	case fresh:
		d.Result = "queued"
		return s.record(ctx, by, schedule.Event{Kind: schedule.EventRunQueued, VM: vm.ID, VMName: vm.Name, Run: run.ID, Text: vm.Name + " is to be replicated: " + w.Trigger})
	case w.Seed && !run.Seed:
		return conflict("Cancel it first, or wait until it has ended.", "run %d of %s is %s, and it is none that copies everything anew", run.ID, vm.Name, run.State)
	case run.State == schedule.RunQueued:
		d.Result = "already queued"
	default:
		d.Result = "already running"
	}
	return nil
}

// Cancel ends the runs of VMs: one that waits at once, one that runs as soon as
// it has cleaned up.
func (s *Service) Cancel(ctx context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		return s.endRun(ctx, by, vm, d)
	})
}

func (s *Service) endRun(ctx context.Context, by schedule.Actor, vm *schedule.VM, d *schedule.Done) error {
	run, ended, err := s.store.AskCancel(ctx, vm.ID, s.now())
	if errors.Is(err, schedule.ErrNotFound) {
		return conflict("", "%s has no run to cancel", vm.Name)
	}
	if err != nil {
		return fmt.Errorf("cancel the run of %s: %w", vm.Name, err)
	}
	d.Run = run
	if !ended { // the appliance that runs it says when it has ended
		d.Result = "cancelling"
		return nil
	}
	d.Result = "cancelled"
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventRunCancelled, VM: vm.ID, VMName: vm.Name, Run: run, Text: "replication of " + vm.Name + " was cancelled before it began"})
}

// Choose gives VMs a policy, whatever matches; "" takes that back.
func (s *Service) Choose(ctx context.Context, by schedule.Actor, vms []transfer.VMID, policy string) ([]schedule.Done, error) {
	chosen := make(map[transfer.VMID]string, len(vms))
	for _, id := range vms {
		chosen[id] = policy
	}
	if err := s.canChoose(ctx, chosen); err != nil {
		return nil, err
	}
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		return s.choose(ctx, by, vm, policy, d)
	})
}

func (s *Service) choose(ctx context.Context, by schedule.Actor, vm *schedule.VM, policy string, d *schedule.Done) error {
	if vm.Chosen == policy {
		d.Result = "unchanged"
		return nil
	}
	if err := s.store.Choose(ctx, vm.ID, policy); err != nil {
		return fmt.Errorf("give %s a policy: %w", vm.Name, err)
	}
	d.Result = "policy " + policy
	text := vm.Name + " was given policy " + policy
	if policy == "" {
		d.Result, text = "policy by match", vm.Name+" has the policy that matches it again"
	}
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventPolicyChanged, VM: vm.ID, VMName: vm.Name, Text: text})
}

// Mark moves VMs in their lifecycle: "ready-for-cutover", "ready-for-test",
// "disconnect" (which ends a run of theirs) and "reconnect".
func (s *Service) Mark(ctx context.Context, by schedule.Actor, vms []transfer.VMID, as string) ([]schedule.Done, error) {
	if !isMark(as) {
		return nil, invalid("", "a VM can be marked as %s, not as %q", listMarks(), as)
	}
	return s.each(ctx, vms, func(ctx context.Context, vm *schedule.VM, d *schedule.Done) error {
		return s.mark(ctx, by, vm, as, d)
	})
}
