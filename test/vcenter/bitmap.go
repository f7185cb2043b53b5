package vcenter

import (
	"iter"
	"math/bits"
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
// bitmap is an empty one for every reading method.
type bitmap struct {
	chunks []*[chunkWords]uint64
}

func (b *bitmap) has(i int64) bool {
	c := i / chunkBits
	if b == nil || c >= int64(len(b.chunks)) || b.chunks[c] == nil {
		return false
	}
	i %= chunkBits
	return b.chunks[c][i/64]&(1<<(i%64)) != 0
}

func (b *bitmap) add(i int64) {
	c := i / chunkBits
	for int64(len(b.chunks)) <= c {
		b.chunks = append(b.chunks, nil)
	}
	if b.chunks[c] == nil {
		b.chunks[c] = new([chunkWords]uint64)
	}
	i %= chunkBits
	b.chunks[c][i/64] |= 1 << (i % 64)
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
	for c, words := range o.chunks {
		if words == nil {
			continue
		}
		for len(b.chunks) <= c {
			b.chunks = append(b.chunks, nil)
		}
		if b.chunks[c] == nil {
			b.chunks[c] = new([chunkWords]uint64)
		}
		for w, word := range words {
			b.chunks[c][w] |= word
		}
	}
}

// next returns the first member at or above i, or -1.
func (b *bitmap) next(i int64) int64 {
	if b == nil {
		return -1
	}
	for c := i / chunkBits; c < int64(len(b.chunks)); c++ {
		if b.chunks[c] == nil {
			continue
		}
		from := max(i-c*chunkBits, 0)
		for w := from / 64; w < chunkWords; w++ {
			word := b.chunks[c][w]
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
