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

var ctx = context.Background()

// VMs that are due run, again and again, one run each at a time, and never more
// than the limits allow.
func TestDue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 8, Hosts: 3, Length: 100 * time.Millisecond, Appl: "a"}
		l := schedule.Limits{PerVCenter: 5, PerHost: 2, PerDatastore: 3, PerAppliance: 4, Disks: 60, Drafts: 95}
		db := openStore(t, url)
		policy(t, db, time.Second)
		limits(t, db, l)
		h := start(t, url, s, nil)
		look := sample(t, db, s, l)
		eventually(t, 40*time.Second, "two runs of every VM", func() bool {
			n := map[transfer.VMID]int{}
			for _, r := range runs(t, db, schedule.RunQuery{State: schedule.RunDone}) {
				n[r.VM]++
			}
			for i := range s.Count {
				if n[vmID(i)] < 2 {
					return false
				}
			}
			return true
		})
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		look.stop()
		if got := look.most.Load(); got < 3 {
			t.Errorf("at most %d ran at once: the limits were not made use of", got)
		}
		for run, n := range ends(t, db) {
			if n != 1 {
				t.Errorf("run %d ended %d times", run, n)
			}
		}
		vm := getVM(t, db, 0)
		if vm.Point.Cycle == "" || vm.Lifecycle != schedule.ReadyForTest || vm.Measure.LastFrozen.IsZero() || vm.Next.IsZero() {
			t.Errorf("after its runs the VM is %+v", vm)
		}
		if h.rig.pruned.Load() == 0 {
			t.Error("nothing was pruned")
		}
		if len(events(t, db, schedule.EventInitialDone)) != s.Count || len(events(t, db, schedule.EventVMAdded)) != s.Count {
			t.Error("not every VM was announced once")
		}
		r := runs(t, db, schedule.RunQuery{State: schedule.RunDone})[0]
		if r.Report.Outcome == "" || len(r.Steps) < 3 || r.Steps[0].Step != transfer.StepInspect && r.Steps[0].Step != transfer.StepFreeze {
			t.Errorf("a run says %+v", r)
		}
		log, err := db.Log(ctx, r.ID, 0, 10)
		if err != nil || len(log) == 0 {
			t.Errorf("its log is %v, %v", log, err)
		}
	})
}

// A cancelled run ends soon, cleans up, and does not start anew at once; a
// paused VM does not start at all.
func TestCancelPause(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Length: 2 * time.Second, Appl: "a"}
		db := openStore(t, url)
		policy(t, db, seldom)
		limits(t, db, schedule.DefaultLimits())
		h := start(t, url, s, nil)
		eventually(t, 20*time.Second, "both copy", func() bool { return len(s.leftSnapshots(t)) == 2 })
		if _, err := db.SetPaused(ctx, vmID(1), true, "a test"); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if _, ended, err := db.AskCancel(ctx, vmID(i), time.Now()); err != nil || ended {
				t.Fatal(ended, err)
			}
		}
		eventually(t, 20*time.Second, "both cancelled", func() bool {
			return len(runs(t, db, schedule.RunQuery{State: schedule.RunCancelled})) == 2
		})
		if left := s.leftSnapshots(t); len(left) > 0 {
			t.Errorf("VM snapshots are left: %v", left)
		}
		if vm := getVM(t, db, 0); vm.Fails != 0 || !vm.Next.After(time.Now()) {
			t.Errorf("a cancelled VM is %d fails, next %v", vm.Fails, vm.Next)
		}
		// Due at once: only the one that is not paused runs.
		for i := range 2 {
			if err := db.SetNext(ctx, vmID(i), time.Now(), "a test"); err != nil {
				t.Fatal(err)
			}
		}
		h.Kick()
		eventually(t, 20*time.Second, "one is done", func() bool { return done(t, db) == 1 })
		if n := len(runs(t, db, schedule.RunQuery{VM: ptr(vmID(1))})); n != 1 {
			t.Errorf("a paused VM has %d runs", n)
		}
		if len(events(t, db, schedule.EventRunCancelled)) != 2 {
			t.Error("the cancelled runs were not announced")
		}
	})
}

func ptr[T any](v T) *T { return &v }

// clock is the time, and more.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time        { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(by time.Duration) { c.ahead.Add(int64(by)) }

