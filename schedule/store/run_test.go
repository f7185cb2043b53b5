package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

func TestQueue(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 3)
		first := queue(t, db, 0)
		equal(t, "queued", first, schedule.Run{ID: first.ID, VM: id(0), VMName: "app0000", State: schedule.RunQueued, Trigger: "schedule", Policy: "gold", Queued: t0})
		equal(t, "last run", got[schedule.VM](t)(db.VM(ctx, id(0))).LastRun, first.ID)

		again, fresh, err := db.Queue(ctx, schedule.Wanted{VM: id(0), Trigger: "user joe", Seed: true, Urgent: true}, t0.Add(time.Hour))
		must(t, err)
		if fresh || again.ID != first.ID || again.Trigger != "schedule" {
			t.Errorf("queued again: fresh %v, %+v", fresh, again)
		}
		equal(t, "a run that is still queued seeds now", again.Seed, true)
		scene := sceneOf(t, db)
		equal(t, "and is urgent", scene.Queued[0].Urgent, true)
		equal(t, "and keeps its priority", scene.Queued[0].Priority, 3)

		r := start(t, db, 1)
		again, fresh, err = db.Queue(ctx, schedule.Wanted{VM: id(1), Seed: true, Urgent: true}, t0)
		must(t, err)
		if fresh || again.ID != r.ID || again.Seed {
			t.Errorf("queued while it runs: fresh %v, %+v", fresh, again)
		}
		must(t, db.Finish(ctx, r.ID, r.Epoch, schedule.End{State: schedule.RunDone, At: t0}))
		next := queue(t, db, 1)
		if next.ID <= r.ID {
			t.Errorf("run %d comes after %d", next.ID, r.ID)
		}
		_, _, err = db.Queue(ctx, wanted(9), t0)
		wantErr(t, "queue an unknown VM", err, schedule.ErrNotFound)

		ids := func(all []schedule.Run) (ids []int64) {
			for _, r := range all {
				ids = append(ids, r.ID)
			}
			return ids
		}
		equal(t, "unended", ids(got[[]schedule.Run](t)(db.Unended(ctx))), []int64{first.ID, next.ID})
		one := id(1)
		for _, c := range []struct {
			q    schedule.RunQuery
			want []int64
		}{
			{schedule.RunQuery{}, []int64{next.ID, r.ID, first.ID}},
			{schedule.RunQuery{Limit: 1}, []int64{next.ID}},
			{schedule.RunQuery{Before: next.ID}, []int64{r.ID, first.ID}},
			{schedule.RunQuery{VM: &one}, []int64{next.ID, r.ID}},
			{schedule.RunQuery{VM: &one, Active: true}, []int64{next.ID}},
			{schedule.RunQuery{State: schedule.RunDone, Before: next.ID}, []int64{r.ID}},
			{schedule.RunQuery{Active: true}, []int64{next.ID, first.ID}},
		} {
			equal(t, fmt.Sprintf("runs %+v", c.q), ids(got[[]schedule.Run](t)(db.Runs(ctx, c.q))), c.want)
		}
		_, err = db.Run(ctx, 12345)
		wantErr(t, "unknown run", err, schedule.ErrNotFound)
	})
}

// Of twenty that want a run of one VM exactly one makes it.
func TestQueueAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		fleet(t, db, 1)
		const n = 20
		runs, fresh, errs := make([]schedule.Run, n), make([]bool, n), make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { runs[i], fresh[i], errs[i] = db.Queue(t.Context(), wanted(0), t0) })
		}
		wg.Wait()
		made := 0
		for i := range n {
			must(t, errs[i])
			if fresh[i] {
				made++
			}
			if runs[i].ID != runs[0].ID {
				t.Errorf("runs %d and %d of one VM", runs[i].ID, runs[0].ID)
			}
		}
		equal(t, "runs that were made", made, 1)
	})
}

func report(i int) transfer.Report {
	return transfer.Report{VM: id(i), VMName: "app", Cycle: "c1", Step: transfer.StepCopy, Started: t0, Frozen: t0.Add(1500 * time.Microsecond),
		Disks: []transfer.DiskReport{{Disk: transfer.DiskID{Key: 2000, UUID: "u"}, Size: 1 << 40, Blocks: 7, Audit: &transfer.AuditReport{Blocks: 3, Odds: 0.25}}},
		Notes: []string{"slow"}, FrozenFor: time.Minute}
}

