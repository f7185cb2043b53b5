package store_test

import (
	"encoding/json"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

func at(i int) time.Time { return t0.Add(time.Duration(i) * time.Minute) }

func TestEventsAndDeeds(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		equal(t, "no event", got[int64](t)(db.LastEvent(ctx)), int64(0))
		var events []schedule.Event
		var deeds []schedule.Deed
		for i := range 5 {
			e := schedule.Event{ID: int64(i + 1), At: at(i), Kind: schedule.EventRunEnd, VM: id(i), VMName: "app", Run: int64(i), Actor: "a", Text: "done", Data: json.RawMessage(`{"n":1}`)}
			if i == 3 {
				e = schedule.Event{ID: 4, At: at(i), Kind: schedule.EventSettingsChange}
			}
			must(t, db.Record(ctx, e))
			events = append(events, e)
			d := schedule.Deed{At: at(i), Actor: "joe", Role: "operator", From: "10.0.0.1:5", Action: "pause", Subject: "app", Result: "ok"}
			must(t, db.RecordDeed(ctx, d))
			deeds = append([]schedule.Deed{d}, deeds...)
		}
		equal(t, "events", got[[]schedule.Event](t)(db.Events(ctx, 0, 0)), events)
		equal(t, "events behind 2", got[[]schedule.Event](t)(db.Events(ctx, 2, 2)), events[2:4])
		equal(t, "last", got[int64](t)(db.LastEvent(ctx)), int64(5))

		have := got[[]schedule.Deed](t)(db.Deeds(ctx, 0, 0))
		for i := range have {
			deeds[i].ID = have[i].ID
		}
		equal(t, "deeds", have, deeds)
		equal(t, "a page of deeds", got[[]schedule.Deed](t)(db.Deeds(ctx, deeds[1].ID, 2)), deeds[2:4])
	})
}

// A webhook's cursor moves only from where it is.
func TestHookCursor(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		is := func(hook string) []any {
			at, ok, err := db.HookCursor(ctx, hook)
			must(t, err)
			return []any{at, ok}
		}
		equal(t, "at first", is("ops"), []any{int64(0), false})
		must(t, db.MoveHookCursor(ctx, "ops", -1, 0))
		wantErr(t, "make it again", db.MoveHookCursor(ctx, "ops", -1, 5), schedule.ErrConflict)
		must(t, db.MoveHookCursor(ctx, "ops", 0, 7))
		wantErr(t, "from elsewhere", db.MoveHookCursor(ctx, "ops", 0, 9), schedule.ErrConflict)
		wantErr(t, "one that is not there", db.MoveHookCursor(ctx, "other", 0, 9), schedule.ErrConflict)
		equal(t, "in the end", is("ops"), []any{int64(7), true})
	})
}

func TestAlarms(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		a := schedule.Alarm{Key: "lag/x", Kind: schedule.AlarmLag, VM: id(1), VMName: "app", Text: "late", Hint: "hurry", Since: at(0), Seen: at(0)}
		raise := func(a schedule.Alarm) bool { return got[bool](t)(db.Raise(ctx, a)) }
		equal(t, "fresh", raise(a), true)
		a.Text, a.Since, a.Seen = "later", at(5), at(5)
		equal(t, "fresh again", raise(a), false)
		other := schedule.Alarm{Key: "appliance/a", Kind: schedule.AlarmAppliance, Text: "down", Seen: at(1)}
		equal(t, "other is fresh", raise(other), true)
		all := got[[]schedule.Alarm](t)(db.OpenAlarms(ctx))
		if len(all) != 2 {
			t.Fatalf("%d open alarms", len(all))
		}
		a.ID, a.Since = all[1].ID, at(0)
		other.ID, other.Since = all[0].ID, at(1)
		equal(t, "open", all, []schedule.Alarm{other, a})

		was := func(key string) bool { return got[bool](t)(db.Clear(ctx, key, at(9))) }
		equal(t, "clear, again, unknown", []bool{was("lag/x"), was("lag/x"), was("none")}, []bool{true, false, false})
		a.Cleared = at(9)
		equal(t, "open", got[[]schedule.Alarm](t)(db.Alarms(ctx, false, 0)), []schedule.Alarm{other})
		equal(t, "all", got[[]schedule.Alarm](t)(db.Alarms(ctx, true, 0)), []schedule.Alarm{other, a})
		equal(t, "one", got[[]schedule.Alarm](t)(db.Alarms(ctx, true, 1)), []schedule.Alarm{other})
		equal(t, "raised anew", raise(a), true)
		_, err := db.Raise(ctx, schedule.Alarm{})
		wantErr(t, "no key", err, schedule.ErrInvalid)
	})
}

