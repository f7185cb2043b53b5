package schedule

import (
	"slices"
	"time"

	"snapferry/transfer"
)

// VM is a source VM as the connector keeps it: what vCenter last said of it,
// what is wanted for it, and what its cycles have shown.
type VM struct {
	transfer.VM
	Seen time.Time `json:"seen"` // when the inventory last had it
	Gone bool      `json:"gone,omitempty"`

	Policy string `json:"policy"` // of Assign; "" is not replicated
	// Chosen is the policy that a person gave it; it goes before every match.
	Chosen    string    `json:"chosen,omitempty"`
	Paused    bool      `json:"paused"`
	PausedWhy string    `json:"pausedWhy,omitempty"`
	Lifecycle Lifecycle `json:"lifecycle"`
	Wave      string    `json:"wave,omitempty"`
	Launch    Launch    `json:"launch"`

	// Next is when it is due, zero when it is not, and NextWhy in words.
	Next    time.Time `json:"next"`
	NextWhy string    `json:"nextWhy,omitempty"`
	// LastRun is the newest run's ID, 0 when there was none. Fails counts the
	// failed runs since the last that succeeded.
	LastRun int64     `json:"lastRun,omitempty"`
	Fails   int       `json:"fails,omitempty"`
	Reason  Reason    `json:"reason,omitempty"`  // of the last failure while Fails > 0
	Problem string    `json:"problem,omitempty"` // the same in words
	Point   LastPoint `json:"point"`
	Measure Measure   `json:"measure"`
}

// LastPoint is what is known of a VM's newest complete recovery point.
type LastPoint struct {
	Cycle transfer.CycleID `json:"cycle,omitempty"` // "" when there is none
	// Instant is the latest moment whose data it holds; the lag is reckoned
	// from it.
	Instant time.Time `json:"instant"`
	Suspect string    `json:"suspect,omitempty"`
}

// Launch is what CSV and API carry for the launch of a VM; package launch
// gives it its meaning. Keys are its settings' names, such as "subnet" and
// "instanceType"; those of the test have the prefix "test.".
type Launch map[string]string

// Datastores are the names of the datastores of the VM's disks, each once, in
// order.
func (v *VM) Datastores() []string {
	var names []string
	for _, d := range v.Disks {
		names = append(names, d.Datastore)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Bytes is the size of all disks together.
func (v *VM) Bytes() int64 {
	var n int64
	for _, d := range v.Disks {
		n += d.Size
	}
	return n
}
