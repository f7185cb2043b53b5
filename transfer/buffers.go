package transfer

import (
	"context"
	"unsafe"
)

// bufferAlign is the alignment of block buffers: O_DIRECT wants the logical
// block size of the device, which is at most a page.
const bufferAlign = 4096

// Buffers bounds the memory of all cycles of a process: as many blocks as it
// holds are in flight, read or being put, and no more.
type Buffers struct {
	free  chan []byte // filled as buffers come back
	spare chan struct{}
}

// NewBuffers returns a pool of n buffers, each made when first needed.
func NewBuffers(n int) *Buffers {
	b := &Buffers{free: make(chan []byte, n), spare: make(chan struct{}, n)}
	for range n {
		b.spare <- struct{}{}
	}
	return b
}

// get waits for a buffer of BlockSize bytes with anything in it.
func (b *Buffers) get(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-b.free: // a used one first, so that few are made
		return buf, nil
	default:
	}
	select {
	case buf := <-b.free:
		return buf, nil
	case <-b.spare:
		return newBuffer(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *Buffers) put(buf []byte) { b.free <- buf }

func newBuffer() []byte {
	raw := make([]byte, BlockSize+bufferAlign)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))) & (bufferAlign - 1)
	return raw[skip : skip+BlockSize : skip+BlockSize]
}
