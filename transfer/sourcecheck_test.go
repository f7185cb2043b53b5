package transfer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

// check makes a comparison of the newest point with the source.
func (r *rig) check(sample *transfer.Sample) *transfer.SourceCheck {
	r.t.Helper()
	return &transfer.SourceCheck{Env: r.cycle(transfer.Options{}).Env, Source: r.vm, Point: r.points()[0], Gets: 6, Sample: sample}
}

// compare runs a comparison and checks that nothing of it is left.
func (r *rig) compare(c *transfer.SourceCheck) (transfer.SourceProof, error) {
	r.t.Helper()
	p, err := c.Run(r.t.Context())
	if snapshots, attached := r.vm.Left(); r.vm.ReleaseErr == nil && r.vm.CloseErr == nil && snapshots+attached > 0 {
		r.t.Errorf("left behind: %d VM snapshots, %d attached disks", snapshots, attached)
	}
	if disk, frozen := c.Left(); len(p.Alarms) == 0 && (disk != "" || frozen != nil) {
		r.t.Errorf("it says that it leaves %q and %v", disk, frozen)
	}
	return p, err
}

func TestSourceCheckAgrees(t *testing.T) {
	for name, o := range map[string]transfer.Options{"plain": {}, "allocated": {Zeros: transfer.ZerosAllocated}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4*mib+512, 2*mib)
			write(t, r.vm.Disk(0), 1, 0, 3*mib)
			write(t, r.vm.Disk(1), 2, 0, 1000)
			r.must(o)
			write(t, r.vm.Disk(0), 3, mib, 512)
			r.must(o)
			write(t, r.vm.Disk(0), 4, 0, 10) // since the point: block 0 says nothing
			write(t, r.vm.Disk(0), 5, 4*mib, 512)
			p, err := r.compare(r.check(nil))
			if err != nil || !p.OK || len(p.Disks) != 2 {
				t.Fatalf("%+v, %v", p, err)
			}
			if d := p.Disks[0]; d.Compared != 7 || d.Of != 7 || d.Changed != 2 || d.Gets != 5 {
				t.Errorf("disk 1: %+v", d)
			}
			if d := p.Disks[1]; d.Compared != 4 || d.Changed != 0 || d.Gets != 1 {
				t.Errorf("disk 2: %+v", d)
			}
			if p.Gets != 6 || p.Source.IsZero() || p.Point != r.points()[0].Cycle {
				t.Errorf("%+v", p)
			}
			r.must(o) // the tracking is as it was
			r.same()
		})
	}
}