func TestAppliances(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		a, b := appliance("a"), appliance("b")
		must(t, db.SaveAppliance(ctx, b))
		must(t, db.SaveAppliance(ctx, a))
		a.Version, a.Datastores, a.Draining, a.Seen = "2", []string{"ds1", "ds2"}, true, at(1)
		must(t, db.SaveAppliance(ctx, a))
		equal(t, "appliances", got[[]schedule.Appliance](t)(db.Appliances(ctx)), []schedule.Appliance{a, b})
		lost := func() bool { return got[bool](t)(db.Lost(ctx, "b")) }
		equal(t, "lost first", []bool{lost(), lost()}, []bool{true, false})
		equal(t, "alive", got[[]schedule.Appliance](t)(db.Appliances(ctx))[1].Alive, false)
		must(t, db.SaveAppliance(ctx, b))
		equal(t, "lost again", lost(), true)
		_, err := db.Lost(ctx, "none")
		wantErr(t, "unknown appliance", err, schedule.ErrNotFound)
	})
}

func TestLimits(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		equal(t, "limits at first", got[schedule.Limits](t)(db.Limits(ctx)), schedule.DefaultLimits())
		l := schedule.Limits{PerHost: 1, PutsPerSecond: 12.5}
		must(t, db.SetLimits(ctx, schedule.Limits{PerHost: 9}))
		must(t, db.SetLimits(ctx, l))
		equal(t, "limits", got[schedule.Limits](t)(db.Limits(ctx)), l)
		_, err := db.SQL().ExecContext(ctx, `UPDATE setting SET value = '{"perHost":2}'`) // by a version that knew no more
		must(t, err)
		l = schedule.DefaultLimits()
		l.PerHost = 2
		equal(t, "limits of an older version", got[schedule.Limits](t)(db.Limits(ctx)), l)
	})
}

// fullPolicy has every kind of field.
func fullPolicy(name string) schedule.Policy {
	jitter := schedule.Duration(0)
	return schedule.Policy{
		Name: name, Adaptive: &schedule.Adaptive{Floor: schedule.Duration(time.Minute), Ceiling: schedule.Duration(time.Hour)}, TimeZone: "Europe/Berlin", Jitter: &jitter,
		Blackout:  []schedule.Window{{Days: "mon-fri", From: "08:00", To: "18:00"}},
		Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{From: "08:00", To: "18:00"}, Limit: 50e6}},
		Retention: transfer.Policy{Last: 3, Daily: 7}, Quiesce: transfer.QuiesceTry, Exclude: []string{"2001"}, Priority: 5,
		Match: []schedule.Match{{Name: "app*", Tag: "backup:gold"}},
	}
}

func TestPolicies(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 3)
		names := func() (names []string) {
			for _, p := range got[[]schedule.Policy](t)(db.Policies(ctx)) {
				names = append(names, p.Name)
			}
			return names
		}
		must(t, db.SavePolicy(ctx, fullPolicy("zinc")))
		must(t, db.SavePolicy(ctx, fullPolicy("copper")))
		must(t, db.SetFilePolicies(ctx, []schedule.Policy{{Name: "silver"}, {Name: "gold", Cron: "@hourly"}}))
		equal(t, "order", names(), []string{"silver", "gold", "copper", "zinc"})
		must(t, db.SetFilePolicies(ctx, []schedule.Policy{{Name: "gold", Cron: "@daily"}, {Name: "bronze"}, {Name: "silver"}}))
		equal(t, "order of a new file", names(), []string{"gold", "bronze", "silver", "copper", "zinc"})
		must(t, db.SetFilePolicies(ctx, []schedule.Policy{{Name: "gold", Cron: "@daily"}}))

		must(t, db.Plan(ctx, []schedule.Planned{{VM: id(0), Policy: "gold"}, {VM: id(1), Policy: "gold"}, {VM: id(2), Policy: "gold"}}))
		_, _, err := db.SaveInventory(ctx, vc, machines(2), t0)
		must(t, err)
		equal(t, "rows", got[[]schedule.PolicyRow](t)(db.PolicyRows(ctx)), []schedule.PolicyRow{
			{Policy: schedule.Policy{Name: "gold", Cron: "@daily"}, Origin: "file", VMs: 2},
			{Policy: fullPolicy("copper"), Origin: "api"},
			{Policy: fullPolicy("zinc"), Origin: "api"},
		})

		wantErr(t, "a policy of the file", db.SavePolicy(ctx, schedule.Policy{Name: "gold"}), schedule.ErrConflict)
		wantErr(t, "delete it", db.DeletePolicy(ctx, "gold"), schedule.ErrConflict)
		wantErr(t, "delete an unknown one", db.DeletePolicy(ctx, "none"), schedule.ErrNotFound)
		wantErr(t, "no name", db.SavePolicy(ctx, schedule.Policy{}), schedule.ErrInvalid)
		wantErr(t, "a file with one made by hand", db.SetFilePolicies(ctx, []schedule.Policy{{Name: "new"}, {Name: "zinc"}}), schedule.ErrConflict)
		must(t, db.DeletePolicy(ctx, "copper"))
		must(t, db.SavePolicy(ctx, schedule.Policy{Name: "zinc", Priority: 1}))
		equal(t, "in the end", got[[]schedule.Policy](t)(db.Policies(ctx)), []schedule.Policy{{Name: "gold", Cron: "@daily"}, {Name: "zinc", Priority: 1}})
		must(t, db.SetFilePolicies(ctx, nil))
		equal(t, "without a file", names(), []string{"zinc"})
	})
}

