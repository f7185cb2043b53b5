package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"snapferry/transfer"
)

const kib, mib = int64(1) << 10, int64(1) << 20

func TestExtentsOnTheGrid(t *testing.T) {
	const b = int64(transfer.BlockSize)
	for _, c := range []struct {
		areas []transfer.Extent
		want  string
	}{
		{nil, ""},
		{[]transfer.Extent{{Offset: 0, Length: 1}}, "0"},
		{[]transfer.Extent{{Offset: b - 1, Length: 1}}, "0"},
		{[]transfer.Extent{{Offset: b - 1, Length: 2}}, "0 1"},
		{[]transfer.Extent{{Offset: b, Length: b}}, "1"},
		{[]transfer.Extent{{Offset: b, Length: b + 1}}, "1 2"},
		{[]transfer.Extent{{Offset: 0, Length: 512}, {Offset: 1024, Length: 512}, {Offset: 3 * b, Length: 512}}, "0 3"},
		{[]transfer.Extent{{Offset: 2 * b, Length: 0}}, ""},
	} {
		s := transfer.NewBlockSet(transfer.BlocksPerGiB)
		for _, e := range c.areas {
			s.AddExtent(e)
		}
		got := strings.Trim(fmt.Sprint(slices.Collect(s.All())), "[]")
		if got != c.want || s.Len() != int64(len(strings.Fields(c.want))) {
			t.Errorf("%v: blocks %q, %d in all; want %q", c.areas, got, s.Len(), c.want)
		}
	}
}

func TestBlockSetAgainstAMap(t *testing.T) {
	const n = 1000
	rng := rand.New(rand.NewPCG(3, 4))
	s, model := transfer.NewBlockSet(n), map[int64]bool{}
	for range 400 {
		first := rng.Int64N(n)
		end := min(n, first+rng.Int64N(200))
		if rng.IntN(3) == 0 {
			s.Remove(first)
			delete(model, first)
			continue
		}
		s.AddRange(first, end)
		for i := first; i < end; i++ {
			model[i] = true
		}
	}
	if s.Len() != int64(len(model)) {
		t.Errorf("%d blocks, want %d", s.Len(), len(model))
	}
	last := int64(-1)
	for i := range s.All() {
		if !model[i] || i <= last || !s.Has(i) {
			t.Fatalf("block %d after %d, wanted %v", i, last, model[i])
		}
		last = i
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct{ size, gib, disk, volume int64 }{
		{512, 1, 1, 2048},
		{512 * kib, 1, 1, 2048},
		{512*kib + 512, 1, 2, 2048},
		{1 << 30, 1, 2048, 2048},
		{1<<30 + 512, 2, 2049, 4096},
		{65536 << 30, 65536, 65536 * 2048, 65536 * 2048},
	} {
		if g, d, v := transfer.VolumeGiB(c.size), transfer.DiskBlocks(c.size), transfer.VolumeBlocks(c.size); g != c.gib || d != c.disk || v != c.volume {
			t.Errorf("%d bytes: %d GiB, %d and %d blocks; want %+v", c.size, g, d, v, c)
		}
	}
}

func TestCheckAreasRefusesLies(t *testing.T) {
	for name, areas := range map[string][]transfer.Extent{
		"behind the end": {{Offset: 512, Length: 512}},
		"overflow":       {{Offset: 1 << 62, Length: 1 << 62}},
		"negative":       {{Offset: -512, Length: 512}},
		"empty":          {{Offset: 0, Length: 0}},
		"backwards":      {{Offset: 256, Length: 10}, {Offset: 0, Length: 10}},
		"overlapping":    {{Offset: 0, Length: 10}, {Offset: 9, Length: 10}},
	} {
		yield := transfer.CheckAreas(600, func(transfer.Extent) error { return nil })
		var err error
		for _, a := range areas {
			if err = yield(a); err != nil {
				break
			}
		}
		if transfer.KindOf(err) != transfer.BaselineLost {
			t.Errorf("%s: %v", name, err)
		}
	}
	yield := transfer.CheckAreas(600, func(transfer.Extent) error { return nil })
	for _, a := range []transfer.Extent{{Offset: 0, Length: 10}, {Offset: 10, Length: 10}, {Offset: 599, Length: 1}} {
		if err := yield(a); err != nil {
			t.Error(err)
		}
	}
}