func TestSourceCheckFindsLostChanges(t *testing.T) {
	r := newRig(t, 8*mib, mib)
	write(t, r.vm.Disk(0), 1, 0, 3*mib)
	r.must(transfer.Options{})
	write(t, r.vm.Disk(1), 3, 0, 512)
	r.must(transfer.Options{})
	r.vm.Disk(0).WriteUntracked(noise(7, 100), 2*mib+17)    // in a present block
	r.vm.Disk(0).WriteUntracked(noise(8, 100), 7*mib)       // in an absent one
	r.vm.Disk(0).WriteUntracked(make([]byte, 512<<10), mib) // now zeros
	write(t, r.vm.Disk(0), 9, 0, 5)
	p, err := r.compare(r.check(nil))
	if err != nil || p.OK {
		t.Fatalf("%+v, %v", p, err)
	}
	d := p.Disks[0]
	if d.Wrong != 3 || !slices.Equal(d.First, []int64{2, 4, 14}) || !strings.Contains(d.Why, "index 2") || d.Compared != 15 {
		t.Errorf("%+v", d)
	}
	for _, point := range r.points() {
		if one, two := point.Disks[0].Label.Suspect, point.Disks[1].Label.Suspect; !strings.Contains(one, "3 blocks") || two != "" {
			t.Errorf("%s: suspect %q, %q", point.Cycle, one, two)
		}
	}
	if !p.Disks[1].OK {
		t.Errorf("the sibling: %+v", p.Disks[1])
	}
	v := d.Verification(time.Now())
	if err := v.Check(r.points()[0].Disks[0], time.Now().AddDate(1, 0, 0)); v.OK || v.Wrong != 3 || v.Kind != transfer.VerifySource {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestSourceCheckOfASample(t *testing.T) {
	r := newRig(t, 64*mib)
	write(t, r.vm.Disk(0), 1, 0, 64*mib)
	r.must(transfer.Options{})
	write(t, r.vm.Disk(0), 2, 0, mib)
	p, err := r.compare(r.check(&transfer.Sample{Fraction: 0.1, Seed: 5}))
	if err != nil || !p.OK {
		t.Fatalf("%+v, %v", p, err)
	}
	if d := p.Disks[0]; d.Compared != 13 || d.Of != 126 || d.Odds == nil || d.Odds.Sampled != 13 || d.Odds.Detects != transfer.Detectable(126, 13, transfer.Confidence) {
		t.Errorf("%+v, odds %+v", d, d.Odds)
	}
	for i := range int64(126) { // all are wrong: any sample meets some
		r.vm.Disk(0).WriteUntracked(noise(uint64(i), 1), mib+i*transfer.BlockSize)
	}
	if p, err = r.compare(r.check(&transfer.Sample{Fraction: 0.1, Seed: 6})); err != nil || p.OK || p.Disks[0].Wrong < 12 { // a byte may be what it was
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSourceCheckOfEncryptedPoints(t *testing.T) {
	r := newRig(t, 2*mib)
	write(t, r.vm.Disk(0), 1, 0, 1000)
	r.must(transfer.Options{Encrypted: true, Zeros: transfer.ZerosAllocated})
	p, err := r.compare(r.check(nil))
	if d := p.Disks[0]; err != nil || !p.OK || d.Unknown != 3 || d.Compared != 1 {
		t.Errorf("blocks left out on purpose: %+v, %v", d, err)
	}
}

func TestSourceCheckRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*rig)
		kind   transfer.Kind
		text   string
		frozen bool // the VM may have been frozen
	}{
		{"tracking was reset", func(r *rig) { r.vm.Disk(0).ResetCBT() }, transfer.Permanent, "CBT was reset", true},
		{"the disk grew", func(r *rig) { r.vm.Disk(0).Grow(5 * mib) }, transfer.Permanent, "the disk grew", true},
		{"CBT is off", func(r *rig) { r.vm.Edit(func(vm *transfer.VM) { vm.CBT = false }) }, transfer.Permanent, "CBT is off", false},
		{"another VM", func(r *rig) { r.vm.Edit(func(vm *transfer.VM) { vm.ID.Moref = "vm-2" }) }, transfer.Permanent, "is not the VM", false},
		{"an obstacle", func(r *rig) {
			r.vm.Edit(func(vm *transfer.VM) {
				d := r.vm.Disk(0).Info()
				d.Obstacles = []transfer.Obstacle{{Reason: "it is independent"}}
				vm.Disks = []transfer.Disk{d}
			})
		}, transfer.Permanent, "it is independent", false},
		{"no change IDs", func(r *rig) { r.vm.NoCBT = "CBT is enabled by this freeze" }, transfer.Permanent, "enabled by this freeze", true},
		{"the datastore runs low", func(r *rig) {
			r.vm.Pressed = func() string { return "datastore ds1 has 1 GiB left" }
		}, transfer.Retry, "ds1 has 1 GiB left", true},
		{"it cannot be read", func(r *rig) {
			r.vm.ReadHook = func(transfer.DiskID, int64) error { return errors.New("I/O error") }
		}, transfer.Permanent, "I/O error", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 4*mib)
			write(t, r.vm.Disk(0), 1, 0, mib)
			r.must(transfer.Options{})
			r.frozen = nil
			tt.change(r)
			c := r.check(nil)
			c.Watch = time.Millisecond
			if r.vm.Pressed != nil { // hold the reading until the datastore was looked at
				r.vm.ReadHook = slowly(c)
			}
			p, err := r.compare(c)
			if err == nil || transfer.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) || p.OK {
				t.Errorf("%v, %+v", err, p)
			}
			if (r.frozen != nil) != tt.frozen {
				t.Errorf("frozen: %v", r.frozen != nil)
			}
		})
	}
}

// slowly makes reads fail late rather than succeed before the watch looked.
func slowly(c *transfer.SourceCheck) func(transfer.DiskID, int64) error {
	return func(transfer.DiskID, int64) error {
		time.Sleep(20 * c.Watch)
		return nil
	}
}

func TestSourceCheckCancelled(t *testing.T) {
	r := newRig(t, 16*mib)
	write(t, r.vm.Disk(0), 1, 0, 16*mib)
	r.must(transfer.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	c := r.check(nil)
	r.vm.ReadHook = func(transfer.DiskID, int64) error {
		if disk, frozen := c.Left(); disk != "Hard disk 1" || frozen == nil {
			t.Errorf("in the middle it says that it leaves %q and %v", disk, frozen)
		}
		cancel()
		return nil
	}
	p, err := c.Run(ctx)
	if snapshots, attached := r.vm.Left(); snapshots+attached > 0 || transfer.KindOf(err) != transfer.Canceled || p.OK {
		t.Errorf("%d VM snapshots, %d attached, %v", snapshots, attached, err)
	}
}

func TestSourceCheckThatCannotCleanUp(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*rig, error)
		want []string
	}{
		{"release", func(r *rig, err error) { r.vm.ReleaseErr = err }, []string{"is left and grows"}},
		{"detach", func(r *rig, err error) { r.vm.CloseErr = err }, []string{"Hard disk 1 is left attached", "still attached"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, mib)
			write(t, r.vm.Disk(0), 1, 0, mib)
			r.must(transfer.Options{})
			tt.set(r, errors.New("busy"))
			p, err := r.compare(r.check(nil))
			if len(p.Alarms) != len(tt.want) {
				t.Fatalf("alarms %q, %v", p.Alarms, err)
			}
			for i, want := range tt.want {
				if !strings.Contains(p.Alarms[i], want) {
					t.Errorf("alarm %q, want %q", p.Alarms[i], want)
				}
			}
		})
	}
}

