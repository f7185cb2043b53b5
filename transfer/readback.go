package transfer

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer/manifest"
)

// Proof is what the blocks of a snapshot were held against.
type Proof string

// The proofs, the strongest first.
const (
	// ProofManifest: every block against the digest noted when it was put; a
	// difference names the block.
	ProofManifest Proof = "manifest"
	// ProofRoot: all blocks together against the root in the tags, which the
	// cycle computed from what it read from the source.
	ProofRoot Proof = "root"
	// ProofNone: every block was readable and matched AWS's own checksum, but
	// nobody remembers what it should be.
	ProofNone Proof = "none"
)

// ReadBack reads every block of a completed snapshot, or a selection of them,
// and proves it.
type ReadBack struct {
	Snapshot Snapshot
	Reader   SnapshotReader
	Manifest *manifest.Table // of this snapshot, or nil
	Buffers  *Buffers
	Gets     int    // in flight
	Scratch  string // folder for 32 bytes a block; "" is the system's

	// Only, when set, chooses which of the present blocks are read. Where there
	// is a manifest, which blocks are present at all is held against it too;
	// without one nothing is proven, since the root is of all blocks.
	Only func(index int64) bool
	// Each, when set, gets every present block, many at once and in no order;
	// data is the callee's until it returns.
	Each func(index int64, data []byte) error
	// Progress, when set, is told the blocks read so far, many at once.
	Progress func(done int64)

	present int64 // listed; written by one goroutine

	mu     sync.Mutex
	result Proved
}

// Proved is the outcome of a ReadBack.
type Proved struct {
	Snapshot SnapshotID `json:"snapshot"`
	Proof    Proof      `json:"proof"`
	OK       bool       `json:"ok"`
	Blocks   int64      `json:"blocks"` // read
	Absent   int64      `json:"absent"`
	Root     *Digest    `json:"root,omitempty"`       // of what was read; nil where absent blocks mean nothing
	Wrong    int64      `json:"wrong"`                // blocks that differ from the manifest
	First    []int64    `json:"firstWrong,omitempty"` // the first of them that were met, at most 16
	Why      string     `json:"why,omitempty"`        // what is wrong, for a person
	Sampled  bool       `json:"sampled,omitempty"`    // Only chose what to read
	Of       int64      `json:"of,omitempty"`         // of so many present blocks
}

// maxWrong is how many wrong blocks a report names: enough to see a pattern.
const maxWrong = 16

// Run reads the snapshot. An error means that it could not be read; a snapshot
// that was read and is wrong has OK false.
func (r *ReadBack) Run(ctx context.Context) (Proved, error) {
	scratch, err := r.scratch()
	if err != nil {
		return Proved{}, err
	}
	defer scratch.Close()
	r.present, r.result = 0, Proved{Snapshot: r.Snapshot.ID}
	if err := r.readAll(ctx, scratch); err != nil {
		return r.result, fmt.Errorf("read %s back: %w", r.Snapshot.ID, err)
	}
	r.result.Absent = scratch.Header().Blocks - r.present
	if r.Only != nil {
		err = r.judgeSample(scratch)
	} else {
		err = r.judge(scratch)
	}
	return r.result, err
}

