package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"snapferry/transfer"
)

var epochStart = time.Unix(0, 0)

// VM is a virtual machine that can be frozen: a transfer.Source.
type VM struct {
	// MayStar says whether "*" is answered. Set before use.
	MayStar bool
	// NoCBT: change IDs are missing, for this reason. Set between cycles.
	NoCBT string
	// ReleaseErr and CloseErr make clean-up fail. Set between cycles.
	ReleaseErr, CloseErr error
	// Pressed, when set, is what Frozen.Pressed answers.
	Pressed func() string
	// OnFreeze, when set, sees each frozen state.
	OnFreeze func(*Frozen)
	// ReadHook, when set, runs before each read of a frozen disk.
	ReadHook func(disk transfer.DiskID, off int64) error

	mu        sync.Mutex
	info      transfer.VM
	disks     []*Disk
	snapshots int // of ours, existing
	attached  int
	attaches  int // ever
	clock     time.Time
}

// NewVM returns a powered-on VM with CBT and disks of these sizes.
func NewVM(name string, sizes ...int64) *VM {
	v := &VM{MayStar: true, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	v.info = transfer.VM{
		ID: transfer.VMID{VCenter: "vc-1", Moref: "vm-" + name}, InstanceUUID: "50-" + name, Name: name,
		Path: "/DC0/vm/" + name, PoweredOn: true, CBT: true,
	}
	for i, size := range sizes {
		v.AddDisk(int32(2000+i), size)
	}
	return v
}

// AddDisk adds a disk with a UUID of its own.
func (v *VM) AddDisk(key int32, size int64) *Disk {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := newDisk(transfer.Disk{
		ID:    transfer.DiskID{Key: key, UUID: fmt.Sprintf("6000c29-%d-%d", key, len(v.disks))},
		Label: fmt.Sprintf("Hard disk %d", key-1999), Size: size, Backing: "flat",
		File: fmt.Sprintf("[ds1] %s/%d.vmdk", v.info.Name, key),
	})
	v.disks = append(v.disks, d)
	return d
}

// RemoveDisk takes the disk with this place in the order of adding from the VM.
func (v *VM) RemoveDisk(i int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.disks = slices.Delete(slices.Clone(v.disks), i, i+1)
}

// Disk returns the disk with this place in the order of adding.
func (v *VM) Disk(i int) *Disk { return v.disks[i] }

// Edit changes what Inspect says, obstacles for one.
func (v *VM) Edit(f func(*transfer.VM)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.info)
}

// Left returns how many VM snapshots and attached disks exist now.
func (v *VM) Left() (snapshots, attached int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.snapshots, v.attached
}

// Attaches is how often a frozen disk was opened, ever.
func (v *VM) Attaches() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.attaches
}

