package web_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"slices"
	"strings"
	"time"

	"snapferry/cmd/internal/console"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

var _ console.LaunchBackend = (*fake)(nil)

// launchSide is what the fake knows of launches.
type launchSide struct {
	launches []schedule.LaunchRun // newest first
	jobs     []schedule.LaunchJob // newest first, with Doc
	// preview answers PreviewLaunch; nil makes something up.
	preview func(context.Context, schedule.LaunchAction, schedule.LaunchWish) (schedule.LaunchPreview, error)
}

// VMs of the fleet with launches that pictures and tests look at.
const (
	tested    = "vm-1003" // db-prod-01: a test runs
	cutting   = "vm-1028" // erp-app-03: a cutover under way
	failedVM  = "vm-1008" // erp-app-01: a cutover whose guest did not come up
	cutOver   = "vm-1038" // erp-app-04: cut over
	finalized = "vm-1048" // erp-app-05: finalized
	readyVM   = "vm-1058" // erp-app-06: ready for cutover
)

func jobID(moref string) string { return "job-20260310T0" + moref[3:] + "00Z-0a1b2c3d" }

// makeLaunches gives some of the fleet a launch.
func (f *fake) makeLaunches() {
	for _, l := range []struct {
		moref string
		life  schedule.Lifecycle
		make  func(*schedule.VMStatus) launch.Job
		run   schedule.LaunchRun
	}{
		{tested, schedule.Testing, testJob, schedule.LaunchRun{Action: schedule.LaunchTest, State: schedule.RunDone}},
		{finalized, schedule.Disconnected, finalizedJob, schedule.LaunchRun{Action: schedule.LaunchFinalize, State: schedule.RunDone}},
		{cutOver, schedule.CutOver, cutOverJob, schedule.LaunchRun{Action: schedule.LaunchCutover, State: schedule.RunDone}},
		{failedVM, schedule.CuttingOver, failedJob, schedule.LaunchRun{Action: schedule.LaunchCutover, State: schedule.RunFailed}},
		{cutting, schedule.CuttingOver, cuttingJob, schedule.LaunchRun{Action: schedule.LaunchCutover, State: schedule.RunRunning}},
		{readyVM, schedule.ReadyForCutover, nil, schedule.LaunchRun{}},
	} {
		v, err := f.find(transfer.VMID{VCenter: vcenter, Moref: l.moref})
		if err != nil {
			continue // a small fleet
		}
		v.Lifecycle = l.life
		if l.life == schedule.CutOver || l.life == schedule.Disconnected {
			v.Replication, v.Next, v.NextWhy = schedule.ReplicationEnded, time.Time{}, ""
		}
		if l.make == nil {
			continue
		}
		j := l.make(v)
		f.jobs = append([]schedule.LaunchJob{rowOf(j)}, f.jobs...)
		r := l.run
		r.ID, r.VM, r.VMName, r.Trigger, r.Job, r.Appliance, r.Epoch = int64(500+len(f.launches)), v.ID, v.Name, "user k.hansen", string(j.ID), "sf-fra-1", 1
		r.Queued, r.Started, r.Error, r.Hint = j.Made.Add(-3*time.Second), j.Made, j.Error, j.Hint
		if r.State.Ended() {
			r.Ended = j.Records[len(j.Records)-1].Started.Add(2 * time.Minute)
		}
		f.launches = append([]schedule.LaunchRun{r}, f.launches...)
	}
}

// rowOf is a job as the service hands it out.
func rowOf(j launch.Job) schedule.LaunchJob {
	doc, err := json.Marshal(j)
	if err != nil {
		panic(err)
	}
	row := schedule.LaunchJob{ID: string(j.ID), VM: j.Request.VM, VMName: j.Request.VMName, Purpose: string(j.Request.Purpose), State: string(j.State), Point: j.Request.Point.Cycle, Instance: j.Instance, Address: j.PrivateIP,
		Error: j.Error, Hint: j.Hint, Made: j.Made, Ends: j.Ends, Over: j.State == launch.StateEnded || j.State == launch.StateFinalized, Doc: doc}
	if j.Downtime != nil {
		row.ToLaunch, row.Downtime = schedule.Duration(j.Downtime.ToLaunch), schedule.Duration(j.Downtime.Total)
	}
	return row
}

