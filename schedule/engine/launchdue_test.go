package engine_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/test/database"
	"snapferry/transfer"
)

// ofVM are the launch runs of VM i that were queued by themselves, newest first.
func ofVM(t *testing.T, h *host, i int) (mine []schedule.LaunchRun) {
	t.Helper()
	all, err := h.db.LaunchRuns(ctx, schedule.LaunchQuery{VM: ptr(vmID(i))})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(r schedule.LaunchRun) bool { return r.Trigger != "schedule" })
}

// Tests end by themselves when their time is over; where that fails it is tried
// again, but not at once.
func TestTestsEnd(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 4, Hosts: 1, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	known(t, db, s)
	now := time.Now()
	test := func(i int, id string, made, ends time.Time) {
		keepJob(t, db, i, schedule.LaunchJob{ID: id, Purpose: "test", State: "launched", Made: made, Ends: ends})
		put(t, db, i, schedule.Testing)
	}
	test(0, "job-over", now.Add(-time.Hour), now.Add(-time.Minute))
	test(1, "job-not-yet", now.Add(-time.Hour), now.Add(10*time.Minute))
	test(2, "job-replaced", now.Add(-time.Hour), now.Add(-time.Minute))
	test(2, "job-newer", now, now.Add(8*time.Hour))
	keepJob(t, db, 3, schedule.LaunchJob{ID: "job-cutover", Purpose: "cutover", State: "launched", Made: now, Ends: now.Add(-time.Hour)})

	var c clock
	var fail atomic.Bool
	fail.Store(true)
	l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
		if fail.Load() {
			return errLaunch
		}
		for _, j := range task.Jobs {
			j.Over, j.State = true, "ended"
			if err := task.Save(ctx, j); err != nil {
				return err
			}
		}
		return nil
	}}
	h, _ := startLaunches(t, url, s, l, func(cfg *engine.Config) { cfg.Now = c.now })
	eventually(t, 10*time.Second, "it was tried to end the first", func() bool { return len(events(t, db, schedule.EventTerminateFail)) == 1 })
	eventually(t, 10*time.Second, "somebody is told", func() bool { return len(alarms(t, db, "test-left/")) == 1 })
	fail.Store(false)
	c.pass(11 * time.Minute) // the second is over now
	eventually(t, 10*time.Second, "the second was ended", func() bool { return getVM(t, db, 1).Lifecycle == schedule.ReadyForTest })
	if n := len(ofVM(t, h, 0)); n != 1 {
		t.Errorf("the first was tried %d times within eleven minutes", n)
	}
	c.pass(20 * time.Minute)
	eventually(t, 10*time.Second, "the first was ended", func() bool { return getVM(t, db, 0).Lifecycle == schedule.ReadyForTest })
	eventually(t, 10*time.Second, "the alarm is gone", func() bool { return len(alarms(t, db, "test-left/")) == 0 })
	if r := ofVM(t, h, 0)[0]; r.Action != schedule.LaunchTestDone || r.Job != "job-over" {
		t.Errorf("the run is %+v", r)
	}
	for i := 2; i < 4; i++ {
		if all := ofVM(t, h, i); len(all) > 0 {
			t.Errorf("VM %d had its launch ended: %+v", i, all)
		}
	}
}

// Points are proved by themselves, a few at once in the fleet, and again when
// it is time and there is a newer one.
func TestProve(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		const n = 7
		s := &site{Dir: t.TempDir(), Count: n, Hosts: 1, Length: time.Millisecond, Jumble: true, Appl: "a"}
		db := openStore(t, url)
		known(t, db, s)
		// Two are not proved: one has a test that a person looks at, one no point.
		keepJob(t, db, 5, schedule.LaunchJob{ID: "job-looked-at", Purpose: "test", State: "launched", Made: time.Now()})
		none := schedule.Duration(0)
		p := schedule.Policy{Name: "all", Every: schedule.Duration(time.Hour), Jitter: &none, Match: []schedule.Match{{Name: "*"}}, Prove: &schedule.Prove{Every: schedule.Duration(24 * time.Hour)}}
		if err := db.SetFilePolicies(ctx, []schedule.Policy{p}); err != nil {
			t.Fatal(err)
		}
		if _, err := db.SetPaused(ctx, vmID(6), true, "a test"); err != nil {
			t.Fatal(err)
		}
		var c clock
		var begun atomic.Int64
		turn := make(chan error)
		l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
			begun.Add(1)
			err := <-turn
			j := jobOf(task, "test", "ended")
			j.Point = task.VM.Point.Cycle
			if task.Run.Action != schedule.LaunchTest || !task.Run.Wish.Prove || task.Run.Trigger != "schedule" {
				t.Errorf("the task is %+v", task.Run)
			}
			if err := task.Save(ctx, j); err != nil {
				return err
			}
			return err
		}}
		h, _ := startLaunches(t, url, s, l, func(cfg *engine.Config) { cfg.Now = c.now })
		for i := range 5 {
			eventually(t, 20*time.Second, "two are being proved", func() bool { return begun.Load() == int64(min(i+2, 5)) })
			if i == 4 {
				give(t, turn, errLaunch)
				continue
			}
			give(t, turn, nil)
		}
		eventually(t, 10*time.Second, "all are proved", func() bool {
			return len(events(t, db, schedule.EventBootProved)) == 4 && len(alarms(t, db, "proof/")) == 1
		})
		for i := range n {
			want := 1
			if i >= 5 {
				want = 0
			}
			if got := len(ofVM(t, h, i)); got != want {
				t.Errorf("VM %d was proved %d times", i, got)
			}
			if life := getVM(t, db, i).Lifecycle; i < 5 && life != schedule.ReadyForTest {
				t.Errorf("VM %d is %s", i, life)
			}
		}
		if l.most != 2 {
			t.Errorf("%d were proved at once", l.most)
		}
		// Two days later all five are due again, of newer points.
		c.pass(48 * time.Hour)
		for range 5 {
			give(t, turn, nil)
		}
		eventually(t, 10*time.Second, "all are proved again", func() bool {
			return len(events(t, db, schedule.EventBootProved)) == 9 && len(alarms(t, db, "proof/")) == 0
		})
	})
}

