package engine_test

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/schedule/store"
	"snapferry/test/database"
)

// fleet is what the crash tests have: a database, and VMs that change all the
// time.
func fleet(t *testing.T, url string, vms int, copying time.Duration) (spec, *store.DB) {
	t.Helper()
	sp := spec{
		URL: url, Site: site{Dir: t.TempDir(), Count: vms, Hosts: 3, Length: copying, Jumble: true},
		Liveness: engine.Liveness{Ping: 200 * time.Millisecond, Silence: 3 * time.Second, Free: 2 * time.Second, Wait: 15 * time.Second},
	}
	return sp, openStore(t, url)
}

// holds checks what must hold whatever happened.
func holds(t *testing.T, db *store.DB, s *site, killed map[int]int64, frozen ...int) {
	t.Helper()
	for _, bad := range overlaps(s.notes(t), killed, frozen...) {
		t.Errorf("two cycles at once: %s", bad)
	}
	for run, n := range ends(t, db) {
		if n > 1 {
			t.Errorf("run %d ended %d times", run, n)
		}
	}
	for _, r := range runs(t, db, schedule.RunQuery{}) {
		if r.State.Ended() == r.Ended.IsZero() {
			t.Errorf("run %d is %s and ended %v", r.ID, r.State, r.Ended)
		}
	}
	for _, f := range s.leftSnapshots(t) {
		t.Errorf("VM snapshot %s is left", f)
	}
}

// heldBy are the VMs of which an appliance has a VM snapshot.
func heldBy(t *testing.T, s *site, appl string) (vms []string) {
	t.Helper()
	for _, f := range s.leftSnapshots(t) {
		if n := len(f) - len(appl); f[n:] == appl {
			vms = append(vms, f[:n-len(".snap-")])
		}
	}
	return vms
}

// An appliance that is killed loses its runs to another, which cleans up first.
func TestKill(t *testing.T) {
	t.Parallel()
	const vms = 8
	sp, db := fleet(t, database.Postgres(t), vms, 2*time.Second)
	l := schedule.Limits{PerHost: 2, PerAppliance: 3, PerDatastore: 3}
	limits(t, db, l)
	look := sample(t, db, &sp.Site, l)
	a := spawn(t, sp, "a")
	spawn(t, sp, "b")
	policy(t, db, seldom)
	eventually(t, 20*time.Second, "both copy, a at its limit", func() bool {
		return len(heldBy(t, &sp.Site, "a")) == 3 && len(heldBy(t, &sp.Site, "b")) > 0
	})
	a.signal(syscall.SIGKILL)
	killed := time.Now()
	a.exits(5 * time.Second)
	held := heldBy(t, &sp.Site, "a")
	eventually(t, 30*time.Second, "all are done", func() bool { return done(t, db) == vms })
	t.Logf("a was killed with %d cycles under way; all were done %v later", len(held), time.Since(killed).Round(time.Millisecond))
	look.stop()
	taken := 0
	for _, n := range sp.Site.notes(t) {
		if n.Appl == "b" && n.What == "begin" && n.Text == "a" {
			taken++
			if n.Ep < 2 {
				t.Errorf("run %d was taken over in epoch %d", n.Run, n.Ep)
			}
		}
	}
	if taken < len(held) || len(held) == 0 {
		t.Errorf("%d runs were taken over, and a had %v", taken, held)
	}
	if len(alarms(t, db, "appliance/a")) != 1 || len(events(t, db, schedule.EventRunTakenOver)) != taken {
		t.Error("nobody was told")
	}
	eventually(t, 5*time.Second, "nothing is left", func() bool { return len(sp.Site.leftSnapshots(t)) == 0 })
	holds(t, db, &sp.Site, map[int]int64{a.Process.Pid: killed.UnixMilli()})
	// When it is back, the alarm goes.
	spawn(t, sp, "a")
	eventually(t, 5*time.Second, "the alarm is gone", func() bool { return len(alarms(t, db, "appliance/a")) == 0 })
}

// A single appliance on SQLite that is killed carries its runs on.
func TestKillAlone(t *testing.T) {
	t.Parallel()
	sp, db := fleet(t, database.SQLite(t), 4, time.Second)
	limits(t, db, schedule.Limits{PerAppliance: 2})
	policy(t, db, seldom)
	a := spawn(t, sp, "a")
	eventually(t, 20*time.Second, "two copy", func() bool { return len(sp.Site.leftSnapshots(t)) == 2 })
	a.signal(syscall.SIGKILL)
	killed := time.Now()
	a.exits(5 * time.Second)
	held := heldBy(t, &sp.Site, "a")
	spawn(t, sp, "a")
	eventually(t, 20*time.Second, "all are done", func() bool { return done(t, db) == 4 })
	again := 0
	for _, r := range runs(t, db, schedule.RunQuery{}) {
		if r.Epoch > 1 {
			again++
		}
	}
	if again < len(held) || len(held) == 0 {
		t.Errorf("%d runs were carried on, and %v were under way", again, held)
	}
	holds(t, db, &sp.Site, map[int]int64{a.Process.Pid: killed.UnixMilli()})
}

