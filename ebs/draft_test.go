package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

func TestDraftBecomesASnapshotAndAChild(t *testing.T) {
	r := newRig(t, aws.Options{})
	first := map[int64][]byte{0: block(1), 7: block(2), 2047: block(3)}
	parent := r.sealed(first)
	second := map[int64][]byte{7: block(4), 2048: block(5)}
	id := r.sealed(second, child(parent), func(s *transfer.DraftSpec) { s.VolumeGiB = 2 })

	image, size, err := r.aws.Image(string(id))
	if err != nil || size != 2*transfer.GiB {
		t.Fatalf("image of %d bytes, %v", size, err)
	}
	want := map[int64][]byte{0: first[0], 7: second[7], 8: make([]byte, transfer.BlockSize), 2047: first[2047], 2048: second[2048]}
	got := make([]byte, transfer.BlockSize)
	for i, b := range want {
		if _, err := image.ReadAt(got, i*transfer.BlockSize); err != nil || !bytes.Equal(got, b) {
			t.Errorf("block %d differs (%v)", i, err)
		}
	}
	info, _ := r.info(id)
	if info.State != "completed" || info.Parent != string(parent) || info.Timeout != 72*time.Hour {
		t.Errorf("snapshot is %+v", info)
	}
	if info.Tags[tagBlocks] != "2" || info.Tags["Name"] != "app01 Hard disk 1 20260102T030405Z-00c0ffee" {
		t.Errorf("tags are %v", info.Tags)
	}
}

func TestEmptyDraftSeals(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.sealed(nil)
	if info, _ := r.info(id); info.State != "completed" || info.Tags[tagBlocks] != "0" {
		t.Errorf("snapshot is %+v", info)
	}
}

func TestSealTagsBeforeItCompletes(t *testing.T) {
	r := newRig(t, aws.Options{})
	r.faults.Add(fault.Rule{Op: opComplete, Kind: fault.Error, Detail: "AccessDeniedException"})
	d := r.start()
	seal := r.put(d, map[int64][]byte{3: block(1)})
	root := transfer.ZeroDigest
	seal.Root = &root
	wantKind(t, d.Seal(t.Context(), seal), transfer.Permanent, "ebs:CompleteSnapshot")
	info, _ := r.info(d.ID())
	if info.State != "pending" || info.Tags[tagBlocks] != "1" || info.Tags[tagRoot] != root.String() {
		t.Errorf("before completion the snapshot is %+v", info)
	}
}

