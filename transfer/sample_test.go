package transfer_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"snapferry/transfer"
)

func TestSampleChooses(t *testing.T) {
	from := transfer.NewBlockSet(5000)
	for i := int64(0); i < 5000; i += 5 {
		from.Add(i)
	}
	met := make([]int, 5000)
	for seed := range uint64(400) {
		s := transfer.Sample{Fraction: 0.01, Seed: seed}
		chosen := s.Choose(from, 1)
		if chosen.Len() != 10 {
			t.Fatalf("seed %d: %d of 1000 chosen, want 10", seed, chosen.Len())
		}
		again, other := s.Choose(from, 1), s.Choose(from, 2)
		same, differ := true, false
		for i := range chosen.All() {
			same, differ = same && again.Has(i), differ || !other.Has(i)
			if !from.Has(i) {
				t.Fatalf("seed %d: block %d is not among those to choose from", seed, i)
			}
			met[i]++
		}
		if !same || !differ {
			t.Fatalf("seed %d: the same seed again: %v; another disk differs: %v", seed, same, differ)
		}
	}
	// Each block is met 4 times on average; thirds of the disk evenly.
	for third := range 3 {
		n := 0
		for _, k := range met[third*1665 : (third+1)*1665] {
			n += k
		}
		if n < 1200 || n > 1470 {
			t.Errorf("third %d was met %d times, about 1333 expected", third, n)
		}
	}
}

func TestSampleSize(t *testing.T) {
	for _, c := range []struct {
		fraction float64
		n, want  int64
	}{{0.01, 0, 0}, {0.01, 1, 1}, {0.01, 100, 1}, {0.01, 101, 2}, {1, 777, 777}, {1e-9, 1000, 1}, {0.5, 3, 2}} {
		if got := (transfer.Sample{Fraction: c.fraction}).Size(c.n); got != c.want {
			t.Errorf("%v of %d: %d, want %d", c.fraction, c.n, got, c.want)
		}
	}
}

// TestMissChance against the definition: logarithms of binomials.
func TestMissChance(t *testing.T) {
	choose := func(n, k int64) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		n := 1 + rng.Int64N(5000)
		sampled, wrong := rng.Int64N(n+1), rng.Int64N(n+1)
		want := 0.0
		if sampled <= n-wrong {
			want = math.Exp(choose(n-wrong, sampled) - choose(n, sampled))
		}
		if got := transfer.MissChance(n, sampled, wrong); math.Abs(got-want) > 1e-9 {
			t.Fatalf("n %d, sampled %d, wrong %d: %v, want %v", n, sampled, wrong, got, want)
		}
	}
}

// TestMissChanceByTrial samples for real.
func TestMissChanceByTrial(t *testing.T) {
	from := transfer.NewBlockSet(200)
	from.AddRange(0, 200)
	missed := 0
	const trials = 4000
	for seed := range uint64(trials) {
		hit := false
		for i := range (transfer.Sample{Fraction: 0.1, Seed: seed}).Choose(from, 9).All() {
			hit = hit || i < 10 // the wrong ones lie side by side: it must not matter
		}
		if !hit {
			missed++
		}
	}
	want := transfer.MissChance(200, 20, 10)
	if got := float64(missed) / trials; math.Abs(got-want) > 0.03 {
		t.Errorf("missed %.3f of the time, %.3f computed", got, want)
	}
}

func TestDetectable(t *testing.T) {
	for _, c := range []struct{ n, sampled, want int64 }{
		{100, 0, 0}, {0, 0, 0}, {100, 100, 1}, {1, 1, 1}, {100, 95, 1}, {100, 94, 2},
		{4_194_304, 41_944, 299}, // 2 TiB at 1 %
		{20_480, 205, 296},       // 10 GiB at 1 %
		{20_480, 2048, 29}, {134_217_728, 1, 127_506_842},
	} {
		got := transfer.Detectable(c.n, c.sampled, 0.95)
		if got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.sampled, c.n, got, c.want)
		}
		if got > 0 && (1-transfer.MissChance(c.n, c.sampled, got) < 0.95 || (got > 1 && 1-transfer.MissChance(c.n, c.sampled, got-1) >= 0.95)) {
			t.Errorf("%d of %d: %d is not the smallest", c.sampled, c.n, got)
		}
	}
}
