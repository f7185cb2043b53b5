package schedule

import (
	"time"

	"snapferry/transfer"
)

// Planned is what the planner found for a VM.
type Planned struct {
	VM     transfer.VMID
	Policy string
	Next   time.Time // zero: not due at any time
	Why    string
}

// End is how a run ended and what it means for its VM.
type End struct {
	State  RunState // RunDone, RunFailed or RunCancelled
	At     time.Time
	Report transfer.Report
	Steps  []StepTime
	Reason Reason
	Error  string
	Hint   string

	Measure   Measure
	Fails     int       // of the VM, after this run
	Point     LastPoint // of the VM, after this run
	Lifecycle Lifecycle // of the VM, after this run
	Next      time.Time
	NextWhy   string
	// Lag is how old the VM's data was when the run ended; nil records none.
	Lag *Duration
}
