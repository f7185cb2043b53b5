package vcenter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// link is one file of a disk's chain: the base (a flat extent) or a redo log
// (a sparse file of the disk's size that holds whole grains). The Disk that
// owns it guards it.
type link struct {
	parent *link // nil: the base
	file   *os.File
	store  *store
	rel    string // the descriptor's path inside the datastore, "vm/vm.vmdk"
	size   int64
	held   *bitmap // grains this link answers for; of a base: ever written
}

// newLink creates the descriptor and the sparse extent of one link.
func newLink(s *store, rel string, size int64, parent *link) (*link, error) {
	l := &link{parent: parent, store: s, rel: rel, size: size, held: newBitmap(size)}
	if err := os.MkdirAll(filepath.Dir(l.descriptor()), 0o755); err != nil {
		return nil, fmt.Errorf("create directory of %s: %w", l.path(), err)
	}
	if err := os.WriteFile(l.descriptor(), []byte(l.describe()), 0o644); err != nil {
		return nil, fmt.Errorf("write descriptor of %s: %w", l.path(), err)
	}
	f, err := os.OpenFile(l.extent(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create extent of %s: %w", l.path(), err)
	}
	l.file = f
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("size extent of %s: %w", l.path(), err), f.Close())
	}
	return l, nil
}

// path is the datastore path by which vSphere names the link.
func (l *link) path() string { return fmt.Sprintf("[%s] %s", l.store.name, l.rel) }

func (l *link) descriptor() string { return filepath.Join(l.store.dir, l.rel) }

// extent is the host path of the file that holds the data.
func (l *link) extent() string {
	suffix := "-flat.vmdk"
	if l.parent != nil {
		suffix = "-delta.vmdk"
	}
	return strings.TrimSuffix(l.descriptor(), ".vmdk") + suffix
}

func (l *link) describe() string {
	kind, create, parent := "VMFS", "vmfs", "ffffffff"
	if l.parent != nil {
		kind, create, parent = "VMFSSPARSE", "vmfsSparse", "fffffffe"
	}
	return fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=%s\ncreateType=\"%s\"\n\nRW %d %s \"%s\"\n",
		parent, create, l.size/512, kind, filepath.Base(l.extent()))
}

// owner returns the link that answers for grain g as seen from l.
func (l *link) owner(g int64) *link {
	for l.parent != nil && !l.held.has(g) {
		l = l.parent
	}
	return l
}

// read fills p from off with the content as seen from l: its own grains and
// its parents'. The range lies inside the disk.
func (l *link) read(p []byte, off int64) error {
	for len(p) > 0 {
		g := off / grain
		own, end := l.owner(g), (g+1)*grain
		for end < off+int64(len(p)) && (own == l && l.parent == nil || l.owner(end/grain) == own) {
			end = min(end+grain, off+int64(len(p)))
		}
		n := min(int64(len(p)), end-off)
		if err := readFull(own.file, p[:n], off); err != nil {
			return fmt.Errorf("read %s at %d: %w", own.path(), off, err)
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readFull is ReadAt that reads zeros behind the end of the file.
func readFull(f *os.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	return err
}

// write puts p at off into this link. What a redo log does not hold yet is
// completed from below first, grain by grain under its lock; a grain that is held
// stays so for as long as anybody writes.
func (l *link) write(p []byte, off int64, locks *grainLocks) error {
	if l.parent == nil {
		if err := l.put(p, off); err != nil {
			return err
		}
		l.held.addRange(off/grain, (off+int64(len(p))+grain-1)/grain)
		return nil
	}
	for len(p) > 0 {
		g := off / grain
		end := (g + 1) * grain
		held := l.held.has(g)
		for held && end < off+int64(len(p)) && l.held.has(end/grain) {
			end += grain
		}
		n := min(int64(len(p)), end-off)
		var err error
		if held {
			err = l.put(p[:n], off)
		} else {
			err = l.hold(g, p[:n], off, locks.of(g))
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (l *link) put(p []byte, off int64) error {
	if _, err := l.file.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %s at %d: %w", l.path(), off, err)
	}
	return nil
}

// hold writes p, which lies in grain g, and has l answer for the grain.
func (l *link) hold(g int64, p []byte, off int64, lock *sync.Mutex) error {
	lock.Lock()
	defer lock.Unlock()
	start, end := g*grain, min((g+1)*grain, l.size)
	if !l.held.has(g) && int64(len(p)) < end-start {
		whole := grains.Get().(*[grain]byte)
		defer grains.Put(whole)
		if err := l.parent.read(whole[:end-start], start); err != nil {
			return err
		}
		copy(whole[off-start:], p)
		p, off = whole[:end-start], start
	}
	if err := l.put(p, off); err != nil {
		return err
	}
	l.held.add(g)
	return nil
}

// grains are buffers of one grain.
var grains = sync.Pool{New: func() any { return new([grain]byte) }}

// grainLocks keep two writers from completing one grain at once.
type grainLocks [64]sync.Mutex

func (l *grainLocks) of(g int64) *sync.Mutex { return &l[g%int64(len(l))] }

// copyFrom copies the grains [first, end) of child's file into l's.
func (l *link) copyFrom(child *link, first, end int64) error {
	buf := grains.Get().(*[grain]byte)
	defer grains.Put(buf)
	for off, stop := first*grain, min(end*grain, child.size); off < stop; off += grain {
		n := min(grain, stop-off)
		if err := readFull(child.file, buf[:n], off); err != nil {
			return fmt.Errorf("merge %s: %w", child.path(), err)
		}
		if _, err := l.file.WriteAt(buf[:n], off); err != nil {
			return fmt.Errorf("merge into %s: %w", l.path(), err)
		}
	}
	return nil
}

// remove closes the link and deletes its files.
func (l *link) remove() error {
	return errors.Join(l.file.Close(), os.Remove(l.extent()), os.Remove(l.descriptor()))
}

// allocated is the set of grains that the chain up to l holds.
func (l *link) allocated() *bitmap {
	all := &bitmap{}
	for ; l != nil; l = l.parent {
		all.union(l.held)
	}
	return all
}

// within reports whether l is o or one of o's parents.
func (l *link) within(o *link) bool {
	for ; o != nil; o = o.parent {
		if o == l {
			return true
		}
	}
	return false
}
