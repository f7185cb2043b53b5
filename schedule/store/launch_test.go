package store_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

func launchWanted(i int, a schedule.LaunchAction) schedule.LaunchWanted {
	return schedule.LaunchWanted{VM: id(i), VMName: fmt.Sprintf("app%04d", i), Action: a, Trigger: "user joe", Wave: "w1",
		Wish: schedule.LaunchWish{Settings: schedule.Launch{"subnet": "s"}, Force: true, Point: "c1", For: schedule.Duration(time.Hour), Points: schedule.PointsAll}}
}

// queueLaunch makes a launch run of VM i.
func queueLaunch(t testing.TB, db *store.DB, i int, a schedule.LaunchAction) schedule.LaunchRun {
	t.Helper()
	r, fresh, err := db.QueueLaunch(t.Context(), launchWanted(i, a), t0)
	must(t, err)
	if !fresh {
		t.Fatalf("VM %d has a launch run already: %+v", i, r)
	}
	return r
}

// claimLaunch lets an appliance take the next launch run in hand.
func claimLaunch(t testing.TB, db *store.DB, by transfer.ApplianceID, busy ...int64) schedule.LaunchRun {
	t.Helper()
	return got[schedule.LaunchRun](t)(db.ClaimLaunch(t.Context(), by, vc, busy, t0.Add(time.Second)))
}

// launch makes a launch run of VM i that ends at an instant; with a job if it
// has a name.
func launch(t testing.TB, db *store.DB, i int, prove bool, job string, at time.Time) schedule.LaunchRun {
	t.Helper()
	w := launchWanted(i, schedule.LaunchTest)
	w.Wish.Prove = prove
	_, _, err := db.QueueLaunch(t.Context(), w, at)
	must(t, err)
	r := claimLaunch(t, db, "a")
	if job != "" {
		j := launchJob(i, job, at)
		j.Over = true
		_, err := db.SaveLaunchJob(t.Context(), r.ID, r.Epoch, j)
		must(t, err)
	}
	must(t, db.FinishLaunch(t.Context(), r.ID, r.Epoch, schedule.LaunchEnd{State: schedule.RunDone, At: at}))
	return r
}

func launchJob(i int, name string, made time.Time) schedule.LaunchJob {
	return schedule.LaunchJob{ID: name, VM: id(i), VMName: fmt.Sprintf("app%04d", i), Purpose: "test", State: "launching", Point: "c1", Instance: "i-1", Address: "10.0.0.4",
		Error: "no", Hint: "try", Made: made, Ends: made.Add(8 * time.Hour), ToLaunch: schedule.Duration(90 * time.Second), Downtime: schedule.Duration(1500 * time.Millisecond),
		Doc: json.RawMessage(`{"id":"` + name + `"}`)}
}

func TestQueueLaunch(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 3)
		w := launchWanted(0, schedule.LaunchTest)
		first := queueLaunch(t, db, 0, schedule.LaunchTest)
		equal(t, "queued", first, schedule.LaunchRun{ID: first.ID, VM: id(0), VMName: "app0000", Action: schedule.LaunchTest, Wish: w.Wish, State: schedule.RunQueued, Trigger: "user joe", Wave: "w1", Queued: t0})
		again, fresh, err := db.QueueLaunch(ctx, schedule.LaunchWanted{VM: id(0), Action: schedule.LaunchCutover, Trigger: "user ann"}, t0.Add(time.Hour))
		must(t, err)
		equal(t, "queued again", []any{again, fresh}, []any{first, false})
		_, _, err = db.QueueLaunch(ctx, launchWanted(9, schedule.LaunchTest), t0)
		wantErr(t, "of an unknown VM", err, schedule.ErrNotFound)
		_, _, err = db.QueueLaunch(ctx, launchWanted(0, "fly"), t0)
		wantErr(t, "an unknown action", err, schedule.ErrInvalid)

		r := claimLaunch(t, db, "a")
		must(t, db.FinishLaunch(ctx, r.ID, r.Epoch, schedule.LaunchEnd{State: schedule.RunDone, At: t0}))
		next := queueLaunch(t, db, 0, schedule.LaunchCutover)
		w = launchWanted(1, schedule.LaunchTest)
		w.VMName, w.Wave = "", ""
		other, _, err := db.QueueLaunch(ctx, w, t0)
		must(t, err)
		equal(t, "the name where none was given", other.VMName, "app0001")
		zero := id(0)
		for _, c := range []struct {
			q    schedule.LaunchQuery
			want []int64
		}{
			{schedule.LaunchQuery{}, []int64{other.ID, next.ID, first.ID}},
			{schedule.LaunchQuery{Limit: 1}, []int64{other.ID}},
			{schedule.LaunchQuery{Before: other.ID}, []int64{next.ID, first.ID}},
			{schedule.LaunchQuery{VM: &zero}, []int64{next.ID, first.ID}},
			{schedule.LaunchQuery{VM: &zero, Active: true}, []int64{next.ID}},
			{schedule.LaunchQuery{Wave: "w1"}, []int64{next.ID, first.ID}},
			{schedule.LaunchQuery{Active: true, Before: other.ID}, []int64{next.ID}},
		} {
			var ids []int64
			for _, r := range got[[]schedule.LaunchRun](t)(db.LaunchRuns(ctx, c.q)) {
				ids = append(ids, r.ID)
			}
			equal(t, fmt.Sprintf("launch runs %+v", c.q), ids, c.want)
		}
		_, err = db.LaunchRun(ctx, 12345)
		wantErr(t, "unknown launch run", err, schedule.ErrNotFound)
		queue(t, db, 0) // a cycle is another matter
	})
}

