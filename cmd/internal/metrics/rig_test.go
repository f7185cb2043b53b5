package metrics

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// source answers as strictly as the service does.
type source struct {
	mu       sync.Mutex
	overview schedule.Overview
	vms      []schedule.VMStatus
	alarms   []schedule.Alarm
	runs     []schedule.Run // newest first
	err      error
	block    bool
	asked    int
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *source) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *source) Overview(ctx context.Context) (schedule.Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.block {
		<-ctx.Done()
		return s.overview, ctx.Err()
	}
	return s.overview, s.err
}

func (s *source) VMs(_ context.Context, q schedule.VMQuery) (schedule.VMPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Limit < 1 || q.Limit > 1000 || q.Offset < 0 {
		return schedule.VMPage{}, errors.New("limit must be 1 to 1000")
	}
	from := min(q.Offset, len(s.vms))
	return schedule.VMPage{VMs: s.vms[from:min(from+q.Limit, len(s.vms))], Total: len(s.vms)}, s.err
}

func (s *source) Alarms(_ context.Context, cleared bool, limit int) ([]schedule.Alarm, error) {
	if cleared {
		return nil, errors.New("only open ones")
	}
	return s.alarms[:min(limit, len(s.alarms))], s.err
}

func (s *source) Runs(_ context.Context, q schedule.RunQuery) (out []schedule.Run, err error) {
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

func vm(n int, name string, state schedule.Replication, lag time.Duration) schedule.VMStatus {
	v := schedule.VMStatus{Replication: state, Lag: schedule.Duration(lag), Backlog: int64(n) << 20}
	v.ID, v.Name, v.Lifecycle = transfer.VMID{VCenter: "vc1", Moref: fmt.Sprintf("vm-%d", n)}, name, schedule.ReadyForTest
	v.Disks = []transfer.Disk{{Size: 1 << 30}}
	if lag > 0 {
		v.Point.Cycle = "c"
	}
	return v
}

// fleetSource has something of everything.
func fleetSource() *source {
	stalled := vm(3, "db", schedule.ReplicationStalled, 5*time.Hour)
	stalled.Fails, stalled.Reason = 4, schedule.ReasonDatastore
	odd := vm(4, "db", schedule.ReplicationInitial, 0) // another folder's
	odd.Lifecycle, odd.Fails, odd.Reason = "", 1, "SOMETHING_NEW"
	ended := vm(5, "old", schedule.ReplicationEnded, 900*time.Hour)
	ended.Lifecycle = schedule.CutOver
	away := vm(6, "far", schedule.ReplicationPaused, 2*time.Hour)
	away.ID.VCenter = "vc2"
	running := schedule.Run{ID: 9, VM: transfer.VMID{VCenter: "vc1", Moref: "vm-4"}, State: schedule.RunRunning, Appliance: "a1", Queued: t0.Add(-time.Hour)}
	running.Report = transfer.Report{Snapshot: "snapshot-3", Frozen: t0.Add(-20 * time.Minute), Disks: []transfer.DiskReport{
		{Attached: true, Snapshot: "snap-1"}, {Snapshot: "snap-2", Sealed: true}, {Attached: true}}}
	queued := schedule.Run{ID: 8, VM: transfer.VMID{VCenter: "vc1", Moref: "vm-3"}, State: schedule.RunQueued, Queued: t0.Add(-10 * time.Minute)}
	return &source{
		overview: schedule.Overview{Throughput: 1e8, PutRate: 2e7, Appliances: []schedule.Appliance{
			{ID: "a1", Version: "1.2.3", VCenter: "vc1", Account: "123456789012/eu-central-1", Seen: t0, Alive: true},
			{ID: "a2", Version: "1.2.2", VCenter: "vc2", Account: "123456789012/eu-central-1", Seen: t0.Add(-time.Hour), Draining: true},
		}},
		vms:    []schedule.VMStatus{vm(1, "web", schedule.ReplicationCurrent, 10*time.Minute), vm(2, "web2", schedule.ReplicationLagging, 3*time.Hour), stalled, odd, ended, away},
		alarms: []schedule.Alarm{{Kind: schedule.AlarmLeftover}, {Kind: schedule.AlarmLeftover}, {Kind: "brand-new"}},
		runs:   []schedule.Run{running, queued},
	}
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// full is metrics in which every series has a value.
func full(t *testing.T) *Metrics {
	t.Helper()
	c := &clock{at: t0}
	l := someLaunches()
	m := New(Config{
		Source: fleetSource(), Version: "1.2.3", Appliance: "a1", Now: c.now, PerVM: true, Ready: func() error { return nil }, SQL: noDatabase(t),
		Launches: l, Provings: l.provings,
	})
	everything(m)
	return m
}

// everything observes something of each kind.
func everything(m *Metrics) {
	m.ObserveTick(t0)
	r := transfer.Report{VM: transfer.VMID{VCenter: "vc1", Moref: "vm-1"}, Cycle: "c1", Started: t0, Frozen: t0.Add(2 * time.Second), FrozenFor: 60 * time.Second,
		Disks: []transfer.DiskReport{{Kind: transfer.Delta, BytesRead: 1 << 20, Put: 1}}}
	m.ObserveProgress(1, r)
	r.Outcome, r.Ended = transfer.OutcomePoint, t0.Add(100*time.Second)
	r.Disks = []transfer.DiskReport{{Kind: transfer.Delta, BytesRead: 8 << 20, Put: 4, Identical: 8, Zero: 3, Resumed: 1, Audit: &transfer.AuditReport{Blocks: 256, Wrong: 2}}}
	step := func(s transfer.Step, at time.Duration) schedule.StepTime {
		return schedule.StepTime{Step: s, Began: t0.Add(at)}
	}
	m.ObserveEnd(1, schedule.End{State: schedule.RunDone, At: t0.Add(100 * time.Second), Report: r, Steps: []schedule.StepTime{
		step(transfer.StepFreeze, 0), step(transfer.StepPlan, 2*time.Second), step(transfer.StepCopy, 3*time.Second), step(transfer.StepDetach, 30*time.Second),
		step(transfer.StepRelease, 32*time.Second), step(transfer.StepSeal, 32*time.Second), step(transfer.StepCommit, 92*time.Second),
	}})
	m.ObserveEnd(2, schedule.End{State: schedule.RunFailed, At: t0, Reason: schedule.ReasonDatastore})
	m.ObserveEnd(3, schedule.End{State: schedule.RunCancelled, At: t0})
	m.ObserveCall(Call{Service: "ebs", Operation: "PutSnapshotBlock", Took: 20 * time.Millisecond})
	m.ObserveCall(Call{Service: "ebs", Operation: "PutSnapshotBlock", Took: time.Millisecond, Failed: true, Throttled: true})
	m.ObserveCall(Call{Service: "vcenter", Operation: "CreateSnapshot_Task", Took: time.Second, Failed: true, Retry: true})
	m.ObserveCall(Call{Service: "ftp", Operation: "LIST"})
	m.SetPutLimit(950)
	m.ObserveLaunchEnd(schedule.LaunchRun{Action: schedule.LaunchCutover, State: schedule.RunDone, Started: t0, Ended: t0.Add(20 * time.Minute)},
		schedule.LaunchJob{Downtime: schedule.Duration(9 * time.Minute), ToLaunch: schedule.Duration(4 * time.Minute)})
	m.ObserveLaunchEnd(schedule.LaunchRun{Action: schedule.LaunchCutover, State: schedule.RunFailed, Started: t0, Ended: t0.Add(time.Minute)}, schedule.LaunchJob{Downtime: schedule.Duration(time.Hour)})
	m.ObserveLaunchEnd(schedule.LaunchRun{Action: schedule.LaunchTest, State: schedule.RunDone, Started: t0, Ended: t0.Add(5 * time.Minute)}, schedule.LaunchJob{})
	m.ObserveDelivery("ops", "delivered")
	m.ObserveDelivery("chat", "retried")
	m.ObserveDelivery("chat", "given-up")
	m.ObserveRequest("/api/v1/vms/{id}", "GET", 200, 3*time.Millisecond)
	m.SetExpiry(Certificate, "vcenter", t0.Add(240*time.Hour))
	m.SetExpiry(Credentials, "aws", t0.Add(24*time.Hour))
}
