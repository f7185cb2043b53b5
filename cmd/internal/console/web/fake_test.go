package web_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// theNow is when every test happens.
var theNow = time.Date(2026, 3, 10, 9, 42, 0, 0, time.UTC)

const vcenter = "5f1d8a12-7c3e-4b0e-9d55-2f6a0c1e77b1"

// fake is a fleet of VMs in all states, the same at every start.
type fake struct {
	mu       sync.Mutex
	vms      []schedule.VMStatus
	lags     map[string][]schedule.LagSample
	runs     []schedule.Run // newest first
	log      map[int64][]schedule.LogLine
	events   []schedule.Event
	deeds    []schedule.Deed
	open     []schedule.Alarm
	waveList []schedule.Wave
	fail     error
	asked    int // calls of VMs
	launchSide
}

const (
	gib = int64(1) << 30
	mib = int64(1) << 20
)

var roles = []struct {
	name, folder, policy string
	guest                string
	disks                []int64
}{
	{"app", "app", "gold-15m", "rhel9_64Guest", []int64{60, 40}},
	{"web", "web", "gold-15m", "ubuntu64Guest", []int64{40}},
	{"db-prod-", "databases", "gold-15m", "rhel8_64Guest", []int64{80, 500, 200}},
	{"files-", "files", "silver-1h", "windows2019srv_64Guest", []int64{100, 2048}},
	{"mq", "middleware", "silver-1h", "debian12_64Guest", []int64{40, 60}},
	{"dc", "infrastructure", "silver-1h", "windows2022srvNext_64Guest", []int64{80}},
	{"build-", "ci", "night", "debian12_64Guest", []int64{200}},
	{"erp-app-", "erp", "gold-15m", "sles15_64Guest", []int64{80, 120}},
	{"test-", "test", "night", "ubuntu64Guest", []int64{30}},
	{"vdi-", "desktops", "", "windows11_64Guest", []int64{80}},
}

// newFake makes n VMs.
func newFake(n int) *fake {
	f := &fake{lags: map[string][]schedule.LagSample{}, log: map[int64][]schedule.LogLine{}}
	r := rand.New(rand.NewPCG(7, 11))
	for i := range n {
		f.vms = append(f.vms, f.newVM(r, i))
	}
	f.makeRuns(r)
	f.makeHistory()
	f.makeLaunches()
	for i, w := range []string{"wave-1-web", "wave-2-erp", "wave-3-databases"} {
		f.waveList = append(f.waveList, schedule.Wave{Name: w, Note: []string{"Front ends, night of 14 March", "ERP with its middleware", ""}[i]})
	}
	for i := range f.vms {
		v := &f.vms[i]
		for j, prefix := range []string{"web", "erp-app-", "db-prod-"} {
			if strings.HasPrefix(v.Name, prefix) && i < 400 {
				v.Wave = f.waveList[j].Name
				f.waveList[j].VMs = append(f.waveList[j].VMs, v.ID)
			}
		}
	}
	return f
}

// stateOf spreads the states as a fleet in its third week has them.
func stateOf(r *rand.Rand, i int, policy string) schedule.Replication {
	if policy == "" {
		return schedule.ReplicationNone
	}
	switch p := r.IntN(1000); {
	case i == 2:
		return schedule.ReplicationDelta
	case i == 12 || p < 6:
		return schedule.ReplicationStalled
	case p < 30:
		return schedule.ReplicationLagging
	case p < 42:
		return schedule.ReplicationPaused
	case p < 52:
		return schedule.ReplicationWaiting
	case p < 60:
		return schedule.ReplicationEnded
	}
	return schedule.ReplicationCurrent
}