// Of twenty that want a launch run of one VM exactly one makes it.
func TestQueueLaunchAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		fleet(t, db, 1)
		const n = 20
		made, errs := make([]bool, n), make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { _, made[i], errs[i] = db.QueueLaunch(t.Context(), launchWanted(0, schedule.LaunchTest), t0) })
		}
		wg.Wait()
		count := 0
		for i := range n {
			must(t, errs[i])
			if made[i] {
				count++
			}
		}
		equal(t, "launch runs that were made", count, 1)
	})
}

// Who claims at once gets different runs, each once.
func TestClaimLaunchAtOnce(t *testing.T) {
	for kind, url := range map[string]func(testing.TB) string{"sqlite": database.SQLite, "postgres": database.Postgres} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const n, claimers = 40, 5
			where := url(t)
			first := open(t, where)
			fleet(t, first, n)
			for a := range claimers {
				must(t, first.SaveAppliance(t.Context(), appliance(fmt.Sprint(a))))
			}
			for i := range n {
				queueLaunch(t, first, i, schedule.LaunchTest)
			}
			var wg sync.WaitGroup
			claims := make([][]int64, claimers)
			errs := make([]error, claimers)
			begin := make(chan bool)
			for a := range claimers {
				db := open(t, where)
				got[schedule.VM](t)(db.VM(t.Context(), id(0))) // its connection is open
				wg.Go(func() {
					<-begin
					for {
						r, err := db.ClaimLaunch(t.Context(), transfer.ApplianceID(fmt.Sprint(a)), vc, claims[a], t0)
						if err != nil {
							errs[a] = err
							return
						}
						if r.Epoch != 1 {
							errs[a] = fmt.Errorf("run %d in epoch %d", r.ID, r.Epoch)
							return
						}
						claims[a] = append(claims[a], r.ID)
					}
				})
			}
			close(begin)
			wg.Wait()
			all := slices.Concat(claims...)
			for _, err := range errs {
				wantErr(t, "the last claim", err, schedule.ErrNotFound)
			}
			slices.Sort(all)
			if len(all) != n || len(slices.Compact(all)) != n {
				t.Errorf("claims: %v", claims)
			}
		})
	}
}

