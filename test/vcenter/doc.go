// Package vcenter is a simulated vCenter: govmomi's simulator (vcsim) speaking
// SOAP over TLS, with what it lacks added and what it wrongly allows refused.
// A client cannot tell, within what is listed here, that it is no real one.
//
// [New] starts one, [VCenter.URL] and [VCenter.CACert] are what a client needs,
// [VCenter.AddVM] and [VCenter.AddAppliance] fill it. [Disk.ReadAt] and
// [Disk.WriteAt] are the guest's own reads and writes. [VCenter.State] shows
// everything from outside, for invariants. The methods of [VM] are other hands:
// a user, another backup tool, a power failure.
//
// # What is simulated
//
//   - Disks: a base and redo logs, as sparse files in the datastore's directory;
//     a tree of snapshots; removal at any place merges, revert discards, a link
//     that is open elsewhere stays and leaves consolidationNeeded.
//   - Change tracking at 64 KiB: change IDs, when they begin, what ends them, paging
//     at MaxAreas, "*", five backings, and every way in which they lie.
//   - Hot-add: what ESXi refuses, what it punishes (a crash, a stun, a deleted
//     VMDK), and the appliance's guest: sysfs and devices that come and go.
//   - Sessions that expire while idle or are killed, also under a waiting call;
//     privileges by call, object and content of a ReconfigVM; tasks that take
//     time, run one at a time per VM and fail by rule; quiescing that fails or
//     falls back; storage vMotion that moves the files; vMotion.
//   - power: clean ends by VMware Tools that may be stopped or absent
//     ([VM.SetTools]), hard ones, suspended VMs, pending questions ([VM.Ask],
//     [VM.AskAtPowerOn]), and a real guest behind a VM ([VM.SetGuest]), which may
//     run on [Disk.ReadAt], [Disk.WriteAt] and [Disk.Zero] while snapshots come and go;
//   - network adapters with the addresses that Tools tell ([NICSpec]);
//   - methods that somebody disabled and never enabled again;
//   - ExportSnapshot leases that serve stream-optimized VMDKs;
//   - vSphere tags over the REST API, custom attributes, resource pools
//     ([VM.SetTags], [VM.SetAttribute], [VM.SetPool]); several appliances, each
//     with a guest of its own; thousands of VMs ([VCenter.AddFleet]).
//
// # What is not
//
//   - Attached disks are read as files: no SCSI, no latency, no O_DIRECT of a
//     block device. A base is shown to the guest as a link to the file itself, so
//     a write to a nonpersistent disk reaches the source: ESXi would throw it
//     away. Readers open read-only.
//   - One datacenter, one cluster, no DRS, no vSAN or NFS behaviour; a datastore
//     has the free space that [VCenter.SetFreeSpace] says, whatever is written.
//   - A VM made by a client's own CreateVM or CloneVM is vcsim's: its disks hold
//     nothing and none of the above applies to it.
//   - Memory of snapshots, encryption, fault tolerance beyond its flags.
//
// # Faults
//
// [Options.Faults] is asked before every call with a session, and Login, under
// the method's SOAP name and the value of the object's reference. Cut and Stall
// come before the effect (a Stall without Delay lasts until the client goes and
// has none), LostAnswer and WrongBytes behind it, Throttle is HTTP 503,
// DeadSession ends the caller's session first. The Detail of Error and TaskFault
// names a fault type of vim25, with an argument behind a colon for some:
// "NoPermission:VirtualMachine.State.CreateSnapshot", "FileFault:[ds] a/a.vmdk".
// Details of Lie:
//
//	CreateSnapshot_Task     quiesce-fallback
//	RemoveSnapshot_Task     consolidation-needed
//	RevertToSnapshot_Task   keep-change-ids
//	PowerOffVM_Task         cbt-reset
//	ShutdownGuest           guest-ignores
//	QueryChangedDiskAreas   under-report over-report whole-disk empty-page
//	                        unsorted outside gap
//
// REST calls are named "REST session", "REST tag" and so on, see Calls; their
// Error has an HTTP status as its Detail.
//
// A rule that a call cannot play is answered with SystemError saying so.
package vcenter
