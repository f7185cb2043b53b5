package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/test/memory"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// rig is one VM, one store and one connector's state.
type rig struct {
	t      *testing.T
	vm     *memory.VM
	store  *memory.Store
	state  manifest.Dir
	frozen *memory.Frozen // of the last cycle
}

func newRig(t *testing.T, sizes ...int64) *rig {
	r := &rig{t: t, vm: memory.NewVM("app01", sizes...), store: memory.NewStore(), state: manifest.Dir(t.TempDir())}
	r.vm.OnFreeze = func(f *memory.Frozen) { r.frozen = f }
	return r
}

func (r *rig) cycle(o transfer.Options) *transfer.Cycle {
	return &transfer.Cycle{
		Env: transfer.Env{
			Store: r.store, State: r.state, Appliance: "appliance-1", Buffers: transfer.NewBuffers(8),
			Reads: 3, Puts: 4, Now: time.Now, Cleanup: 10 * time.Second,
		},
		Options: o, Source: r.vm, Progress: transfer.NewProgress(time.Now, nil),
	}
}

func (r *rig) sync(o transfer.Options) (transfer.Report, error) {
	r.t.Helper()
	rep, err := r.cycle(o).Run(r.t.Context())
	if snapshots, attached := r.vm.Left(); r.vm.ReleaseErr == nil && r.vm.CloseErr == nil && snapshots+attached > 0 {
		r.t.Errorf("left behind: %d VM snapshots, %d attached disks", snapshots, attached)
	}
	return rep, err
}

func (r *rig) must(o transfer.Options) transfer.Report {
	r.t.Helper()
	rep, err := r.sync(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func (r *rig) points() []transfer.Point {
	all, err := r.store.Snapshots(r.t.Context(), transfer.VMID{VCenter: "vc-1", Moref: "vm-app01"})
	if err != nil {
		r.t.Fatal(err)
	}
	return transfer.Points(all)
}

// same holds the newest complete point against the last frozen state.
func (r *rig) same() {
	r.t.Helper()
	points := r.points()
	if len(points) == 0 || !points[0].Complete {
		r.t.Fatalf("no complete point: %+v", points)
	}
	for _, s := range points[0].Disks {
		want, size := r.frozen.Image(s.Label.Disk)
		got, volume := r.store.Image(s.ID)
		if volume < size {
			r.t.Fatalf("%s: a volume of %d bytes for a disk of %d", s.ID, volume, size)
		}
		if at, ok := differ(want, size, got, volume); ok {
			r.t.Fatalf("%s (%s): differs from the frozen disk at %d", s.ID, s.Label.DiskLabel, at)
		}
	}
}

// differ compares an image with a disk; behind the disk it must be zeros.
func differ(want io.ReaderAt, size int64, got io.ReaderAt, volume int64) (int64, bool) {
	a, b := make([]byte, mib), make([]byte, mib)
	for off := int64(0); off < volume; off += mib {
		if hole(want, off) && hole(got, off) {
			continue
		}
		clear(a)
		if n := min(mib, size-off); n > 0 {
			if _, err := want.ReadAt(a[:n], off); err != nil {
				return off, true
			}
		}
		if _, err := got.ReadAt(b, off); err != nil || !bytes.Equal(a, b) {
			return off, true
		}
	}
	return 0, false
}

func hole(r io.ReaderAt, off int64) bool {
	h, ok := r.(interface{ Hole(off, n int64) bool })
	return ok && h.Hole(off, mib)
}

func noise(seed uint64, n int64) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed)))
	_, _ = rng.Read(b)
	return b
}

func write(t *testing.T, d *memory.Disk, seed uint64, off, n int64) {
	t.Helper()
	if _, err := d.WriteAt(noise(seed, n), off); err != nil {
		t.Fatal(err)
	}
}

// long runs what takes minutes under the race detector, which pays for every
// byte: disks of whole GiB, encrypted ones of all sizes.
var long = os.Getenv("SNAPFERRY_LONG") != ""