func TestClaimLaunch(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 3)
		must(t, db.SetLifecycle(ctx, id(1), schedule.Lifecycles(), schedule.ReadyForCutover))
		none := func(what string, by transfer.ApplianceID, vcenter string, busy ...int64) {
			t.Helper()
			_, err := db.ClaimLaunch(ctx, by, vcenter, busy, t0)
			wantErr(t, what, err, schedule.ErrNotFound)
		}
		none("an empty table", "a", vc)
		first, second := queueLaunch(t, db, 1, schedule.LaunchTest), queueLaunch(t, db, 0, schedule.LaunchTest)
		none("another vCenter's", "a", "vc-0002")
		none("busy with both", "a", vc, first.ID, second.ID)
		r := claimLaunch(t, db, "a")
		want := first
		want.State, want.Appliance, want.Epoch, want.Started, want.Before = schedule.RunRunning, "a", 1, t0.Add(time.Second), schedule.ReadyForCutover
		equal(t, "claimed", r, want)
		equal(t, "read", got[schedule.LaunchRun](t)(db.LaunchRun(ctx, r.ID)), want)
		r2 := claimLaunch(t, db, "b")
		equal(t, "the next", r2.ID, second.ID)
		none("that of a living appliance", "b", vc, r2.ID)

		// This appliance's own, after its restart; where the VM was stays.
		must(t, db.SetLifecycle(ctx, id(1), schedule.Lifecycles(), schedule.Testing))
		none("what this process has in hand", "a", vc, r.ID)
		own := got[schedule.LaunchRun](t)(db.ClaimLaunch(ctx, "a", vc, nil, t0.Add(time.Hour)))
		want.Epoch = 2
		equal(t, "its own after a restart", own, want)

		// An appliance that is not alive loses its own.
		got[bool](t)(db.Lost(ctx, "a"))
		taken := claimLaunch(t, db, "b", r2.ID)
		want.Epoch, want.Appliance = 3, "b"
		equal(t, "that of a dead appliance", taken, want)
		// One of which nobody knows is not alive either.
		_, err := db.SQL().ExecContext(ctx, `UPDATE launch_run SET appliance = 'gone'`)
		must(t, err)
		equal(t, "that of an unknown appliance", claimLaunch(t, db, "b").ID, first.ID)
	})
}

func TestLaunchFence(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 2)
		queueLaunch(t, db, 0, schedule.LaunchCutover)
		r := claimLaunch(t, db, "a")
		j := launchJob(0, "job-1", t0)
		equal(t, "cancel", got[bool](t)(db.SaveLaunchJob(ctx, r.ID, 1, j)), false)
		equal(t, "job", got[schedule.LaunchJob](t)(db.LaunchJob(ctx, "job-1")), j)
		equal(t, "the run's job", got[schedule.LaunchRun](t)(db.LaunchRun(ctx, r.ID)).Job, "job-1")
		// An earlier one that had to go is not what the run is about; the next is.
		old := launchJob(0, "job-0", t0.Add(-time.Hour))
		old.Over, old.State = true, "ended"
		got[bool](t)(db.SaveLaunchJob(ctx, r.ID, 1, old))
		equal(t, "the run's job", got[schedule.LaunchRun](t)(db.LaunchRun(ctx, r.ID)).Job, "job-1")

		run, ended, err := db.AskCancelLaunch(ctx, id(0), t0)
		must(t, err)
		equal(t, "asked", []any{run, ended}, []any{r.ID, false})
		j.State, j.Doc, j.Error = "launched", nil, ""
		equal(t, "cancel", got[bool](t)(db.SaveLaunchJob(ctx, r.ID, 1, j)), true)
		equal(t, "job, saved again", got[schedule.LaunchJob](t)(db.LaunchJob(ctx, "job-1")), j)

		got[bool](t)(db.Lost(ctx, "a"))
		equal(t, "taken over", claimLaunch(t, db, "b").Epoch, int64(2))
		j.State = "spoiled"
		_, err = db.SaveLaunchJob(ctx, r.ID, 1, j)
		wantErr(t, "save of the first owner", err, schedule.ErrFenced)
		wantErr(t, "end by the first owner", db.FinishLaunch(ctx, r.ID, 1, schedule.LaunchEnd{State: schedule.RunDone, At: t0}), schedule.ErrFenced)
		equal(t, "its job", got[schedule.LaunchJob](t)(db.LaunchJob(ctx, "job-1")).State, "launched")

		end := schedule.LaunchEnd{State: schedule.RunCancelled, At: t0.Add(time.Hour), Error: "cancelled", Hint: "revert"}
		must(t, db.FinishLaunch(ctx, r.ID, 2, end))
		must(t, db.FinishLaunch(ctx, r.ID, 2, end)) // nobody knew whether it was written
		is := got[schedule.LaunchRun](t)(db.LaunchRun(ctx, r.ID))
		equal(t, "ended", []any{is.State, is.Ended, is.Error, is.Hint, is.Cancel}, []any{end.State, end.At, end.Error, end.Hint, true})
		end.State = schedule.RunDone
		wantErr(t, "another end", db.FinishLaunch(ctx, r.ID, 2, end), schedule.ErrFenced)
		_, err = db.SaveLaunchJob(ctx, r.ID, 2, j)
		wantErr(t, "save for what has ended", err, schedule.ErrFenced)
		_, _, err = db.AskCancelLaunch(ctx, id(0), t0)
		wantErr(t, "cancel what has ended", err, schedule.ErrNotFound)
		wantErr(t, "no end", db.FinishLaunch(ctx, r.ID, 2, schedule.LaunchEnd{State: schedule.RunRunning}), schedule.ErrInvalid)
		_, err = db.LaunchJob(ctx, "job-x")
		wantErr(t, "unknown job", err, schedule.ErrNotFound)

		// One that waits ends at once.
		queued := queueLaunch(t, db, 1, schedule.LaunchTest)
		run, ended, err = db.AskCancelLaunch(ctx, id(1), t0.Add(time.Minute))
		must(t, err)
		equal(t, "asked", []any{run, ended}, []any{queued.ID, true})
		queued.State, queued.Cancel, queued.Ended = schedule.RunCancelled, true, t0.Add(time.Minute)
		equal(t, "cancelled", got[schedule.LaunchRun](t)(db.LaunchRun(ctx, queued.ID)), queued)
		_, err = db.ClaimLaunch(ctx, "b", vc, nil, t0)
		wantErr(t, "claim what was cancelled", err, schedule.ErrNotFound)
	})
}

