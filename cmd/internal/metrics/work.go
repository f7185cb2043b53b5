package metrics

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"snapferry/schedule"
	"snapferry/transfer"
)

var (
	readRate = desc("read_bytes_per_second", "Bytes that all running cycles of the fleet read a second, as last sampled.")
	putRate  = desc("put_bytes_per_second", "Bytes that all running cycles of the fleet put a second, as last sampled.")

	runsByState = desc("runs", "Runs of the fleet that have not ended.", "vcenter", "state")
	queueOldest = desc("queue_oldest_seconds", "How long the run that waits longest has waited for room.", "vcenter")
	openFrozen  = desc("vm_snapshots_open", "VM snapshots that running cycles hold open.", "vcenter")
	frozenAge   = desc("vm_snapshot_oldest_seconds", "How long the oldest VM snapshot of a running cycle has been open: its redo log grows.", "vcenter")
	openDrafts  = desc("drafts", "Pending EBS snapshots of running cycles by AWS account and region; AWS grants 100.", "account")

	applianceInfo     = desc("appliance_info", "Always 1; the labels say what an appliance is.", "appliance", "vcenter", "version", "account")
	applianceUp       = desc("appliance_up", "1 when an appliance of the fleet shows that it lives.", "appliance", "vcenter")
	applianceDraining = desc("appliance_draining", "1 when an appliance takes nothing new, since it is about to stop.", "appliance", "vcenter")
	applianceSeen     = desc("appliance_seen_timestamp_seconds", "When an appliance showed last that it lives.", "appliance", "vcenter")
	applianceRuns     = desc("appliance_runs", "Runs that an appliance has in hand.", "appliance", "vcenter")
	applianceDisks    = desc("appliance_disks_attached", "Frozen disks that hang on an appliance.", "appliance", "vcenter")

	alarmsOpen = desc("alarms", "Alarms that hold now, by kind.", "kind")

	workDescs = []*prometheus.Desc{readRate, putRate, runsByState, queueOldest, openFrozen, frozenAge, openDrafts,
		applianceInfo, applianceUp, applianceDraining, applianceSeen, applianceRuns, applianceDisks, alarmsOpen}
)

const (
	runsAtOnce = 500 // RunQuery's most
	// maxRunPages: a queue of 10,000 is as alarming as a longer one.
	maxRunPages = 20
	// maxAlarms: as many as there may be VMs in a large fleet.
	maxAlarms = 10000
)

var openRunStates = []schedule.RunState{schedule.RunQueued, schedule.RunStarting, schedule.RunRunning}

var alarmKinds = []schedule.AlarmKind{
	schedule.AlarmStalled, schedule.AlarmLag, schedule.AlarmConverge, schedule.AlarmLeftover, schedule.AlarmLeftDisk,
	schedule.AlarmDatastore, schedule.AlarmAudit, schedule.AlarmSuspect, schedule.AlarmCertificate, schedule.AlarmCredentials,
	schedule.AlarmAppliance, schedule.AlarmQuota, schedule.AlarmCutover, schedule.AlarmTestLeft, schedule.AlarmProof, schedule.AlarmOther,
}

func activeRuns(ctx context.Context, s Source) ([]schedule.Run, error) {
	var all []schedule.Run
	before := int64(0)
	for range maxRunPages {
		page, err := s.Runs(ctx, schedule.RunQuery{Active: true, Before: before, Limit: runsAtOnce})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < runsAtOnce {
			break
		}
		before = page[len(page)-1].ID
	}
	return all, nil
}

func (e *emitter) overview(o schedule.Overview) {
	e.gauge(readRate, o.Throughput)
	e.gauge(putRate, o.PutRate)
	for _, a := range o.Appliances {
		id, center := string(a.ID), a.VCenter
		e.gauge(applianceInfo, 1, id, center, a.Version, a.Account)
		e.gauge(applianceUp, number(a.Alive), id, center)
		e.gauge(applianceDraining, number(a.Draining), id, center)
		e.gauge(applianceSeen, seconds(a.Seen), id, center)
	}
}

// hands is what is under way somewhere.
type hands struct {
	runs, disks, frozen int
	states              map[schedule.RunState]int
	queued, open        time.Duration // the longest
}

// work shows the runs that have not ended.
func (e *emitter) work(runs []schedule.Run, centers []string, appliances []schedule.Appliance, now time.Time) {
	byCenter, byAppliance, drafts := map[string]*hands{}, map[transfer.ApplianceID]*hands{}, map[string]int{}
	accounts := map[transfer.ApplianceID]string{}
	for _, id := range centers {
		byCenter[id] = &hands{states: map[schedule.RunState]int{}}
	}
	for _, a := range appliances {
		accounts[a.ID], byAppliance[a.ID] = a.Account, &hands{}
		if a.Account != "" {
			drafts[a.Account] = 0
		}
	}
	for i := range runs {
		r := &runs[i]
		byCenter[r.VM.VCenter].add(r, now)
		if h := byAppliance[r.Appliance]; h != nil {
			h.runs++
			h.disks += attached(r)
			if account := accounts[r.Appliance]; account != "" {
				drafts[account] += pending(r)
			}
		}
	}
	for _, id := range centers {
		h := byCenter[id]
		for _, s := range openRunStates {
			e.gauge(runsByState, float64(h.states[s]), id, string(s))
		}
		e.gauge(queueOldest, h.queued.Seconds(), id)
		e.gauge(openFrozen, float64(h.frozen), id)
		e.gauge(frozenAge, h.open.Seconds(), id)
	}
	for _, a := range appliances {
		e.gauge(applianceRuns, float64(byAppliance[a.ID].runs), string(a.ID), a.VCenter)
		e.gauge(applianceDisks, float64(byAppliance[a.ID].disks), string(a.ID), a.VCenter)
	}
	for account, n := range drafts {
		e.gauge(openDrafts, float64(n), account)
	}
}

func (h *hands) add(r *schedule.Run, now time.Time) {
	h.states[r.State]++
	if r.State == schedule.RunQueued {
		h.queued = max(h.queued, now.Sub(r.Queued))
	}
	if r.Report.Snapshot != "" {
		h.frozen++
		h.open = max(h.open, now.Sub(r.Report.Frozen))
	}
}

func attached(r *schedule.Run) (n int) {
	for _, d := range r.Report.Disks {
		n += int(number(d.Attached))
	}
	return n
}

func pending(r *schedule.Run) (n int) {
	for _, d := range r.Report.Disks {
		n += int(number(d.Snapshot != "" && !d.Sealed))
	}
	return n
}

func (e *emitter) alarms(alarms []schedule.Alarm) {
	n := map[schedule.AlarmKind]int{}
	for _, a := range alarms {
		kind := a.Kind
		if !slices.Contains(alarmKinds, kind) {
			kind = schedule.AlarmOther
		}
		n[kind]++
	}
	for _, kind := range alarmKinds {
		e.gauge(alarmsOpen, float64(n[kind]), string(kind))
	}
}
