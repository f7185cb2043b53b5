package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	vmID = transfer.VMID{VCenter: "vc-1", Moref: "vm-42"}
)

func diskID(n int32) transfer.DiskID {
	return transfer.DiskID{Key: 1999 + n, UUID: "6000c29-" + string('a'+rune(n))}
}

// snap is a completed snapshot of disk n of of.
func snap(id string, cycle string, n, of int, edit ...func(*transfer.Snapshot)) transfer.Snapshot {
	s := transfer.Snapshot{
		ID: transfer.SnapshotID(id), State: transfer.Completed, Started: noon, VolumeGiB: 10,
		Label: transfer.Label{
			VM: vmID, VMName: "app01", VMUUID: "50-app01", Cycle: transfer.CycleID(cycle), Frozen: noon, Disk: diskID(int32(n)),
			DiskLabel: "Hard disk " + string('0'+rune(n)), DiskSize: 10 << 30, Ordinal: n, Of: of, Kind: transfer.Seed, Blocks: 100,
		},
	}
	for _, f := range edit {
		f(&s)
	}
	return s
}

// values are one of each result, with everything that shows.
func values() map[string]cli.Value {
	return map[string]cli.Value{
		"vms":           vmsValue(),
		"vms-none":      vmList{},
		"sync":          syncValue(),
		"sync-failed":   failedValue(),
		"plan":          planValue(),
		"points":        newPointList(transfer.Points(pointSnapshots()), pointNotes()),
		"points-none":   pointList{},
		"verify":        verifyValue(),
		"verify-sample": sampleValue(), "verify-source": sourceValue(true), "verify-source-wrong": sourceValue(false),
		"prune": pruneValue(false), "prune-dry": pruneValue(true), "prune-none": &pruneResult{TimeZone: "UTC", Others: 1},
		"verify-wrong": wrongValue(),
		"restore": restoreResult{File: "app01.raw", Label: "Hard disk 1", Size: 10 << 30, Took: 90 * time.Second,
			Proved: transfer.Proved{Snapshot: "snap-1", Proof: transfer.ProofManifest, OK: true, Blocks: 20000}},
		"restore-wrong": restoreResult{File: "app01.raw.partial", Label: "Hard disk 1", Size: 10 << 30, Took: 90 * time.Second,
			Proved: transfer.Proved{Snapshot: "snap-1", Proof: transfer.ProofRoot, Blocks: 20000, Why: "the blocks together are not what was put"}},
	}
}

func vmsValue() cli.Value {
	disk := func(n int32, size int64, why ...transfer.Obstacle) transfer.Disk {
		return transfer.Disk{ID: diskID(n), Label: "Hard disk " + string('0'+n), Size: size, File: "[ds] x.vmdk", Obstacles: why}
	}
	return vmList{VMs: []listedVM{
		newListedVM(transfer.VM{ID: vmID, Name: "app01", Path: "/DC0/vm/prod/app01", PoweredOn: true, CBT: true, Disks: []transfer.Disk{disk(1, 40<<30), disk(2, 1<<40)}}),
		newListedVM(transfer.VM{ID: transfer.VMID{Moref: "vm-43"}, Name: "db", Path: "/DC0/vm/db", Snapshots: 2, Disks: []transfer.Disk{disk(1, 512),
			disk(2, 1<<30, transfer.Obstacle{Reason: "it is an independent disk", Remedy: "Make it dependent."})}}),
		newListedVM(transfer.VM{ID: transfer.VMID{Moref: "vm-44"}, Name: "ft", Path: "/DC0/vm/ft", Disks: []transfer.Disk{disk(1, 1<<30)},
			Obstacles: []transfer.Obstacle{{Reason: "fault tolerance is on", Remedy: "Turn it off."}}}),
		newListedVM(transfer.VM{ID: transfer.VMID{Moref: "vm-45"}, Name: "empty", Path: "/DC0/vm/empty"}),
	}}
}

func syncValue() cli.Value {
	return &syncResult{Calls: transfer.Calls{VCenter: 60, AWS: 350}, Cycles: []transfer.Report{
		{VM: vmID, VMName: "app01", Cycle: "20260304T120000Z-aaaa", Step: transfer.StepDone, Outcome: transfer.OutcomePoint, Point: "20260304T120000Z-aaaa",
			Started: noon, Frozen: noon.Add(time.Second), Ended: noon.Add(83 * time.Second), Quiesced: true, Calls: transfer.Calls{VCenter: 30, AWS: 300},
			Disks: []transfer.DiskReport{
				{Label: "Hard disk 1", Kind: transfer.Delta, Reason: "changes since snap-0", Areas: 12, BytesRead: 50 << 20, Put: 90, Identical: 10, Snapshot: "snap-1", Sealed: true,
					CopyStarted: noon, CopyEnded: noon.Add(2500 * time.Millisecond), Rate: 21e6},
				{Label: "Hard disk 2", Kind: transfer.Seed, Reason: "no snapshot of this disk exists yet", Areas: 0, BytesRead: 3 << 30, Put: 6000, Zero: 144, Snapshot: "snap-2", Sealed: true,
					CopyStarted: noon, CopyEnded: noon.Add(70 * time.Second), Rate: 46e6},
			},
			FreezeTook: 900 * time.Millisecond, SealTook: 12 * time.Second,
			Notes:  []string{"froze the VM anew and went on with the same drafts: the datastore ran low"},
			Alarms: []string{`VM snapshot "snapferry-x" (snapshot-9) is left and grows: busy`}},
		{VM: vmID, VMName: "db", Cycle: "20260304T120100Z-bbbb", Step: transfer.StepDone, Outcome: transfer.OutcomeConfirmed, Point: "20260303T120000Z-cccc",
			FreezeTook: 1200 * time.Millisecond, FrozenFor: 4 * time.Second, ReleaseTook: 65 * time.Second,
			Started: noon, Frozen: noon, Ended: noon.Add(800 * time.Millisecond), Tracking: "CBT is off",
			Disks: []transfer.DiskReport{{Label: "Hard disk 1", Kind: transfer.Delta, Reason: "changes since snap-7", Parent: "snap-7"}}},
	}}
}

