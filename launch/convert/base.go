package convert

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"snapferry/nbd"
	"snapferry/transfer"
)

const (
	// cachedBlocks are held in memory, 16 MiB; all that was read stays in the
	// temporary file.
	cachedBlocks = 32
	// readAhead blocks at most are fetched behind a run of blocks that were read
	// one after the other, one for each block of the run but the first two: an
	// initramfs is read through, drivers and a file system's tables are not.
	// Four hide a round trip of a WAN.
	readAhead = 4
)

// Base is the disk of a snapshot as an NBD backend: blocks come from EBS when
// they are first read, whole, and are kept. Absent blocks are zeros.
type Base struct {
	size   int64
	reader transfer.SnapshotReader
	tokens map[int64]string // of the present blocks
	file   *os.File         // sparse, one slot a block

	ctx    context.Context // of what is fetched for whoever wants it
	cancel context.CancelFunc
	ahead  chan struct{} // one token for each block read ahead
	wg     sync.WaitGroup

	mu     sync.Mutex
	blocks map[int64]*fetched
	recent *list.List // *fetched with data, the latest first
	last   int64      // the block that was wanted before
	run    int        // blocks that were wanted one after the other, up to last

	requests, fetches atomic.Int64
}

// fetched is one block, or the fetching of it.
type fetched struct {
	index  int64
	ready  chan struct{} // closed when what follows is set
	err    error
	digest transfer.Digest

	data []byte        // or nil: it is in the file
	at   *list.Element // in recent
}

// BaseStats counts what was read.
type BaseStats struct {
	Requests int64 `json:"requests"` // reads over NBD
	Blocks   int64 `json:"blocks"`   // fetched from EBS
	Bytes    int64 `json:"bytes"`    // fetched from EBS
}

var (
	_ nbd.Backend       = (*Base)(nil)
	_ nbd.ContextReader = (*Base)(nil)
	_ nbd.Extenter      = (*Base)(nil)
)

