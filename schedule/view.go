package schedule

import (
	"time"

	"snapferry/transfer"
)

// VMStatus is a VM and how it stands now: what lists and pages show.
type VMStatus struct {
	VM
	Replication Replication `json:"replication"`
	// Lag is how old the newest point's data is; zero without a point.
	Lag Duration `json:"lag"`
	// Backlog is the bytes that the next cycle is expected to put (while one
	// runs, what it has left); ETA when the running cycle will be done.
	Backlog int64     `json:"backlog"`
	ETA     time.Time `json:"eta"` // zero when nothing runs or nobody knows
	// Forecast is how long a final sync would take if it began now, zero while
	// too little is known.
	Forecast Duration `json:"forecast"`
	// Floor is the shortest interval that the VM's measured cycles allow.
	Floor Duration `json:"floor"`
	// Trouble is in words why it is stalled, does not converge or waits.
	Trouble string `json:"trouble,omitempty"`
	// Run is the run that has not ended, nil when there is none.
	Run *Run `json:"run,omitempty"`
	// LaunchRun is the launch run that has not ended, nil when there is none.
	LaunchRun *LaunchRun `json:"launchRun,omitempty"`
}

// PointRow is a recovery point as the history keeps it; what AWS's tags say is
// the truth, and it is refreshed from there.
type PointRow struct {
	VM        transfer.VMID         `json:"vm"`
	Cycle     transfer.CycleID      `json:"cycle"`
	Frozen    time.Time             `json:"frozen"`
	Confirmed time.Time             `json:"confirmed"` // zero: never
	Complete  bool                  `json:"complete"`
	Kind      transfer.PlanKind     `json:"kind"`   // the heaviest of its disks: seed, compare, delta
	Blocks    int64                 `json:"blocks"` // written, all disks; -1 unknown
	Disks     int                   `json:"disks"`
	Suspect   string                `json:"suspect,omitempty"`
	Verified  time.Time             `json:"verified"`        // zero: never
	Proved    time.Time             `json:"proved,omitzero"` // when a launch of it last came up and passed its checks; zero: never
	Snapshots []transfer.SnapshotID `json:"snapshots"`
}

// VMDetail is everything of one VM's page.
type VMDetail struct {
	VMStatus
	Points []PointRow `json:"points"` // newest first
	Runs   []Run      `json:"runs"`   // newest first, the last few
	Alarms []Alarm    `json:"alarms"`
	// Lags are the lag in seconds over the last day, oldest first, for a
	// sparkline: one value each time a cycle ended.
	Lags []LagSample `json:"lags"`
	// LaunchJobs are those that are not over, newest first, without Doc.
	LaunchJobs []LaunchJob `json:"launchJobs"`
}

// LagSample is how old a VM's data was when a cycle ended.
type LagSample struct {
	At  time.Time `json:"at"`
	Lag Duration  `json:"lag"`
}

// Overview is how everything stands.
type Overview struct {
	At         time.Time           `json:"at"`
	VMs        int                 `json:"vms"`
	ByState    map[Replication]int `json:"byState"`
	ByLife     map[Lifecycle]int   `json:"byLifecycle"`
	Running    int                 `json:"running"`
	Queued     int                 `json:"queued"`
	Throughput float64             `json:"throughput"` // bytes read per second, all running cycles
	PutRate    float64             `json:"putRate"`    // bytes put per second
	// Samples are the throughput of the last hour, oldest first.
	Samples    []RateSample `json:"samples"`
	NextRuns   []NextRun    `json:"nextRuns"`
	Alarms     int          `json:"alarms"`
	Appliances []Appliance  `json:"appliances"`
	WorstLag   []VMStatus   `json:"worstLag"` // at most five
}

// RateSample is a throughput at an instant, bytes a second.
type RateSample struct {
	At   time.Time `json:"at"`
	Read float64   `json:"read"`
	Put  float64   `json:"put"`
}

// NextRun is a run to come.
type NextRun struct {
	VM   transfer.VMID `json:"vm"`
	Name string        `json:"name"`
	At   time.Time     `json:"at"`
	Why  string        `json:"why"`
}

// VMQuery chooses and orders VMs. Zero values choose all.
type VMQuery struct {
	Text        string      `json:"text,omitempty"` // in name, path or ID, without regard to case
	Replication Replication `json:"replication,omitempty"`
	Lifecycle   Lifecycle   `json:"lifecycle,omitempty"`
	Policy      string      `json:"policy,omitempty"`
	Wave        string      `json:"wave,omitempty"`
	// Sort is "name" (the default), "lag", "size", "state", "next", "backlog".
	Sort   string `json:"sort,omitempty"`
	Desc   bool   `json:"desc,omitempty"`
	Offset int    `json:"offset,omitempty"`
	Limit  int    `json:"limit,omitempty"` // 0 is 100, at most 1000
}

// VMPage is a part of a list.
type VMPage struct {
	VMs    []VMStatus          `json:"vms"`
	Total  int                 `json:"total"`  // that the query chose
	Counts map[Replication]int `json:"counts"` // of all VMs that fit the text, whatever their state
	// Lags of the VMs on the page, by VMID.String, for their sparklines.
	Lags map[string][]LagSample `json:"lags,omitempty"`
}

// RunQuery chooses runs, newest first.
type RunQuery struct {
	VM     *transfer.VMID `json:"vm,omitempty"`
	State  RunState       `json:"state,omitempty"`
	Active bool           `json:"active,omitempty"` // only those that have not ended
	Before int64          `json:"before,omitempty"` // only IDs below it: the next page
	Limit  int            `json:"limit,omitempty"`  // 0 is 50, at most 500
}

// Done is what an action did to each VM that it named.
type Done struct {
	VM     transfer.VMID `json:"vm"`
	Name   string        `json:"name"`
	Run    int64         `json:"run,omitempty"`
	Result string        `json:"result"` // "queued", "already queued", "paused", …
	Error  string        `json:"error,omitempty"`
}

// Actor is who asks: it goes into the audit log and the trigger of runs.
type Actor struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	From string `json:"from,omitempty"` // remote address
}

// Role is what somebody may do.
type Role string

// The roles.
const (
	RoleViewer   Role = "viewer"   // look at everything
	RoleOperator Role = "operator" // and act
)
