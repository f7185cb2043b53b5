package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// each does something to VMs and says what came of it.
func (f *fake) each(vms []transfer.VMID, result string, do func(*schedule.VMStatus) error) ([]schedule.Done, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schedule.Done
	for _, id := range vms {
		d := schedule.Done{VM: id, Result: result}
		v, err := f.find(id)
		if err == nil {
			d.Name = v.Name
			err = do(v)
		}
		if err != nil {
			d.Error, d.Result = err.Error(), ""
		}
		out = append(out, d)
	}
	return out, nil
}

// tell adds an event; the lock is held.
func (f *fake) tell(k schedule.EventKind, v *schedule.VMStatus, by schedule.Actor, text string) {
	f.events = append(f.events, schedule.Event{ID: int64(len(f.events) + 1), At: theNow, Kind: k, VM: v.ID, VMName: v.Name, Actor: by.Name, Text: text})
}

func (f *fake) Resolve(_ context.Context, names []string) ([]transfer.VMID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []transfer.VMID
	for _, n := range names {
		i := slices.IndexFunc(f.vms, func(v schedule.VMStatus) bool {
			return v.Name == n || v.ID.Moref == n || v.ID.VCenter+":"+v.ID.Moref == n
		})
		if i < 0 {
			return nil, fmt.Errorf("VM %q: %w", n, schedule.ErrNotFound)
		}
		out = append(out, f.vms[i].ID)
	}
	return out, nil
}

func (f *fake) Pause(_ context.Context, by schedule.Actor, vms []transfer.VMID, why string) ([]schedule.Done, error) {
	return f.each(vms, "paused", func(v *schedule.VMStatus) error {
		v.Paused, v.PausedWhy, v.Replication = true, why, schedule.ReplicationPaused
		f.tell(schedule.EventPaused, v, by, why)
		return nil
	})
}

func (f *fake) Resume(_ context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return f.each(vms, "resumed", func(v *schedule.VMStatus) error {
		if !v.Paused {
			return errors.New("it is not paused")
		}
		v.Paused, v.Replication = false, schedule.ReplicationCurrent
		f.tell(schedule.EventResumed, v, by, "")
		return nil
	})
}

func (f *fake) Sync(_ context.Context, by schedule.Actor, vms []transfer.VMID, seed bool) ([]schedule.Done, error) {
	return f.each(vms, "queued", func(v *schedule.VMStatus) error {
		if v.Run != nil {
			return nil
		}
		run := schedule.Run{ID: 90000 + int64(len(f.runs)), VM: v.ID, VMName: v.Name, State: schedule.RunQueued, Trigger: "user " + by.Name, Seed: seed, Queued: theNow}
		v.Run = &run
		f.runs = append([]schedule.Run{run}, f.runs...)
		f.tell(schedule.EventRunQueued, v, by, "")
		return nil
	})
}

func (f *fake) Cancel(_ context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return f.each(vms, "cancelled", func(v *schedule.VMStatus) error {
		if v.Run == nil {
			return errors.New("nothing runs")
		}
		f.tell(schedule.EventRunCancelled, v, by, "")
		v.Run = nil
		return nil
	})
}

func (f *fake) Mark(_ context.Context, by schedule.Actor, vms []transfer.VMID, as string) ([]schedule.Done, error) {
	return f.each(vms, as, func(v *schedule.VMStatus) error {
		switch as {
		case "disconnect":
			v.Lifecycle, v.Replication = schedule.Disconnected, schedule.ReplicationEnded
		case "reconnect":
			v.Lifecycle, v.Replication = schedule.ReadyForTest, schedule.ReplicationCurrent
		default:
			v.Lifecycle = schedule.Lifecycle(as)
		}
		f.tell(schedule.EventLifecycle, v, by, as)
		return nil
	})
}

func (f *fake) Choose(_ context.Context, by schedule.Actor, vms []transfer.VMID, policy string) ([]schedule.Done, error) {
	return f.each(vms, "policy chosen", func(v *schedule.VMStatus) error {
		v.Policy, v.Chosen = policy, policy
		f.tell(schedule.EventPolicyChanged, v, by, policy)
		return nil
	})
}

func (f *fake) SetLaunch(context.Context, schedule.Actor, transfer.VMID, schedule.Launch) error {
	return nil
}
func (f *fake) SavePolicy(context.Context, schedule.Actor, schedule.Policy) error { return nil }
func (f *fake) DeletePolicy(context.Context, schedule.Actor, string) error        { return nil }

func (f *fake) SaveWave(_ context.Context, _ schedule.Actor, w schedule.Wave) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.TrimSpace(w.Name) == "" {
		return schedule.ErrInvalid
	}
	i := slices.IndexFunc(f.waveList, func(x schedule.Wave) bool { return x.Name == w.Name })
	if i < 0 {
		f.waveList = append(f.waveList, schedule.Wave{Name: w.Name})
		i = len(f.waveList) - 1
	}
	for j := range f.vms {
		v := &f.vms[j]
		switch in := slices.Contains(w.VMs, v.ID); {
		case in:
			v.Wave = w.Name
		case v.Wave == w.Name:
			v.Wave = ""
		}
	}
	f.waveList[i] = w
	return nil
}

func (f *fake) DeleteWave(_ context.Context, _ schedule.Actor, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waveList = slices.DeleteFunc(f.waveList, func(w schedule.Wave) bool { return w.Name == name })
	return nil
}

func (f *fake) ActOnWave(ctx context.Context, by schedule.Actor, name, action string) ([]schedule.Done, error) {
	var vms []transfer.VMID
	for _, w := range f.waveList {
		if w.Name == name {
			vms = w.VMs
		}
	}
	switch action {
	case "pause":
		return f.Pause(ctx, by, vms, "")
	case "resume":
		return f.Resume(ctx, by, vms)
	case "sync":
		return f.Sync(ctx, by, vms, false)
	case "cancel":
		return f.Cancel(ctx, by, vms)
	}
	return f.Mark(ctx, by, vms, action)
}

func (f *fake) ImportCSV(context.Context, schedule.Actor, io.Reader) ([]schedule.Done, error) {
	return nil, nil
}

func (f *fake) RecordDeed(_ context.Context, d schedule.Deed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d.ID = int64(100 + len(f.deeds))
	f.deeds = append([]schedule.Deed{d}, f.deeds...)
	return nil
}