// NewBase lists the snapshot's blocks and makes the cache at path; size is that
// of the disk in bytes. ctx bounds the listing and every later fetch. Close it
// after the last read.
func NewBase(ctx context.Context, reader transfer.SnapshotReader, size int64, path string) (*Base, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the cache of the boot disk: %w", err)
	}
	b := &Base{size: size, reader: reader, tokens: map[int64]string{}, file: f,
		ahead: make(chan struct{}, readAhead), blocks: map[int64]*fetched{}, recent: list.New(), last: -2}
	blocks := transfer.DiskBlocks(size)
	err = reader.Blocks(ctx, func(index int64, token string) error {
		if index < blocks {
			b.tokens[index] = token
		}
		return nil
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("list the blocks of the boot disk: %w", err)
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	return b, nil
}

// Size is that of the disk in bytes.
func (b *Base) Size() int64 { return b.size }

// Stats says what was read so far.
func (b *Base) Stats() BaseStats {
	n := b.fetches.Load()
	return BaseStats{Requests: b.requests.Load(), Blocks: n, Bytes: n * transfer.BlockSize}
}

// Close ends fetches under way. Nothing may read any more.
func (b *Base) Close() error {
	b.cancel()
	b.wg.Wait()
	return b.file.Close()
}

// ReadAt reads from the disk.
func (b *Base) ReadAt(p []byte, off int64) (int, error) { return b.ReadAtContext(b.ctx, p, off) }

// ReadAtContext reads from the disk; ctx ends the waiting, not the fetching,
// for which others may wait.
func (b *Base) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	b.requests.Add(1)
	if off < 0 || off > b.size || int64(len(p)) > b.size-off {
		return 0, fmt.Errorf("read %d bytes at %d: not within the disk's %d", len(p), off, b.size)
	}
	done := 0
	for done < len(p) {
		index, in := (off+int64(done))/transfer.BlockSize, (off+int64(done))%transfer.BlockSize
		n := min(len(p)-done, int(transfer.BlockSize-in))
		if err := b.copyOut(ctx, p[done:done+n], index, in); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (b *Base) copyOut(ctx context.Context, p []byte, index, in int64) error {
	if _, present := b.tokens[index]; !present {
		clear(p)
		return nil
	}
	f := b.want(index)
	select {
	case <-f.ready:
	case <-ctx.Done():
		return fmt.Errorf("read block %d of the boot disk: %w", index, ctx.Err())
	}
	if f.err != nil {
		return f.err
	}
	b.mu.Lock()
	data := f.data
	if data != nil {
		b.recent.MoveToFront(f.at)
	}
	b.mu.Unlock()
	if data != nil { // never written to again: it may leave the cache meanwhile
		copy(p, data[in:])
		return nil
	}
	if _, err := b.file.ReadAt(p, index*transfer.BlockSize+in); err != nil {
		return fmt.Errorf("read block %d from the cache of the boot disk: %w", index, err)
	}
	return nil
}

// want returns block index, the fetching of which has at least begun, and reads
// ahead where reading goes on.
func (b *Base) want(index int64) *fetched {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.blocks[index]
	if f == nil {
		f = b.begin(index, func() {})
	}
	switch index {
	case b.last:
	case b.last + 1:
		b.run++
		b.readOn(index, min(b.run-2, readAhead))
	default:
		b.run = 1
	}
	b.last = index
	return f
}

// readOn begins to fetch the n blocks that follow, as far as there is room. mu
// is held.
func (b *Base) readOn(index int64, n int) {
	for next := index + 1; next <= index+int64(n); next++ {
		if _, present := b.tokens[next]; !present || b.blocks[next] != nil {
			continue
		}
		select {
		case b.ahead <- struct{}{}:
			b.begin(next, func() { <-b.ahead })
		default:
			return
		}
	}
}

// begin starts the one fetch of a block. mu is held.
func (b *Base) begin(index int64, end func()) *fetched {
	f := &fetched{index: index, ready: make(chan struct{})}
	b.blocks[index] = f
	b.wg.Go(func() {
		defer end()
		b.fetch(f)
	})
	return f
}

// fetch gets a block and keeps it. A block that could not be had is forgotten,
// so that the next read tries again.
func (b *Base) fetch(f *fetched) {
	buf := make([]byte, transfer.BlockSize)
	digest, err := b.reader.Get(b.ctx, f.index, b.tokens[f.index], buf)
	if err == nil {
		b.fetches.Add(1)
		_, err = b.file.WriteAt(buf, f.index*transfer.BlockSize)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer close(f.ready)
	if err != nil {
		f.err = fmt.Errorf("fetch block %d of the boot disk: %w", f.index, err)
		delete(b.blocks, f.index)
		return
	}
	f.digest, f.data, f.at = digest, buf, b.recent.PushFront(f)
	for b.recent.Len() > cachedBlocks {
		old := b.recent.Remove(b.recent.Back()).(*fetched)
		old.data, old.at = nil, nil
	}
}

// Digest is that of block index as the snapshot has it; ok is false where it is
// absent.
func (b *Base) Digest(ctx context.Context, index int64) (d transfer.Digest, ok bool, err error) {
	if _, present := b.tokens[index]; !present {
		return d, false, nil
	}
	f := b.want(index)
	select {
	case <-f.ready:
		return f.digest, true, f.err
	case <-ctx.Done():
		return d, false, ctx.Err()
	}
}

// Extents tells QEMU which blocks are absent, so that it asks for none of them.
func (b *Base) Extents(_ context.Context, off, n int64) ([]nbd.Extent, error) {
	if n <= 0 {
		return nil, errors.New("no range")
	}
	var all []nbd.Extent
	for at := off; at < off+n; {
		index := at / transfer.BlockSize
		e := nbd.Extent{Offset: at, Length: min((index+1)*transfer.BlockSize, off+n) - at}
		if _, present := b.tokens[index]; !present {
			e.Flags = nbd.StateHole | nbd.StateZero
		}
		if k := len(all) - 1; k >= 0 && all[k].Flags == e.Flags {
			all[k].Length += e.Length
		} else {
			all = append(all, e)
		}
		at += e.Length
	}
	return all, nil
}