func (f *fake) newVM(r *rand.Rand, i int) schedule.VMStatus {
	role := roles[i%len(roles)]
	name := fmt.Sprintf("%s%02d", role.name, i/len(roles)+1)
	v := schedule.VMStatus{VM: schedule.VM{
		VM: transfer.VM{
			ID: transfer.VMID{VCenter: vcenter, Moref: fmt.Sprintf("vm-%d", 1001+i)}, Name: name, Path: "/DC0/vm/prod/" + role.folder + "/" + name,
			PoweredOn: true, Host: fmt.Sprintf("esx%02d.dc0.example.com", i%100+1), Pool: "/DC0/host/C0/Resources/prod", Tags: []string{"tier:" + cmp.Or(role.policy, "none"), "site:fra"},
			Attributes: map[string]string{"owner": role.folder + "-team"}, CBT: true,
			Guest: transfer.Guest{ID: role.guest, Firmware: "efi", SecureBoot: i%3 == 0, CPUs: 2 + 2*(i%4), MemoryMiB: int64(4096 * (1 + i%4))},
		},
		Seen: theNow.Add(-25 * time.Second), Policy: role.policy, Lifecycle: schedule.ReadyForTest, Launch: schedule.Launch{},
	}}
	for j, size := range role.disks {
		ds := fmt.Sprintf("ds-ssd-%02d", i%24+1)
		v.Disks = append(v.Disks, transfer.Disk{ID: transfer.DiskID{Key: int32(2000 + j), UUID: fmt.Sprintf("6000c29%d-%04x", j, i)}, Label: fmt.Sprintf("Hard disk %d", j+1),
			Size: size * gib, Datastore: ds, File: fmt.Sprintf("[%s] %s/%s.vmdk", ds, name, name), Backing: "flat", Allocated: size * gib * int64(30+r.IntN(50)) / 100})
	}
	f.stand(r, &v, i)
	return v
}

// stand gives a VM its state and the figures that go with it.
func (f *fake) stand(r *rand.Rand, v *schedule.VMStatus, i int) {
	v.Replication = stateOf(r, i, v.Policy)
	every := map[string]time.Duration{"gold-15m": 15 * time.Minute, "silver-1h": time.Hour, "night": 24 * time.Hour}[v.Policy]
	lag := time.Duration(float64(every) * (0.05 + 0.8*r.Float64()))
	v.Lifecycle = []schedule.Lifecycle{schedule.ReadyForTest, schedule.ReadyForTest, schedule.ReadyForTest, schedule.Testing, schedule.ReadyForCutover}[r.IntN(5)]
	v.Next, v.NextWhy = theNow.Add(every-lag), "every "+map[time.Duration]string{15 * time.Minute: "15 min", time.Hour: "hour", 24 * time.Hour: "night"}[every]+", after the newest point"
	switch v.Replication {
	case schedule.ReplicationNone:
		v.Lifecycle, lag, v.Next = schedule.NotReady, 0, time.Time{}
		v.Trouble = "no policy fits it"
	case schedule.ReplicationWaiting:
		v.Lifecycle, lag, v.Next = schedule.NotReady, 0, theNow.Add(-3*time.Minute)
	case schedule.ReplicationLagging:
		lag = every + time.Duration(float64(every)*(0.3+1.5*r.Float64()))
		v.Trouble, v.Next = "waits for its ESXi host: 4 of 4 runs", theNow.Add(-lag+every)
	case schedule.ReplicationStalled:
		lag = every*3 + time.Duration(r.IntN(400))*time.Minute
		v.Fails, v.Reason, v.Problem = 2+r.IntN(4), schedule.ReasonAttach, "Hot-add of disk 2 failed: the virtual device's backing is locked by another VM."
		if r.IntN(2) == 0 {
			v.Reason, v.Problem = schedule.ReasonDatastore, fmt.Sprintf("Datastore %s has 3 %% left.", v.Disks[0].Datastore)
		}
		v.Trouble, v.Next = v.Problem, theNow.Add(4*time.Minute)
	case schedule.ReplicationPaused:
		lag = every + time.Duration(r.IntN(1300))*time.Minute
		v.Paused, v.PausedWhy, v.Next = true, "database migration tonight (kh)", time.Time{}
	case schedule.ReplicationEnded:
		v.Lifecycle, v.Next = schedule.CutOver, time.Time{}
		lag = 0
	}
	if lag > 0 {
		v.Lag = schedule.Duration(lag)
		v.Point = schedule.LastPoint{Cycle: transfer.CycleID("c" + v.ID.Moref), Instant: theNow.Add(-lag)}
		v.Measure = schedule.Measure{ChangeRate: 20e3 + r.Float64()*400e3, Cycles: 40 + r.IntN(600), LastFrozen: theNow.Add(-lag)}
		v.Backlog = int64(v.Measure.ChangeRate * lag.Seconds())
		v.Forecast, v.Floor = schedule.Duration(time.Duration(70+r.IntN(400))*time.Second), schedule.Duration(time.Duration(90+r.IntN(120))*time.Second)
		f.sample(r, v, every, lag)
	}
}

// sample is the saw of a day: it grows to the interval, and falls.
func (f *fake) sample(r *rand.Rand, v *schedule.VMStatus, every, lag time.Duration) {
	var s []schedule.LagSample
	for i := range 24 {
		base := float64(every) * (0.15 + 0.1*r.Float64())
		if i%2 == 1 {
			base = float64(every) * (0.8 + 0.35*r.Float64())
		}
		s = append(s, schedule.LagSample{At: theNow.Add(-24*time.Hour + time.Duration(i)*time.Hour), Lag: schedule.Duration(base)})
	}
	f.lags[v.ID.String()] = append(s, schedule.LagSample{At: theNow, Lag: schedule.Duration(lag)})
}