// Faults that cost a retry and nothing else.
func TestFaultsAreRiddenOut(t *testing.T) {
	rules := map[string]fault.Rule{
		"start throttled":        {Op: opStart, Kind: fault.Throttle},
		"start cut":              {Op: opStart, Kind: fault.Cut, Times: 2},
		"start answer lost":      {Op: opStart, Kind: fault.LostAnswer},
		"start internal error":   {Op: opStart, Kind: fault.Error, Detail: "InternalServerException"},
		"put account throttled":  {Op: opPut, Kind: fault.Throttle, Times: 3},
		"put snapshot throttled": {Op: opPut, Kind: fault.Throttle, Detail: "RESOURCE_LEVEL_THROTTLE", Times: 3},
		"put cut":                {Op: opPut, Kind: fault.Cut, Times: 3},
		"put answer lost":        {Op: opPut, Kind: fault.LostAnswer, Times: 2},
		"put corrupted":          {Op: opPut, Kind: fault.WrongBytes},
		"put too slow":           {Op: opPut, Kind: fault.Error, Detail: "ValidationException:WRITE_REQUEST_TIMEOUT"},
		"put conflicting":        {Op: opPut, Kind: fault.Error, Detail: "ValidationException:CONFLICTING_BLOCK_UPDATE", Times: 2},
		"put overload":           {Op: opPut, Kind: fault.Error, Detail: "overload", Times: 2},
		"put kms busy":           {Op: opPut, Kind: fault.Error, Detail: "ServiceQuotaExceededException:DEPENDENCY_SERVICE_QUOTA_EXCEEDED"},
		"complete throttled":     {Op: opComplete, Kind: fault.Throttle},
		"complete cut":           {Op: opComplete, Kind: fault.Cut},
		"complete answer lost":   {Op: opComplete, Kind: fault.LostAnswer},
		"tags throttled":         {Op: opTag, Kind: fault.Throttle},
		"tags answer lost":       {Op: opTag, Kind: fault.LostAnswer},
		"describe throttled":     {Op: opDescribe, Kind: fault.Throttle},
		"describe stale":         {Op: opDescribe, Kind: fault.Lie, Detail: aws.LieStale, Times: 2},
		"describe cut":           {Op: opDescribe, Kind: fault.Cut},
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, aws.Options{CompletionDelay: 3 * time.Millisecond})
			r.faults.Add(rule)
			blocks := map[int64][]byte{0: block(1), 5: block(2)}
			id := r.sealed(blocks)
			if all := r.aws.Snapshots(); len(all) != 1 {
				t.Errorf("%d snapshots, want 1", len(all))
			}
			image, _, err := r.aws.Image(string(id))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, transfer.BlockSize)
			for i, b := range blocks {
				if _, err := image.ReadAt(got, i*transfer.BlockSize); err != nil || !bytes.Equal(got, b) {
					t.Errorf("block %d differs (%v)", i, err)
				}
			}
			if got, want := r.store.Calls()[rule.Op], int64(r.aws.Calls()[rule.Op]); got != want {
				t.Errorf("counted %d calls of %s, the service %d", got, rule.Op, want)
			}
		})
	}
}

func TestPutThatNeverAnswersIsSentAgain(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.Timing.Headers = 300 * time.Millisecond })
	r.faults.Add(fault.Rule{Op: opPut, Kind: fault.Stall})
	d := r.start()
	r.put(d, map[int64][]byte{0: block(1)})
	if n := r.store.Calls()[opPut]; n != 2 {
		t.Errorf("%d puts, want 2", n)
	}
}

func TestPutRetriesThe404AfterAStart(t *testing.T) {
	// The service's clock goes 10 ms on with each look at it: a loaded machine
	// meets the 404s too.
	var looks atomic.Int64
	began := time.Now()
	clock := func() time.Time { return began.Add(time.Duration(looks.Add(1)) * 10 * time.Millisecond) }
	r := newRig(t, aws.Options{PropagationDelay: 300 * time.Millisecond, Now: clock})
	d := r.start()
	seal := r.put(d, map[int64][]byte{0: block(1), 1: block(2)})
	if n := r.store.Calls()[opPut]; n < 4 {
		t.Errorf("%d puts: no 404 was met", n)
	}
	if err := d.Seal(t.Context(), seal); err != nil {
		t.Fatal(err)
	}
}

func TestA404LaterMeansThatTheDraftIsGone(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.Timing.NotYet = time.Nanosecond })
	d := r.start()
	if err := r.aws.DeleteOutOfBand(string(d.ID())); err != nil {
		t.Fatal(err)
	}
	b := block(1)
	err := d.Put(t.Context(), 0, b, sha256.Sum256(b))
	wantKind(t, err, transfer.Retry, "put block 0 of snapshot "+string(d.ID()), "does not know the snapshot", "SNAPSHOT_NOT_FOUND", "deleted")
	if n := r.store.Calls()[opPut]; n != 1 {
		t.Errorf("%d puts, want 1", n)
	}
}

func TestPutCorruptedTwiceIsAnError(t *testing.T) {
	r := newRig(t, aws.Options{})
	r.faults.Add(fault.Rule{Op: opPut, Kind: fault.WrongBytes, Times: 2})
	d := r.start()
	b := block(1)
	wantKind(t, d.Put(t.Context(), 0, b, sha256.Sum256(b)), transfer.Retry, "damaged", "memory")
}

