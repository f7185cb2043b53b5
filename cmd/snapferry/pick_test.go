package main

import (
	"strings"
	"testing"

	"snapferry/transfer"
)

func TestPickPoint(t *testing.T) {
	twin := snap("snap-5", "20250101T000000Z-dddd", 1, 1, func(s *transfer.Snapshot) {
		s.Label.VM.Moref, s.Label.VMName, s.Label.VMUUID = "vm-50", "twin", "50-twin"
	})
	other := snap("snap-6", "20250101T000001Z-eeee", 1, 1, func(s *transfer.Snapshot) {
		s.Label.VM.Moref, s.Label.VMName, s.Label.VMUUID = "vm-51", "twin", "50-other"
	})
	pending := snap("snap-7", "20250101T000002Z-ffff", 1, 1, func(s *transfer.Snapshot) {
		s.Label.VM.Moref, s.Label.VMName, s.Label.VMUUID, s.State = "vm-52", "young", "50-young", transfer.Pending
	})
	points := transfer.Points(append(pointSnapshots(), twin, other, pending))
	for _, tt := range []struct{ name, want, err string }{
		{"20260304T120000Z-aaaa", "snap-1,snap-2", ""},
		{"20260304T12", "snap-1,snap-2", ""},
		{"20260304", "", "3 points begin so"},
		{"2025", "", "3 points begin so"},
		{"app01", "snap-4", ""}, // newest complete
		{"APP01", "snap-4", ""},
		{"app01@latest", "snap-4", ""},
		{"app01@20260304T12", "snap-1,snap-2", ""},
		{"app01@2025", "", "no such recovery point"},
		{"vm-42", "snap-4", ""},
		{"50-app01", "snap-4", ""},
		{"vc-1/vm-50", "snap-5", ""},
		{"twin", "", "several VMs are called so"},
		{"twin@latest", "", "several VMs are called so"},
		{"20260304T14", "", "not complete: 1 of 2 disks are there"},
		{"snap-3", "snap-3", ""}, // a disk of an incomplete point
		{"snap-2", "snap-2", ""},
		{"snap-7", "", "it is pending"},
		{"snap-9", "", "no such recovery point"},
		{"young", "", "none of them is complete"},
		{"ap01", "", "no such recovery point"},
		{"", "", "no such recovery point"},
	} {
		p, err := pickPoint(points, tt.name)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || transfer.HintOf(err) == "" {
				t.Errorf("%q: %v (hint %q), want %q", tt.name, err, transfer.HintOf(err), tt.err)
			}
			continue
		}
		var ids []string
		for _, s := range p.Disks {
			ids = append(ids, string(s.ID))
		}
		if err != nil || strings.Join(ids, ",") != tt.want {
			t.Errorf("%q: %v, %v; want %s", tt.name, ids, err, tt.want)
		}
	}
	if _, err := pickPoint(points, "ap01"); !strings.HasPrefix(transfer.HintOf(err), "There are points of app01") {
		t.Errorf("the nearest name is not suggested first: %s", transfer.HintOf(err))
	}
	if _, err := pickPoint(nil, "x"); !strings.Contains(transfer.HintOf(err), "no recovery point of any VM") {
		t.Errorf("nothing there: %s", transfer.HintOf(err))
	}
}

func TestPickDisk(t *testing.T) {
	p, err := pickPoint(transfer.Points(pointSnapshots()), "20260304T12")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"2": "snap-2", "hard disk 1": "snap-1", "2001": "snap-2", strings.ToUpper(diskID(2).UUID): "snap-2", "3": "", "": ""} {
		s, err := pickDisk(p, name)
		if string(s.ID) != want || (err == nil) != (want != "") {
			t.Errorf("disk %q: %s, %v; want %q", name, s.ID, err, want)
		}
	}
	if _, err := theDisk(p, ""); err == nil {
		t.Error("two disks, and none named")
	}
}
