package transfer_test

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

func (r *rig) audited(n int, o transfer.Options, now time.Time) transfer.Report {
	r.t.Helper()
	c := r.cycle(o)
	c.Audit, c.Now = n, func() time.Time { return now }
	rep, err := c.Run(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func TestTheAuditFindsWhatCBTLost(t *testing.T) {
	r := newRig(t, 100*transfer.BlockSize, mib)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	write(t, r.vm.Disk(0), 1, 0, 100*transfer.BlockSize)
	r.audited(99, transfer.Options{}, now)
	write(t, r.vm.Disk(0), 2, 0, 10)
	if rep := r.audited(99, transfer.Options{}, now); rep.Disks[0].Audit == nil || rep.Disks[0].Audit.Blocks != 99 || rep.Disks[0].Audit.Wrong != 0 || rep.Disks[0].Audit.Odds != 1 {
		t.Fatalf("honest tracking: %+v", rep.Disks[0].Audit)
	}
	r.vm.Disk(0).WriteUntracked([]byte("lost by CBT"), 50*transfer.BlockSize)
	write(t, r.vm.Disk(0), 3, 0, 10)
	rep := r.audited(99, transfer.Options{}, now)
	d := rep.Disks[0]
	if d.Kind != transfer.Compare || d.Audit.Wrong != 1 || d.Put != 2 || len(rep.Alarms) != 1 || !strings.Contains(rep.Alarms[0], "cannot be trusted") {
		t.Errorf("%+v, alarms %v", d, rep.Alarms)
	}
	r.same()
	points := r.points()
	if points[0].Suspect != "" || points[1].Suspect == "" || points[2].Suspect == "" || points[0].Disks[0].Label.Kind != transfer.Compare {
		t.Errorf("suspect: %q, %q, %q", points[0].Suspect, points[1].Suspect, points[2].Suspect)
	}
}

func TestADiskThatDoesNotChangeIsAuditedOnceADay(t *testing.T) {
	r := newRig(t, 4*mib)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	write(t, r.vm.Disk(0), 1, 0, 4*mib)
	r.audited(4, transfer.Options{}, now)
	attaches := r.vm.Attaches()
	if rep := r.audited(4, transfer.Options{}, now.Add(23*time.Hour)); rep.Disks[0].Audit != nil || r.vm.Attaches() != attaches {
		t.Error("audited before a day was over")
	}
	rep := r.audited(4, transfer.Options{}, now.Add(25*time.Hour))
	if a := rep.Disks[0].Audit; a == nil || a.Blocks != 4 || a.Of != 8 || a.Odds != 0.5 || rep.Outcome != transfer.OutcomeConfirmed {
		t.Errorf("after a day: %+v, %s", rep.Disks[0].Audit, rep.Outcome)
	}
	if rep := r.audited(4, transfer.Options{}, now.Add(26*time.Hour)); rep.Disks[0].Audit != nil {
		t.Error("audited twice")
	}
	r.vm.Disk(0).WriteUntracked([]byte("lost by CBT"), 0)
	rep = r.audited(8, transfer.Options{}, now.Add(50*time.Hour))
	if rep.Disks[0].Kind != transfer.Compare || rep.Outcome != transfer.OutcomePoint {
		t.Errorf("a lost write in a quiet disk: %s by %s", rep.Outcome, rep.Disks[0].Kind)
	}
	r.same()
}

// TestTheAuditNeedsNoState: an appliance that lost its own disk, or whose copy
// of it is stale, has no digests. Its audits ask AWS.
func TestTheAuditNeedsNoState(t *testing.T) {
	r := newRig(t, 20*transfer.BlockSize)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	write(t, r.vm.Disk(0), 1, 0, 10*transfer.BlockSize) // the rest is absent: zeros
	r.audited(19, transfer.Options{}, now)
	if err := os.RemoveAll(string(r.state)); err != nil {
		t.Fatal(err)
	}
	write(t, r.vm.Disk(0), 2, 0, 10)
	rep := r.audited(19, transfer.Options{}, now)
	if d := rep.Disks[0]; d.Kind != transfer.Delta || d.Audit == nil || d.Audit.Blocks != 19 || d.Audit.Wrong != 0 || d.Audit.Odds != 1 {
		t.Fatalf("without state: %s, %+v", d.Kind, d.Audit)
	}
	r.vm.Disk(0).WriteUntracked([]byte("lost by CBT"), 5*transfer.BlockSize)
	r.vm.Disk(0).WriteUntracked([]byte("lost by CBT"), 15*transfer.BlockSize)
	write(t, r.vm.Disk(0), 3, 0, 10)
	rep = r.audited(19, transfer.Options{}, now)
	if d := rep.Disks[0]; d.Kind != transfer.Compare || d.Audit.Blocks != 19 || d.Audit.Wrong != 2 {
		t.Errorf("two lost writes: %s, %+v", d.Kind, d.Audit)
	}
	r.same()
	if points := r.points(); points[0].Suspect != "" || points[1].Suspect == "" || points[2].Suspect == "" {
		t.Errorf("suspect: %q, %q, %q", points[0].Suspect, points[1].Suspect, points[2].Suspect)
	}
}

// deafStore cannot be read.
type deafStore struct{ transfer.Store }

func (deafStore) Read(context.Context, transfer.SnapshotID) (transfer.SnapshotReader, error) {
	return nil, transfer.Fail(transfer.Permanent, "read", errors.New("not permitted"), "")
}

// TestAnAuditThatCannotBe: the point is made, and the alarm says what is not
// proven.
func TestAnAuditThatCannotBe(t *testing.T) {
	r := newRig(t, 20*transfer.BlockSize)
	write(t, r.vm.Disk(0), 1, 0, 10*transfer.BlockSize)
	r.must(transfer.Options{})
	if err := os.RemoveAll(string(r.state)); err != nil {
		t.Fatal(err)
	}
	write(t, r.vm.Disk(0), 2, 0, 10)
	c := r.cycle(transfer.Options{})
	c.Audit, c.Store = 19, deafStore{r.store}
	rep, err := c.Run(t.Context())
	if err != nil || len(rep.Alarms) != 1 || !strings.Contains(rep.Alarms[0], "19 blocks") || rep.Disks[0].Audit.Odds != 0 {
		t.Errorf("%v, alarms %v, audit %+v", err, rep.Alarms, rep.Disks[0].Audit)
	}
	r.same()
}

// TestAClockThatWasAhead: what was audited tomorrow is audited today.
func TestAClockThatWasAhead(t *testing.T) {
	r := newRig(t, 4*mib)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	write(t, r.vm.Disk(0), 1, 0, 4*mib)
	r.audited(4, transfer.Options{}, now.AddDate(1, 0, 0))
	if rep := r.audited(4, transfer.Options{}, now); rep.Disks[0].Audit == nil {
		t.Error("no audit before the clock comes to where it was")
	}
}

// mutteringStore dies after it marked one snapshot.
type mutteringStore struct {
	transfer.Store
	said bool
}

func (s *mutteringStore) Suspect(ctx context.Context, ids []transfer.SnapshotID, why string) error {
	if len(ids) == 0 {
		return nil
	}
	if s.said {
		return errors.New("killed")
	}
	s.said = true
	return s.Store.Suspect(ctx, ids[:1], why)
}

// TestDistrustIsFinished: a cycle that dies while it marks the earlier points
// is followed by one that compares, and marks the rest.
func TestDistrustIsFinished(t *testing.T) {
	r := newRig(t, 20*transfer.BlockSize)
	for i := range 4 {
		write(t, r.vm.Disk(0), uint64(i), 0, 10*transfer.BlockSize)
		r.must(transfer.Options{})
	}
	r.vm.Disk(0).WriteUntracked([]byte("lost by CBT"), 15*transfer.BlockSize)
	write(t, r.vm.Disk(0), 9, 0, 10)
	c := r.cycle(transfer.Options{})
	c.Audit, c.Store = 20, &mutteringStore{Store: r.store}
	if _, err := c.Run(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if rep := r.must(transfer.Options{}); rep.Disks[0].Kind != transfer.Compare { // without any audit
		t.Errorf("%s because %s", rep.Disks[0].Kind, rep.Disks[0].Reason)
	}
	r.same()
	for i, p := range r.points() {
		if (p.Suspect == "") != (i == 0) {
			t.Errorf("point %d is suspect: %q", i, p.Suspect)
		}
	}
}

func TestOdds(t *testing.T) {
	for _, c := range []struct {
		n, all, lost int64
		want         float64
	}{
		{0, 100, 1, 0}, {256, 2048, 1, 0.125}, {100, 100, 1, 1}, {1, 2, 2, 1}, {2, 4, 1, 0.5}, {2, 4, 2, 1 - 1.0/6},
	} {
		if got := transfer.Odds(c.n, c.all, c.lost); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("odds of %+v: %v", c, got)
		}
	}
}
