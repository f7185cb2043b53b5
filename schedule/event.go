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
