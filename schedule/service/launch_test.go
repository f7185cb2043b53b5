package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/schedule"
	"snapferry/schedule/service"
	"snapferry/transfer"
)

// launching makes the rig's service one with launches.
func (r *rig) launching(change ...func(*service.Config)) *rig {
	c := service.Config{Store: r.db, Launches: r.db, Now: func() time.Time { return r.now }, Kick: func() { r.kicked++ }}
	for _, f := range change {
		f(&c)
	}
	r.Service = service.New(c)
	return r
}

// move puts a VM with a complete point where it is wanted.
func (r *rig) move(name string, to schedule.Lifecycle) {
	r.t.Helper()
	if r.vm(name).Point.Cycle == "" {
		r.finish(name, r.now.Add(-time.Minute))
	}
	if err := r.db.SetLifecycle(r.t.Context(), id(name), schedule.Lifecycles(), to); err != nil {
		r.t.Fatal(err)
	}
}

// job makes a launch job of a VM, and the run that made it.
func (r *rig) job(name, purpose, state string) schedule.LaunchJob {
	r.t.Helper()
	ctx := r.t.Context()
	w := schedule.LaunchWanted{VM: id(name), VMName: name, Action: schedule.LaunchAction(purpose), Trigger: "user bob"}
	if _, _, err := r.db.QueueLaunch(ctx, w, r.now); err != nil {
		r.t.Fatal(err)
	}
	run, err := r.db.ClaimLaunch(ctx, "appliance-1", vcenter, nil, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	j := schedule.LaunchJob{
		ID: fmt.Sprintf("job-%d", run.ID), VM: id(name), VMName: name, Purpose: purpose, State: state, Made: r.now, Instance: "i-1",
		Over: state == "ended" || state == "finalized", Doc: json.RawMessage(`{"x":1}`),
	}
	if _, err := r.db.SaveLaunchJob(ctx, run.ID, run.Epoch, j); err != nil {
		r.t.Fatal(err)
	}
	if err := r.db.FinishLaunch(ctx, run.ID, run.Epoch, schedule.LaunchEnd{At: r.now, State: schedule.RunDone}); err != nil {
		r.t.Fatal(err)
	}
	return j
}

func (r *rig) launch(action schedule.LaunchAction, wish schedule.LaunchWish, names ...string) ([]schedule.Done, error) {
	return r.Launch(r.t.Context(), alice, ids(names...), "", action, wish)
}

// queued are the launch runs that wait, oldest first.
func (r *rig) queued() string {
	r.t.Helper()
	var texts []string
	for _, run := range ok(r.db.LaunchRuns(r.t.Context(), schedule.LaunchQuery{Active: true})) {
		texts = append([]string{fmt.Sprintf("%s of %s by %s", run.Action, run.VMName, run.Trigger)}, texts...)
	}
	return strings.Join(texts, ", ")
}

func TestLaunchQueuesOnce(t *testing.T) {
	r := newRig(t, machines("a")...).launching()
	r.move("a", schedule.ReadyForTest)
	last, kicks := r.last(), r.kicked
	wish := schedule.LaunchWish{For: schedule.Duration(2 * time.Hour), Settings: schedule.Launch{"subnet": "subnet-1"}}
	done := ok(r.launch(schedule.LaunchTest, wish, "a", "a"))
	if results(done) != "a: queued" || r.queued() != "test of a by user alice" || r.kicked != kicks+1 {
		t.Errorf("%s; %s; kicked %d", results(done), r.queued(), r.kicked-kicks)
	}
	run := ok(r.LaunchRun(t.Context(), done[0].Run))
	if diff := cmp.Diff(wish, run.Wish); diff != "" || run.State != schedule.RunQueued || !run.Queued.Equal(r.now) {
		t.Errorf("%+v %s", run, diff)
	}
	if diff := cmp.Diff([]string{"LAUNCH_QUEUED a"}, r.events(last)); diff != "" {
		t.Error(diff)
	}
	e := ok(r.Events(t.Context(), last, 1))[0]
	if want := fmt.Sprintf(`{"launchRun":%d,"action":"test","trigger":"user alice"}`, run.ID); string(e.Data) != want || e.Actor != "alice" || e.Run != 0 || e.VM != id("a") {
		t.Errorf("event %+v with %s, want %s", e, e.Data, want)
	}
	again := ok(r.launch(schedule.LaunchTest, wish, "a"))
	if results(again) != "a: already queued" || again[0].Run != run.ID || r.kicked != kicks+1 {
		t.Errorf("again: %s", results(again))
	}
	for _, other := range []schedule.LaunchWish{{}, {For: schedule.Duration(time.Hour), Settings: wish.Settings}} {
		if _, err := r.launch(schedule.LaunchTest, other, "a"); !errors.Is(err, schedule.ErrConflict) || transfer.HintOf(err) == "" {
			t.Errorf("another wish: %v", err)
		}
	}
	ok(r.db.ClaimLaunch(t.Context(), "appliance-1", vcenter, nil, r.now))
	if again := ok(r.launch(schedule.LaunchTest, wish, "a")); results(again) != "a: already running" {
		t.Errorf("while it runs: %s", results(again))
	}
}

// tried is a preview that notes what it was asked.
type tried struct {
	mu      sync.Mutex
	asked   []string
	now     int
	most    int
	answer  map[string]schedule.LaunchPreview
	fail    map[string]error
	entered chan struct{} // when set, each says here that it was asked
	waiting chan struct{} // and waits here
}

func (p *tried) preview(ctx context.Context, vm schedule.VM, a schedule.LaunchAction, _ schedule.LaunchWish) (schedule.LaunchPreview, error) {
	p.mu.Lock()
	p.asked = append(p.asked, string(a)+" "+vm.Name)
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	if p.entered != nil {
		p.entered <- struct{}{}
		select {
		case <-p.waiting:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now--
	answer := p.answer[vm.Name]
	answer.VM, answer.VMName, answer.Action = vm.ID, vm.Name, a
	return answer, p.fail[vm.Name]
}

func with(p *tried) func(*service.Config) { return func(c *service.Config) { c.Preview = p.preview } }

func TestSeveralAreLaunchedTogetherOrNotAtAll(t *testing.T) {
	p := &tried{}
	r := newRig(t, machines("a", "b", "c", "d")...).launching(with(p))
	ctx := t.Context()
	r.move("a", schedule.ReadyForCutover)
	r.move("b", schedule.ReadyForTest)
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "w", VMs: ids("a", "b", "c")}); err != nil {
		t.Fatal(err)
	}
	last := r.last()
	refused := func(name string, err error, want ...string) {
		t.Helper()
		if !errors.Is(err, schedule.ErrConflict) {
			t.Errorf("%s: %v", name, err)
			return
		}
		for _, w := range append(want, "would be refused") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in %v", name, w, err)
			}
		}
		if q := r.queued(); q != "" || len(r.events(last)) > 0 {
			t.Errorf("%s: queued all the same: %s, events %v", name, q, r.events(last))
		}
	}
	_, err := r.Launch(ctx, alice, nil, "w", schedule.LaunchCutover, schedule.LaunchWish{})
	refused("states", err, "2 of 3 VMs", "b: ", "snapferry mark b --as ready-for-cutover", "c: ", "snapferry sync c")
	if strings.Contains(err.Error(), "a: ") || len(p.asked) > 0 {
		t.Errorf("%v; asked %v", err, p.asked)
	}
	_, err = r.launch(schedule.LaunchCutover, schedule.LaunchWish{}, "a", "nobody")
	refused("nobody", err, "1 of 2", "vm-nobody")

	r.move("b", schedule.ReadyForCutover)
	r.move("c", schedule.ReadyForCutover)
	p.answer = map[string]schedule.LaunchPreview{"a": {Problem: "no subnet", Hint: "Set one."}, "b": {Denied: []string{"ec2:RunInstances"}}}
	p.fail = map[string]error{"c": transfer.Fail(transfer.Permanent, "ask EC2", errors.New("no credentials"), "Log in.")}
	_, err = r.Launch(ctx, alice, nil, "w", schedule.LaunchCutover, schedule.LaunchWish{})
	refused("previews", err, "3 of 3", "a: no subnet. Set one.", "b: permissions are missing: ec2:RunInstances", "c: ", "no credentials", "Log in.")
	if len(p.asked) != 3 {
		t.Errorf("asked %v", p.asked)
	}

	p.answer, p.fail, p.asked = nil, nil, nil
	done := ok(r.Launch(ctx, alice, ids("c", "a"), "w", schedule.LaunchCutover, schedule.LaunchWish{ForceOff: true}))
	if results(done) != "c: queued\na: queued" || r.queued() != "cutover of c by wave w, cutover of a by wave w" || len(p.asked) != 2 {
		t.Errorf("%s; %s; asked %v", results(done), r.queued(), p.asked)
	}
	if run := ok(r.LaunchRun(ctx, done[0].Run)); run.Wave != "w" || !run.Wish.ForceOff {
		t.Errorf("%+v", run)
	}
	if runs := ok(r.LaunchRuns(ctx, schedule.LaunchQuery{Wave: "w"})); len(runs) != 2 {
		t.Errorf("%d runs of the wave", len(runs))
	}
	for name, q := range map[string]struct {
		vms  []transfer.VMID
		wave string
		is   error
	}{
		"not of the wave": {ids("d"), "w", schedule.ErrInvalid}, "no wave": {nil, "none", schedule.ErrNotFound}, "nobody": {nil, "", schedule.ErrInvalid},
		"one that is not there": {ids("nobody"), "", schedule.ErrNotFound},
	} {
		if _, err := r.Launch(ctx, alice, q.vms, q.wave, schedule.LaunchCutover, schedule.LaunchWish{}); !errors.Is(err, q.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "empty"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Launch(ctx, alice, nil, "empty", schedule.LaunchTest, schedule.LaunchWish{}); !errors.Is(err, schedule.ErrConflict) {
		t.Errorf("an empty wave: %v", err)
	}
}

// What one VM is asked for is not tried out before: the launch does so itself.
// Nor does the way back of many depend on it.
func TestWhatIsNotTriedOut(t *testing.T) {
	p := &tried{fail: map[string]error{"a": errors.New("AWS does not answer"), "b": errors.New("AWS does not answer")}}
	r := newRig(t, machines("a", "b")...).launching(with(p))
	r.move("a", schedule.CutOver)
	r.move("b", schedule.CuttingOver)
	if done := ok(r.launch(schedule.LaunchRevert, schedule.LaunchWish{}, "a", "b")); len(done) != 2 || len(p.asked) != 0 {
		t.Errorf("%s; asked %v", results(done), p.asked)
	}
	ok(r.CancelLaunch(t.Context(), alice, ids("a", "b")))
	if done := ok(r.launch(schedule.LaunchFinalize, schedule.LaunchWish{}, "a")); len(done) != 1 || len(p.asked) != 0 {
		t.Errorf("%s; asked %v", results(done), p.asked)
	}
}

func TestPreviewsRunSideBySideWithinBounds(t *testing.T) {
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("vm%02d", i))
	}
	p := &tried{entered: make(chan struct{}, 2*len(names)), waiting: make(chan struct{})}
	r := newRig(t, machines(names...)...).launching(with(p))
	for _, n := range names {
		r.move(n, schedule.ReadyForTest)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.launch(schedule.LaunchTest, schedule.LaunchWish{}, names...)
		done <- err
	}()
	for range 4 { // so many are asked before any has answered
		<-p.entered
	}
	for range names {
		p.waiting <- struct{}{}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if p.most != 4 || len(p.asked) != len(names) {
		t.Errorf("%d at once, asked %d times", p.most, len(p.asked))
	}
	// Who hangs up meanwhile has begun nothing.
	for _, n := range names {
		ok(r.CancelLaunch(t.Context(), alice, ids(n)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { p.waiting <- struct{}{}; cancel() }() // the others give up with it
	if _, err := r.Launch(ctx, alice, ids(names...), "", schedule.LaunchTest, schedule.LaunchWish{}); !errors.Is(err, context.Canceled) || r.queued() != "" {
		t.Errorf("%v; queued %s", err, r.queued())
	}
}

// odd is a launch store in which something happens as a VM is queued.
type odd struct {
	service.LaunchStore
	at     string
	happen func() error
}

func (o *odd) QueueLaunch(ctx context.Context, w schedule.LaunchWanted, at time.Time) (schedule.LaunchRun, bool, error) {
	if w.VMName == o.at {
		if err := o.happen(); err != nil {
			return schedule.LaunchRun{}, false, err
		}
	}
	return o.LaunchStore.QueueLaunch(ctx, w, at)
}

func TestWhatWasQueuedIsTakenBack(t *testing.T) {
	for name, happen := range map[string]func(r *rig) error{
		"the database fails": func(*rig) error { return errors.New("disk full") },
		"somebody else was faster": func(r *rig) error {
			_, _, err := r.db.QueueLaunch(r.t.Context(), schedule.LaunchWanted{VM: id("c"), VMName: "c", Action: schedule.LaunchCutover, Trigger: "user bob"}, r.now)
			return err
		},
	} {
		r := newRig(t, machines("a", "b", "c")...)
		o := &odd{LaunchStore: r.db, at: "c", happen: func() error { return happen(r) }}
		r.launching(func(c *service.Config) { c.Launches = o })
		for _, n := range []string{"a", "b", "c"} {
			r.move(n, schedule.ReadyForTest)
		}
		last, kicks := r.last(), r.kicked
		done, err := r.launch(schedule.LaunchTest, schedule.LaunchWish{}, "a", "b", "c")
		if err == nil || len(done) > 0 || strings.Contains(r.queued(), "test") || r.kicked != kicks {
			t.Errorf("%s: %s, %v; queued %s", name, results(done), err, r.queued())
		}
		if diff := cmp.Diff([]string{"LAUNCH_CANCELLED a", "LAUNCH_CANCELLED b"}, r.events(last)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestWhoHangsUpLeavesNoHalf: once it is decided, all are queued.
func TestWhoHangsUpLeavesNoHalf(t *testing.T) {
	r := newRig(t, machines("a", "b", "c")...)
	ctx, cancel := context.WithCancel(t.Context())
	o := &odd{LaunchStore: r.db, at: "b", happen: func() error { cancel(); return nil }}
	r.launching(func(c *service.Config) { c.Launches = o })
	for _, n := range []string{"a", "b", "c"} {
		r.move(n, schedule.ReadyForTest)
	}
	done := ok(r.Launch(ctx, alice, ids("a", "b", "c"), "", schedule.LaunchTest, schedule.LaunchWish{}))
	if len(done) != 3 || strings.Count(r.queued(), "test") != 3 {
		t.Errorf("%s; %s", results(done), r.queued())
	}
}

func TestWishesThatMakeNoSense(t *testing.T) {
	r := newRig(t, machines("a", "b")...).launching()
	r.move("a", schedule.ReadyForTest)
	r.move("b", schedule.ReadyForTest)
	const test, done, cutover, revert, finalize = schedule.LaunchTest, schedule.LaunchTestDone, schedule.LaunchCutover, schedule.LaunchRevert, schedule.LaunchFinalize
	for _, c := range []struct {
		action schedule.LaunchAction
		wish   schedule.LaunchWish
		want   string
	}{
		{"dance", schedule.LaunchWish{}, "dance"}, {"", schedule.LaunchWish{}, "test, test-done, cutover, revert, finalize"},
		{done, schedule.LaunchWish{Settings: schedule.Launch{"k": "v"}}, "settings"}, {revert, schedule.LaunchWish{Settings: schedule.Launch{"k": "v"}}, "settings"},
		{cutover, schedule.LaunchWish{Force: true}, "force does not concern a cutover: it goes with test and finalize"}, {done, schedule.LaunchWish{Force: true}, "force"},
		{cutover, schedule.LaunchWish{Point: "c"}, "point"}, {cutover, schedule.LaunchWish{For: 1}, "for"}, {finalize, schedule.LaunchWish{Prove: true}, "prove"},
		{test, schedule.LaunchWish{ForceOff: true}, "forceOff"}, {test, schedule.LaunchWish{SkipPreSync: true}, "skipPreSync"}, {cutover, schedule.LaunchWish{Discard: true}, "discard"},
		{test, schedule.LaunchWish{Points: "all"}, "points"}, {revert, schedule.LaunchWish{StopTracking: true}, "stopTracking"},
		{finalize, schedule.LaunchWish{Points: "some"}, "newest, none or all"},
		{test, schedule.LaunchWish{For: -1}, "for is"}, {test, schedule.LaunchWish{For: schedule.Duration(91 * 24 * time.Hour)}, "90 days"},
		{test, schedule.LaunchWish{Settings: schedule.Launch{"subnet": " "}}, "subnet is empty"}, {test, schedule.LaunchWish{Settings: schedule.Launch{"a b": "x"}}, `"a b"`},
		{test, schedule.LaunchWish{Point: "c-a"}, "there are 2"},
	} {
		_, err := r.launch(c.action, c.wish, "a", "b")
		if !errors.Is(err, schedule.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, want %q", c.action, c.wish, err, c.want)
		}
		if _, err := r.PreviewLaunch(t.Context(), id("a"), c.action, c.wish); c.wish.Point == "" && !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("preview of %s %+v: %v", c.action, c.wish, err)
		}
	}
	if r.queued() != "" {
		t.Errorf("queued: %s", r.queued())
	}
}

// knows refuses settings other than subnets.
func knows(l schedule.Launch) error {
	var wrong []error
	for k := range l {
		if k != "subnet" && k != "test.subnet" {
			wrong = append(wrong, fmt.Errorf("%s: there is no such key; the nearest is subnet", k))
		}
	}
	return errors.Join(wrong...)
}

func TestSettingsAreCheckedWherever(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	r.move("a", schedule.ReadyForTest)
	ctx := t.Context()
	if err := r.SetLaunch(ctx, alice, id("b"), schedule.Launch{"old": "x"}); err != nil { // as it was before
		t.Fatal(err)
	}
	r.launching(func(c *service.Config) { c.CheckLaunch = knows })
	says := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, schedule.ErrInvalid) || !strings.Contains(err.Error(), "nearest is subnet") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	says("set", r.SetLaunch(ctx, alice, id("a"), schedule.Launch{"subnt": "x", "sbnet": "y"}))
	_, err := r.ImportCSV(ctx, alice, strings.NewReader("vm,launch.subnt\na,subnet-1\n"))
	says("table", err)
	if !strings.Contains(err.Error(), "line 2") {
		t.Errorf("table: %v", err)
	}
	_, err = r.launch(schedule.LaunchTest, schedule.LaunchWish{Settings: schedule.Launch{"subnt": "x"}}, "a")
	says("wish", err)
	if err := r.SetLaunch(ctx, alice, id("a"), schedule.Launch{"subnet": "x", "subnt": ""}); err != nil { // which takes it away
		t.Errorf("set: %v", err)
	}
	if done := ok(r.ImportCSV(ctx, alice, strings.NewReader("vm,launch.old,paused\nb,x,true\n"))); results(done) != "b: paused" {
		t.Errorf("what is there already: %s", results(done))
	}
	if _, err := r.launch(schedule.LaunchTest, schedule.LaunchWish{Settings: schedule.Launch{"test.subnet": "x"}}, "a"); err != nil {
		t.Error(err)
	}
}

func TestLaunchesAreCancelled(t *testing.T) {
	r := newRig(t, machines("a", "b", "c")...).launching()
	ctx := t.Context()
	for _, n := range []string{"a", "b"} {
		r.move(n, schedule.ReadyForTest)
		ok(r.launch(schedule.LaunchTest, schedule.LaunchWish{}, n))
	}
	running := ok(r.db.ClaimLaunch(ctx, "appliance-1", vcenter, nil, r.now)) // of a, the oldest
	last := r.last()
	done := ok(r.CancelLaunch(ctx, alice, ids("a", "b", "c")))
	if want := "a: cancelling\nb: cancelled\nc! c has no launch to cancel"; results(done) != want || done[0].Run != running.ID {
		t.Errorf("%s, want %s", results(done), want)
	}
	if diff := cmp.Diff([]string{"LAUNCH_CANCELLED b"}, r.events(last)); diff != "" {
		t.Error(diff)
	}
	if run := ok(r.LaunchRun(ctx, running.ID)); !run.Cancel || run.State.Ended() {
		t.Errorf("%+v", run)
	}
}

func TestOpenLaunchesKeepAVMConnected(t *testing.T) {
	for _, c := range []struct{ purpose, state, hint string }{
		{"test", "launched", "snapferry test a --done"}, {"test", "ended", ""}, {"cutover", "launched", "snapferry finalize a"}, {"cutover", "reverted", "snapferry revert a --discard"}, {"cutover", "finalized", ""},
	} {
		r := newRig(t, machines("a")...).launching()
		r.move("a", schedule.ReadyForCutover)
		r.job("a", c.purpose, c.state)
		done := ok(r.Mark(t.Context(), alice, ids("a"), "disconnect"))
		if life := r.vm("a").Lifecycle; (c.hint == "") != (life == schedule.Disconnected) || !strings.Contains(done[0].Error, c.hint) {
			t.Errorf("%s that is %s: %s, %s", c.purpose, c.state, results(done), life)
		}
	}
	r := newRig(t, machines("a")...).launching()
	r.move("a", schedule.ReadyForTest)
	ok(r.launch(schedule.LaunchTest, schedule.LaunchWish{}, "a"))
	if done := ok(r.Mark(t.Context(), alice, ids("a"), "disconnect")); !strings.Contains(done[0].Error, "test of a is queued") {
		t.Errorf("with a run: %s", results(done))
	}
}

func TestWavesLaunch(t *testing.T) {
	r := newRig(t, machines("a", "b")...).launching()
	ctx := t.Context()
	for _, n := range []string{"a", "b"} {
		r.move(n, schedule.ReadyForTest)
	}
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "w", VMs: ids("a", "b")}); err != nil {
		t.Fatal(err)
	}
	if done := ok(r.ActOnWave(ctx, alice, "w", "test")); results(done) != "a: queued\nb: queued" || r.queued() != "test of a by wave w, test of b by wave w" {
		t.Errorf("%s; %s", results(done), r.queued())
	}
	if done := ok(r.ActOnWave(ctx, alice, "w", "cancel-launch")); results(done) != "a: cancelled\nb: cancelled" {
		t.Errorf("%s", results(done))
	}
	for _, action := range []string{"test-done", "cutover", "revert", "finalize"} {
		if _, err := r.ActOnWave(ctx, alice, "w", action); !errors.Is(err, schedule.ErrConflict) || !strings.Contains(err.Error(), "2 of 2") {
			t.Errorf("%s: %v", action, err)
		}
	}
}