// The end of a launch run moves its VM, unless it is elsewhere by then, and not
// if it was fenced.
func TestFinishLaunchMoves(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 1)
		from := []schedule.Lifecycle{schedule.Testing, schedule.CuttingOver}
		for _, c := range []struct {
			is    schedule.Lifecycle
			from  []schedule.Lifecycle
			to    schedule.Lifecycle
			epoch int64
			want  schedule.Lifecycle
		}{
			{schedule.Testing, from, schedule.ReadyForTest, 1, schedule.ReadyForTest},
			{schedule.CuttingOver, from, schedule.CutOver, 1, schedule.CutOver},
			{schedule.ReadyForCutover, from, schedule.ReadyForTest, 1, schedule.ReadyForCutover},
			{schedule.Testing, from, "", 1, schedule.Testing},
			{schedule.Testing, nil, schedule.ReadyForTest, 1, schedule.Testing},
			{schedule.NotReady, []schedule.Lifecycle{schedule.NotReady}, schedule.ReadyForTest, 1, schedule.ReadyForTest},
			{schedule.Testing, from, schedule.ReadyForTest, 7, schedule.Testing},
		} {
			must(t, db.SetLifecycle(ctx, id(0), schedule.Lifecycles(), c.is))
			queueLaunch(t, db, 0, schedule.LaunchTest)
			r := claimLaunch(t, db, "a")
			err := db.FinishLaunch(ctx, r.ID, c.epoch, schedule.LaunchEnd{State: schedule.RunDone, At: t0, From: c.from, To: c.to})
			if (err == nil) != (c.epoch == r.Epoch) {
				t.Errorf("end in epoch %d: %v", c.epoch, err)
			}
			equal(t, fmt.Sprintf("%s after an end from %v to %q", c.is, c.from, c.to), got[schedule.VM](t)(db.VM(ctx, id(0))).Lifecycle, c.want)
		}
	})
}

func TestLaunchJobs(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 2)
		var all []schedule.LaunchJob // newest first
		for i := range 6 {
			j := launchJob(i%2, fmt.Sprintf("job-%d", i), t0.Add(time.Duration(i)*time.Minute))
			j.Over = i < 2
			all = append([]schedule.LaunchJob{j}, all...)
		}
		for i := range 2 {
			queueLaunch(t, db, i, schedule.LaunchTest)
			r := claimLaunch(t, db, "a", int64(i)) // the first has ID 1
			for _, j := range all {
				if j.VM == id(i) {
					got[bool](t)(db.SaveLaunchJob(ctx, r.ID, r.Epoch, j))
				}
			}
		}
		zero := id(0)
		pick := func(whole bool, at ...int) (want []schedule.LaunchJob) {
			for _, i := range at {
				j := all[i]
				if !whole {
					j.Doc = nil
				}
				want = append(want, j)
			}
			return want
		}
		for what, c := range map[string]struct {
			q     schedule.LaunchJobQuery
			whole bool
			want  []schedule.LaunchJob
		}{
			"all":             {want: pick(false, 0, 1, 2, 3, 4, 5)},
			"all, whole":      {whole: true, want: pick(true, 0, 1, 2, 3, 4, 5)},
			"open":            {q: schedule.LaunchJobQuery{Open: true}, want: pick(false, 0, 1, 2, 3)},
			"two":             {q: schedule.LaunchJobQuery{Limit: 2}, want: pick(false, 0, 1)},
			"the next two":    {q: schedule.LaunchJobQuery{Limit: 2, Before: "job-4"}, want: pick(false, 2, 3)},
			"behind the last": {q: schedule.LaunchJobQuery{Before: "job-0"}},
			"before nobody":   {q: schedule.LaunchJobQuery{Before: "job-9"}},
			"of one":          {q: schedule.LaunchJobQuery{VM: &zero}, want: pick(false, 1, 3, 5)},
			"open of one":     {q: schedule.LaunchJobQuery{VM: &zero, Open: true}, whole: true, want: pick(true, 1, 3)},
			"newest of one":   {q: schedule.LaunchJobQuery{VM: &zero, Open: true, Limit: 1}, whole: true, want: pick(true, 1)},
			"older of one":    {q: schedule.LaunchJobQuery{VM: &zero, Open: true, Before: "job-4"}, want: pick(false, 3)},
		} {
			equal(t, what, got[[]schedule.LaunchJob](t)(db.LaunchJobs(ctx, c.q, c.whole)), c.want)
		}
	})
}

