package schedule

import (
	"time"

	"snapferry/transfer"
)

// AlarmKind is what is wrong.
type AlarmKind string

// The alarms.
const (
	AlarmStalled     AlarmKind = "stalled"           // a VM's runs fail
	AlarmLag         AlarmKind = "lag"               // a VM is later than its policy asks for, twice over
	AlarmConverge    AlarmKind = "not-converging"    // a VM writes faster than it uploads
	AlarmLeftover    AlarmKind = "leftover-snapshot" // a VM snapshot of ours that stays
	AlarmLeftDisk    AlarmKind = "leftover-disk"     // a disk that still hangs on an appliance
	AlarmDatastore   AlarmKind = "datastore-low"
	AlarmAudit       AlarmKind = "audit-mismatch" // CBT lost a change
	AlarmSuspect     AlarmKind = "suspect-point"
	AlarmCertificate AlarmKind = "certificate-expiry"
	AlarmCredentials AlarmKind = "credentials"
	AlarmAppliance   AlarmKind = "appliance-down"
	AlarmQuota       AlarmKind = "quota"
	AlarmCutover     AlarmKind = "cutover-failed" // a source may be off, and no instance runs
	AlarmTestLeft    AlarmKind = "test-left"      // a test is over and still costs money
	AlarmProof       AlarmKind = "boot-proof"     // a point did not boot, or not to what its checks want
	AlarmOther       AlarmKind = "other"
)

// Alarm is something that a person should look at. It stays until what raised
// it is gone.
type Alarm struct {
	ID      int64         `json:"id"`
	Key     string        `json:"key"` // what it is about: raising the same key again renews it
	Kind    AlarmKind     `json:"kind"`
	VM      transfer.VMID `json:"vm,omitzero"`
	VMName  string        `json:"vmName,omitempty"`
	Text    string        `json:"text"`
	Hint    string        `json:"hint,omitempty"`
	Since   time.Time     `json:"since"`
	Seen    time.Time     `json:"seen"`    // last time it was raised
	Cleared time.Time     `json:"cleared"` // zero while it holds
}
