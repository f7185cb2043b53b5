package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// Story is one connector with one VM in a world.
type Story struct {
	T     *testing.T
	World *World
	VM    *VM
	State manifest.Dir
	Last  transfer.Report // of the last cycle

	seen map[transfer.SnapshotID]bool // that Right has compared
}

// Tell begins a story with a VM of these disks.
func Tell(t *testing.T, w *World, disks ...Disk) *Story {
	return &Story{T: t, World: w, VM: w.NewVM(t, disks...), State: manifest.Dir(t.TempDir())}
}

// Cycle makes a cycle that has not run.
func (s *Story) Cycle(o transfer.Options) *transfer.Cycle {
	return &transfer.Cycle{
		Env: transfer.Env{
			Store: s.World.Store, State: s.State, Appliance: "appliance-1", Buffers: transfer.NewBuffers(12),
			Reads: 4, Puts: 8, Now: time.Now, Cleanup: time.Minute,
		},
		Options: o, Source: s.VM.Source, Progress: transfer.NewProgress(time.Now, s.World.Calls),
	}
}

// Sync runs a cycle that must succeed, and checks that nothing of it is left.
func (s *Story) Sync(o transfer.Options) transfer.Report {
	s.T.Helper()
	rep, err := s.Cycle(o).Run(s.T.Context())
	if err != nil {
		s.T.Fatalf("sync: %v", err)
	}
	if len(rep.Alarms) > 0 {
		s.T.Errorf("alarms: %v", rep.Alarms)
	}
	s.Last = rep
	s.NothingLeft()
	return rep
}

// NothingLeft checks that the last cycle left nothing behind but the drafts
// that it said it keeps.
func (s *Story) NothingLeft() {
	s.T.Helper()
	for _, l := range s.World.Left() {
		s.T.Errorf("left: %s", l)
	}
	kept := map[transfer.SnapshotID]bool{}
	for _, d := range s.Last.Disks {
		kept[d.Snapshot] = d.Kept
	}
	for _, id := range s.World.Drafts() {
		if !kept[id] {
			s.T.Errorf("left: draft %s", id)
		}
	}
}

// Write lets the guest write n bytes that depend on seed alone.
func (s *Story) Write(disk int, seed uint64, off, n int64) {
	s.T.Helper()
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed))).Read(b)
	s.write(disk, b, off)
}

// Zero lets the guest write n zeros.
func (s *Story) Zero(disk int, off, n int64) {
	s.T.Helper()
	s.write(disk, make([]byte, n), off)
}

func (s *Story) write(disk int, b []byte, off int64) {
	s.T.Helper()
	if _, err := s.VM.Guest(disk).WriteAt(b, off); err != nil {
		s.T.Fatalf("guest writes %d bytes at %d: %v", len(b), off, err)
	}
}

// Points are the recovery points of the VM, newest first.
func (s *Story) Points() []transfer.Point {
	s.T.Helper()
	all, err := s.World.Store.Snapshots(s.T.Context(), s.VM.ID)
	if err != nil {
		s.T.Fatalf("list snapshots: %v", err)
	}
	return transfer.Points(all)
}

// Same holds the newest point against what its cycle froze, byte for byte,
// and the last cycle's frozen disks against it too: a confirmed point must be
// as good as a new one.
func (s *Story) Same() {
	s.T.Helper()
	points := s.Points()
	if len(points) == 0 || !points[0].Complete || len(points[0].Disks) != len(s.VM.Disks) {
		s.T.Fatalf("no complete point: %+v", points)
	}
	for i, id := range s.VM.Disks {
		for _, snap := range points[0].Disks {
			if snap.Label.Disk != id {
				continue
			}
			for _, cycle := range slices.Compact([]transfer.CycleID{points[0].Cycle, s.Last.Cycle}) {
				if err := s.compare(snap, cycle, i); err != nil {
					s.T.Fatalf("%s against disk %d as frozen by %s: %v", snap.ID, i, cycle, err)
				}
			}
		}
	}
}

// Right holds every complete point that nothing calls suspect, and that it has
// not seen yet, against what its cycle froze. Completed snapshots do not change.
func (s *Story) Right() {
	s.T.Helper()
	if s.seen == nil {
		s.seen = map[transfer.SnapshotID]bool{}
	}
	for _, p := range s.Points() {
		if !p.Complete || p.Suspect != "" {
			continue
		}
		for _, snap := range p.Disks {
			i := slices.Index(s.VM.Disks, snap.Label.Disk)
			if s.seen[snap.ID] || i < 0 {
				continue
			}
			s.seen[snap.ID] = true
			if err := s.compare(snap, p.Cycle, i); err != nil {
				s.T.Errorf("WRONG POINT %s: %s against disk %d as frozen: %v", p.Cycle, snap.ID, i, err)
			}
		}
	}
}

func (s *Story) compare(snap transfer.Snapshot, cycle transfer.CycleID, disk int) error {
	want, err := s.VM.Frozen(cycle, disk)
	if err != nil {
		return err
	}
	if c, ok := want.(io.Closer); ok {
		defer c.Close()
	}
	present, err := s.present(snap.ID)
	if err != nil {
		return err
	}
	got, volume := s.World.Image(snap.ID)
	size := snap.Label.DiskSize
	if volume != transfer.VolumeGiB(size)*transfer.GiB {
		return fmt.Errorf("a volume of %d bytes for a disk of %d", volume, size)
	}
	a, b := make([]byte, transfer.BlockSize), make([]byte, transfer.BlockSize)
	for i := range volume / transfer.BlockSize {
		off := i * transfer.BlockSize
		n := max(0, min(transfer.BlockSize, size-off))
		if !present[i] {
			if snap.Encrypted {
				return fmt.Errorf("block %d is absent from an encrypted snapshot", i)
			}
			if n == 0 || isHole(want, off, n) {
				continue
			}
		}
		clear(a)
		if n > 0 {
			if _, err := want.ReadAt(a[:n], off); err != nil {
				return err
			}
		}
		if _, err := got.ReadAt(b, off); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("block %d differs", i)
		}
	}
	return nil
}

func (s *Story) present(id transfer.SnapshotID) (map[int64]bool, error) {
	r, err := s.World.Store.Read(s.T.Context(), id)
	if err != nil {
		return nil, err
	}
	m := map[int64]bool{}
	err = r.Blocks(s.T.Context(), func(i int64, _ string) error { m[i] = true; return nil })
	return m, err
}

// isHole reports that nothing was ever written to a range: it is zeros, and
// need not be read.
func isHole(r io.ReaderAt, off, n int64) bool {
	switch r := r.(type) {
	case interface{ Hole(off, n int64) bool }:
		return r.Hole(off, n)
	case *os.File:
		data, err := unix.Seek(int(r.Fd()), off, unix.SEEK_DATA)
		return err == unix.ENXIO || (err == nil && data >= off+n)
	}
	return false
}

// CancelAt runs a cycle that is cancelled when step begins.
func (s *Story) CancelAt(step transfer.Step) error {
	ctx, cancel := context.WithCancel(s.T.Context())
	defer cancel()
	c := s.Cycle(transfer.Options{})
	c.Progress.OnStep(func(at transfer.Step) {
		if at == step {
			cancel()
		}
	})
	var err error
	s.Last, err = c.Run(ctx)
	return err
}