// step is one of a job's, and how many seconds it took; 0 is one that has not
// ended.
type step struct {
	name launch.StepName
	took int
}

func newJob(v *schedule.VMStatus, p launch.Purpose, state launch.State, ago time.Duration, steps ...step) launch.Job {
	j := launch.Job{ID: launch.JobID(jobID(v.ID.Moref)), State: state, Made: theNow.Add(-ago), Type: "m6i.xlarge",
		TypeWhy: "the smallest of 41 types of eu-central-1a with 4 CPUs and 16 GiB that boot by UEFI and take 3 volumes", Image: "ami-0c51e2d94b7f8a36e"}
	j.Request = launch.Request{VM: v.ID, VMName: v.Name, Purpose: p, Point: transfer.Point{VM: v.ID, Cycle: "c-20260310T0930Z-5d1e"}}
	kinds := map[launch.StepName]string{launch.StepPowerOff: "SOURCE_SHUTDOWN", launch.StepFinalSync: "SNAPSHOT", launch.StepConvert: "CONVERSION", launch.StepRun: "LAUNCH", launch.StepChecks: "CHECKS"}
	event := func(at time.Time, kind string, s launch.StepName, text string) {
		j.Events = append(j.Events, launch.Event{At: at, Kind: launch.EventKind(kind), Step: s, Text: text})
	}
	at := j.Made
	event(at, "JOB_START", "", "as "+string(p)+" of "+v.Name)
	for _, s := range steps {
		r := launch.Record{Step: s.name, Started: at, Tries: 1}
		kind := cmp.Or(kinds[s.name], "STEP")
		event(at, kind+"_START", s.name, map[launch.StepName]string{launch.StepRun: "run one m6i.xlarge in subnet-0a77c1 (eu-central-1a)", launch.StepPowerOff: "shut the source's guest down, for at most 10m0s"}[s.name])
		if s.took > 0 {
			at = at.Add(time.Duration(s.took) * time.Second)
			r.Ended = at
			event(at, kind+"_END", s.name, "")
		}
		j.Records = append(j.Records, r)
	}
	j.Conversion = &launch.ConversionReport{Changes: []string{"nvme and ena are in the initramfs of 5.14.0-427.el9", "ens192 has its address by DHCP now; its static settings are kept as ifcfg-ens192.snapferry", "GRUB and the kernel write to ttyS0"},
		Doubts: []string{"/etc/fstab mounts nfs01:/export by a name that a test subnet may not resolve"}}
	return j
}

func testJob(v *schedule.VMStatus) launch.Job {
	j := newJob(v, launch.ForTest, launch.StateLaunched, 95*time.Minute, step{launch.StepPreflight, 3}, step{launch.StepType, 2}, step{launch.StepPrevious, 1}, step{launch.StepMark, 1}, step{launch.StepConvert, 92},
		step{launch.StepImage, 24}, step{launch.StepRun, 4}, step{launch.StepRunning, 21}, step{launch.StepTag, 2}, step{launch.StepStatus, 187}, step{launch.StepChecks, 34}, step{launch.StepProve, 1})
	j.Ends, j.Instance, j.PrivateIP = j.Made.Add(8*time.Hour), "i-0d41f2c6b8a09e573", "10.80.12.44"
	j.Checks = []launch.CheckResult{{Name: "tcp 5432", Kind: launch.CheckTCP, OK: true, Attempts: 2, Text: "10.80.12.44:5432 answers", At: theNow, Took: 16 * time.Second},
		{Name: "http http://{ip}:8080/health", Kind: launch.CheckHTTP, OK: true, Attempts: 1, Text: "status 200, holds \"ok\"", At: theNow, Took: 300 * time.Millisecond},
		{Name: "script /etc/snapferry/checks/db", Kind: launch.CheckScript, OK: true, Attempts: 1, Text: "exit status 0", Output: "14 tables, 0 corrupt\n", At: theNow, Took: 9 * time.Second}}
	j.Notes = []string{"the source uses Secure Boot; the instance does not, since no keys are given to its image"}
	return j
}