func (f *fake) makeRuns(r *rand.Rand) {
	id := int64(84211)
	var picked int
	for i := range f.vms {
		v := &f.vms[i]
		running := v.Replication == schedule.ReplicationDelta || v.Replication == schedule.ReplicationCurrent && i%17 == 0 && picked < 9 || i == 8
		waiting := v.Replication == schedule.ReplicationLagging && picked < 14
		if !running && !waiting {
			continue
		}
		picked++
		id--
		run := schedule.Run{ID: id, VM: v.ID, VMName: v.Name, State: schedule.RunQueued, Trigger: "schedule", Policy: v.Policy, Queued: theNow.Add(-time.Duration(40+picked*9) * time.Second)}
		if running {
			f.underWay(r, v, &run, i)
		}
		v.Run = &run
		v.LastRun = id
		f.runs = append(f.runs, run)
	}
	for i := range 120 {
		v := &f.vms[(i*37)%len(f.vms)]
		switch { // the VMs of the pictures have a history
		case i%12 == 4 && i < 60:
			v = &f.vms[12%len(f.vms)]
		case i%12 == 7:
			v = &f.vms[2%len(f.vms)]
		}
		if v.Policy == "" {
			continue
		}
		id--
		f.runs = append(f.runs, endedRun(r, v, id, i))
	}
	f.makeLogs()
}

// underWay is a run that copies: a seed of the ninth VM, deltas of the others.
func (f *fake) underWay(r *rand.Rand, v *schedule.VMStatus, run *schedule.Run, i int) {
	kind := transfer.Delta
	v.Replication = schedule.ReplicationDelta
	if i == 8 {
		kind, v.Replication, v.Lifecycle = transfer.Seed, schedule.ReplicationInitial, schedule.NotReady
		v.Point, v.Lag = schedule.LastPoint{}, 0
		delete(f.lags, v.ID.String())
	}
	run.State, run.Appliance, run.Epoch, run.Started = schedule.RunRunning, "sf-fra-1", 1, run.Queued.Add(14*time.Second)
	at := run.Started
	for j, s := range []transfer.Step{transfer.StepInspect, transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy} {
		run.Steps = append(run.Steps, schedule.StepTime{Step: s, Began: at})
		at = at.Add(time.Duration([]int{1, 4, 2, 0}[j]) * time.Second)
	}
	run.Report = transfer.Report{VM: v.ID, VMName: v.Name, Step: transfer.StepCopy, Started: run.Started, Frozen: run.Started.Add(5 * time.Second), Quiesced: true}
	for j, d := range v.Disks {
		blocks := d.Size / transfer.BlockSize
		if kind == transfer.Delta {
			blocks = blocks / int64(90+r.IntN(60))
		}
		done := blocks * int64(25+r.IntN(60)) / 100
		dr := transfer.DiskReport{Disk: d.ID, Label: d.Label, Size: d.Size, Kind: kind, Reason: "what changed since the last point", Blocks: blocks, Done: done, Put: done * 7 / 10, Identical: done / 10,
			BytesRead: done * transfer.BlockSize, CopyStarted: at, Rate: 40e6 + r.Float64()*60e6, Snapshot: transfer.SnapshotID(fmt.Sprintf("snap-0%08x%08x", i*7919, j*104729+77)), Attached: true}
		dr.ETA = time.Duration(float64((blocks-done)*transfer.BlockSize)/dr.Rate) * time.Second
		v.ETA, v.Backlog = theNow.Add(dr.ETA), v.Backlog/2
		run.Report.Disks = append(run.Report.Disks, dr)
	}
}

