package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestBadRequests: each bad request gets its error, and the connection goes on.
func TestBadRequests(t *testing.T) {
	const size = 10000
	d := newMemDisk(t, size)
	w := func(n int) []byte { return make([]byte, n) }
	for _, tc := range []struct {
		name string
		req  []byte
		rw   uint32 // the error on a writable disk,
		ro   uint32 // on a read-only one,
		pl   uint32 // and on one that can do nothing but write
	}{
		{"read past the end", req(cmdRead, 0, size-10, 11), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"read far away", req(cmdRead, 0, ^uint64(0), 1), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"read that wraps", req(cmdRead, 0, ^uint64(0)-5, 6), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"enormous read", req(cmdRead, 0, 0, ^uint32(0)), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"read with unknown flags", req(cmdRead, 1<<9, 0, 1), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"write past the end", req(cmdWrite, 0, size-10, 11, w(11)), nbdENOSPC, nbdEPERM, nbdENOSPC},
		{"write far away", req(cmdWrite, 0, ^uint64(0), 11, w(11)), nbdENOSPC, nbdEPERM, nbdENOSPC},
		{"write", req(cmdWrite, 0, 0, 3, "abc"), 0, nbdEPERM, 0},
		{"write through", req(cmdWrite, cfFUA, 0, 3, "abc"), 0, nbdEINVAL, nbdEINVAL},
		{"zeroes past the end", req(cmdWriteZeroes, 0, 1, size), nbdENOSPC, nbdEPERM, nbdENOSPC},
		{"zeroes", req(cmdWriteZeroes, cfNoHole, 0, size), 0, nbdEPERM, 0},
		{"zeroes, fast", req(cmdWriteZeroes, 1<<4, 0, size), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"trim", req(cmdTrim, 0, 0, 10), 0, nbdEPERM, nbdEINVAL},
		{"trim past the end", req(cmdTrim, 0, size, 1), nbdEINVAL, nbdEPERM, nbdEINVAL},
		{"flush", req(cmdFlush, 0, 0, 0), 0, nbdEINVAL, nbdEINVAL},
		{"flush of a range", req(cmdFlush, 0, 0, 1), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"unknown command", req(99, 0, 0, 0), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"status of nothing", req(cmdBlockStatus, 0, 0, 0), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"status past the end", req(cmdBlockStatus, 0, 1, size), nbdEINVAL, nbdEINVAL, nbdEINVAL},
		{"read of nothing", req(cmdRead, 0, 0, 0), 0, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i, b := range []Backend{d, ReadOnly(d), writer{plain{d}}} {
				want := []uint32{tc.rw, tc.ro, tc.pl}[i]
				for _, structured := range []bool{false, true} {
					r := dialRude(t, &Server{Export: one(b)})
					r.enter(structured)
					for range 2 {
						r.say(tc.req)
						if got := r.code(structured); got != want {
							t.Errorf("backend %d, structured %v: error %d, want %d", i, structured, got, want)
						}
					}
					r.say(req(cmdDisc, 0, 0, 0))
					if err := <-r.done; err != nil {
						t.Errorf("ServeConn: %v", err)
					}
				}
			}
		})
	}
}

