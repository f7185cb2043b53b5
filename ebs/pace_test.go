package ebs

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/transfer"
)

func TestRetriesWithinTheOperation(t *testing.T) {
	t0 := time.Unix(1000, 0)
	timing := Timing{}.withDefaults()
	r := newRetries(timing, t0, time.Time{})
	r.jitter = func() float64 { return 1 }
	v := verdict{tries: asLongAs}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000}
	now := t0
	for i, ms := range want {
		pause, again := r.next(v, now)
		if !again || pause != ms*time.Millisecond {
			t.Errorf("pause %d is %v (%v), want %v", i, pause, again, ms*time.Millisecond)
		}
		now = now.Add(pause)
	}
	if _, again := r.next(v, t0.Add(timing.Operation-time.Second)); again {
		t.Error("again although the pause ends after the operation")
	}
	r.extend(time.Minute) // spent waiting for a turn
	if _, again := r.next(v, t0.Add(timing.Operation-time.Second)); !again {
		t.Error("waiting for a turn counted toward the operation")
	}
	if _, again := r.next(verdict{tries: never}, t0); again {
		t.Error("again where it is never worth it")
	}
	for range 100 {
		if p := r.pause(); p > timing.RetryMax || p < timing.RetryMax/2 {
			t.Fatalf("pause %v", p)
		}
		r.n++
	}
}

func TestRetriesAFewTimesByReason(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRetries(Timing{}.withDefaults(), now, now.Add(3*time.Minute))
	count := func(v verdict) (n int) {
		for ; n < 10; n++ {
			if _, again := r.next(v, now); !again {
				break
			}
		}
		return n
	}
	if n := count(verdict{tries: once, why: "expired"}); n != 1 {
		t.Errorf("%d", n)
	}
	if n := count(verdict{tries: aFewTimes, why: "damaged"}); n != 3 {
		t.Errorf("another reason had %d tries", n)
	}
	// The window of 404s goes on after the operation's own end.
	if _, again := r.next(verdict{tries: untilKnown}, now.Add(150*time.Second)); !again {
		t.Error("gave up on a 404 within the window")
	}
	if _, again := r.next(verdict{tries: untilKnown}, now.Add(3*time.Minute)); again {
		t.Error("again after the window")
	}
}

