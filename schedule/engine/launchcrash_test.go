package engine_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/test/database"
)

// synced is a launch that replicates the source once and is done. Its job says
// which processes worked on it.
func synced(ctx context.Context, task engine.LaunchTask) error {
	j := jobOf(task, "cutover", "launching")
	for _, is := range task.Jobs {
		if is.ID == task.Run.Job {
			j = is
		}
	}
	j.Instance += fmt.Sprintf(" %d", os.Getpid())
	if err := task.Save(ctx, j); err != nil {
		return err
	}
	run, err := task.Sync(ctx, "final sync")
	if err != nil {
		return err
	}
	j.State, j.Point = "launched", run.Report.Point
	return task.Save(ctx, j)
}

// A launch of an appliance that is killed, or freezes, goes on elsewhere with
// the job that was saved, and so does the cycle that it waits for. What thaws
// ends at once.
func TestLaunchTakeover(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			sp, db := fleet(t, database.Postgres(t), 1, 1500*time.Millisecond)
			sp.Launch = true
			limits(t, db, schedule.DefaultLimits())
			known(t, db, &sp.Site)
			put(t, db, 0, schedule.ReadyForCutover)
			a := spawn(t, sp, "a")
			run := order(t, db, 0, schedule.LaunchCutover, schedule.LaunchWish{})
			eventually(t, 20*time.Second, "the final sync copies", func() bool { return len(heldBy(t, &sp.Site, "a")) == 1 })
			a.signal(sig)
			at := time.Now()
			b := spawn(t, sp, "b")
			r := ended(t, db, run.ID)
			t.Logf("%v: the launch was done %v later", sig, time.Since(at).Round(time.Millisecond))
			if r.State != schedule.RunDone || r.Appliance != "b" || r.Epoch != 2 || r.Before != schedule.ReadyForCutover {
				t.Errorf("the run is %+v", r)
			}
			j, err := db.LaunchJob(ctx, r.Job)
			if err != nil || j.State != "launched" || j.Point == "" || j.Instance != fmt.Sprintf(" %d %d", a.Process.Pid, b.Process.Pid) {
				t.Errorf("its job is %+v, %v", j, err)
			}
			if vm := getVM(t, db, 0); vm.Lifecycle != schedule.CutOver || vm.Point.Cycle != j.Point {
				t.Errorf("the VM is %s with point %v", vm.Lifecycle, vm.Point)
			}
			// The cycle under way was carried on, and then one made that begins after it.
			if all := runs(t, db, schedule.RunQuery{State: schedule.RunDone}); len(all) != 2 || all[0].Report.Point != j.Point {
				t.Errorf("%d runs are done", len(all))
			}
			starts := events(t, db, schedule.EventCutoverStart)
			if len(starts) != 2 || !strings.Contains(starts[1].Text, "carried on") || len(events(t, db, schedule.EventCutoverEnd)) != 1 {
				t.Errorf("told were %+v", starts)
			}
			if sig == syscall.SIGKILL {
				holds(t, db, &sp.Site, map[int]int64{a.Process.Pid: at.UnixMilli()})
				return
			}
			a.signal(syscall.SIGCONT)
			if code := a.exits(10 * time.Second); code != 3 {
				t.Errorf("the thawed appliance exits with %d", code)
			}
			if again := launchOf(t, db, run.ID); again.Ended != r.Ended || again.Epoch != 2 {
				t.Errorf("the thawed appliance changed the run: %+v", again)
			}
			holds(t, db, &sp.Site, nil, a.Process.Pid)
		})
	}
}
