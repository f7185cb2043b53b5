package metrics

import (
	"context"
	"errors"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// launchSource answers as strictly as the service does.
type launchSource struct {
	runs   []schedule.LaunchRun // newest first
	jobs   []schedule.LaunchJob
	proofs []schedule.Proving
	err    error
}

func (s *launchSource) LaunchRuns(_ context.Context, q schedule.LaunchQuery) (out []schedule.LaunchRun, err error) {
	if q.Limit < 1 || q.Limit > 500 || !q.Active {
		return nil, errors.New("limit must be 1 to 500, and only active runs are wanted")
	}
	for _, r := range s.runs {
		if (q.Before == 0 || r.ID < q.Before) && len(out) < q.Limit {
			out = append(out, r)
		}
	}
	return out, s.err
}

func (s *launchSource) LaunchJobs(_ context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) {
	if q.VM != nil || !q.Open || q.Limit < 1 || q.Limit > 1000 {
		return nil, errors.New("limit must be 1 to 1000, and the open ones of all VMs are wanted")
	}
	return s.jobs, s.err
}

func (s *launchSource) provings(context.Context) ([]schedule.Proving, error) { return s.proofs, s.err }

func someLaunches() *launchSource {
	at := func(n string) transfer.VMID { return transfer.VMID{VCenter: "vc1", Moref: n} }
	return &launchSource{
		runs: []schedule.LaunchRun{
			{ID: 3, VM: at("vm-1"), Action: schedule.LaunchCutover, State: schedule.RunRunning, Queued: t0.Add(-2 * time.Hour)},
			{ID: 2, VM: at("vm-2"), Action: schedule.LaunchTest, State: schedule.RunQueued, Queued: t0.Add(-time.Minute)},
			{ID: 1, VM: transfer.VMID{VCenter: "vc9", Moref: "vm-1"}, Action: schedule.LaunchTest, State: schedule.RunQueued, Queued: t0.Add(-3 * time.Minute)},
		},
		jobs: []schedule.LaunchJob{
			{VM: at("vm-1"), Purpose: "cutover"}, {VM: at("vm-2"), Purpose: "test", Ends: t0.Add(-time.Hour)}, {VM: at("vm-3"), Purpose: "test", Ends: t0.Add(time.Hour)},
			{VM: at("vm-4"), Purpose: "test", Over: true, Ends: t0.Add(-9 * time.Hour)},
		},
		proofs: []schedule.Proving{
			{VM: at("vm-1"), At: t0.Add(-48 * time.Hour), State: schedule.RunDone}, {VM: at("vm-2"), At: t0.Add(-24 * time.Hour), State: schedule.RunDone},
			{VM: at("vm-3"), At: t0.Add(-99 * time.Hour), State: schedule.RunFailed}, {VM: at("vm-4"), At: t0, State: schedule.RunRunning},
		},
	}
}

func TestValuesOfLaunches(t *testing.T) {
	m := full(t)
	expect(t, m, map[string]float64{
		`snapferry_launch_runs{action="cutover",state="running",vcenter="vc1"}`: 1,
		`snapferry_launch_runs{action="test",state="queued",vcenter="vc1"}`:     1,
		`snapferry_launch_runs{action="test",state="queued",vcenter="vc9"}`:     1, // whose VM the list does not have
		`snapferry_launch_runs{action="revert",state="queued",vcenter="vc2"}`:   0,
		`snapferry_launch_queue_oldest_seconds{vcenter="vc1"}`:                  60,
		`snapferry_launches_open{purpose="test",vcenter="vc1"}`:                 2,
		`snapferry_launches_open{purpose="cutover",vcenter="vc1"}`:              1,
		`snapferry_launches_open{purpose="cutover",vcenter="vc2"}`:              0,
		`snapferry_test_overdue_seconds{vcenter="vc1"}`:                         3600,
		`snapferry_test_overdue_seconds{vcenter="vc2"}`:                         0,
		`snapferry_vms_proved{result="proved",vcenter="vc1"}`:                   2,
		`snapferry_vms_proved{result="failed",vcenter="vc1"}`:                   1,
		`snapferry_vms_proved{result="open",vcenter="vc1"}`:                     1,
		`snapferry_proof_oldest_seconds{vcenter="vc1"}`:                         48 * 3600,

		`snapferry_launches_total{action="cutover",outcome="done"}`:   1,
		`snapferry_launches_total{action="cutover",outcome="failed"}`: 1,
		`snapferry_launches_total{action="revert",outcome="done"}`:    0,
		`snapferry_launch_duration_seconds{action="cutover"}`:         20 * 60,
		`snapferry_launch_duration_seconds{action="test"}`:            5 * 60,
		`snapferry_cutover_downtime_seconds`:                          9 * 60, // not that of the one that failed
		`snapferry_cutover_to_launch_seconds`:                         4 * 60,
	})
	if v, ok := value(t, parse(t, scrape(t, m)), `snapferry_proof_oldest_seconds{vcenter="vc2"}`); ok {
		t.Errorf("the oldest of no proofs is %v", v)
	}
}

func TestLaunchesThatCannotBeRead(t *testing.T) {
	l := someLaunches()
	l.err = errors.New("away")
	for _, c := range []Config{{Source: fleetSource(), Launches: l}, {Source: fleetSource(), Provings: l.provings}} {
		expect(t, New(c), map[string]float64{`snapferry_source_up`: 0})
	}
	families := parse(t, scrape(t, New(Config{Source: fleetSource()})))
	if families["snapferry_launch_runs"] != nil || families["snapferry_vms_proved"] != nil || families["snapferry_vms"] == nil {
		t.Error("launches that nobody tells of are shown")
	}
}

func TestManyLaunchesAreAllCounted(t *testing.T) {
	l := &launchSource{}
	for i := range 1200 {
		l.runs = append(l.runs, schedule.LaunchRun{ID: int64(1200 - i), VM: transfer.VMID{VCenter: "vc1"}, Action: schedule.LaunchTest, State: schedule.RunQueued, Queued: t0})
	}
	expect(t, New(Config{Source: fleetSource(), Launches: l}), map[string]float64{`snapferry_launch_runs{action="test",state="queued",vcenter="vc1"}`: 1200})
}

func TestOnlyEndsOfLaunchesCount(t *testing.T) {
	m := New(Config{Version: "1"})
	m.ObserveLaunchEnd(schedule.LaunchRun{Action: schedule.LaunchTest, State: schedule.RunRunning}, schedule.LaunchJob{})
	m.ObserveLaunchEnd(schedule.LaunchRun{Action: "dance", State: schedule.RunDone}, schedule.LaunchJob{})
	m.ObserveLaunchEnd(schedule.LaunchRun{Action: schedule.LaunchTest, State: schedule.RunCancelled}, schedule.LaunchJob{})
	families := parse(t, scrape(t, m))
	total := 0.0
	for _, s := range families["snapferry_launches_total"].GetMetric() {
		total += s.GetCounter().GetValue()
	}
	if total != 1 {
		t.Errorf("%v ends", total)
	}
}
