package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapferry/schedule"
)

// What a person may say of a VM; the other steps of the lifecycle are those of
// a launch.
const (
	markDisconnect = "disconnect"
	markReconnect  = "reconnect"
)

var marks = []string{"ready-for-cutover", "ready-for-test", markDisconnect, markReconnect}

func isMark(as string) bool { return slices.Contains(marks, as) }

func listMarks() string { return strings.Join(marks, ", ") }

func (s *Service) mark(ctx context.Context, by schedule.Actor, vm *schedule.VM, as string, d *schedule.Done) error {
	to, from, err := vm.Lifecycle.Next(as)
	if err != nil {
		return fmt.Errorf("mark %s: %w", vm.Name, err)
	}
	if to == vm.Lifecycle {
		d.Result = "already " + string(to)
		return nil
	}
	if as == markDisconnect && s.launches != nil {
		c, err := s.scene(ctx, vm.ID, false, nil)
		if err == nil {
			err = c.mayDisconnect()
		}
		if err != nil {
			return err
		}
	}
	if err := s.store.SetLifecycle(ctx, vm.ID, from, to); err != nil {
		return fmt.Errorf("mark %s as %s: %w", vm.Name, as, err)
	}
	d.Result = string(to)
	e := schedule.Event{Kind: schedule.EventLifecycle, VM: vm.ID, VMName: vm.Name, Text: fmt.Sprintf("%s is %s", vm.Name, to)}
	if err := s.record(ctx, by, e); err != nil {
		return err
	}
	switch as {
	case markReconnect:
		return s.replan(ctx, vm, "reconnected by "+who(by))
	case markDisconnect:
		run, err := s.active(ctx, vm.ID)
		if err != nil || run == nil {
			return err
		}
		d.Run = run.ID
		ended := schedule.Done{}
		if err := s.endRun(ctx, by, vm, &ended); err != nil {
			return err
		}
		d.Result += "; run " + number(run.ID) + ": " + ended.Result
	}
	return nil
}

// cancelLaunch is the action of waves that ends launch runs.
const cancelLaunch = "cancel-launch"

// ActOnWave does "pause", "resume", "sync", "cancel", "cancel-launch", a mark or
// an action of a launch, without wishes, to every VM of a wave.
func (s *Service) ActOnWave(ctx context.Context, by schedule.Actor, name, action string) ([]schedule.Done, error) {
	w, err := s.wave(ctx, name)
	if err != nil {
		return nil, err
	}
	switch action {
	case "pause":
		return s.Pause(ctx, by, w.VMs, fmt.Sprintf("wave %s paused by %s", name, who(by)))
	case "resume":
		return s.Resume(ctx, by, w.VMs)
	case "sync":
		return s.syncAll(ctx, by, w.VMs, false, "wave "+name)
	case "cancel":
		return s.Cancel(ctx, by, w.VMs)
	}
	switch {
	case isMark(action):
		return s.Mark(ctx, by, w.VMs, action)
	case action == cancelLaunch:
		return s.CancelLaunch(ctx, by, w.VMs)
	case isLaunch(action):
		return s.Launch(ctx, by, w.VMs, name, schedule.LaunchAction(action), schedule.LaunchWish{})
	}
	return nil, invalid("", "a wave can be told to pause, resume, sync, cancel, %s, %s, %s, not %q", listMarks(), listActions(", "), cancelLaunch, action)
}
