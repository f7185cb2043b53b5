package vsphere

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// frozen is a VM snapshot of ours: a transfer.Frozen.
type frozen struct {
	c        *Client
	vm       ref
	snapshot ref
	state    transfer.FrozenVM
	devices  []types.BaseVirtualDevice // the snapshot's
	spec     transfer.FreezeSpec
	reader   Reader
	minFree  *int64 // as in Options

	mu      sync.Mutex
	readers int // open, or being opened or closed
	gone    bool
	release release
}

// State implements transfer.Frozen.
func (f *frozen) State() transfer.FrozenVM { return f.state }

// Open implements transfer.Frozen.
func (f *frozen) Open(ctx context.Context, id transfer.DiskID) (transfer.DiskReader, error) {
	disk, ok := f.state.Disk(id)
	op := fmt.Sprintf("open %s of %s", disk.Label, f.state.VM.Name)
	switch {
	case !ok:
		return nil, transfer.Fail(transfer.Permanent, "open disk "+id.String(), errors.New("it is not in the VM snapshot"), "")
	case f.reader == nil:
		return nil, transfer.Fail(transfer.Permanent, op, errors.New("there is no reader"), "")
	case len(disk.Obstacles) > 0:
		return nil, transfer.Fail(transfer.Permanent, op, errors.New(disk.Obstacles[0].Reason), disk.Obstacles[0].Remedy)
	}
	if err := f.take(); err != nil {
		return nil, transfer.Fail(transfer.Permanent, op, err, "")
	}
	if err := f.inPlace(ctx, op, disk); err != nil {
		f.give()
		return nil, err
	}
	device, backing := findDisk(f.devices, id)
	kind, _ := controllerOf(f.devices, device)
	r, err := f.reader.Open(ctx, FrozenDisk{VM: f.state.VM, Disk: disk, Snapshot: f.snapshot.Value,
		Cycle: f.spec.Cycle, Appliance: f.spec.Appliance, Controller: kind, Datastores: backing.stores()})
	if err != nil {
		f.give()
		return nil, err
	}
	return &countedReader{DiskReader: r, f: f}, nil
}

// inPlace checks that the snapshot still is there and its disk where it was:
// a storage vMotion moves files, and others may delete snapshots.
func (f *frozen) inPlace(ctx context.Context, op string, disk transfer.Disk) error {
	facts, err := f.c.fetch(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: f.snapshot}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachineSnapshot", PathSet: []string{"config.hardware.device"}}},
	})
	if err == nil {
		err = facts.denied[f.snapshot]
	}
	if err != nil {
		return f.explain(op, err)
	}
	_, b := findDisk(facts.snapshots[f.snapshot].Config.Hardware.Device, disk.ID)
	if b == nil || b.file != disk.File {
		return transfer.Fail(transfer.Retry, op, fmt.Errorf("its files moved since the freeze (%s)", disk.File),
			"A storage migration ran at the same time; sync again.")
	}
	return nil
}

// explain adds to Explain what a snapshot that is gone means here.
func (f *frozen) explain(op string, err error) error {
	if isGone(err, "VirtualMachineSnapshot") {
		return transfer.Fail(transfer.Retry, op, fmt.Errorf("the VM snapshot %q (%s) was removed by somebody else: %w", f.state.SnapshotName, f.snapshot.Value, err),
			"See the VM's tasks in vCenter for who did it, then sync again.")
	}
	return Explain(op, err)
}

func (f *frozen) take() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return errors.New("the VM snapshot is released")
	}
	f.readers++
	return nil
}

func (f *frozen) give() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers--
}

// Pressed implements transfer.Frozen: it looks at the free space of the
// datastores on which the snapshot grows, in one call for all of them.
func (f *frozen) Pressed(ctx context.Context) (string, error) {
	op := "look at the datastores of " + f.state.VM.Name
	facts, err := f.c.fetchVM(ctx, f.vm, inspectProps)
	if err != nil {
		return "", Explain(op, err)
	}
	if err := checkSpace(facts.vms[f.vm], facts.stores, f.minFree); err != nil {
		return errors.Unwrap(err).Error(), nil
	}
	return "", nil
}

// Release implements transfer.Frozen.
func (f *frozen) Release(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil
	}
	if f.readers > 0 {
		return transfer.Fail(transfer.Permanent, fmt.Sprintf("remove VM snapshot %q", f.state.SnapshotName),
			fmt.Errorf("%s of it still attached", plural(f.readers, "disk")), "Detach first: a snapshot that goes while a disk of it is attached leaves the VM in need of consolidation.")
	}
	if err := f.release.run(ctx); err != nil {
		return err
	}
	f.gone = true
	return nil
}

// countedReader tells the frozen VM when it is closed.
type countedReader struct {
	transfer.DiskReader
	f    *frozen
	once sync.Once
}

func (r *countedReader) Close(ctx context.Context) error {
	if err := r.DiskReader.Close(ctx); err != nil {
		return err
	}
	r.once.Do(r.f.give)
	return nil
}
