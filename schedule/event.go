package schedule

import (
	"encoding/json"
	"time"

	"snapferry/transfer"
)

// EventKind names what happened, in names like MGN's.
type EventKind string

// The events.
const (
	EventVMAdded        EventKind = "SOURCE_SERVER_ADDED"
	EventVMGone         EventKind = "SOURCE_SERVER_GONE"
	EventRunQueued      EventKind = "REPLICATION_QUEUED"
	EventRunStart       EventKind = "REPLICATION_START"
	EventRunEnd         EventKind = "REPLICATION_END"
	EventRunFail        EventKind = "REPLICATION_FAIL"
	EventRunCancelled   EventKind = "REPLICATION_CANCELLED"
	EventRunTakenOver   EventKind = "REPLICATION_TAKEN_OVER"
	EventInitialDone    EventKind = "INITIAL_SYNC_COMPLETE"
	EventStalled        EventKind = "REPLICATION_STALLED"
	EventRecovered      EventKind = "REPLICATION_RECOVERED"
	EventPaused         EventKind = "REPLICATION_PAUSED"
	EventResumed        EventKind = "REPLICATION_RESUMED"
	EventPruned         EventKind = "POINTS_PRUNED"
	EventLifecycle      EventKind = "LIFECYCLE_STATE_CHANGE"
	EventAlarm          EventKind = "ALARM_RAISED"
	EventAlarmCleared   EventKind = "ALARM_CLEARED"
	EventPolicyChanged  EventKind = "POLICY_CHANGED"
	EventWaveChanged    EventKind = "WAVE_CHANGED"
	EventApplianceUp    EventKind = "APPLIANCE_CONNECTED"
	EventApplianceDown  EventKind = "APPLIANCE_LOST"
	EventSettingsChange EventKind = "SETTINGS_CHANGED"

	// Those of launch runs. Event.Run stays 0, since it is a replication's; Data
	// is a LaunchTold.
	EventLaunchQueued    EventKind = "LAUNCH_QUEUED"
	EventLaunchCancelled EventKind = "LAUNCH_CANCELLED"
	EventTestStart       EventKind = "TEST_LAUNCH_START"
	EventTestEnd         EventKind = "TEST_LAUNCH_END"
	EventTestFail        EventKind = "TEST_LAUNCH_FAIL"
	EventTestTerminated  EventKind = "TEST_TERMINATED"
	EventTerminateFail   EventKind = "TEST_TERMINATE_FAIL"
	EventCutoverStart    EventKind = "CUTOVER_START"
	EventCutoverEnd      EventKind = "CUTOVER_END"
	EventCutoverFail     EventKind = "CUTOVER_FAIL"
	EventRevertStart     EventKind = "REVERT_START"
	EventRevertEnd       EventKind = "REVERT_END"
	EventRevertFail      EventKind = "REVERT_FAIL"
	EventFinalizeStart   EventKind = "FINALIZE_START"
	EventFinalizeEnd     EventKind = "FINALIZE_END"
	EventFinalizeFail    EventKind = "FINALIZE_FAIL"
	EventBootProved      EventKind = "BOOT_PROVED"
)

// Event is something that happened; webhooks carry it as it stands here.
type Event struct {
	ID     int64           `json:"id"` // rising
	At     time.Time       `json:"at"`
	Kind   EventKind       `json:"kind"`
	VM     transfer.VMID   `json:"vm,omitzero"`
	VMName string          `json:"vmName,omitempty"`
	Run    int64           `json:"run,omitempty"`
	Actor  string          `json:"actor,omitempty"` // who caused it: a token's name, "schedule", an appliance
	Text   string          `json:"text"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// LaunchTold is the data of an event about a launch run.
type LaunchTold struct {
	LaunchRun int64        `json:"launchRun"`
	Action    LaunchAction `json:"action"`
	Job       string       `json:"job,omitempty"` // once known
	Wave      string       `json:"wave,omitempty"`
	Trigger   string       `json:"trigger,omitempty"`
	Prove     bool         `json:"prove,omitempty"` // a test that proves a point
	Epoch     int64        `json:"epoch,omitempty"` // from 2 on it was interrupted before
	Error     string       `json:"error,omitempty"`
	Hint      string       `json:"hint,omitempty"`
}

// Deed is an entry of the audit log: who asked for what.
type Deed struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Role    string    `json:"role"`
	From    string    `json:"from,omitempty"` // remote address
	Action  string    `json:"action"`         // "pause", "POST /api/v1/vms/…/sync"
	Subject string    `json:"subject,omitempty"`
	Result  string    `json:"result"` // "ok" or the error
}
