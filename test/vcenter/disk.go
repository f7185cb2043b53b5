package vcenter

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
)

// SectorSize is the logical sector of every virtual disk, in bytes.
const SectorSize = 512

// ErrOutside is what a guest gets for a read or write past the end of a disk.
var ErrOutside = errors.New("outside the disk")

// Disk is one virtual disk: its chain of files and its change tracking. Its
// ReadAt and WriteAt are the guest's own reads and writes. All methods may be
// called by many goroutines at once.
type Disk struct {
	vm   *VM
	key  int32
	uuid string // as vSphere prints it: "6000C29a-…"
	spec DiskSpec

	label, objectID  string
	controller, unit int32

	// SectorSize is the logical sector in bytes (512).
	SectorSize int

	// mu is held for reading by reads and writes of the guest, which do not wait
	// for each other, and for writing by what stuns it.
	mu     sync.RWMutex
	locks  grainLocks
	size   int64
	top    *link
	links  []*link            // every file of the disk, the base first
	frozen map[string]*frozen // by snapshot moref
	track  *tracker           // nil: not tracking
	// folding are the grains that were written since a merge copied them.
	folding *bitmap
	lie     allocation
	// emptyPages counts down the pages of no areas that QueryChangedDiskAreas
	// puts between real ones.
	emptyPages int
}

// frozen is one disk at one snapshot.
type frozen struct {
	link  *link
	size  int64
	track *tracker // nil: was not tracked
	seq   int
}

func (f *frozen) changeID() string {
	if f.track == nil {
		return ""
	}
	return f.track.id(f.seq)
}

// Key is the device key, which never changes while the disk is attached.
func (d *Disk) Key() int32 { return d.key }

// UUID is the backing's uuid in vSphere's form, "6000C29a-…".
func (d *Disk) UUID() string { return d.uuid }

// Size is the capacity in bytes.
func (d *Disk) Size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.size
}

// Path is the datastore path of the base link.
func (d *Disk) Path() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.links[0].path()
}

// Files returns the host paths of all files of the disk: descriptor and
// extent of the base, then of each redo log.
func (d *Disk) Files() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var files []string
	for _, l := range d.links {
		files = append(files, l.descriptor(), l.extent())
	}
	return files
}

// ReadAt is a read by the guest: what the disk holds now. A read that crosses
// the end returns what lies before it and io.EOF, one behind it ErrOutside.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return readInside(d.top, d.size, p, off)
}

func readInside(l *link, size int64, p []byte, off int64) (int, error) {
	if off < 0 || off > size {
		return 0, fmt.Errorf("read %d bytes at %d of %d: %w", len(p), off, size, ErrOutside)
	}
	n := min(int64(len(p)), size-off)
	if err := l.read(p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// WriteAt is a write by the guest: into the newest link, noted by change
// tracking. A write that leaves the disk fails whole with ErrOutside.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.inside("write", off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	// A write that fails half-way has changed something, too.
	defer d.wrote(off, int64(len(p)))
	if err := d.top.write(p, off, &d.locks); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *Disk) inside(what string, off, n int64) error {
	if off < 0 || n < 0 || off > d.size-n {
		return fmt.Errorf("%s %d bytes at %d of %d: %w", what, n, off, d.size, ErrOutside)
	}
	return nil
}

// wrote notes what a write has changed, for change tracking and for a merge that
// goes on beside it.
func (d *Disk) wrote(off, n int64) {
	if d.track != nil {
		d.track.touch(off, n)
	}
	if d.folding != nil {
		d.folding.addRange(off/grain, (off+n+grain-1)/grain)
	}
}

// lossyGrowth is the size past which growth makes tracking lossy in silence
// (KB 310751).
const lossyGrowth = 128 << 30

// Grow makes the disk larger, as a user would. Like vSphere it refuses while
// a snapshot exists, and never shrinks.
func (d *Disk) Grow(size int64) error {
	d.vm.v.ops.Lock()
	defer d.vm.v.ops.Unlock()
	if err := d.grow(size); err != nil {
		return err
	}
	d.vm.publish()
	return nil
}

func (d *Disk) grow(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case size < d.size || size%SectorSize != 0:
		return fmt.Errorf("grow disk %d from %d to %d bytes: not larger or not whole sectors", d.key, d.size, size)
	case len(d.links) > 1:
		return fmt.Errorf("grow disk %d: it has snapshots", d.key)
	}
	if err := d.top.file.Truncate(size); err != nil {
		return fmt.Errorf("grow disk %d: %w", d.key, err)
	}
	if d.track != nil && d.size <= lossyGrowth && size > lossyGrowth {
		d.track.lossy = true
	}
	d.size, d.top.size = size, size
	d.top.held.reserve((size + grain - 1) / grain)
	if d.track != nil {
		d.track.epochs[len(d.track.epochs)-1].reserve((size + grain - 1) / grain)
	}
	return nil
}

// ResetCBT begins a new life of change tracking, as a power loss does: every
// change ID given out so far becomes invalid. It does nothing on a disk that
// is not tracked.
func (d *Disk) ResetCBT() {
	d.mu.Lock()
	if d.track != nil {
		d.track = newTracker(d.size)
	}
	d.mu.Unlock()
	d.vm.republish()
}

// trackable reports whether ESXi can track this disk at all.
func (d *Disk) trackable() bool {
	return d.snapshotable() && d.spec.Backing != FlatVer1 && !d.spec.NoCBT && d.vm.spec.HardwareVersion >= 7
}

// snapshotable reports whether a snapshot freezes this disk.
func (d *Disk) snapshotable() bool {
	return !strings.HasPrefix(d.spec.Mode, "independent") && d.spec.Backing != RDMPhysical
}

// startTracking makes tracking real at a stun; lossy if snapshots existed
// when it was asked for.
func (d *Disk) startTracking(lossy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.track == nil && d.trackable() {
		d.track = newTracker(d.size)
		d.track.lossy = lossy
	}
}

func (d *Disk) stopTracking() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.track = nil
}

// nextDelta names the redo log that the next snapshot adds. Numbers in use
// are not taken twice.
func (d *Disk) nextDelta() string {
	stem := strings.TrimSuffix(d.links[0].rel, ".vmdk")
	for n := 1; ; n++ {
		rel := fmt.Sprintf("%s-%06d.vmdk", stem, n)
		used := false
		for _, l := range d.links {
			used = used || path.Base(l.rel) == path.Base(rel)
		}
		if !used {
			return rel
		}
	}
}