func TestProvings(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 4)
		launch(t, db, 0, true, "job-1", t0)
		launch(t, db, 0, true, "job-2", t0.Add(time.Hour))
		launch(t, db, 0, false, "job-3", t0.Add(2*time.Hour)) // a person's test
		launch(t, db, 1, false, "", t0)
		w := launchWanted(2, schedule.LaunchTest)
		w.Wish.Prove = true
		_, _, err := db.QueueLaunch(ctx, w, t0.Add(3*time.Hour))
		must(t, err)
		all := got[[]schedule.Proving](t)(db.Provings(ctx))
		slices.SortFunc(all, func(a, b schedule.Proving) int { return a.At.Compare(b.At) })
		equal(t, "provings", all, []schedule.Proving{
			{VM: id(0), At: t0.Add(time.Hour), State: schedule.RunDone, Point: "c1"},
			{VM: id(2), At: t0.Add(3 * time.Hour), State: schedule.RunQueued},
		})
	})
}

func TestExpireLaunches(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 4)
		old, before, young := at(0), at(500), at(1000)
		// VM 0: its newest proof is older than another run; a job that nobody is
		// about any more, and one that the young run is about.
		launch(t, db, 0, true, "proof-1", old)
		proof := launch(t, db, 0, true, "proof-2", old.Add(time.Second))
		launch(t, db, 0, false, "job-1", old.Add(2*time.Second))
		newest := launch(t, db, 0, false, "job-2", young)
		// VM 1: all is old. VM 2: a job that is not over. VM 3: a run that has not ended.
		launch(t, db, 1, false, "job-3", old)
		last := launch(t, db, 1, false, "job-4", old.Add(time.Second))
		for i, name := range []string{"job-5", "job-6"} {
			queueLaunch(t, db, 2, schedule.LaunchTest)
			r := claimLaunch(t, db, "a")
			_, err := db.SaveLaunchJob(ctx, r.ID, r.Epoch, launchJob(2, name, old.Add(time.Duration(i)*time.Second)))
			must(t, err)
			must(t, db.FinishLaunch(ctx, r.ID, r.Epoch, schedule.LaunchEnd{State: schedule.RunDone, At: old}))
		}
		launch(t, db, 3, false, "", old)
		waits := queueLaunch(t, db, 3, schedule.LaunchTest)

		for range 2 { // and once more, with nothing to do
			must(t, db.Expire(ctx, before))
			ids := map[int64]bool{}
			for _, r := range got[[]schedule.LaunchRun](t)(db.LaunchRuns(ctx, schedule.LaunchQuery{})) {
				ids[r.ID] = true
			}
			var jobs []string
			for _, j := range got[[]schedule.LaunchJob](t)(db.LaunchJobs(ctx, schedule.LaunchJobQuery{}, false)) {
				jobs = append(jobs, j.ID)
			}
			slices.Sort(jobs)
			equal(t, "launch runs", len(ids), 5) // the four below and the newest of VM 2
			for _, id := range []int64{proof.ID, newest.ID, last.ID, waits.ID} {
				if !ids[id] {
					t.Errorf("launch run %d is gone", id)
				}
			}
			equal(t, "jobs", jobs, []string{"job-2", "job-4", "job-5", "job-6", "proof-2"})
		}
	})
}
