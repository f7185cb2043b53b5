package vcenter

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// The functions here change a disk's chain of links. Snapshots form a tree:
// a revert starts a second redo log on the same frozen link.

// freeze ends the top link for snapshot and puts a redo log on it. The caller
// holds d.mu of all disks of the VM, so that they freeze at one instant.
func (d *Disk) freeze(snapshot string) error {
	delta, err := newLink(d.top.store, d.nextDelta(), d.size, d.top)
	if err != nil {
		return err
	}
	f := &frozen{link: d.top, size: d.size, track: d.track}
	if d.track != nil {
		f.seq = d.track.cut()
	}
	d.frozen[snapshot] = f
	d.top = delta
	d.links = append(d.links, delta)
	return nil
}

// revert throws the top link away and starts anew from snapshot. It reports
// whether a link had to stay because it is open elsewhere.
func (d *Disk) revert(snapshot string, keepTracking bool, locked func(*link) bool) (left bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.frozen[snapshot]
	if f == nil {
		return false, nil // independent, or added later
	}
	delta, err := newLink(f.link.store, d.nextDelta(), f.size, f.link)
	if err != nil {
		return false, err
	}
	d.top, d.size = delta, f.size
	d.links = append(d.links, delta)
	if d.track != nil && !keepTracking {
		d.track = newTracker()
	}
	return d.collapse(locked)
}

// forget drops a snapshot's hold on its link and, with merge, folds up what
// nothing holds any more. It reports whether work was left over because a
// link is open elsewhere (or merge was not wanted).
func (d *Disk) forget(snapshot string, merge bool, locked func(*link) bool) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen[snapshot] == nil {
		return false, nil
	}
	delete(d.frozen, snapshot)
	if !merge {
		return true, nil
	}
	return d.collapse(locked)
}

// consolidate folds up every link that no snapshot holds.
func (d *Disk) consolidate(locked func(*link) bool) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.collapse(locked)
}

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

// merge copies child into l and makes l stand for both.
func (d *Disk) merge(l, child *link) error {
	if err := l.absorb(child); err != nil {
		return err
	}
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
	return d.drop(child)
}

func (d *Disk) drop(l *link) error {
	d.links = slices.DeleteFunc(d.links, func(x *link) bool { return x == l })
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

// copySparse writes the content seen from l to a new sparse file at name.
// The caller holds d.mu for reading.
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
