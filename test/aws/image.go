package aws

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// image reads what a volume would hold.
type image struct {
	store   *store
	layer   *layer
	size    int64
	garbage bool   // absent blocks are garbage
	seed    uint64 // of the garbage
}

// Image returns what a volume made from a completed snapshot would read, and
// its size in bytes (whole GiB). The chain is resolved. Absent blocks are
// zeros, or in an encrypted snapshot garbage that is never zero and the same at
// each reading. The image stays readable after the snapshot is deleted, until
// the emulator is closed.
func (e *Emulator) Image(snapshotID string) (io.ReaderAt, int64, error) {
	s := e.lookup(snapshotID)
	if s == nil {
		return nil, 0, fmt.Errorf("open image of %s: no such snapshot", snapshotID)
	}
	l := s.readable(e.store, e.now(), 0)
	if l == nil {
		return nil, 0, fmt.Errorf("open image of %s: it is not completed", snapshotID)
	}
	im := newImage(e.store, l, s.size, s.encrypted, s.id)
	return im, im.size, nil
}

func newImage(st *store, l *layer, gib int64, garbage bool, seed string) *image {
	h := fnv.New64a()
	_, _ = h.Write([]byte(seed))
	return &image{store: st, layer: l, size: gib << 30, garbage: garbage, seed: h.Sum64()}
}

// ReadAt implements io.ReaderAt.
func (im *image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read image at %d: negative offset", off)
	}
	for n < len(p) && off < im.size {
		in := off % blockSize
		part := p[n:min(len(p), n+int(min(blockSize-in, im.size-off)))]
		if err := im.readBlock(int32(off/blockSize), part, in); err != nil {
			return n, err
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (im *image) readBlock(index int32, p []byte, off int64) error {
	if b := im.layer.resolve(index); b != nil {
		return im.store.readAt(b, p, off)
	}
	if !im.garbage {
		clear(p)
		return nil
	}
	fillGarbage(p, im.seed^uint64(index)<<20, off)
	return nil
}

// fillGarbage fills p with the bytes at offset off of an endless sequence that
// depends on seed alone (splitmix64 by word); none of them is zero.
func fillGarbage(p []byte, seed uint64, off int64) {
	var word [8]byte
	for len(p) > 0 {
		z := seed + uint64(off/8+1)*0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(word[:], z^z>>31|0x0101010101010101)
		n := copy(p, word[off%8:])
		p, off = p[n:], off+int64(n)
	}
}