func TestWork(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 2)
		r := queue(t, db, 1)
		claimed := got[schedule.Run](t)(db.Claim(ctx, r.ID, "a", t0.Add(time.Second)))
		want := r
		want.State, want.Appliance, want.Epoch, want.Started = schedule.RunRunning, "a", 1, t0.Add(time.Second)
		equal(t, "claimed", claimed, want)

		steps := []schedule.StepTime{{Step: transfer.StepInspect, Began: t0}, {Step: transfer.StepCopy, Began: t0.Add(time.Minute)}}
		equal(t, "cancel", got[bool](t)(db.Tell(ctx, r.ID, 1, report(1), steps)), false)
		want.Report, want.Steps = report(1), steps
		equal(t, "told", got[schedule.Run](t)(db.Run(ctx, r.ID)), want)

		// Somebody asks to cancel: told, not done.
		run, ended, err := db.AskCancel(ctx, id(1), t0)
		must(t, err)
		equal(t, "asked", []any{run, ended}, []any{r.ID, false})
		equal(t, "cancel", got[bool](t)(db.Tell(ctx, r.ID, 1, report(1), nil)), true)

		// Taken over: the first owner is fenced, also from ending it.
		_, err = db.Claim(ctx, r.ID, "b", t0.Add(time.Hour))
		wantErr(t, "claim of another's run", err, schedule.ErrNotFound)
		must(t, db.Reassign(ctx, r.ID, "b"))
		taken := got[schedule.Run](t)(db.Claim(ctx, r.ID, "b", t0.Add(time.Hour)))
		equal(t, "taken over", []any{taken.Epoch, taken.Appliance, taken.Started, taken.Cancel}, []any{int64(2), transfer.ApplianceID("b"), t0.Add(time.Second), true})
		_, err = db.Tell(ctx, r.ID, 1, transfer.Report{}, nil)
		wantErr(t, "tell of the first owner", err, schedule.ErrFenced)
		wantErr(t, "end by the first owner", db.Finish(ctx, r.ID, 1, schedule.End{State: schedule.RunDone, At: t0}), schedule.ErrFenced)
		equal(t, "report", got[schedule.Run](t)(db.Run(ctx, r.ID)).Report, report(1))

		end := schedule.End{State: schedule.RunCancelled, At: t0.Add(2 * time.Hour), Error: "cancelled"}
		must(t, db.Finish(ctx, r.ID, 2, end))
		must(t, db.Finish(ctx, r.ID, 2, end)) // nobody knew whether it was written
		end.State = schedule.RunDone
		wantErr(t, "another end", db.Finish(ctx, r.ID, 2, end), schedule.ErrFenced)
		_, err = db.Tell(ctx, r.ID, 2, report(1), nil)
		wantErr(t, "tell of what has ended", err, schedule.ErrFenced)
		_, err = db.Tell(ctx, 999, 1, report(1), nil)
		wantErr(t, "tell of an unknown run", err, schedule.ErrFenced)
		_, err = db.Claim(ctx, r.ID, "a", t0)
		wantErr(t, "claim what has ended", err, schedule.ErrNotFound)
		wantErr(t, "reassign what has ended", db.Reassign(ctx, r.ID, "a"), schedule.ErrNotFound)
		_, _, err = db.AskCancel(ctx, id(1), t0)
		wantErr(t, "cancel what has ended", err, schedule.ErrNotFound)
		wantErr(t, "no end", db.Finish(ctx, r.ID, 2, schedule.End{State: schedule.RunRunning}), schedule.ErrInvalid)
	})
}

// fullEnd is an end with everything in it.
func fullEnd() schedule.End {
	lag := schedule.Duration(90 * time.Second)
	return schedule.End{
		State: schedule.RunDone, At: t0.Add(time.Hour), Report: report(0), Steps: []schedule.StepTime{{Step: transfer.StepDone, Began: t0}},
		Measure: schedule.Measure{ChangeRate: 1.5, Cycle: 7 * time.Nanosecond, LastFrozen: t0.Add(1), Cycles: 3},
		Point:   schedule.LastPoint{Cycle: "c1", Instant: t0, Suspect: "audit"}, Lifecycle: schedule.ReadyForTest,
		Next: t0.Add(2 * time.Hour), NextWhy: "every 15m", Lag: &lag,
	}
}

