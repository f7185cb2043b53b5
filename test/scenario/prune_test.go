package scenario_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/transfer"
)

// contents is what volumes made of all complete points would hold.
func contents(t *testing.T, s *scenario.Story) map[transfer.SnapshotID][32]byte {
	t.Helper()
	all := map[transfer.SnapshotID][32]byte{}
	for _, p := range s.Points() {
		if !p.Complete {
			continue
		}
		for _, d := range p.Disks {
			image, _ := s.World.Image(d.ID)
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(image, 0, d.Label.DiskSize)); err != nil {
				t.Fatal(err)
			}
			all[d.ID] = [32]byte(h.Sum(nil))
		}
	}
	return all
}

// prune judges by what AWS holds now, and deletes.
func prune(t *testing.T, w *scenario.LabWorld, policy transfer.Policy) ([]transfer.Pruned, error) {
	t.Helper()
	snapshots, notes, err := w.Store.AllWithNotes(t.Context())
	must(t, err)
	return transfer.Prune(t.Context(), w.Store, transfer.Retain(transfer.Points(snapshots), policy, time.Now(), func(id transfer.SnapshotID) (string, bool) {
		return notes[id].InUse, notes[id].InUse != ""
	}))
}

// many makes a point per cycle; every one differs from the others.
func many(s *scenario.Story, cycles int) {
	for n := range cycles {
		s.Write(0, uint64(n), int64(n)*block/2, 1000)
		s.Write(1, uint64(100+n), 0, 1000)
		s.Sync(transfer.Options{})
	}
}

// TestPruningLeavesTheRestAsItWas: children keep what they had from parents
// that are gone, and the chain goes on.
func TestPruningLeavesTheRestAsItWas(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	s := scenario.Tell(t, w.World, scenario.Disk{Size: 4 * mib}, scenario.Disk{Size: mib})
	many(s, 6)
	before := contents(t, s)
	pruned, err := prune(t, w, transfer.Policy{Last: 2})
	if err != nil || len(pruned) != 6 {
		t.Fatalf("%d verdicts, %v", len(pruned), err)
	}
	after := contents(t, s)
	if len(after) != 4 || len(s.Points()) != 2 {
		t.Errorf("%d snapshots in %d points are left", len(after), len(s.Points()))
	}
	for id, sum := range after {
		if before[id] != sum {
			t.Errorf("%s holds other bytes than before", id)
		}
	}
	s.Same()
	s.Write(0, 99, mib, 1000)
	rep := s.Sync(transfer.Options{})
	if d := rep.Disks[0]; d.Kind != transfer.Delta || d.Put != 1 {
		t.Errorf("%s because %s: %d puts", d.Kind, d.Reason, d.Put)
	}
	s.Same()
}

// TestPruningThatBreaksOff at each deletion in turn is finished by the next
// one, and no point ever looks complete that is not.
func TestPruningThatBreaksOff(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	s := scenario.Tell(t, w.World, scenario.Disk{Size: 2 * mib}, scenario.Disk{Size: mib})
	many(s, 4)
	newest := s.Points()[0].Cycle
	for n := 0; ; n++ {
		w.AWSFaults.Add(fault.Rule{Op: "DeleteSnapshot", Kind: fault.Error, Detail: "UnauthorizedOperation", Skip: 1})
		_, err := prune(t, w, transfer.Policy{Last: 1})
		w.AWSFaults.Clear()
		points := s.Points()
		for _, p := range points {
			if p.Complete != (len(p.Disks) == 2) {
				t.Errorf("run %d: %s has %d disks, complete %v", n, p.Cycle, len(p.Disks), p.Complete)
			}
		}
		if points[0].Cycle != newest || !points[0].Complete {
			t.Fatalf("run %d: the newest point is %+v", n, points[0])
		}
		s.Same()
		if err == nil {
			if n == 0 {
				t.Error("it never broke off")
			}
			break
		}
		if n > 6 {
			t.Fatalf("it does not come to an end: %v", err)
		}
	}
	if n := len(s.Points()); n != 1 {
		t.Errorf("%d points are left", n)
	}
}

// TestPruningPassesOverImages keeps a point whole that an AMI boots from.
func TestPruningPassesOverImages(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	s := scenario.Tell(t, w.World, scenario.Disk{Size: 2 * mib}, scenario.Disk{Size: mib})
	many(s, 3)
	oldest := s.Points()[2]
	must(t, w.Lab.AWS.UseInImage(string(oldest.Disks[0].ID), "ami-0123456789abcdef0"))
	pruned, err := prune(t, w, transfer.Policy{Last: 1})
	must(t, err)
	var seen []string
	for _, p := range pruned {
		seen = append(seen, fmt.Sprint(p.Keep, p.Gone(), p.Blocked != ""))
	}
	if got := fmt.Sprint(seen); got != "[true false false false true false false false true]" {
		t.Errorf("keep, gone, blocked: %s", got)
	}
	points := s.Points()
	if len(points) != 2 || points[1].Cycle != oldest.Cycle || !points[1].Complete {
		t.Errorf("left: %+v", points)
	}
	if err := w.Store.Expire(t.Context(), oldest.Disks[0].ID); !errors.Is(err, transfer.ErrInUse) {
		t.Errorf("the image's snapshot: %v", err)
	}
}