// A VM whose runs fail is tried again, ever later; after the third it is
// stalled, and when one succeeds it is not any more.
func TestFailRecover(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: time.Millisecond, Appl: "a"}
		db := openStore(t, url)
		policy(t, db, 6*time.Hour)
		limits(t, db, schedule.DefaultLimits())
		var c clock
		h := start(t, url, s, func(cfg *engine.Config) { cfg.Now = c.now })
		h.rig.setFail(func(string) error {
			return transfer.Fail(transfer.Retry, "freeze app0000", errors.New("vCenter cannot be reached"), "Look whether it runs.")
		})
		var gaps []time.Duration
		for n := 1; n <= 3; n++ {
			eventually(t, 20*time.Second, fmt.Sprintf("failure %d", n), func() bool {
				vms, _ := db.VMs(ctx, "")
				return len(vms) == 1 && vms[0].Fails >= n
			})
			vm := getVM(t, db, 0)
			if vm.Reason != schedule.ReasonVCenter || !strings.Contains(vm.Problem, "vCenter cannot be reached") {
				t.Errorf("the VM's trouble is %q, %q", vm.Reason, vm.Problem)
			}
			gaps = append(gaps, vm.Next.Sub(c.now()))
			if n < 3 {
				c.pass(vm.Next.Sub(c.now()) + time.Second)
			}
		}
		if gaps[0] < 30*time.Second || gaps[1] < gaps[0]*3/2 || gaps[2] < gaps[1]*3/2 {
			t.Errorf("it is tried again after %v", gaps)
		}
		eventually(t, 10*time.Second, "it is stalled", func() bool { return len(alarms(t, db, "stalled/")) == 1 })
		h.rig.setFail(nil)
		c.pass(gaps[2] + time.Second)
		eventually(t, 20*time.Second, "it runs again", func() bool { return done(t, db) == 1 })
		eventually(t, 10*time.Second, "it is not stalled", func() bool { return len(alarms(t, db, "stalled/")) == 0 })
		if vm := getVM(t, db, 0); vm.Fails != 0 || vm.Point.Cycle == "" {
			t.Errorf("it recovered and is %+v", vm)
		}
		if n := len(events(t, db, schedule.EventRunFail)); n != 3 {
			t.Errorf("%d failures were announced", n)
		}
		eventually(t, 5*time.Second, "recovery is announced", func() bool {
			return len(events(t, db, schedule.EventStalled)) == 1 && len(events(t, db, schedule.EventRecovered)) == 1
		})
	})
}

// A stopped appliance gives its cycles up in order, and carries the same runs
// on when it is started again.
func TestRestart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 4, Hosts: 2, Length: time.Second, Appl: "a"}
		db := openStore(t, url)
		policy(t, db, seldom)
		limits(t, db, schedule.Limits{PerAppliance: 3})
		h := start(t, url, s, nil)
		eventually(t, 20*time.Second, "three copy", func() bool { return len(s.leftSnapshots(t)) == 3 })
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if left := s.leftSnapshots(t); len(left) > 0 {
			t.Errorf("VM snapshots are left: %v", left)
		}
		before, err := db.Unended(ctx)
		if err != nil || len(before) != 4 {
			t.Fatalf("%d runs are left to carry on, %v", len(before), err)
		}
		if apps, _ := db.Appliances(ctx); len(apps) != 1 || !apps[0].Draining {
			t.Errorf("the appliances are %+v", apps)
		}
		began := time.Now()
		h = start(t, url, s, nil)
		eventually(t, 20*time.Second, "all are done", func() bool { return done(t, db) == 4 })
		t.Logf("all four were done %v after the restart", time.Since(began).Round(time.Millisecond))
		again := 0
		for _, r := range runs(t, db, schedule.RunQuery{}) {
			if r.Epoch == 2 {
				again++
			}
		}
		if n := len(runs(t, db, schedule.RunQuery{})); n != 4 || again != 3 {
			t.Errorf("%d runs, %d of them carried on", n, again)
		}
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// Only one process works on a SQLite file.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	url := database.SQLite(t)
	s := &site{Dir: t.TempDir(), Count: 0, Appl: "a"}
	h := start(t, url, s, nil)
	_, err := tryStart(t, url, &site{Dir: t.TempDir(), Appl: "b"}, nil)
	if err == nil || !strings.Contains(err.Error(), "another process already runs on database") {
		t.Errorf("a second one: %v", err)
	}
	eventually(t, 10*time.Second, "ready", func() bool { return h.Ready() == nil })
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	if h.Ready() == nil {
		t.Error("ready although it was stopped")
	}
	// Under another ID it takes over what the file has.
	start(t, url, &site{Dir: t.TempDir(), Appl: "c"}, nil)
}

// A run whose workflow was lost is carried on all the same.
func TestOrphan(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: time.Millisecond, Appl: "a"}
		db := openStore(t, url)
		limits(t, db, schedule.DefaultLimits())
		h := start(t, url, s, nil) // no policy: nothing is due
		eventually(t, 10*time.Second, "the VM is known", func() bool { vms, _ := db.VMs(ctx, ""); return len(vms) == 1 })
		grant(t, db, 0, "a")
		eventually(t, 20*time.Second, "it is done", func() bool { return done(t, db) == 1 })
		if h.rig.pruned.Load() != 0 {
			t.Error("pruned without a policy")
		}
	})
}

