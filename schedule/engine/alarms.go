package engine

import (
	"context"
	"strings"

	"snapferry/schedule"
)

// raise renews an alarm, and tells of it when it is new.
func (e *Engine) raise(ctx context.Context, a schedule.Alarm) {
	a.Since, a.Seen = e.Now(), e.Now()
	var fresh bool
	err := bounded(ctx, func(ctx context.Context) (err error) {
		fresh, err = e.Store.Raise(ctx, a)
		return err
	})
	if err != nil {
		e.Log.Warn("raise alarm", "key", a.Key, "error", err)
		return
	}
	if !fresh {
		return
	}
	e.Log.Warn("alarm", "key", a.Key, "text", a.Text)
	e.record(ctx, schedule.Event{Kind: schedule.EventAlarm, VM: a.VM, VMName: a.VMName, Actor: string(e.Appliance), Text: a.Text},
		map[string]any{"key": a.Key, "kind": a.Kind, "hint": a.Hint})
	if a.Kind == schedule.AlarmStalled {
		e.record(ctx, schedule.Event{Kind: schedule.EventStalled, VM: a.VM, VMName: a.VMName, Actor: string(e.Appliance), Text: a.Text}, nil)
	}
}

// clear ends an alarm, and tells of it when there was one.
func (e *Engine) clear(ctx context.Context, key, about string) {
	var was bool
	err := bounded(ctx, func(ctx context.Context) (err error) {
		was, err = e.Store.Clear(ctx, key, e.Now())
		return err
	})
	if err != nil {
		e.Log.Warn("clear alarm", "key", key, "error", err)
		return
	}
	if was {
		e.Log.Info("alarm cleared", "key", key)
		e.record(ctx, schedule.Event{Kind: schedule.EventAlarmCleared, VMName: about, Actor: string(e.Appliance), Text: "no longer: " + key},
			map[string]any{"key": key})
	}
}

// settle makes the open alarms whose keys begin with one of the prefixes
// exactly these.
func (e *Engine) settle(ctx context.Context, prefixes []string, now []schedule.Alarm) error {
	open, err := e.Store.OpenAlarms(ctx)
	if err != nil {
		return err
	}
	holds := map[string]bool{}
	for _, a := range now {
		holds[a.Key] = true
		e.raise(ctx, a)
	}
	for _, a := range open {
		if holds[a.Key] || !hasPrefix(a.Key, prefixes) {
			continue
		}
		e.clear(ctx, a.Key, a.VMName)
		if a.Kind == schedule.AlarmStalled {
			e.record(ctx, schedule.Event{Kind: schedule.EventRecovered, VM: a.VM, VMName: a.VMName, Actor: string(e.Appliance), Text: a.VMName + " replicates again"}, nil)
		}
	}
	return nil
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
