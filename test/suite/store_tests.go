package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"reflect"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer"
)

func (s *storeTest) roundTrip() {
	blocks := map[int64][]byte{0: content(1), 1: content(2), 700: content(3), 2047: content(4), 5: make([]byte, transfer.BlockSize)}
	id := s.make(s.spec(), blocks)
	s.holds(id, blocks)
	n := s.list(suiteVM)[id]
	if n.State != transfer.Completed || n.VolumeGiB != 1 || n.Encrypted || n.Started.IsZero() || n.Label.Blocks != 5 {
		s.Errorf("snapshot %+v", n)
	}
	image, size := s.w.Image(id)
	got := make([]byte, transfer.BlockSize)
	if _, err := image.ReadAt(got, 700*transfer.BlockSize); err != nil || !bytes.Equal(got, blocks[700]) || size != transfer.GiB {
		s.Errorf("image of %d bytes: %v", size, err)
	}
	if _, err := image.ReadAt(got, 701*transfer.BlockSize); err != nil || !bytes.Equal(got, make([]byte, len(got))) {
		s.Errorf("an absent block is not zeros: %v", err)
	}
}

func (s *storeTest) pending() {
	d := s.start(s.spec())
	s.put(d, 0, content(1))
	if n := s.list(suiteVM)[d.ID()]; n.State != transfer.Pending || n.Label.Blocks != -1 {
		s.Errorf("snapshot %+v", n)
	}
	r, err := s.w.Store.Read(s.Context(), d.ID())
	if err == nil {
		err = r.Blocks(s.Context(), func(int64, string) error { return nil })
	}
	if err == nil {
		s.Error("a pending draft was read")
	}
}

func (s *storeTest) token() {
	spec := s.spec()
	a, b := s.start(spec), s.start(spec)
	if a.ID() != b.ID() || len(s.list(suiteVM)) != 1 {
		s.Errorf("two drafts: %s and %s", a.ID(), b.ID())
	}
	spec.VolumeGiB = 2
	_, err := s.w.Store.Start(s.Context(), spec)
	s.kind(err, transfer.Permanent, "the token with another size")
	if c := s.start(s.spec()); c.ID() == a.ID() {
		s.Error("another token found the same draft")
	}
}

func (s *storeTest) child() {
	one := map[int64][]byte{0: content(1), 9: content(2)}
	parent := s.make(s.spec(), one)
	two := map[int64][]byte{9: content(3), 10: content(4), 2048: content(5)}
	child := s.make(s.spec(onParent(parent), func(d *transfer.DraftSpec) { d.VolumeGiB = 2 }), two)
	all := maps.Clone(one)
	maps.Copy(all, two)
	s.holds(child, all)
	s.holds(parent, one)
	s.w.Remove(parent)
	s.holds(child, all) // EBS keeps what a child needs
}

func (s *storeTest) parents() {
	pending := s.start(s.spec())
	_, err := s.w.Store.Start(s.Context(), s.spec(onParent(pending.ID())))
	s.kind(err, transfer.BaselineLost, "a pending parent")
	big := s.make(s.spec(func(d *transfer.DraftSpec) { d.VolumeGiB = 2 }), nil)
	_, err = s.w.Store.Start(s.Context(), s.spec(onParent(big)))
	s.kind(err, transfer.BaselineLost, "a parent larger than the child")
	plain := s.make(s.spec(), nil)
	s.w.EncryptByDefault(true)
	_, err = s.w.Store.Start(s.Context(), s.spec(onParent(plain)))
	s.kind(err, transfer.BaselineLost, "an unencrypted parent where the account encrypts")
	s.w.EncryptByDefault(false)
	s.w.Remove(plain)
	_, err = s.w.Store.Start(s.Context(), s.spec(onParent(plain)))
	s.kind(err, transfer.BaselineLost, "a deleted parent")
}

func (s *storeTest) twice() {
	d := s.start(s.spec())
	s.put(d, 3, content(1))
	s.put(d, 3, content(2))
	want := map[int64][]byte{3: content(2)}
	if err := d.Seal(s.Context(), sealOf(want)); err != nil {
		s.Fatal(err)
	}
	s.holds(d.ID(), want)
}

func (s *storeTest) empty() {
	id := s.make(s.spec(), nil)
	s.holds(id, nil)
	child := s.make(s.spec(onParent(id)), nil)
	if n := s.list(suiteVM)[child]; n.Label.Blocks != 0 || n.Label.Parent != id {
		s.Errorf("label %+v", n.Label)
	}
}

func (s *storeTest) wrongSeal() {
	honest := sealOf(map[int64][]byte{0: content(1)})
	for doing, seal := range map[string]transfer.Seal{
		"count":    {Blocks: 2, Checksum: honest.Checksum},
		"checksum": {Blocks: 1, Checksum: transfer.ZeroDigest},
	} {
		d := s.start(s.spec())
		s.put(d, 0, content(1))
		if err := d.Seal(s.Context(), seal); !errors.Is(err, transfer.ErrDraftFailed) {
			s.Errorf("a wrong %s: %v", doing, err)
		}
		if n := s.list(suiteVM)[d.ID()]; n.State != transfer.Failed || n.Message == "" {
			s.Errorf("a wrong %s left %s %q", doing, n.State, n.Message)
		}
		if err := d.Abort(s.Context()); err != nil {
			s.Error(err)
		}
	}
	if n := len(s.list(suiteVM)); n != 0 {
		s.Errorf("%d snapshots left", n)
	}
}

