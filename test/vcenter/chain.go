package vcenter

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// The functions here change a disk's chain of links. Snapshots form a tree:
// a revert starts a second redo log on the same frozen link. Their callers hold
// v.ops, so that the chain changes by nobody else: they read it without a lock,
// and take d.mu for writing where the guest must not see a change half made.

// freezing is one disk on its way into a snapshot: the redo log is made before
// the VM is stunned.
type freezing struct {
	d     *Disk
	delta *link
}

func (d *Disk) prepare() (freezing, error) {
	delta, err := newLink(d.top.store, d.nextDelta(), d.size, d.top)
	return freezing{d, delta}, err
}

// freeze ends the top link for snapshot and puts the redo log on it. The caller
// holds d.mu of all disks of the VM, so that they freeze at one instant.
func (x freezing) freeze(snapshot string) {
	d := x.d
	f := &frozen{link: d.top, size: d.size, track: d.track}
	if d.track != nil {
		f.seq = d.track.cut(d.size)
	}
	d.frozen[snapshot] = f
	d.top = x.delta
	d.links = append(d.links, x.delta)
}

// revert throws the top link away and starts anew from snapshot. It reports
// whether a link had to stay because it is open elsewhere.
func (d *Disk) revert(snapshot string, keepTracking bool, locked func(*link) bool) (left bool, err error) {
	f := d.frozen[snapshot]
	if f == nil {
		return false, nil // independent, or added later
	}
	delta, err := newLink(f.link.store, d.nextDelta(), f.size, f.link)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	d.top, d.size = delta, f.size
	d.links = append(d.links, delta)
	if d.track != nil && !keepTracking {
		d.track = newTracker(d.size)
	}
	d.mu.Unlock()
	return d.collapse(locked)
}

// forget drops a snapshot's hold on its link and, with merge, folds up what
// nothing holds any more. It reports whether work was left over because a
// link is open elsewhere (or merge was not wanted).
func (d *Disk) forget(snapshot string, merge bool, locked func(*link) bool) (bool, error) {
	if d.frozen[snapshot] == nil {
		return false, nil
	}
	d.mu.Lock()
	delete(d.frozen, snapshot)
	d.mu.Unlock()
	if !merge {
		return true, nil
	}
	return d.collapse(locked)
}

// collapse folds up every link that no snapshot holds, while the guest goes on.
func (d *Disk) collapse(locked func(*link) bool) (left bool, err error) {
	for {
		l, child, busy := d.loose(locked)
		switch {
		case l == nil:
			return busy, nil
		case child == nil:
			err = d.drop(l)
		default:
			err = d.merge(l, child)
		}
		if err != nil {
			return true, err
		}
	}
}

// loose finds a link that can go now: one that nobody needs (child nil) or
// one whose only child can be merged into it.
func (d *Disk) loose(locked func(*link) bool) (l, child *link, busy bool) {
	for _, l := range d.links {
		if l == d.top || d.holds(l) {
			continue
		}
		children := d.children(l)
		if len(children) > 1 {
			continue
		}
		if locked(l) || len(children) == 1 && locked(children[0]) {
			busy = true
			continue
		}
		if len(children) == 0 {
			return l, nil, busy
		}
		return l, children[0], busy
	}
	return nil, nil, busy
}

func (d *Disk) holds(l *link) bool {
	for _, f := range d.frozen {
		if f.link == l {
			return true
		}
	}
	return false
}

func (d *Disk) children(l *link) (all []*link) {
	for _, c := range d.links {
		if c.parent == l {
			all = append(all, c)
		}
	}
	return all
}

// The merge of a link goes as in vSphere: most is copied beside the running
// guest, in passes over what it has written since, and the last of it in a stun.
const (
	foldBatch  = 16 // grains copied before the chain is told
	stunGrains = 16 // copied under a stun: 1 MiB, a millisecond
	foldPasses = 10 // after which a guest that writes faster is stunned for longer
)

// merge copies child into l, whose only child it is, and makes l stand for both.
// A grain that is copied changes hands at once: then l answers for it.
func (d *Disk) merge(l, child *link) error {
	d.stunned(func() { d.folding = newBitmap(d.size) })
	defer d.stunned(func() { d.folding = nil })
	for pass := 0; pass < foldPasses && !child.held.few(stunGrains); pass++ {
		for g := child.held.next(0); g >= 0; {
			end := g + 1
			for end < g+foldBatch && child.held.has(end) {
				end++
			}
			d.stunned(d.folding.clear)
			if err := l.copyFrom(child, g, end); err != nil {
				return err
			}
			d.stunned(func() { d.fold(l, child, g, end) })
			g = child.held.next(end)
		}
	}
	var err error
	d.stunned(func() { err = d.foldLast(l, child) })
	if err != nil {
		return err
	}
	return d.drop(child)
}

// foldLast ends a merge.
func (d *Disk) foldLast(l, child *link) error {
	for first, end := range child.held.runs() {
		if err := l.copyFrom(child, first, end); err != nil {
			return err
		}
	}
	l.held.union(child.held)
	d.replace(child, l)
	return nil
}

// fold has l answer for the grains of child that it has a copy of.
func (d *Disk) fold(l, child *link, first, end int64) {
	for g := first; g < end; g++ {
		if !d.folding.has(g) {
			l.held.add(g)
			child.held.drop(g)
		}
	}
}

// stunned runs do while no request of the guest is under way.
func (d *Disk) stunned(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// replace has l stand for child, in whatever refers to it.
func (d *Disk) replace(child, l *link) {
	for _, c := range d.children(child) {
		c.parent = l
	}
	for _, f := range d.frozen {
		if f.link == child {
			f.link = l
		}
	}
	if d.top == child {
		d.top = l
	}
}

// drop takes a link out of the disk and deletes it.
func (d *Disk) drop(l *link) error {
	d.stunned(func() {
		d.links = slices.DeleteFunc(slices.Clone(d.links), func(x *link) bool { return x == l })
	})
	return l.remove()
}

// frozenReader reads one disk as of one snapshot for as long as that exists.
type frozenReader struct {
	d        *Disk
	snapshot string
}

func (r frozenReader) ReadAt(p []byte, off int64) (int, error) {
	r.d.mu.RLock()
	defer r.d.mu.RUnlock()
	f := r.d.frozen[r.snapshot]
	if f == nil {
		return 0, os.ErrClosed
	}
	return readInside(f.link, f.size, p, off)
}

// copySparse writes the content seen from l to a new sparse file at name. The
// caller holds v.ops: l and what is below it stay as they are.
func (l *link) copySparse(name string, size int64) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	buf := make([]byte, 16*grain)
	for first, end := range l.allocated().runs() {
		for off, stop := first*grain, min(end*grain, size); off < stop; {
			n := min(int64(len(buf)), stop-off)
			if err := l.read(buf[:n], off); err != nil {
				return err
			}
			if _, err := f.WriteAt(buf[:n], off); err != nil {
				return err
			}
			off += n
		}
	}
	return nil
}

var _ io.ReaderAt = frozenReader{}
