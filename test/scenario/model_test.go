package scenario_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"snapferry/test/scenario"
	"snapferry/transfer"
)

// sizes are on, before and after every boundary.
func sizes() []int64 {
	all := []int64{512, block - 512, block, block + 512, 7*mib + 4096, gib - 512, gib, gib + 512, gib + 65*mib}
	switch {
	case long:
		return all
	case brief: // which pays for every byte
		return []int64{7*mib + 4096}
	}
	return []int64{block + 512, 7*mib + 4096, gib + 512}
}

// TestRandomWrites is the model: random writes, cycle after cycle; after each
// one the point equals the frozen disks.
func TestRandomWrites(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		for n, size := range sizes() {
			for _, o := range []transfer.Options{{}, {Encrypted: true}, {Zeros: transfer.ZerosAllocated}} {
				if !long && (o.Encrypted && (n != 0 || brief || w.Name == "memory") || o.Zeros == "" && size > gib) {
					continue // a GiB of puts, or of zeros to look at; in one world it is enough
				}
				t.Run(fmt.Sprintf("%d,encrypted=%v,%s", size, o.Encrypted, o.Zeros), func(t *testing.T) {
					randomWrites(t, w, size, o)
				})
			}
		}
	})
}

func randomWrites(t *testing.T, w *scenario.World, size int64, o transfer.Options) {
	seed := uint64(size)
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	s := scenario.Tell(t, w, scenario.Disk{Size: size}, scenario.Disk{Size: 2 * mib})
	deltas := 5
	if long {
		deltas = 22
	}
	for cycle := range deltas + 1 {
		for range 1 + rng.IntN(4) {
			off := rng.Int64N(size/512) * 512
			n := min(size-off, writeSize(rng))
			if rng.IntN(5) == 0 {
				s.Zero(0, off, n)
			} else {
				s.Write(0, rng.Uint64(), off, n)
			}
		}
		if rng.IntN(3) == 0 {
			s.Write(1, rng.Uint64(), rng.Int64N(mib), 1+rng.Int64N(mib))
		}
		rep := s.Sync(o)
		want := transfer.Delta
		if cycle == 0 {
			want = transfer.Seed
		}
		for _, d := range rep.Disks {
			if d.Kind != want {
				t.Fatalf("cycle %d: %s of %s because %s", cycle, d.Kind, d.Label, d.Reason)
			}
		}
		if long || !o.Encrypted || cycle == deltas { // a volume without absent blocks is a GiB to compare
			s.Same()
		}
	}
}

// writeSize is from 512 bytes to 64 MiB, small ones more often.
func writeSize(rng *rand.Rand) int64 {
	most := 17 // 64 MiB
	if !long {
		most = 12
	}
	return 512<<rng.IntN(most+1) + rng.Int64N(512)
}

// TestDisksOfAllSorts has zero-filled, thin, thick, never written and grown
// disks in one VM.
func TestDisksOfAllSorts(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		for _, encrypted := range []bool{false, true} {
			if encrypted && !long {
				continue
			}
			o := transfer.Options{Encrypted: encrypted}
			s := scenario.Tell(t, w, scenario.Disk{Size: 4 * mib}, scenario.Disk{Size: 6 * mib, Thick: true},
				scenario.Disk{Size: 3 * mib}, scenario.Disk{Size: 5 * mib}, scenario.Disk{Size: mib, Thick: true})
			s.Zero(0, 0, 4*mib)
			s.Write(1, 1, 0, 6*mib)
			s.Write(2, 2, mib, 512)
			s.Write(3, 3, 4*mib, mib)
			s.Sync(o)
			s.Same()
			if err := s.VM.Grow(3, 9*mib+512); err != nil {
				t.Fatal(err)
			}
			s.Write(3, 4, 9*mib, 512)
			s.Zero(1, mib, 2*mib)
			rep := s.Sync(o)
			s.Same()
			if d := rep.Disks[3]; d.Kind != transfer.Compare || d.Parent == "" {
				t.Errorf("grown disk: %s because %s", d.Kind, d.Reason)
			}
			s.Sync(o)
			s.Same()
		}
	})
}

