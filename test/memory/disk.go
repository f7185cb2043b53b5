package memory

import (
	"fmt"
	"maps"
	"strings"
	"sync"

	"snapferry/transfer"
)

// Grain is the granularity of change tracking in bytes, as vSphere's.
const Grain = 64 << 10

// Disk is a virtual disk. Guests write it while frozen copies stay as they
// are. Its methods may be called by many goroutines.
type Disk struct {
	mu      sync.Mutex
	info    transfer.Disk
	grains  map[int64][]byte // a written grain is never changed in place
	changed map[int64]uint64 // sequence of the last write
	seq     uint64
	epoch   string
}

func newDisk(info transfer.Disk) *Disk {
	d := &Disk{info: info, grains: map[int64][]byte{}}
	d.ResetCBT()
	return d
}

// Info describes the disk as it is now, without a change ID.
func (d *Disk) Info() transfer.Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.info
}

// WriteAt is a write of the guest.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.info.Size {
		return 0, fmt.Errorf("write %d bytes at %d: the disk has %d", len(p), off, d.info.Size)
	}
	n := len(p)
	for len(p) > 0 {
		i, in := off/Grain, off%Grain
		g := make([]byte, Grain)
		copy(g, d.grains[i])
		k := copy(g[in:], p)
		d.grains[i], d.changed[i] = g, d.seq
		p, off = p[k:], off+int64(k)
	}
	return n, nil
}

// WriteUntracked is a write that change tracking loses, as happened (KB 317933).
func (d *Disk) WriteUntracked(p []byte, off int64) {
	d.mu.Lock()
	before := maps.Clone(d.changed)
	d.mu.Unlock()
	_, _ = d.WriteAt(p, off)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = before
}

// ReadAt reads what the guest would.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return readGrains(d.grains, d.info.Size, p, off)
}

func readGrains(grains map[int64][]byte, size int64, p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > size {
		return 0, fmt.Errorf("read %d bytes at %d: the disk has %d", len(p), off, size)
	}
	n := len(p)
	for len(p) > 0 {
		in := off % Grain
		k := min(int64(len(p)), Grain-in)
		if g := grains[off/Grain]; g != nil {
			copy(p[:k], g[in:])
		} else {
			clear(p[:k])
		}
		p, off = p[k:], off+k
	}
	return n, nil
}

// Grow makes the disk larger, which resets change tracking.
func (d *Disk) Grow(size int64) {
	d.mu.Lock()
	d.info.Size = size
	d.mu.Unlock()
	d.ResetCBT()
}

// Shrink is what vSphere never does.
func (d *Disk) Shrink(size int64) { d.Grow(size) }

// ResetCBT starts a new tracking epoch, as a power loss does.
func (d *Disk) ResetCBT() {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := transfer.NewCycleID(epochStart)
	d.epoch, d.seq, d.changed = "52 "+strings.Trim(string(id), "-"), 1, map[int64]uint64{}
}

// frozenDisk is a disk at one snapshot.
type frozenDisk struct {
	info    transfer.Disk
	grains  map[int64][]byte
	changed map[int64]uint64
	epoch   string
	seq     uint64
}

func (d *Disk) freeze(tracked bool) *frozenDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &frozenDisk{info: d.info, grains: maps.Clone(d.grains), changed: maps.Clone(d.changed), epoch: d.epoch, seq: d.seq}
	if tracked {
		f.info.ChangeID = transfer.ChangeID(fmt.Sprintf("%s/%d", d.epoch, d.seq))
	}
	d.seq++
	return f
}
