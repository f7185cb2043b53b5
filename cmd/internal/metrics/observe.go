package metrics

import (
	"net/http"
	"strconv"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Values of labels.
var (
	planKinds    = []string{string(transfer.Seed), string(transfer.Compare), string(transfer.Delta), "none"}
	outcomes     = []string{string(transfer.OutcomePoint), string(transfer.OutcomeConfirmed), "failed", "cancelled"}
	blockResults = []string{"put", "identical", "zero", "resumed"}

	deliveryResults = []string{"delivered", "retried", "given-up"}
)

// ObserveTick says that the planner looks for VMs that are due.
func (m *Metrics) ObserveTick(at time.Time) {
	if m == nil {
		return
	}
	m.counters.mu.Lock()
	defer m.counters.mu.Unlock()
	m.counters.tick = at
}

// ObserveProgress says how far a run's cycle is. Reports may come as often as
// one likes, and from the same cycle only the newest counts.
func (m *Metrics) ObserveProgress(run int64, r transfer.Report) {
	if m != nil {
		m.count(m.runs.advance(run, r))
	}
}

// ObserveEnd says how a run ended. Tell it once.
func (m *Metrics) ObserveEnd(run int64, end schedule.End) {
	if m == nil {
		return
	}
	m.count(m.runs.advance(run, end.Report))
	m.runs.forget(run)
	c, kind := m.counters, kindOf(end.Report)
	switch end.State {
	case schedule.RunFailed:
		c.cycles.WithLabelValues(kind, "failed").Inc()
		c.failures.WithLabelValues(string(reasonLabel(end.Reason))).Inc()
	case schedule.RunCancelled:
		c.cycles.WithLabelValues(kind, "cancelled").Inc()
	default:
		outcome := transfer.OutcomePoint
		if end.Report.Outcome == transfer.OutcomeConfirmed {
			outcome = transfer.OutcomeConfirmed
		}
		c.cycles.WithLabelValues(kind, string(outcome)).Inc()
		if took := end.Report.Took(end.At); took > 0 && !end.Report.Started.IsZero() {
			c.took.WithLabelValues(kind).Observe(took.Seconds())
		}
		m.observeSteps(end)
	}
}

// observeSteps takes what one cycle shows: averages of a single cycle are its
// own values.
func (m *Metrics) observeSteps(end schedule.End) {
	steps := schedule.Measure{}.After(end.Report, end.Steps)
	for _, q := range []struct {
		took time.Duration
		to   interface{ Observe(float64) }
	}{
		{steps.Freeze, m.counters.freeze}, {steps.Release, m.counters.release},
		{steps.Seal, m.counters.seal}, {steps.Frozen, m.counters.frozen},
	} {
		if q.took > 0 { // zero is not known
			q.to.Observe(q.took.Seconds())
		}
	}
}

func (m *Metrics) count(d totals) {
	c := m.counters
	c.read.Add(float64(d.read))
	c.put.Add(float64(d.put) * transfer.BlockSize)
	for i, n := range []int64{d.put, d.identical, d.zero, d.resumed} {
		c.blocks.WithLabelValues(blockResults[i]).Add(float64(n))
	}
	c.audited.Add(float64(d.audited))
	c.lost.Add(float64(d.lost))
}

// kindOf is the heaviest kind among the disks, "none" before the plan.
func kindOf(r transfer.Report) string {
	kind := "none"
	for _, d := range r.Disks {
		switch {
		case d.Kind == transfer.Seed:
			return string(d.Kind)
		case d.Kind == transfer.Compare, d.Kind == transfer.Delta && kind == "none":
			kind = string(d.Kind)
		}
	}
	return kind
}

// Call is one attempt of one request to vCenter or AWS.
type Call struct {
	Service   string // "ebs", "ec2", "sts", "vcenter"
	Operation string // as the service names it: "PutSnapshotBlock", "CreateSnapshot_Task"
	Took      time.Duration
	Failed    bool
	Throttled bool // the service refused it since there were too many; it counts as failed
	Retry     bool // it repeats one that failed
}

// ObserveCall counts a request.
func (m *Metrics) ObserveCall(c Call) {
	if m == nil {
		return
	}
	service, class := Class(c.Service, c.Operation)
	result := "ok"
	switch {
	case c.Throttled:
		result = "throttled"
		m.counters.throttle.WithLabelValues(service).Inc()
	case c.Failed:
		result = "error"
	}
	if c.Retry {
		m.counters.retries.WithLabelValues(service).Inc()
	}
	m.counters.calls.WithLabelValues(service, class, result).Inc()
	m.counters.callTook.WithLabelValues(service, class).Observe(c.Took.Seconds())
}

// classes are the operations that are told apart.
var classes = map[string]map[string]string{
	"ebs": {
		"PutSnapshotBlock": "put", "GetSnapshotBlock": "get", "ListSnapshotBlocks": "list", "ListChangedBlocks": "list",
		"StartSnapshot": "start", "CompleteSnapshot": "complete",
	},
	"ec2": {
		"CreateTags": "tag", "DeleteTags": "tag", "DeleteSnapshot": "delete", "GetEbsEncryptionByDefault": "describe",
		"DescribeSnapshots": "describe", "DescribeInstances": "describe", "DescribeInstanceStatus": "describe", "DescribeVolumes": "describe", "DescribeImages": "describe",
		"DescribeSubnets": "describe", "DescribeInstanceTypes": "describe", "DescribeInstanceTypeOfferings": "describe", "GetInstanceTypesFromInstanceRequirements": "describe",
		"DescribeReplaceRootVolumeTasks": "describe", "DescribeImportImageTasks": "describe", "GetConsoleOutput": "describe", "GetConsoleScreenshot": "describe",
		"RunInstances": "launch", "RegisterImage": "launch", "ImportImage": "launch", "CreateVolume": "launch", "AttachVolume": "launch", "CreateReplaceRootVolumeTask": "launch",
		"StartInstances": "launch", "ModifyInstanceAttribute": "launch",
		"StopInstances": "end", "TerminateInstances": "end", "DeregisterImage": "end", "CancelImportTask": "end", "DeleteVolume": "end",
	},
	"sts": {"GetCallerIdentity": "identity"},
	"vcenter": {
		"CreateSnapshot_Task": "snapshot", "CreateSnapshotEx_Task": "snapshot", "RemoveSnapshot_Task": "snapshot", "ConsolidateVMDisks_Task": "snapshot",
		"QueryChangedDiskAreas": "changes", "ReconfigVM_Task": "reconfigure",
		"PowerOnVM_Task": "power", "PowerOffVM_Task": "power", "ShutdownGuest": "power",
		"Login": "session", "Logout": "session", "SessionIsActive": "session",
		"RetrieveProperties": "read", "RetrievePropertiesEx": "read", "ContinueRetrievePropertiesEx": "read", "CreateFilter": "read",
		"WaitForUpdates": "wait", "WaitForUpdatesEx": "wait",
	},
}

// Class is the labels of an operation: service and class of operation, "other"
// where they are not known.
func Class(service, operation string) (string, string) {
	known, ok := classes[service]
	if !ok {
		return other, other
	}
	if class, ok := known[operation]; ok {
		return service, class
	}
	return service, other
}

// SetPutLimit says how many puts a second this appliance allows itself.
func (m *Metrics) SetPutLimit(perSecond float64) {
	if m != nil {
		m.counters.putLimit.Set(max(0, perSecond))
	}
}

// ExpiryKind is what ends.
type ExpiryKind string

// What ends.
const (
	Certificate ExpiryKind = "certificate"
	Credentials ExpiryKind = "credentials"
)

// SetExpiry says when something ends; the zero time takes that back. name says
// what it is: "vcenter", "server", "aws".
func (m *Metrics) SetExpiry(kind ExpiryKind, name string, at time.Time) {
	if m == nil {
		return
	}
	c, key := m.counters, expiryKey{kind, valid(name)}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.expiry[key]
	switch {
	case at.IsZero():
		delete(c.expiry, key)
	case known, len(c.expiry) < maxExpiry:
		c.expiry[key] = at
	}
}

// ObserveDelivery counts an attempt to deliver an event to a webhook: result is
// "delivered", "retried" or "given-up".
func (m *Metrics) ObserveDelivery(hook, result string) {
	if m == nil {
		return
	}
	hook = m.hooks.value(valid(hook))
	failing := result != "delivered"
	if failing && result != "retried" {
		result = "given-up"
	}
	for _, r := range deliveryResults { // at 0 from the first on, or increase() misses the first of its kind
		m.counters.deliveries.WithLabelValues(hook, r)
	}
	m.counters.deliveries.WithLabelValues(hook, result).Inc()
	m.counters.hookFailing.WithLabelValues(hook).Set(number(failing))
}

// ObserveRequest counts a request that was answered. route is a pattern, never
// a path; took of 0 counts without a duration.
func (m *Metrics) ObserveRequest(route, method string, code int, took time.Duration) {
	if m == nil {
		return
	}
	route = m.routes.value(valid(route))
	m.counters.requests.WithLabelValues(route, methodLabel(method), codeLabel(code)).Inc()
	if took > 0 {
		m.counters.requestTook.WithLabelValues(route).Observe(took.Seconds())
	}
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions:
		return method
	}
	return other
}

func codeLabel(code int) string {
	if code < 100 || code > 599 {
		return other
	}
	return strconv.Itoa(code)
}