// Inspect implements transfer.Source.
func (v *VM) Inspect(ctx context.Context) (transfer.VM, error) {
	if err := ctx.Err(); err != nil {
		return transfer.VM{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	vm := v.info
	obstacles := map[transfer.DiskID][]transfer.Obstacle{}
	for _, d := range v.info.Disks { // Edit may have put obstacles there
		obstacles[d.ID] = d.Obstacles
	}
	vm.Disks = nil
	for _, d := range v.disks {
		info := d.Info()
		info.Obstacles = obstacles[info.ID]
		vm.Disks = append(vm.Disks, info)
	}
	return vm, nil
}

// Freeze implements transfer.Source.
func (v *VM) Freeze(ctx context.Context, spec transfer.FreezeSpec) (transfer.Frozen, error) {
	vm, err := v.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.snapshots > 0 {
		return nil, transfer.Fail(transfer.Permanent, "freeze "+vm.Name, errors.New("a snapshot of ours exists already"), "")
	}
	v.snapshots++
	v.clock = v.clock.Add(time.Minute)
	f := &Frozen{vm: v, disks: map[transfer.DiskID]*frozenDisk{}}
	f.state = transfer.FrozenVM{VM: vm, Snapshot: "snapshot-" + string(spec.Cycle), SnapshotName: "snapferry-" + string(spec.Cycle), At: v.clock, Tracking: v.NoCBT}
	f.state.VM.Disks = nil
	for _, d := range v.disks {
		fd := d.freeze(v.NoCBT == "")
		f.disks[fd.info.ID] = fd
		f.state.VM.Disks = append(f.state.VM.Disks, fd.info)
	}
	if v.OnFreeze != nil {
		v.OnFreeze(f)
	}
	return f, nil
}

// Frozen is a VM snapshot: a transfer.Frozen.
type Frozen struct {
	vm       *VM
	state    transfer.FrozenVM
	disks    map[transfer.DiskID]*frozenDisk
	mu       sync.Mutex
	open     int
	released bool
}

// State implements transfer.Frozen.
func (f *Frozen) State() transfer.FrozenVM { return f.state }

// Image reads a frozen disk whenever, even after the release: for comparing.
func (f *Frozen) Image(id transfer.DiskID) (io.ReaderAt, int64) {
	d := f.disks[id]
	return image{
		read: func(p []byte, off int64) (int, error) { return readGrains(d.grains, d.info.Size, p, off) },
		hole: func(off, n int64) bool {
			for g := off / Grain; g*Grain < off+n; g++ {
				if d.grains[g] != nil {
					return false
				}
			}
			return true
		},
	}, d.info.Size
}

// image reads a frozen disk or a volume.
type image struct {
	read func([]byte, int64) (int, error)
	hole func(off, n int64) bool
}

func (i image) ReadAt(p []byte, off int64) (int, error) { return i.read(p, off) }

// Hole reports that the range is zeros that nobody ever wrote: comparing the
// rest of two images is enough.
func (i image) Hole(off, n int64) bool { return i.hole(off, n) }

// Areas implements transfer.Frozen.
func (f *Frozen) Areas(ctx context.Context, id transfer.DiskID, since transfer.ChangeID, yield func(transfer.Extent) error) error {
	d := f.disks[id]
	if d == nil {
		return transfer.Fail(transfer.Permanent, "query changed areas", fmt.Errorf("no disk %s", id), "")
	}
	if f.isReleased() {
		return transfer.Fail(transfer.Permanent, "query changed areas", errors.New("the VM snapshot is gone"), "")
	}
	seq, ok := since.Sequence()
	switch {
	case since == transfer.AllAllocated && !f.vm.MayStar:
		return transfer.Fail(transfer.BaselineLost, "query allocated areas", errors.New("not supported here"), "")
	case since != transfer.AllAllocated && (!ok || since.Epoch() != d.epoch || seq > d.seq):
		return transfer.Fail(transfer.BaselineLost, "query changed areas", fmt.Errorf("vSphere: Error caused by file %s", d.info.File), "")
	}
	var hits []int64
	for g := range d.grains {
		if since == transfer.AllAllocated || d.changed[g] > seq {
			hits = append(hits, g)
		}
	}
	slices.Sort(hits)
	for i := 0; i < len(hits); {
		n := 1
		for i+n < len(hits) && hits[i+n] == hits[i]+int64(n) {
			n++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		off := hits[i] * Grain
		if err := yield(transfer.Extent{Offset: off, Length: min(int64(n)*Grain, d.info.Size-off)}); err != nil {
			return err
		}
		i += n
	}
	return nil
}

func (f *Frozen) isReleased() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.released
}

// Open implements transfer.Frozen.
func (f *Frozen) Open(ctx context.Context, id transfer.DiskID) (transfer.DiskReader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := f.disks[id]
	if d == nil || f.isReleased() {
		return nil, transfer.Fail(transfer.Permanent, "open disk", fmt.Errorf("no frozen disk %s", id), "")
	}
	f.mu.Lock()
	f.open++
	f.mu.Unlock()
	f.vm.mu.Lock()
	f.vm.attached++
	f.vm.attaches++
	f.vm.mu.Unlock()
	return &reader{f: f, d: d}, nil
}

// Pressed implements transfer.Frozen.
func (f *Frozen) Pressed(context.Context) (string, error) {
	if f.vm.Pressed == nil {
		return "", nil
	}
	return f.vm.Pressed(), nil
}

// Release implements transfer.Frozen.
func (f *Frozen) Release(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.released:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case f.open > 0:
		return transfer.Fail(transfer.Permanent, "release", fmt.Errorf("%d readers are open", f.open), "")
	case f.vm.ReleaseErr != nil:
		return f.vm.ReleaseErr
	}
	f.released = true
	f.vm.mu.Lock()
	defer f.vm.mu.Unlock()
	f.vm.snapshots--
	return nil
}

type reader struct {
	f      *Frozen
	d      *frozenDisk
	mu     sync.Mutex
	closed bool
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if len(p)%transfer.SectorSize != 0 || off%transfer.SectorSize != 0 {
		return 0, fmt.Errorf("read of %d bytes at %d is not in sectors", len(p), off)
	}
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed || r.f.isReleased() {
		return 0, errors.New("read a disk that is not attached")
	}
	if hook := r.f.vm.ReadHook; hook != nil {
		if err := hook(r.d.info.ID, off); err != nil {
			return 0, err
		}
	}
	return readGrains(r.d.grains, r.d.info.Size, p, off)
}

func (r *reader) Close(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := r.f.vm.CloseErr; err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.f.mu.Lock()
	r.f.open--
	r.f.mu.Unlock()
	r.f.vm.mu.Lock()
	r.f.vm.attached--
	r.f.vm.mu.Unlock()
	return nil
}