func endedRun(r *rand.Rand, v *schedule.VMStatus, id int64, i int) schedule.Run {
	ended := theNow.Add(-time.Duration(2+i*3) * time.Minute)
	took := time.Duration(60+r.IntN(200)) * time.Second
	run := schedule.Run{ID: id, VM: v.ID, VMName: v.Name, State: schedule.RunDone, Trigger: "schedule", Policy: v.Policy, Appliance: "sf-fra-1", Epoch: 1,
		Queued: ended.Add(-took - 12*time.Second), Started: ended.Add(-took), Ended: ended}
	at := run.Started
	for j, s := range []transfer.Step{transfer.StepInspect, transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy, transfer.StepDetach, transfer.StepRelease, transfer.StepSeal, transfer.StepCommit} {
		run.Steps = append(run.Steps, schedule.StepTime{Step: s, Began: at})
		at = at.Add(took * time.Duration([]int{2, 6, 3, 55, 3, 16, 10, 5}[j]) / 100)
	}
	run.Report = transfer.Report{VM: v.ID, VMName: v.Name, Step: transfer.StepDone, Outcome: transfer.OutcomePoint, Started: run.Started, Ended: ended, Frozen: run.Started.Add(5 * time.Second), FrozenFor: took * 7 / 10, Quiesced: true,
		Notes: []string{"21 blocks had been rewritten with the same bytes and were not put again"}}
	for j, d := range v.Disks {
		n := int64(200 + r.IntN(4000))
		run.Report.Disks = append(run.Report.Disks, transfer.DiskReport{Disk: d.ID, Label: d.Label, Size: d.Size, Kind: transfer.Delta, Reason: "what changed since the last point", Blocks: n, Done: n, Put: n * 8 / 10,
			CopyStarted: run.Steps[3].Began, CopyEnded: run.Steps[4].Began, Rate: 71e6, Sealed: true, Snapshot: transfer.SnapshotID(fmt.Sprintf("snap-0%08x%08x", i*15485863, j*77+i))})
	}
	switch i % 12 {
	case 4:
		run.State, run.Reason, run.Error, run.Hint = schedule.RunFailed, schedule.ReasonAttach, "attach disk Hard disk 2: the virtual device's backing is locked", "Another backup product may hold the disk; look at its hot-added disks."
		run.Report.Outcome, run.Steps = transfer.OutcomeFailed, run.Steps[:3]
		run.Report.Notes, run.Report.Disks = nil, nil
	case 9:
		run.State = schedule.RunCancelled
	}
	return run
}

func (f *fake) makeLogs() {
	for _, run := range f.runs {
		if run.Started.IsZero() {
			continue
		}
		texts := []string{"inspect: 3 disks, CBT on, no VM snapshot", "freeze: VM snapshot snapshot-4711 taken, quiesced", "plan: Hard disk 1 is a delta of 214 areas since snap-0a1b2c3d4e5f", "attach: Hard disk 1 at PVSCSI 1:4",
			"copy: Hard disk 1, 412 MiB in 214 areas", "copy: slow answer of EBS (1.8 s), 3 puts tried again", "copy: Hard disk 1 is at 50 %"}
		for i, text := range texts {
			level := "info"
			if i == 5 {
				level = "warn"
			}
			f.log[run.ID] = append(f.log[run.ID], schedule.LogLine{Run: run.ID, Seq: int64(i + 1), At: run.Started.Add(time.Duration(i*3) * time.Second), Level: level, Text: text})
		}
		if run.State == schedule.RunFailed {
			f.log[run.ID] = append(f.log[run.ID], schedule.LogLine{Run: run.ID, Seq: 8, At: run.Ended, Level: "error", Text: run.Error})
		}
	}
}

