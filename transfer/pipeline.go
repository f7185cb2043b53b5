package transfer

import (
	"bytes"
	"context"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer/manifest"
)

// copier copies one disk of one cycle: reads run ahead of puts, both many at a
// time, ordered by nothing but the grid.
//
//	feed ─ index ─► readers: read, zero?, digest, same as the base? ─ block ─► putters: put, note in the journal
type copier struct {
	size    int64 // of the disk
	plan    Plan
	read    *BlockSet       // blocks to read
	base    *manifest.Table // what the parent holds, or nil
	held    *manifest.Table // what the draft holds already, or nil
	reader  DiskReader
	draft   func(context.Context) (Draft, *manifest.Table, error)
	buffers *Buffers
	reads   int
	puts    int
	meter   func(func(*DiskReport))
}

// block is one block on its way to AWS. buf is nil for a block of zeros that
// was never read.
type block struct {
	index  int64
	digest Digest
	buf    []byte
}

// zeroBlock stands for every block known to be zeros.
var zeroBlock = newBuffer()

// run returns when every block is put or skipped, or with the first error.
func (c *copier) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	indexes := make(chan int64)
	blocks := make(chan block) // unbuffered: what waits, waits in a pool buffer
	g.Go(func() error {
		defer close(indexes)
		return c.feed(ctx, indexes)
	})
	g.Go(func() error {
		defer close(blocks)
		readers, readCtx := errgroup.WithContext(ctx)
		for range c.reads {
			readers.Go(func() error { return c.readAll(readCtx, indexes, blocks) })
		}
		if err := readers.Wait(); err != nil {
			return err
		}
		return c.fill(ctx, blocks)
	})
	for range c.puts {
		g.Go(func() error { return c.putAll(ctx, blocks) })
	}
	return g.Wait()
}

func (c *copier) feed(ctx context.Context, indexes chan<- int64) error {
	for i := range c.read.All() {
		select {
		case indexes <- i:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *copier) readAll(ctx context.Context, indexes <-chan int64, blocks chan<- block) error {
	for i := range indexes {
		if err := ctx.Err(); err != nil { // identical blocks never block on a channel
			return err
		}
		buf, err := c.buffers.get(ctx)
		if err != nil {
			return err
		}
		b, want, err := c.look(i, buf)
		if err == nil && want {
			err = send(ctx, blocks, b)
		}
		if err != nil || !want {
			c.buffers.put(buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func send(ctx context.Context, blocks chan<- block, b block) error {
	select {
	case blocks <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look reads block i and says whether it must be put.
func (c *copier) look(i int64, buf []byte) (b block, want bool, err error) {
	digest, n, err := c.digest(i, buf)
	if err != nil {
		return b, false, err
	}
	b = block{index: i, buf: buf, digest: digest}
	known, ok, err := c.known(i)
	if err != nil {
		return b, false, err
	}
	identical := ok && known == b.digest
	absent := !ok && digest == ZeroDigest && c.plan.SkipZeros
	c.meter(func(d *DiskReport) {
		d.BytesRead += n
		switch {
		case identical:
			d.Identical++
			d.Done++
		case absent:
			d.Zero++
			d.Done++
		}
	})
	return b, !identical && !absent, nil
}

// known is the digest that the draft or else its parent has for block i, if
// anybody knows it.
func (c *copier) known(i int64) (d Digest, ok bool, err error) {
	if c.held != nil {
		if got, set, err := c.held.Get(i); set || err != nil {
			return got, set, err
		}
	}
	if c.base == nil || i >= c.base.Header().Blocks {
		return d, false, nil
	}
	got, set, err := c.base.Get(i)
	switch {
	case err != nil:
		return d, false, err
	case set:
		return got, true, nil
	default:
		return ZeroDigest, c.base.Header().Whole, nil
	}
}

// fill sends the zeros behind the disk's end, which nobody need read.
func (c *copier) fill(ctx context.Context, blocks chan<- block) error {
	for i := c.plan.FillFirst; i < c.plan.FillEnd; i++ {
		known, ok, err := c.known(i)
		if err != nil {
			return err
		}
		if ok && known == ZeroDigest {
			c.meter(func(d *DiskReport) { d.Identical++; d.Done++ })
			continue
		}
		if err := send(ctx, blocks, block{index: i, digest: ZeroDigest}); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) putAll(ctx context.Context, blocks <-chan block) error {
	for b := range blocks {
		err := c.put(ctx, b)
		if b.buf != nil {
			c.buffers.put(b.buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) put(ctx context.Context, b block) error {
	draft, journal, err := c.draft(ctx)
	if err != nil {
		return err
	}
	data := b.buf
	if data == nil {
		data = zeroBlock
	}
	if c.held != nil { // it may be put anew: until that is certain, nobody knows what the draft has
		if err := journal.Clear(b.index); err != nil {
			return err
		}
	}
	if err := draft.Put(ctx, b.index, data, b.digest); err != nil {
		return err
	}
	if err := journal.Set(b.index, b.digest); err != nil {
		return err
	}
	c.meter(func(d *DiskReport) { d.Put++; d.Done++ })
	return nil
}

// zeroPage is compared with: 4 KiB at a time runs at memory speed, a loop over
// bytes at a twentieth of it (measured, see the project's AWS facts).
var zeroPage [4096]byte

func isZero(b []byte) bool {
	for len(b) >= len(zeroPage) {
		if !bytes.Equal(b[:len(zeroPage)], zeroPage[:]) {
			return false
		}
		b = b[len(zeroPage):]
	}
	return bytes.Equal(b, zeroPage[:len(b)])
}
