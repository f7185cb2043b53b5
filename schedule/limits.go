package schedule

// Limits are how many may run at once. Zero is no limit.
type Limits struct {
	PerVCenter   int `json:"perVCenter" yaml:"perVCenter"`     // runs
	PerHost      int `json:"perHost" yaml:"perHost"`           // runs on VMs of one ESXi host
	PerDatastore int `json:"perDatastore" yaml:"perDatastore"` // VM snapshots of ours open on one datastore: runs that touch it
	PerAppliance int `json:"perAppliance" yaml:"perAppliance"` // runs
	// Disks is how many frozen disks hang on one appliance. ReconfigVM takes 64
	// on four PVSCSI controllers; some are the appliance's own.
	Disks int `json:"disks" yaml:"disks"`
	// Drafts is how many pending snapshots an AWS account may have: each disk of
	// a run is one. The quota is 100.
	Drafts int `json:"drafts" yaml:"drafts"`
	// PutsPerSecond of an AWS account, divided among the appliances that use it;
	// 0 is what the region grants.
	PutsPerSecond float64 `json:"putsPerSecond" yaml:"putsPerSecond"`
}

// DefaultLimits hold where nobody says otherwise.
func DefaultLimits() Limits {
	return Limits{
		PerVCenter:   40, // tasks of more than that queue up in vCenter itself
		PerHost:      4,  // removing a VM snapshot is paid for by its host
		PerDatastore: 8,  // redo logs that grow on one datastore
		PerAppliance: 16, // 16 runs of two disks fill a 10 Gbit/s link several times over
		Disks:        60,
		Drafts:       95, // five are left to others
	}
}