func (f *fake) makeHistory() {
	kinds := []schedule.EventKind{schedule.EventRunEnd, schedule.EventRunStart, schedule.EventRunEnd, schedule.EventRunQueued, schedule.EventInitialDone, schedule.EventRunEnd, schedule.EventRunFail, schedule.EventLifecycle, schedule.EventRunTakenOver, schedule.EventRecovered}
	text := map[schedule.EventKind]string{schedule.EventRunEnd: "a new point, 412 MiB put in 2 min", schedule.EventRunStart: "delta of 2 disks on sf-fra-1", schedule.EventRunQueued: "due since 09:41", schedule.EventInitialDone: "the first point is complete",
		schedule.EventRunFail: "ATTACH_FAILED: the backing of disk 2 is locked", schedule.EventLifecycle: "ready for test → testing", schedule.EventRunTakenOver: "sf-fra-2 went on with it after sf-fra-1 was lost", schedule.EventRecovered: "replicates again after 3 failures"}
	for i := range 240 {
		v, k := f.vms[(i*53)%len(f.vms)], kinds[i%len(kinds)]
		f.events = append(f.events, schedule.Event{ID: int64(i + 1), At: theNow.Add(-time.Duration(240-i) * 41 * time.Second), Kind: k, VM: v.ID, VMName: v.Name, Run: 84000 + int64(i), Actor: "schedule", Text: text[k]})
	}
	for i, a := range []struct{ action, subject, result string }{{"pause", "db-prod-04", "ok"}, {"POST /api/v1/actions", "12 VMs", "ok"}, {"sync", "erp-app-02", "ok"}, {"disconnect", "test-11", "conflict: a run is under way"}, {"PUT /api/v1/waves/wave-2-erp", "wave-2-erp", "ok"}, {"cancel", "files-03", "ok"}} {
		f.deeds = append(f.deeds, schedule.Deed{ID: int64(60 - i), At: theNow.Add(-time.Duration(i*i*13+4) * time.Minute), Actor: []string{"k.hansen", "m.weber"}[i%2], Role: "operator", From: "10.20.4.17", Action: a.action, Subject: a.subject, Result: a.result})
	}
	alarm := func(i int, k schedule.AlarmKind, vm int, text, hint string, since time.Duration) {
		a := schedule.Alarm{ID: int64(i), Key: fmt.Sprint(k, i), Kind: k, Text: text, Hint: hint, Since: theNow.Add(-since), Seen: theNow}
		if vm >= 0 && vm < len(f.vms) {
			a.VM, a.VMName = f.vms[vm].ID, f.vms[vm].Name
		}
		f.open = append(f.open, a)
	}
	alarm(7, schedule.AlarmStalled, 12, "5 runs in a row failed: hot-add of disk 2, backing locked", "Another backup product may hold the disk; detach it there.", 52*time.Minute)
	alarm(6, schedule.AlarmDatastore, -1, "ds-ssd-07 has 4 % left (82 GiB of 2 TiB)", "Free space; cycles on it are held back meanwhile.", 3*time.Hour)
	alarm(5, schedule.AlarmConverge, 22, "writes 41 MB/s and uploads 36 MB/s", "Raise its policy's bandwidth or plan a longer final sync.", 7*time.Hour)
	alarm(4, schedule.AlarmCertificate, -1, "the certificate of vcenter.dc0.example.com expires in 12 days", "Renew it, then confirm its thumbprint in the configuration.", 26*time.Hour)
}

func (f *fake) Overview(context.Context) (schedule.Overview, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := schedule.Overview{At: theNow, VMs: len(f.vms), ByState: map[schedule.Replication]int{}, ByLife: map[schedule.Lifecycle]int{}, Alarms: len(f.open), Throughput: 612e6, PutRate: 318e6}
	for _, v := range f.vms {
		o.ByState[v.Replication]++
		o.ByLife[v.Lifecycle]++
		if v.Replication == schedule.ReplicationCurrent && v.Run == nil && len(o.NextRuns) < 8 {
			o.NextRuns = append(o.NextRuns, schedule.NextRun{VM: v.ID, Name: v.Name, At: theNow.Add(time.Duration(20+len(o.NextRuns)*17) * time.Second), Why: "every 15 min, spread by 40 s"})
		}
		if v.Replication == schedule.ReplicationLagging || v.Replication == schedule.ReplicationStalled {
			o.WorstLag = append(o.WorstLag, v)
		}
	}
	slices.SortFunc(o.WorstLag, func(a, b schedule.VMStatus) int { return cmp.Compare(b.Lag, a.Lag) })
	o.WorstLag = o.WorstLag[:min(5, len(o.WorstLag))]
	for _, r := range f.runs {
		switch r.State {
		case schedule.RunRunning:
			o.Running++
		case schedule.RunQueued:
			o.Queued++
		}
	}
	if len(f.vms) == 0 {
		return schedule.Overview{At: theNow}, nil
	}
	noise := rand.New(rand.NewPCG(3, 5))
	read := 420e6
	for i := range 361 {
		read += (noise.Float64() - 0.5) * 60e6
		read = min(max(read, 180e6), 780e6)
		o.Samples = append(o.Samples, schedule.RateSample{At: theNow.Add(-time.Hour + time.Duration(i)*10*time.Second), Read: read, Put: read*0.45 + noise.Float64()*30e6})
	}
	o.Throughput, o.PutRate = o.Samples[360].Read, o.Samples[360].Put
	for i, id := range []transfer.ApplianceID{"sf-fra-1", "sf-fra-2", "sf-muc-1"} {
		o.Appliances = append(o.Appliances, schedule.Appliance{ID: id, Version: "1.4.0", VM: "vm-90", Host: fmt.Sprintf("esx%02d.dc0.example.com", i*31+4), VCenter: vcenter, Account: "123456789012/eu-central-1",
			Datastores: []string{"ds-ssd-01", "ds-ssd-02", "ds-sas-01"}[:3-i], Seen: theNow.Add(-time.Duration(2+i*3) * time.Second), Alive: true, Draining: i == 2})
	}
	return o, nil
}
