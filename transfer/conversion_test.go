package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/test/memory"
	"snapferry/transfer"
)

const block = transfer.BlockSize

// converted is a disk with changes on top of a snapshot.
type converted struct {
	io.ReaderAt
	changes map[int64][]byte
}

func (c converted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	for at, b := range c.changes {
		for i, v := range b {
			if k := at + int64(i) - off; k >= 0 && k < int64(len(p)) {
				p[k] = v
			}
		}
	}
	return n, err
}

func (c converted) Close(context.Context) error { return nil }

// convert makes a conversion of the boot disk of the newest point.
func (r *rig) convert(changes map[int64][]byte, areas ...transfer.Extent) (*transfer.Convert, transfer.Point) {
	point := r.points()[0]
	base := point.Disks[0]
	img, _ := r.store.Image(base.ID)
	return &transfer.Convert{
		Env:  r.cycle(transfer.Options{}).Env,
		Base: base, Reader: converted{img, changes}, Reason: "made ready for EC2", Scratch: r.t.TempDir(),
		Changed: func(_ context.Context, yield func(transfer.Extent) error) error {
			for _, e := range areas {
				if err := yield(e); err != nil {
					return err
				}
			}
			return nil
		},
		Known: func(ctx context.Context, i int64) (transfer.Digest, bool, error) {
			reader, err := r.store.Read(ctx, base.ID)
			if err != nil {
				return transfer.Digest{}, false, err
			}
			there := false
			err = reader.Blocks(ctx, func(index int64, _ string) error { there = there || index == i; return nil })
			if !there || err != nil {
				return transfer.Digest{}, false, err
			}
			b := make([]byte, block)
			_, err = img.ReadAt(b, i*block)
			return sha256.Sum256(b), true, err
		},
	}, point
}

func TestAConversionIsAChildOfThePoint(t *testing.T) {
	r := newRig(t, 9*block+512)
	write(t, r.vm.Disk(0), 1, 0, 2*block)
	r.must(transfer.Options{})
	changes := map[int64][]byte{
		block + 100: []byte("converted"), // in a block that is there
		5 * block:   []byte("new"),       // in one that is absent
		9 * block:   []byte("tail"),      // in the last, of one sector
	}
	c, point := r.convert(changes, transfer.Extent{Offset: 0, Length: 3 * block}, transfer.Extent{Offset: 5 * block, Length: 512}, transfer.Extent{Offset: 9 * block, Length: 512})
	got, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := got.Report; d.Put != 3 || d.Identical != 2 || d.Blocks != 5 || !d.Sealed {
		t.Errorf("report %+v", d)
	}
	img, _ := r.store.Image(got.Snapshot)
	size := r.vm.Disk(0).Info().Size
	want, have := make([]byte, size), make([]byte, size)
	_, _ = c.Reader.ReadAt(want, 0)
	if _, err := img.ReadAt(have, 0); err != nil || !bytes.Equal(want, have) {
		t.Errorf("the conversion differs from what was converted: %v", err)
	}
	points := r.points()
	if len(points) != 1 || points[0].Cycle != point.Cycle || !points[0].Complete || len(points[0].Disks) != 1 {
		t.Fatalf("points %+v", points)
	}
	l := points[0].Conversions[0].Label
	if l.Kind != transfer.Conversion || l.Converts != point.Cycle || l.Parent != point.Disks[0].ID || l.Cycle == point.Cycle ||
		l.Ordinal != 1 || l.Of != 1 || l.ChangeID != "" || l.Root != nil || !l.ZerosAbsent || l.Reason != "made ready for EC2" {
		t.Errorf("label %+v", l)
	}
	if s := points[0].ConversionOf(point.Disks[0].ID); s == nil || s.ID != got.Snapshot {
		t.Errorf("found again: %+v", s)
	}
	// The replication goes on as if there were no conversion.
	write(t, r.vm.Disk(0), 2, 3*block, block)
	if d := r.must(transfer.Options{}).Disks[0]; d.Kind != transfer.Delta || d.Parent != point.Disks[0].ID || d.Put != 1 {
		t.Errorf("the next cycle: %+v", d)
	}
	r.same()
}

func TestAConversionThatChangesNothingMakesNoSnapshot(t *testing.T) {
	r := newRig(t, 4*block)
	write(t, r.vm.Disk(0), 1, 0, block)
	r.must(transfer.Options{})
	_, before := r.store.Counts()
	c, _ := r.convert(nil, transfer.Extent{Offset: 0, Length: 4 * block})
	got, err := c.Run(t.Context())
	if _, starts := r.store.Counts(); err != nil || got.Snapshot != "" || starts != before || got.Report.Identical != 4 {
		t.Errorf("%+v, %v, %d drafts", got, err, starts-before)
	}
}

