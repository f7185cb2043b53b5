package schedule

import "snapferry/transfer"

// Wanted is a run to queue.
type Wanted struct {
	VM      transfer.VMID
	Trigger string
	Seed    bool
	Policy  string
	// Priority of the policy; what a person asks for goes before all of it.
	Priority int
	Urgent   bool
}

// Place is what of a run counts towards limits.
type Place struct {
	Run        int64
	VM         transfer.VMID
	Host       string
	Datastores []string
	Disks      int
	Appliance  transfer.ApplianceID // "" while it is queued
	Account    string               // of the appliance; "" while it is queued
	Urgent     bool
	Priority   int
	Queued     int64 // milliseconds since the epoch: first come, first served
}

// Scene is everything that decides which runs start: read, decided upon and
// written in one transaction, so that limits hold at every instant.
type Scene struct {
	Limits     Limits
	Active     []Place // starting or running
	Queued     []Place
	Appliances []Appliance
}

// Grant lets a run start on an appliance.
type Grant struct {
	Run       int64
	VM        transfer.VMID
	Appliance transfer.ApplianceID
}