func TestSeedThenDeltasOverSizes(t *testing.T) {
	const b = transfer.BlockSize
	for _, size := range []int64{512, b - 512, b, b + 512, 3*b + 4096, transfer.GiB - 512, transfer.GiB, transfer.GiB + 512} {
		for _, o := range []transfer.Options{{}, {Encrypted: true}} {
			if !long && (size == transfer.GiB-512 || size == transfer.GiB || o.Encrypted && size != b+512) {
				continue
			}
			if size > transfer.GiB/2 && !long {
				o.Zeros = transfer.ZerosAllocated // nothing else reads a GiB of zeros
			}
			t.Run(fmt.Sprintf("%d,encrypted=%v", size, o.Encrypted), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, size)
				rng := rand.New(rand.NewPCG(uint64(size), 1))
				for cycle := range 5 {
					for range 3 {
						off := rng.Int64N(size/512) * 512
						write(t, r.vm.Disk(0), rng.Uint64(), off, min(size-off, 512+rng.Int64N(2*mib)))
					}
					rep := r.must(o)
					want := transfer.Delta
					if cycle == 0 {
						want = transfer.Seed
					}
					if rep.Outcome != transfer.OutcomePoint || rep.Disks[0].Kind != want {
						t.Fatalf("cycle %d: %s by %s because %s", cycle, rep.Outcome, rep.Disks[0].Kind, rep.Disks[0].Reason)
					}
				}
				r.same()
			})
		}
	}
}

func TestExactlyTheChangedBlocksArePut(t *testing.T) {
	r := newRig(t, 64*mib, 16*mib)
	write(t, r.vm.Disk(0), 1, 0, 64*mib)
	if rep := r.must(transfer.Options{}); rep.Disks[0].Put != 128 || rep.Disks[1].Put != 0 || rep.Disks[1].Zero != 32 {
		t.Fatalf("seed: %+v", rep.Disks)
	}
	for _, i := range []int64{3, 50, 51, 127} {
		write(t, r.vm.Disk(0), uint64(i), i*transfer.BlockSize+777, 10)
	}
	rep := r.must(transfer.Options{})
	if rep.Disks[0].Put != 4 || rep.Disks[0].Areas != 4 || rep.Disks[1].Put != 0 || len(r.points()) != 2 {
		t.Errorf("delta: %+v", rep.Disks)
	}
	same := make([]byte, 300)
	if _, err := r.vm.Disk(0).ReadAt(same, 9*mib); err != nil {
		t.Fatal(err)
	}
	_, _ = r.vm.Disk(0).WriteAt(same, 9*mib) // rewritten with the same bytes
	write(t, r.vm.Disk(1), 5, 0, 1)
	rep = r.must(transfer.Options{})
	if rep.Disks[0].Put != 0 || rep.Disks[0].Identical != 1 || rep.Disks[1].Put != 1 {
		t.Errorf("rewritten with the same bytes: %+v", rep.Disks)
	}
	r.same()
}

func TestNothingChangedConfirmsThePoint(t *testing.T) {
	r := newRig(t, 8*mib, 8*mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	r.must(transfer.Options{})
	puts, starts := r.store.Counts()
	attaches := r.vm.Attaches()
	rep := r.must(transfer.Options{})
	puts2, starts2 := r.store.Counts()
	if rep.Outcome != transfer.OutcomeConfirmed || puts2 != puts || starts2 != starts || r.vm.Attaches() != attaches {
		t.Errorf("%s with %d puts, %d drafts, %d attaches", rep.Outcome, puts2-puts, starts2-starts, r.vm.Attaches()-attaches)
	}
	p := r.points()
	if len(p) != 1 || !p[0].Confirmed.Equal(r.frozen.State().At) || rep.Point != p[0].Cycle {
		t.Errorf("points %+v", p)
	}
	write(t, r.vm.Disk(1), 2, 0, 1)
	r.must(transfer.Options{})
	r.same()
}

func TestZeroedBlocksAreWrittenInADelta(t *testing.T) {
	r := newRig(t, 4*mib)
	write(t, r.vm.Disk(0), 1, 0, 4*mib)
	r.must(transfer.Options{})
	if _, err := r.vm.Disk(0).WriteAt(make([]byte, 2*mib), mib); err != nil {
		t.Fatal(err)
	}
	if rep := r.must(transfer.Options{}); rep.Disks[0].Put != 4 || rep.Disks[0].Zero != 0 {
		t.Errorf("%+v", rep.Disks[0])
	}
	r.same()
}

func TestLostBaselines(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*rig)
		kind transfer.PlanKind
		puts int64
	}{
		"reset":                 {func(r *rig) { r.vm.Disk(0).ResetCBT() }, transfer.Compare, 1},
		"reset, state lost":     {func(r *rig) { r.vm.Disk(0).ResetCBT(); r.state = manifest.Dir(r.t.TempDir()) }, transfer.Seed, 16},
		"state lost":            {func(r *rig) { r.state = manifest.Dir(r.t.TempDir()) }, transfer.Delta, 1},
		"tracking off":          {func(r *rig) { r.vm.NoCBT = "CBT is off" }, transfer.Compare, 1},
		"grown in the same GiB": {func(r *rig) { r.vm.Disk(0).Grow(9 * mib) }, transfer.Compare, 1},
		"grown past a GiB":      {func(r *rig) { r.vm.Disk(0).Grow(transfer.GiB + mib) }, transfer.Compare, 1},
		"snapshot deleted":      {func(r *rig) { r.store.Remove("snap-0001") }, transfer.Seed, 16},
		"account encrypts":      {func(r *rig) { r.store.DefaultEncryption = true }, transfer.Seed, 2048},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "grown past a GiB" && !long {
				t.Skip("a GiB is read twice: in the long suite")
			}
			t.Parallel()
			r := newRig(t, 8*mib)
			write(t, r.vm.Disk(0), 1, 0, 8*mib)
			r.must(transfer.Options{})
			c.harm(r)
			write(t, r.vm.Disk(0), 2, 5*mib+5, 500)
			rep := r.must(transfer.Options{})
			if d := rep.Disks[0]; d.Kind != c.kind || d.Put != c.puts || d.Reason == "" {
				t.Errorf("%s with %d puts because %s, want %s with %d", d.Kind, d.Put, d.Reason, c.kind, c.puts)
			}
			r.same()
			write(t, r.vm.Disk(0), 3, 100, 500)
			r.must(transfer.Options{})
			r.same()
		})
	}
}

