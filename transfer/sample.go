package transfer

import "math/rand/v2"

// Sample chooses blocks at random. The same seed chooses the same blocks.
type Sample struct {
	Fraction float64 `json:"fraction"` // above 0, at most 1
	Seed     uint64  `json:"seed"`
}

// Size is how many of n blocks are chosen: at least one where there is one.
func (s Sample) Size(n int64) int64 {
	k := int64(s.Fraction * float64(n))
	if float64(k) < s.Fraction*float64(n) {
		k++
	}
	return max(min(k, n), min(n, 1))
}

// Choose chooses Size of the blocks, each subset of them as likely as any
// other (selection sampling, Knuth's algorithm S). stream tells the disks of a
// point apart, so that they are not sampled at the same places.
func (s Sample) Choose(from *BlockSet, stream uint64) *BlockSet {
	rng := rand.New(rand.NewPCG(s.Seed, stream))
	chosen := NewBlockSet(from.n)
	left, want := from.Len(), s.Size(from.Len())
	for i := range from.All() {
		if rng.Int64N(left) < want {
			chosen.Add(i)
			want--
		}
		left--
	}
	return chosen
}

// Confidence is the one that results are stated with.
const Confidence = 0.95

// MissChance is the probability that a sample of some of n blocks meets none
// of the wrong ones among them, wherever those are: the share of the samples
// of that size that have no wrong block, C(n-wrong, sampled) / C(n, sampled).
func MissChance(n, sampled, wrong int64) float64 {
	if sampled > n-wrong {
		return 0
	}
	// Choosing the sample and choosing the wrong blocks is the same thing seen
	// from either side: the shorter product will do.
	few, many := min(sampled, wrong), max(sampled, wrong)
	miss := 1.0
	for i := range few {
		miss *= float64(n-many-i) / float64(n-i)
		if miss < 1e-12 { // no confidence that anybody states depends on it
			return miss
		}
	}
	return miss
}

// Detectable is the smallest number of wrong blocks among n of which a sample
// meets at least one with this confidence; 0 where nothing was sampled, and no
// number of them would be met.
func Detectable(n, sampled int64, confidence float64) int64 {
	if sampled < 1 || n < 1 {
		return 0
	}
	found := func(wrong int64) bool { return 1-MissChance(n, sampled, wrong) >= confidence }
	low, high := int64(0), int64(1) // found(low) is false, found(n) is true
	for high < n && !found(high) {
		low, high = high, min(high*2, n)
	}
	for high-low > 1 {
		if mid := low + (high-low)/2; found(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// SampleOdds is what a sample says of the blocks that it did not meet.
type SampleOdds struct {
	Sample
	Of         int64   `json:"of"`
	Sampled    int64   `json:"sampled"`
	Confidence float64 `json:"confidence"`
	// Detects is the smallest number of wrong blocks among Of at least one of
	// which the sample meets with this confidence; 0: no number.
	Detects int64 `json:"detects"`
}

// NewSampleOdds states the odds of having sampled some of a number of blocks.
func NewSampleOdds(s Sample, of, sampled int64) SampleOdds {
	return SampleOdds{Sample: s, Of: of, Sampled: sampled, Confidence: Confidence, Detects: Detectable(of, sampled, Confidence)}
}