// An appliance that freezes loses its runs too; when it thaws it notices before
// it makes a point, and ends.
func TestFreeze(t *testing.T) {
	t.Parallel()
	sp, db := fleet(t, database.Postgres(t), 3, 1500*time.Millisecond)
	limits(t, db, schedule.DefaultLimits())
	policy(t, db, seldom)
	a := spawn(t, sp, "a")
	eventually(t, 20*time.Second, "a copies all", func() bool { return len(heldBy(t, &sp.Site, "a")) == 3 })
	a.signal(syscall.SIGSTOP)
	frozen := time.Now()
	spawn(t, sp, "b")
	eventually(t, 30*time.Second, "b did all", func() bool { return done(t, db) == 3 })
	t.Logf("a froze; b had done its runs %v later", time.Since(frozen).Round(time.Millisecond))
	before := len(sp.Site.notes(t))
	a.signal(syscall.SIGCONT)
	if code := a.exits(10 * time.Second); code != 3 {
		t.Errorf("the thawed appliance exits with %d", code)
	}
	for _, n := range sp.Site.notes(t)[before:] {
		if n.Appl == "a" && (n.What == "seal" || n.What == "sealed") {
			t.Errorf("the thawed appliance went on: %+v", n)
		}
	}
	for _, r := range runs(t, db, schedule.RunQuery{}) {
		if r.Appliance != "b" || r.State != schedule.RunDone {
			t.Errorf("run %d is %s on %s", r.ID, r.State, r.Appliance)
		}
	}
	holds(t, db, &sp.Site, nil, a.Process.Pid)
}

// The database may be restarted: nobody loses a run, nobody takes one over.
func TestDatabaseRestart(t *testing.T) {
	t.Parallel()
	c := database.Cluster(t)
	sp, db := fleet(t, c.Database(t), 6, 4*time.Second)
	limits(t, db, schedule.Limits{PerAppliance: 3})
	policy(t, db, seldom)
	spawn(t, sp, "a")
	spawn(t, sp, "b")
	eventually(t, 20*time.Second, "all copy", func() bool { return len(sp.Site.leftSnapshots(t)) == 6 })
	c.Restart(t)
	eventually(t, 30*time.Second, "all are done", func() bool {
		all, err := db.Runs(ctx, schedule.RunQuery{State: schedule.RunDone, Limit: 100})
		return err == nil && len(all) == 6
	})
	for _, r := range runs(t, db, schedule.RunQuery{}) {
		if r.Epoch != 1 {
			t.Errorf("run %d was taken in hand %d times", r.ID, r.Epoch)
		}
	}
	if n := len(events(t, db, schedule.EventApplianceDown)); n != 0 {
		t.Errorf("%d appliances were given up", n)
	}
	holds(t, db, &sp.Site, nil)
}

// An appliance that is upgraded keeps its runs when it is soon back.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	sp, db := fleet(t, database.Postgres(t), 4, 1500*time.Millisecond)
	sp.Liveness.Free = time.Hour
	upgrade(t, sp, db)
	if left := heldBy(t, &sp.Site, "a"); len(left) > 0 {
		t.Errorf("it left VM snapshots of %v", left)
	}
	a := spawn(t, sp, "a") // the new version
	eventually(t, 30*time.Second, "a does them", func() bool { return done(t, db) == 4 })
	if n := len(events(t, db, schedule.EventRunTakenOver)); n != 0 {
		t.Errorf("%d runs were taken over from an appliance that was soon back", n)
	}
	a.signal(syscall.SIGTERM)
	a.exits(30 * time.Second)
	holds(t, db, &sp.Site, nil)
}

// An appliance that is stopped hands its runs over when it stays away.
func TestHandOver(t *testing.T) {
	t.Parallel()
	sp, db := fleet(t, database.Postgres(t), 4, 1500*time.Millisecond)
	upgrade(t, sp, db)
	eventually(t, 30*time.Second, "b does them", func() bool { return done(t, db) == 4 })
	if len(events(t, db, schedule.EventRunTakenOver)) == 0 {
		t.Error("no run was taken over")
	}
	if len(alarms(t, db, "appliance/")) > 0 {
		t.Error("an appliance that was stopped is an alarm")
	}
	if n := len(runs(t, db, schedule.RunQuery{})); n != 4 {
		t.Errorf("there are %d runs", n)
	}
	holds(t, db, &sp.Site, nil)
}

// upgrade stops appliance a in the midst of its cycles, with b beside it.
func upgrade(t *testing.T, sp spec, db *store.DB) *child {
	t.Helper()
	limits(t, db, schedule.DefaultLimits())
	policy(t, db, seldom)
	a := spawn(t, sp, "a")
	eventually(t, 20*time.Second, "a copies", func() bool { return len(heldBy(t, &sp.Site, "a")) > 0 })
	spawn(t, sp, "b")
	a.signal(syscall.SIGTERM)
	if code := a.exits(30 * time.Second); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	return a
}

// Two processes with one ID are a mistake that is found.
func TestSameID(t *testing.T) {
	t.Parallel()
	url := database.Postgres(t)
	start(t, url, &site{Dir: t.TempDir(), Appl: "a"}, nil)
	_, err := tryStart(t, url, &site{Dir: t.TempDir(), Appl: "a"}, func(c *engine.Config) { c.Liveness.Wait = time.Second })
	if err == nil {
		t.Error("two appliances have one ID")
	}
}

// With the timings of real life a takeover takes less than a minute, from a
// kill and from a freeze.
func TestTakeoverTimes(t *testing.T) {
	if os.Getenv("SNAPFERRY_LONG") == "" {
		t.Skip("takes two minutes: set SNAPFERRY_LONG=1")
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			sp, db := fleet(t, database.Postgres(t), 2, 3*time.Second)
			sp.Default = true
			limits(t, db, schedule.DefaultLimits())
			policy(t, db, seldom)
			a := spawn(t, sp, "a")
			eventually(t, 40*time.Second, "a copies", func() bool { return len(heldBy(t, &sp.Site, "a")) == 2 })
			spawn(t, sp, "b")
			a.signal(sig)
			began := time.Now()
			eventually(t, time.Minute, "b has them", func() bool {
				return slices.ContainsFunc(sp.Site.notes(t), func(n note) bool { return n.Appl == "b" && n.What == "begin" })
			})
			t.Logf("taken over after %v", time.Since(began).Round(100*time.Millisecond))
		})
	}
}
