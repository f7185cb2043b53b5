package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
	"snapferry/transfer"
)

// fullPreview has something of everything.
func fullPreview(_ context.Context, vm schedule.VM, a schedule.LaunchAction, _ schedule.LaunchWish) (schedule.LaunchPreview, error) {
	return schedule.LaunchPreview{
		VM: vm.ID, VMName: vm.Name, Action: a, Point: "c1", Type: "m6i.large", TypeWhy: "it fits", Subnet: "subnet-1", Notes: []string{"one"}, Unknown: []string{"much"}, Cost: "0.10 USD",
		Steps: []schedule.LaunchStep{{Name: "run", Text: "launch it", Takes: schedule.Duration(time.Minute), Basis: "a guess"}}, ToLaunch: schedule.Duration(time.Minute), Downtime: schedule.Duration(2 * time.Minute),
	}, nil
}

func fullWish() schedule.LaunchWish {
	return schedule.LaunchWish{
		Settings: schedule.Launch{"subnet": "s"}, Force: true, Point: "c1", For: schedule.Duration(time.Hour), Prove: true, ForceOff: true, SkipPreSync: true, Discard: true,
		Points: schedule.PointsAll, StopTracking: true,
	}
}

// seedLaunches adds a test of a that is open, though a was marked good
// meanwhile, and a launch run of c that waits.
func (r *rig) seedLaunches() *rig {
	t, ctx, db, now := r.t, r.t.Context(), r.db, r.clock.now()
	t.Helper()
	run, _, err := db.QueueLaunch(ctx, schedule.LaunchWanted{VM: id("a"), VMName: "a", Action: schedule.LaunchTest, Wish: schedule.LaunchWish{Force: true}, Trigger: "wave w1", Wave: "w1"}, now)
	must(t, err)
	run, err = db.ClaimLaunch(ctx, "appliance-1", vcenter, nil, now)
	must(t, err)
	r.job = "job-20260302T120000Z-0a0b0c0d"
	_, err = db.SaveLaunchJob(ctx, run.ID, run.Epoch, schedule.LaunchJob{
		ID: r.job, VM: id("a"), VMName: "a", Purpose: "test", State: "launched", Point: "c1", Instance: "i-1", Address: "10.0.0.7", Error: "a check failed", Hint: "Look at it.",
		Made: now, Ends: now.Add(8 * time.Hour), ToLaunch: schedule.Duration(time.Minute), Downtime: schedule.Duration(time.Hour), Doc: json.RawMessage(`{"id":"job","events":[{"kind":"JOB_START"}]}`),
	})
	must(t, err)
	must(t, db.FinishLaunch(ctx, run.ID, run.Epoch, schedule.LaunchEnd{At: now, State: schedule.RunFailed, Error: "a check failed", Hint: "Look at it."}))
	must(t, db.SetLifecycle(ctx, id("a"), schedule.Lifecycles(), schedule.ReadyForCutover))
	_, _, err = db.QueueLaunch(ctx, schedule.LaunchWanted{VM: id("c"), VMName: "c", Action: schedule.LaunchTest, Wish: fullWish(), Trigger: "user bob"}, now)
	must(t, err)
	return r
}

// ready gives VMs a point and puts them where a cutover may begin.
func (r *rig) ready(names ...string) {
	r.t.Helper()
	ctx, now := r.t.Context(), r.clock.now()
	for _, n := range names {
		run, _, err := r.db.Queue(ctx, schedule.Wanted{VM: id(n), Trigger: "schedule"}, now)
		must(r.t, err)
		run, err = r.db.Claim(ctx, run.ID, "appliance-1", now)
		must(r.t, err)
		must(r.t, r.db.Finish(ctx, run.ID, run.Epoch, schedule.End{State: schedule.RunDone, At: now, Point: schedule.LastPoint{Cycle: "c9", Instant: now}, Lifecycle: schedule.ReadyForCutover}))
		must(r.t, r.db.SetLifecycle(ctx, id(n), schedule.Lifecycles(), schedule.ReadyForCutover))
	}
}

func (r *rig) inventory(names ...string) {
	r.t.Helper()
	var vms []transfer.VM
	for _, n := range names {
		vms = append(vms, machine(n))
	}
	_, _, err := r.db.SaveInventory(r.t.Context(), vcenter, vms, r.clock.now())
	must(r.t, err)
}

