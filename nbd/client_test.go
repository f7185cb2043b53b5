package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestOutOfOrder answers a full house of requests in random order.
func TestOutOfOrder(t *testing.T) {
	const depth = 32
	s := &script{size: 1 << 20, simple: true}
	c := s.play(t, Options{MaxInFlight: depth}, func(s *script) {
		var reqs []request
		for range depth {
			req, _, err := s.request()
			if err != nil {
				t.Error(err)
				return
			}
			reqs = append(reqs, req)
		}
		rand.Shuffle(depth, func(i, j int) { reqs[i], reqs[j] = reqs[j], reqs[i] })
		for _, req := range reqs {
			s.conn.Write(simple(req.cookie, 0, req.off))
		}
		s.request() // the goodbye
	})
	var wg sync.WaitGroup
	for i := range depth {
		wg.Go(func() {
			var p [8]byte
			if _, err := c.ReadAt(p[:], int64(i)*8); err != nil || binary.BigEndian.Uint64(p[:]) != uint64(i)*8 {
				t.Errorf("read at %d: %v, %v", i*8, p, err)
			}
		})
	}
	wg.Wait()
	within(t, 20*time.Second, "Close", func() { c.Close() })
}

// blockServer is an honest server of data with a minimum block size.
func blockServer(t *testing.T, data []byte) func(*script) {
	return func(s *script) {
		for {
			req, p, err := s.request()
			if err != nil || req.cmd == cmdDisc {
				return
			}
			if req.off%uint64(s.min) != 0 || req.length%s.min != 0 && req.off+uint64(req.length) != s.size || req.length > s.max {
				t.Errorf("%s of %d bytes at %d is not aligned to %d, or above %d", commandName(req.cmd), req.length, req.off, s.min, s.max)
			}
			switch req.cmd {
			case cmdWrite:
				copy(data[req.off:], p)
				s.conn.Write(simple(req.cookie, 0))
			case cmdRead:
				s.conn.Write(chunk(req.cookie, 1, chunkData, req.off, data[req.off:req.off+uint64(req.length)]))
			default:
				s.conn.Write(chunk(req.cookie, 1, chunkStatus, uint32(7), uint32(s.min), uint32(req.off)))
			}
		}
	}
}

// TestBlockSize: reads are widened, writes refused, and nothing exceeds the
// server's maximum.
func TestBlockSize(t *testing.T) {
	data := make([]byte, 64<<10+512)
	pattern(data, 9)
	s := liar(false)
	s.size, s.min, s.pref, s.max = uint64(len(data)), 512, 4096, 8192
	c := s.play(t, Options{}, blockServer(t, data))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off := rng.IntN(len(data))
		p := make([]byte, 1+rng.IntN(len(data)-off))
		if n, err := c.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, data[off:off+len(p)]) {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v, or wrong bytes", len(p), off, n, err)
		}
	}
	if _, err := c.WriteAt(make([]byte, 512), 100); err == nil || !strings.Contains(err.Error(), "block size 512") {
		t.Errorf("unaligned write: %v", err)
	}
	if _, err := c.WriteAt(make([]byte, 20480), 1024); err != nil || data[1024] != 0 || data[21503] != 0 || data[21504] == 0 && data[21505] == 0 {
		t.Errorf("aligned write: %v", err)
	}
	// Each answer covers one block only, and its flags are where it starts.
	list, err := c.BlockStatus(t.Context(), ContextAllocation, 1000, 1000)
	want := []Extent{{1000, 24, 512}, {1024, 512, 1024}, {1536, 464, 1536}}
	if err != nil || len(list) != 3 || list[0] != want[0] || list[1] != want[1] || list[2] != want[2] {
		t.Errorf("BlockStatus = %v, %v", list, err)
	}
}

// TestPartialFailure: n counts what came before the first failure.
func TestPartialFailure(t *testing.T) {
	s := &script{size: 1 << 20, simple: true}
	c := s.play(t, Options{MaxRequest: 1000}, func(s *script) {
		for {
			req, _, err := s.request()
			if err != nil || req.cmd == cmdDisc {
				return
			}
			switch {
			case req.off == 3000:
				s.conn.Write(simple(req.cookie, nbdEIO))
			case req.cmd == cmdRead:
				s.conn.Write(simple(req.cookie, 0, make([]byte, req.length)))
			default:
				s.conn.Write(simple(req.cookie, 0))
			}
		}
	})
	for name, f := range map[string]func([]byte, int64) (int, error){"ReadAt": c.ReadAt, "WriteAt": c.WriteAt} {
		n, err := f(make([]byte, 5500), 0)
		var remote *RemoteError
		if n != 3000 || !errors.As(err, &remote) {
			t.Errorf("%s = %d, %v", name, n, err)
		}
		if n, err = f(make([]byte, 2500), 500); n != 2500 || err != nil {
			t.Errorf("%s = %d, %v", name, n, err)
		}
	}
}