func TestWaves(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 4)
		vms := func(is ...int) (ids []transfer.VMID) {
			for _, i := range is {
				ids = append(ids, id(i))
			}
			return ids
		}
		must(t, db.SaveWave(ctx, schedule.Wave{Name: "w2", VMs: vms(0, 1)}))
		must(t, db.SaveWave(ctx, schedule.Wave{Name: "w1", Note: "first", VMs: vms(3, 1, 2)}))
		equal(t, "waves", got[[]schedule.Wave](t)(db.Waves(ctx)), []schedule.Wave{{Name: "w1", Note: "first", VMs: vms(1, 2, 3)}, {Name: "w2", VMs: vms(0)}})
		equal(t, "of the VM", got[schedule.VM](t)(db.VM(ctx, id(1))).Wave, "w1")
		must(t, db.SaveWave(ctx, schedule.Wave{Name: "w1", Note: "smaller", VMs: vms(3)}))
		equal(t, "replaced", got[schedule.Wave](t)(db.Wave(ctx, "w1")), schedule.Wave{Name: "w1", Note: "smaller", VMs: vms(3)})
		equal(t, "of the VM that left", got[schedule.VM](t)(db.VM(ctx, id(1))).Wave, "")

		wantErr(t, "an unknown VM", db.SaveWave(ctx, schedule.Wave{Name: "w1", Note: "x", VMs: vms(2, 99)}), schedule.ErrNotFound)
		equal(t, "unchanged", got[schedule.Wave](t)(db.Wave(ctx, "w1")), schedule.Wave{Name: "w1", Note: "smaller", VMs: vms(3)})
		wantErr(t, "no name", db.SaveWave(ctx, schedule.Wave{}), schedule.ErrInvalid)
		must(t, db.DeleteWave(ctx, "w1"))
		wantErr(t, "delete again", db.DeleteWave(ctx, "w1"), schedule.ErrNotFound)
		_, err := db.Wave(ctx, "w1")
		wantErr(t, "read it", err, schedule.ErrNotFound)
		equal(t, "its VM", got[schedule.VM](t)(db.VM(ctx, id(3))).Wave, "")
	})
}

func TestPoints(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		p := func(vm, i int) schedule.PointRow {
			return schedule.PointRow{VM: id(vm), Cycle: transfer.NewCycleID(at(i)), Frozen: at(i), Complete: i%2 == 0, Kind: transfer.Delta, Blocks: int64(i), Disks: 2, Snapshots: []transfer.SnapshotID{"snap-1", "snap-2"}}
		}
		a, b, c, other := p(0, 0), p(0, 1), p(0, 2), p(1, 0)
		both := []transfer.VMID{id(0), id(1)}
		must(t, db.SavePoints(ctx, both, []schedule.PointRow{a, b, other}))
		equal(t, "points, newest first", got[[]schedule.PointRow](t)(db.Points(ctx, id(0))), []schedule.PointRow{b, a})

		a.Confirmed, a.Verified, a.Suspect, a.Blocks = at(9), at(8), "audit", -1
		stranger := p(1, 5)
		must(t, db.SavePoints(ctx, both[:1], []schedule.PointRow{a, c, stranger}))
		equal(t, "one pruned, one changed, one new", got[[]schedule.PointRow](t)(db.Points(ctx, id(0))), []schedule.PointRow{c, a})
		equal(t, "of another VM", got[[]schedule.PointRow](t)(db.Points(ctx, id(1))), []schedule.PointRow{other})
		must(t, db.SavePoints(ctx, both, nil))
		equal(t, "none", len(got[[]schedule.PointRow](t)(db.Points(ctx, id(0)))), 0)
		must(t, db.SavePoints(ctx, nil, []schedule.PointRow{a}))
		equal(t, "of no VM", len(got[[]schedule.PointRow](t)(db.Points(ctx, id(0)))), 0)
	})
}

