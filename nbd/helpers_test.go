package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// memDisk is a disk in memory with every optional interface. It fails the test
// if it is asked for anything outside of itself.
type memDisk struct {
	tb      testing.TB
	mu      sync.RWMutex
	data    []byte
	flushes atomic.Int64
	reads   atomic.Int64 // bytes that were read, not known to be zero
	holes   bool         // whether Extents tells of zeroes
}

const grain = 4096 // of memDisk's extents

func newMemDisk(tb testing.TB, size int) *memDisk {
	return &memDisk{tb: tb, data: make([]byte, size), holes: true}
}

func (d *memDisk) check(what string, off, n int64) {
	if off < 0 || n < 0 || off > int64(len(d.data)) || n > int64(len(d.data))-off {
		panic(fmt.Sprintf("backend asked to %s %d bytes at %d of %d", what, n, off, len(d.data)))
	}
}

// bytes returns a copy of what the disk holds, in step with clients that are
// other processes.
func (d *memDisk) bytes() []byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return bytes.Clone(d.data)
}

func (d *memDisk) Size() int64 { return int64(len(d.data)) }

func (d *memDisk) ReadAt(p []byte, off int64) (int, error) {
	d.check("read", off, int64(len(p)))
	d.reads.Add(int64(len(p)))
	d.mu.RLock()
	defer d.mu.RUnlock()
	return copy(p, d.data[off:]), nil
}

func (d *memDisk) WriteAt(p []byte, off int64) (int, error) {
	d.check("write", off, int64(len(p)))
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(d.data[off:], p), nil
}

func (d *memDisk) Flush(context.Context) error {
	d.flushes.Add(1)
	return nil
}

func (d *memDisk) Zero(_ context.Context, off, n int64, _ bool) error {
	d.check("zero", off, n)
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.data[off : off+n])
	return nil
}

func (d *memDisk) MultiConn() bool { return true }

func (d *memDisk) Extents(_ context.Context, off, n int64) ([]Extent, error) {
	d.check("map", off, n)
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.holes {
		return []Extent{{off, n, 0}}, nil
	}
	var list []Extent
	for at := off; at < off+n; {
		k := min(grain-at%grain, off+n-at)
		flags := uint32(StateHole | StateZero)
		for _, b := range d.data[at : at+k] {
			if b != 0 {
				flags = 0
				break
			}
		}
		list = append(list, Extent{at, k, flags})
		at += k
	}
	return list, nil
}

// plain hides all of a backend but what every backend has.
type plain struct{ d *memDisk }

func (p plain) Size() int64                             { return p.d.Size() }
func (p plain) ReadAt(b []byte, off int64) (int, error) { return p.d.ReadAt(b, off) }

// writer adds writing to plain, and nothing else.
type writer struct{ plain }

func (w writer) WriteAt(b []byte, off int64) (int, error) { return w.d.WriteAt(b, off) }

// pattern fills p with bytes that depend on their place.
func pattern(p []byte, seed int) {
	for i := range p {
		p[i] = byte(i*7 + i>>8 + i>>16 + seed)
	}
}

func one(b Backend) func(string) (Backend, error) {
	return func(name string) (Backend, error) {
		if name != "disk" {
			return nil, fmt.Errorf("no disk %q here: %w", name, fs.ErrNotExist)
		}
		return b, nil
	}
}

// startServer serves until the test ends, and checks that it then ends well.
func startServer(tb testing.TB, s *Server, network string) net.Addr {
	tb.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(tb.TempDir(), "s")
	}
	l, err := Listen(tb.Context(), network, addr)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	tb.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("Serve: %v", err)
			}
		case <-time.After(20 * time.Second):
			tb.Error("Serve does not end")
		}
	})
	return l.Addr()
}

// connect returns a client of s over a network ("pipe" has no sockets).
func connect(tb testing.TB, s *Server, network string, opts Options) *Client {
	tb.Helper()
	var c *Client
	var err error
	if network == "pipe" {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.ServeConn(context.Background(), far) }()
		tb.Cleanup(func() {
			if err := <-done; err != nil {
				tb.Errorf("ServeConn: %v", err)
			}
		})
		c, err = NewClient(tb.Context(), near, "disk", opts)
	} else {
		a := startServer(tb, s, network)
		c, err = Dial(tb.Context(), network, a.String(), "disk", opts)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// wire joins fields as they go over the wire, and strings as they are.
func wire(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case uint16:
			b = binary.BigEndian.AppendUint16(b, f)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case string:
			b = append(b, f...)
		case []byte:
			b = append(b, f...)
		default:
			panic(fmt.Sprintf("wire: %T", f))
		}
	}
	return b
}

func optReply(opt, typ uint32, data ...any) []byte {
	d := wire(data...)
	return wire(uint64(magicOptionReply), opt, typ, uint32(len(d)), d)
}