// TestCancelRead: a cancelled request returns at once, leaves its buffer alone
// for good, and the connection usable.
func TestCancelRead(t *testing.T) {
	got, answer := make(chan request, 1), make(chan struct{})
	s := &script{size: 1 << 20, simple: true}
	c := s.play(t, Options{}, func(s *script) {
		first, _, err := s.request()
		if err != nil {
			return
		}
		got <- first
		<-answer
		s.conn.Write(simple(first.cookie, 0, bytes.Repeat([]byte{0xee}, int(first.length))))
		second, _, err := s.request()
		if err != nil {
			return
		}
		s.conn.Write(simple(second.cookie, 0, bytes.Repeat([]byte{0x11}, int(second.length))))
		s.request()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-got
		cancel()
	}()
	p := make([]byte, 512<<10)
	within(t, 20*time.Second, "the cancelled read", func() {
		if _, err := c.ReadAtContext(ctx, p, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
	})
	close(answer)
	q := make([]byte, 10)
	if _, err := c.ReadAt(q, 0); err != nil || q[0] != 0x11 {
		t.Errorf("the next read: %v, %v", q, err)
	}
	if !bytes.Equal(p, make([]byte, len(p))) {
		t.Error("the late reply went into the caller's buffer")
	}
}

// TestCancelWaiting: requests that wait for a slot, or for a peer that does not
// take bytes, end with their context.
func TestCancelWaiting(t *testing.T) {
	s := &script{size: 1 << 30, simple: true}
	hold := make(chan struct{})
	c := s.play(t, Options{MaxInFlight: 2}, func(s *script) { <-hold })
	defer close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	within(t, 10*time.Second, "cancelling", func() {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := c.WriteAtContext(ctx, make([]byte, 1<<20), 0); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error = %v", err)
				}
			})
		}
		wg.Wait()
	})
}

// TestSilence: a half-open connection is given up, in whatever state it is.
func TestSilence(t *testing.T) {
	for _, tc := range []struct {
		name string
		cmd  uint16
		act  func(s *script)
	}{
		{"no reply", cmdRead, func(s *script) { s.request() }},
		{"nothing taken", cmdWrite, func(*script) {}},
		{"half a header", cmdRead, func(s *script) {
			req, _, _ := s.request()
			s.conn.Write(chunk(req.cookie, 1, chunkNone)[:7])
		}},
		{"half the data", cmdRead, func(s *script) {
			req, _, _ := s.request()
			s.conn.Write(chunk(req.cookie, 1, chunkData, req.off, make([]byte, 1024))[:100])
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hold := make(chan struct{})
			c := liar(false).play(t, Options{Timeout: 50 * time.Millisecond}, func(s *script) {
				tc.act(s)
				<-hold
			})
			defer close(hold)
			within(t, 20*time.Second, "the request", func() {
				if err := ask(t.Context(), c, tc.cmd); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("error = %v", err)
				}
			})
		})
	}
}

// TestSlowIsNotSilent: a reply that takes longer than the timeout but keeps
// moving is waited for, and an idle connection is not given up.
func TestSlowIsNotSilent(t *testing.T) {
	t.Parallel()                           // it sleeps: what is tested is time
	const timeout = 600 * time.Millisecond // a third of it is left for a busy machine
	pause := timeout / 3
	s := &script{size: 1 << 20, simple: true}
	c := s.play(t, Options{Timeout: timeout}, func(s *script) {
		for {
			req, _, err := s.request()
			if err != nil || req.cmd == cmdDisc {
				return
			}
			for reply := simple(req.cookie, 0, make([]byte, req.length)); len(reply) > 0; reply = reply[4:] {
				time.Sleep(pause)
				s.conn.Write(reply[:4])
			}
		}
	})
	for range 2 {
		if _, err := c.ReadAt(make([]byte, 4), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(timeout + pause)
	}
}

func TestHandshakeTimeoutAndCancel(t *testing.T) {
	for _, when := range []string{"timeout", "cancel"} {
		near, far := net.Pipe()
		defer far.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		opts := Options{}
		want := context.Canceled
		if when == "timeout" {
			opts.HandshakeTimeout, want = 20*time.Millisecond, os.ErrDeadlineExceeded
		} else {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
		within(t, 20*time.Second, when, func() {
			if _, err := NewClient(ctx, near, "disk", opts); !errors.Is(err, want) {
				t.Errorf("%s: %v", when, err)
			}
		})
	}
}

// TestCloseDrains: Close waits for what is under way, and refuses what comes.
func TestCloseDrains(t *testing.T) {
	taken, answer, bye := make(chan struct{}), make(chan struct{}), make(chan uint16, 1)
	s := &script{size: 1 << 20, simple: true}
	c := s.play(t, Options{}, func(s *script) {
		req, _, err := s.request()
		if err != nil {
			return
		}
		close(taken)
		<-answer
		s.conn.Write(simple(req.cookie, 0, make([]byte, req.length)))
		last, _, _ := s.request()
		bye <- last.cmd
	})
	result := make(chan error, 1)
	go func() {
		_, err := c.ReadAt(make([]byte, 512), 0)
		result <- err
	}()
	<-taken
	closed := make(chan error, 2)
	go func() { closed <- c.Close() }()
	go func() { closed <- c.Close() }()
	for { // until one Close has begun
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err) // no flush offered: nothing is sent
		}
		c.mu.Lock()
		closing := c.closing
		c.mu.Unlock()
		if closing {
			break
		}
	}
	if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read while closing: %v", err)
	}
	select {
	case err := <-closed:
		t.Errorf("Close returned %v with a request outstanding", err)
	default:
	}
	close(answer)
	within(t, 20*time.Second, "Close", func() {
		if err := <-result; err != nil {
			t.Errorf("the request under way: %v", err)
		}
		if err := errors.Join(<-closed, <-closed); err != nil {
			t.Errorf("Close: %v", err)
		}
		if cmd := <-bye; cmd != cmdDisc {
			t.Errorf("the last command was %s", commandName(cmd))
		}
	})
}