func (s *storeTest) wrongBlock() {
	d := s.start(s.spec())
	b := content(1)
	if err := d.Put(s.Context(), 0, b, transfer.ZeroDigest); err == nil {
		s.Error("a wrong digest was accepted")
	}
	if err := d.Put(s.Context(), 2048, b, sha256.Sum256(b)); err == nil {
		s.Error("a block behind the volume was accepted")
	}
	if err := d.Put(s.Context(), 0, b[:4096], sha256.Sum256(b[:4096])); err == nil {
		s.Error("a short block was accepted")
	}
	if err := d.Seal(s.Context(), sealOf(nil)); err != nil {
		s.Errorf("after refused blocks the draft is not empty: %v", err)
	}
}

func (s *storeTest) abort() {
	d := s.start(s.spec())
	s.put(d, 0, content(1))
	for range 2 {
		if err := d.Abort(s.Context()); err != nil {
			s.Errorf("abort: %v", err)
		}
	}
	b := content(2)
	if err := d.Put(s.Context(), 1, b, sha256.Sum256(b)); err == nil {
		s.Error("put to an aborted draft")
	}
	d = s.start(s.spec())
	if err := d.Seal(s.Context(), sealOf(nil)); err != nil {
		s.Fatal(err)
	}
	_ = d.Abort(s.Context()) // may say no, must not delete
	if n := s.list(suiteVM); len(n) != 1 || n[d.ID()].State != transfer.Completed {
		s.Errorf("snapshots %+v", n)
	}
}

func (s *storeTest) labels() {
	spec := s.spec(func(d *transfer.DraftSpec) {
		l := &d.Label
		l.Guest = transfer.Guest{ID: "debian12_64Guest", Firmware: "efi", SecureBoot: true, CPUs: 6, MemoryMiB: 12288}
		l.Quiesced, l.ZerosAbsent, l.Ordinal, l.Of = true, true, 2, 3
		l.Excluded = []string{"Hard disk 4", "Hard disk, 5; é"}
		l.DiskSize = 777 * 512
		d.Tags = map[string]string{"cost-center": "42", "owner": "jo"}
	})
	id := s.make(spec, map[int64][]byte{1: content(1)})
	got := s.list(suiteVM)[id].Label
	want := spec.Label
	want.Blocks = 1
	if !got.Frozen.Equal(want.Frozen) || !got.Confirmed.IsZero() {
		s.Errorf("frozen %v, confirmed %v", got.Frozen, got.Confirmed)
	}
	got.Frozen, got.Confirmed = want.Frozen, want.Confirmed // equal instants, whatever the zone
	if !reflect.DeepEqual(got, want) {
		s.Errorf("label\n%+v\nwant\n%+v", got, want)
	}
	root := transfer.Digest(sha256.Sum256([]byte("root")))
	d := s.start(s.spec())
	seal := sealOf(nil)
	seal.Root = &root
	if err := d.Seal(s.Context(), seal); err != nil {
		s.Fatal(err)
	}
	if got := s.list(suiteVM)[d.ID()].Label.Root; got == nil || *got != root {
		s.Errorf("root %v", got)
	}
}

// conversion: what was made of a point's boot disk comes back as that, and no
// point and no baseline comes of it.
func (s *storeTest) conversion() {
	boot := s.make(s.spec(), map[int64][]byte{3: content(3)})
	point := s.list(suiteVM)[boot].Label
	id := s.make(s.spec(onParent(boot), func(d *transfer.DraftSpec) {
		d.Label.Kind, d.Label.Converts, d.Label.ChangeID = transfer.Conversion, point.Cycle, ""
		d.Label.Frozen = point.Frozen
	}), map[int64][]byte{7: content(7)})
	s.holds(id, map[int64][]byte{3: content(3), 7: content(7)})
	var all []transfer.Snapshot
	for _, n := range s.list(suiteVM) {
		all = append(all, n)
	}
	if l := s.list(suiteVM)[id].Label; l.Kind != transfer.Conversion || l.Converts != point.Cycle || l.Parent != boot {
		s.Errorf("label %+v", l)
	}
	points := transfer.Points(all)
	if len(points) != 1 || len(points[0].Disks) != 1 || points[0].Disks[0].ID != boot || !points[0].Complete {
		s.Fatalf("points %+v", points)
	}
	if c := points[0].ConversionOf(boot); c == nil || c.ID != id {
		s.Errorf("the point's conversion is %+v", c)
	}
	if base, _ := transfer.Baseline(all, point.Disk); base == nil || base.ID != boot {
		s.Errorf("the baseline is %+v", base)
	}
}

