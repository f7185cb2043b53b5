package metrics

import (
	"context"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"snapferry/schedule"
	"snapferry/transfer"
)

var (
	vmsByState  = desc("vms", "VMs of the fleet by how their replication stands.", "vcenter", "state")
	vmsByLife   = desc("vms_lifecycle", "VMs of the fleet by where they are on their way to AWS.", "vcenter", "lifecycle")
	vmsFailing  = desc("vms_failing", "VMs whose last run failed, by reason.", "vcenter", "reason")
	lagSpread   = desc("lag_seconds", "How the lags of the VMs spread now. It is no counter: use the buckets as they are, without rate.", "vcenter")
	lagMax      = desc("lag_max_seconds", "The largest lag of a VM.", "vcenter")
	backlogSum  = desc("backlog_bytes", "Bytes that the next cycles of all VMs are expected to put.", "vcenter")
	sourceBytes = desc("source_disks_bytes", "Size of the disks of all VMs that replicate.", "vcenter")

	vmState   = desc("vm_state", "How a VM's replication stands: 0 not-replicated, 1 ended, 2 paused, 3 waiting, 4 initial-sync, 5 delta, 6 up-to-date, 7 lagging, 8 stalled.", "vm", "vcenter")
	vmLag     = desc("vm_lag_seconds", "How old the data of a VM's newest recovery point is; absent without a point, and for VMs that do not replicate.", "vm", "vcenter")
	vmBacklog = desc("vm_backlog_bytes", "Bytes that a VM's next cycle is expected to put, or what the running one has left.", "vm", "vcenter")
	vmDropped = desc("vm_series_dropped", "VMs that are not shown one by one, since there are more than the bound or that is switched off.")

	vmDescs = []*prometheus.Desc{vmsByState, vmsByLife, vmsFailing, lagSpread, lagMax, backlogSum, sourceBytes, vmState, vmLag, vmBacklog, vmDropped}
)

// states in the order of snapferry_vm_state's numbers: the worst is the
// highest, so that max shows it.
var states = []schedule.Replication{
	schedule.ReplicationNone, schedule.ReplicationEnded, schedule.ReplicationPaused, schedule.ReplicationWaiting,
	schedule.ReplicationInitial, schedule.ReplicationDelta, schedule.ReplicationCurrent, schedule.ReplicationLagging, schedule.ReplicationStalled,
}

var reasons = []schedule.Reason{
	schedule.ReasonVCenter, schedule.ReasonVCenterAuth, schedule.ReasonAWS, schedule.ReasonAWSAuth, schedule.ReasonThrottled,
	schedule.ReasonObstacle, schedule.ReasonSnapshot, schedule.ReasonAttach, schedule.ReasonDatastore, schedule.ReasonNoReach,
	schedule.ReasonConverge, schedule.ReasonAttempts, schedule.ReasonRetry, schedule.ReasonOther,
}

// reasonLabel keeps the label to the words that are known.
func reasonLabel(r schedule.Reason) schedule.Reason {
	if slices.Contains(reasons, r) {
		return r
	}
	return schedule.ReasonOther
}

// lagBuckets go from a quarter of the shortest sensible interval to a week.
var lagBuckets = []float64{60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 16 * 3600, 86400, 2 * 86400, 4 * 86400, 7 * 86400}

const (
	vmsAtOnce = 1000 // VMQuery's most
	// maxPages ends a list that never ends: 100,000 VMs are more than a vCenter
	// of any size holds.
	maxPages = 100
)

// allVMs reads the list page by page. VMs that come or go meanwhile move the
// pages, so that one may be on two of them.
func allVMs(ctx context.Context, s Source) ([]schedule.VMStatus, error) {
	var all []schedule.VMStatus
	seen := map[transfer.VMID]bool{}
	for offset := range maxPages {
		page, err := s.VMs(ctx, schedule.VMQuery{Sort: "name", Offset: offset * vmsAtOnce, Limit: vmsAtOnce})
		if err != nil {
			return nil, err
		}
		for _, v := range page.VMs {
			if !seen[v.ID] {
				seen[v.ID] = true
				all = append(all, v)
			}
		}
		if len(page.VMs) < vmsAtOnce {
			break
		}
	}
	return all, nil
}

