package nbd

import (
	"context"
	"fmt"
	"io"
)

// Backend is a disk that a server offers. All methods of a backend, of this
// interface and the optional ones, are called from many goroutines at once, and
// only for ranges within Size. The server never closes a backend, and touches
// none after Serve has returned.
//
// A backend that implements [io.WriterAt] can be written to; [ReadOnly] hides
// that.
type Backend interface {
	io.ReaderAt
	// Size returns the size in bytes; it is asked once for each connection.
	Size() int64
}

// ContextReader is a backend whose reads can be interrupted: the context ends
// when the client is gone or the server has to stop. The method stands in for
// ReadAt and has its contract.
type ContextReader interface {
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
}

// Flusher is a writable backend with a cache: what WriteAt, and Zero, returned
// for is durable once Flush returned. Without it the server offers neither flush
// nor FUA.
type Flusher interface {
	Flush(ctx context.Context) error
}

// Zeroer is a writable backend that zeroes faster than by writing zeroes.
// mayDeallocate allows, but does not demand, that the range becomes a hole. It
// also serves trim requests; without it trim is not offered, and zeroes are
// written.
type Zeroer interface {
	Zero(ctx context.Context, off, n int64, mayDeallocate bool) error
}

// Extenter is a backend that knows its holes. Extents describes the n bytes
// from off in the flags of [ContextAllocation]: the first extent begins at off,
// each following one where the last ended; they may end before off+n (but there
// is at least one) or after it. The server skips reading extents that are
// [StateZero].
type Extenter interface {
	Extents(ctx context.Context, off, n int64) ([]Extent, error)
}

// MultiConner is a writable backend that says whether several connections may
// use it at once as if they were one: a write that was answered on one is seen
// by reads on all, and a flush on one covers the writes of all. Read-only
// backends are always offered so.
type MultiConner interface {
	MultiConn() bool
}

// ReadOnly hides that a backend can be written to.
func ReadOnly(b Backend) Backend { return readOnly{b} }

type readOnly struct{ Backend }

// disk is a backend with what it can do looked up.
type disk struct {
	Backend
	size    int64
	reader  ContextReader
	extents Extenter // or nil
	writer  io.WriterAt
	flusher Flusher
	zeroer  Zeroer
	multi   bool
}

func newDisk(b Backend) (*disk, error) {
	writable := true
	for {
		ro, ok := b.(readOnly)
		if !ok {
			break
		}
		b, writable = ro.Backend, false
	}
	if b == nil {
		return nil, fmt.Errorf("the export has no backend")
	}
	d := &disk{Backend: b, size: b.Size()}
	if d.size < 0 {
		return nil, fmt.Errorf("the export's size is %d", d.size)
	}
	d.reader, _ = b.(ContextReader)
	d.extents, _ = b.(Extenter)
	if writable {
		d.writer, _ = b.(io.WriterAt)
	}
	if d.writer == nil {
		d.multi = true
		return d, nil
	}
	d.flusher, _ = b.(Flusher)
	d.zeroer, _ = b.(Zeroer)
	if m, ok := b.(MultiConner); ok {
		d.multi = m.MultiConn()
	}
	return d, nil
}

// flags are the transmission flags for the disk.
func (d *disk) flags(structured bool) uint16 {
	f := uint16(tfHasFlags)
	if structured {
		f |= tfDF
	}
	if d.multi {
		f |= tfMultiConn
	}
	if d.writer == nil {
		return f | tfReadOnly
	}
	f |= tfWriteZeroes
	if d.flusher != nil {
		f |= tfFlush | tfFUA
	}
	if d.zeroer != nil {
		f |= tfTrim
	}
	return f
}

// read fills p from off, or fails.
func (d *disk) read(ctx context.Context, p []byte, off int64) error {
	var n int
	var err error
	if d.reader != nil {
		n, err = d.reader.ReadAtContext(ctx, p, off)
	} else {
		n, err = d.ReadAt(p, off)
	}
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: got %d: %w", len(p), off, n, err)
}

func (d *disk) write(p []byte, off int64) error {
	n, err := d.writer.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(p), off, err)
	}
	return nil
}

// zeroPage is what is written where a backend cannot zero. Larger pieces do not
// make that faster.
var zeroPage = make([]byte, 256<<10)

func (d *disk) zero(ctx context.Context, off, n int64, mayDeallocate bool) error {
	if d.zeroer != nil {
		return d.zeroer.Zero(ctx, off, n, mayDeallocate)
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := min(n, int64(len(zeroPage)))
		if err := d.write(zeroPage[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// status returns the extents of [off, off+n) as the backend has them, checked,
// joined and cut at off+n. They may end earlier.
func (d *disk) status(ctx context.Context, off, n int64) ([]Extent, error) {
	raw, err := d.extents.Extents(ctx, off, n)
	if err != nil {
		return nil, fmt.Errorf("find the extents of %d bytes at %d: %w", n, off, err)
	}
	var list []Extent
	at, end := off, off+n
	for _, e := range raw {
		if at >= end {
			break
		}
		if e.Offset != at || e.Length <= 0 {
			return nil, fmt.Errorf("find the extents of %d bytes at %d: backend returned %d bytes at %d where %d was due", n, off, e.Length, e.Offset, at)
		}
		e.Length = min(e.Length, end-at)
		list = appendExtent(list, e)
		at += e.Length
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("find the extents of %d bytes at %d: backend returned none", n, off)
	}
	return list, nil
}