func failedValue() cli.Value {
	return &syncResult{Cycles: []transfer.Report{
		{VMName: "app01", Outcome: transfer.OutcomeFailed, Started: noon, Ended: noon.Add(time.Second), Error: "no", Disks: []transfer.DiskReport{
			{Label: "Hard disk 1", Kind: transfer.Seed, Reason: "asked for", Snapshot: "snap-given-up", CopyStarted: noon, CopyEnded: noon.Add(time.Second)},
			{Label: "Hard disk 2", Kind: transfer.Seed, Reason: "asked for", Snapshot: "snap-3", Kept: true, Put: 7}}},
	}}
}

func planValue() cli.Value {
	p := &planResult{Rate: 110e6, RateFrom: "assumed", VMs: []plannedVM{{VMName: "app01", Excluded: []string{"Hard disk 3"}, Disks: []plannedDisk{
		{Label: "Hard disk 1", Size: 1 << 40, Kind: transfer.Seed, Reason: "no snapshot of this disk exists yet", Bytes: 1 << 40, Puts: 1 << 21, Bound: boundAtMost},
		{Label: "Hard disk 2", Size: 10 << 30, Kind: transfer.Delta, Reason: "changes since snap-1", Bytes: 50 << 20, Puts: 100, Bound: boundEstimate, From: 3},
	}}}}
	p.sum()
	return p
}

func pointSnapshots() []transfer.Snapshot {
	confirmed := func(s *transfer.Snapshot) { s.Label.Confirmed = noon.Add(time.Hour) }
	later := func(s *transfer.Snapshot) { s.Label.Frozen, s.Label.Kind = noon.Add(2*time.Hour), transfer.Delta }
	return []transfer.Snapshot{
		snap("snap-1", "20260304T120000Z-aaaa", 1, 2, confirmed), snap("snap-2", "20260304T120000Z-aaaa", 2, 2, confirmed),
		snap("snap-3", "20260304T140000Z-bbbb", 1, 2, later),
		snap("snap-4", "20260304T130000Z-cccc", 1, 1, func(s *transfer.Snapshot) {
			s.Label.Frozen, s.Label.Blocks, s.Label.Excluded = noon.Add(time.Hour), -1, []string{"Hard disk 2"}
		}),
	}
}

func verifyValue() cli.Value {
	return verifyResult{Point: "20260304T120000Z-aaaa", VMName: "app01", Frozen: noon, OK: true, Gets: 30000, Disks: []verifiedDisk{
		{Label: "Hard disk 1", Ordinal: 1, Size: 10 << 30, Took: 65 * time.Second, Proved: transfer.Proved{Snapshot: "snap-1", Proof: transfer.ProofManifest, OK: true, Blocks: 20000, Absent: 480}},
		{Label: "Hard disk 2", Ordinal: 2, Size: 5 << 30, Took: 30 * time.Second, Proved: transfer.Proved{Snapshot: "snap-2", Proof: transfer.ProofNone, OK: true, Blocks: 10000, Absent: 240}},
	}}
}

func wrongValue() cli.Value {
	return verifyResult{Point: "20260304T120000Z-aaaa", VMName: "app01", Frozen: noon, Gets: 20000, Disks: []verifiedDisk{
		{Label: "Hard disk 1", Ordinal: 1, Size: 10 << 30, Took: 65 * time.Second, Proved: transfer.Proved{Snapshot: "snap-1", Proof: transfer.ProofManifest, Blocks: 20000,
			Wrong: 2, First: []int64{7, 9}, Why: "2 blocks are not what was put, the first met at index 7"}},
	}}
}

// TestGolden shows each result in both renderings, through the runner that
// chooses between them.
func TestGolden(t *testing.T) {
	for name, v := range values() {
		for _, form := range []struct {
			ext  string
			args []string
		}{{".txt", nil}, {".json", []string{"--json"}}} {
			t.Run(name+form.ext, func(t *testing.T) {
				got := shown(v, form.args...)
				file := filepath.Join("testdata", "golden", name+form.ext)
				if *update {
					if err := os.WriteFile(file, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), string(got)); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

// shown is what a program prints whose only verb returns v.
func shown(v cli.Value, args ...string) []byte {
	var out bytes.Buffer
	p := &cli.Program{Name: "p", Commands: []*cli.Command{{Name: "v", New: returning(v)}}}
	p.Main(context.Background(), cli.Streams{Out: &out, Err: &out}, append([]string{"v"}, args...))
	return out.Bytes()
}

func TestResultsDecideTheStatus(t *testing.T) {
	all := values()
	for name, want := range map[string]int{"sync": exitAlarm, "sync-failed": exitDone, "verify": exitDone, "verify-wrong": exitProof, "verify-sample": exitDone, "verify-source": exitAlarm, "verify-source-wrong": exitProof, "prune": exitAlarm, "prune-dry": exitDone, "restore": exitDone, "restore-wrong": exitProof} {
		if got := all[name].(cli.Outcome).Exit(); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
