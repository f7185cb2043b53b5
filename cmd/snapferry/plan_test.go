package main

import (
	"strings"
	"testing"
	"time"

	"snapferry/cmd/internal/config"
	"snapferry/transfer"
)

// planned is the plan of one disk of 10 GiB as it is now.
func planned(t *testing.T, vm transfer.VM, d transfer.Disk, snapshots []transfer.Snapshot, edit ...func(*config.Config)) (plannedDisk, error) {
	t.Helper()
	w := &wire{cfg: config.Default()}
	w.cfg.StateDir = t.TempDir()
	for _, f := range edit {
		f(&w.cfg)
	}
	return w.planDisk(syncOptions{}, vm, d, snapshots, false)
}

func TestPlanDisk(t *testing.T) {
	tracked := transfer.Disk{ID: diskID(1), Label: "Hard disk 1", Size: 10 << 30, ChangeID: "e/7"}
	untracked := tracked
	untracked.ChangeID = ""
	base := func(id string, kind transfer.PlanKind, blocks int64, age time.Duration) transfer.Snapshot {
		return snap(id, id, 1, 1, func(s *transfer.Snapshot) {
			s.Label.Kind, s.Label.Blocks, s.Label.ChangeID, s.Label.Frozen = kind, blocks, "e/3", noon.Add(-age)
		})
	}
	seed := base("snap-seed", transfer.Seed, 9000, 3*time.Hour)
	deltas := []transfer.Snapshot{seed, base("snap-a", transfer.Delta, 100, 2*time.Hour), base("snap-b", transfer.Delta, 301, time.Hour)}
	on := transfer.VM{ID: vmID, CBT: true}
	for _, tt := range []struct {
		name      string
		vm        transfer.VM
		disk      transfer.Disk
		snapshots []transfer.Snapshot
		kind      transfer.PlanKind
		puts      int64
		bytes     int64
		bound     string
		reason    string
	}{
		{"first", on, tracked, nil, transfer.Seed, 20480, 10 << 30, boundAtMost, "no snapshot of this disk"},
		{"second", on, tracked, []transfer.Snapshot{seed}, transfer.Delta, 20480, 10 << 30, boundAtMost, "since snap-seed"},
		{"fourth", on, tracked, deltas, transfer.Delta, 201, 201 * transfer.BlockSize, boundEstimate, "since snap-b"},
		{"CBT on, not yet stunned", on, untracked, deltas, transfer.Delta, 201, 201 * transfer.BlockSize, boundEstimate, "since snap-b"},
		{"CBT off", transfer.VM{ID: vmID}, untracked, deltas, transfer.Seed, 20480, 10 << 30, boundAtMost, "CBT is off; this cycle enables it"},
		{"CBT off, snapshots", transfer.VM{ID: vmID, Snapshots: 2}, untracked, deltas, transfer.Seed, 20480, 10 << 30, boundAtMost, "while the VM has 2 snapshots"},
	} {
		p, err := planned(t, tt.vm, tt.disk, tt.snapshots)
		if err != nil || p.Kind != tt.kind || p.Puts != tt.puts || p.Bytes != tt.bytes || p.Bound != tt.bound || !strings.Contains(p.Reason, tt.reason) {
			t.Errorf("%s: %+v, %v", tt.name, p, err)
		}
	}
	shrunk := tracked
	shrunk.Size--
	if _, err := planned(t, on, shrunk, deltas); err == nil || !strings.Contains(err.Error(), "smaller") {
		t.Errorf("a disk that shrank: %v", err)
	}
}

func TestPlanRate(t *testing.T) {
	for _, tt := range []struct {
		rate, limit config.Rate
		want        float64
		from        string
	}{{0, 0, assumedRate, "assumed"}, {5e6, 0, 5e6, "--rate"}, {0, 7e6, 7e6, "--limit"}, {9e6, 7e6, 7e6, "--limit"}, {5e6, 7e6, 5e6, "--rate"}} {
		w := &wire{cfg: config.Config{Transfer: config.Transfer{Limit: tt.limit}}}
		if got, from := w.planRate(syncOptions{rate: tt.rate}); got != tt.want || !strings.HasPrefix(from, tt.from) {
			t.Errorf("rate %d, limit %d: %v, %s", tt.rate, tt.limit, got, from)
		}
	}
}
