package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

// The final sync of a VM that is being cut over is made although nothing of it
// is scheduled, and anew where a run had begun before it was asked for.
func TestLaunchSync(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: 500 * time.Millisecond, Jumble: true, Appl: "a"}
		var asked, finished atomic.Int64
		var got atomic.Pointer[schedule.Run]
		l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
			asked.Store(time.Now().UnixMilli())
			r, err := task.Sync(ctx, "cutover: final sync")
			finished.Store(time.Now().UnixMilli())
			got.Store(&r)
			if err != nil {
				return err
			}
			return task.Save(ctx, jobOf(task, "cutover", "launched"))
		}}
		h, db := startLaunches(t, url, s, l, nil)
		put(t, db, 0, schedule.ReadyForCutover)
		if _, _, err := db.Queue(ctx, schedule.Wanted{VM: vmID(0), Trigger: "user test"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		h.Kick()
		eventually(t, 10*time.Second, "a cycle runs", func() bool { return len(s.leftSnapshots(t)) == 1 })
		// From now on every VM is due all the time, but not one that is cut over.
		run := order(t, db, 0, schedule.LaunchCutover, schedule.LaunchWish{})
		h.Kick()
		eventually(t, 10*time.Second, "it is being cut over", func() bool { return getVM(t, db, 0).Lifecycle == schedule.CuttingOver })
		policy(t, db, time.Second)
		if r := ended(t, db, run.ID); r.State != schedule.RunDone {
			t.Fatalf("the run is %+v", r)
		}
		all := runs(t, db, schedule.RunQuery{})
		if len(all) != 2 || all[0].Trigger != "cutover: final sync" || all[0].State != schedule.RunDone || got.Load().ID != all[0].ID || got.Load().Report.Point == "" {
			t.Fatalf("the runs are %+v, and the launch got %+v", all, got.Load())
		}
		var begun []int64
		for _, n := range s.notes(t) {
			if n.What == "frozen" {
				begun = append(begun, n.At)
			}
		}
		if len(begun) != 2 || begun[0] > asked.Load() || begun[1] < asked.Load() || finished.Load() < begun[1] {
			t.Errorf("asked at %d, frozen at %v, answered at %d", asked.Load(), begun, finished.Load())
		}
		if vm := getVM(t, db, 0); vm.Lifecycle != schedule.CutOver || vm.Point.Cycle != got.Load().Report.Point {
			t.Errorf("the VM is %s with point %v", vm.Lifecycle, vm.Point)
		}
	})
}

// A run that still waits serves a launch that asks for one; a sync that fails
// is an error.
func TestLaunchSyncJoins(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Length: time.Millisecond, Appl: "a"}
	type answer struct {
		run schedule.Run
		err error
	}
	answers := make(chan answer, 1)
	l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
		r, err := task.Sync(ctx, "test")
		answers <- answer{r, err}
		return err
	}}
	h, db := startLaunches(t, database.SQLite(t), s, l, nil)
	put(t, db, 0, schedule.ReadyForTest)
	// The only place on the host is taken by a run of an appliance elsewhere.
	limits(t, db, schedule.Limits{PerHost: 1})
	if err := db.SaveAppliance(ctx, schedule.Appliance{ID: "z", VCenter: vcenter, Alive: true, Draining: true}); err != nil {
		t.Fatal(err)
	}
	held := grant(t, db, 1, "z")
	waits, _, err := db.Queue(ctx, schedule.Wanted{VM: vmID(0), Trigger: "user test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	order(t, db, 0, schedule.LaunchTest, schedule.LaunchWish{})
	h.Kick()
	eventually(t, 10*time.Second, "the launch has joined the run", func() (urgent bool) {
		if err := db.SQL().QueryRow(`SELECT urgent FROM run WHERE id = $1`, waits.ID).Scan(&urgent); err != nil {
			t.Fatal(err)
		}
		return urgent
	})
	if r, err := db.Run(ctx, waits.ID); err != nil || r.State != schedule.RunQueued {
		t.Fatalf("the run does not wait: %+v, %v", r, err)
	}
	c, err := db.Claim(ctx, held.ID, "z", time.Now())
	if err == nil {
		err = db.Finish(ctx, c.ID, c.Epoch, schedule.End{State: schedule.RunDone, At: time.Now()})
	}
	if err != nil {
		t.Fatal(err)
	}
	if a := take(t, answers); a.err != nil || a.run.ID != waits.ID || a.run.State != schedule.RunDone {
		t.Errorf("the launch got %+v, %v", a.run, a.err)
	}
	eventually(t, 5*time.Second, "that launch has ended", func() bool { return len(events(t, db, schedule.EventTestEnd)) == 1 })
	h.rig.setFail(func(string) error {
		return transfer.Fail(transfer.Retry, "freeze it", errors.New("vCenter cannot be reached"), "Look whether it runs.")
	})
	order(t, db, 0, schedule.LaunchTest, schedule.LaunchWish{})
	h.Kick()
	if a := take(t, answers); a.err == nil || !strings.Contains(a.err.Error(), "vCenter cannot be reached") || transfer.HintOf(a.err) != "Look whether it runs." || a.run.State != schedule.RunFailed {
		t.Errorf("a sync that failed: %+v, %v", a.run, a.err)
	}
}

// Somebody who cancels ends the launch, and what it saves then is kept.
func TestLaunchCancel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Appl: "a"}
		l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
			if err := task.Save(ctx, jobOf(task, "cutover", "launching")); err != nil {
				return err
			}
			<-ctx.Done()
			j := jobOf(task, "cutover", "launching")
			j.Error = context.Cause(ctx).Error()
			return errors.Join(ctx.Err(), task.Save(ctx, j))
		}}
		h, db := startLaunches(t, url, s, l, nil)
		put(t, db, 0, schedule.ReadyForCutover)
		run := order(t, db, 0, schedule.LaunchCutover, schedule.LaunchWish{})
		h.Kick()
		eventually(t, 10*time.Second, "it is begun", func() bool { return launchOf(t, db, run.ID).Job != "" })
		if _, ended, err := db.AskCancelLaunch(ctx, vmID(0), time.Now()); err != nil || ended {
			t.Fatal(ended, err)
		}
		r := ended(t, db, run.ID)
		if r.State != schedule.RunCancelled || !strings.Contains(r.Error, "cancelled at somebody's request") {
			t.Errorf("the run is %+v", r)
		}
		if j, err := db.LaunchJob(ctx, r.Job); err != nil || !strings.Contains(j.Error, "cancelled at somebody's request") {
			t.Errorf("its job is %+v, %v", j, err)
		}
		if vm := getVM(t, db, 0); vm.Lifecycle != schedule.CuttingOver {
			t.Errorf("the VM is %s", vm.Lifecycle)
		}
		eventually(t, 5*time.Second, "somebody is told", func() bool {
			return len(alarms(t, db, "cutover/")) == 1 && len(events(t, db, schedule.EventLaunchCancelled)) == 1
		})
	})
}