func TestLaunchesAreAskedForAndWrittenDown(t *testing.T) {
	r := newRig(t)
	r.inventory("x", "y", "z")
	r.ready("x", "y")
	must(t, r.db.SaveWave(t.Context(), schedule.Wave{Name: "w", VMs: []transfer.VMID{id("x"), id("z")}}))
	x := vmPath("x")
	for _, c := range []struct {
		path, body string
		status     int
		want       string // in the answer
	}{
		{x + "/launch/test", `{"for":"2h","settings":{"subnet":"subnet-1"}}`, 200, `"result":"queued"`},
		{x + "/launch/test", `{"for":"2h","settings":{"subnet":"subnet-1"}}`, 200, `"result":"already queued"`},
		{x + "/launch/cutover", "", 409, "cancel it first"},
		{x + "/launch/cancel", "", 200, `"result":"cancelled"`},
		{vmPath("z") + "/launch/test", "", 409, "snapferry sync z"},
		{"/api/v1/launches", `{"action":"cutover","vms":["x","z"]}`, 409, "1 of 2 VMs would be refused: z: "},
		{"/api/v1/waves/w/cutover", `{"forceOff":true}`, 409, "1 of 2 VMs"},
		{"/api/v1/launches", `{"action":"cutover","vms":["x","y"],"wish":{"forceOff":true}}`, 200, `"result":"queued"`},
		{"/api/v1/actions", `{"action":"cancel-launch","vms":["x","y","z"]}`, 200, "z has no launch to cancel"},
		{"/api/v1/launches", `{"action":"cutover","vms":["x"],"wave":"w"}`, 200, `"result":"queued"`},
		{"/api/v1/waves/w/cancel-launch", ``, 200, `"result":"cancelled"`},
		{x + "/launch/preview", `{"action":"cutover"}`, 200, `"type":"m6i.large"`},
	} {
		w := r.post(c.path, c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s, want %d and %s", c.path, c.body, w.Code, w.Body, c.status, c.want)
		}
	}
	r.ask(request{method: "POST", path: x + "/launch/cutover", token: viewer})
	xID := console.ID(id("x"))
	want := []string{
		"alice (operator) POST " + x + "/launch/test [" + xID + "]: ok", "alice (operator) POST " + x + "/launch/test [" + xID + "]: ok",
		"alice (operator) POST " + x + "/launch/cutover [" + xID + "]: conflict: test of x is queued", "alice (operator) POST " + x + "/launch/cancel [" + xID + "]: ok",
		"alice (operator) POST " + vmPath("z") + "/launch/test [" + console.ID(id("z")) + "]: conflict: ",
		"alice (operator) POST /api/v1/launches [x, z]: conflict: 1 of 2", "alice (operator) POST /api/v1/waves/w/cutover [wave w]: conflict: 1 of 2", "alice (operator) POST /api/v1/launches [x, y]: ok",
		"alice (operator) POST /api/v1/actions [x, y, z]: 1 of 3 failed; z: ", "alice (operator) POST /api/v1/launches [wave w]: ok", "alice (operator) POST /api/v1/waves/w/cancel-launch [wave w]: 1 of 2 failed; z: ",
		"alice (operator) POST " + x + "/launch/preview [" + xID + "]: ok", "vera (viewer) POST " + x + "/launch/cutover []: forbidden: ",
	}
	got := r.deeds()
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
	runs, err := r.service.LaunchRuns(t.Context(), schedule.LaunchQuery{})
	must(t, err)
	var texts []string
	for _, run := range runs {
		texts = append(texts, fmt.Sprintf("%s of %s by %s: %s", run.Action, run.VMName, run.Trigger, run.State))
	}
	wantRuns := []string{"cutover of x by wave w: cancelled", "cutover of y by user alice: cancelled", "cutover of x by user alice: cancelled", "test of x by user alice: cancelled"}
	if diff := cmp.Diff(wantRuns, texts); diff != "" || !runs[1].Wish.ForceOff || runs[3].Wish.For.Std() != 2*time.Hour {
		t.Errorf("%s %+v", diff, runs)
	}
}

