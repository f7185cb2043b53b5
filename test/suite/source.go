package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"snapferry/transfer"
)

// SourceWorld is a fresh powered-on VM with CBT on, no VM snapshot, and two
// disks of which nothing was written, and the hands that reach behind it.
type SourceWorld struct {
	Source transfer.Source
	// Guest reads and writes the live disk, as the guest does.
	Guest func(transfer.DiskID) interface {
		io.ReaderAt
		io.WriterAt
	}
	// ResetCBT begins a new tracking epoch on all disks.
	ResetCBT func()
	// Left counts what exists of ours in vSphere: VM snapshots and attached
	// disks.
	Left func() (snapshots, attached int)
}

// Source runs the contract of transfer.Source, Frozen and DiskReader.
func Source(t *testing.T, fresh func(*testing.T) SourceWorld) {
	for name, test := range map[string]func(*sourceTest){
		"inspecting changes nothing":             (*sourceTest).inspect,
		"a frozen disk stays while guests write": (*sourceTest).frozen,
		"changed areas cover every write":        (*sourceTest).areas,
		"a foreign change ID is a lost baseline": (*sourceTest).foreign,
		"a reset is a lost baseline":             (*sourceTest).reset,
		"release waits for readers":              (*sourceTest).release,
		"a cancelled freeze leaves nothing":      (*sourceTest).canceled,
		"disks are read side by side":            (*sourceTest).parallel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &sourceTest{T: t, w: fresh(t)}
			vm, err := s.w.Source.Inspect(t.Context())
			if err != nil || len(vm.Disks) != 2 {
				t.Fatalf("inspect: %d disks, %v", len(vm.Disks), err)
			}
			s.vm = vm
			test(s)
			if snapshots, attached := s.w.Left(); snapshots+attached > 0 {
				t.Errorf("left: %d VM snapshots, %d attached disks", snapshots, attached)
			}
		})
	}
}

// sourceTest is one test of the contract with its world.
type sourceTest struct {
	*testing.T
	w  SourceWorld
	vm transfer.VM
}

func (s *sourceTest) freeze() transfer.Frozen {
	s.Helper()
	f, err := s.w.Source.Freeze(s.Context(), transfer.FreezeSpec{Cycle: transfer.NewCycleID(time.Now()), Appliance: "appliance-1", Quiesce: transfer.QuiesceOff})
	if err != nil {
		s.Fatalf("freeze: %v", err)
	}
	return f
}

func (s *sourceTest) open(f transfer.Frozen, id transfer.DiskID) transfer.DiskReader {
	s.Helper()
	r, err := f.Open(s.Context(), id)
	if err != nil {
		s.Fatalf("open %s: %v", id, err)
	}
	return r
}

func (s *sourceTest) done(f transfer.Frozen, readers ...transfer.DiskReader) {
	s.Helper()
	for _, r := range readers {
		if err := r.Close(s.Context()); err != nil {
			s.Errorf("close: %v", err)
		}
	}
	if err := f.Release(s.Context()); err != nil {
		s.Errorf("release: %v", err)
	}
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte{byte(seed), byte(seed >> 8)})).Read(b)
	return b
}

func (s *sourceTest) write(id transfer.DiskID, seed uint64, off int64, n int) {
	s.Helper()
	if _, err := s.w.Guest(id).WriteAt(noise(seed, n), off); err != nil {
		s.Fatalf("guest writes: %v", err)
	}
}

// live is the whole disk as the guest sees it.
func (s *sourceTest) live(d transfer.Disk) []byte {
	s.Helper()
	b := make([]byte, d.Size)
	if _, err := s.w.Guest(d.ID).ReadAt(b, 0); err != nil {
		s.Fatalf("guest reads: %v", err)
	}
	return b
}

func (s *sourceTest) readAll(r transfer.DiskReader, size int64) []byte {
	s.Helper()
	b := make([]byte, size)
	for off := int64(0); off < size; off += 256 << 10 {
		n := min(256<<10, size-off)
		if got, err := r.ReadAt(b[off:off+n], off); err != nil || int64(got) != n {
			s.Fatalf("read %d bytes at %d: %d, %v", n, off, got, err)
		}
	}
	return b
}

func (s *sourceTest) collect(f transfer.Frozen, d transfer.Disk, since transfer.ChangeID) (areas []transfer.Extent, err error) {
	err = f.Areas(s.Context(), d.ID, since, transfer.CheckAreas(d.Size, func(e transfer.Extent) error {
		areas = append(areas, e)
		return nil
	}))
	return areas, err
}

func covered(areas []transfer.Extent, off, n int64) bool {
	for _, a := range areas {
		if a.Offset <= off && off+n <= a.End() {
			return true
		}
	}
	return false
}

func (s *sourceTest) inspect() {
	again, err := s.w.Source.Inspect(s.Context())
	if err != nil || again.ID != s.vm.ID || again.Name == "" || again.ID.VCenter == "" || !again.CBT || len(again.Obstacles) > 0 {
		s.Errorf("%+v, %v", again, err)
	}
	for i, d := range again.Disks {
		if d.ID != s.vm.Disks[i].ID || d.ID.UUID == "" || d.Size != s.vm.Disks[i].Size || d.Label == "" || len(d.Obstacles) > 0 {
			s.Errorf("disk %+v", d)
		}
	}
	if again.Disks[0].ID == again.Disks[1].ID {
		s.Error("two disks with one identity")
	}
}