func TestZerosOfAnEncryptedConversionAreWritten(t *testing.T) {
	r := newRig(t, 4*block)
	write(t, r.vm.Disk(0), 1, 0, block)
	r.must(transfer.Options{Encrypted: true})
	c, _ := r.convert(map[int64][]byte{0: make([]byte, block)}, transfer.Extent{Offset: 0, Length: block}, transfer.Extent{Offset: 2 * block, Length: block})
	known := c.Known
	c.Known = func(ctx context.Context, i int64) (transfer.Digest, bool, error) {
		if i == 2 { // as one that a seed of allocated areas left out
			return transfer.Digest{}, false, nil
		}
		return known(ctx, i)
	}
	reader := c.Reader
	c.Reader = converted{reader, map[int64][]byte{2 * block: make([]byte, block)}}
	got, err := c.Run(t.Context())
	if err != nil || got.Report.Put != 2 {
		t.Errorf("%+v, %v: both blocks of zeros must be put", got.Report, err)
	}
}

func TestAFailedConversionLeavesNothing(t *testing.T) {
	for name, break_ := range map[string]func(*rig, *transfer.Convert, context.CancelFunc){
		"put": func(r *rig, _ *transfer.Convert, _ context.CancelFunc) {
			r.store.PutHook = func(context.Context, transfer.SnapshotID, int64) error { return errors.New("no") }
		},
		"seal": func(r *rig, _ *transfer.Convert, _ context.CancelFunc) {
			r.store.SealHook = func(transfer.SnapshotID) error { return transfer.ErrDraftFailed }
		},
		"read": func(_ *rig, c *transfer.Convert, _ context.CancelFunc) { c.Reader = brokenReader{} },
		"areas": func(_ *rig, c *transfer.Convert, _ context.CancelFunc) {
			c.Changed = func(_ context.Context, yield func(transfer.Extent) error) error {
				return yield(transfer.Extent{Offset: 0, Length: 1 << 40})
			}
		},
		"cancel": func(r *rig, _ *transfer.Convert, cancel context.CancelFunc) {
			r.store.PutHook = func(ctx context.Context, _ transfer.SnapshotID, _ int64) error { cancel(); return ctx.Err() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4*block)
			write(t, r.vm.Disk(0), 1, 0, block)
			r.must(transfer.Options{})
			c, _ := r.convert(map[int64][]byte{0: []byte("x")}, transfer.Extent{Offset: 0, Length: block})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			break_(r, c, cancel)
			if _, err := c.Run(ctx); err == nil {
				t.Error("no error")
			}
			if left := r.store.Pending(); len(left) > 0 || len(r.points()[0].Conversions) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	r := newRig(t, block)
	r.must(transfer.Options{})
	c, _ := r.convert(map[int64][]byte{0: []byte("x")}, transfer.Extent{Offset: 0, Length: block})
	r.store.DefaultEncryption = true
	if _, err := c.Run(t.Context()); transfer.KindOf(err) != transfer.Permanent || !strings.Contains(transfer.HintOf(err), "replicate") {
		t.Errorf("a parent that is not encrypted: %v", err)
	}
	c.Base.State = transfer.Pending
	if _, err := c.Run(t.Context()); err == nil {
		t.Error("a draft was converted")
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, errors.New("broken") }
func (brokenReader) Close(context.Context) error       { return nil }

// conversionOf is a completed conversion of a disk of a point.
func conversionOf(of transfer.Snapshot, id string, edit ...func(*transfer.Snapshot)) transfer.Snapshot {
	s := of
	s.ID = transfer.SnapshotID(id)
	s.Started = of.Started.Add(time.Hour)
	s.Label.Kind, s.Label.Parent, s.Label.Converts = transfer.Conversion, of.ID, of.Label.Cycle
	s.Label.Cycle, s.Label.Ordinal, s.Label.Of = transfer.CycleID("c-"+id), 1, 1
	for _, f := range edit {
		f(&s)
	}
	return s
}

func TestPruneTakesConversionsFirst(t *testing.T) {
	old := sealedDisk("vm-1", daysAgo(9), 1, 1)
	conv := conversionOf(old, "snap-conv")
	all := []transfer.Snapshot{old, conv, sealedDisk("vm-1", daysAgo(0), 1, 1)}
	policy := transfer.Policy{Last: 1}
	prune := func(s *shelf, used func(transfer.SnapshotID) (string, bool)) []transfer.Pruned {
		pruned, err := transfer.Prune(t.Context(), s, transfer.Retain(transfer.Points(all), policy, retainNow, used))
		if err != nil {
			t.Fatal(err)
		}
		return pruned
	}
	s := newShelf(all)
	if p := prune(s, nil); !p[1].Gone() || !slices.Equal(s.order, []transfer.SnapshotID{conv.ID, old.ID}) {
		t.Errorf("deleted %v, gone %v", s.order, p[1].Gone())
	}
	// One that an image boots from keeps the whole point …
	s = newShelf(all)
	p := prune(s, func(id transfer.SnapshotID) (string, bool) { return "image ami-1", id == conv.ID })
	if !p[1].Keep || !strings.Contains(p[1].Why, "ami-1") || len(s.order) > 0 {
		t.Errorf("%+v, deleted %v", p[1].Verdict, s.order)
	}
	// … also where only AWS knows of it.
	s = newShelf(all)
	s.inUse[conv.ID] = true
	if p := prune(s, nil); len(s.order) > 0 || p[1].Blocked == "" || p[1].Gone() {
		t.Errorf("%+v, deleted %v", p[1], s.order)
	}
	// A draft of a conversion keeps what it builds on.
	all[1].State = transfer.Pending
	if v := transfer.Retain(transfer.Points(all), policy, retainNow, nil); !v[1].Keep {
		t.Errorf("%s goes although the draft of a conversion builds on it", v[1].Point.Cycle)
	}
}

func TestConversionOfChoosesASoundOne(t *testing.T) {
	disk := sealedDisk("vm-1", daysAgo(1), 1, 1)
	later := func(s *transfer.Snapshot) { s.Started = s.Started.Add(time.Hour) }
	all := []transfer.Snapshot{
		disk, conversionOf(disk, "snap-1"),
		conversionOf(disk, "snap-2", later, func(s *transfer.Snapshot) { s.State = transfer.Pending }),
		conversionOf(disk, "snap-3", later, func(s *transfer.Snapshot) { s.Label.Suspect = "bad" }),
		conversionOf(disk, "snap-4", later, func(s *transfer.Snapshot) { s.Label.Parent = "snap-other" }),
	}
	p := transfer.Points(all)[0]
	if c := p.ConversionOf(disk.ID); c == nil || c.ID != "snap-1" {
		t.Errorf("chose %+v", c)
	}
	if len(p.Conversions) != 4 || len(transfer.OrphanedConversions(all)) != 0 {
		t.Errorf("%d conversions, orphans %v", len(p.Conversions), transfer.OrphanedConversions(all))
	}
}

func TestReapConversions(t *testing.T) {
	boot := ebsSnap("snap-boot", transfer.Completed, "c1", 1, 1, 40*time.Hour)
	started := func(ago time.Duration) func(*transfer.Snapshot) {
		return func(s *transfer.Snapshot) {
			s.State, s.Started, s.Label.Blocks = transfer.Pending, reapNow.Add(-ago), -1
		}
	}
	for _, c := range []struct {
		name string
		ebs  []transfer.Snapshot
		want []transfer.Deed
	}{
		{"of a point", []transfer.Snapshot{boot, conversionOf(boot, "snap-c")}, nil},
		{"of no point", []transfer.Snapshot{conversionOf(boot, "snap-c")}, []transfer.Deed{transfer.DeedDelete}},
		{"of no point, of others", []transfer.Snapshot{conversionOf(boot, "snap-c", ownedBy(them))}, nil},
		{"young draft", []transfer.Snapshot{boot, conversionOf(boot, "snap-c", started(time.Hour))}, []transfer.Deed{transfer.DeedLeave}},
		{"forgotten draft", []transfer.Snapshot{boot, conversionOf(boot, "snap-c", started(3*time.Hour))}, []transfer.Deed{transfer.DeedAbort}},
		{"forgotten draft of no point", []transfer.Snapshot{conversionOf(boot, "snap-c", started(3*time.Hour))}, []transfer.Deed{transfer.DeedAbort}},
		{"failed draft", []transfer.Snapshot{boot, conversionOf(boot, "snap-c", func(s *transfer.Snapshot) { s.State = transfer.Failed })}, []transfer.Deed{transfer.DeedAbort}},
	} {
		var got []transfer.Deed
		for _, a := range transfer.Reap(transfer.Found{EBS: c.ebs}, alive()) {
			got = append(got, a.Do)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	orphan := []transfer.Snapshot{conversionOf(boot, "snap-c")}
	if a := transfer.Reap(transfer.Found{EBS: orphan, NoEBS: "a label is unreadable"}, alive()); a[0].Do != transfer.DeedLeave {
		t.Errorf("with an unreadable label about: %+v", a[0])
	}
	w := &memory.ReapStore{Store: memory.NewStore()}
	w.Put(orphan[0])
	rep, err := (&transfer.Reaper{Source: memory.NewLeftovers("vm-9"), Store: w, State: newRig(t).state, Appliance: us,
		Now: func() time.Time { return reapNow }, Cleanup: time.Second}).Run(t.Context(), false)
	if left, _ := w.AllSnapshots(t.Context()); err != nil || len(left) != 0 || !rep.Things[0].Done {
		t.Errorf("%v, left %d, %+v", err, len(left), rep.Things)
	}
}