// Proofs of a vCenter whose appliances are away hold up nobody else's.
func TestProveElsewhere(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: time.Millisecond, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	other := s.vm(7)
	other.ID.VCenter = "another"
	if _, _, err := db.SaveInventory(ctx, "another", []transfer.VM{other}, time.Now()); err != nil {
		t.Fatal(err)
	}
	w := schedule.LaunchWanted{VM: other.ID, Action: schedule.LaunchTest, Wish: schedule.LaunchWish{Prove: true}, Trigger: "schedule"}
	if _, _, err := db.QueueLaunch(ctx, w, time.Now()); err != nil {
		t.Fatal(err)
	}
	p := schedule.Policy{Name: "all", Every: schedule.Duration(time.Hour), Match: []schedule.Match{{Name: "*"}}, Prove: &schedule.Prove{Every: schedule.Duration(24 * time.Hour)}}
	if err := db.SetFilePolicies(ctx, []schedule.Policy{p}); err != nil {
		t.Fatal(err)
	}
	// A second one there has a point, and would be the first to be proved.
	second := s.vm(8)
	second.ID.VCenter, second.Name = "another", "aaa"
	if _, _, err := db.SaveInventory(ctx, "another", []transfer.VM{other, second}, time.Now()); err != nil {
		t.Fatal(err)
	}
	run, _, err := db.Queue(ctx, schedule.Wanted{VM: second.ID}, time.Now())
	if err == nil {
		run, err = db.Claim(ctx, run.ID, "z", time.Now())
	}
	if err == nil {
		err = db.Finish(ctx, run.ID, run.Epoch, schedule.End{State: schedule.RunDone, At: time.Now(), Lifecycle: schedule.ReadyForTest,
			Point: schedule.LastPoint{Cycle: "c1", Instant: time.Now()}, Next: time.Now().Add(time.Hour)})
	}
	if err != nil {
		t.Fatal(err)
	}
	startLaunches(t, url, s, &launches{do: func(context.Context, engine.LaunchTask) error { return nil }}, func(c *engine.Config) { c.ProofsAtOnce = 1 })
	eventually(t, 20*time.Second, "it is proved", func() bool { return len(events(t, db, schedule.EventBootProved)) == 1 })
	if r, err := db.LaunchRuns(ctx, schedule.LaunchQuery{VM: &other.ID}); err != nil || r[0].State != schedule.RunQueued {
		t.Errorf("the other's is %+v, %v", r, err)
	}
	if r, err := db.LaunchRuns(ctx, schedule.LaunchQuery{VM: &second.ID}); err != nil || len(r) > 0 {
		t.Errorf("a proof that nobody can make was queued: %+v, %v", r, err)
	}
}

// Tests that only AWS knows end on the clean-up's timer; those that the
// database knows are its own.
func TestOrphanedTests(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	known(t, db, s)
	keepJob(t, db, 0, schedule.LaunchJob{ID: "job-open", Purpose: "test", State: "launched", Made: time.Now()})
	keepJob(t, db, 1, schedule.LaunchJob{ID: "job-over", Purpose: "test", State: "ended", Made: time.Now(), Over: true})
	l := &launches{do: func(context.Context, engine.LaunchTask) error { return nil }}
	type answer struct{ open, over, unknown bool }
	answers := make(chan answer, 1)
	ask := func(known func(string) bool) error {
		select {
		case answers <- answer{known("job-open"), known("job-over"), known("job-x")}:
		default:
		}
		return nil
	}
	l.orphans.Store(&ask)
	startLaunches(t, url, s, l, nil)
	for range 2 { // again and again
		if got := take(t, answers); got != (answer{open: true}) {
			t.Errorf("known are %+v", got)
		}
	}
}
