package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

// launches is a LaunchWork that does what a test says.
type launches struct {
	do      func(ctx context.Context, t engine.LaunchTask) error
	orphans atomic.Pointer[func(known func(string) bool) error]

	mu   sync.Mutex
	now  map[transfer.VMID]int
	most int
	bad  []string
}

func (l *launches) Launch(ctx context.Context, t engine.LaunchTask) error {
	l.enter(t.VM.ID, 1)
	defer l.enter(t.VM.ID, -1)
	return l.do(ctx, t)
}

func (l *launches) enter(vm transfer.VMID, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		l.now = map[transfer.VMID]int{}
	}
	if l.now[vm] += n; l.now[vm] > 1 {
		l.bad = append(l.bad, "two launches of "+vm.String()+" at once")
	}
	if l.now[vm] == 0 {
		delete(l.now, vm)
	}
	l.most = max(l.most, len(l.now))
}

func (l *launches) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.now)
}

func (l *launches) EndOrphans(_ context.Context, known func(job string) bool) error {
	if f := l.orphans.Load(); f != nil {
		return (*f)(known)
	}
	return nil
}

// startLaunches runs an engine with launches, at a site with some VMs that are
// known already. edit may be nil.
func startLaunches(t *testing.T, url string, s *site, l *launches, edit func(*engine.Config)) (*host, *store.DB) {
	t.Helper()
	db := openStore(t, url)
	limits(t, db, schedule.DefaultLimits())
	known(t, db, s)
	h := start(t, url, s, func(c *engine.Config) {
		c.Launcher, c.Launches = l, c.Store.(*store.DB)
		if edit != nil {
			edit(c)
		}
	})
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, b := range l.bad {
			t.Error(b)
		}
	})
	return h, db
}

// give and take hand something over between a test and its launches; neither
// waits for ever.
func give[T any](t *testing.T, to chan<- T, v T) {
	t.Helper()
	select {
	case to <- v:
	case <-time.After(time.Minute):
		t.Fatal("after a minute still nobody takes it")
	}
}

func take[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		t.Fatal("after a minute still nothing came")
	}
	return v
}

