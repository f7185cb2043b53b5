package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/cmd/internal/metrics"
	"snapferry/cmd/internal/webhook"
	"snapferry/ebs"
	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

// observeVCenter and observeAWS count requests.
func (d *daemon) observeVCenter(op string, took time.Duration, err error) {
	d.metrics.ObserveCall(metrics.Call{Service: "vcenter", Operation: op, Took: took, Failed: err != nil})
}

func (d *daemon) observeAWS(e ebs.Exchange) {
	d.metrics.ObserveCall(metrics.Call{Service: e.Service, Operation: e.Op, Took: e.Took, Failed: e.Err != nil, Throttled: e.Throttled, Retry: e.Again})
}

// assembleHooks makes what delivers events.
func (d *daemon) assembleHooks() error {
	var hooks []webhook.Hook
	for _, h := range d.cfg.Webhooks {
		hooks = append(hooks, webhook.Hook{Name: h.Name, URL: h.URL, Events: h.Events, Secret: webhook.Secret(h.Secret.Reveal()), CA: h.CACerts})
	}
	var err error
	d.hooks, err = webhook.New(webhook.Config{
		Hooks: hooks, Source: d.desk, Cursor: hookCursor{d.db}, Leader: d.leads.Load, Appliance: string(d.id), Version: version, Log: d.log,
		Observe: func(hook string, r webhook.Result) { d.metrics.ObserveDelivery(hook, string(r)) },
		GivenUp: d.hookGaveUp, Well: d.hookWell,
	})
	return err
}

// hookTime bounds writing down what a webhook did.
const hookTime = 10 * time.Second

func hookAlarm(hook string) string { return "webhook/" + hook }

// hookGaveUp raises an alarm: somebody misses an event.
func (d *daemon) hookGaveUp(hook string, e schedule.Event, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), hookTime)
	defer cancel()
	now := time.Now()
	_, err := d.db.Raise(ctx, schedule.Alarm{
		Key: hookAlarm(hook), Kind: schedule.AlarmOther, Since: now, Seen: now,
		Text: fmt.Sprintf("webhook %s was not told of event %d (%s): %v", hook, e.ID, e.Kind, cause),
		Hint: "See what its receiver answers; what was given up is not sent again.",
	})
	if err != nil {
		d.log.Warn("raise an alarm", "error", err)
	}
}

func (d *daemon) hookWell(hook string) {
	ctx, cancel := context.WithTimeout(context.Background(), hookTime)
	defer cancel()
	if _, err := d.db.Clear(ctx, hookAlarm(hook), time.Now()); err != nil {
		d.log.Warn("clear an alarm", "error", err)
	}
}

// leaderPeriod is how often the fleet is asked who sends the webhooks: an
// appliance that dies is known as dead after half a minute.
const leaderPeriod = 5 * time.Second

// followLeader keeps up with which appliance sends.
func (d *daemon) followLeader(ctx context.Context) error {
	every := time.NewTicker(leaderPeriod)
	defer every.Stop()
	for {
		all, err := d.db.Appliances(ctx)
		if err == nil {
			d.leads.Store(webhook.Leads(d.id, all))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

// watched tells the metrics what the engine writes.
type watched struct {
	*store.DB
	metrics *metrics.Metrics
}

var _ engine.Store = watched{}

// DueVMs is asked once in each tick of the planner.
func (w watched) DueVMs(ctx context.Context, at time.Time) ([]schedule.VM, error) {
	vms, err := w.DB.DueVMs(ctx, at)
	if err == nil {
		w.metrics.ObserveTick(at)
	}
	return vms, err
}

// Tell is how far a run is.
func (w watched) Tell(ctx context.Context, run, epoch int64, r transfer.Report, steps []schedule.StepTime) (bool, error) {
	cancel, err := w.DB.Tell(ctx, run, epoch, r, steps)
	if err == nil {
		w.metrics.ObserveProgress(run, r)
	}
	return cancel, err
}

// Finish is how a run ended.
func (w watched) Finish(ctx context.Context, run, epoch int64, end schedule.End) error {
	err := w.DB.Finish(ctx, run, epoch, end)
	if err == nil {
		w.metrics.ObserveEnd(run, end)
	}
	return err
}

// hookCursor keeps in the database how far webhooks are, for the whole fleet.
type hookCursor struct{ db *store.DB }

// Load implements webhook.Cursor.
func (c hookCursor) Load(ctx context.Context, hook string) (int64, bool, error) {
	return c.db.HookCursor(ctx, hook)
}

// Save implements webhook.Cursor.
func (c hookCursor) Save(ctx context.Context, hook string, from, to int64) error {
	err := c.db.MoveHookCursor(ctx, hook, from, to)
	if errors.Is(err, schedule.ErrConflict) {
		return fmt.Errorf("%w: %w", webhook.ErrMoved, err)
	}
	return err
}

// watchedLaunches tells the metrics how launch runs end.
type watchedLaunches struct {
	*store.DB
	metrics *metrics.Metrics
}

var _ engine.LaunchStore = watchedLaunches{}

// FinishLaunch is how a launch run ended.
func (w watchedLaunches) FinishLaunch(ctx context.Context, run, epoch int64, end schedule.LaunchEnd) error {
	if err := w.DB.FinishLaunch(ctx, run, epoch, end); err != nil {
		return err
	}
	// What cannot be read is not counted; the run has ended all the same.
	ended, err := w.DB.LaunchRun(ctx, run)
	if err != nil {
		return nil
	}
	var job schedule.LaunchJob
	if ended.Job != "" {
		job, _ = w.DB.LaunchJob(ctx, ended.Job)
	}
	w.metrics.ObserveLaunchEnd(ended, job)
	return nil
}