func (r *ReadBack) scratch() (*manifest.Table, error) {
	dir, err := os.MkdirTemp(r.Scratch, "snapferry-readback-")
	if err != nil {
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	defer os.RemoveAll(dir) // the open file lives on until it is closed
	return manifest.Create(filepath.Join(dir, "digests"), manifest.Header{
		Blocks: r.Snapshot.VolumeGiB * BlocksPerGiB,
		Whole:  true,
	})
}

type listed struct {
	index int64
	token string
}

func (r *ReadBack) readAll(ctx context.Context, scratch *manifest.Table) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan listed)
	g.Go(func() error {
		defer close(work)
		return r.Reader.Blocks(ctx, func(index int64, token string) error {
			r.present++
			if r.Only != nil && !r.Only(index) {
				return scratch.Set(index, unread)
			}
			select {
			case work <- listed{index, token}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range r.Gets {
		g.Go(func() error {
			for l := range work {
				if err := r.get(ctx, l, scratch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (r *ReadBack) get(ctx context.Context, l listed, scratch *manifest.Table) error {
	buf, err := r.Buffers.get(ctx)
	if err != nil {
		return err
	}
	defer r.Buffers.put(buf)
	digest, err := r.Reader.Get(ctx, l.index, l.token, buf)
	if err != nil {
		return err
	}
	if err := scratch.Set(l.index, digest); err != nil {
		return err
	}
	if r.Each != nil {
		if err := r.Each(l.index, buf); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.result.Blocks++
	done := r.result.Blocks
	r.mu.Unlock()
	if r.Progress != nil {
		r.Progress(done)
	}
	return nil
}

// judge compares what was read with what is remembered.
func (r *ReadBack) judge(scratch *manifest.Table) error {
	p, label := &r.result, r.Snapshot.Label
	meaningless := r.Snapshot.Encrypted && p.Absent > 0
	if !meaningless {
		sum, _, err := scratch.Root(ZeroDigest)
		if err != nil {
			return err
		}
		root := Digest(sum)
		p.Root = &root
	}
	switch {
	case r.remembered(scratch):
		p.Proof = ProofManifest
		if err := r.compare(scratch); err != nil {
			return err
		}
		if p.OK = p.Wrong == 0; !p.OK {
			p.Why = fmt.Sprintf("%d blocks are not what was put, the first met at index %d", p.Wrong, p.First[0])
		}
	case label.Root != nil:
		p.Proof = ProofRoot
		if p.OK = p.Root != nil && *p.Root == *label.Root; !p.OK {
			p.Why = "the blocks together are not what was put"
		}
	default:
		p.Proof, p.OK = ProofNone, true
	}
	if meaningless && p.Proof != ProofNone && p.OK {
		p.OK, p.Why = false, "blocks are absent from an encrypted snapshot and read as garbage on a volume"
	}
	return nil
}

// unread is the mark in the scratch table of a block that is present and was
// not read; it is no block's digest.
var unread = manifest.Digest{1}

// remembered reports whether the manifest knows every block.
func (r *ReadBack) remembered(scratch *manifest.Table) bool {
	return r.Manifest != nil && r.Manifest.Header().Whole && r.Manifest.Header().Blocks == scratch.Header().Blocks
}

// judgeSample compares what was read with what is remembered of it.
func (r *ReadBack) judgeSample(scratch *manifest.Table) error {
	p := &r.result
	p.Sampled, p.Of, p.Proof, p.OK = true, r.present, ProofNone, true
	if !r.remembered(scratch) {
		return nil
	}
	p.Proof = ProofManifest
	if err := r.compare(scratch); err != nil {
		return err
	}
	switch {
	case p.Wrong > 0:
		p.OK, p.Why = false, fmt.Sprintf("%d blocks are not what was put, the first met at index %d", p.Wrong, p.First[0])
	case r.Snapshot.Encrypted && p.Absent > 0:
		p.OK, p.Why = false, "blocks are absent from an encrypted snapshot and read as garbage on a volume"
	}
	return nil
}

func (r *ReadBack) compare(scratch *manifest.Table) error {
	p := &r.result
	return r.Manifest.Each(func(i int64, want manifest.Digest, set bool) error {
		got, present, err := scratch.Get(i)
		if err != nil {
			return err
		}
		if !set {
			want = ZeroDigest
		}
		if !present {
			got = ZeroDigest
		}
		if got != want && got != unread {
			if p.Wrong++; len(p.First) < maxWrong {
				p.First = append(p.First, i)
			}
		}
		return nil
	})
}

// Restore writes a disk's blocks to w, a new file: sparse where blocks are
// absent, size bytes long (the virtual disk's size, not the volume's).
func Restore(ctx context.Context, r *ReadBack, w *os.File) (Proved, error) {
	size := r.Snapshot.Label.DiskSize
	if err := w.Truncate(size); err != nil {
		return Proved{}, fmt.Errorf("size %s: %w", w.Name(), err)
	}
	r.Each = func(index int64, data []byte) error {
		offset := index * BlockSize
		if offset >= size || isZero(data) {
			return nil // behind the disk's end, or a hole that the file has already
		}
		_, err := io.NewOffsetWriter(w, offset).Write(data[:min(BlockSize, size-offset)])
		return err
	}
	proved, err := r.Run(ctx)
	if err == nil {
		err = w.Sync()
	}
	return proved, err
}

// ListBlocks is the set of a snapshot's present blocks.
func ListBlocks(ctx context.Context, s Snapshot, r SnapshotReader) (*BlockSet, error) {
	present := NewBlockSet(s.VolumeGiB * BlocksPerGiB)
	err := r.Blocks(ctx, func(i int64, _ string) error {
		if i < 0 || i >= present.n {
			return fmt.Errorf("list the blocks of %s: block %d is behind the volume's end", s.ID, i)
		}
		present.Add(i)
		return nil
	})
	return present, err
}

// CountBlocks lists a snapshot's present blocks without reading them: what a
// full read will cost.
func CountBlocks(ctx context.Context, r SnapshotReader) (n int64, err error) {
	err = r.Blocks(ctx, func(int64, string) error { n++; return nil })
	return n, err
}
