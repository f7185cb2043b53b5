package transfer

import (
	"iter"
	"math/bits"
)

// BlockSet is a set of block indexes of one volume: one bit a block, 2 MiB for
// the largest volume EBS has. It is not safe for concurrent change.
type BlockSet struct {
	bits  []uint64
	n     int64 // blocks in the volume
	count int64
}

// NewBlockSet returns an empty set for a volume of n blocks.
func NewBlockSet(n int64) *BlockSet {
	return &BlockSet{bits: make([]uint64, (n+63)/64), n: n}
}

// AddExtent adds every block that e touches. e must be inside the volume.
func (s *BlockSet) AddExtent(e Extent) {
	if e.Length <= 0 {
		return
	}
	s.AddRange(e.Offset/BlockSize, (e.End()-1)/BlockSize+1)
}

// AddRange adds blocks first to end-1.
func (s *BlockSet) AddRange(first, end int64) {
	for i := first; i < end; {
		if i%64 == 0 && end-i >= 64 { // a whole word: whole disks are added this way
			s.count += int64(64 - bits.OnesCount64(s.bits[i/64]))
			s.bits[i/64] = ^uint64(0)
			i += 64
			continue
		}
		s.Add(i)
		i++
	}
}

// Add adds one block.
func (s *BlockSet) Add(i int64) {
	if mask := uint64(1) << (i % 64); s.bits[i/64]&mask == 0 {
		s.bits[i/64] |= mask
		s.count++
	}
}

// Remove takes one block out.
func (s *BlockSet) Remove(i int64) {
	if mask := uint64(1) << (i % 64); s.bits[i/64]&mask != 0 {
		s.bits[i/64] &^= mask
		s.count--
	}
}

// Has reports whether block i is in the set.
func (s *BlockSet) Has(i int64) bool {
	return i >= 0 && i < s.n && s.bits[i/64]&(1<<(i%64)) != 0
}

// Len is the number of blocks in the set.
func (s *BlockSet) Len() int64 { return s.count }

// All yields the blocks in ascending order.
func (s *BlockSet) All() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for w, word := range s.bits {
			for word != 0 {
				b := bits.TrailingZeros64(word)
				if !yield(int64(w)*64 + int64(b)) {
					return
				}
				word &= word - 1
			}
		}
	}
}
