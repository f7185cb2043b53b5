package transfer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// interrupt runs a cycle that ends with its put number n.
func (r *rig) interrupt(n int64, o transfer.Options) transfer.Report {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	var puts atomic.Int64
	r.store.PutHook = func(ctx context.Context, _ transfer.SnapshotID, _ int64) error {
		if puts.Add(1) > n {
			cancel()
		}
		return ctx.Err()
	}
	rep, err := r.cycle(o).Run(ctx)
	if transfer.KindOf(err) != transfer.Canceled {
		r.t.Fatalf("interrupted: %v", err)
	}
	r.store.PutHook = nil
	return rep
}

func TestASeedGoesOnWhereItWasInterrupted(t *testing.T) {
	const blocks = 200
	r := newRig(t, blocks*transfer.BlockSize)
	write(t, r.vm.Disk(0), 1, 0, blocks*transfer.BlockSize)
	rep := r.interrupt(100, transfer.Options{})
	if !rep.Disks[0].Kept {
		t.Fatalf("not kept: %+v", rep.Disks[0])
	}
	draft := rep.Disks[0].Snapshot
	before, _ := r.store.Counts()
	rep = r.must(transfer.Options{})
	puts, starts := r.store.Counts()
	d := rep.Disks[0]
	if again := before + puts - before - blocks; again > 2 || starts != 1 || d.Snapshot != draft || d.Resumed < 98 || d.Put+d.Resumed != blocks {
		t.Errorf("%d blocks put twice, %d drafts started: %+v", again, starts, d)
	}
	if !strings.Contains(d.Reason, "going on with draft "+string(draft)) {
		t.Errorf("reason %q", d.Reason)
	}
	r.same()
	if p := r.points(); len(p) != 1 || p[0].Cycle != rep.Cycle || p[0].Disks[0].Label.Cycle != rep.Cycle {
		t.Errorf("points %+v", p)
	}
}

func TestWhatChangedMeanwhileIsPutAnew(t *testing.T) {
	for name, harm := range map[string]func(*rig){
		"CBT works":     func(*rig) {},
		"CBT was reset": func(r *rig) { r.vm.Disk(0).ResetCBT() },
		"CBT is gone":   func(r *rig) { r.vm.NoCBT = "CBT is off" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 40*transfer.BlockSize, mib)
			write(t, r.vm.Disk(0), 1, 0, 40*transfer.BlockSize)
			r.interrupt(20, transfer.Options{})
			harm(r)
			write(t, r.vm.Disk(0), 2, 0, 10)                        // put already
			write(t, r.vm.Disk(0), 3, 39*transfer.BlockSize, 10)    // not yet
			_, _ = r.vm.Disk(0).WriteAt(make([]byte, 2*mib), 2*mib) // zeros over what was put
			write(t, r.vm.Disk(1), 4, 0, mib)
			rep := r.must(transfer.Options{})
			if d := rep.Disks[0]; d.Put > 20+6+1 {
				t.Errorf("%d puts", d.Put)
			}
			r.same()
			write(t, r.vm.Disk(0), 5, mib, 10)
			r.must(transfer.Options{})
			r.same()
		})
	}
}

func TestADeltaGoesOnToo(t *testing.T) {
	r := newRig(t, 40*transfer.BlockSize)
	write(t, r.vm.Disk(0), 1, 0, 40*transfer.BlockSize)
	r.must(transfer.Options{})
	write(t, r.vm.Disk(0), 2, 0, 30*transfer.BlockSize)
	r.interrupt(10, transfer.Options{})
	write(t, r.vm.Disk(0), 3, 35*transfer.BlockSize, 5)
	r.interrupt(10, transfer.Options{}) // and again
	write(t, r.vm.Disk(0), 4, 0, 5)
	rep := r.must(transfer.Options{})
	if d := rep.Disks[0]; d.Kind != transfer.Delta || d.Resumed < 15 {
		t.Errorf("%+v", d)
	}
	if _, starts := r.store.Counts(); starts != 2 {
		t.Errorf("%d drafts were started", starts)
	}
	r.same()
}

func TestADraftThatDoesNotFitIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*rig)
		o    transfer.Options
		why  string
	}{
		"timed out":        {harm: func(r *rig) { r.store.Remove("snap-0001") }, why: "AWS does not have it any more"},
		"grown":            {harm: func(r *rig) { r.vm.Disk(0).Grow(12 * mib) }, why: "another size"},
		"other encryption": {o: transfer.Options{Encrypted: true}, why: "other encryption"},
		"seed asked for":   {o: transfer.Options{Reseed: true}, why: "a new seed"},
		"journal lost":     {harm: func(r *rig) { r.state = manifest.Dir(r.t.TempDir()) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 8*mib)
			write(t, r.vm.Disk(0), 1, 0, 8*mib)
			r.interrupt(7, transfer.Options{})
			if c.harm != nil {
				c.harm(r)
			}
			rep := r.must(c.o)
			if d := rep.Disks[0]; !strings.Contains(d.Reason, c.why) || d.Resumed > 0 || d.Put < 16 {
				t.Errorf("%+v", d)
			}
			r.same()
			if left := r.store.Pending(); len(left) > 0 && name != "journal lost" { // the reaper's business
				t.Errorf("drafts left: %v", left)
			}
		})
	}
}