// grant queues a run and gives it to an appliance without a workflow.
func grant(t *testing.T, db *store.DB, i int, to transfer.ApplianceID) schedule.Run {
	t.Helper()
	run, fresh, err := db.Queue(ctx, schedule.Wanted{VM: vmID(i), Trigger: "user test"}, time.Now())
	if err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	_, err = db.Admit(ctx, time.Now(), func(schedule.Scene) []schedule.Grant {
		return []schedule.Grant{{Run: run.ID, VM: run.VM, Appliance: to}}
	}, func(context.Context, any, schedule.Grant) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// A run that was taken in hand too often fails.
func TestAttempts(t *testing.T) {
	t.Parallel()
	url := database.SQLite(t)
	s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: time.Millisecond, Appl: "a"}
	db := openStore(t, url)
	limits(t, db, schedule.DefaultLimits())
	if _, _, err := db.SaveInventory(ctx, vcenter, []transfer.VM{s.vm(0)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := db.SaveAppliance(ctx, schedule.Appliance{ID: "a", VCenter: vcenter, Alive: true, Started: time.Now(), Seen: time.Now()}); err != nil {
		t.Fatal(err)
	}
	run := grant(t, db, 0, "a")
	for range 3 {
		if _, err := db.Claim(ctx, run.ID, "a", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	start(t, url, s, func(c *engine.Config) { c.Attempts = 3 })
	eventually(t, 20*time.Second, "it failed", func() bool {
		r, err := db.Run(ctx, run.ID)
		return err == nil && r.State == schedule.RunFailed && r.Reason == schedule.ReasonAttempts
	})
	if len(s.notes(t)) > 0 {
		t.Error("a cycle ran all the same")
	}
}

// A process whose run another took in hand stops, and its workflow never ends.
func TestFenced(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: 2 * time.Second, Jumble: true, Appl: "a"}
		db := openStore(t, url)
		policy(t, db, seldom)
		limits(t, db, schedule.DefaultLimits())
		h := start(t, url, s, nil)
		eventually(t, 20*time.Second, "it copies", func() bool { return len(s.leftSnapshots(t)) == 1 })
		all, err := db.Unended(ctx)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		if err := db.Reassign(ctx, all[0].ID, "b"); err != nil {
			t.Error(err)
		}
		if _, err := db.Claim(ctx, all[0].ID, "b", time.Now()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-h.fenced:
			if !errors.Is(err, engine.ErrFenced) {
				t.Errorf("fenced with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it was not fenced")
		}
		if err := h.end(); !errors.Is(err, engine.ErrFenced) {
			t.Errorf("Run returned %v", err)
		}
		time.Sleep(s.Length) // what it had begun to read is read by now
		for _, n := range s.notes(t) {
			if n.What == "seal" {
				t.Error("it sealed all the same")
			}
		}
		if run, err := db.Run(ctx, all[0].ID); err != nil || run.State.Ended() || run.Epoch != 2 {
			t.Errorf("the run is %+v, %v", run, err)
		}
	})
}

// History does not grow for ever, the library's neither.
func TestExpire(t *testing.T) {
	t.Parallel()
	url := database.SQLite(t)
	s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: time.Millisecond, Appl: "a"}
	db := openStore(t, url)
	policy(t, db, time.Second)
	limits(t, db, schedule.DefaultLimits())
	start(t, url, s, func(c *engine.Config) { c.HistoryEvery, c.Keep = 100*time.Millisecond, 3*time.Second })
	first := int64(0)
	eventually(t, 20*time.Second, "a run", func() bool {
		if all := runs(t, db, schedule.RunQuery{State: schedule.RunDone}); len(all) > 0 {
			first = all[0].ID
		}
		return first > 0
	})
	eventually(t, 20*time.Second, "it is forgotten", func() bool {
		var n int
		if err := db.SQL().QueryRow(`SELECT count(*) FROM workflow_status WHERE workflow_uuid LIKE '%/1'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		_, err := db.Run(ctx, first)
		return errors.Is(err, engine.ErrNotFound) && n == 0
	})
}

// A service starts although vCenter is away, if it ever ran.
func TestStartWithoutVCenter(t *testing.T) {
	t.Parallel()
	url := database.SQLite(t)
	s := &site{Dir: t.TempDir(), Appl: "a"}
	mute := func(c *engine.Config) { c.Work = &selfless{c.Work} }
	if _, err := tryStart(t, url, s, mute); err == nil {
		t.Error("it started without knowing itself")
	}
	if err := start(t, url, s, nil).end(); err != nil {
		t.Fatal(err)
	}
	start(t, url, s, mute)
	apps, err := openStore(t, url).Appliances(ctx)
	if err != nil || len(apps) != 1 || apps[0].VCenter != vcenter {
		t.Errorf("the appliance is %+v, %v", apps, err)
	}
}

type selfless struct{ engine.Work }

func (selfless) Self(context.Context) (schedule.Appliance, error) {
	return schedule.Appliance{}, errors.New("vCenter is away")
}
