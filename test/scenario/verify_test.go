package scenario_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/transfer"
)

// check compares a point with its VM, and sees that nothing of it is left.
func check(ctx context.Context, s *scenario.Story, point transfer.Point, sample *transfer.Sample) (transfer.SourceProof, error) {
	s.T.Helper()
	c := &transfer.SourceCheck{Env: s.Cycle(transfer.Options{}).Env, Source: s.VM.Source, Point: point, Gets: 8, Sample: sample}
	p, err := c.Run(ctx)
	if len(p.Alarms) > 0 {
		s.T.Errorf("alarms: %q", p.Alarms)
	}
	s.NothingLeft()
	return p, err
}

// TestAPointAgreesWithItsSource after a seed, a delta, and a confirmation, with
// writes since, and the comparison does not disturb the next delta.
func TestAPointAgreesWithItsSource(t *testing.T) {
	everywhere(t, func(t *testing.T, w *scenario.World) {
		s := scenario.Tell(t, w, scenario.Disk{Size: 7*mib + 4096}, scenario.Disk{Size: 2 * mib, Thick: true})
		s.Write(0, 1, 0, 3*mib)
		s.Write(1, 2, mib, 1000)
		for n := range 3 {
			s.Sync(transfer.Options{})
			s.Write(0, uint64(10+n), int64(n)*mib+100, 5000)
			p, err := check(t.Context(), s, s.Points()[0], nil)
			if err != nil || !p.OK || len(p.Disks) != 2 {
				t.Fatalf("cycle %d: %+v, %v", n, p, err)
			}
			if d := p.Disks[0]; d.Changed < 1 || d.Compared != d.Of || d.Compared+d.Changed != 15 {
				t.Errorf("cycle %d: %+v", n, d)
			}
			s.Sync(transfer.Options{})
			s.Same()
			s.Sync(transfer.Options{}) // confirms: the point's change IDs move on
			if p, err = check(t.Context(), s, s.Points()[0], nil); err != nil || !p.OK || p.Disks[0].Changed != 0 {
				t.Fatalf("confirmed, cycle %d: %+v, %v", n, p, err)
			}
		}
		old := s.Points()[2] // an older point: more has changed since
		p, err := check(t.Context(), s, old, &transfer.Sample{Fraction: 0.5, Seed: 1})
		if err != nil || !p.OK || p.Disks[0].Changed == 0 {
			t.Errorf("an older point: %+v, %v", p, err)
		}
	})
}

// TestALostChangeComesToLight: vSphere forgets an area, the cycle believes it,
// and the comparison proves it; what holds the disk is suspect then.
func TestALostChangeComesToLight(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	s := scenario.Tell(t, w.World, scenario.Disk{Size: 8 * mib}, scenario.Disk{Size: mib})
	s.Write(0, 1, 0, 8*mib)
	s.Sync(transfer.Options{})
	s.Write(0, 2, 3*mib, 512)
	w.VCenterFaults.Add(fault.Rule{Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: "under-report", Times: 2})
	s.Sync(transfer.Options{})
	if n := len(w.VCenterFaults.Unfired()); n > 0 {
		t.Fatalf("%d lies were not told", n)
	}
	w.VCenterFaults.Clear()
	p, err := check(t.Context(), s, s.Points()[0], nil)
	if err != nil || p.OK || p.Disks[0].OK || !p.Disks[1].OK {
		t.Fatalf("%+v, %v", p, err)
	}
	if d := p.Disks[0]; d.Wrong != 1 || d.First[0] != 6 || d.Snapshot == "" {
		t.Errorf("%+v", d)
	}
	for _, d := range p.Disks {
		if _, err := w.Store.Note(t.Context(), d.Snapshot, d.Verification(p.Source)); err != nil {
			t.Error(err)
		}
	}
	snapshots, notes, err := w.Store.AllWithNotes(t.Context())
	must(t, err)
	for _, point := range transfer.Points(snapshots) {
		if !strings.Contains(point.Suspect, "differ from the source") {
			t.Errorf("%s is not suspect: %q", point.Cycle, point.Suspect)
		}
	}
	sum := transfer.VerifiedPoint(s.Points()[0], notes)
	if sum == nil || sum.OK || sum.Disks != 2 || sum.Kind != transfer.VerifySource || sum.Wrong != 1 {
		t.Errorf("noted: %+v", sum)
	}
	s.Sync(transfer.Options{Reseed: true})
	s.Same()
	if p, err := check(t.Context(), s, s.Points()[0], nil); err != nil || !p.OK {
		t.Errorf("after a seed: %+v, %v", p, err)
	}
}

// TestAComparisonIsCutOff: whatever breaks, the source is clean.
func TestAComparisonIsCutOff(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	s := scenario.Tell(t, w.World, scenario.Disk{Size: 16 * mib})
	s.Write(0, 1, 0, 16*mib)
	s.Sync(transfer.Options{})
	for name, rule := range map[string]fault.Rule{
		"the areas":    {Op: "QueryChangedDiskAreas", Kind: fault.Error, Detail: "FileFault"},
		"the snapshot": {Op: "CreateSnapshot_Task", Kind: fault.TaskFault, Detail: "GenericVmConfigFault"},
	} {
		w.VCenterFaults.Add(rule)
		if p, err := check(t.Context(), s, s.Points()[0], nil); err == nil || p.OK {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		if left := w.VCenterFaults.Unfired(); len(left) > 0 {
			t.Errorf("%s: faults that never fired: %v", name, left)
		}
		w.VCenterFaults.Clear()
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.AWSFaults.Add(fault.Rule{Op: "GetSnapshotBlock", Kind: fault.Stall, Delay: time.Minute})
	c := &transfer.SourceCheck{Env: s.Cycle(transfer.Options{}).Env, Source: s.VM.Source, Point: s.Points()[0], Gets: 8}
	c.Progress = func(int, int64, int64) { cancel() }
	if _, err := c.Run(ctx); transfer.KindOf(err) != transfer.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	s.NothingLeft()
	w.AWSFaults.Clear()
	if p, err := check(t.Context(), s, s.Points()[0], nil); err != nil || !p.OK {
		t.Errorf("afterwards: %+v, %v", p, err)
	}
}