func TestFinish(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 1)
		r := start(t, db, 0)
		end := fullEnd()
		must(t, db.Finish(ctx, r.ID, r.Epoch, end))
		want := r
		want.State, want.Ended, want.Report, want.Steps = schedule.RunDone, end.At, end.Report, end.Steps
		equal(t, "run", got[schedule.Run](t)(db.Run(ctx, r.ID)), want)
		vm := schedule.VM{VM: machine(0), Seen: t0, Lifecycle: schedule.ReadyForTest, Next: end.Next, NextWhy: end.NextWhy, LastRun: r.ID, Point: end.Point, Measure: end.Measure}
		equal(t, "VM", got[schedule.VM](t)(db.VM(ctx, id(0))), vm)
		lags := got[map[transfer.VMID][]schedule.LagSample](t)(db.Lags(ctx, []transfer.VMID{id(0), id(5)}, end.At))
		equal(t, "lags", lags, map[transfer.VMID][]schedule.LagSample{id(0): {{At: end.At, Lag: *end.Lag}}})
		equal(t, "lags of later", len(got[map[transfer.VMID][]schedule.LagSample](t)(db.Lags(ctx, []transfer.VMID{id(0)}, end.At.Add(1e6)))), 0)

		// A failure, then a cancel, which leaves its reason, then a success.
		finish := func(end schedule.End) schedule.VM {
			t.Helper()
			r := start(t, db, 0)
			must(t, db.Finish(ctx, r.ID, r.Epoch, end))
			run := got[schedule.Run](t)(db.Run(ctx, r.ID))
			equal(t, "run's words", []any{run.Reason, run.Error, run.Hint}, []any{end.Reason, end.Error, end.Hint})
			return got[schedule.VM](t)(db.VM(ctx, id(0)))
		}
		failed := finish(schedule.End{State: schedule.RunFailed, At: t0, Fails: 1, Reason: schedule.ReasonAttach, Error: "no slot", Hint: "wait"})
		equal(t, "failed", []any{failed.Fails, failed.Reason, failed.Problem, failed.Lifecycle}, []any{1, schedule.ReasonAttach, "no slot", schedule.ReadyForTest})
		asked := finish(schedule.End{State: schedule.RunCancelled, At: t0, Fails: 1, Error: "cancelled"})
		equal(t, "cancelled", []any{asked.Fails, asked.Reason, asked.Problem}, []any{1, schedule.ReasonAttach, "no slot"})
		done := finish(schedule.End{State: schedule.RunDone, At: t0})
		equal(t, "done", []any{done.Fails, done.Reason, done.Problem}, []any{0, schedule.Reason(""), ""})
	})
}

// What a person or a launch set while the end of a run was on its way stays.
func TestFinishLeavesLifecycle(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 1)
		for _, c := range []struct{ is, end, want schedule.Lifecycle }{
			{schedule.NotReady, schedule.ReadyForTest, schedule.ReadyForTest},
			{schedule.ReadyForTest, "", schedule.ReadyForTest},
			{schedule.Testing, schedule.ReadyForTest, schedule.Testing},
			{schedule.ReadyForCutover, schedule.ReadyForTest, schedule.ReadyForCutover},
			{schedule.Disconnected, schedule.ReadyForTest, schedule.Disconnected},
		} {
			must(t, db.SetLifecycle(ctx, id(0), schedule.Lifecycles(), c.is))
			r := start(t, db, 0)
			must(t, db.Finish(ctx, r.ID, r.Epoch, schedule.End{State: schedule.RunDone, At: t0, Lifecycle: c.end}))
			equal(t, fmt.Sprintf("%s after a run that made it %q", c.is, c.end), got[schedule.VM](t)(db.VM(ctx, id(0))).Lifecycle, c.want)
		}
	})
}

// A Finish that fails half way has written nothing.
func TestFinishIsWhole(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 1)
		r := start(t, db, 0)
		if _, err := db.SQL().ExecContext(ctx, `ALTER TABLE lag_sample RENAME TO elsewhere`); err != nil {
			t.Fatal(err)
		}
		if err := db.Finish(ctx, r.ID, r.Epoch, fullEnd()); err == nil {
			t.Fatal("no error without the table of lags")
		}
		equal(t, "state", got[schedule.Run](t)(db.Run(ctx, r.ID)).State, schedule.RunRunning)
		equal(t, "point", got[schedule.VM](t)(db.VM(ctx, id(0))).Point, schedule.LastPoint{})
	})
}

func TestCancelQueued(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 1)
		r := queue(t, db, 0)
		run, ended, err := db.AskCancel(ctx, id(0), t0.Add(time.Minute))
		must(t, err)
		equal(t, "asked", []any{run, ended}, []any{r.ID, true})
		r.State, r.Cancel, r.Ended = schedule.RunCancelled, true, t0.Add(time.Minute)
		equal(t, "run", got[schedule.Run](t)(db.Run(ctx, r.ID)), r)
		queue(t, db, 0) // there is room for another
	})
}

