package vsphere

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"snapferry/transfer"
)

// TestAnybodysDescriptions: descriptions of VM snapshots are anybody's. What is
// taken for a mark of ours names a cycle, and reads the same when it is written
// again. (No fuzz target: instrumenting all of govmomi for it takes minutes.)
func TestAnybodysDescriptions(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seeds := []string{
		newMark(transfer.FreezeSpec{Cycle: "20260501T000000.000Z-01020304", Appliance: "ferry-1"}),
		`{"tool":"snapferry","format":2,"appliance":"a","cycle":"c","later":{"x":[1]}}`,
		`{"tool":"snapferry","format":0,"cycle":"c"}`, `{"tool":"snapferry","format":1,"cycle":""}`,
		`{"tool":"veeam"}`, "nightly backup", "", "null", "[]",
	}
	marks := 0
	for n := range 20_000 {
		b := []byte(seeds[n%len(seeds)])
		for range rng.IntN(4) {
			if len(b) > 0 {
				b[rng.IntN(len(b))] = `{}[]":,0123456789snapferrytool -\`[rng.IntN(32)]
			}
		}
		m, ok := readMark(string(b))
		if !ok {
			continue
		}
		marks++
		if m.Tool != markTool || m.Cycle == "" || m.Format < 1 {
			t.Fatalf("taken for a mark: %q", b)
		}
		text, err := json.Marshal(m)
		if again, ok := readMark(string(text)); err != nil || !ok || again != m {
			t.Fatalf("%+v, then %+v (%v)", m, again, err)
		}
	}
	if marks < 1000 {
		t.Errorf("only %d of the inputs are marks: nothing is proven", marks)
	}
}
