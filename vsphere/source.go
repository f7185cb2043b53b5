package vsphere

import (
	"context"

	"snapferry/transfer"
)

// Reader makes frozen disks readable.
type Reader interface {
	// Obstacle says why no disk like this can be read this way, before
	// anything is frozen.
	Obstacle(disk transfer.Disk) (o transfer.Obstacle, is bool)
	// Open makes a frozen disk readable, as transfer.Frozen.Open.
	Open(ctx context.Context, disk FrozenDisk) (transfer.DiskReader, error)
}

// FrozenDisk is what a Reader is told.
type FrozenDisk struct {
	VM         transfer.VM // as frozen
	Disk       transfer.Disk
	Snapshot   string // moref
	Cycle      transfer.CycleID
	Appliance  transfer.ApplianceID
	Controller string   // where it hangs on its VM: ControllerSCSI, …
	Datastores []string // morefs of the datastores of its links
}

// Options say how one VM is replicated.
type Options struct {
	// Reader opens the frozen disks; nil serves callers that open none.
	Reader Reader
	// MinFree is how many bytes the VM's datastores must have free before its
	// snapshot is made. nil is DefaultMinFree (a tenth of a small datastore),
	// 0 is off.
	MinFree *int64
}

// Source is one VM that can be frozen.
func (c *Client) Source(id transfer.VMID, o Options) transfer.Source {
	return &source{c: c, id: id, o: o}
}

type source struct {
	c  *Client
	id transfer.VMID
	o  Options
}

// Inspect implements transfer.Source, in one call.
func (s *source) Inspect(ctx context.Context) (transfer.VM, error) {
	vm, err := s.c.Inspect(ctx, s.id)
	if err != nil || s.o.Reader == nil {
		return vm, err
	}
	for i := range vm.Disks {
		d := &vm.Disks[i]
		if o, is := s.o.Reader.Obstacle(*d); is && len(d.Obstacles) == 0 {
			d.Obstacles = append(d.Obstacles, o)
		}
	}
	return vm, nil
}
