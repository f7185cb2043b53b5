package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
)

var networks = []string{"pipe", "unix", "tcp"}

// TestBoundaries reads and writes on, before and after every boundary that the
// two sides have: the request's maximum, the disk's end, the step of moving data.
func TestBoundaries(t *testing.T) {
	const size = 3<<20 + 513
	const limit = 64 << 10
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			d := newMemDisk(t, size)
			c := connect(t, &Server{Export: one(d)}, network, Options{MaxRequest: limit})
			want := make([]byte, size)
			for i, n := range []int{1, 511, 512, 513, limit - 1, limit, limit + 1, 2 * limit, ioChunk - 1, ioChunk + 1, 1 << 20} {
				for _, off := range []int{0, 1, limit - 1, limit, ioChunk, size - n, size - n - 1} {
					p := make([]byte, n)
					pattern(p, i+off)
					copy(want[off:], p)
					if k, err := c.WriteAt(p, int64(off)); k != n || err != nil {
						t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", n, off, k, err)
					}
					got := make([]byte, n)
					if k, err := c.ReadAt(got, int64(off)); k != n || err != nil || !bytes.Equal(got, p) {
						t.Fatalf("ReadAt(%d bytes, %d) = %d, %v, or other bytes", n, off, k, err)
					}
				}
			}
			if !bytes.Equal(d.bytes(), want) {
				t.Error("the disk does not hold what was written")
			}
			all, err := io.ReadAll(io.NewSectionReader(c, 0, size+1000))
			if err != nil || !bytes.Equal(all, want) {
				t.Errorf("reading everything: %d bytes, %v", len(all), err)
			}
		})
	}
}

func TestEndOfExport(t *testing.T) {
	d := newMemDisk(t, 1000)
	pattern(d.data, 1)
	c := connect(t, &Server{Export: one(d)}, "pipe", Options{})
	p := make([]byte, 100)
	for _, tc := range []struct {
		off int64
		n   int
		err error
	}{{900, 100, nil}, {901, 99, io.EOF}, {999, 1, io.EOF}, {1000, 0, io.EOF}, {5000, 0, io.EOF}, {-1, 0, syscall.EINVAL}} {
		n, err := c.ReadAt(p, tc.off)
		if n != tc.n || !errors.Is(err, tc.err) {
			t.Errorf("ReadAt(100 bytes, %d) = %d, %v, want %d, %v", tc.off, n, err, tc.n, tc.err)
		}
		if n > 0 && !bytes.Equal(p[:n], d.data[tc.off:]) && !bytes.Equal(p[:n], d.data[tc.off:tc.off+100]) {
			t.Errorf("ReadAt(100 bytes, %d): wrong bytes", tc.off)
		}
	}
	if n, err := c.ReadAt(nil, 1000); n != 0 || err != nil {
		t.Errorf("ReadAt of nothing = %d, %v", n, err)
	}
	if n, err := c.WriteAt(p, 901); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteAt past the end = %d, %v", n, err)
	}
}

func TestEmptyExport(t *testing.T) {
	c := connect(t, &Server{Export: one(newMemDisk(t, 0))}, "pipe", Options{Contexts: []string{ContextAllocation}})
	if n, err := c.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if list, err := c.BlockStatus(t.Context(), ContextAllocation, 0, 0); len(list) != 0 || err != nil {
		t.Errorf("BlockStatus = %v, %v", list, err)
	}
}

