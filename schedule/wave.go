package schedule

import "snapferry/transfer"

// Wave is a named group of VMs that go together.
type Wave struct {
	Name string          `json:"name"`
	Note string          `json:"note,omitempty"`
	VMs  []transfer.VMID `json:"vms"`
}