// TestWithoutLaunches everything about them is refused, and the rest is not.
func TestWithoutLaunches(t *testing.T) {
	r := newRig(t, func(c *console.Config) { c.Launches = nil }).seed()
	n := 0
	for _, rt := range r.server.Routes() {
		if !strings.Contains(rt.Path, "/launch") || rt.Method == "PUT" {
			continue
		}
		n++
		path := strings.Replace(fill(rt.Path, console.ID(id("a"))), "/launches/"+console.ID(id("a")), "/launches/1", 1)
		q := request{method: rt.Method, path: path, token: operator}
		if rt.Method == "POST" {
			q.body = "{}"
			if strings.HasSuffix(path, "/launches") {
				q.body = `{"action":"test","vms":["a"]}`
			}
		}
		if w := r.ask(q); w.Code != 409 || !strings.Contains(w.Body.String(), "does not launch") {
			t.Errorf("%s %s: %d %s", rt.Method, path, w.Code, w.Body)
		}
	}
	if n != 12 {
		t.Errorf("%d routes", n)
	}
	if w := r.post("/api/v1/waves/w1/test", ""); w.Code != 409 {
		t.Errorf("a wave: %d %s", w.Code, w.Body)
	}
	if w := r.get(vmPath("a")); w.Code != 200 {
		t.Errorf("a VM: %d", w.Code)
	}
}

// TestDryRunsMayTakeLong: longer than what else is asked for.
func TestDryRunsMayTakeLong(t *testing.T) {
	r := newRig(t)
	r.inventory("x", "y")
	r.ready("x", "y")
	must(t, r.db.SaveWave(t.Context(), schedule.Wave{Name: "w", VMs: []transfer.VMID{id("x"), id("y")}}))
	var left []time.Duration
	r.preview = func(ctx context.Context, vm schedule.VM, a schedule.LaunchAction, w schedule.LaunchWish) (schedule.LaunchPreview, error) {
		deadline, _ := ctx.Deadline()
		r.clock.mu.Lock()
		defer r.clock.mu.Unlock()
		left = append(left, time.Until(deadline))
		return fullPreview(ctx, vm, a, w)
	}
	r.post(vmPath("x")+"/launch/preview", `{"action":"cutover"}`)
	r.post("/api/v1/launches", `{"action":"cutover","vms":["x","y"]}`)
	r.post("/api/v1/waves/w/cancel-launch", "")
	r.post("/api/v1/waves/w/cutover", "")
	if len(left) != 5 {
		t.Fatalf("asked %d times", len(left))
	}
	for i, d := range left {
		if d < 9*time.Minute {
			t.Errorf("%d: there were %v left", i, d)
		}
	}
}

// both is what the command line works with.
type both interface {
	console.Backend
	console.LaunchBackend
}

