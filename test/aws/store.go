package aws

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// blockSize is the one block size of EBS direct, in bytes.
const blockSize = 524288

var zeroDigest = sha256.Sum256(make([]byte, blockSize))

// block is the data of one written block. Two snapshots have the same block if
// and only if they share the pointer: a rewrite with the same bytes is a change,
// as it is for the service.
type block struct {
	digest [32]byte
	slot   int64  // place in the store's file, -1 if data or zero
	data   []byte // in memory mode, nil for zeros
}

// store keeps the bytes of blocks: in memory, or in the slots of one file.
type store struct {
	bufs sync.Pool // *[]byte of blockSize

	mu   sync.Mutex
	file *os.File
	next int64
	free []int64
}

func newStore(dir string) (*store, error) {
	s := &store{}
	s.bufs.New = func() any { b := make([]byte, blockSize); return &b }
	if dir == "" {
		return s, nil
	}
	f, err := os.CreateTemp(dir, "blocks-*.dat")
	if err != nil {
		return nil, fmt.Errorf("create the block store in %s: %w", filepath.Clean(dir), err)
	}
	s.file = f
	return s, nil
}

func (s *store) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if rmErr := os.Remove(s.file.Name()); err == nil {
		err = rmErr
	}
	return err
}

func (s *store) getBuf() *[]byte  { return s.bufs.Get().(*[]byte) }
func (s *store) putBuf(b *[]byte) { s.bufs.Put(b) }

// put stores buf, whose digest is known. kept says that the store holds on to
// the buffer, so that the caller must not reuse it. Zeros take no room.
func (s *store) put(buf []byte, digest [32]byte) (b *block, kept bool, err error) {
	b = &block{digest: digest, slot: -1}
	if digest == zeroDigest {
		return b, false, nil
	}
	if s.file == nil {
		b.data = buf
		return b, true, nil
	}
	slot := s.alloc()
	if _, err := s.file.WriteAt(buf, slot*blockSize); err != nil {
		s.release([]int64{slot})
		return nil, false, fmt.Errorf("write block data: %w", err)
	}
	b.slot = slot
	return b, false, nil
}

func (s *store) alloc() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot
	}
	s.next++
	return s.next - 1
}

func (s *store) release(slots []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, slots...)
}

// readAt fills p from offset off of the block.
func (s *store) readAt(b *block, p []byte, off int64) error {
	switch {
	case b.data != nil:
		copy(p, b.data[off:])
	case b.slot < 0:
		clear(p)
	default:
		if _, err := s.file.ReadAt(p, b.slot*blockSize+off); err != nil && err != io.EOF {
			return fmt.Errorf("read block data: %w", err)
		}
	}
	return nil
}
