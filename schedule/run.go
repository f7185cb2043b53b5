package schedule

import (
	"time"

	"snapferry/transfer"
)

// RunState is where a run is.
type RunState string

// The states of a run. A run that has not ended is in one of the first three;
// a VM has at most one such.
const (
	RunQueued    RunState = "queued"   // waits for room
	RunStarting  RunState = "starting" // was given to an appliance
	RunRunning   RunState = "running"
	RunDone      RunState = "done"
	RunFailed    RunState = "failed"
	RunCancelled RunState = "cancelled"
)

// Ended reports that nothing more happens to it.
func (s RunState) Ended() bool { return s == RunDone || s == RunFailed || s == RunCancelled }

// Run is one cycle of one VM as the service sees it: from the moment it was
// wanted until it ended.
type Run struct {
	ID      int64         `json:"id"`
	VM      transfer.VMID `json:"vm"`
	VMName  string        `json:"vmName"`
	State   RunState      `json:"state"`
	Trigger string        `json:"trigger"` // "schedule", "user NAME", "wave NAME"
	Seed    bool          `json:"seed,omitempty"`
	Policy  string        `json:"policy,omitempty"`

	Appliance transfer.ApplianceID `json:"appliance,omitempty"`
	// Epoch counts how often somebody took it in hand: the fence of every write.
	Epoch  int64 `json:"epoch"`
	Cancel bool  `json:"cancel,omitempty"` // was asked for

	Queued  time.Time `json:"queued"`
	Started time.Time `json:"started"` // zero before
	Ended   time.Time `json:"ended"`   // zero before

	Steps  []StepTime      `json:"steps,omitempty"`
	Report transfer.Report `json:"report"` // as last told
	Reason Reason          `json:"reason,omitempty"`
	Error  string          `json:"error,omitempty"`
	Hint   string          `json:"hint,omitempty"`
}

// StepTime is when a step of a run began.
type StepTime struct {
	Step  transfer.Step `json:"step"`
	Began time.Time     `json:"began"`
}

// LogLine is one line of a run's log.
type LogLine struct {
	Run   int64     `json:"run"`
	Seq   int64     `json:"seq"` // rising; a reader asks for what is behind the last it has
	At    time.Time `json:"at"`
	Level string    `json:"level"` // "info", "warn", "error"
	Text  string    `json:"text"`
}

// Reason is why a VM does not get on, as a word that scripts and alert rules
// can hold on to.
type Reason string

// The reasons.
const (
	ReasonVCenter     Reason = "VCENTER_UNREACHABLE"
	ReasonVCenterAuth Reason = "VCENTER_CREDENTIALS"
	ReasonAWS         Reason = "AWS_UNREACHABLE"
	ReasonAWSAuth     Reason = "AWS_CREDENTIALS"
	ReasonThrottled   Reason = "AWS_THROTTLED"
	ReasonObstacle    Reason = "VM_NOT_REPLICABLE" // Obstacles say what
	ReasonSnapshot    Reason = "SNAPSHOT_FAILED"   // the VM snapshot could not be made or removed
	ReasonAttach      Reason = "ATTACH_FAILED"     // a frozen disk could not be hot-added
	ReasonDatastore   Reason = "DATASTORE_LOW"
	ReasonNoReach     Reason = "NO_APPLIANCE"      // no living appliance reaches its datastores
	ReasonConverge    Reason = "NOT_CONVERGING"    // writes faster than it uploads
	ReasonAttempts    Reason = "TOO_MANY_ATTEMPTS" // taken in hand too often
	ReasonRetry       Reason = "TEMPORARY"         // will be tried again by itself
	ReasonOther       Reason = "FAILED"            // the message says what
)
