package scenario

import (
	"io"
	"testing"

	"snapferry/transfer"
)

// World is where a story takes place.
type World struct {
	Name  string
	Store transfer.Store
	// Image reads a completed snapshot as a volume made from it would.
	Image func(transfer.SnapshotID) (io.ReaderAt, int64)
	// NewVM makes a powered-on VM of which nothing was written yet.
	NewVM func(t *testing.T, disks ...Disk) *VM
	// EncryptByDefault switches the account's setting.
	EncryptByDefault func(bool)
	// Calls counts requests to both services.
	Calls func() transfer.Calls
	// Left names what exists of ours in vSphere that should not once a cycle
	// ended: VM snapshots, attached disks, deleted VMDKs, harm to a source.
	Left func() []string
	// Drafts are the EBS snapshots that are not completed.
	Drafts func() []transfer.SnapshotID
}

// Disk is a disk to make.
type Disk struct {
	Size  int64 // bytes, a multiple of 512
	Thick bool  // allocated as a whole
}

// Guest is the live disk, as the guest reads and writes it.
type Guest interface {
	io.ReaderAt
	io.WriterAt
}

// VM is a VM of a world.
type VM struct {
	ID     transfer.VMID
	Source transfer.Source
	Disks  []transfer.DiskID
	Guest  func(disk int) Guest
	// Grow makes a disk larger; it needs the VM without snapshots.
	Grow func(disk int, size int64) error
	// ResetCBT begins a new tracking epoch on all disks.
	ResetCBT func()
	// Frozen reads a disk as a cycle froze it, also after the release.
	Frozen func(cycle transfer.CycleID, disk int) (io.ReaderAt, error)
}