// TestADeltaPutsExactlyWhatChanged counts.
func TestADeltaPutsExactlyWhatChanged(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		s := scenario.Tell(t, w, scenario.Disk{Size: 64 * mib}, scenario.Disk{Size: 8 * mib})
		s.Write(0, 1, 0, 16*mib)
		s.Sync(transfer.Options{})
		for _, i := range []int64{0, 9, 10, 127} {
			s.Write(0, uint64(i), i*block+1000, 3)
		}
		rep := s.Sync(transfer.Options{})
		if d := rep.Disks[0]; d.Put != 4 || d.BytesRead != 4*block {
			t.Errorf("four changed blocks: %d puts, %d bytes read", d.Put, d.BytesRead)
		}
		if d := rep.Disks[1]; d.Put != 0 || !d.Sealed {
			t.Errorf("the sibling: %+v", d)
		}
		s.Write(0, 9, 9*block+1000, 3) // the same bytes again
		rep = s.Sync(transfer.Options{})
		if d := rep.Disks[0]; d.Put != 0 || d.Identical != 1 || rep.Outcome != transfer.OutcomeConfirmed {
			t.Errorf("the same bytes: %d puts, %d identical, %s", d.Put, d.Identical, rep.Outcome)
		}
		s.Same()
	})
}

// TestNothingChanged: no put, no draft, few calls, and the point is confirmed.
func TestNothingChanged(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		for _, n := range []int{1, 4} {
			disks := make([]scenario.Disk, n)
			for i := range disks {
				disks[i].Size = mib
			}
			s := scenario.Tell(t, w, disks...)
			s.Write(0, 1, 0, mib)
			s.Sync(transfer.Options{})
			before := s.Points()
			rep := s.Sync(transfer.Options{})
			after := s.Points()
			if rep.Outcome != transfer.OutcomeConfirmed || len(after) != len(before) || !after[0].Confirmed.Equal(rep.Frozen) {
				t.Errorf("%s, %d points, confirmed %v", rep.Outcome, len(after), after[0].Confirmed)
			}
			if most := int64(30 + 2*n); rep.Calls.VCenter > most {
				t.Errorf("%d calls to vCenter for %d disks, at most %d", rep.Calls.VCenter, n, most)
			}
			for _, d := range rep.Disks {
				if d.Put+d.BytesRead > 0 || !d.CopyStarted.IsZero() {
					t.Errorf("nothing changed and yet %+v", d)
				}
			}
			t.Logf("%d disks: %d calls to vCenter, %d to AWS", n, rep.Calls.VCenter, rep.Calls.AWS)
			s.Same()
		}
	})
}

// TestCancelAtEveryStep: whenever it is cancelled, nothing is left, and the
// next cycle is right.
func TestCancelAtEveryStep(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		s := scenario.Tell(t, w, scenario.Disk{Size: 4 * mib}, scenario.Disk{Size: 2 * mib})
		s.Write(0, 1, 0, 4*mib)
		for n, step := range []transfer.Step{transfer.StepInspect, transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy, transfer.StepSeal} {
			if err := s.CancelAt(step); transfer.KindOf(err) != transfer.Canceled {
				t.Errorf("cancelled at %s: %v", step, err)
			}
			s.NothingLeft()
			s.Write(1, uint64(n), 100, 1000)
		}
		s.Sync(transfer.Options{})
		s.Same()
	})
}

// TestResetBecomesACompare: a new tracking epoch costs a full read and a small
// upload.
func TestResetBecomesACompare(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		s := scenario.Tell(t, w, scenario.Disk{Size: 16 * mib})
		s.Write(0, 1, 0, 16*mib)
		s.Sync(transfer.Options{})
		s.VM.ResetCBT()
		s.Write(0, 2, 3*mib, 10)
		rep := s.Sync(transfer.Options{})
		if d := rep.Disks[0]; d.Kind != transfer.Compare || d.Put != 1 || d.BytesRead != 16*mib {
			t.Errorf("%s because %s: %d puts, %d bytes read", d.Kind, d.Reason, d.Put, d.BytesRead)
		}
		s.Same()
	})
}

// TestTheAccountBeginsToEncrypt: a seed anew, in which no block is absent.
func TestTheAccountBeginsToEncrypt(t *testing.T) {
	if brief {
		t.Skip("a GiB of puts: make scenarios has it")
	}
	everywhere(t, func(t *testing.T, w *scenario.World) {
		s := scenario.Tell(t, w, scenario.Disk{Size: mib})
		s.Write(0, 1, 0, 1000)
		s.Sync(transfer.Options{})
		w.EncryptByDefault(true)
		s.Write(0, 2, 0, 1000)
		rep := s.Sync(transfer.Options{})
		if d := rep.Disks[0]; d.Kind != transfer.Seed || d.Put != transfer.BlocksPerGiB {
			t.Errorf("%s because %s: %d puts", d.Kind, d.Reason, d.Put)
		}
		s.Same()
	})
}
