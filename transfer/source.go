package transfer

import (
	"context"
	"io"
	"time"
)

// VM is a source virtual machine as vCenter describes it at one moment.
type VM struct {
	ID           VMID   `json:"id"`
	InstanceUUID string `json:"instanceUUID"`
	Name         string `json:"name"`
	Path         string `json:"path"` // inventory path, "/DC0/vm/prod/app01"
	PoweredOn    bool   `json:"poweredOn"`
	Host         string `json:"host"`           // name of the ESXi host it runs on
	Pool         string `json:"pool,omitempty"` // path of its resource pool
	// Tags are vSphere tags, "category:tag"; Attributes custom attributes.
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	CBT        bool              `json:"cbt"`       // config.changeTrackingEnabled
	Snapshots  int               `json:"snapshots"` // VM snapshots there are, of anybody
	Guest      Guest             `json:"guest"`
	Disks      []Disk            `json:"disks"`
	Obstacles  []Obstacle        `json:"obstacles,omitempty"` // why the VM as a whole cannot be replicated
}

// Guest is what a launch needs to know about the machine.
type Guest struct {
	ID         string `json:"id"`       // vSphere's guestId, "debian12_64Guest"
	Firmware   string `json:"firmware"` // "bios" or "efi"
	SecureBoot bool   `json:"secureBoot"`
	CPUs       int    `json:"cpus"`
	MemoryMiB  int64  `json:"memoryMiB"`
}

// Disk is one virtual disk of a VM.
type Disk struct {
	ID        DiskID     `json:"id"`
	Label     string     `json:"label"`     // "Hard disk 1"
	Size      int64      `json:"size"`      // bytes; a multiple of 512, not of a block or a GiB
	Datastore string     `json:"datastore"` // name of the datastore of the disk's base
	File      string     `json:"file"`      // datastore path, "[ds] app01/app01.vmdk"
	Backing   string     `json:"backing"`   // "flat", "sesparse", "sparse", "rdm-virtual", "raw-disk", …
	ChangeID  ChangeID   `json:"changeID,omitempty"`
	Allocated int64      `json:"allocated,omitempty"` // bytes the disk's files take, 0 when unknown
	Obstacles []Obstacle `json:"obstacles,omitempty"` // why this disk cannot be replicated
}

// Obstacle is a reason against replicating, and what removes it.
type Obstacle struct {
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

// Quiesce says how hard to try for a file-system-consistent freeze.
type Quiesce string

// The quiesce policies. Whatever is asked, FrozenVM.Quiesced tells the truth.
const (
	QuiesceOff     Quiesce = "off"     // crash-consistent
	QuiesceTry     Quiesce = "try"     // ask; fall back to crash-consistent
	QuiesceRequire Quiesce = "require" // fail the cycle rather than fall back
)

// FreezeSpec is what a freeze is asked for.
type FreezeSpec struct {
	Cycle     CycleID
	Appliance ApplianceID
	Quiesce   Quiesce
}

// FrozenVM is a VM at the instant of its snapshot. Sizes, files and change IDs
// of its disks are the snapshot's own, never the live VM's.
type FrozenVM struct {
	VM           VM        `json:"vm"`
	Snapshot     string    `json:"snapshot"`     // moref of the VM snapshot
	SnapshotName string    `json:"snapshotName"` // carries our mark and the cycle
	At           time.Time `json:"at"`           // vCenter's createTime
	Quiesced     bool      `json:"quiesced"`     // what really happened
	// Tracking is why change IDs are missing where they are, in words for a
	// person; empty when CBT works as it should.
	Tracking string `json:"tracking,omitempty"`
}

// Disk returns the frozen disk with this ID.
func (f FrozenVM) Disk(id DiskID) (Disk, bool) {
	for _, d := range f.VM.Disks {
		if d.ID == id {
			return d, true
		}
	}
	return Disk{}, false
}

// Source is one VM that can be frozen. Its methods may be called by one cycle
// at a time.
type Source interface {
	// Inspect describes the VM as it is now and changes nothing.
	Inspect(ctx context.Context) (VM, error)

	// Freeze takes one VM snapshot that carries our mark. Where CBT is off and
	// no VM snapshot exists it enables CBT first; where it cannot, the change
	// IDs stay empty and Tracking says why. It refuses a VM that needs disk
	// consolidation or on which a snapshot of ours exists already. On error
	// nothing of it is left behind, even when ctx has ended, or the error says
	// what is.
	Freeze(ctx context.Context, spec FreezeSpec) (Frozen, error)
}

// Frozen is a VM snapshot of ours while it exists.
type Frozen interface {
	// State is what was frozen; it makes no call.
	State() FrozenVM

	// Areas calls yield for each area of a disk that changed since a change
	// ID, or that is allocated (AllAllocated), in ascending order, disjoint,
	// inside the disk, as many pages as it takes. A change ID that vSphere
	// does not accept, or pages that do not join, is an error of kind
	// BaselineLost; an unsupported "*" too. An error of yield is returned as
	// it is. May be called for several disks at once.
	Areas(ctx context.Context, disk DiskID, since ChangeID, yield func(Extent) error) error

	// Open makes the frozen disk readable. Several disks may be open at once,
	// one reader each.
	Open(ctx context.Context, disk DiskID) (DiskReader, error)

	// Pressed says why the VM snapshot should not live on, in words for a
	// person: a datastore on which it grows runs low. "" when all is well.
	Pressed(ctx context.Context) (why string, err error)

	// Release removes the VM snapshot and waits until vSphere has consolidated
	// it. Every reader must be closed before. It gets a context of its own
	// from the cycle, not the cancelled one, and may be called again after an
	// error; after success it does nothing.
	Release(ctx context.Context) error
}

// DiskReader reads one frozen disk.
type DiskReader interface {
	// ReadAt reads from the disk as it was frozen. Offset and length are
	// multiples of 512 inside the disk; the pipeline's buffers are aligned for
	// O_DIRECT. May be called by many goroutines at once.
	io.ReaderAt

	// Close detaches the disk, with a context of its own as in Release. The
	// VM snapshot must not be released while it fails.
	Close(ctx context.Context) error
}