// A stopped appliance leaves its launches as they are, and goes on with them
// when it is started again; where the VM was before stays known.
func TestLaunchRestart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Appl: "a"}
		causes := make(chan error, 1)
		first := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
			if err := task.Save(ctx, jobOf(task, "test", "launching")); err != nil {
				return err
			}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		}}
		h, db := startLaunches(t, url, s, first, nil)
		put(t, db, 0, schedule.ReadyForCutover)
		run := order(t, db, 0, schedule.LaunchTest, schedule.LaunchWish{Prove: true})
		h.Kick()
		eventually(t, 10*time.Second, "it is begun", func() bool { return launchOf(t, db, run.ID).Job != "" })
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if err := take(t, causes); !strings.Contains(err.Error(), "the appliance is stopping") {
			t.Errorf("it was given up because %v", err)
		}
		if r := launchOf(t, db, run.ID); r.State != schedule.RunRunning || r.Epoch != 1 {
			t.Errorf("it was left as %+v", r)
		}
		tasks := make(chan engine.LaunchTask, 1)
		startLaunches(t, url, s, &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
			tasks <- task
			j := task.Jobs[0]
			j.State, j.Over = "ended", true
			return task.Save(ctx, j)
		}}, nil)
		task := take(t, tasks)
		if task.Run.Epoch != 2 || task.Run.Before != schedule.ReadyForCutover || len(task.Jobs) != 1 || task.Jobs[0].ID != task.Run.Job || string(task.Jobs[0].Doc) != `{"x":1}` {
			t.Errorf("it is gone on with as %+v", task)
		}
		if r := ended(t, db, run.ID); r.State != schedule.RunDone {
			t.Errorf("it ended as %+v", r)
		}
		if vm := getVM(t, db, 0); vm.Lifecycle != schedule.ReadyForCutover {
			t.Errorf("the VM is %s", vm.Lifecycle)
		}
	})
}

// Who lost a launch run to another stops: told when it saves, or soon without.
func TestLaunchFenced(t *testing.T) {
	t.Parallel()
	for _, saves := range []bool{true, false} {
		t.Run(fmt.Sprintf("saves=%v", saves), func(t *testing.T) {
			t.Parallel()
			s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Appl: "a"}
			begun, taken, saved := make(chan bool), make(chan bool), make(chan error, 1)
			l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
				begun <- true
				<-taken
				if !saves {
					<-ctx.Done()
					saved <- context.Cause(ctx)
					return ctx.Err()
				}
				err := task.Save(ctx, jobOf(task, "test", "launching"))
				saved <- err
				return err
			}}
			h, db := startLaunches(t, database.SQLite(t), s, l, func(c *engine.Config) {
				if saves {
					c.TellEvery = time.Hour // nobody looks but the save
				}
			})
			put(t, db, 0, schedule.ReadyForTest)
			run := order(t, db, 0, schedule.LaunchTest, schedule.LaunchWish{})
			h.Kick()
			take(t, begun)
			if _, err := db.Lost(ctx, "a"); err != nil {
				t.Fatal(err)
			}
			if _, err := db.ClaimLaunch(ctx, "b", vcenter, nil, time.Now()); err != nil {
				t.Fatal(err)
			}
			close(taken)
			if err := take(t, saved); !errors.Is(err, engine.ErrFenced) {
				t.Errorf("it was told %v", err)
			}
			if err := take(t, h.fenced); !errors.Is(err, engine.ErrFenced) {
				t.Errorf("fenced with %v", err)
			}
			if err := h.end(); !errors.Is(err, engine.ErrFenced) {
				t.Errorf("Run returned %v", err)
			}
			if r := launchOf(t, db, run.ID); r.State != schedule.RunRunning || r.Epoch != 2 || r.Job != "" || getVM(t, db, 0).Lifecycle != schedule.Testing {
				t.Errorf("the run is %+v", r)
			}
			if len(events(t, db, schedule.EventTestFail)) > 0 {
				t.Error("it told how a run ended that was no longer its own")
			}
		})
	}
}

