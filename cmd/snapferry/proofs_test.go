package main

import (
	"testing"
	"time"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/transfer"
)

// pointNotes are of pointSnapshots.
func pointNotes() map[transfer.SnapshotID]transfer.Notes {
	full := transfer.Verification{At: noon.Add(3 * time.Hour), Kind: transfer.VerifyFull, Proof: transfer.ProofRoot, OK: true, Blocks: 100, Of: 100}
	sample := transfer.Verification{At: noon.Add(4 * time.Hour), Kind: transfer.VerifySample, Proof: transfer.ProofManifest, Blocks: 205, Of: 20480, Wrong: 1}
	return map[transfer.SnapshotID]transfer.Notes{
		"snap-1": {Verified: &full}, "snap-3": {Verified: &sample}, "snap-4": {Unreadable: "tag snapferry:verified: no"},
	}
}

func sampleValue() cli.Value {
	odds := transfer.NewSampleOdds(transfer.Sample{Fraction: 0.01, Seed: 42}, 20000, 200)
	return verifyResult{Point: "20260304T120000Z-aaaa", VMName: "app01", Frozen: noon, OK: true, Gets: 300, NotStored: []string{"snap-2: not allowed"}, Disks: []verifiedDisk{
		{Label: "Hard disk 1", Ordinal: 1, Size: 10 << 30, Took: 2 * time.Second, Odds: &odds,
			Proved: transfer.Proved{Snapshot: "snap-1", Proof: transfer.ProofManifest, OK: true, Blocks: 200, Of: 20000, Absent: 480, Sampled: true}},
		{Label: "Hard disk 2", Ordinal: 2, Size: 5 << 30, Took: time.Second,
			Proved: transfer.Proved{Snapshot: "snap-2", Proof: transfer.ProofNone, OK: true, Blocks: 100, Of: 10000, Absent: 240, Sampled: true}},
	}}
}

func sourceValue(ok bool) cli.Value {
	v := sourceResult{SourceProof: transfer.SourceProof{Point: "20260304T120000Z-aaaa", VMName: "app01", Frozen: noon, Source: noon.Add(time.Hour), OK: ok, Gets: 20000,
		Took: time.Minute, FrozenFor: 50 * time.Second, Disks: []transfer.SourceDisk{
			{Snapshot: "snap-1", Label: "Hard disk 1", Ordinal: 1, Size: 10 << 30, OK: true, Compared: 20400, Of: 20400, Changed: 80, Gets: 20000},
			{Snapshot: "snap-2", Label: "Hard disk 2", Ordinal: 2, Size: 1 << 30, OK: true, Changed: 2048},
		}}}
	if ok {
		v.Alarms = []string{`VM snapshot "snapferry-x" (snapshot-9) is left and grows: busy`}
		return v
	}
	d := &v.Disks[0]
	d.OK, d.Wrong, d.First, d.Why = false, 2, []int64{7, 9}, "2 blocks differ from the source, which CBT calls unchanged since the point, the first at index 7"
	return v
}

func pruneValue(dry bool) cli.Value {
	points := transfer.Points([]transfer.Snapshot{
		snap("snap-1", "20260304T120000Z-aaaa", 1, 1),
		snap("snap-2", "20260303T120000Z-bbbb", 1, 2, frozenAgo(1)), snap("snap-3", "20260303T120000Z-bbbb", 2, 2, frozenAgo(1)),
		snap("snap-4", "20260302T120000Z-cccc", 1, 1, frozenAgo(2)),
		snap("snap-5", "20260301T120000Z-dddd", 1, 1, frozenAgo(3)),
	})
	r := &pruneResult{Policy: transfer.Policy{Last: 1}, TimeZone: "UTC", DryRun: dry, Points: []transfer.Pruned{
		{Verdict: transfer.Verdict{Point: points[0], Keep: true, Why: "the newest complete point, last 1 of 1"}},
		{Verdict: transfer.Verdict{Point: points[1], Why: "no rule keeps it"}},
		{Verdict: transfer.Verdict{Point: points[2], Why: "no rule keeps it"}},
		{Verdict: transfer.Verdict{Point: points[3], Why: "no rule keeps it"}},
	}}
	if !dry {
		r.Points[1].Deleted, r.Points[1].Blocked = []transfer.SnapshotID{"snap-2"}, "delete snapshot snap-3: the snapshot is in use"
		r.Points[2].Blocked = "delete snapshot snap-4: the snapshot is in use"
		r.Points[3].Deleted = []transfer.SnapshotID{"snap-5"}
	}
	return r
}

func frozenAgo(days int) func(*transfer.Snapshot) {
	return func(s *transfer.Snapshot) { s.Label.Frozen = noon.AddDate(0, 0, -days) }
}

// TestTheDefaultPolicyIsOne holds the settings' default and the core's together.
func TestTheDefaultPolicyIsOne(t *testing.T) {
	got, err := policy(config.Default().Retention)
	want := transfer.DefaultPolicy()
	want.Location = time.UTC
	if err != nil || got != want {
		t.Errorf("settings %+v (%v), core %+v", got, err, want)
	}
}

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"1%": 0.01, "100%": 1, " 0.5 % ": 0.005, "1e-3%": 1e-5} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "1", "0.01", "0%", "-1%", "101%", "NaN%", "Inf%", "1%%", "a%"} {
		if got, err := parseShare(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
