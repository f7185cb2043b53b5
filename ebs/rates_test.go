package ebs

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"snapferry/test/aws"
	"snapferry/transfer"
)

// TestRateChangesForThoseThatWait: 64 workers wait for minutes at the old rate
// and go on at once at the new one, whichever way it is changed.
func TestRateChangesForThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRate(transfer.BlockSize / 10) // a block in ten seconds
		began := time.Now()
		var group sync.WaitGroup
		var through atomic.Int64
		for range 64 {
			group.Go(func() {
				for range 10 {
					if err := r.Wait(t.Context(), transfer.BlockSize); err != nil {
						t.Error(err)
						return
					}
					through.Add(1)
				}
			})
		}
		time.Sleep(60*time.Second + time.Millisecond)
		if n := through.Load(); n != 7 { // the burst of one, and six
			t.Errorf("%d blocks in a minute", n)
		}
		r.Set(transfer.BlockSize) // a block in a second
		time.Sleep(60 * time.Second)
		if n := through.Load(); n < 66 || n > 68 {
			t.Errorf("%d blocks after a minute at one a second", n)
		}
		r.Set(transfer.BlockSize / 100)
		before := through.Load()
		time.Sleep(90 * time.Second)
		if n := through.Load() - before; n > 1 {
			t.Errorf("%d blocks in 90 s at one in 100 s", n)
		}
		r.Set(0)
		group.Wait()
		if took := time.Since(began); took > 211*time.Second {
			t.Errorf("without a limit the rest took until %v", took)
		}
	})
}

// TestRateSetOftenGivesNoBurst: a limit that is looked up every minute, or
// every second, must not let a burst go each time.
func TestRateSetOftenGivesNoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const block = transfer.BlockSize
		r := NewRate(20 * block)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		var n atomic.Int64
		for range 4 {
			go func() {
				for r.Wait(ctx, block) == nil {
					n.Add(1)
				}
			}()
		}
		for i := range 600 {
			time.Sleep(100 * time.Millisecond)
			r.Set(int64(20*block + i%2)) // never the same
		}
		<-ctx.Done()
		synctest.Wait()
		if n := n.Load(); n < 1000 || n > 1210 {
			t.Errorf("%d blocks in a minute at 20 a second", n)
		}
	})
}

// TestRateKeepsWhatAThrottleTook: a new rate is no reason to run into the
// throttle again.
func TestRateKeepsWhatAThrottleTook(t *testing.T) {
	p := pacerOf(1000, requestBurst)
	now := time.Now()
	for i := range 5 {
		p.throttled(now.Add(time.Duration(i) * slowdownEvery))
	}
	slowed := p.rate()
	now = now.Add(5 * slowdownEvery)
	p.set(900, now)
	if got := p.rate(); got > slowed || got < slowed/2 {
		t.Errorf("rate %.0f after a slowdown to %.0f", got, slowed)
	}
	p.adjust(now.Add(recoverIn))
	if got := p.rate(); got != 900 {
		t.Errorf("rate %.0f when recovered", got)
	}
	p.set(0, now.Add(2*recoverIn))
	p.throttled(now.Add(2 * recoverIn))
	if p.lim.Limit() != limitOf(0) {
		t.Errorf("no limit is %v after a throttle", p.lim.Limit())
	}
	p.set(100, now.Add(3*recoverIn))
	if got := p.rate(); got != 100 {
		t.Errorf("rate %.0f, want 100", got)
	}
}

func TestRateWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRate(transfer.BlockSize)
		_ = r.Wait(t.Context(), transfer.BlockSize)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(10 * time.Millisecond); cancel() }()
		if err := r.Wait(ctx, transfer.BlockSize); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		// Whoever gave up must not have used the turn.
		began := time.Now()
		if err := r.Wait(t.Context(), transfer.BlockSize); err != nil || time.Since(began) > time.Second {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
	})
}

// TestSetRates: puts that hang on a slow limit go on when it is lifted, and
// while limits change all the time nothing is lost.
func TestSetRates(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.BytesPerSecond = transfer.BlockSize / 60 }) // a block a minute
	d := r.start()
	put := func(ctx context.Context, i int64) error {
		b := block(uint64(i))
		return d.Put(ctx, i, b, sha256.Sum256(b))
	}
	if err := put(t.Context(), 0); err != nil { // the burst
		t.Fatal(err)
	}
	done := make(chan error, 8)
	for i := range int64(8) {
		go func() { done <- put(t.Context(), i+1) }()
	}
	select {
	case err := <-done:
		t.Fatalf("a put came through a closed limit: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	began := time.Now()
	r.store.SetRates(0, -1, -1)
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("after the limit was lifted they took %v", took)
	}
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				r.store.SetRates((64+i%7)<<20, float64(500+i%3), float64(500+i%5))
			}
		}
	})
	for i := range int64(32) {
		if err := put(t.Context(), 16+i); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	changing.Wait()
	r.store.SetRates(0, 0, 0)
	if puts, gets := r.store.puts.rate(), r.store.gets.rate(); puts != 4750 || gets != 4750 { // us-east-1
		t.Errorf("quota rates %.0f, %.0f", puts, gets)
	}
	_ = d.Abort(t.Context())
}

// TestLimited: each put waits once, with its length, before anything is sent.
func TestLimited(t *testing.T) {
	r := newRig(t, aws.Options{})
	var waits, bytes atomic.Int64
	refuse := errors.New("the window is closed")
	var closed atomic.Bool
	s := Limited(r.store, func(ctx context.Context, n int) error {
		waits.Add(1)
		bytes.Add(int64(n))
		if closed.Load() {
			return refuse
		}
		return ctx.Err()
	})
	d, err := s.Start(t.Context(), r.spec())
	if err != nil {
		t.Fatal(err)
	}
	seal := r.put(d, map[int64][]byte{0: block(1), 7: block(2)})
	if waits.Load() != 2 || bytes.Load() != 2*transfer.BlockSize {
		t.Errorf("%d waits, %d bytes", waits.Load(), bytes.Load())
	}
	puts := r.store.Calls()[opPut]
	closed.Store(true)
	if err := d.Put(t.Context(), 9, block(3), sha256.Sum256(block(3))); !errors.Is(err, refuse) || r.store.Calls()[opPut] != puts {
		t.Errorf("error %v", err)
	}
	closed.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Put(ctx, 9, block(3), sha256.Sum256(block(3))); transfer.KindOf(err) != transfer.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	if err := d.Seal(t.Context(), seal); err != nil {
		t.Fatal(err)
	}
	all, err := s.Snapshots(t.Context(), label().VM)
	if err != nil || len(all) != 1 || all[0].ID != d.ID() {
		t.Errorf("%v, %v", all, err)
	}
}