func TestEncryptedDiskThatGrows(t *testing.T) {
	r := newRig(t, 3*mib)
	write(t, r.vm.Disk(0), 1, mib, mib)
	r.must(transfer.Options{Encrypted: true})
	r.vm.Disk(0).Grow(transfer.GiB + 3*mib + 512)
	rep := r.must(transfer.Options{Encrypted: true})
	if d := rep.Disks[0]; d.Kind != transfer.Compare || d.Put != 2048 || d.Parent == "" {
		t.Errorf("%+v", d)
	}
	r.same()
}

func TestAllocatedReadsOnlyWhatIsAllocated(t *testing.T) {
	for _, star := range []bool{true, false} {
		r := newRig(t, 64*mib)
		r.vm.MayStar = star
		write(t, r.vm.Disk(0), 1, 10*mib, mib)
		rep := r.must(transfer.Options{Zeros: transfer.ZerosAllocated})
		d := rep.Disks[0]
		if want := map[bool]int64{true: mib, false: 64 * mib}[star]; d.BytesRead != want || d.Put != 2 {
			t.Errorf("star %v: read %d bytes, put %d: %s", star, d.BytesRead, d.Put, d.Reason)
		}
		r.same()
	}
}

func TestASealedDiskServesThoughItsSiblingFailed(t *testing.T) {
	r := newRig(t, 8*mib, 8*mib)
	write(t, r.vm.Disk(0), 1, 0, 8*mib)
	write(t, r.vm.Disk(1), 2, 0, 8*mib)
	var n atomic.Int64
	r.store.PutHook = func(_ context.Context, id transfer.SnapshotID, i int64) error {
		if i == 7 && n.Add(1) == 1 {
			return transfer.Fail(transfer.Retry, "put", errors.New("the sky fell"), "")
		}
		return nil
	}
	rep, err := r.sync(transfer.Options{})
	if transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), "the sky fell") || rep.Outcome != transfer.OutcomeFailed {
		t.Fatalf("%v, %s", err, rep.Outcome)
	}
	p := r.points()
	if len(p) != 1 || p[0].Complete || len(p[0].Disks) != 2 || rep.Disks[0].Sealed == rep.Disks[1].Sealed || rep.Disks[0].Kept == rep.Disks[1].Kept {
		t.Fatalf("after the failure: %+v", p)
	}
	r.store.PutHook = nil
	write(t, r.vm.Disk(0), 3, 100, 512)
	write(t, r.vm.Disk(1), 4, 100, 512)
	rep = r.must(transfer.Options{})
	kinds := fmt.Sprint(rep.Disks[0].Kind, rep.Disks[1].Kind)
	if kinds != "seeddelta" && kinds != "deltaseed" {
		t.Errorf("kinds %s", kinds)
	}
	r.same()
	if left := r.store.Pending(); len(left) > 0 {
		t.Errorf("drafts left: %v", left)
	}
}