// vcenters are the UUIDs of all vCenters, in order.
func vcenters(vms []schedule.VMStatus, appliances []schedule.Appliance, runs []schedule.Run) []string {
	var ids []string
	for i := range vms {
		ids = append(ids, vms[i].ID.VCenter)
	}
	for _, a := range appliances {
		if a.VCenter != "" {
			ids = append(ids, a.VCenter)
		}
	}
	for i := range runs {
		ids = append(ids, runs[i].VM.VCenter)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// lagging reports whether a VM's lag means anything: it has a point, and is
// meant to get new ones.
func lagging(v *schedule.VMStatus) bool {
	return v.Point.Cycle != "" && replicates(v)
}

func replicates(v *schedule.VMStatus) bool {
	return v.Replication != schedule.ReplicationEnded && v.Replication != schedule.ReplicationNone
}

// tally is what is added up for one vCenter.
type tally struct {
	states  map[schedule.Replication]int
	lives   map[schedule.Lifecycle]int
	reasons map[schedule.Reason]int
	lags    []float64
	backlog int64
	bytes   int64
}

func tallies(centers []string, vms []schedule.VMStatus) map[string]*tally {
	all := map[string]*tally{}
	for _, id := range centers {
		all[id] = &tally{states: map[schedule.Replication]int{}, lives: map[schedule.Lifecycle]int{}, reasons: map[schedule.Reason]int{}}
	}
	for i := range vms {
		v := &vms[i]
		t := all[v.ID.VCenter]
		t.states[v.Replication]++
		life := v.Lifecycle
		if life == "" {
			life = schedule.NotReady
		}
		t.lives[life]++
		if v.Fails > 0 {
			t.reasons[reasonLabel(v.Reason)]++
		}
		if lagging(v) {
			t.lags = append(t.lags, v.Lag.Std().Seconds())
		}
		if replicates(v) {
			t.backlog += v.Backlog
			t.bytes += v.Bytes()
		}
	}
	return all
}

// vcenterValues are what is known of all VMs of each vCenter. Zeros are shown
// too: an alert that ends wants a value, and a chart a line.
func (e *emitter) vcenterValues(centers []string, vms []schedule.VMStatus) {
	all := tallies(centers, vms)
	for _, id := range centers {
		t := all[id]
		for _, s := range states {
			e.gauge(vmsByState, float64(t.states[s]), id, string(s))
		}
		for _, l := range schedule.Lifecycles() {
			e.gauge(vmsByLife, float64(t.lives[l]), id, string(l))
		}
		for _, r := range reasons {
			e.gauge(vmsFailing, float64(t.reasons[r]), id, string(r))
		}
		e.gauge(backlogSum, float64(t.backlog), id)
		e.gauge(sourceBytes, float64(t.bytes), id)
		e.lags(id, t.lags)
	}
}

func (e *emitter) lags(vcenter string, lags []float64) {
	buckets, sum, worst := map[float64]uint64{}, 0.0, 0.0
	for _, b := range lagBuckets {
		buckets[b] = 0
	}
	for _, lag := range lags {
		sum, worst = sum+lag, max(worst, lag)
		for _, b := range lagBuckets {
			if lag <= b {
				buckets[b]++
			}
		}
	}
	e.list = append(e.list, prometheus.MustNewConstHistogram(lagSpread, uint64(len(lags)), sum, buckets, valid(vcenter)))
	e.gauge(lagMax, worst, vcenter)
}

// eachVM shows VMs one by one, the first by name.
func (e *emitter) eachVM(vms []schedule.VMStatus, show bool, most int) {
	if !show {
		most = 0
	}
	names := vmLabels(vms)
	order := make([]int, len(vms))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	for n, i := range order {
		if n == most {
			break
		}
		v, name := &vms[i], names[i]
		e.gauge(vmState, float64(slices.Index(states, v.Replication)), name, v.ID.VCenter)
		e.gauge(vmBacklog, float64(v.Backlog), name, v.ID.VCenter)
		if lagging(v) {
			e.gauge(vmLag, v.Lag.Std().Seconds(), name, v.ID.VCenter)
		}
	}
	e.gauge(vmDropped, float64(max(0, len(vms)-most)))
}

// vmLabels are the VMs' names. Names repeat among folders: those that do carry
// the moref as well, "web (vm-12)".
func vmLabels(vms []schedule.VMStatus) []string {
	type named struct{ vcenter, name string }
	times, taken := map[named]int{}, map[named]bool{}
	for i := range vms {
		times[named{vms[i].ID.VCenter, valid(vms[i].Name)}]++
	}
	labels := make([]string, len(vms))
	for i := range vms {
		n := named{vms[i].ID.VCenter, valid(vms[i].Name)}
		if times[n] > 1 || n.name == "" {
			n.name = strings.TrimSpace(n.name + " (" + vms[i].ID.Moref + ")")
		}
		for taken[n] { // somebody called another VM just so
			n.name += " (" + vms[i].ID.Moref + ")"
		}
		taken[n] = true
		labels[i] = n.name
	}
	return labels
}