func (s *storeTest) others() {
	mine := s.make(s.spec(), nil)
	s.make(s.spec(func(d *transfer.DraftSpec) { d.Label.VM.Moref = "vm-43" }), nil)
	s.make(s.spec(func(d *transfer.DraftSpec) { d.Label.VM.VCenter = "b2e1f0a4-0000-4000-8000-000000000002" }), nil)
	if n := s.list(suiteVM); len(n) != 1 || n[mine].ID != mine {
		s.Errorf("snapshots %+v", n)
	}
	if n := s.list(transfer.VMID{VCenter: "x", Moref: "vm-1"}); len(n) != 0 {
		s.Errorf("snapshots of nobody: %+v", n)
	}
}

func (s *storeTest) confirm() {
	id := s.make(s.spec(), nil)
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for range 2 {
		if err := s.w.Store.Confirm(s.Context(), at, map[transfer.SnapshotID]transfer.ChangeID{id: "52 cc dd/9"}); err != nil {
			s.Fatal(err)
		}
	}
	if l := s.list(suiteVM)[id].Label; !l.Confirmed.Equal(at) || l.ChangeID != "52 cc dd/9" || l.Blocks != 0 {
		s.Errorf("label %+v", l)
	}
	s.w.Remove(id)
	if err := s.w.Store.Confirm(s.Context(), at, map[transfer.SnapshotID]transfer.ChangeID{id: "52 cc dd/9"}); err == nil {
		s.Error("a deleted snapshot was confirmed")
	}
}

func (s *storeTest) suspect() {
	id, gone := s.make(s.spec(), nil), s.make(s.spec(), nil)
	s.w.Remove(gone)
	if err := s.w.Store.Suspect(s.Context(), []transfer.SnapshotID{id, gone}, "the audit found 3 blocks"); err != nil {
		s.Fatal(err)
	}
	if l := s.list(suiteVM)[id].Label; l.Suspect != "the audit found 3 blocks" || l.Blocks != 0 {
		s.Errorf("label %+v", l)
	}
}

func (s *storeTest) sealedByAnotherCycle() {
	spec := s.spec()
	d := s.start(spec)
	label := spec.Label
	label.Cycle, label.Frozen, label.ChangeID, label.Reason = "20260101T000000Z-aa", label.Frozen.Add(time.Hour), "52 ff/7", "going on"
	seal := sealOf(nil)
	seal.Label = &label
	if err := d.Seal(s.Context(), seal); err != nil {
		s.Fatal(err)
	}
	got := s.list(suiteVM)[d.ID()].Label
	if got.Cycle != label.Cycle || !got.Frozen.Equal(label.Frozen) || got.ChangeID != label.ChangeID || got.Blocks != 0 {
		s.Errorf("label %+v", got)
	}
}

func (s *storeTest) encrypted() {
	parent := s.make(s.spec(func(d *transfer.DraftSpec) { d.Encrypted = true }), map[int64][]byte{0: content(1)})
	child := s.make(s.spec(onParent(parent)), map[int64][]byte{1: content(2)})
	for _, id := range []transfer.SnapshotID{parent, child} {
		if !s.list(suiteVM)[id].Encrypted {
			s.Errorf("%s is not encrypted", id)
		}
	}
	s.holds(child, map[int64][]byte{0: content(1), 1: content(2)})
	image, _ := s.w.Image(child)
	got := make([]byte, transfer.BlockSize)
	if _, err := image.ReadAt(got, 5*transfer.BlockSize); err != nil || bytes.Equal(got, make([]byte, len(got))) {
		s.Errorf("an absent block of an encrypted snapshot reads as zeros (%v): the fake is too kind", err)
	}
	s.w.EncryptByDefault(true)
	if on, err := s.w.Store.EncryptsByDefault(s.Context()); err != nil || !on {
		s.Errorf("encrypts by default: %v, %v", on, err)
	}
	if id := s.make(s.spec(), nil); !s.list(suiteVM)[id].Encrypted {
		s.Error("not encrypted by default")
	}
}

func (s *storeTest) parallel() {
	d := s.start(s.spec())
	blocks := map[int64][]byte{}
	var g errgroup.Group
	for i := range int64(24) {
		b := content(uint64(i))
		blocks[i*80] = b
		g.Go(func() error { return d.Put(s.Context(), i*80, b, sha256.Sum256(b)) })
	}
	if err := g.Wait(); err != nil {
		s.Fatal(err)
	}
	if err := d.Seal(s.Context(), sealOf(blocks)); err != nil {
		s.Fatal(err)
	}
	s.holds(d.ID(), blocks)
}

func (s *storeTest) canceled() {
	d := s.start(s.spec())
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	b := content(1)
	s.kind(d.Put(ctx, 0, b, sha256.Sum256(b)), transfer.Canceled, "put")
	s.kind(d.Seal(ctx, sealOf(nil)), transfer.Canceled, "seal")
	_, err := s.w.Store.Start(ctx, s.spec())
	s.kind(err, transfer.Canceled, "start")
	_, err = s.w.Store.Snapshots(ctx, suiteVM)
	s.kind(err, transfer.Canceled, "list")
}