func cuttingJob(v *schedule.VMStatus) launch.Job {
	j := newJob(v, launch.ForCutover, launch.StateLaunching, 202*time.Second, step{launch.StepPreflight, 3}, step{launch.StepPrevious, 1}, step{launch.StepPreSync, 61}, step{launch.StepPowerOff, 48}, step{launch.StepFinalSync, 39}, step{launch.StepMark, 1}, step{launch.StepConvert, 0})
	j.Conversion, j.Image = nil, ""
	j.Downtime = &launch.Downtime{From: j.Records[3].Started}
	return j
}

func cutOverJob(v *schedule.VMStatus) launch.Job {
	j := newJob(v, launch.ForCutover, launch.StateLaunched, 26*time.Hour, step{launch.StepPreflight, 3}, step{launch.StepPrevious, 1}, step{launch.StepPreSync, 74}, step{launch.StepPowerOff, 48}, step{launch.StepFinalSync, 44}, step{launch.StepMark, 1},
		step{launch.StepConvert, 97}, step{launch.StepImage, 26}, step{launch.StepRun, 4}, step{launch.StepRunning, 19}, step{launch.StepTag, 2}, step{launch.StepStatus, 171}, step{launch.StepProve, 1})
	j.Instance, j.PrivateIP, j.PublicIP = "i-05b7cc90ae41d7f12", "10.80.4.31", "18.184.20.7"
	j.Downtime = &launch.Downtime{From: j.Records[3].Started, ToLaunch: 220 * time.Second, Total: 413 * time.Second}
	return j
}

func finalizedJob(v *schedule.VMStatus) launch.Job {
	j := cutOverJob(v)
	j.State, j.Instance, j.PrivateIP = launch.StateFinalized, "i-0117aa5c20de94b68", "10.80.4.35"
	at := j.Made.Add(22 * time.Hour)
	for _, s := range []launch.StepName{launch.StepEndSync, launch.StepEndTests, launch.StepClean, launch.StepPrune, launch.StepInventory} {
		j.Records = append(j.Records, launch.Record{Step: s, Started: at, Ended: at.Add(7 * time.Second), Tries: 1})
		at = at.Add(7 * time.Second)
	}
	j.Left = []launch.Resource{{Kind: launch.KindInstance, ID: j.Instance, State: "running", Type: "m6i.xlarge"}, {Kind: launch.KindVolume, ID: "vol-0b8de13c9f5520a74", State: "in-use", Type: "gp3", GiB: 80},
		{Kind: launch.KindVolume, ID: "vol-0f2ac17be0d99351e", State: "in-use", Type: "gp3", GiB: 120}, {Kind: launch.KindSnapshot, ID: "snap-0e61d8c25b7fa9340", State: "completed", GiB: 80}}
	return j
}

func failedJob(v *schedule.VMStatus) launch.Job {
	j := newJob(v, launch.ForCutover, launch.StateLaunching, 3*time.Hour, step{launch.StepPreflight, 3}, step{launch.StepPrevious, 1}, step{launch.StepPreSync, 80}, step{launch.StepPowerOff, 51}, step{launch.StepFinalSync, 40}, step{launch.StepMark, 1},
		step{launch.StepConvert, 88}, step{launch.StepImage, 22}, step{launch.StepRun, 4}, step{launch.StepRunning, 18}, step{launch.StepTag, 2}, step{launch.StepStatus, 0})
	j.Instance, j.PrivateIP = "i-0c3392be51d70f8aa", "10.80.4.29"
	j.Error, j.Hint = "wait for EC2's status checks of i-0c3392be51d70f8aa: the instance check is impaired after 15m0s", "Look at its screen and its console below; revert to power the source on again, or go on once the guest is mended."
	j.Events = append(j.Events, launch.Event{At: j.Records[11].Started.Add(15 * time.Minute), Kind: "STEP_FAIL", Step: launch.StepStatus, Text: j.Error}, launch.Event{At: j.Records[11].Started.Add(15 * time.Minute), Kind: launch.EventJobFail, Text: j.Error})
	j.Downtime = &launch.Downtime{From: j.Records[3].Started, ToLaunch: 206 * time.Second}
	j.Screen, j.Console = screen(), strings.Repeat("[    2.113440] nvme nvme0: 4/0/0 default/read/poll queues\n", 9)+
		"[   \x1b[0;32mOK\x1b[0m   ] Reached target Local File Systems (Pre).\n[  182.402411] systemd[1]: Timed out waiting for device /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0.\n[  182.409127] systemd[1]: Dependency failed for /srv/erp.\n[  182.411873] systemd[1]: Dependency failed for Local File Systems.\nYou are in emergency mode. After logging in, type \"journalctl -xb\" to view\nsystem logs, \"systemctl reboot\" to reboot, or \"exit\" to continue bootup.\n\nGive root password for maintenance\n(or press Control-D to continue): "
	j.Notes = []string{"the source is off since it was shut down; nothing powers it on but a revert"}
	return j
}