func TestAnOldJournalNeverMakesAWrongPoint(t *testing.T) {
	r := newRig(t, 20*transfer.BlockSize)
	write(t, r.vm.Disk(0), 1, 0, 20*transfer.BlockSize)
	r.interrupt(8, transfer.Options{})
	old := copyState(t, r.state)
	write(t, r.vm.Disk(0), 2, 0, 4*mib)
	r.interrupt(8, transfer.Options{})
	back := noise(1, 4*mib) // as the old journal knows it, while the draft holds the newer bytes
	_, _ = r.vm.Disk(0).WriteAt(back, 0)
	r.state = old // the appliance was restored to an earlier day
	rep, err := r.sync(transfer.Options{})
	if err == nil {
		r.same()
		t.Logf("%s", rep.Disks[0].Reason)
		return
	}
	if p := r.points(); len(p) > 0 && p[0].Complete {
		t.Errorf("a point after %v", err)
	}
	r.must(transfer.Options{})
	r.same()
}

func TestTheVMIsFrozenAnewWhenADatastoreRunsLow(t *testing.T) {
	r := newRig(t, 40*transfer.BlockSize, 4*mib)
	write(t, r.vm.Disk(0), 1, 0, 40*transfer.BlockSize)
	write(t, r.vm.Disk(1), 2, 0, 4*mib)
	var low, puts atomic.Int64
	r.vm.Pressed = func() string {
		if low.CompareAndSwap(1, 2) {
			return "datastore ds1 has 1 MiB free"
		}
		return ""
	}
	r.store.PutHook = func(ctx context.Context, _ transfer.SnapshotID, _ int64) error {
		switch n := puts.Add(1); {
		case n == 20:
			write(t, r.vm.Disk(0), 3, 0, mib) // while it is copied
			write(t, r.vm.Disk(1), 4, 0, mib)
			low.CompareAndSwap(0, 1)
		case n > 20 && low.Load() == 1:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	c := r.cycle(transfer.Options{})
	c.Watch = time.Millisecond
	rep, err := c.Run(t.Context())
	if err != nil || rep.Outcome != transfer.OutcomePoint || len(rep.Notes) != 1 || !strings.Contains(rep.Notes[0], "1 MiB free") {
		t.Fatalf("%v: %+v", err, rep)
	}
	r.same()
	if _, starts := r.store.Counts(); starts != 2 {
		t.Errorf("%d drafts for two disks", starts)
	}
}

func TestASnapshotOlderThanMaxFreezeIsGivenUp(t *testing.T) {
	r := newRig(t, 40*transfer.BlockSize)
	write(t, r.vm.Disk(0), 1, 0, 40*transfer.BlockSize)
	var stalled atomic.Bool
	r.store.PutHook = func(ctx context.Context, _ transfer.SnapshotID, i int64) error {
		if i == 20 && stalled.CompareAndSwap(false, true) {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	c := r.cycle(transfer.Options{})
	c.Watch, c.MaxFreeze = time.Millisecond, 500*time.Millisecond
	rep, err := c.Run(t.Context())
	if err != nil || len(rep.Notes) == 0 {
		t.Fatalf("%v: %+v", err, rep)
	}
	r.same()
}

func TestAPermanentFailureKeepsNoDraft(t *testing.T) {
	r := newRig(t, 8*mib)
	write(t, r.vm.Disk(0), 1, 0, 8*mib)
	r.store.PutHook = func(_ context.Context, _ transfer.SnapshotID, i int64) error {
		if i > 5 {
			return transfer.Fail(transfer.Permanent, "put", errors.New("denied"), "")
		}
		return nil
	}
	if rep, err := r.sync(transfer.Options{}); err == nil || rep.Disks[0].Kept || len(r.store.Pending()) > 0 {
		t.Errorf("%v: kept %v, %v", err, rep.Disks[0].Kept, r.store.Pending())
	}
}

func TestASealThatWasCutOffIsFinished(t *testing.T) {
	for name, c := range map[string]struct {
		harm   func(*rig)
		starts int64
	}{
		"as it was":                    {func(*rig) {}, 4},
		"journal of an earlier moment": {nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 8*mib, 2*mib)
			write(t, r.vm.Disk(0), 1, 0, 8*mib)
			var old manifest.Dir
			if c.harm == nil {
				r.interrupt(7, transfer.Options{})
				old = copyState(t, r.state)
				c.harm = func(r *rig) { r.state = old }
			}
			r.store.SealLost = func(transfer.SnapshotID) bool { return true }
			rep, err := r.sync(transfer.Options{})
			if err == nil || !rep.Disks[0].Kept {
				t.Fatalf("%v: %+v", err, rep.Disks[0])
			}
			r.store.SealLost = nil
			c.harm(r)
			write(t, r.vm.Disk(0), 2, 0, 10)
			before, _ := r.store.Counts()
			rep = r.must(transfer.Options{})
			puts, starts := r.store.Counts()
			r.same()
			if name == "as it was" && (puts-before != 1 || starts != c.starts || len(rep.Notes) != 2 || len(r.points()) != 2 || !r.points()[1].Complete) {
				t.Errorf("%d puts, %d drafts, notes %v, points %+v", puts-before, starts, rep.Notes, r.points())
			}
			if left := r.store.Pending(); len(left) > 0 && name == "as it was" {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestTheSealOfADiskThatIsGoneIsFinished: the cycle was cut off while it sealed,
// and then the VM loses a disk, or the user leaves it out. The point of that
// cycle may wait for nothing but this seal.
func TestTheSealOfADiskThatIsGoneIsFinished(t *testing.T) {
	for name, next := range map[string]func(*rig) transfer.Options{
		"removed":  func(r *rig) transfer.Options { r.vm.RemoveDisk(1); return transfer.Options{} },
		"left out": func(*rig) transfer.Options { return transfer.Options{Exclude: []string{"2001"}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4*mib, 2*mib)
			r.store.SealLost = func(transfer.SnapshotID) bool { return true }
			if _, err := r.sync(transfer.Options{}); err == nil || len(r.store.Pending()) != 2 {
				t.Fatalf("%v, drafts %v", err, r.store.Pending())
			}
			theirs := r.disk(2001)
			o := next(r)
			r.store.SealLost = func(id transfer.SnapshotID) bool { return slices.Contains(theirs, id) }
			if rep := r.must(o); len(r.store.Pending()) != 1 || !strings.Contains(strings.Join(rep.Notes, "; "), "not replicated any more") {
				t.Errorf("a seal that cannot be finished: drafts %v, notes %v", r.store.Pending(), rep.Notes)
			}
			r.store.SealLost = nil
			r.must(o)
			old := r.points()[len(r.points())-1]
			if left := r.store.Pending(); len(left) > 0 || !old.Complete || len(old.Disks) != 2 {
				t.Errorf("drafts left: %v; the point of then: %+v", left, old)
			}
			if rep := r.must(o); len(rep.Notes) > 0 && name == "removed" {
				t.Errorf("a third time: %v", rep.Notes)
			}
		})
	}
}

// disk is every snapshot of the disk with this key.
func (r *rig) disk(key int32) (ids []transfer.SnapshotID) {
	for _, p := range r.points() {
		for _, s := range p.Disks {
			if s.Label.Disk.Key == key {
				ids = append(ids, s.ID)
			}
		}
	}
	return ids
}

// A manifest that was prepared for a seal that came to nothing must not pass
// for that of the same draft as a later cycle sealed it. The torture met it.
func TestAManifestOfABrokenSealIsNotUsed(t *testing.T) {
	r := newRig(t, 4*mib)
	write(t, r.vm.Disk(0), 1, 0, 4*mib)
	r.store.SealHook = func(transfer.SnapshotID) error {
		return transfer.Fail(transfer.Retry, "seal", errors.New("the tags could not be written"), "")
	}
	if rep, err := r.sync(transfer.Options{}); err == nil || !rep.Disks[0].Kept {
		t.Fatalf("%v: %+v", err, rep.Disks)
	}
	r.store.SealHook = nil
	old := copyState(t, r.state)
	write(t, r.vm.Disk(0), 2, 0, 512)
	if rep := r.must(transfer.Options{}); rep.Disks[0].Snapshot != "snap-0001" {
		t.Fatalf("another draft: %+v", rep.Disks[0])
	}
	r.state = old                                         // the appliance was restored to an earlier day
	_, _ = r.vm.Disk(0).WriteAt(noise(1, 4*mib)[:512], 0) // as the old manifest knows it
	if rep := r.must(transfer.Options{}); rep.Disks[0].Put != 1 {
		t.Errorf("put %d blocks", rep.Disks[0].Put)
	}
	r.same()
}