// TestConcurrent runs random operations from many goroutines, each on its own
// stripes of the disk, against a copy of what should be there.
func TestConcurrent(t *testing.T) {
	const workers, stripe, size = 16, 96 << 10, 16 * 96 << 10
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			d := newMemDisk(t, size)
			c := connect(t, &Server{Export: one(d), MaxInFlight: 8}, network,
				Options{MaxRequest: 20 << 10, MaxInFlight: 24, Contexts: []string{ContextAllocation}})
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					if err := churn(t.Context(), c, int64(w)*stripe, make([]byte, stripe), uint64(w)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// churn changes and reads [base, base+len(want)) at random.
func churn(ctx context.Context, c *Client, base int64, want []byte, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range 60 {
		off := rng.IntN(len(want))
		n := 1 + rng.IntN(len(want)-off)
		at, err := base+int64(off), error(nil)
		switch rng.IntN(5) {
		case 0:
			pattern(want[off:off+n], i)
			_, err = c.WriteAtContext(ctx, want[off:off+n], at)
		case 1:
			clear(want[off : off+n])
			err = c.WriteZeroes(ctx, at, int64(n))
		case 2:
			err = c.Flush(ctx)
		case 3:
			err = checkExtents(ctx, c, at, want[off:off+n])
		default:
			got := make([]byte, n)
			_, err = c.ReadAtContext(ctx, got, at)
			if err == nil && !bytes.Equal(got, want[off:off+n]) {
				err = fmt.Errorf("read %d bytes at %d: they differ", n, at)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkExtents checks that the extents of want, which is at off, tile it and
// that those called zero are.
func checkExtents(ctx context.Context, c *Client, off int64, want []byte) error {
	list, err := c.BlockStatus(ctx, ContextAllocation, off, int64(len(want)))
	if err != nil {
		return err
	}
	at := off
	for _, e := range list {
		if e.Offset != at || e.Length <= 0 {
			return fmt.Errorf("extent %+v where %d was due", e, at)
		}
		at += e.Length
		if at > off+int64(len(want)) {
			return fmt.Errorf("extent %+v reaches beyond the range", e)
		}
		zero := len(bytes.Trim(want[e.Offset-off:at-off], "\x00")) == 0
		if e.Flags&StateZero != 0 && !zero {
			return fmt.Errorf("extent %+v is not zero", e)
		}
	}
	if at != off+int64(len(want)) {
		return fmt.Errorf("extents end at %d instead of %d", at, off+int64(len(want)))
	}
	return nil
}

func TestZeroesAreNotRead(t *testing.T) {
	d := newMemDisk(t, 1<<20)
	pattern(d.data[256<<10:260<<10], 3)
	c := connect(t, &Server{Export: one(d)}, "pipe", Options{})
	got := bytes.Repeat([]byte{0xff}, 1<<20)
	if _, err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, d.data) {
		t.Fatalf("ReadAt: %v, or wrong bytes", err)
	}
	if n := d.reads.Load(); n != 4<<10 {
		t.Errorf("the server read %d bytes of the disk, want 4096", n)
	}
}

func TestShreddedDisk(t *testing.T) {
	d := newMemDisk(t, 4*maxParts*grain)
	for at := 0; at < len(d.data); at += 2 * grain {
		pattern(d.data[at:at+grain], at)
	}
	c := connect(t, &Server{Export: one(d)}, "pipe", Options{})
	got := bytes.Repeat([]byte{0xff}, len(d.data))
	if _, err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, d.data) {
		t.Errorf("ReadAt: %v, or wrong bytes", err)
	}
}

func TestFlushAndFUA(t *testing.T) {
	d := newMemDisk(t, 8192)
	c := connect(t, &Server{Export: one(d)}, "pipe", Options{})
	if _, err := c.WriteAt([]byte("a"), 0); err != nil || d.flushes.Load() != 0 {
		t.Errorf("write: %v, %d flushes", err, d.flushes.Load())
	}
	if err := c.Flush(t.Context()); err != nil || d.flushes.Load() != 1 {
		t.Errorf("flush: %v, %d flushes", err, d.flushes.Load())
	}
	if _, err := c.WriteFUA(t.Context(), []byte("b"), 0); err != nil || d.flushes.Load() != 2 || d.bytes()[0] != 'b' {
		t.Errorf("write through: %v, %d flushes", err, d.flushes.Load())
	}
	if err := c.Trim(t.Context(), 0, 4096); err != nil || d.bytes()[0] != 0 {
		t.Errorf("trim: %v", err)
	}
}

// TestOffers checks what the server offers for each kind of backend.
func TestOffers(t *testing.T) {
	d := newMemDisk(t, 8192)
	rw := Info{CanFlush: true, CanFUA: true, CanTrim: true, CanWriteZeroes: true, CanMultiConn: true, Contexts: []string{ContextAllocation}}
	for _, tc := range []struct {
		name string
		b    Backend
		want Info
	}{
		{"all", d, rw},
		{"read-only", ReadOnly(d), Info{ReadOnly: true, CanMultiConn: true, Contexts: []string{ContextAllocation}}},
		{"plain", plain{d}, Info{ReadOnly: true, CanMultiConn: true}},
		{"writer", writer{plain{d}}, Info{CanWriteZeroes: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := connect(t, &Server{Export: one(tc.b)}, "pipe", Options{Contexts: []string{ContextAllocation, ContextDepth}})
			tc.want.Name, tc.want.Size, tc.want.Structured = "disk", 8192, true
			tc.want.MinBlock, tc.want.PreferredBlock, tc.want.MaxPayload = 1, 4096, 32<<20
			if got := c.Info(); fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("Info = %+v\nwant   %+v", got, tc.want)
			}
			if tc.want.ReadOnly {
				_, err := c.WriteAt([]byte("x"), 0)
				if !errors.Is(err, syscall.EPERM) || !errors.Is(err, fs.ErrPermission) {
					t.Errorf("WriteAt = %v", err)
				}
			}
			if _, err := c.BlockStatus(t.Context(), ContextDepth, 0, 1); !errors.Is(err, ErrNoContext) {
				t.Errorf("BlockStatus in %s = %v", ContextDepth, err)
			}
		})
	}
}

func TestZeroesWithoutZeroer(t *testing.T) {
	d := newMemDisk(t, 1<<20)
	pattern(d.data, 5)
	want := slices.Clone(d.data)
	clear(want[100:900000])
	c := connect(t, &Server{Export: one(writer{plain{d}})}, "pipe", Options{})
	if err := c.WriteZeroes(t.Context(), 100, 899900); err != nil || !bytes.Equal(d.bytes(), want) {
		t.Errorf("WriteZeroes: %v, or wrong bytes", err)
	}
	if err := c.Trim(t.Context(), 0, 512); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Trim = %v", err)
	}
}

func TestMultiConn(t *testing.T) {
	d := newMemDisk(t, 1<<20)
	a := startServer(t, &Server{Export: one(d)}, "unix")
	var cs []*Client
	for range 4 {
		c, err := Dial(t.Context(), "unix", a.String(), "disk", Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cs = append(cs, c)
	}
	for i, c := range cs {
		if _, err := c.WriteAt([]byte{byte(i + 1)}, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cs {
		got := make([]byte, 4)
		if _, err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, []byte{1, 2, 3, 4}) {
			t.Errorf("ReadAt: %v, %v", got, err)
		}
	}
}

func TestList(t *testing.T) {
	s := &Server{Export: one(newMemDisk(t, 1)), Names: func() []string { return []string{"disk", "", "räksmörgås"} }}
	a := startServer(t, s, "unix")
	got, err := List(t.Context(), "unix", a.String(), Options{})
	want := []Export{{Name: "disk"}, {Name: ""}, {Name: "räksmörgås"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("List = %v, %v", got, err)
	}
	a = startServer(t, &Server{Export: s.Export}, "tcp")
	if _, err := List(t.Context(), "tcp", a.String(), Options{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("List of a private list = %v", err)
	}
}
