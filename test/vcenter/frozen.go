package vcenter

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// FreezeEvent is what an observer sees at the instant a snapshot froze.
type FreezeEvent struct {
	VM                          types.ManagedObjectReference
	Snapshot, Name, Description string
	Disks                       map[int32]FrozenDisk // by device key; independent disks are absent
}

// FrozenDisk is the content of one disk at one snapshot. Its reader works
// until the snapshot is removed, then it fails with os.ErrClosed.
type FrozenDisk struct {
	io.ReaderAt
	Size     int64
	ChangeID string
}

// OnFreeze calls f inside every snapshot's creation, once its disks are
// frozen and before anybody hears of it. The guest may write meanwhile; no
// other task runs. f must not call methods that change this vCenter.
func (v *VCenter) OnFreeze(f func(FreezeEvent)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.onFreeze = append(v.onFreeze, f)
}

// Frozen opens a disk as of a snapshot, with its size in bytes.
func (v *VCenter) Frozen(snapshotMoref string, diskKey int32) (io.ReaderAt, int64, error) {
	v.mu.Lock()
	s := v.snapshots[snapshotMoref]
	v.mu.Unlock()
	var d *Disk
	if s != nil {
		d = s.vm.diskAsOf(snapshotMoref, diskKey)
	}
	if d == nil {
		return nil, 0, fmt.Errorf("open disk %d of snapshot %s: no such disk or snapshot", diskKey, snapshotMoref)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	f := d.frozen[snapshotMoref]
	if f == nil {
		return nil, 0, fmt.Errorf("open disk %d of snapshot %s: the snapshot does not hold it", diskKey, snapshotMoref)
	}
	return frozenReader{d, snapshotMoref}, f.size, nil
}

// keeper remembers sparse copies of frozen disks.
type keeper struct {
	dir, prefix string
	copies      map[string]string // snapshot name and key
	errs        []error
}

func keepKey(snapshotName string, key int32) string {
	return fmt.Sprintf("%s\x00%d", snapshotName, key)
}

// KeepFrozen makes the simulator keep a sparse copy, below dir, of every disk
// of every snapshot whose name begins with prefix. It replaces an earlier
// KeepFrozen. The copies are what remains to compare with once the snapshot
// is removed.
func (v *VCenter) KeepFrozen(dir, prefix string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep = &keeper{dir: dir, prefix: prefix, copies: map[string]string{}}
}

// FrozenCopy returns the path of the copy kept of one disk, by the snapshot's
// name; the newest if names repeat.
func (v *VCenter) FrozenCopy(snapshotName string, diskKey int32) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keep == nil {
		return "", errors.New("find frozen copy: KeepFrozen was not called")
	}
	if err := errors.Join(v.keep.errs...); err != nil {
		return "", err
	}
	p, ok := v.keep.copies[keepKey(snapshotName, diskKey)]
	if !ok {
		return "", fmt.Errorf("find frozen copy: none of disk %d of snapshot %q", diskKey, snapshotName)
	}
	return p, nil
}

func (v *VCenter) observeFreeze(s *snapshot, disks []*Disk) {
	v.mu.Lock()
	observers, keep := v.onFreeze, v.keep
	v.mu.Unlock()
	e := FreezeEvent{VM: s.vm.ref, Snapshot: s.ref.Value, Name: s.name, Description: s.description, Disks: map[int32]FrozenDisk{}}
	for _, d := range disks {
		d.mu.RLock()
		f := d.frozen[s.ref.Value]
		d.mu.RUnlock()
		if f == nil {
			continue
		}
		e.Disks[d.key] = FrozenDisk{frozenReader{d, s.ref.Value}, f.size, f.changeID()}
		if keep != nil && strings.HasPrefix(s.name, keep.prefix) {
			v.keepCopy(keep, s, d, f)
		}
	}
	for _, f := range observers {
		f(e)
	}
}

func (v *VCenter) keepCopy(k *keeper, s *snapshot, d *Disk, f *frozen) {
	name := filepath.Join(k.dir, fmt.Sprintf("%s-%s-%d.raw", s.vm.ref.Value, s.ref.Value, d.key))
	err := f.link.copySparse(name, f.size) // without d.mu: the guest goes on meanwhile
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		k.errs = append(k.errs, fmt.Errorf("keep a copy of snapshot %s: %w", s.name, err))
		return
	}
	k.copies[keepKey(s.name, d.key)] = name
}