// TestTheClientLaunchesAsTheService does the same to two databases.
func TestTheClientLaunchesAsTheService(t *testing.T) {
	by := schedule.Actor{Name: "alice", Role: schedule.RoleOperator}
	near, away := newRig(t).seed().seedLaunches(), newRig(t).seed().seedLaunches()
	far := away.client(operator)
	ctx, a := t.Context(), id("a")
	one := []transfer.VMID{a}
	launch := func(vms []transfer.VMID, wave string, action schedule.LaunchAction, wish schedule.LaunchWish) func(both) string {
		return func(x both) string { return plain(x.Launch(ctx, by, vms, wave, action, wish)) }
	}
	for _, step := range []struct {
		name string
		do   func(both) string
		want string
	}{
		{"runs", func(x both) string { return plain(x.LaunchRuns(ctx, schedule.LaunchQuery{})) }, "c1"},
		{"some runs", func(x both) string {
			return plain(x.LaunchRuns(ctx, schedule.LaunchQuery{VM: &a, Wave: "w1", Before: 9, Limit: 4}))
		}, "a check failed"},
		{"active runs", func(x both) string { return plain(x.LaunchRuns(ctx, schedule.LaunchQuery{Active: true})) }, "queued"},
		{"run", func(x both) string { return plain(x.LaunchRun(ctx, 1)) }, "test"},
		{"no run", func(x both) string { return plain(x.LaunchRun(ctx, 99)) }, "error: there is no launch run 99"},
		{"jobs", func(x both) string { return plain(x.LaunchJobs(ctx, schedule.LaunchJobQuery{})) }, near.job},
		{"open jobs", func(x both) string {
			return plain(x.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &a, Open: true, Limit: 2}))
		}, near.job},
		{"job", func(x both) string { return plain(x.LaunchJob(ctx, near.job)) }, "JOB_START"},
		{"no job", func(x both) string { return plain(x.LaunchJob(ctx, "a/b")) }, "error: there is no launch"},
		{"vm", func(x both) string { return plain(x.VM(ctx, a)) }, `"launchJobs":[{`},
		{"preview", func(x both) string {
			return plain(x.PreviewLaunch(ctx, a, schedule.LaunchCutover, schedule.LaunchWish{ForceOff: true}))
		}, "m6i.large"},
		{"preview of what is refused", func(x both) string {
			return plain(x.PreviewLaunch(ctx, a, schedule.LaunchFinalize, schedule.LaunchWish{}))
		}, "problem"},
		{"preview of nobody", func(x both) string {
			return plain(x.PreviewLaunch(ctx, id("nobody"), schedule.LaunchTest, schedule.LaunchWish{}))
		}, "error: there is no VM"},
		{"preview of nonsense", func(x both) string { return plain(x.PreviewLaunch(ctx, a, "dance", schedule.LaunchWish{})) }, "error: a VM can be launched by"},
		{"end a test", launch(one, "", schedule.LaunchTestDone, schedule.LaunchWish{}), "queued"},
		{"once more", launch(one, "", schedule.LaunchTestDone, schedule.LaunchWish{}), "already queued"},
		{"something else", launch(one, "", schedule.LaunchCutover, schedule.LaunchWish{}), "error: test-done of a is queued"},
		{"cancel", func(x both) string { return plain(x.CancelLaunch(ctx, by, []transfer.VMID{a, id("b")})) }, "b has no launch"},
		{"cut over", launch(one, "w1", schedule.LaunchCutover, schedule.LaunchWish{Settings: schedule.Launch{"subnet": "s"}, SkipPreSync: true}), "queued"},
		{"of another wave", launch([]transfer.VMID{id("c")}, "w1", schedule.LaunchCutover, schedule.LaunchWish{}), "error: VM"},
		{"a wave", launch(nil, "w1", schedule.LaunchTest, schedule.LaunchWish{}), "2 of 2"},
		{"a wave by name", func(x both) string { return plain(x.ActOnWave(ctx, by, "w1", "test")) }, "2 of 2"},
		{"cancel a wave", func(x both) string { return plain(x.ActOnWave(ctx, by, "w1", "cancel-launch")) }, "cancelled"},
		{"disconnect", func(x both) string { return plain(x.Mark(ctx, by, one, "disconnect")) }, "snapferry test a --done"},
		{"nonsense", launch(one, "", schedule.LaunchRevert, fullWish()), "does not concern a revert"},
		{"prove", func(x both) string {
			err := x.SavePolicy(ctx, by, schedule.Policy{Name: "p", Every: schedule.Duration(time.Hour), Prove: &schedule.Prove{Every: schedule.Duration(24 * time.Hour)}, Match: []schedule.Match{{Name: "bare"}}})
			return plain("saved", err)
		}, "saved"},
		{"policies", func(x both) string { return plain(x.Policies(ctx)) }, `"proveCost":"`},
	} {
		n, f := step.do(near.service), step.do(far)
		if n != f || !strings.Contains(n, step.want) {
			t.Errorf("%s:\nnear %s\nfar  %s\nwant %s", step.name, n, f, step.want)
		}
	}
	state := func(r *rig) string {
		return plain(r.service.LaunchRuns(ctx, schedule.LaunchQuery{})) + plain(r.service.VMs(ctx, schedule.VMQuery{})) + plain(r.service.Events(ctx, 0, 100))
	}
	if diff := cmp.Diff(state(near), state(away)); diff != "" {
		t.Error(diff)
	}
	if _, err := far.Launch(ctx, by, make([]transfer.VMID, 5001), "", schedule.LaunchTest, schedule.LaunchWish{}); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("too many at once: %v", err)
	}
}

// TestThePolicyThatIsSavedSaysWhatProvingCosts, at once.
func TestThePolicyThatIsSavedSaysWhatProvingCosts(t *testing.T) {
	r := newRig(t).seed()
	w := r.ask(request{method: "PUT", path: "/api/v1/policies/p", token: operator, body: `{"every":"1h","prove":{"every":"168h"},"match":[{"name":"c"},{"name":"b"}]}`})
	var row schedule.PolicyRow
	if err := json.Unmarshal(w.Body.Bytes(), &row); err != nil || w.Code != 200 || !strings.Contains(row.ProveCost, "VMs every 168h0m0s") || row.Prove.Every.Std() != 168*time.Hour {
		t.Errorf("%d %s, %v", w.Code, w.Body, err)
	}
	if w := r.get("/api/v1/policies"); strings.Count(w.Body.String(), "proveCost") != 1 {
		t.Errorf("%s", w.Body)
	}
}
