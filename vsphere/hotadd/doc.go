// Package hotadd reads frozen disks by attaching them to the appliance, the VM
// that this program runs in (HotAdd). It implements vsphere.Reader with public
// API and no VDDK.
//
//	appliance.go   which VM we are in; the one lock
//	hardware.go    what hangs on it: controllers, slots, disks, marks (pure but for one call)
//	check.go       why a disk must not be attached here (pure)
//	spec.go        the specs that attach and detach (pure)
//	mark.go        the ownership mark
//	attach.go, detach.go  the vCenter side; attached.go, leftovers.go what a crash left
//	guest.go, match.go    the Linux side: which block device it became
//	device.go, device_*.go, reader.go  reading it, and letting it go
//
// Why each step is as it is stands in DESIGN.md beside this file.
package hotadd