func simple(cookie uint64, code uint32, data ...any) []byte {
	return wire(uint32(magicSimple), code, cookie, wire(data...))
}

func chunk(cookie uint64, flags, typ uint16, data ...any) []byte {
	d := wire(data...)
	return wire(uint32(magicStructured), flags, typ, cookie, uint32(len(d)), d)
}

// greeting is what a server says first.
var greeting = wire(uint64(magicGreeting), uint64(magicOption), uint16(3))

// script is a server for tests of the client: it negotiates as its fields say,
// and what it does with requests is the test's matter.
type script struct {
	size           uint64
	flags          uint16
	simple         bool // no structured replies
	min, pref, max uint32
	contexts       []string // granted, with ids from 7

	conn net.Conn
	br   *bufio.Reader
}

// negotiate answers options until NBD_OPT_GO.
func (s *script) negotiate() error {
	s.br = bufio.NewReader(s.conn)
	if _, err := s.conn.Write(greeting); err != nil {
		return err
	}
	if _, err := s.br.Discard(4); err != nil {
		return err
	}
	for {
		var h [16]byte
		if _, err := io.ReadFull(s.br, h[:]); err != nil {
			return err
		}
		opt := binary.BigEndian.Uint32(h[8:])
		if _, err := s.br.Discard(int(binary.BigEndian.Uint32(h[12:]))); err != nil {
			return err
		}
		if _, err := s.conn.Write(s.answer(opt)); err != nil || opt == optGo {
			return err
		}
	}
}

func (s *script) answer(opt uint32) []byte {
	switch {
	case opt == optStructuredReply && !s.simple:
		return optReply(opt, repAck)
	case opt == optSetMeta:
		var b []byte
		for i, name := range s.contexts {
			b = append(b, optReply(opt, repMeta, uint32(7+i), name)...)
		}
		return append(b, optReply(opt, repAck)...)
	case opt == optGo:
		b := optReply(opt, repInfo, uint16(infoExport), s.size, s.flags|tfHasFlags)
		if s.min != 0 {
			b = append(b, optReply(opt, repInfo, uint16(infoBlockSize), s.min, s.pref, s.max)...)
		}
		return append(b, optReply(opt, repAck)...)
	}
	return optReply(opt, repErrUnsup)
}

// request reads the next request, with a write's payload.
func (s *script) request() (request, []byte, error) {
	var b [requestLen]byte
	if _, err := io.ReadFull(s.br, b[:]); err != nil {
		return request{}, nil, err
	}
	req, err := parseRequest(b[:])
	if err != nil || req.cmd != cmdWrite {
		return req, nil, err
	}
	p := make([]byte, req.length)
	_, err = io.ReadFull(s.br, p)
	return req, p, err
}

// play connects a client to the script; after the negotiation act runs until it
// returns, which closes the connection.
func (s *script) play(tb testing.TB, opts Options, act func(s *script)) *Client {
	tb.Helper()
	near, far := net.Pipe()
	s.conn = far
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		if s.negotiate() == nil {
			act(s)
		}
	}()
	if opts.Contexts == nil {
		opts.Contexts = s.contexts
	}
	c, err := NewClient(tb.Context(), near, "disk", opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		near.Close()
		c.Close()
		<-done
	})
	return c
}

// within fails the test if f takes so long that it must be hanging.
func within(tb testing.TB, d time.Duration, what string, f func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		tb.Fatalf("%s hangs", what)
	}
}

// canned is a connection whose peer says stream, takes whatever it is told, and
// then hangs up. After the first hold bytes it waits until the writes of a whole
// request were seen as often as requests says, so that replies do not come
// before their requests.
type canned struct {
	net.Conn // nil: what is not defined here must not be called

	stream   []byte
	hold     int
	requests int

	once   sync.Once
	ready  chan struct{}
	mu     sync.Mutex
	at     int
	seen   int
	closed bool
	said   []byte // what the other side wrote
}

func (c *canned) gate() chan struct{} {
	c.once.Do(func() { c.ready = make(chan struct{}) })
	return c.ready
}

func (c *canned) Read(p []byte) (int, error) {
	c.mu.Lock()
	wait := c.requests > 0 && c.at >= c.hold
	c.mu.Unlock()
	if wait {
		<-c.gate()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	end := len(c.stream)
	if c.at < c.hold {
		end = c.hold
	}
	n := copy(p, c.stream[c.at:end])
	if c.at += n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (c *canned) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.said = append(c.said, p...)
	if len(p) >= 4 && binary.BigEndian.Uint32(p) == magicRequest {
		if c.seen++; c.seen == c.requests {
			close(c.gate())
		}
	}
	return len(p), nil
}

func (c *canned) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.requests > 0 && c.seen < c.requests {
		c.seen = c.requests
		close(c.gate())
	}
	c.closed = true
	return nil
}

func (c *canned) RemoteAddr() net.Addr             { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }
