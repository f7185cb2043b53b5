package store_test

import (
	"strings"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

// filled is a database with something in every table.
func filled(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	fleet(t, db, 5)
	for _, a := range []string{"a", "b"} {
		got[bool](t)(db.Lost(ctx, transfer.ApplianceID(a)))
	}
	r := start(t, db, 0)
	must(t, db.AppendLog(ctx, r.ID, []schedule.LogLine{{At: t0, Level: "warn", Text: "slow"}}))
	must(t, db.Finish(ctx, r.ID, r.Epoch, fullEnd()))
	run(t, db, 1, schedule.RunFailed, t0)
	must(t, db.SavePoints(ctx, []transfer.VMID{id(0)}, []schedule.PointRow{{VM: id(0), Cycle: "c1", Frozen: t0, Complete: true, Kind: transfer.Seed, Snapshots: []transfer.SnapshotID{"snap-1"}}}))
	must(t, db.SavePolicy(ctx, fullPolicy("gold")))
	must(t, db.SetFilePolicies(ctx, []schedule.Policy{{Name: "file"}}))
	must(t, db.SaveWave(ctx, schedule.Wave{Name: "w1", Note: "n", VMs: []transfer.VMID{id(2)}}))
	got[bool](t)(db.SetPaused(ctx, id(3), true, "why"))
	got[bool](t)(db.Raise(ctx, schedule.Alarm{Key: "k1", Kind: schedule.AlarmLag, Seen: t0}))
	got[bool](t)(db.Raise(ctx, schedule.Alarm{Key: "k2", Kind: schedule.AlarmLag, Seen: t0}))
	got[bool](t)(db.Clear(ctx, "k2", t0))
	must(t, db.Record(ctx, schedule.Event{At: t0, Kind: schedule.EventRunEnd, Text: "x", Data: []byte(`{"a":1}`)}))
	must(t, db.RecordDeed(ctx, schedule.Deed{At: t0, Actor: "joe", Action: "pause"}))
	must(t, db.SaveRate(ctx, "a", schedule.RateSample{At: t0, Read: 1.5, Put: 2}))
	must(t, db.SetLimits(ctx, schedule.Limits{PerHost: 3}))
	must(t, db.MoveHookCursor(ctx, "ops", -1, 1))
}

// content is everything that can be read.
func content(t *testing.T, db *store.DB) map[string]any {
	t.Helper()
	ctx := t.Context()
	hook, _, err := db.HookCursor(ctx, "ops")
	must(t, err)
	return map[string]any{
		"hook":       hook,
		"VMs":        got[[]schedule.VM](t)(db.VMs(ctx, "")),
		"runs":       got[[]schedule.Run](t)(db.Runs(ctx, schedule.RunQuery{})),
		"log":        got[[]schedule.LogLine](t)(db.Log(ctx, 1, 0, 0)),
		"points":     got[[]schedule.PointRow](t)(db.Points(ctx, id(0))),
		"policies":   got[[]schedule.PolicyRow](t)(db.PolicyRows(ctx)),
		"waves":      got[[]schedule.Wave](t)(db.Waves(ctx)),
		"appliances": got[[]schedule.Appliance](t)(db.Appliances(ctx)),
		"alarms":     got[[]schedule.Alarm](t)(db.Alarms(ctx, true, 0)),
		"events":     got[[]schedule.Event](t)(db.Events(ctx, 0, 0)),
		"last":       got[int64](t)(db.LastEvent(ctx)),
		"deeds":      got[[]schedule.Deed](t)(db.Deeds(ctx, 0, 0)),
		"lags":       got[map[transfer.VMID][]schedule.LagSample](t)(db.Lags(ctx, []transfer.VMID{id(0)}, time.Unix(0, 0))),
		"rates":      got[[]schedule.RateSample](t)(db.Rates(ctx, time.Unix(0, 0))),
		"limits":     got[schedule.Limits](t)(db.Limits(ctx)),
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from, to := open(t, database.SQLite(t)), open(t, database.Postgres(t))
	filled(t, from)
	queue(t, from, 4) // and its ID is not given again
	_, _, err := from.AskCancel(ctx, id(4), t0)
	must(t, err)
	launch(t, from, 0, true, "job-1", t0)
	queueLaunch(t, from, 1, schedule.LaunchTest) // it is carried on there
	launches := func(db *store.DB) []any {
		return []any{got[[]schedule.LaunchRun](t)(db.LaunchRuns(ctx, schedule.LaunchQuery{})), got[[]schedule.LaunchJob](t)(db.LaunchJobs(ctx, schedule.LaunchJobQuery{}, true))}
	}
	told := map[string]int64{}
	must(t, store.Copy(ctx, from, to, func(table string, rows int64) { told[table] = rows }))
	equal(t, "rows", told, map[string]int64{"inventory": 1, "policy": 2, "wave": 1, "vm": 5, "appliance": 2, "run": 3, "run_log": 1, "point": 1, "alarm": 2,
		"event": 1, "deed": 1, "lag_sample": 1, "rate_sample": 1, "setting": 1, "hook": 1, "launch_run": 2, "launch_job": 1, "counter": 1})
	want := content(t, from)
	equal(t, "content", content(t, to), want)
	equal(t, "launches", launches(to), launches(from))
	if r := queueLaunch(t, to, 2, schedule.LaunchTest); r.ID != 3 {
		t.Errorf("launch run %d after 2", r.ID)
	}

	// IDs go on.
	last := want["runs"].([]schedule.Run)[0].ID
	if r := queue(t, to, 4); r.ID <= last {
		t.Errorf("run %d after %d", r.ID, last)
	}
	equal(t, "a new alarm", got[bool](t)(to.Raise(ctx, schedule.Alarm{Key: "new", Seen: t0})), true)
	must(t, to.RecordDeed(ctx, schedule.Deed{At: t0, Action: "x"}))
	must(t, to.Record(ctx, schedule.Event{At: t0, Kind: schedule.EventRunEnd}))

	err = store.Copy(ctx, from, to, nil)
	if err == nil || !strings.Contains(err.Error(), "new database") {
		t.Errorf("copied into one that is not empty: %v", err)
	}
	if err := store.Copy(ctx, to, from, nil); err == nil {
		t.Error("copied from PostgreSQL to SQLite")
	}
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from, to := open(t, database.SQLite(t)), open(t, database.Postgres(t))
	refused := func(what, because string) {
		t.Helper()
		err := store.Copy(ctx, from, to, nil)
		if err == nil || !strings.Contains(err.Error(), because) {
			t.Errorf("%s: error is %v, want one with %q", what, err, because)
		}
		equal(t, what+": VMs that arrived", len(got[[]schedule.VM](t)(to.VMs(ctx, ""))), 0)
	}
	fleet(t, from, 7)
	a := appliance("a")
	a.Seen = time.Now()
	must(t, from.SaveAppliance(ctx, a))
	refused("a living appliance", "stop its service")
	a.Draining = true // it is stopped
	must(t, from.SaveAppliance(ctx, a))

	unlock := lockFile(t, from)
	refused("an appliance that holds the file", "an appliance runs on it: stop its service")
	unlock()

	for i := range 7 {
		queue(t, from, i)
	}
	refused("runs", "runs have not ended: app0000 (queued), app0001 (queued), app0002 (queued), app0003 (queued), app0004 (queued) and 2 more: start the service again")
	for i := range 7 {
		_, _, err := from.AskCancel(ctx, id(i), t0)
		must(t, err)
	}
	must(t, store.Copy(ctx, from, to, nil))
	equal(t, "alive in the new place", got[[]schedule.Appliance](t)(to.Appliances(ctx))[0].Alive, false)
}
