package vcenter_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
)

const (
	sector = vcenter.SectorSize
	half   = mib // of the disk that writers meet on
)

// writer is one process of a guest. Of a disk's first half it owns every n-th
// sector, so that writers meet in every grain, of the second half every n-th
// grain; the counter at the head of its first sectors goes up on the first disk
// and then on the second.
type writer struct {
	id, of int
	disks  []*vcenter.Disk
	model  [][]byte // what it has written, per disk
	rng    *rand.Rand
	count  uint64
}

// pace leaves something of a busy machine to the test itself.
const pace = 100 * time.Microsecond

func (w *writer) run(stop *atomic.Bool) error {
	for ; !stop.Load(); time.Sleep(pace) {
		w.count++
		for _, d := range []int{0, 1} {
			p := make([]byte, sector)
			binary.LittleEndian.PutUint64(p, w.count)
			if err := w.write(d, int64(w.id)*sector, p); err != nil {
				return err
			}
		}
		if err := w.step(w.rng.IntN(2)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) write(d int, off int64, p []byte) error {
	copy(w.model[d][off:], p)
	_, err := w.disks[d].WriteAt(p, off)
	return err
}

// step changes something and reads something of its own.
func (w *writer) step(d int) error {
	off := (w.rng.Int64N(half/sector/int64(w.of))*int64(w.of) + int64(w.id)) * sector
	n := int64(sector)
	p := bytes.Repeat([]byte{byte(w.rng.Uint32())}, 64*kib)
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		if off >= int64(w.of)*sector { // the counters stay
			if err := w.write(d, off, p[:n]); err != nil {
				return err
			}
		}
	default:
		off, n = half+(w.rng.Int64N(half/(64*kib)/int64(w.of))*int64(w.of)+int64(w.id))*64*kib, 64*kib
		if err := w.grain(d, off, p); err != nil {
			return err
		}
	}
	got := make([]byte, n)
	if _, err := w.disks[d].ReadAt(got, off); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(got, w.model[d][off:off+n]) {
		return fmt.Errorf("writer %d reads at %d of disk %d what it did not write", w.id, off, d)
	}
	return nil
}

// grain changes its grain at off: as a whole, in part, or to zeroes.
func (w *writer) grain(d int, off int64, p []byte) error {
	from := w.rng.Int64N(64) * kib
	n := min(w.rng.Int64N(64*kib-from)+1, 64*kib-from)
	switch w.rng.IntN(4) {
	case 0:
		return w.write(d, off, p)
	case 1:
		return w.write(d, off+from, p[:n])
	case 2:
		from, n = 0, 64*kib
	}
	clear(w.model[d][off+from : off+from+n])
	return w.disks[d].Zero(off+from, n, w.rng.IntN(2) == 0)
}

// point is a snapshot of the test.
type point struct {
	ref  types.ManagedObjectReference
	ids  []string
	data [][]byte
}

// TestAGuestWritesBesideSnapshots: with many writers at once, snapshots that are
// made and removed in any order are of one instant, tracking misses nothing, and
// the disks hold what was written.
func TestAGuestWritesBesideSnapshots(t *testing.T) {
	t.Parallel()
	e := start(t)
	const size, writers = 2*half + 17*sector, 4
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: size}, {Size: size}}})
	var stop atomic.Bool
	var all sync.WaitGroup
	var ws []*writer
	for i := range writers {
		w := &writer{id: i, of: writers, disks: vm.Disks(), model: [][]byte{make([]byte, size), make([]byte, size)}, rng: rand.New(rand.NewPCG(7, uint64(i)))}
		ws = append(ws, w)
		all.Go(func() {
			if err := w.run(&stop); err != nil {
				t.Error(err)
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var points []point
	for range 6 {
		p := e.point(vm, writers)
		if len(points) > 0 {
			e.tracked(vm, points[len(points)-1], p)
		}
		points = append(points, p)
		for len(points) > rng.IntN(4) {
			i := rng.IntN(len(points))
			e.unchanged(vm, points[i])
			e.unsnap(points[i].ref)
			points = append(points[:i], points[i+1:]...)
		}
	}
	stop.Store(true)
	all.Wait()
	for _, p := range points {
		e.unchanged(vm, p)
		e.unsnap(p.ref)
	}
	for i, d := range vm.Disks() {
		got := content(t, d, size)
		for off := int64(0); off < size; off += sector {
			owner := off / sector % writers
			if off >= half {
				owner = (off - half) / (64 * kib) % writers
			}
			same(t, fmt.Sprintf("disk %d at %d", i, off), got[off:off+sector], ws[owner].model[i][off:off+sector])
		}
	}
	s, _ := e.v.State().VM("app01")
	if len(s.Files) != 4 || s.ConsolidationNeeded {
		t.Errorf("files %v, consolidation needed: %v", s.Files, s.ConsolidationNeeded)
	}
	t.Logf("%d turns of the first writer", ws[0].count)
}

// point takes a snapshot and checks that both disks are of one instant.
func (e *env) point(vm *vcenter.VM, writers int) point {
	e.Helper()
	p := point{ref: e.snap(vm, "s")}
	for _, d := range vm.Disks() {
		p.ids = append(p.ids, e.changeID(p.ref, d.Key()))
		p.data = append(p.data, e.frozen(p.ref, d))
	}
	for w := range writers {
		a, b := binary.LittleEndian.Uint64(p.data[0][w*sector:]), binary.LittleEndian.Uint64(p.data[1][w*sector:])
		if a != b && a != b+1 {
			e.Fatalf("writer %d: the first disk was frozen at %d, the second at %d", w, a, b)
		}
	}
	return p
}

func (e *env) frozen(snap types.ManagedObjectReference, d *vcenter.Disk) []byte {
	e.Helper()
	r, size, err := e.v.Frozen(snap.Value, d.Key())
	if err != nil {
		e.Fatal(err)
	}
	return content(e, r, size)
}

func (e *env) unchanged(vm *vcenter.VM, p point) {
	e.Helper()
	for i, d := range vm.Disks() {
		same(e, fmt.Sprintf("frozen disk %d", i), e.frozen(p.ref, d), p.data[i])
	}
}

// tracked checks that whatever differs between two snapshots is reported, and
// that what is not allocated is zero.
func (e *env) tracked(vm *vcenter.VM, from, to point) {
	e.Helper()
	for i, d := range vm.Disks() {
		changed, _ := e.areas(vm, to.ref, d, from.ids[i])
		allocated, _ := e.areas(vm, to.ref, d, "*")
		old, now := bytes.Clone(from.data[i]), bytes.Clone(to.data[i])
		for _, a := range changed {
			copy(old[a.Start:a.Start+a.Length], now[a.Start:])
		}
		same(e, fmt.Sprintf("disk %d outside of the changed areas", i), old, now)
		for _, a := range allocated {
			clear(now[a.Start : a.Start+a.Length])
		}
		same(e, fmt.Sprintf("disk %d outside of the allocated areas", i), now, make([]byte, len(now)))
	}
}

func TestZero(t *testing.T) {
	t.Parallel()
	e := start(t)
	const size = 3*mib + 3*sector
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: size}}})
	d := vm.Disks()[0]
	want := noise(1, size)
	write(t, d, 0, want)
	zero := func(off, n int64, discard bool) {
		t.Helper()
		if err := d.Zero(off, n, discard); err != nil {
			t.Fatal(err)
		}
		clear(want[off : off+n])
		same(t, fmt.Sprintf("after zeroing %d at %d", n, off), content(t, d, size), want)
	}
	area := func(want ...vcenter.Area) {
		t.Helper()
		got, err := d.Areas(0, size)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("areas %v, %v; want %v", got, err, want)
		}
	}
	zero(100*sector, 7, false)
	zero(0, 128*kib, true)
	zero(128*kib, 64*kib, false)
	zero(2*mib-64*kib, mib+64*kib+3*sector, true) // to the end, where the last grain is short
	area(vcenter.Area{Length: 128 * kib}, vcenter.Area{Offset: 128 * kib, Length: 2*mib - 192*kib, Allocated: true}, vcenter.Area{Offset: 2*mib - 64*kib, Length: mib + 64*kib + 3*sector})
	snap := e.snap(vm, "s")
	zero(256*kib-sector, 64*kib+2*sector, true) // over a redo log nothing can be given back
	frozen := e.frozen(snap, d)
	if bytes.Equal(frozen, want) {
		t.Error("the snapshot was zeroed")
	}
	after := e.snap(vm, "t")
	areas, _ := e.areas(vm, after, d, e.changeID(snap, d.Key()))
	if len(areas) != 1 || areas[0].Start != 192*kib || areas[0].Length != 192*kib {
		t.Errorf("changed: %v", areas)
	}
	e.unsnap(snap)
	e.unsnap(after)
	same(t, "merged", content(t, d, size), want)
	for _, bad := range [][2]int64{{-1, 1}, {size, 1}, {0, size + 1}} {
		if err := d.Zero(bad[0], bad[1], true); err == nil {
			t.Errorf("zeroed %d bytes at %d", bad[1], bad[0])
		}
		if _, err := d.Areas(bad[0], bad[1]); err == nil {
			t.Errorf("looked at %d bytes at %d", bad[1], bad[0])
		}
	}
}
