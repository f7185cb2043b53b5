package hotadd

import (
	"math/rand/v2"
	"testing"

	"snapferry/transfer"
)

// TestAnybodysExtraConfig: entries of extraConfig are anybody's. What is taken
// for a mark of a disk names its file and its cycle, and reads the same when it
// is written again.
func TestAnybodysExtraConfig(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := Mark{Appliance: "ferry-1", Cycle: "20260501T000000.000Z-01020304", VM: "vm-12", Disk: transfer.DiskID{Key: 2000, UUID: "6000c29"}, File: "[vmfs1] a/a.vmdk"}
	seeds := [][2]string{
		{markKey(1000, 3), m.String()}, {"snapferry.disk.1000", m.String()}, {"snapferry.disk.99999999999:3", m.String()},
		{"snapferry.disk.-1:-1", m.String()}, {"scsi0:3.ctkEnabled", "TRUE"}, {markKey(1000, 3), `{"file":7}`}, {markKey(1000, 3), "null"},
	}
	mutate := func(s string) string {
		b := []byte(s)
		for range rng.IntN(3) {
			b[rng.IntN(len(b))] = `{}[]":,0123456789snapferrydisk.-`[rng.IntN(32)]
		}
		return string(b)
	}
	marks := 0
	for n := range 20_000 {
		seed := seeds[n%len(seeds)]
		key, value := mutate(seed[0]), mutate(seed[1])
		c, u, got, ok := readMark(key, value)
		if !ok {
			continue
		}
		marks++
		if got.File == "" || got.Cycle == "" {
			t.Fatalf("taken for a mark: %q = %q", key, value)
		}
		c2, u2, again, ok := readMark(markKey(c, u), got.String())
		if !ok || c2 != c || u2 != u || again != got {
			t.Fatalf("%d:%d %+v, then %d:%d %+v", c, u, got, c2, u2, again)
		}
	}
	if marks < 500 {
		t.Errorf("only %d of the inputs are marks: nothing is proven", marks)
	}
}