// screen is a text console as a picture of it would look from afar.
func screen() []byte {
	img := image.NewGray(image.Rect(0, 0, 720, 400))
	for line := range 19 {
		for x := 8; x < 8+(line*131)%600+60; x++ {
			if (x/9+line)%7 == 0 || x%9 > 6 {
				continue
			}
			for y := range 9 {
				if (x*7+y*13+line*5)%3 != 0 {
					img.SetGray(x, 12+line*18+y, color.Gray{Y: 190})
				}
			}
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 60}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (f *fake) Launch(_ context.Context, by schedule.Actor, vms []transfer.VMID, wave string, a schedule.LaunchAction, wish schedule.LaunchWish) ([]schedule.Done, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	trigger := "user " + by.Name
	if wave != "" {
		trigger = "wave " + wave
		i := slices.IndexFunc(f.waveList, func(w schedule.Wave) bool { return w.Name == wave })
		if i < 0 {
			return nil, fmt.Errorf("wave %q: %w", wave, schedule.ErrNotFound)
		}
		vms = f.waveList[i].VMs
	}
	var refused []string
	for _, id := range vms {
		v, err := f.find(id)
		if err != nil {
			return nil, err
		}
		if err := f.mayLaunch(v, a); err != nil {
			refused = append(refused, v.Name+": "+err.Error())
		}
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%w: %s", schedule.ErrConflict, strings.Join(refused, "; "))
	}
	var done []schedule.Done
	for _, id := range vms {
		v, _ := f.find(id)
		r := schedule.LaunchRun{ID: int64(900 + len(f.launches)), VM: id, VMName: v.Name, Action: a, Wish: wish, State: schedule.RunQueued, Trigger: trigger, Wave: wave, Queued: theNow}
		f.launches = append([]schedule.LaunchRun{r}, f.launches...)
		f.tell(schedule.EventLaunchQueued, v, by, string(a))
		done = append(done, schedule.Done{VM: id, Name: v.Name, Run: r.ID, Result: "queued"})
	}
	return done, nil
}

// mayLaunch is as the service has it; the lock is held.
func (f *fake) mayLaunch(v *schedule.VMStatus, a schedule.LaunchAction) error {
	if slices.ContainsFunc(f.launches, func(r schedule.LaunchRun) bool { return r.VM == v.ID && !r.State.Ended() }) {
		return fmt.Errorf("%w: something is under way", schedule.ErrConflict)
	}
	if a == schedule.LaunchTestDone {
		if slices.ContainsFunc(f.jobs, func(j schedule.LaunchJob) bool { return j.VM == v.ID && j.Purpose == "test" && !j.Over }) {
			return nil
		}
		return fmt.Errorf("%w: there is no test", schedule.ErrConflict)
	}
	_, _, err := v.Lifecycle.Next(string(a))
	return err
}

// finish ends the launch run of a VM as an appliance would; job replaces that
// of the same ID. What pages hold already is not touched.
func (f *fake) finish(moref string, life schedule.Lifecycle, job schedule.LaunchJob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.find(transfer.VMID{VCenter: vcenter, Moref: moref})
	if err != nil {
		panic(err)
	}
	v.Lifecycle = life
	f.launches = slices.Clone(f.launches)
	for i := range f.launches {
		if r := &f.launches[i]; r.VM == v.ID && !r.State.Ended() {
			r.State, r.Started, r.Ended, r.Job = schedule.RunDone, theNow, theNow, job.ID
		}
	}
	f.jobs = slices.DeleteFunc(slices.Clone(f.jobs), func(j schedule.LaunchJob) bool { return j.ID == job.ID })
	f.jobs = append([]schedule.LaunchJob{job}, f.jobs...)
	f.tell(schedule.EventLifecycle, v, schedule.Actor{Name: "sf-fra-1"}, string(life))
}

func (f *fake) CancelLaunch(_ context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return f.each(vms, "cancelling", func(v *schedule.VMStatus) error {
		for i := range f.launches {
			if r := &f.launches[i]; r.VM == v.ID && !r.State.Ended() {
				f.launches = slices.Clone(f.launches)
				f.launches[i].Cancel = true
				f.tell(schedule.EventLaunchCancelled, v, by, "")
				return nil
			}
		}
		return fmt.Errorf("%w: nothing of it is being launched", schedule.ErrConflict)
	})
}

func (f *fake) PreviewLaunch(ctx context.Context, vm transfer.VMID, a schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error) {
	f.mu.Lock()
	ask := f.preview
	v, err := f.find(vm)
	f.mu.Unlock()
	if err != nil {
		return schedule.LaunchPreview{}, err
	}
	if ask != nil {
		return ask(ctx, a, wish)
	}
	p := schedule.LaunchPreview{VM: vm, VMName: v.Name, Action: a, Type: "m6i.xlarge", TypeWhy: "the smallest of 41 types with 4 CPUs and 16 GiB that boot by UEFI and take 2 volumes", Subnet: "subnet-0a77c1 (eu-central-1a)",
		Notes: []string{"the source uses Secure Boot; the instance does not, since no keys are given to its image"}}
	if a != schedule.LaunchCutover {
		p.Steps, p.Cost = []schedule.LaunchStep{{Name: "preflight", Text: "check the settings, the subnet and the permissions"}, {Name: "run", Text: "run one m6i.xlarge in subnet-0a77c1"}}, "8 hours of m6i.xlarge and 200 GiB of volumes for that time; their prices are not known here"
		return p, nil
	}
	sec := func(n int) schedule.Duration { return schedule.Duration(time.Duration(n) * time.Second) }
	p.ToLaunch, p.Downtime, p.Unknown = sec(211), sec(399), []string{"how long the services in the guest take to start"}
	p.Steps = []schedule.LaunchStep{{Name: "power-off", Text: "shut the source's guest down, for at most 10m0s", Takes: sec(51), Basis: "the guest's last shutdown"}, {Name: "final-sync", Text: "replicate what the source wrote last", Takes: sec(40), Basis: "a cycle of this VM, and 61 MiB pending at 48 MB/s"},
		{Name: "convert", Text: "make the guest of Hard disk 1 ready for EC2", Takes: sec(92), Basis: "the test of 2026-03-09T14:02:11Z"}, {Name: "image", Text: "register the image", Takes: sec(24), Basis: "the test of 2026-03-09T14:02:11Z"},
		{Name: "run", Text: "run one m6i.xlarge in subnet-0a77c1 (eu-central-1a)", Takes: sec(4), Basis: "the median of 12 launches of other VMs"}, {Name: "status", Text: "wait for EC2's status checks", Takes: sec(188), Basis: "a guess: it was never measured"}}
	return p, nil
}

func (f *fake) LaunchRun(_ context.Context, id int64) (schedule.LaunchRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.launches {
		if r.ID == id {
			return r, nil
		}
	}
	return schedule.LaunchRun{}, fmt.Errorf("launch run %d: %w", id, schedule.ErrNotFound)
}

func (f *fake) LaunchRuns(_ context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schedule.LaunchRun
	for _, r := range f.launches {
		if q.VM != nil && *q.VM != r.VM || q.Wave != "" && q.Wave != r.Wave || q.Active && r.State.Ended() || q.Before != 0 && r.ID >= q.Before {
			continue
		}
		if out = append(out, r); len(out) == cmp.Or(q.Limit, 50) {
			break
		}
	}
	return out, nil
}

func (f *fake) LaunchJobs(_ context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schedule.LaunchJob
	behind := q.Before == ""
	for _, j := range f.jobs {
		if !behind || q.VM != nil && *q.VM != j.VM || q.Open && j.Over {
			behind = behind || j.ID == q.Before
			continue
		}
		j.Doc = nil
		if out = append(out, j); len(out) == q.Limit {
			break
		}
	}
	return out, nil
}

func (f *fake) LaunchJob(_ context.Context, id string) (schedule.LaunchJob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return schedule.LaunchJob{}, fmt.Errorf("launch %q: %w", id, schedule.ErrNotFound)
}