// TestSourceCheckWaitsForNobody: a cycle of the VM that runs is not disturbed.
func TestSourceCheckBesideACycle(t *testing.T) {
	r := newRig(t, mib)
	r.must(transfer.Options{})
	vm, err := r.state.Lock("vc-1", "vm-app01")
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Unlock()
	r.frozen = nil
	if _, err := r.compare(r.check(nil)); transfer.KindOf(err) != transfer.Retry || r.frozen != nil {
		t.Errorf("%v, frozen %v", err, r.frozen != nil)
	}
}

// liar reads blocks other than they are.
type liar struct {
	transfer.SnapshotReader
	wrong map[int64]bool
}

func (l liar) Get(ctx context.Context, index int64, token string, buf []byte) (transfer.Digest, error) {
	d, err := l.SnapshotReader.Get(ctx, index, token, buf)
	if l.wrong[index] {
		d[0] ^= 1
	}
	return d, err
}

func TestReadBackOfASample(t *testing.T) {
	r := newRig(t, 32*mib)
	write(t, r.vm.Disk(0), 1, 0, 30*mib)
	r.must(transfer.Options{})
	s := r.points()[0].Disks[0]
	known := r.state.Find("vc-1", "vm-app01", s.Label.Disk.String(), string(s.ID), string(s.Label.Cycle))
	if known == nil {
		t.Fatal("no manifest")
	}
	defer known.Close()
	reader, err := r.store.Read(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	present, err := transfer.ListBlocks(t.Context(), s, reader)
	if err != nil || present.Len() != 60 {
		t.Fatalf("%d present, %v", present.Len(), err)
	}
	chosen := (transfer.Sample{Fraction: 0.2, Seed: 3}).Choose(present, 1)
	var in, out int64 = -1, -1
	for i := range present.All() {
		if chosen.Has(i) {
			in = i
		} else {
			out = i
		}
	}
	back := func(reader transfer.SnapshotReader) *transfer.ReadBack {
		return &transfer.ReadBack{Snapshot: s, Reader: reader, Manifest: known, Only: chosen.Has, Buffers: transfer.NewBuffers(4), Gets: 4, Scratch: t.TempDir()}
	}
	for _, tt := range []struct {
		name  string
		back  *transfer.ReadBack
		ok    bool
		proof transfer.Proof
	}{
		{"right", back(reader), true, transfer.ProofManifest},
		{"wrong where it was looked at", back(liar{reader, map[int64]bool{in: true}}), false, transfer.ProofManifest},
		{"wrong elsewhere", back(liar{reader, map[int64]bool{out: true}}), true, transfer.ProofManifest},
		{"a block is gone", back(without{reader, out}), false, transfer.ProofManifest},
	} {
		p, err := tt.back.Run(t.Context())
		if err != nil || p.OK != tt.ok || p.Proof != tt.proof || !p.Sampled || p.Blocks != 12 || p.Root != nil {
			t.Errorf("%s: %+v, %v", tt.name, p, err)
		}
		if v := transfer.VerificationOf(p, time.Now()); v.Kind != transfer.VerifySample || v.Of < 59 || v.Blocks != 12 {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
	forgot := back(reader)
	forgot.Manifest = nil
	if p, err := forgot.Run(t.Context()); err != nil || p.Proof != transfer.ProofNone || !p.OK {
		t.Errorf("without a manifest: %+v, %v", p, err)
	}
}

// without does not list one block.
type without struct {
	transfer.SnapshotReader
	index int64
}

func (w without) Blocks(ctx context.Context, yield func(int64, string) error) error {
	return w.SnapshotReader.Blocks(ctx, func(i int64, token string) error {
		if i == w.index {
			return nil
		}
		return yield(i, token)
	})
}

func TestVerifiedPoint(t *testing.T) {
	p := transfer.Points([]transfer.Snapshot{sealedDisk("vm-1", daysAgo(1), 1, 2), sealedDisk("vm-1", daysAgo(1), 2, 2)})[0]
	note := func(day int, ok bool) transfer.Notes {
		return transfer.Notes{Verified: &transfer.Verification{At: daysAgo(day), Kind: transfer.VerifyFull, Proof: transfer.ProofRoot, OK: ok, Blocks: 3, Of: 3}}
	}
	for _, tt := range []struct {
		name     string
		one, two transfer.Notes
		disks    int
		ok       bool
		day      int
	}{
		{"both", note(3, true), note(5, true), 2, true, 5},
		{"one", note(3, true), transfer.Notes{}, 1, true, 3},
		{"the wrong one leads", note(3, false), note(5, true), 2, false, 3},
		{"the wrong one leads, second", note(5, true), note(3, false), 2, false, 3},
		{"unreadable beside", note(3, true), transfer.Notes{Unreadable: "x"}, 1, true, 3},
	} {
		sum := transfer.VerifiedPoint(p, map[transfer.SnapshotID]transfer.Notes{p.Disks[0].ID: tt.one, p.Disks[1].ID: tt.two})
		if sum == nil || sum.Disks != tt.disks || sum.OK != tt.ok || !sum.At.Equal(daysAgo(tt.day)) || (sum.Unreadable != "") != (tt.two.Unreadable != "") {
			t.Errorf("%s: %+v", tt.name, sum)
		}
	}
	if sum := transfer.VerifiedPoint(p, nil); sum != nil {
		t.Errorf("nothing is noted: %+v", sum)
	}
}

// lossy is a store whose snapshots have lost a block.
type lossy struct {
	transfer.Store
	index int64
}

func (l lossy) Read(ctx context.Context, id transfer.SnapshotID) (transfer.SnapshotReader, error) {
	r, err := l.Store.Read(ctx, id)
	return without{r, l.index}, err
}

// TestSourceCheckOfAnAbsentBlock: zeros on the disk, and absent from a snapshot
// that is encrypted and should have every block: a volume has garbage there.
func TestSourceCheckOfAnAbsentBlock(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		r := newRig(t, 2*mib)
		write(t, r.vm.Disk(0), 1, 0, 1000)
		r.must(transfer.Options{Encrypted: encrypted})
		c := r.check(nil)
		c.Store = lossy{r.store, 2}
		p, err := r.compare(c)
		if err != nil || p.OK != !encrypted || (encrypted && p.Disks[0].First[0] != 2) {
			t.Errorf("encrypted %v: %+v, %v", encrypted, p, err)
		}
	}
}

func TestVerificationReplaces(t *testing.T) {
	result := func(kind transfer.VerifyKind, ok bool, proof transfer.Proof) transfer.Verification {
		return transfer.Verification{Kind: kind, OK: ok, Proof: proof}
	}
	for _, tt := range []struct {
		name     string
		old, new transfer.Verification
		want     bool
	}{
		{"newer", result(transfer.VerifyFull, true, transfer.ProofRoot), result(transfer.VerifySample, true, transfer.ProofManifest), true},
		{"wrong", result(transfer.VerifyFull, true, transfer.ProofRoot), result(transfer.VerifySample, false, transfer.ProofManifest), true},
		{"a luckier sample", result(transfer.VerifySample, false, transfer.ProofManifest), result(transfer.VerifySample, true, transfer.ProofManifest), false},
		{"a full proof", result(transfer.VerifySample, false, transfer.ProofManifest), result(transfer.VerifyFull, true, transfer.ProofRoot), true},
		{"no proof", result(transfer.VerifySample, false, transfer.ProofManifest), result(transfer.VerifyFull, true, transfer.ProofNone), false},
		{"the source agrees, and bytes were wrong", result(transfer.VerifyFull, false, transfer.ProofManifest), result(transfer.VerifySource, true, ""), false},
		{"what the source refuted", result(transfer.VerifySource, false, ""), result(transfer.VerifyFull, true, transfer.ProofManifest), false},
		{"what the source refuted, and now bears out in part", result(transfer.VerifySource, false, ""), result(transfer.VerifySource, true, ""), false},
		{"wrong again", result(transfer.VerifySource, false, ""), result(transfer.VerifySource, false, ""), true},
		{"wrong in another way, which could be refuted", result(transfer.VerifySource, false, ""), result(transfer.VerifyFull, false, transfer.ProofManifest), false},
		{"from wrong to wrong", result(transfer.VerifySample, false, transfer.ProofManifest), result(transfer.VerifySource, false, ""), true},
	} {
		if got := tt.new.Replaces(&tt.old); got != tt.want {
			t.Errorf("%s: replaces %v, want %v", tt.name, got, tt.want)
		}
	}
	if !result(transfer.VerifySample, true, "").Replaces(nil) {
		t.Error("the first is not stored")
	}
}