func TestLog(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 2)
		r, other := queue(t, db, 0), queue(t, db, 1)
		line := func(run int64, i int) schedule.LogLine {
			return schedule.LogLine{Run: run, Seq: int64(i), At: t0.Add(time.Duration(i) * time.Second), Level: "info", Text: fmt.Sprintf("line %d", i)}
		}
		var lines []schedule.LogLine
		for i := range 1200 {
			lines = append(lines, line(r.ID, i+1))
		}
		must(t, db.AppendLog(ctx, r.ID, lines[:1]))
		must(t, db.AppendLog(ctx, r.ID, nil))
		must(t, db.AppendLog(ctx, r.ID, lines[1:]))
		must(t, db.AppendLog(ctx, other.ID, []schedule.LogLine{line(0, 1)}))
		equal(t, "beginning", got[[]schedule.LogLine](t)(db.Log(ctx, r.ID, 0, 3)), lines[:3])
		equal(t, "behind", got[[]schedule.LogLine](t)(db.Log(ctx, r.ID, 1190, 1000)), lines[1190:])
		equal(t, "most", len(got[[]schedule.LogLine](t)(db.Log(ctx, r.ID, 0, 5000))), 1000)
		equal(t, "other", len(got[[]schedule.LogLine](t)(db.Log(ctx, other.ID, 0, 0))), 1)
		wantErr(t, "log of an unknown run", db.AppendLog(ctx, 999, lines[:1]), schedule.ErrNotFound)
	})
}

// sceneOf reads what Admit decides on.
func sceneOf(t testing.TB, db *store.DB) (scene schedule.Scene) {
	t.Helper()
	_, err := db.Admit(t.Context(), t0, func(s schedule.Scene) []schedule.Grant { scene = s; return nil }, nil)
	must(t, err)
	return scene
}

func TestScene(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 5)
		limits := schedule.Limits{PerHost: 1}
		must(t, db.SetLimits(ctx, limits))
		running, queued, ended := start(t, db, 2), queue(t, db, 1), start(t, db, 3)
		must(t, db.Finish(ctx, ended.ID, ended.Epoch, schedule.End{State: schedule.RunDone, At: t0}))
		got := sceneOf(t, db)
		equal(t, "scene", got, schedule.Scene{
			Limits:     limits,
			Active:     []schedule.Place{{Run: running.ID, VM: id(2), Host: "esx2", Datastores: []string{"ds0", "ds2", "ds3"}, Disks: 3, Appliance: "a", Account: "123456789012/eu-central-1", Priority: 3, Queued: t0.UnixMilli()}},
			Queued:     []schedule.Place{{Run: queued.ID, VM: id(1), Host: "esx1", Datastores: []string{"ds1", "ds2"}, Disks: 2, Priority: 3, Queued: t0.UnixMilli()}},
			Appliances: []schedule.Appliance{appliance("a"), appliance("b")},
		})
	})
}

func TestAdmit(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 4)
		r0, r1, r2 := queue(t, db, 0), queue(t, db, 1), start(t, db, 2)
		if _, err := db.SQL().ExecContext(ctx, `CREATE TABLE enqueued (run BIGINT NOT NULL)`); err != nil {
			t.Fatal(err)
		}
		grant := func(r schedule.Run, to transfer.ApplianceID) schedule.Grant {
			return schedule.Grant{Run: r.ID, VM: r.VM, Appliance: to}
		}
		count := func() (n int) {
			must(t, db.SQL().QueryRowContext(ctx, `SELECT count(*) FROM enqueued`).Scan(&n))
			return n
		}
		// Nothing stays of an admission that fails.
		boom := errors.New("boom")
		_, err := db.Admit(ctx, t0, func(schedule.Scene) []schedule.Grant { return []schedule.Grant{grant(r0, "a"), grant(r1, "a")} },
			func(ctx context.Context, tx any, g schedule.Grant) error {
				must(t, insertIn(ctx, tx, g.Run))
				if g.Run == r1.ID {
					return boom
				}
				return nil
			})
		wantErr(t, "admission", err, boom)
		equal(t, "state", got[schedule.Run](t)(db.Run(ctx, r0.ID)).State, schedule.RunQueued)
		equal(t, "enqueued", count(), 0)
		_, err = db.Admit(ctx, t0, func(schedule.Scene) []schedule.Grant { return []schedule.Grant{{Run: 99}} }, nil)
		wantErr(t, "a grant of what is not there", err, schedule.ErrInvalid)

		// A queued run, and a running one that goes to another appliance.
		granted, err := db.Admit(ctx, t0, func(schedule.Scene) []schedule.Grant { return []schedule.Grant{grant(r0, "a"), grant(r2, "b")} },
			func(ctx context.Context, tx any, g schedule.Grant) error { return insertIn(ctx, tx, g.Run) })
		must(t, err)
		equal(t, "granted", granted, []schedule.Grant{grant(r0, "a"), grant(r2, "b")})
		equal(t, "enqueued", count(), 2)
		for _, c := range []struct {
			run schedule.Run
			to  transfer.ApplianceID
		}{{r0, "a"}, {r2, "b"}} {
			r := got[schedule.Run](t)(db.Run(ctx, c.run.ID))
			equal(t, "granted run", []any{r.State, r.Appliance, r.Epoch}, []any{schedule.RunStarting, c.to, c.run.Epoch})
		}
		equal(t, "still queued", got[schedule.Run](t)(db.Run(ctx, r1.ID)).State, schedule.RunQueued)
	})
}