func TestRates(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		base := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		save := func(a string, after time.Duration, read, put float64) {
			must(t, db.SaveRate(ctx, transfer.ApplianceID(a), schedule.RateSample{At: base.Add(after), Read: read, Put: put}))
		}
		save("a", 1*time.Second, 999, 999)
		save("a", 1*time.Second, 10, 1) // written again
		save("b", 9*time.Second, 5, 2)
		save("a", 9900*time.Millisecond, 20, 3) // the same step
		save("a", 20*time.Second, 40, 4)        // its clock left a step out
		save("b", 15*time.Second, 7, 0.5)
		save("b", -time.Second, 1, 1) // too early
		rate := func(after time.Duration, read, put float64) schedule.RateSample {
			return schedule.RateSample{At: base.Add(after), Read: read, Put: put}
		}
		equal(t, "rates", got[[]schedule.RateSample](t)(db.Rates(ctx, base)), []schedule.RateSample{
			rate(0, 15+5, 2+2), rate(10*time.Second, 15+7, 2+0.5), rate(20*time.Second, 40, 4),
		})
	})
}

func TestExpire(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 3)
		old, young := at(0), at(1000)
		before := at(500)
		states := func(vm int) (s []schedule.RunState) {
			v := id(vm)
			for _, r := range got[[]schedule.Run](t)(db.Runs(ctx, schedule.RunQuery{VM: &v})) {
				s = append(s, r.State)
			}
			return s
		}
		// VM 0: the newest that succeeded is older than two that failed.
		first := run(t, db, 0, schedule.RunDone, old)
		must(t, db.AppendLog(ctx, first.ID, []schedule.LogLine{{At: old, Level: "info", Text: "x"}}))
		kept := run(t, db, 0, schedule.RunDone, old)
		must(t, db.AppendLog(ctx, kept.ID, []schedule.LogLine{{At: old, Level: "info", Text: "x"}}))
		run(t, db, 0, schedule.RunFailed, old)
		run(t, db, 0, schedule.RunFailed, old)
		// VM 1: one is young. VM 2: one has not ended.
		run(t, db, 1, schedule.RunFailed, old)
		run(t, db, 1, schedule.RunDone, young)
		run(t, db, 2, schedule.RunFailed, old)
		queue(t, db, 2)

		for _, when := range []time.Time{old, young} {
			must(t, db.Record(ctx, schedule.Event{At: when, Kind: schedule.EventRunEnd}))
			must(t, db.RecordDeed(ctx, schedule.Deed{At: when, Action: "pause"}))
			must(t, db.SaveRate(ctx, "a", schedule.RateSample{At: when, Read: 1}))
			for _, key := range []string{"open", "cleared"} {
				got[bool](t)(db.Raise(ctx, schedule.Alarm{Key: key, Seen: when}))
			}
			got[bool](t)(db.Clear(ctx, "cleared", when))
		}
		r := start(t, db, 0)
		lag := schedule.Duration(time.Minute)
		must(t, db.Finish(ctx, r.ID, r.Epoch, schedule.End{State: schedule.RunFailed, At: old, Lag: &lag}))

		for range 2 { // and once more, with nothing to do
			must(t, db.Expire(ctx, before))
			equal(t, "VM 0", states(0), []schedule.RunState{schedule.RunFailed, schedule.RunDone})
			equal(t, "VM 1", states(1), []schedule.RunState{schedule.RunDone})
			equal(t, "VM 2", states(2), []schedule.RunState{schedule.RunQueued})
		}
		equal(t, "log of a run that is gone", len(got[[]schedule.LogLine](t)(db.Log(ctx, first.ID, 0, 0))), 0)
		equal(t, "log of one that stays", len(got[[]schedule.LogLine](t)(db.Log(ctx, kept.ID, 0, 0))), 1)
		equal(t, "events", len(got[[]schedule.Event](t)(db.Events(ctx, 0, 0))), 1)
		equal(t, "deeds", len(got[[]schedule.Deed](t)(db.Deeds(ctx, 0, 0))), 1)
		equal(t, "rates", len(got[[]schedule.RateSample](t)(db.Rates(ctx, time.Unix(0, 0)))), 1)
		equal(t, "alarms", len(got[[]schedule.Alarm](t)(db.Alarms(ctx, true, 0))), 2)
		equal(t, "lags", len(got[map[transfer.VMID][]schedule.LagSample](t)(db.Lags(ctx, []transfer.VMID{id(0)}, time.Unix(0, 0)))), 0)
		must(t, db.Expire(ctx, at(5000)))
		equal(t, "the last event's ID without any", got[int64](t)(db.LastEvent(ctx)), int64(2))
	})
}