func TestPutOfABlockThatChangedInMemory(t *testing.T) {
	r := newRig(t, aws.Options{})
	d := r.start()
	b := block(1)
	digest := transfer.Digest(sha256.Sum256(b))
	b[1000] ^= 1
	wantKind(t, d.Put(t.Context(), 0, b, digest), transfer.Permanent, "block in memory", "memory may be faulty")
	if n := r.store.Calls()[opPut]; n != 1 {
		t.Errorf("%d puts, want 1: the same bytes are refused again", n)
	}
}

func TestPutRefusesWhatIsNoBlock(t *testing.T) {
	r := newRig(t, aws.Options{})
	d := r.start()
	b := block(1)
	sum := transfer.Digest(sha256.Sum256(b))
	wantKind(t, d.Put(t.Context(), 0, b[:4096], sum), transfer.Permanent, "524288")
	wantKind(t, d.Put(t.Context(), 2048, b, sum), transfer.Permanent, "0 to 2047")
	wantKind(t, d.Put(t.Context(), -1, b, sum), transfer.Permanent, "0 to 2047")
	if n := r.store.Calls()[opPut]; n != 0 {
		t.Errorf("%d puts were sent", n)
	}
}

// The buffer is the caller's again when Put returns, also after a cancel: the
// race detector sees a put that reads on.
func TestBufferIsFreeWhenPutReturns(t *testing.T) {
	r := newRig(t, aws.Options{Latency: 5 * time.Millisecond})
	d := r.start()
	pool := sync.Pool{New: func() any { return new([transfer.BlockSize]byte) }}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 30 {
				buf := pool.Get().(*[transfer.BlockSize]byte)
				b := buf[:]
				for j := range b {
					b[j] = byte(worker + i)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*300*time.Microsecond)
				err := d.Put(ctx, int64(worker*30+i), b, sha256.Sum256(b))
				cancel()
				if err != nil && transfer.KindOf(err) != transfer.Canceled {
					t.Error(err)
				}
				pool.Put(buf)
			}
		})
	}
	group.Wait()
}

func TestCanceledPutSaysSo(t *testing.T) {
	r := newRig(t, aws.Options{})
	d := r.start()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := block(1)
	err := d.Put(ctx, 0, b, sha256.Sum256(b))
	wantKind(t, err, transfer.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the cause is not context.Canceled: %v", err)
	}
}

func TestLateErrorsFailTheSeal(t *testing.T) {
	r := newRig(t, aws.Options{LateErrorDelay: 5 * time.Millisecond})
	cases := map[string]struct {
		change func(*transfer.Seal)
		text   string
	}{
		"checksum": {func(s *transfer.Seal) { s.Checksum[0]++ }, "Checksum mismatch"},
		"count":    {func(s *transfer.Seal) { s.Blocks++ }, "count mismatch"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := r.start()
			seal := r.put(d, map[int64][]byte{0: block(1)})
			c.change(&seal)
			wantKind(t, d.Seal(t.Context(), seal), transfer.Retry, string(d.ID()), c.text, "starts anew")
			if err := d.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, there := r.info(d.ID()); there {
				t.Error("the failed snapshot is still there")
			}
		})
	}
}

func TestPutThatAWSDroppedFailsTheSeal(t *testing.T) {
	r := newRig(t, aws.Options{})
	r.faults.Add(fault.Rule{Op: opPut, Kind: fault.Lie, Detail: aws.LieDropped})
	d := r.start()
	seal := r.put(d, map[int64][]byte{0: block(1), 1: block(2)})
	wantKind(t, d.Seal(t.Context(), seal), transfer.Retry, "mismatch")
}

func TestSealGivesUpOnASnapshotThatStaysPending(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.Timing.SealLimit = 50 * time.Millisecond })
	r.faults.Add(fault.Rule{Op: opComplete, Kind: fault.Lie, Detail: aws.LieNeverCompletes})
	d := r.start()
	wantKind(t, d.Seal(t.Context(), r.put(d, nil)), transfer.Retry, "still calls it pending")
}