func TestCloseCutsOff(t *testing.T) {
	taken, hold := make(chan struct{}), make(chan struct{})
	defer close(hold)
	s := &script{size: 1 << 20, simple: true}
	c := s.play(t, Options{DrainTimeout: 50 * time.Millisecond}, func(s *script) {
		s.request()
		close(taken)
		<-hold
	})
	result := make(chan error, 1)
	go func() {
		_, err := c.ReadAt(make([]byte, 512), 0)
		result <- err
	}()
	<-taken
	within(t, 20*time.Second, "Close", func() {
		if err := c.Close(); err == nil || !strings.Contains(err.Error(), "1 requests still unanswered") {
			t.Errorf("Close: %v", err)
		}
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Errorf("the unanswered request: %v", err)
		}
	})
}

func TestServerGone(t *testing.T) {
	s := &script{size: 1 << 20}
	c := s.play(t, Options{}, func(s *script) { s.request() })
	if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "1 requests outstanding") {
		t.Errorf("error = %v", err)
	}
	if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("later: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestServerGoneWhileWaiting: requests that wait for a slot learn of it too.
func TestServerGoneWhileWaiting(t *testing.T) {
	s := &script{size: 1 << 20}
	hold := make(chan struct{})
	c := s.play(t, Options{MaxInFlight: 1}, func(s *script) {
		s.request()
		<-hold
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("error = %v", err)
			}
		})
	}
	for { // until all are under way
		c.mu.Lock()
		ops := c.ops
		c.mu.Unlock()
		if ops == 4 {
			break
		}
		runtime.Gosched()
	}
	close(hold)
	within(t, 20*time.Second, "a request", wg.Wait)
}

func TestDialNobody(t *testing.T) {
	_, err := Dial(t.Context(), "unix", t.TempDir()+"/none", "disk", Options{})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `open export "disk"`) {
		t.Errorf("error = %v", err)
	}
}

// TestCoverage compares coverage with a map of bytes.
func TestCoverage(t *testing.T) {
	const n = 64
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var c coverage
		var seen [n]bool
		for range rng.IntN(40) {
			lo := rng.IntN(n)
			hi := lo + 1 + rng.IntN(min(n-lo, 6))
			overlap := false
			for _, b := range seen[lo:hi] {
				overlap = overlap || b
			}
			if err := c.add(int64(lo), int64(hi)); (err != nil) != overlap {
				t.Fatalf("add(%d, %d) = %v to %v", lo, hi, err, c.spans)
			}
			if overlap {
				continue
			}
			for i := lo; i < hi; i++ {
				seen[i] = true
			}
		}
		first := bytes.IndexByte(boolBytes(seen[:]), 0)
		gap, ok := c.missing(n)
		if ok != (first >= 0) || ok && gap.lo != int64(first) {
			t.Fatalf("missing = %v, %v of %v", gap, ok, c.spans)
		}
	}
	var c coverage
	var err error
	for i := int64(0); err == nil && i < 2*maxFragments; i++ {
		err = c.add(2*i, 2*i+1)
	}
	if err != errFragmented {
		t.Errorf("a reply in shreds: %v", err)
	}
}

func boolBytes(bs []bool) []byte {
	out := make([]byte, len(bs))
	for i, b := range bs {
		if b {
			out[i] = 1
		}
	}
	return out
}
