package service_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/schedule"
	"snapferry/schedule/service"
	"snapferry/transfer"
)

func TestPreviewOfOne(t *testing.T) {
	r := newRig(t, machines("a", "b")...).launching()
	ctx := t.Context()
	r.move("a", schedule.ReadyForTest)
	if _, err := r.PreviewLaunch(ctx, id("a"), schedule.LaunchTest, schedule.LaunchWish{}); !errors.Is(err, schedule.ErrConflict) || !strings.Contains(transfer.HintOf(err), "snapferry run") {
		t.Errorf("without a daemon: %v", err)
	}
	p := &tried{answer: map[string]schedule.LaunchPreview{"a": {Type: "m6i.large", Steps: []schedule.LaunchStep{{Name: "run"}}}}, fail: map[string]error{}}
	r.launching(with(p))
	got := ok(r.PreviewLaunch(ctx, id("a"), schedule.LaunchTest, schedule.LaunchWish{Point: "c-x"}))
	if got.Type != "m6i.large" || !strings.Contains(got.Problem, `no point "c-x"`) || got.Hint == "" {
		t.Errorf("%+v", got)
	}
	got = ok(r.PreviewLaunch(ctx, id("a"), schedule.LaunchCutover, schedule.LaunchWish{}))
	if len(got.Steps) != 1 || !strings.Contains(got.Hint, "ready-for-cutover") { // the forecast all the same
		t.Errorf("%+v", got)
	}
	if got = ok(r.PreviewLaunch(ctx, id("a"), schedule.LaunchTest, schedule.LaunchWish{})); got.Problem != "" || len(p.asked) != 3 {
		t.Errorf("%+v, asked %v", got, p.asked)
	}
	p.fail["b"] = transfer.Fail(transfer.Permanent, "ask EC2", errors.New("no answer"), "Look at the network.")
	got = ok(r.PreviewLaunch(ctx, id("b"), schedule.LaunchTest, schedule.LaunchWish{}))
	if got.VMName != "b" || got.Steps == nil || !strings.Contains(got.Problem, "no complete recovery point") {
		t.Errorf("%+v", got)
	}
	r.move("b", schedule.ReadyForTest)
	got = ok(r.PreviewLaunch(ctx, id("b"), schedule.LaunchTest, schedule.LaunchWish{}))
	if !strings.Contains(got.Problem, "no answer") || got.Hint != "Look at the network." {
		t.Errorf("%+v", got)
	}
	if _, err := r.PreviewLaunch(ctx, id("nobody"), schedule.LaunchTest, schedule.LaunchWish{}); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

func TestVMsShowTheirLaunches(t *testing.T) {
	r := newRig(t, machines("a", "b")...).launching()
	ctx := t.Context()
	for _, n := range []string{"a", "b"} {
		r.move(n, schedule.ReadyForTest)
	}
	first, over := r.job("a", "test", "launched"), r.job("a", "test", "ended")
	run := ok(r.launch(schedule.LaunchTestDone, schedule.LaunchWish{}, "a"))[0].Run
	d := r.vm("a")
	if d.LaunchRun == nil || d.LaunchRun.ID != run || len(d.LaunchJobs) != 1 || d.LaunchJobs[0].ID != first.ID || d.LaunchJobs[0].Doc != nil {
		t.Errorf("%+v, %+v", d.LaunchRun, d.LaunchJobs)
	}
	page := ok(r.VMs(ctx, schedule.VMQuery{}))
	if got := page.VMs[0].LaunchRun; got == nil || got.ID != run || page.VMs[1].LaunchRun != nil {
		t.Errorf("%+v, %+v", got, page.VMs[1].LaunchRun)
	}
	a := id("a")
	if jobs := ok(r.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &a})); len(jobs) != 2 || jobs[0].Doc != nil {
		t.Errorf("%+v", jobs)
	}
	if jobs := ok(r.LaunchJobs(ctx, schedule.LaunchJobQuery{Open: true, Limit: 5})); len(jobs) != 1 || jobs[0].ID != first.ID {
		t.Errorf("%+v", jobs)
	}
	if job := ok(r.LaunchJob(ctx, over.ID)); string(job.Doc) != `{"x":1}` || !job.Over {
		t.Errorf("%+v", job)
	}
	for _, err := range []error{
		func() error { _, err := r.LaunchJob(ctx, "none"); return err }(), func() error { _, err := r.LaunchRun(ctx, 99); return err }(),
	} {
		if !errors.Is(err, schedule.ErrNotFound) {
			t.Error(err)
		}
	}
	for _, q := range []schedule.LaunchQuery{{Limit: -1}, {Limit: 501}, {Before: -1}} {
		if _, err := r.LaunchRuns(ctx, q); !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := r.LaunchJobs(ctx, schedule.LaunchJobQuery{Limit: 1001}); !errors.Is(err, schedule.ErrInvalid) {
		t.Error(err)
	}
	for i, v := range []any{d, page, ok(r.LaunchRuns(ctx, schedule.LaunchQuery{Wave: "none"})), ok(r.LaunchJobs(ctx, schedule.LaunchJobQuery{Open: true})), r.vm("b")} {
		if text := string(ok(json.Marshal(v))); strings.Contains(text, "null") {
			t.Errorf("answer %d has a null: %s", i, text)
		}
	}
}