// A launch run that was taken in hand too often fails, and one that panics.
func TestLaunchAttempts(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	known(t, db, s)
	put(t, db, 0, schedule.ReadyForTest)
	put(t, db, 1, schedule.ReadyForTest)
	run := order(t, db, 0, schedule.LaunchTest, schedule.LaunchWish{})
	for range 3 {
		if _, err := db.ClaimLaunch(ctx, "a", vcenter, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	other := order(t, db, 1, schedule.LaunchTest, schedule.LaunchWish{})
	startLaunches(t, url, s, &launches{do: func(context.Context, engine.LaunchTask) error { panic("boom") }}, func(c *engine.Config) { c.Attempts = 3 })
	if r := ended(t, db, run.ID); r.State != schedule.RunFailed || !strings.Contains(r.Error, "taken in hand too often and never brought to its end: 3 times") {
		t.Errorf("the run is %+v", r)
	}
	if r := ended(t, db, other.ID); r.State != schedule.RunFailed || r.Error != "test of app0001: internal error: boom" {
		t.Errorf("the run is %+v", r)
	}
}

// An appliance works on so many launch runs at once, and on all in the end.
func TestLaunchesAtOnce(t *testing.T) {
	t.Parallel()
	const n, most = 6, 2
	s := &site{Dir: t.TempDir(), Count: n, Hosts: 1, Appl: "a"}
	turn := make(chan bool)
	l := &launches{do: func(context.Context, engine.LaunchTask) error { <-turn; return nil }}
	h, db := startLaunches(t, database.SQLite(t), s, l, func(c *engine.Config) { c.LaunchesAtOnce = most })
	for i := range n {
		put(t, db, i, schedule.Testing)
		order(t, db, i, schedule.LaunchTestDone, schedule.LaunchWish{})
	}
	h.Kick()
	for i := range n {
		eventually(t, 10*time.Second, "as many as may are at work", func() bool { return l.running() == min(most, n-i) })
		give(t, turn, true)
	}
	eventually(t, 10*time.Second, "all are done", func() bool {
		all, err := db.LaunchRuns(ctx, schedule.LaunchQuery{Active: true})
		return err == nil && len(all) == 0
	})
	if l.most != most {
		t.Errorf("%d at once", l.most)
	}
}

// awayLaunches is a store of launches whose database is away now and then.
type awayLaunches struct {
	*store.DB
	off   atomic.Bool
	tries atomic.Int64
}

func (a *awayLaunches) SaveLaunchJob(ctx context.Context, run, epoch int64, j schedule.LaunchJob) (bool, error) {
	a.tries.Add(1)
	if a.off.Load() {
		return false, errAway
	}
	return a.DB.SaveLaunchJob(ctx, run, epoch, j)
}

func (a *awayLaunches) FinishLaunch(ctx context.Context, run, epoch int64, end schedule.LaunchEnd) error {
	a.tries.Add(1)
	if a.off.Load() {
		return errAway
	}
	return a.DB.FinishLaunch(ctx, run, epoch, end)
}

// Without the database a launch waits before it makes anything, and so does its
// end.
func TestLaunchAway(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Appl: "a"}
	off := &awayLaunches{}
	off.off.Store(true)
	var saved atomic.Bool
	l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
		err := task.Save(ctx, jobOf(task, "test", "launched"))
		saved.Store(err == nil && !off.off.Load())
		off.off.Store(true)
		off.tries.Store(0)
		return err
	}}
	h, db := startLaunches(t, database.SQLite(t), s, l, func(c *engine.Config) { off.DB = c.Store.(*store.DB); c.Launches = off })
	put(t, db, 0, schedule.ReadyForTest)
	run := order(t, db, 0, schedule.LaunchTest, schedule.LaunchWish{})
	h.Kick()
	for _, what := range []string{"it tries to save", "it tries to end"} {
		eventually(t, 10*time.Second, what, func() bool { return off.tries.Load() >= 2 })
		if launchOf(t, db, run.ID).State != schedule.RunRunning {
			t.Error("it ended without the database")
		}
		off.off.Store(false)
		if what == "it tries to save" {
			eventually(t, 10*time.Second, "it has saved", saved.Load)
		}
	}
	if r := ended(t, db, run.ID); r.State != schedule.RunDone || r.Job == "" {
		t.Errorf("the run is %+v", r)
	}
}
