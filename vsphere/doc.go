// Package vsphere speaks to vCenter: session, inventory, eligibility, freezing
// and releasing VMs, changed areas. It implements transfer.Source and
// transfer.Frozen; how frozen disks are read is a [Reader]'s business, such as
// that of the sub-package hotadd.
//
//	c, err := vsphere.Dial(ctx, vsphere.Config{URL: "vcenter.example.com", …})
//	vm, err := c.Find(ctx, "prod/app01")
//	src := c.Source(vm.ID, vsphere.Options{Reader: appliance})
//
// How the files hang together:
//
//	config.go, tls.go, client.go   what can be set, whom we trust, the client
//	session.go                     one call: count, bound, log in again, repeat what may be repeated
//	fault.go, faults.go            a fault → transfer.Error: kind, privilege, next step (pure)
//	watch.go                       waiting for tasks and properties, through reconnects
//	fetch.go, describe.go          what vCenter says of a VM → transfer.VM
//	backing.go, eligibility.go     disk backings; why a VM or disk cannot be replicated (pure)
//	inventory.go, find.go, match.go  listing, and finding by what a person types
//	source.go, freeze.go, create.go  freezing; tracking.go, space.go decide (pure)
//	mark.go, leftovers.go          the mark of our VM snapshots; what a crash left
//	frozen.go, areas.go, release.go  a frozen VM: open, changed areas, remove
//	power.go, shutdown.go, powerview.go  power on and off, by the guest or by force
//	nics.go, tools.go, untrack.go  what a cutover asks besides; CBT off
//
// # What it relies on
//
// The project's vSphere facts; comments name their rows. The rules that shape
// the package: CBT is enabled only where no VM snapshot exists; paths, sizes
// and change IDs are taken from snapshot.config, never from the live VM; at
// most one VM snapshot of ours exists per VM; only what carries our mark is
// removed, alone, and never a chain that others had a part in is consolidated.
//
// # Privileges
//
// On the VMs: System.Read, System.View (any role has them);
// VirtualMachine.State.CreateSnapshot, VirtualMachine.State.RemoveSnapshot (also
// to consolidate), VirtualMachine.Config.ChangeTracking,
// VirtualMachine.Provisioning.DiskRandomRead. On their datastores:
// Datastore.AllocateSpace. A reader may need more; see its package.
//
// A cutover needs on the VMs besides:
//
//	VirtualMachine.Interact.PowerOff  PowerOff: ShutdownGuest and PowerOffVM_Task
//	VirtualMachine.Interact.PowerOn   PowerOn, to revert: PowerOnVM_Task
//
// NICs and GuestTools need System.Read alone, on the networks too if their names
// are wanted; StopTracking needs ChangeTracking, which replication has.
//
// # Number of calls
//
// A cycle in which nothing changed makes 20 calls, one per disk, and two to six
// waits, with login, lookup by name and logout: tasks are waited for by
// WaitForUpdatesEx, which costs one call a minute, and not polled.
package vsphere