// known makes a site's VMs known.
func known(t *testing.T, db *store.DB, s *site) {
	t.Helper()
	var vms []transfer.VM
	for i := range s.Count {
		vms = append(vms, s.vm(i))
	}
	if _, _, err := db.SaveInventory(ctx, vcenter, vms, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, db *store.DB, i int, l schedule.Lifecycle) {
	t.Helper()
	if err := db.SetLifecycle(ctx, vmID(i), schedule.Lifecycles(), l); err != nil {
		t.Fatal(err)
	}
}

// order queues a launch run of VM i.
func order(t *testing.T, db *store.DB, i int, a schedule.LaunchAction, w schedule.LaunchWish) schedule.LaunchRun {
	t.Helper()
	r, fresh, err := db.QueueLaunch(ctx, schedule.LaunchWanted{VM: vmID(i), Action: a, Wish: w, Trigger: "user test", Wave: "w1"}, time.Now())
	if err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	return r
}

func launchOf(t testing.TB, db *store.DB, id int64) schedule.LaunchRun {
	t.Helper()
	r, err := db.LaunchRun(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ended waits for the end of a launch run.
func ended(t testing.TB, db *store.DB, id int64) (r schedule.LaunchRun) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("launch run %d has ended", id), func() bool {
		r = launchOf(t, db, id)
		return r.State.Ended()
	})
	return r
}

func jobOf(task engine.LaunchTask, purpose, state string) schedule.LaunchJob {
	return schedule.LaunchJob{ID: fmt.Sprintf("job-%s-%d", purpose, task.Run.ID), VM: task.VM.ID, VMName: task.VM.Name, Purpose: purpose, State: state,
		Made: time.Now(), Over: state == "ended" || state == "finalized", Doc: json.RawMessage(`{"x":1}`)}
}

// keepJob writes a job for a VM past the engine, by a run of its own.
func keepJob(t *testing.T, db *store.DB, i int, j schedule.LaunchJob) {
	t.Helper()
	j.VM = vmID(i)
	r := order(t, db, i, schedule.LaunchTest, schedule.LaunchWish{})
	c, err := db.ClaimLaunch(ctx, "somebody", vcenter, nil, time.Now())
	if err != nil || c.ID != r.ID {
		t.Fatal(c.ID, err)
	}
	if _, err = db.SaveLaunchJob(ctx, c.ID, c.Epoch, j); err == nil {
		err = db.FinishLaunch(ctx, c.ID, c.Epoch, schedule.LaunchEnd{State: schedule.RunDone, At: time.Now()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

var errLaunch = transfer.Fail(transfer.Permanent, "launch it", errors.New("EC2 has no room"), "Choose another type.")

// Where a VM is before, while and after each action, and what is told of it.
func TestLaunchMoves(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		s := &site{Dir: t.TempDir(), Count: len(launchCases), Hosts: 1, Appl: "a"}
		during := sync.Map{}
		l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
			var i int
			fmt.Sscanf(task.VM.ID.Moref, "vm-%d", &i)
			during.Store(i, task.VM.Lifecycle)
			c := launchCases[i]
			task.Event(ctx, schedule.EventLaunchQueued, "something happened")
			if c.purpose != "" {
				j := jobOf(task, c.purpose, c.left)
				for _, is := range task.Jobs { // one that is there is gone on with
					if is.Purpose == c.purpose {
						j.ID = is.ID
					}
				}
				j.Downtime = schedule.Duration(90 * time.Second)
				if err := task.Save(ctx, j); err != nil {
					return err
				}
			}
			return c.err
		}}
		// The database is made ready first, then an engine comes.
		db := openStore(t, url)
		limits(t, db, schedule.DefaultLimits())
		known(t, db, s)
		ids := map[int]int64{}
		for i, c := range launchCases {
			if c.had != "" {
				keepJob(t, db, i, schedule.LaunchJob{ID: fmt.Sprintf("had-%d", i), Purpose: c.purpose, State: c.had, Made: time.Now()})
			}
			put(t, db, i, c.is)
		}
		for i, c := range launchCases {
			ids[i] = order(t, db, i, c.action, schedule.LaunchWish{Prove: c.prove}).ID
		}
		startLaunches(t, url, s, l, nil)
		for i, c := range launchCases {
			r := ended(t, db, ids[i])
			want := c.state
			if want == "" {
				want = schedule.RunDone
			}
			if r.State != want || r.Epoch != 1 || r.Before != c.is || r.Appliance != "a" {
				t.Errorf("%s: the run is %+v", c.name, r)
			}
			if c.err != nil && (r.Error != "launch it: EC2 has no room" || r.Hint != "Choose another type.") {
				t.Errorf("%s: its words are %q, %q", c.name, r.Error, r.Hint)
			}
			if got, ok := during.Load(i); c.refused == ok || (ok && got != c.while) {
				t.Errorf("%s: while it is done the VM is %v", c.name, got)
			}
			if got := getVM(t, db, i).Lifecycle; got != c.then {
				t.Errorf("%s: after it the VM is %s, want %s", c.name, got, c.then)
			}
		}
		checkTold(t, db, ids)
	})
}

// launchCase is one action and what comes of it.
type launchCase struct {
	name    string
	is      schedule.Lifecycle
	action  schedule.LaunchAction
	prove   bool
	had     string // state of a launch that is there
	purpose string // of the launch that the work saves; "" saves none
	left    string // its state
	err     error
	refused bool // before the work is asked

	while, then schedule.Lifecycle
	state       schedule.RunState // "" is done
	kinds       []schedule.EventKind
	alarm       string // what is raised
}

var launchCases = []launchCase{
	{name: "test", is: schedule.ReadyForTest, action: "test", purpose: "test", left: "launched", while: schedule.Testing, then: schedule.Testing,
		kinds: []schedule.EventKind{schedule.EventTestStart, schedule.EventTestEnd}},
	{name: "another test", is: schedule.ReadyForCutover, action: "test", purpose: "test", left: "launched", while: schedule.Testing, then: schedule.Testing},
	{name: "test that failed and is left", is: schedule.ReadyForTest, action: "test", purpose: "test", left: "launching", err: errLaunch, state: schedule.RunFailed,
		while: schedule.Testing, then: schedule.Testing, kinds: []schedule.EventKind{schedule.EventTestStart, schedule.EventTestFail}},
	{name: "test that failed and is gone", is: schedule.ReadyForTest, action: "test", purpose: "test", left: "ended", err: errLaunch, state: schedule.RunFailed,
		while: schedule.Testing, then: schedule.ReadyForTest},
	{name: "test that failed where it was ready for the cutover", is: schedule.ReadyForCutover, action: "test", err: errLaunch, state: schedule.RunFailed,
		while: schedule.Testing, then: schedule.ReadyForCutover},
	{name: "test of one that is not ready", is: schedule.NotReady, action: "test", refused: true, state: schedule.RunFailed, then: schedule.NotReady},
	{name: "proof", is: schedule.ReadyForTest, action: "test", prove: true, purpose: "test", left: "ended", while: schedule.Testing, then: schedule.ReadyForTest,
		kinds: []schedule.EventKind{schedule.EventTestStart, schedule.EventTestEnd, schedule.EventBootProved}},
	{name: "proof of one that is ready for the cutover", is: schedule.ReadyForCutover, action: "test", prove: true, purpose: "test", left: "ended",
		while: schedule.Testing, then: schedule.ReadyForCutover},
	{name: "proof that failed", is: schedule.ReadyForCutover, action: "test", prove: true, purpose: "test", left: "ended", err: errLaunch, state: schedule.RunFailed,
		while: schedule.Testing, then: schedule.ReadyForCutover, alarm: "proof/"},
	{name: "test done", is: schedule.Testing, action: "test-done", had: "launched", purpose: "test", left: "ended", while: schedule.Testing, then: schedule.ReadyForTest,
		kinds: []schedule.EventKind{schedule.EventTestTerminated}},
	{name: "test done, found good", is: schedule.ReadyForCutover, action: "test-done", had: "launched", purpose: "test", left: "ended",
		while: schedule.ReadyForCutover, then: schedule.ReadyForCutover},
	{name: "test not done", is: schedule.Testing, action: "test-done", had: "launched", purpose: "test", left: "ending", err: errLaunch, state: schedule.RunFailed,
		while: schedule.Testing, then: schedule.Testing, alarm: "test-left/", kinds: []schedule.EventKind{schedule.EventTerminateFail}},
	{name: "cutover", is: schedule.ReadyForCutover, action: "cutover", purpose: "cutover", left: "launched", while: schedule.CuttingOver, then: schedule.CutOver,
		kinds: []schedule.EventKind{schedule.EventCutoverStart, schedule.EventCutoverEnd}},
	{name: "cutover that failed", is: schedule.ReadyForCutover, action: "cutover", purpose: "cutover", left: "launching", err: errLaunch, state: schedule.RunFailed,
		while: schedule.CuttingOver, then: schedule.CuttingOver, alarm: "cutover/", kinds: []schedule.EventKind{schedule.EventCutoverStart, schedule.EventCutoverFail}},
	{name: "cutover that is gone on with", is: schedule.CuttingOver, action: "cutover", had: "launching", purpose: "cutover", left: "launched",
		while: schedule.CuttingOver, then: schedule.CutOver},
	{name: "cutover that was refused", is: schedule.ReadyForCutover, action: "cutover", err: errLaunch, state: schedule.RunFailed,
		while: schedule.CuttingOver, then: schedule.ReadyForCutover},
	{name: "cutover after a revert that was refused", is: schedule.ReadyForCutover, action: "cutover", had: "reverted", purpose: "cutover", left: "reverted", err: errLaunch,
		state: schedule.RunFailed, while: schedule.CuttingOver, then: schedule.ReadyForCutover},
	{name: "cutover of one in test", is: schedule.Testing, action: "cutover", refused: true, state: schedule.RunFailed, then: schedule.Testing},
	{name: "revert", is: schedule.CutOver, action: "revert", had: "launched", purpose: "cutover", left: "reverted", while: schedule.CutOver, then: schedule.ReadyForCutover,
		kinds: []schedule.EventKind{schedule.EventRevertStart, schedule.EventRevertEnd}},
	{name: "revert of one that failed", is: schedule.CuttingOver, action: "revert", had: "launching", purpose: "cutover", left: "ended", while: schedule.CuttingOver, then: schedule.ReadyForCutover},
	{name: "revert that failed", is: schedule.CutOver, action: "revert", had: "launched", purpose: "cutover", left: "reverting", err: errLaunch, state: schedule.RunFailed,
		while: schedule.CutOver, then: schedule.CutOver, alarm: "cutover/", kinds: []schedule.EventKind{schedule.EventRevertStart, schedule.EventRevertFail}},
	{name: "discard", is: schedule.ReadyForTest, action: "revert", had: "reverted", purpose: "cutover", left: "ended", while: schedule.ReadyForTest, then: schedule.ReadyForTest},
	{name: "finalize", is: schedule.CutOver, action: "finalize", had: "launched", purpose: "cutover", left: "finalized", while: schedule.CutOver, then: schedule.Disconnected,
		kinds: []schedule.EventKind{schedule.EventFinalizeStart, schedule.EventFinalizeEnd}},
	{name: "finalize, forced", is: schedule.CuttingOver, action: "finalize", had: "launching", purpose: "cutover", left: "finalized", while: schedule.CuttingOver, then: schedule.Disconnected},
	{name: "finalize that failed", is: schedule.CutOver, action: "finalize", had: "launched", purpose: "cutover", left: "finalizing", err: errLaunch, state: schedule.RunFailed,
		while: schedule.CutOver, then: schedule.CutOver, kinds: []schedule.EventKind{schedule.EventFinalizeStart, schedule.EventFinalizeFail}},
}

// checkTold looks at the events and alarms of the cases. A run's end is told
// behind it.
func checkTold(t *testing.T, db *store.DB, ids map[int]int64) {
	t.Helper()
	wrong := []string{"nothing was looked at"}
	for began := time.Now(); len(wrong) > 0 && time.Since(began) < 15*time.Second; time.Sleep(50 * time.Millisecond) {
		wrong = wrongTold(t, db, ids)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

func wrongTold(t *testing.T, db *store.DB, ids map[int]int64) (wrong []string) {
	t.Helper()
	errorf := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	raised := 0
	kinds, told := map[transfer.VMID][]schedule.EventKind{}, map[transfer.VMID]schedule.LaunchTold{}
	for _, e := range events(t, db) {
		switch {
		case e.Kind == schedule.EventLaunchQueued:
			var d schedule.LaunchTold
			if err := json.Unmarshal(e.Data, &d); err != nil || d.LaunchRun == 0 || e.Text != "something happened" {
				errorf("an event of the work: %+v", e)
			}
		case strings.HasPrefix(string(e.Kind), "TEST_"), strings.HasPrefix(string(e.Kind), "CUTOVER_"), strings.HasPrefix(string(e.Kind), "REVERT_"),
			strings.HasPrefix(string(e.Kind), "FINALIZE_"), e.Kind == schedule.EventBootProved:
			kinds[e.VM] = append(kinds[e.VM], e.Kind)
			var d schedule.LaunchTold
			if err := json.Unmarshal(e.Data, &d); err != nil || e.Run != 0 || d.Wave != "w1" {
				errorf("%s has %s", e.Kind, e.Data)
			}
			told[e.VM] = d
			if e.Kind == schedule.EventCutoverEnd && !strings.HasSuffix(e.Text, "1m30s after the shutdown of the source") {
				errorf("the cutover's end says %q", e.Text)
			}
		}
	}
	for i, c := range launchCases {
		vm := vmID(i)
		if c.kinds != nil && !slices.Equal(kinds[vm], c.kinds) {
			errorf("%s: events %v, want %v", c.name, kinds[vm], c.kinds)
		}
		d := told[vm]
		if d.LaunchRun != ids[i] || d.Action != c.action || (d.Job == "") != (c.purpose == "") {
			errorf("%s: the last event's data is %+v", c.name, d)
		}
		if c.alarm == "" {
			continue
		}
		raised++
		if len(alarms(t, db, c.alarm+vm.String())) != 1 {
			errorf("%s: no alarm %s", c.name, c.alarm)
		}
	}
	if n := len(alarms(t, db, "")); n != raised {
		errorf("%d alarms, not %d", n, raised)
	}
	return wrong
}

// What a launch left half done is an alarm until it is gone on with or reverted.
func TestLaunchAlarmClears(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Appl: "a"}
	var fail atomic.Bool
	fail.Store(true)
	l := &launches{do: func(ctx context.Context, task engine.LaunchTask) error {
		j := jobOf(task, "cutover", "launching")
		if len(task.Jobs) > 0 {
			j = task.Jobs[0]
		}
		if !fail.Load() {
			j.State = map[schedule.LaunchAction]string{schedule.LaunchCutover: "launched", schedule.LaunchRevert: "reverted"}[task.Run.Action]
		}
		if err := task.Save(ctx, j); err != nil || !fail.Load() {
			return err
		}
		return errLaunch
	}}
	h, db := startLaunches(t, database.SQLite(t), s, l, nil)
	for i := range 2 {
		put(t, db, i, schedule.ReadyForCutover)
		order(t, db, i, schedule.LaunchCutover, schedule.LaunchWish{})
	}
	h.Kick()
	eventually(t, 10*time.Second, "two alarms", func() bool { return len(alarms(t, db, "cutover/")) == 2 })
	if a := alarms(t, db, "cutover/")[0]; !strings.Contains(a.Hint, "revert it") || !strings.Contains(a.Hint, "Choose another type.") || a.VMName == "" {
		t.Errorf("the alarm is %+v", a)
	}
	fail.Store(false)
	for i, a := range []schedule.LaunchAction{schedule.LaunchCutover, schedule.LaunchRevert} {
		order(t, db, i, a, schedule.LaunchWish{})
	}
	h.Kick()
	eventually(t, 10*time.Second, "no alarm", func() bool { return len(alarms(t, db, "cutover/")) == 0 })
	if a, b := getVM(t, db, 0).Lifecycle, getVM(t, db, 1).Lifecycle; a != schedule.CutOver || b != schedule.ReadyForCutover {
		t.Errorf("they are %s and %s", a, b)
	}
}