func TestWithoutLaunchesAllIsRefused(t *testing.T) {
	r := newRig(t, machines("a")...)
	ctx := t.Context()
	for i, err := range []error{
		second(r.launch(schedule.LaunchTest, schedule.LaunchWish{}, "a")), second(r.CancelLaunch(ctx, alice, ids("a"))), second(r.LaunchRuns(ctx, schedule.LaunchQuery{})),
		second(r.LaunchRun(ctx, 1)), second(r.LaunchJobs(ctx, schedule.LaunchJobQuery{})), second(r.LaunchJob(ctx, "x")), second(r.PreviewLaunch(ctx, id("a"), schedule.LaunchTest, schedule.LaunchWish{})),
	} {
		if !errors.Is(err, schedule.ErrConflict) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestPoliciesSayWhatProvingCosts(t *testing.T) {
	r := newRig(t, machines("web1", "web2", "db")...)
	ctx := t.Context()
	r.launching(func(c *service.Config) {
		c.ProveCost = func(every time.Duration, vms []schedule.VM) string {
			return fmt.Sprintf("%d VMs every %s", len(vms), every)
		}
	})
	week := &schedule.Prove{Every: schedule.Duration(7 * 24 * time.Hour)}
	for _, p := range []schedule.Policy{
		{Name: "proved", Every: schedule.Duration(time.Hour), Prove: week, Match: []schedule.Match{{Name: "web*"}}},
		{Name: "plain", Every: schedule.Duration(time.Hour), Match: []schedule.Match{{Name: "db"}}},
	} {
		if err := r.SavePolicy(ctx, alice, p); err != nil {
			t.Fatal(err)
		}
	}
	costs := func() map[string]string {
		got := map[string]string{}
		for _, p := range ok(r.Policies(ctx)) {
			got[p.Name] = p.ProveCost
		}
		return got
	}
	if diff := cmp.Diff(map[string]string{"proved": "2 VMs every 168h0m0s", "plain": ""}, costs()); diff != "" {
		t.Error(diff) // before the planner has given it to any
	}
	r.move("web1", schedule.CutOver)
	if got := costs()["proved"]; got != "1 VMs every 168h0m0s" {
		t.Errorf("without one that is cut over: %s", got)
	}
	hourly := schedule.Policy{Name: "keen", Every: schedule.Duration(time.Hour), Prove: &schedule.Prove{Every: schedule.Duration(time.Hour)}}
	if err := r.SavePolicy(ctx, alice, hourly); !errors.Is(err, schedule.ErrInvalid) || !strings.Contains(err.Error(), "prove.every") {
		t.Errorf("every hour: %v", err)
	}
}