// TestFatalRequests: after these nothing that follows could be understood.
func TestFatalRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		say  []byte
		want string
	}{
		"wrong magic":     {wire("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "bad request magic"},
		"monstrous write": {req(cmdWrite, 0, 0, 1<<31), "write of 2147483648 bytes"},
	} {
		r := dialRude(t, &Server{Export: one(newMemDisk(t, 100))})
		r.enter(false)
		r.say(tc.say)
		if _, err := r.br.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection goes on: %v", name, err)
		}
		if err := <-r.done; err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOversizedWrite: a write that is too large, but not absurd, is skipped.
func TestOversizedWrite(t *testing.T) {
	r := dialRude(t, &Server{Export: one(newMemDisk(t, 100))})
	r.enter(false)
	r.say(req(cmdWrite, 0, 0, defaultMaxPayload+1), make([]byte, defaultMaxPayload+1), req(cmdWrite, 0, 0, 3, "abc"))
	if got := [2]uint32{r.code(false), r.code(false)}; got != [2]uint32{nbdEINVAL, 0} {
		t.Errorf("errors %v", got)
	}
}

// TestDF: a read that must not be fragmented comes in one chunk, holes or not.
func TestDF(t *testing.T) {
	d := newMemDisk(t, 3*grain)
	pattern(d.data[grain:2*grain], 1)
	r := dialRude(t, &Server{Export: one(d)})
	r.enter(true)
	r.say(req(cmdRead, cfDF, 0, 3*grain))
	want := chunk(42, 1, chunkData, uint64(0), d.data)
	if got := r.read(len(want)); !bytes.Equal(got, want) {
		t.Errorf("reply = %x…", got[:40])
	}
	r.say(req(cmdRead, 0, 0, 3*grain))
	want = wire(chunk(42, 0, chunkHole, uint64(0), uint32(grain)), chunk(42, 0, chunkData, uint64(grain), d.data[grain:2*grain]),
		chunk(42, 1, chunkHole, uint64(2*grain), uint32(grain)))
	if got := r.read(len(want)); !bytes.Equal(got, want) {
		t.Errorf("reply = %x…", got[:40])
	}
	r.say(req(cmdBlockStatus, cfReqOne, 10, 3*grain-10))
	want = chunk(42, 1, chunkStatus, uint32(1), uint32(grain-10), uint32(3))
	if got := r.read(len(want)); !bytes.Equal(got, want) {
		t.Errorf("status of one = %x", got)
	}
}

// gated is a disk whose reads wait, and are counted.
type gated struct {
	*memDisk
	enter chan struct{}
	gate  chan struct{}
	now   atomic.Int64
	most  atomic.Int64
}

func (g *gated) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	n := g.now.Add(int64(len(p)))
	defer g.now.Add(-int64(len(p)))
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	g.enter <- struct{}{}
	select {
	case <-g.gate:
		return g.ReadAt(p, off)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func newGated(t *testing.T, size int) *gated {
	d := newMemDisk(t, size)
	d.holes = false
	return &gated{memDisk: d, enter: make(chan struct{}, 1000), gate: make(chan struct{})}
}

// TestMemoryBound: requests beyond the connection's memory wait.
func TestMemoryBound(t *testing.T) {
	const n = 16 << 20
	g := newGated(t, n)
	c := connect(t, &Server{Export: one(g)}, "unix", Options{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := c.ReadAt(make([]byte, n), 0); err != nil {
				t.Error(err)
			}
		})
	}
	for range defaultMemory / n {
		<-g.enter
	}
	close(g.gate)
	wg.Wait()
	if most := g.most.Load(); most != defaultMemory {
		t.Errorf("%d bytes in hand at once, want %d", most, defaultMemory)
	}
}

// TestStop: when the server stops, requests under way finish, Serve returns and
// the listener and its socket are gone.
func TestStop(t *testing.T) {
	g := newGated(t, 4096)
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, result := make(chan error, 1), make(chan error, 1)
	go func() { done <- Serve(ctx, l, one(g)) }()
	c, err := Dial(t.Context(), "unix", path, "disk", Options{})
	if err != nil {
		t.Fatal(err)
	}
	idle, err := Dial(t.Context(), "unix", path, "disk", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	go func() {
		_, err := c.ReadAt(make([]byte, 4096), 0)
		result <- err
	}()
	<-g.enter
	cancel()
	<-idle.gone // its connection is closed at once
	close(g.gate)
	within(t, 4*time.Second, "stopping", func() {
		if err := <-result; err != nil {
			t.Errorf("the request under way: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	c.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
}

// TestClientLeaves: the requests of a client that is gone are cancelled.
func TestClientLeaves(t *testing.T) {
	g := newGated(t, 4096)
	r := dialRude(t, &Server{Export: one(g)})
	r.enter(true)
	r.say(req(cmdRead, 0, 0, 4096))
	<-g.enter
	r.conn.Close()
	within(t, 20*time.Second, "ServeConn", func() {
		if err := <-r.done; err != nil {
			t.Errorf("ServeConn: %v", err)
		}
	})
}

// TestStuckClient: clients that stop half-way lose their connection.
func TestStuckClient(t *testing.T) {
	for name, tc := range map[string]struct {
		negotiated bool
		say        []byte
	}{
		"in the negotiation": {false, wire(uint32(3), "IHAVE")},
		"in a request":       {true, req(cmdRead, 0, 0, 1)[:10]},
		"in a payload":       {true, req(cmdWrite, 0, 0, 10, "abc")},
		"not reading":        {true, req(cmdRead, 0, 0, 4096)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := dialRude(t, &Server{Export: one(newMemDisk(t, 4096)), Timeout: 500 * time.Millisecond})
			if tc.negotiated {
				r.enter(false)
			}
			r.say(tc.say)
			within(t, 20*time.Second, name, func() {
				if err := <-r.done; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
			})
		})
	}
}

// TestListenerFails: Serve says so.
func TestListenerFails(t *testing.T) {
	l, err := Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, one(newMemDisk(t, 1))); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "accept connections on 127.0.0.1") {
		t.Errorf("Serve: %v", err)
	}
}

func TestTooManyConns(t *testing.T) {
	a := startServer(t, &Server{Export: one(newMemDisk(t, 1)), MaxConns: 1}, "unix")
	c, err := Dial(t.Context(), "unix", a.String(), "disk", Options{})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "the second client", func() {
		if _, err := Dial(t.Context(), "unix", a.String(), "disk", Options{}); err == nil {
			t.Error("the second client got in")
		}
	})
	if _, err := c.ReadAt(make([]byte, 1), 0); err != nil {
		t.Errorf("the first client: %v", err)
	}
	c.Close()
}

// failing fails, each time in another way.
type failing struct {
	*memDisk
	err error
}

func (f failing) ReadAt([]byte, int64) (int, error)      { return 0, f.err }
func (f failing) WriteAt(p []byte, _ int64) (int, error) { return len(p) / 2, f.err }
func (f failing) Extents(context.Context, int64, int64) ([]Extent, error) {
	return []Extent{{7, 1, 0}}, nil
}

// TestBackendErrors: a backend's failure reaches the client as what it is.
func TestBackendErrors(t *testing.T) {
	for _, tc := range []struct{ err, want error }{
		{errors.New("disk on fire"), syscall.EIO},
		{fmt.Errorf("full: %w", syscall.ENOSPC), syscall.ENOSPC},
		{os.ErrPermission, syscall.EPERM},
		{errors.ErrUnsupported, syscall.ENOTSUP},
		{io.EOF, syscall.EIO},
		{nil, syscall.EIO},
	} {
		c := connect(t, &Server{Export: one(failing{newMemDisk(t, 8192), tc.err})}, "pipe", Options{Contexts: []string{ContextAllocation}})
		if _, err := c.WriteAt([]byte("abc"), 0); !errors.Is(err, tc.want) {
			t.Errorf("write with %v = %v", tc.err, err)
		}
		if _, err := c.BlockStatus(t.Context(), ContextAllocation, 0, 10); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "where 0 was due") {
			t.Errorf("block status of nonsense = %v", err)
		}
		// Only the backend's reads, without its extents.
		c = connect(t, &Server{Export: one(struct{ Backend }{failing{newMemDisk(t, 8192), tc.err}})}, "pipe", Options{})
		_, err := c.ReadAt(make([]byte, 10), 0)
		if !errors.Is(err, tc.want) || tc.err != nil && !strings.Contains(err.Error(), "read 10 bytes at 0") {
			t.Errorf("read with %v = %v", tc.err, err)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v, %v", fi.Mode(), err)
	}
	if _, err := Listen(t.Context(), "unix", path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as if the process had crashed
	l.Close()
	if l, err = Listen(t.Context(), "unix", path); err != nil {
		t.Fatalf("an abandoned socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), "unix", path); err == nil {
		t.Error("listening where a file is")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is now %q, %v", b, err)
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "[::]:0"} {
		if l, err := Listen(t.Context(), "tcp", addr); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("Listen on %s: %v, %v", addr, l, err)
		}
	}
	if _, err := Listen(t.Context(), "udp", "127.0.0.1:0"); err == nil {
		t.Error("listening on udp")
	}
}
