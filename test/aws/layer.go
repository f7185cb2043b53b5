package aws

import (
	"maps"
	"runtime"
	"slices"
	"sync"
)

// layer is what was written to one snapshot, on top of its parent's layer. A
// deleted snapshot leaves the map of the account, but its layer lives as long
// as a child or an open image can reach it: that is how snapshots stay
// independent of their parents.
type layer struct {
	parent *layer
	slots  *slotList

	mu     sync.RWMutex
	blocks map[int32]*block

	sorted sync.Once
	all    []int32 // resolved indexes, ascending; valid once the layer is sealed
}

// slotList is apart from its layer so that the clean-up can own it after the
// layer is gone.
type slotList struct {
	store *store
	mu    sync.Mutex
	slots map[int64]struct{}
}

func newLayer(st *store, parent *layer) *layer {
	l := &layer{parent: parent, blocks: map[int32]*block{}, slots: &slotList{store: st, slots: map[int64]struct{}{}}}
	runtime.AddCleanup(l, func(s *slotList) { s.store.release(slices.Collect(maps.Keys(s.slots))) }, l.slots)
	return l
}

// set records a block. What it replaces is free at once: the layer of an open
// draft has no readers.
func (l *layer) set(i int32, b *block) {
	l.mu.Lock()
	old := l.blocks[i]
	l.blocks[i] = b
	l.mu.Unlock()
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	if b.slot >= 0 {
		l.slots.slots[b.slot] = struct{}{}
	}
	switch {
	case old == nil:
	case old.slot >= 0:
		delete(l.slots.slots, old.slot)
		l.slots.store.release([]int64{old.slot})
	case old.data != nil:
		l.slots.store.putBuf(&old.data)
	}
}

// own returns the indexes written to this very layer, ascending.
func (l *layer) own() []int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]int32, 0, len(l.blocks))
	for i := range l.blocks {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

func (l *layer) count() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.blocks)
}

func (l *layer) get(i int32) *block {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.blocks[i]
}

// resolve finds block i here or in an ancestor; nil if it is absent.
func (l *layer) resolve(i int32) *block {
	for ; l != nil; l = l.parent {
		if b := l.get(i); b != nil {
			return b
		}
	}
	return nil
}

// indexes returns the blocks of a sealed layer and its ancestors, ascending.
func (l *layer) indexes() []int32 {
	l.sorted.Do(func() {
		own := l.own()
		if l.parent == nil {
			l.all = own
			return
		}
		inherited := l.parent.indexes()
		if l.all = merge(own, inherited); len(l.all) == len(inherited) {
			l.all = inherited // share it: a long chain of deltas costs nothing
		}
	})
	return l.all
}

// merge unites two ascending lists.
func merge(a, b []int32) []int32 {
	out := make([]int32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			out, a = append(out, a[0]), a[1:]
		case a[0] > b[0]:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
