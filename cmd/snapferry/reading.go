package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"snapferry/ebs"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// reading is one disk that is being read back: a subject for the display.
type reading struct {
	what   string // "verify", "restore"
	snap   transfer.Snapshot
	blocks int64                // to read
	only   *transfer.BlockSet   // those; nil is all
	odds   *transfer.SampleOdds // of a sample
	reader transfer.SnapshotReader
	began  time.Time
	done   atomic.Int64
}

// openReading opens a disk's snapshot and counts its blocks, which costs
// nothing worth saying.
func (w *wire) openReading(ctx context.Context, what string, snap transfer.Snapshot) (*reading, error) {
	store, err := w.store(ctx)
	if err != nil {
		return nil, err
	}
	r := &reading{what: what, snap: snap}
	if r.reader, err = store.Read(ctx, snap.ID); err != nil {
		return nil, err
	}
	if r.blocks, err = transfer.CountBlocks(ctx, r.reader); err != nil {
		return nil, err
	}
	return r, nil
}

// readBack prepares the reading of the whole disk.
func (w *wire) readBack(r *reading, m *manifest.Table) *transfer.ReadBack {
	r.began = time.Now()
	var only func(int64) bool
	if r.only != nil {
		only = r.only.Has
	}
	return &transfer.ReadBack{
		Only:     only,
		Snapshot: r.snap, Reader: r.reader, Manifest: m,
		Buffers: w.buffers(w.cfg.Transfer.Gets), Gets: w.cfg.Transfer.Gets,
		Progress: func(done int64) {
			for { // calls overtake each other
				was := r.done.Load()
				if done <= was || r.done.CompareAndSwap(was, done) {
					return
				}
			}
		},
	}
}

// manifest is the local manifest of a snapshot, or nil where there is none.
func (w *wire) manifest(s transfer.Snapshot) *manifest.Table {
	l := s.Label
	return w.state().Find(l.VM.VCenter, l.VM.Moref, l.Disk.String(), string(s.ID), string(l.Cycle))
}

// costOf says what reading some disks will cost.
func costOf(what string, readings []*reading) string {
	var blocks int64
	for _, r := range readings {
		blocks += r.blocks
	}
	return fmt.Sprintf("%s reads %s (%s): %s for GetSnapshotBlock, and the traffic if it leaves AWS.",
		what, plural(blocks, "block"), bytesText(blocks*transfer.BlockSize), ebs.GetCost(blocks))
}

func (r *reading) title() string { return fmt.Sprintf("%s %s", r.what, r.snap.Label.VMName) }

func (r *reading) step() string { return "read " + string(r.snap.ID) }

func (r *reading) tracks() []track {
	t := track{name: r.snap.Label.DiskLabel, done: r.done.Load() * transfer.BlockSize, total: r.blocks * transfer.BlockSize}
	if seconds := time.Since(r.began).Seconds(); seconds > 0 && t.done > 0 {
		t.rate = float64(t.done) / seconds
		t.left = time.Duration(float64(t.total-t.done) / t.rate * float64(time.Second))
	}
	return []track{t}
}

// readingState is a reading's event.
type readingState struct {
	Snapshot transfer.SnapshotID `json:"snapshot"`
	Done     int64               `json:"done"`   // blocks
	Blocks   int64               `json:"blocks"` // there are
}

func (r *reading) event() any {
	return readingState{Snapshot: r.snap.ID, Done: r.done.Load(), Blocks: r.blocks}
}
