package schedule

import (
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

// standingVM has a point of 12:00, copies 10 MB/s, and its guest changes 1 MB/s.
func standingVM() VM {
	return VM{
		VM: transfer.VM{ID: vmid(7), Name: "app01", Disks: []transfer.Disk{
			{ID: transfer.DiskID{Key: 2000}, Label: "Hard disk 1", Size: 100e9, Allocated: 40e9}, {ID: transfer.DiskID{Key: 2001}, Label: "Hard disk 2", Size: 50e9},
		}},
		Policy: "p", Lifecycle: ReadyForTest, Point: LastPoint{Cycle: "c", Instant: began},
		Measure: Measure{ChangeRate: 1e6, PutRate: 10e6, CopyRate: 20e6, Freeze: 5 * time.Second, Release: 30 * time.Second, Seal: 50 * time.Second,
			Cycle: 3 * time.Minute, LastFrozen: began, LastEnded: began.Add(3 * time.Minute), Cycles: 9},
	}
}

func TestStatusState(t *testing.T) {
	p := punctual(15 * time.Minute)
	night := p
	night.Blackout = []Window{{From: "12:10", To: "20:00"}}
	weekly := Policy{Name: "p", Cron: "0 12 * * mon-fri", Jitter: jitter(0)}
	running := &Run{State: RunRunning}
	queued := &Run{State: RunQueued}
	for name, x := range map[string]struct {
		change  func(*VM)
		p       *Policy
		run     *Run
		after   time.Duration // of the newest point
		want    Replication
		trouble string
	}{
		"up to date":               {nil, &p, nil, 10 * time.Minute, ReplicationCurrent, ""},
		"a run is queued":          {nil, &p, queued, 20 * time.Minute, ReplicationCurrent, ""},
		"delta":                    {nil, &p, running, 20 * time.Minute, ReplicationDelta, ""},
		"starting":                 {nil, &p, &Run{State: RunStarting}, 20 * time.Minute, ReplicationDelta, ""},
		"not late yet":             {nil, &p, nil, 38 * time.Minute, ReplicationCurrent, ""},
		"lagging":                  {nil, &p, nil, 38*time.Minute + time.Second, ReplicationLagging, "due at 12:15 UTC and again at 12:30 UTC"},
		"lagging while it runs":    {nil, &p, running, time.Hour, ReplicationLagging, "due at"},
		"not in a blackout":        {nil, &night, nil, 8 * time.Hour, ReplicationCurrent, ""},
		"after a blackout":         {nil, &night, nil, 8*time.Hour + 30*time.Minute, ReplicationLagging, "due at 20:00 UTC and again at 20:15 UTC"},
		"not over the weekend":     {func(v *VM) { v.Point.Instant = began.AddDate(0, 0, 2) }, &weekly, nil, 4 * day, ReplicationCurrent, ""},
		"failed once":              {func(v *VM) { v.Fails, v.Problem, v.Reason = 1, "it broke", ReasonRetry }, &p, nil, time.Hour, ReplicationCurrent, "the last run failed: it broke"},
		"failed thrice":            {func(v *VM) { v.Fails, v.Problem, v.Reason = 3, "it broke", ReasonRetry }, &p, running, time.Hour, ReplicationStalled, "the last 3 runs failed: it broke"},
		"credentials":              {func(v *VM) { v.Fails, v.Reason = 1, ReasonAWSAuth }, &p, nil, time.Minute, ReplicationStalled, "AWS_CREDENTIALS"},
		"obstacle":                 {func(v *VM) { v.Fails, v.Reason = 1, ReasonObstacle }, &p, nil, time.Minute, ReplicationStalled, "VM_NOT_REPLICABLE"},
		"nobody reaches it":        {func(v *VM) { v.Fails, v.Reason = 1, ReasonNoReach }, &p, nil, time.Minute, ReplicationStalled, ""},
		"taken in hand too often":  {func(v *VM) { v.Fails, v.Reason = 1, ReasonAttempts }, &p, nil, time.Minute, ReplicationStalled, ""},
		"an old reason":            {func(v *VM) { v.Reason = ReasonObstacle }, &p, nil, time.Minute, ReplicationCurrent, ""},
		"does not converge":        {func(v *VM) { v.Measure.ChangeRate = 11e6 }, &p, running, time.Minute, ReplicationStalled, "11 MB/s"},
		"paused":                   {func(v *VM) { v.Paused, v.PausedWhy, v.Fails = true, "move", 5 }, &p, nil, time.Hour, ReplicationPaused, "move"},
		"no policy":                {nil, nil, nil, time.Hour, ReplicationNone, ""},
		"no policy, asked for":     {nil, nil, running, time.Hour, ReplicationDelta, ""},
		"waiting":                  {func(v *VM) { v.Point = LastPoint{} }, &p, queued, time.Hour, ReplicationWaiting, ""},
		"waiting with an obstacle": {func(v *VM) { v.Point = LastPoint{}; v.Obstacles = []transfer.Obstacle{{Reason: "it is a template"}} }, &p, nil, time.Hour, ReplicationWaiting, "it is a template"},
		"initial":                  {func(v *VM) { v.Point = LastPoint{} }, &p, running, time.Hour, ReplicationInitial, ""},
		"cutting over":             {func(v *VM) { v.Lifecycle = CuttingOver }, &p, nil, 9 * time.Hour, ReplicationCurrent, ""},
		"cut over":                 {func(v *VM) { v.Lifecycle = CutOver }, &p, nil, 9 * time.Hour, ReplicationEnded, ""},
		"disconnected":             {func(v *VM) { v.Lifecycle = Disconnected }, &p, nil, 9 * time.Hour, ReplicationEnded, ""},
		"gone":                     {func(v *VM) { v.Gone = true }, &p, nil, 9 * time.Hour, ReplicationEnded, "vCenter does not have it"},
		"suspect":                  {func(v *VM) { v.Point.Suspect = "audit" }, &p, nil, time.Minute, ReplicationCurrent, "in doubt: audit"},
	} {
		vm := standingVM()
		if x.change != nil {
			x.change(&vm)
		}
		now := began.Add(x.after)
		got := Status(vm, x.p, x.run, now)
		if got.Replication != x.want || !strings.Contains(got.Trouble, x.trouble) || (x.trouble == "" && x.want == ReplicationCurrent && got.Trouble != "") {
			t.Errorf("%s: %s %q, want %s %q", name, got.Replication, got.Trouble, x.want, x.trouble)
		}
		if got.Run != x.run {
			t.Errorf("%s: its run is %v", name, got.Run)
		}
	}
}

func TestStatusFigures(t *testing.T) {
	p := punctual(15 * time.Minute)
	vm := standingVM()
	now := began.Add(10 * time.Minute)
	s := Status(vm, &p, nil, now)
	if s.Lag.Std() != 10*time.Minute || s.Backlog != 600e6 || !s.ETA.IsZero() || s.Floor.Std() != Floor(vm.Measure) {
		t.Errorf("lag %v, backlog %d, ETA %v, floor %v", s.Lag, s.Backlog, s.ETA, s.Floor)
	}
	if want := (5 + 60 + 50) * time.Second; s.Forecast.Std() != want {
		t.Errorf("a final sync would take %v, want %v", s.Forecast, want)
	}
	if s := Status(vm, &p, nil, began.Add(-time.Minute)); s.Lag != 0 || s.Backlog != 0 {
		t.Errorf("with vCenter's clock ahead: lag %v, backlog %d", s.Lag, s.Backlog)
	}
	if s := Status(vm, &p, nil, began.Add(1000*day)); s.Backlog != 150e9 {
		t.Errorf("more than there is has changed: %d", s.Backlog)
	}
	vm.Point, vm.Measure = LastPoint{}, Measure{}
	if s := Status(vm, &p, nil, now); s.Lag != 0 || s.Backlog != 90e9 || s.Forecast != 0 {
		t.Errorf("before the first cycle: lag %v, backlog %d, forecast %v", s.Lag, s.Backlog, s.Forecast)
	}
}

func TestStatusOfARun(t *testing.T) {
	p := punctual(15 * time.Minute)
	vm, now := standingVM(), began.Add(16*time.Minute)
	disk := func(blocks, done, put int64, rate float64) transfer.DiskReport {
		return transfer.DiskReport{Kind: transfer.Delta, Blocks: blocks, Done: done, Put: put, Rate: rate, CopyStarted: began}
	}
	ended := disk(100, 100, 100, 1)
	ended.CopyEnded = began
	for name, x := range map[string]struct {
		disks   []transfer.DiskReport
		step    transfer.Step
		backlog int64
		eta     time.Duration // 0: none
	}{
		"not planned": {[]transfer.DiskReport{{}, disk(10, 0, 0, 0)}, transfer.StepPlan, 16 * 60e6, 0},
		"no report":   {nil, transfer.StepInspect, 16 * 60e6, 0},
		"copying":     {[]transfer.DiskReport{disk(1000, 200, 100, 100*transfer.BlockSize), disk(500, 400, 400, 2*transfer.BlockSize)}, transfer.StepCopy, (400 + 100) * transfer.BlockSize, 100 * time.Second},
		"one is done": {[]transfer.DiskReport{ended, disk(500, 400, 400, 10*transfer.BlockSize)}, transfer.StepCopy, 100 * transfer.BlockSize, 60 * time.Second},
		"sealing":     {[]transfer.DiskReport{ended}, transfer.StepSeal, 0, 50 * time.Second},
		"committing":  {[]transfer.DiskReport{ended}, transfer.StepCommit, 0, time.Nanosecond},
		// At the 20 MB/s that the VM's disks were copied at.
		"not yet copying": {[]transfer.DiskReport{disk(1000, 0, 0, 0)}, transfer.StepCopy, 1000 * transfer.BlockSize, 76 * time.Second},
	} {
		s := Status(vm, &p, &Run{State: RunRunning, Report: transfer.Report{Step: x.step, Disks: x.disks}}, now)
		if s.Backlog != x.backlog {
			t.Errorf("%s: backlog %d, want %d", name, s.Backlog, x.backlog)
		}
		if x.eta == 0 != s.ETA.IsZero() || (x.eta != 0 && s.ETA.Sub(now).Round(time.Second) != x.eta.Round(time.Second)) {
			t.Errorf("%s: ETA %v, want %v", name, s.ETA.Sub(now), x.eta)
		}
	}
	vm.Measure.CopyRate = 0
	if s := Status(vm, &p, &Run{State: RunRunning, Report: transfer.Report{Step: transfer.StepCopy, Disks: []transfer.DiskReport{disk(1000, 0, 0, 0)}}}, now); !s.ETA.IsZero() {
		t.Errorf("an ETA from nothing: %v", s.ETA)
	}
}

func BenchmarkStatus(b *testing.B) {
	p := Policy{Name: "p", Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Blackout: []Window{{From: "22:00", To: "02:00"}}}
	vm := standingVM()
	for b.Loop() {
		Status(vm, &p, nil, began.Add(time.Hour))
	}
}
