package nbd

import (
	"context"
	"math/bits"
	"sync"
)

// budget is a number of bytes that requests share. One goroutine takes, many
// give.
type budget struct {
	mu    sync.Mutex
	free  int64
	given chan struct{} // holds a token after something was given
}

func newBudget(n int64) *budget {
	return &budget{free: n, given: make(chan struct{}, 1)}
}

// take waits until n bytes are free. n must not exceed the whole budget.
func (b *budget) take(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		ok := b.free >= n
		if ok {
			b.free -= n
		}
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-b.given:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.mu.Unlock()
	select {
	case b.given <- struct{}{}:
	default:
	}
}

// Requests of these sizes are frequent enough to keep their memory for the next
// one; larger ones are left to the garbage collector.
const maxPooled = 2 << 20

// pools holds buffers by the power of two of their capacity.
var pools [22]sync.Pool

// buffer is a request's memory: put gives it back.
type buffer struct {
	b     []byte
	whole *[]byte // nil if b is not pooled
	class int
}

// getBuffer returns n bytes of any content.
func getBuffer(n int64) buffer {
	if n == 0 {
		return buffer{}
	}
	class := bits.Len64(uint64(n - 1))
	if n > maxPooled {
		return buffer{b: make([]byte, n)}
	}
	whole, ok := pools[class].Get().(*[]byte)
	if !ok {
		s := make([]byte, 1<<class)
		whole = &s
	}
	return buffer{b: (*whole)[:n], whole: whole, class: class}
}

func (b buffer) put() {
	if b.whole != nil {
		pools[b.class].Put(b.whole)
	}
}
