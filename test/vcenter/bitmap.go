package vcenter

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// grain is the granularity of redo logs and of change tracking: 64 KiB, as
// VMFS6 and ESXi's trackers use.
const grain = 64 << 10

// chunkWords makes one chunk 4 KiB of memory for 2 GiB of disk, so that the
// bitmap of a 1 TiB disk that nobody writes to is a few hundred nil pointers.
const (
	chunkWords = 512
	chunkBits  = chunkWords * 64
)

// bitmap is a set of grains, allocated in chunks where it has members. A nil
// bitmap is an empty one for every reading method. Members that reserve has made
// room for may be added, looked up and removed by many goroutines at once.
type bitmap struct {
	chunks []atomic.Pointer[chunk]
}

type chunk [chunkWords]atomic.Uint64

// newBitmap has room for the grains of so many bytes.
func newBitmap(size int64) *bitmap {
	b := &bitmap{}
	b.reserve((size + grain - 1) / grain)
	return b
}

// reserve makes room for the grains below end. Nobody else may use b meanwhile.
func (b *bitmap) reserve(end int64) {
	n := (end + chunkBits - 1) / chunkBits
	if n <= int64(len(b.chunks)) {
		return
	}
	chunks := make([]atomic.Pointer[chunk], n)
	for i := range b.chunks {
		chunks[i].Store(b.chunks[i].Load())
	}
	b.chunks = chunks
}

// chunk is where grain i is, or nil.
func (b *bitmap) chunk(i int64) *chunk {
	if c := i / chunkBits; b != nil && c < int64(len(b.chunks)) {
		return b.chunks[c].Load()
	}
	return nil
}

func (b *bitmap) has(i int64) bool {
	c := b.chunk(i)
	return c != nil && c[i%chunkBits/64].Load()&(1<<(i%64)) != 0
}

func (b *bitmap) add(i int64) {
	b.reserve(i + 1) // nothing to do where others are at work
	c := b.chunk(i)
	if c == nil {
		b.chunks[i/chunkBits].CompareAndSwap(nil, new(chunk))
		c = b.chunk(i)
	}
	if w := &c[i%chunkBits/64]; w.Load()&(1<<(i%64)) == 0 {
		w.Or(1 << (i % 64))
	}
}

func (b *bitmap) drop(i int64) {
	if c := b.chunk(i); c != nil {
		c[i%chunkBits/64].And(^(uint64(1) << (i % 64)))
	}
}

// clear empties b.
func (b *bitmap) clear() {
	for i := range b.chunks {
		b.chunks[i].Store(nil)
	}
}

// few reports whether b has at most n members.
func (b *bitmap) few(n int) bool {
	for i := b.next(0); i >= 0; i = b.next(i + 1) {
		if n--; n < 0 {
			return false
		}
	}
	return true
}

// addRange adds the grains [first, end).
func (b *bitmap) addRange(first, end int64) {
	for i := first; i < end; i++ {
		b.add(i)
	}
}

// union adds o's members.
func (b *bitmap) union(o *bitmap) {
	if o == nil {
		return
	}
	b.reserve(int64(len(o.chunks)) * chunkBits)
	for c := range o.chunks {
		words := o.chunks[c].Load()
		if words == nil {
			continue
		}
		if b.chunks[c].Load() == nil {
			b.chunks[c].Store(new(chunk))
		}
		mine := b.chunks[c].Load()
		for w := range words {
			if word := words[w].Load(); word != 0 {
				mine[w].Or(word)
			}
		}
	}
}

// next returns the first member at or above i, or -1.
func (b *bitmap) next(i int64) int64 {
	if b == nil {
		return -1
	}
	for c := i / chunkBits; c < int64(len(b.chunks)); c++ {
		words := b.chunks[c].Load()
		if words == nil {
			continue
		}
		from := max(i-c*chunkBits, 0)
		for w := from / 64; w < chunkWords; w++ {
			word := words[w].Load()
			if w == from/64 {
				word &= ^uint64(0) << (from % 64)
			}
			if word != 0 {
				return c*chunkBits + w*64 + int64(bits.TrailingZeros64(word))
			}
		}
	}
	return -1
}

// runs yields the maximal runs [first, end) of members, in order.
func (b *bitmap) runs() iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		for first := b.next(0); first >= 0; {
			end := first + 1
			for b.has(end) {
				end++
			}
			if !yield(first, end) {
				return
			}
			first = b.next(end)
		}
	}
}
