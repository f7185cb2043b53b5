package schedule

import (
	"slices"
	"time"

	"snapferry/transfer"
)

// Appliance is one connector of the fleet.
type Appliance struct {
	ID      transfer.ApplianceID `json:"id"`
	Version string               `json:"version"`
	VM      string               `json:"vm"`      // its own moref; "" outside vSphere
	Host    string               `json:"host"`    // ESXi host it runs on
	VCenter string               `json:"vcenter"` // instance UUID of the vCenter it works with
	Account string               `json:"account"` // AWS account and region, "123456789012/eu-central-1"
	// Datastores it can hot-add from, by name; empty when every one is readable.
	Datastores []string  `json:"datastores"`
	Started    time.Time `json:"started"`
	Seen       time.Time `json:"seen"`
	Alive      bool      `json:"alive"`
	Draining   bool      `json:"draining,omitempty"` // takes nothing new: it is about to stop
}

// Reaches reports whether it can read disks on all of these datastores.
func (a *Appliance) Reaches(datastores []string) bool {
	if len(a.Datastores) == 0 {
		return true
	}
	for _, d := range datastores {
		if !slices.Contains(a.Datastores, d) {
			return false
		}
	}
	return true
}