func (s *sourceTest) frozen() {
	d := s.vm.Disks[0]
	s.write(d.ID, 1, 4096, 300_000)
	want := s.live(d)
	f := s.freeze()
	if st := f.State(); st.Snapshot == "" || st.At.IsZero() || st.SnapshotName == "" || st.Tracking != "" {
		s.Errorf("state %+v", st)
	}
	fd, ok := f.State().Disk(d.ID)
	if !ok || fd.Size != d.Size || fd.ChangeID == "" {
		s.Errorf("frozen disk %+v", fd)
	}
	s.write(d.ID, 2, 0, 500_000)
	r := s.open(f, d.ID)
	if !bytes.Equal(s.readAll(r, d.Size), want) {
		s.Error("the frozen disk is not as it was")
	}
	s.write(d.ID, 3, 100_000, 500_000)
	if !bytes.Equal(s.readAll(r, d.Size), want) {
		s.Error("the frozen disk moved while the guest wrote")
	}
	s.done(f, r)
	after := s.live(d)
	if bytes.Equal(after, want) || !bytes.Equal(after[100_000:600_000], noise(3, 500_000)) {
		s.Error("the guest's writes during the freeze are lost")
	}
	if _, err := r.ReadAt(make([]byte, 512), 0); err == nil {
		s.Error("a closed reader reads")
	}
}

func (s *sourceTest) areas() {
	d := s.vm.Disks[0]
	f := s.freeze()
	fd, _ := f.State().Disk(d.ID)
	s.done(f)
	writes := [][2]int64{{0, 1}, {65535, 2}, {1 << 20, 70_000}, {d.Size - 512, 512}}
	for i, w := range writes {
		s.write(d.ID, uint64(i), w[0], int(w[1]))
	}
	f = s.freeze()
	areas, err := s.collect(f, d, fd.ChangeID)
	if err != nil {
		s.Fatalf("areas: %v", err)
	}
	for _, w := range writes {
		if !covered(areas, w[0], w[1]) {
			s.Errorf("the write of %d bytes at %d is in none of %v", w[1], w[0], areas)
		}
	}
	other := s.vm.Disks[1]
	fo, _ := f.State().Disk(other.ID)
	if areas, err := s.collect(f, other, fo.ChangeID); err != nil || len(areas) > 0 {
		s.Errorf("areas of a disk since now: %v, %v", areas, err)
	}
	if star, err := s.collect(f, d, transfer.AllAllocated); err == nil {
		for _, w := range writes {
			if !covered(star, w[0], w[1]) {
				s.Errorf("allocated areas miss the write at %d: %v", w[0], star)
			}
		}
	} else {
		s.kind(err, transfer.BaselineLost, "allocated areas")
	}
	s.done(f)
}

func (s *sourceTest) kind(err error, want transfer.Kind, doing string) {
	s.Helper()
	if err == nil || transfer.KindOf(err) != want {
		s.Errorf("%s: got error %v of kind %s, want %s", doing, err, transfer.KindOf(err), want)
	}
}

func (s *sourceTest) foreign() {
	f := s.freeze()
	for _, id := range []transfer.ChangeID{"52 00 11 22 33 44 55 66-77 88 99 aa bb cc dd ee/1", "nonsense"} {
		_, err := s.collect(f, s.vm.Disks[0], id)
		s.kind(err, transfer.BaselineLost, "areas since "+string(id))
	}
	s.done(f)
}

func (s *sourceTest) reset() {
	f := s.freeze()
	before, _ := f.State().Disk(s.vm.Disks[0].ID)
	s.done(f)
	s.w.ResetCBT()
	f = s.freeze()
	after, _ := f.State().Disk(s.vm.Disks[0].ID)
	if after.ChangeID.Epoch() == before.ChangeID.Epoch() {
		s.Errorf("change ID %q after a reset, %q before", after.ChangeID, before.ChangeID)
	}
	_, err := s.collect(f, s.vm.Disks[0], before.ChangeID)
	s.kind(err, transfer.BaselineLost, "areas across a reset")
	s.done(f)
}

func (s *sourceTest) release() {
	f := s.freeze()
	if _, err := s.w.Source.Freeze(s.Context(), transfer.FreezeSpec{Cycle: "other", Appliance: "appliance-2", Quiesce: transfer.QuiesceOff}); err == nil {
		s.Error("two snapshots of ours on one VM")
	}
	r := s.open(f, s.vm.Disks[0].ID)
	if err := f.Release(s.Context()); err == nil {
		s.Error("released under an open reader")
	}
	s.done(f, r)
	if err := f.Release(s.Context()); err != nil {
		s.Errorf("released twice: %v", err)
	}
	if _, err := f.Open(s.Context(), s.vm.Disks[0].ID); err == nil {
		s.Error("opened after the release")
	}
}

func (s *sourceTest) canceled() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.w.Source.Freeze(ctx, transfer.FreezeSpec{Cycle: "c", Appliance: "a", Quiesce: transfer.QuiesceOff})
	s.kind(err, transfer.Canceled, "freeze")
}

func (s *sourceTest) parallel() {
	var want [][]byte
	for i, d := range s.vm.Disks {
		s.write(d.ID, uint64(10+i), 0, 200_000)
		want = append(want, s.live(d))
	}
	f := s.freeze()
	var readers []transfer.DiskReader
	for _, d := range s.vm.Disks {
		readers = append(readers, s.open(f, d.ID))
	}
	for i, d := range s.vm.Disks {
		if !bytes.Equal(s.readAll(readers[i], d.Size), want[i]) {
			s.Errorf("disk %d reads as another", i+1)
		}
	}
	s.done(f, readers...)
}