func TestAPutThatSpoilsTheDraftMakesNoPoint(t *testing.T) {
	r := newRig(t, mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	r.must(transfer.Options{})
	write(t, r.vm.Disk(0), 2, 0, mib)
	r.store.SealHook = func(id transfer.SnapshotID) error {
		return transfer.Fail(transfer.Retry, "seal", fmt.Errorf("%w: Checksum mismatch for snapshot", transfer.ErrDraftFailed), "")
	}
	if _, err := r.sync(transfer.Options{}); err == nil {
		t.Fatal("no error")
	}
	if p := r.points(); len(p) != 1 {
		t.Errorf("%d points", len(p))
	}
	r.store.SealHook = nil
	r.must(transfer.Options{})
	r.same()
}

func TestCancelLeavesNothing(t *testing.T) {
	for _, after := range []int64{0, 1, 9} {
		r := newRig(t, 16*mib, 16*mib)
		write(t, r.vm.Disk(0), 1, 0, 16*mib)
		write(t, r.vm.Disk(1), 1, 0, 16*mib)
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		r.store.PutHook = func(ctx context.Context, _ transfer.SnapshotID, _ int64) error {
			if n.Add(1) > after {
				cancel()
			}
			return ctx.Err()
		}
		rep, err := r.cycle(transfer.Options{}).Run(ctx)
		if transfer.KindOf(err) != transfer.Canceled {
			t.Errorf("after %d puts: %v", after, err)
		}
		if s, a := r.vm.Left(); s+a > 0 {
			t.Errorf("after %d puts: %d VM snapshots, %d attached disks left", after, s, a)
		}
		kept := 0
		for _, d := range rep.Disks {
			if d.Kept {
				kept++
			}
		}
		if left := r.store.Pending(); len(left) != kept || after == 0 && kept > 0 {
			t.Errorf("after %d puts: drafts %v left, %d kept", after, left, kept)
		}
		cancel()
	}
}

func TestWhatCannotBeCleanedUpIsAnAlarm(t *testing.T) {
	r := newRig(t, mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	r.vm.ReleaseErr = errors.New("consolidation did not end")
	rep, err := r.sync(transfer.Options{})
	if err != nil || rep.Outcome != transfer.OutcomePoint || len(rep.Alarms) != 1 || !strings.Contains(rep.Alarms[0], "is left and grows: consolidation") || rep.Snapshot == "" {
		t.Errorf("release: %v, %+v", err, rep)
	}
	r = newRig(t, mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	r.vm.CloseErr = errors.New("detach refused")
	rep, err = r.sync(transfer.Options{})
	if err != nil || len(rep.Alarms) != 2 || !strings.Contains(rep.Alarms[0], "detach refused") {
		t.Errorf("close: %v, %+v", err, rep.Alarms)
	}
	if s, _ := r.vm.Left(); s != 1 {
		t.Errorf("%d VM snapshots: it must not go while its disk is attached", s)
	}
}

func TestDisksAreRefusedOrLeftOutByName(t *testing.T) {
	r := newRig(t, mib, mib)
	second := r.vm.Disk(1).Info()
	second.Obstacles = []transfer.Obstacle{{Reason: "it is an independent disk", Remedy: "Change its mode."}}
	r.vm.Edit(func(vm *transfer.VM) { vm.Disks = []transfer.Disk{second} })
	_, err := r.sync(transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "Hard disk 2 ([ds1] app01/2001.vmdk): it is an independent disk") || !strings.Contains(transfer.HintOf(err), "--exclude-disk") {
		t.Fatalf("%v; hint %q", err, transfer.HintOf(err))
	}
	for _, name := range []string{"hard disk 2", "2001", second.ID.UUID, second.File} {
		rep := r.must(transfer.Options{Exclude: []string{name}})
		if len(rep.Disks) != 1 {
			t.Errorf("%s: %d disks", name, len(rep.Disks))
		}
	}
	if got := r.points()[0].Disks[0].Label.Excluded; len(got) != 1 || got[0] != "Hard disk 2" {
		t.Errorf("the point records %v", got)
	}
	if _, err := r.sync(transfer.Options{Exclude: []string{"Hard disk 2", "Hard disk 9"}}); err == nil || !strings.Contains(transfer.HintOf(err), `"Hard disk 1" (2000)`) {
		t.Errorf("unknown disk: %v", err)
	}
}

func TestOneCycleOfAVMAtATime(t *testing.T) {
	r := newRig(t, mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	var inner error
	r.store.PutHook = func(ctx context.Context, _ transfer.SnapshotID, i int64) error {
		if i == 0 {
			_, inner = r.cycle(transfer.Options{}).Run(ctx)
		}
		return nil
	}
	r.must(transfer.Options{})
	if !errors.Is(inner, manifest.ErrBusy) || transfer.KindOf(inner) != transfer.Retry {
		t.Errorf("second cycle: %v", inner)
	}
}

// TestACycleMayWaitForItsTurn: with LockWait one that finds the VM busy begins
// when it is free.
func TestACycleMayWaitForItsTurn(t *testing.T) {
	r := newRig(t, mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	second := make(chan error, 1)
	r.store.PutHook = func(_ context.Context, _ transfer.SnapshotID, i int64) error {
		if i == 0 && len(second) == 0 {
			c := r.cycle(transfer.Options{})
			c.LockWait = time.Minute
			waits := make(chan struct{})
			go func() { close(waits); _, err := c.Run(context.Background()); second <- err }()
			<-waits
		}
		return nil
	}
	r.must(transfer.Options{})
	r.store.PutHook = nil
	if err := <-second; err != nil {
		t.Errorf("the cycle that waited: %v", err)
	}
}

func TestAnAddedDiskMakesAPointOfAllDisks(t *testing.T) {
	r := newRig(t, mib)
	write(t, r.vm.Disk(0), 1, 0, mib)
	r.must(transfer.Options{})
	r.vm.AddDisk(2001, 2*mib)
	rep := r.must(transfer.Options{})
	if rep.Outcome != transfer.OutcomePoint || rep.Disks[0].Kind != transfer.Delta || rep.Disks[1].Kind != transfer.Seed {
		t.Errorf("%+v", rep)
	}
	r.same()
}

func TestStaleManifestIsNotUsed(t *testing.T) {
	r := newRig(t, 2*mib)
	write(t, r.vm.Disk(0), 1, 0, 2*mib)
	r.must(transfer.Options{})
	old := copyState(t, r.state)
	write(t, r.vm.Disk(0), 2, 0, 512)
	r.must(transfer.Options{})
	back := noise(1, 2*mib)[:512]
	_, _ = r.vm.Disk(0).WriteAt(back, 0) // as the old manifest knows it
	r.state = old                        // the appliance was restored to an earlier day
	if rep := r.must(transfer.Options{}); rep.Disks[0].Put != 1 {
		t.Errorf("put %d blocks", rep.Disks[0].Put)
	}
	r.same()
}

func copyState(t *testing.T, state manifest.Dir) manifest.Dir {
	t.Helper()
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(string(state))); err != nil {
		t.Fatal(err)
	}
	return manifest.Dir(old)
}

func TestReadBackProvesAPoint(t *testing.T) {
	r := newRig(t, 3*mib+512)
	write(t, r.vm.Disk(0), 1, 0, 3*mib)
	r.must(transfer.Options{})
	write(t, r.vm.Disk(0), 2, mib, 512)
	r.must(transfer.Options{})
	s := r.points()[0].Disks[0]
	run := func(known *manifest.Table) (transfer.Proved, *os.File) {
		t.Helper()
		reader, err := r.store.Read(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		w, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		p, err := transfer.Restore(t.Context(), &transfer.ReadBack{Snapshot: s, Reader: reader, Manifest: known, Buffers: transfer.NewBuffers(4), Gets: 4, Scratch: t.TempDir()}, w)
		if err != nil {
			t.Fatal(err)
		}
		return p, w
	}
	known := r.state.Find("vc-1", "vm-app01", s.Label.Disk.String(), string(s.ID), string(s.Label.Cycle))
	if known == nil {
		t.Fatal("no manifest")
	}
	defer known.Close()
	p, w := run(known)
	if !p.OK || p.Proof != transfer.ProofManifest || p.Blocks != 6 {
		t.Errorf("with the manifest: %+v", p)
	}
	want, size := r.frozen.Image(s.Label.Disk)
	if st, _ := w.Stat(); st.Size() != size {
		t.Errorf("restored %d bytes, want %d", st.Size(), size)
	}
	if at, bad := differ(want, size, w, size/512*512); bad && at < size-mib {
		t.Errorf("restored file differs at %d", at)
	}
	if p, _ := run(nil); !p.OK || p.Proof != transfer.ProofRoot {
		t.Errorf("without the manifest: %+v", p)
	}
	if err := r.store.Corrupt(s.ID, 2); err != nil {
		t.Fatal(err)
	}
	if p, _ := run(known); p.OK || p.Wrong != 1 || p.First[0] != 2 {
		t.Errorf("corrupted, with the manifest: %+v", p)
	}
	if p, _ := run(nil); p.OK || p.Proof != transfer.ProofRoot {
		t.Errorf("corrupted, without: %+v", p)
	}
}