func TestPacerKeepsWithinTheQuotaInAnySecond(t *testing.T) {
	p := newPacer(1000 * underQuota)
	start, n := time.Unix(1000, 0), 0
	for at := time.Duration(0); at < time.Second; at += 100 * time.Microsecond {
		if p.lim.AllowN(start.Add(at), 1) {
			n++
		}
	}
	if n < 950 || n > 1000 {
		t.Errorf("%d in the first second, after idling", n)
	}
	if newPacer(0) != nil || newPacer(-1) != nil {
		t.Error("a pacer without a rate")
	}
	var none *pacer
	none.throttled(start)
	if err := none.wait(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestPacerSlowsAndRecovers(t *testing.T) {
	p := newPacer(1000)
	now := time.Now()
	for range 64 { // all that were in flight are refused together
		p.throttled(now)
	}
	if r := p.rate(); math.Abs(r-700) > 1 {
		t.Errorf("rate %.0f after one throttle, want 700", r)
	}
	for i := range 50 {
		p.throttled(now.Add(time.Duration(i+1) * slowdownEvery))
	}
	if r := p.rate(); math.Abs(r-1000*slowest) > 0.1 {
		t.Errorf("rate %.1f at the bottom, want %.1f", r, 1000*slowest)
	}
	now = now.Add(51 * slowdownEvery)
	p.adjust(now)
	for range 15 {
		now = now.Add(time.Second)
		p.adjust(now)
	}
	if r := p.rate(); r < 700 || r > 850 {
		t.Errorf("rate %.0f after 15 s", r)
	}
	p.adjust(now.Add(recoverIn))
	if r := p.rate(); r != 1000 {
		t.Errorf("rate %.0f after %v, want all of it", r, recoverIn)
	}
}

func TestPacerWaitEnds(t *testing.T) {
	p := newBytePacer(transfer.BlockSize) // one block a second
	if err := p.wait(t.Context(), transfer.BlockSize); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.wait(ctx, transfer.BlockSize); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestGateShrinksOnASlowUplinkAndGrowsBack(t *testing.T) {
	g := newGate(64, 5*time.Second)
	now := time.Unix(1000, 0)
	// A link of 4 MB/s: n puts at once take n/8 seconds each.
	round := func() {
		var under []place
		for range g.places() {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			under = append(under, g.begin(now))
		}
		took, o := time.Duration(len(under))*time.Second/8, quick
		if took > 6*time.Second {
			o = slow
		}
		now = now.Add(took)
		for _, p := range under {
			g.leave(p, now, o)
		}
	}
	for range 100 {
		round()
	}
	if n := g.places(); n < 16 || n > 40 {
		t.Errorf("%d at once, and one put takes %v", n, time.Duration(n)*time.Second/8)
	}
	for range 100 { // the link is quick again
		for range g.places() {
			_ = g.enter(t.Context())
			p := g.begin(now)
			now = now.Add(20 * time.Millisecond)
			g.leave(p, now, quick)
		}
	}
	if n := g.places(); n != 64 {
		t.Errorf("%d at once after recovery", n)
	}
}

func TestGateFallsOnceForThoseInFlight(t *testing.T) {
	g := newGate(64, 5*time.Second)
	t0 := time.Unix(1000, 0)
	for range 64 {
		_ = g.enter(t.Context())
	}
	p := g.begin(t0)
	for i := range 64 {
		g.leave(p, t0.Add(12*time.Second+time.Duration(i)*time.Millisecond), maybeSlow)
	}
	if n := g.places(); n != 32 {
		t.Errorf("%d places, want 32", n)
	}
}

func TestGateIgnoresALostRequest(t *testing.T) {
	t0 := time.Unix(1000, 0)
	for through, want := range map[int]int{0: 4, 7: 4, 8: 8, 100: 8} {
		g := newGate(8, 5*time.Second)
		_ = g.enter(t.Context())
		lost := g.begin(t0)
		for range through { // others meanwhile
			_ = g.enter(t.Context())
			g.leave(g.begin(t0), t0.Add(50*time.Millisecond), quick)
		}
		g.leave(lost, t0.Add(12*time.Second), maybeSlow)
		if n := g.places(); n != want {
			t.Errorf("%d places after one without an answer while %d went through, want %d", n, through, want)
		}
		_ = g.enter(t.Context())
		g.leave(g.begin(t0.Add(13*time.Second)), t0.Add(20*time.Second), slow) // that one is sure
		if n := g.places(); n != want/2 {
			t.Errorf("%d places, want %d", n, want/2)
		}
	}
}

func TestGateNeverExceedsItsPlaces(t *testing.T) {
	g := newGate(5, time.Hour)
	var at, most atomic.Int64
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%7 == 0 {
				cancel() // some give up, perhaps just when they get their place
			}
			if g.enter(ctx) != nil {
				return
			}
			n := at.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			at.Add(-1)
			g.leave(g.begin(time.Now()), time.Now(), quick)
		})
	}
	group.Wait()
	if most.Load() > 5 {
		t.Errorf("%d at once", most.Load())
	}
	if g.held != 0 || len(g.waiting) != 0 {
		t.Errorf("%d held, %d waiting", g.held, len(g.waiting))
	}
}

func TestWatcherInterval(t *testing.T) {
	w := newWatcher(Timing{}.withDefaults(), nil)
	for waited, want := range map[time.Duration]time.Duration{
		0: time.Second, 4 * time.Second: time.Second, 20 * time.Second: 5 * time.Second, time.Hour: 15 * time.Second,
	} {
		if got := w.interval(waited); got != want {
			t.Errorf("after %v: %v, want %v", waited, got, want)
		}
	}
}
