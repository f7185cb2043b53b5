package hotadd

import "time"

// Config is what can be set. The zero Config serves an appliance that finds
// itself.
type Config struct {
	// Appliance names the VM this program runs in, as vsphere.Client.Find takes
	// it. Where it is empty the machine's DMI serial number finds it.
	Appliance string
	// SysfsDir and DevDir are where the kernel shows block devices; the
	// defaults are /sys and /dev.
	SysfsDir, DevDir string
	// AllowNFSStun attaches disks on NFS version 3 also while their VM runs on
	// another host than the appliance, where removing the snapshot stuns the VM
	// for seconds to minutes (KB 2010953).
	AllowNFSStun bool
	Timing       Timing
}

// Timing holds the waits. Each field that is 0 has its default.
type Timing struct {
	// Appear (30 s) is how long a disk may take to appear in the guest. PVSCSI
	// announces it within a second; a loaded appliance needs some more.
	Appear time.Duration
	// Rescan (2 s) is the pause after which SCSI hosts are rescanned while the
	// disk is awaited.
	Rescan time.Duration
	// Vanish (10 s) is how long a deleted device may take to go.
	Vanish time.Duration
	// Poll (50 ms) is the pause between looks at sysfs: it costs microseconds.
	Poll time.Duration
	// RetryFirst (1 s) is the pause before a removal that was refused is tried
	// again; it doubles with each of the Removals.
	RetryFirst time.Duration
	// Undo (5 min) bounds taking back an attachment that was cut off.
	Undo time.Duration
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Appear, 30*time.Second)
	def(&t.Rescan, 2*time.Second)
	def(&t.Vanish, 10*time.Second)
	def(&t.Poll, 50*time.Millisecond)
	def(&t.RetryFirst, time.Second)
	def(&t.Undo, 5*time.Minute)
	return t
}

// removals is how often a removal is tried: with pauses of 1, 2, 4 and 8 s it
// outlasts what a task or a rescan of others takes.
const removals = 5
