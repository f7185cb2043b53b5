package main

import (
	"strings"
	"testing"
	"time"

	"snapferry/cmd/internal/config"
	"snapferry/schedule"
	"snapferry/transfer"
)

func TestPeersShareAnAccount(t *testing.T) {
	fleet := []schedule.Appliance{
		{ID: "a", Account: "1/eu", Alive: true}, {ID: "b", Account: "1/eu", Alive: true},
		{ID: "dead", Account: "1/eu"}, {ID: "elsewhere", Account: "1/us", Alive: true},
	}
	for id, want := range map[transfer.ApplianceID]int{"a": 2, "b": 2, "elsewhere": 1, "new": 1} {
		if got := peers(fleet, id); got != want {
			t.Errorf("%s shares with %d, want %d", id, got, want)
		}
	}
}

// TestDescribeTellsNoSecret: the console shows the settings.
func TestDescribeTellsNoSecret(t *testing.T) {
	c := config.Default()
	c.VCenter.Password = config.NewSecret("hunter2")
	c.Database.Password = config.NewSecret("hunter2")
	c.Webhooks = []config.Webhook{{Name: "bus", URL: "https://h", Secret: config.NewSecret("hunter2")}}
	c.VCenter.URL = "https://vc.example.com/sdk"
	s := describe(c)
	found := false
	for _, g := range s.Groups {
		for _, i := range g.Items {
			if strings.Contains(i.Value, "hunter2") {
				t.Errorf("%s.%s shows the secret", g.Name, i.Key)
			}
			found = found || (g.Name == "vcenter" && i.Key == "url" && i.Value == c.VCenter.URL)
		}
	}
	if !found {
		t.Errorf("vcenter.url is not shown: %+v", s.Groups)
	}
}

// TestPacesFollowTheClock: a policy without a window that holds is not slowed.
func TestPacesFollowTheClock(t *testing.T) {
	p := &schedule.Policy{Name: "gold", Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{From: "08:00", To: "18:00"}, Limit: 1 << 20}}}
	now := time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)
	paces := newPaces(func() time.Time { return now })
	began := time.Now()
	for range 100 {
		if err := paces.wait(t.Context(), p, transfer.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 5*time.Second { // in the window it would be 50 s
		t.Errorf("slowed outside of its window: %v", took)
	}
	now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	began = time.Now()
	for range 4 {
		if err := paces.wait(t.Context(), p, transfer.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("four blocks at 1 MiB/s in %v", took)
	}
}

func TestPointRowTakesTheHeaviestKind(t *testing.T) {
	disk := func(kind transfer.PlanKind, blocks int64) transfer.Snapshot {
		return transfer.Snapshot{ID: "snap-" + transfer.SnapshotID(kind), Label: transfer.Label{Kind: kind, Blocks: blocks}}
	}
	for _, x := range []struct {
		disks  []transfer.Snapshot
		kind   transfer.PlanKind
		blocks int64
	}{
		{[]transfer.Snapshot{disk(transfer.Delta, 2), disk(transfer.Delta, 3)}, transfer.Delta, 5},
		{[]transfer.Snapshot{disk(transfer.Delta, 2), disk(transfer.Compare, 3)}, transfer.Compare, 5},
		{[]transfer.Snapshot{disk(transfer.Seed, 2), disk(transfer.Compare, -1)}, transfer.Seed, -1},
		{[]transfer.Snapshot{disk(transfer.Compare, -1), disk(transfer.Seed, 4)}, transfer.Seed, -1},
	} {
		row := pointRow(transfer.Point{Disks: x.disks}, nil)
		if row.Kind != x.kind || row.Blocks != x.blocks || row.Disks != len(x.disks) || len(row.Snapshots) != len(x.disks) {
			t.Errorf("%v: %+v", x.disks, row)
		}
	}
}
