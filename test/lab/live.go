package lab

import (
	"context"

	"snapferry/nbd"
	"snapferry/test/vcenter"
)

// liveDisk is a guest's disk as an NBD export. A guest may run on it while
// snapshots are made, read and removed: its requests wait for an instant then,
// as in a stun, and for each other not at all.
type liveDisk struct{ *vcenter.Disk }

// Flush implements nbd.Flusher. A virtual disk has no cache of its own: a write
// that was answered is in the disk's files, and outlives the VM's power. It does
// not outlive this machine's.
func (liveDisk) Flush(context.Context) error { return nil }

// Zero implements nbd.Zeroer.
func (d liveDisk) Zero(_ context.Context, off, n int64, mayDeallocate bool) error {
	return d.Disk.Zero(off, n, mayDeallocate)
}

// Extents implements nbd.Extenter.
func (d liveDisk) Extents(_ context.Context, off, n int64) ([]nbd.Extent, error) {
	areas, err := d.Areas(off, n)
	if err != nil {
		return nil, err
	}
	all := make([]nbd.Extent, len(areas))
	for i, a := range areas {
		all[i] = nbd.Extent{Offset: a.Offset, Length: a.Length}
		if !a.Allocated {
			all[i].Flags = nbd.StateHole | nbd.StateZero
		}
	}
	return all, nil
}

// MultiConn implements nbd.MultiConner.
func (liveDisk) MultiConn() bool { return true }
