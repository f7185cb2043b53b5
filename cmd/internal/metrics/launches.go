package metrics

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"snapferry/schedule"
)

// Launches is what the values of launches are asked from; *service.Service is
// one.
type Launches interface {
	LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error)
	// LaunchJobs are asked for all VMs, open ones only.
	LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error)
}

var (
	launchRuns  = desc("launch_runs", "Launch runs of the fleet that have not ended, by action.", "vcenter", "action", "state")
	launchQueue = desc("launch_queue_oldest_seconds", "How long the launch run that waits longest has waited.", "vcenter")
	launchOpen  = desc("launches_open", "Tests and cutovers that are not over, whose instances may cost money.", "vcenter", "purpose")
	testOverdue = desc("test_overdue_seconds", "How long ago the test that is most overdue should have ended by itself.", "vcenter")
	proofs      = desc("vms_proved", "VMs by how the newest proof that a point of theirs boots went.", "vcenter", "result")
	proofOldest = desc("proof_oldest_seconds", "How long ago the VM was proved whose newest proof, which went well, is the oldest.", "vcenter")

	launchDescs = []*prometheus.Desc{launchRuns, launchQueue, launchOpen, testOverdue, proofs, proofOldest}
)

var (
	launchStates   = []schedule.RunState{schedule.RunQueued, schedule.RunRunning}
	launchPurposes = []string{"test", "cutover"}
	launchOutcomes = []schedule.RunState{schedule.RunDone, schedule.RunFailed, schedule.RunCancelled}
	proofResults   = []string{"proved", "failed", "cancelled", "open"}
)

const (
	launchesAtOnce = 500 // LaunchQuery's most
	// maxOpenJobs is the most that LaunchJobs gives; as many instances are a bill
	// that somebody looks at anyway.
	maxOpenJobs = 1000
)

// launchState is what the database knows of launches.
type launchState struct {
	runs   []schedule.LaunchRun
	jobs   []schedule.LaunchJob
	proofs []schedule.Proving
}

func (f *fleet) askLaunches(ctx context.Context) (l launchState, err error) {
	if f.c.Provings != nil {
		if l.proofs, err = f.c.Provings(ctx); err != nil {
			return l, err
		}
	}
	if f.c.Launches == nil {
		return l, nil
	}
	q := schedule.LaunchQuery{Active: true, Limit: launchesAtOnce}
	for range maxRunPages {
		page, err := f.c.Launches.LaunchRuns(ctx, q)
		if err != nil {
			return l, err
		}
		l.runs = append(l.runs, page...)
		if len(page) < launchesAtOnce {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	l.jobs, err = f.c.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{Open: true, Limit: maxOpenJobs})
	return l, err
}

// vcenters are those of launches too: of a VM that is gone there may still be
// one.
func (l *launchState) vcenters(ids []string) []string {
	for i := range l.runs {
		ids = append(ids, l.runs[i].VM.VCenter)
	}
	for i := range l.jobs {
		ids = append(ids, l.jobs[i].VM.VCenter)
	}
	for i := range l.proofs {
		ids = append(ids, l.proofs[i].VM.VCenter)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// launches shows them. Zeros are shown too, see vcenterValues.
func (e *emitter) launches(c *Config, centers []string, l launchState, now time.Time) {
	for _, id := range centers {
		if c.Launches != nil {
			e.launchRuns(id, l.runs, now)
			e.launchJobs(id, l.jobs, now)
		}
		if c.Provings != nil {
			e.proofs(id, l.proofs, now)
		}
	}
}

func (e *emitter) launchRuns(vcenter string, runs []schedule.LaunchRun, now time.Time) {
	type key struct {
		action schedule.LaunchAction
		state  schedule.RunState
	}
	count, oldest := map[key]int{}, time.Duration(0)
	for i := range runs {
		r := &runs[i]
		if r.VM.VCenter != vcenter {
			continue
		}
		count[key{r.Action, r.State}]++
		if r.State == schedule.RunQueued {
			oldest = max(oldest, now.Sub(r.Queued))
		}
	}
	for _, a := range schedule.LaunchActions() {
		for _, s := range launchStates {
			e.gauge(launchRuns, float64(count[key{a, s}]), vcenter, string(a), string(s))
		}
	}
	e.gauge(launchQueue, oldest.Seconds(), vcenter)
}

func (e *emitter) launchJobs(vcenter string, jobs []schedule.LaunchJob, now time.Time) {
	count, overdue := map[string]int{}, time.Duration(0)
	for i := range jobs {
		j := &jobs[i]
		if j.VM.VCenter != vcenter || j.Over {
			continue
		}
		count[j.Purpose]++
		if !j.Ends.IsZero() {
			overdue = max(overdue, now.Sub(j.Ends))
		}
	}
	for _, p := range launchPurposes {
		e.gauge(launchOpen, float64(count[p]), vcenter, p)
	}
	e.gauge(testOverdue, overdue.Seconds(), vcenter)
}

// proofs are those of the VMs that ever had one.
func (e *emitter) proofs(vcenter string, all []schedule.Proving, now time.Time) {
	count, oldest := map[string]int{}, time.Duration(-1)
	for _, p := range all {
		if p.VM.VCenter != vcenter {
			continue
		}
		switch p.State {
		case schedule.RunDone:
			count["proved"]++
			oldest = max(oldest, now.Sub(p.At), 0)
		case schedule.RunFailed, schedule.RunCancelled:
			count[string(p.State)]++
		default:
			count["open"]++
		}
	}
	for _, r := range proofResults {
		e.gauge(proofs, float64(count[r]), vcenter, r)
	}
	if oldest >= 0 { // as zero it would be the best there can be
		e.gauge(proofOldest, oldest.Seconds(), vcenter)
	}
}

func (c *counters) launchMetrics() {
	c.launches = c.counterVec("launches_total", "Launch runs that ended on this appliance, by action and outcome.", "action", "outcome")
	c.launchTook = c.histogramVec("launch_duration_seconds", "How long launch runs took that ended well, from when they were first taken in hand.", launchBuckets, "action")
	c.downtime = c.histogram("cutover_downtime_seconds", "How long nobody served in cutovers that ended well: from the shutdown of the source to the end of the instance's checks.", launchBuckets)
	c.toLaunch = c.histogram("cutover_to_launch_seconds", "The part of it up to the call that launched the instance.", launchBuckets)
	for _, a := range schedule.LaunchActions() {
		for _, o := range launchOutcomes { // at 0 from the first on, or increase() misses the first of its kind
			c.launches.WithLabelValues(string(a), string(o))
		}
	}
}

// ObserveLaunchEnd says how a launch run ended; job is the launch that it was
// about, the zero value where it came to none. Tell it once, after it was
// written down.
func (m *Metrics) ObserveLaunchEnd(run schedule.LaunchRun, job schedule.LaunchJob) {
	if m == nil || !slices.Contains(schedule.LaunchActions(), run.Action) || !run.State.Ended() {
		return
	}
	c := m.counters
	c.launches.WithLabelValues(string(run.Action), string(run.State)).Inc()
	if run.State != schedule.RunDone {
		return
	}
	if took := run.Ended.Sub(run.Started); took > 0 && !run.Started.IsZero() {
		c.launchTook.WithLabelValues(string(run.Action)).Observe(took.Seconds())
	}
	if run.Action != schedule.LaunchCutover {
		return
	}
	if job.Downtime > 0 { // zero is not known
		c.downtime.Observe(job.Downtime.Std().Seconds())
	}
	if job.ToLaunch > 0 {
		c.toLaunch.Observe(job.ToLaunch.Std().Seconds())
	}
}