func TestSealOfADeletedDraft(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.Timing.NotYet = 20 * time.Millisecond })
	r.faults.Add(fault.Rule{Op: opComplete, Kind: fault.Lie, Detail: aws.LieNeverCompletes})
	d := r.start()
	done := make(chan error)
	go func() { done <- d.Seal(t.Context(), sealOf(nil)) }()
	for r.store.Calls()[opDescribe] < 2 {
		time.Sleep(time.Millisecond) // until the wait has begun
	}
	if err := r.aws.DeleteOutOfBand(string(d.ID())); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-done, transfer.Retry, "does not list the snapshot any more")
}

func TestWaitingDraftsShareTheirLooks(t *testing.T) {
	r := newRig(t, aws.Options{CompletionDelay: 300 * time.Millisecond}, func(c *Config) {
		c.Timing.PollFirst, c.Timing.PollMax = 50*time.Millisecond, 50*time.Millisecond
	})
	const drafts = 20
	var group sync.WaitGroup
	for range drafts {
		d := r.start()
		group.Go(func() {
			if err := d.Seal(t.Context(), sealOf(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := r.store.Calls()[opDescribe]; n > drafts {
		t.Errorf("%d looks for %d drafts: they do not share", n, drafts)
	}
	r.store.watcher.mu.Lock()
	defer r.store.watcher.mu.Unlock()
	if len(r.store.watcher.waiting) != 0 {
		t.Error("somebody still waits")
	}
}

func TestCanceledSealLeavesNobodyWaiting(t *testing.T) {
	r := newRig(t, aws.Options{CompletionDelay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	d := r.start()
	done := make(chan error)
	go func() { done <- d.Seal(ctx, sealOf(nil)) }()
	for r.store.Calls()[opDescribe] < 2 {
		time.Sleep(time.Millisecond) // until the wait has begun
	}
	cancel()
	wantKind(t, <-done, transfer.Canceled, string(d.ID()))
	w := r.store.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) != 0 || w.stop != nil {
		t.Error("the watcher still runs")
	}
}

func TestAbort(t *testing.T) {
	r := newRig(t, aws.Options{})
	t.Run("draft", func(t *testing.T) {
		d := r.start()
		r.put(d, map[int64][]byte{0: block(1)})
		for range 2 { // the second finds it gone
			if err := d.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, there := r.info(d.ID()); there {
			t.Error("the draft is still there")
		}
	})
	t.Run("nothing after it", func(t *testing.T) {
		d := r.start()
		if err := d.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		puts := r.store.Calls()[opPut]
		wantKind(t, d.Put(t.Context(), 0, zeros, transfer.ZeroDigest), transfer.Permanent, "sealed or aborted")
		wantKind(t, d.Seal(t.Context(), sealOf(nil)), transfer.Permanent, "sealed or aborted")
		if n := r.store.Calls()[opPut]; n != puts {
			t.Error("a put was sent")
		}
	})
	t.Run("of a draft that EC2 does not list yet", func(t *testing.T) {
		d := r.start()
		before := r.store.Calls()[opDescribe]
		if err := r.aws.DeleteOutOfBand(string(d.ID())); err != nil {
			t.Fatal(err)
		}
		if err := d.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.store.Calls()[opDescribe] - before; n < 2 {
			t.Errorf("%d looks: a young draft may be listed a second later", n)
		}
	})
	t.Run("lost answer", func(t *testing.T) {
		d := r.start()
		r.faults.Add(fault.Rule{Op: opDelete, Kind: fault.LostAnswer})
		if err := d.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("completed", func(t *testing.T) {
		d := r.start()
		if err := d.Seal(t.Context(), sealOf(nil)); err != nil {
			t.Fatal(err)
		}
		wantKind(t, d.Abort(t.Context()), transfer.Permanent, "completed")
		if _, there := r.info(d.ID()); !there {
			t.Error("a completed snapshot was deleted")
		}
	})
}
