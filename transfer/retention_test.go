package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

// sealedDisk is a completed snapshot of disk n of of, frozen at an instant.
func sealedDisk(vm string, at time.Time, n, of int, edit ...func(*transfer.Snapshot)) transfer.Snapshot {
	s := transfer.Snapshot{
		ID:    transfer.SnapshotID(fmt.Sprintf("snap-%s-%d-%d", vm, at.UnixNano(), n)),
		State: transfer.Completed, Started: at, VolumeGiB: 1,
		Label: transfer.Label{
			VM: transfer.VMID{VCenter: "vc", Moref: vm}, VMName: vm, Frozen: at,
			Cycle: transfer.CycleID(at.UTC().Format("20060102T150405.000000000Z")),
			Disk:  transfer.DiskID{Key: int32(1999 + n), UUID: fmt.Sprint("uuid-", n)}, DiskLabel: fmt.Sprint("Hard disk ", n),
			Ordinal: n, Of: of, Kind: transfer.Delta,
		},
	}
	for _, f := range edit {
		f(&s)
	}
	return s
}

// oneDisk makes points of one disk, each at its instant.
func oneDisk(at ...time.Time) []transfer.Point {
	var all []transfer.Snapshot
	for _, t := range at {
		all = append(all, sealedDisk("vm-1", t, 1, 1))
	}
	return transfer.Points(all)
}

// keptTimes is when the points that stay were frozen, in the zone, newest first.
func keptTimes(verdicts []transfer.Verdict, loc *time.Location) string {
	var at []string
	for _, v := range verdicts {
		if v.Keep {
			at = append(at, v.Point.Frozen.In(loc).Format("0102T15:04"))
		}
	}
	return strings.Join(at, " ")
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("this machine has no time zones: %v", err)
	}
	return loc
}

func TestRetainByRule(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	at := func(loc *time.Location, texts ...string) (all []time.Time) {
		for _, text := range texts {
			when, err := time.ParseInLocation("2006-01-02T15:04", text, loc)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, when)
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		policy transfer.Policy
		loc    *time.Location
		now    string
		points []string
		want   string
	}{
		{"last", transfer.Policy{Last: 2}, time.UTC, "2026-03-10T12:00",
			[]string{"2026-03-10T10:00", "2026-03-10T09:00", "2026-03-10T08:00"}, "0310T10:00 0310T09:00"},
		{"more than there are", transfer.Policy{Last: 9}, time.UTC, "2026-03-10T12:00", []string{"2026-03-10T10:00"}, "0310T10:00"},
		{"the newest of each day", transfer.Policy{Daily: 2}, time.UTC, "2026-03-10T12:00",
			[]string{"2026-03-10T10:00", "2026-03-10T09:00", "2026-03-09T23:59", "2026-03-09T00:00", "2026-03-08T10:00"}, "0310T10:00 0309T23:59"},
		{"days without points do not count", transfer.Policy{Daily: 2}, time.UTC, "2026-03-30T12:00",
			[]string{"2026-03-10T10:00", "2026-02-01T10:00", "2026-01-08T10:00"}, "0310T10:00 0201T10:00"},
		{"a day is the zone's", transfer.Policy{Daily: 1, Last: 1}, berlin, "2026-06-10T12:00",
			// 23:30 UTC and 00:30 in Berlin lie on one day there only.
			[]string{"2026-06-10T01:30", "2026-06-10T00:30"}, "0610T01:30"},
		{"the clocks go forward: a day of 23 hours", transfer.Policy{Days: 1}, berlin, "2026-03-29T12:00",
			[]string{"2026-03-29T11:00", "2026-03-28T12:00", "2026-03-28T11:59"}, "0329T11:00 0328T12:00"},
		{"the clocks go back: a day of 25 hours", transfer.Policy{Days: 1}, berlin, "2026-10-25T12:00",
			[]string{"2026-10-25T11:00", "2026-10-24T12:00", "2026-10-24T11:59"}, "1025T11:00 1024T12:00"},
		{"both sides of the hour that comes twice are one day", transfer.Policy{Daily: 2}, berlin, "2026-10-25T12:00",
			[]string{"2026-10-25T03:30", "2026-10-25T01:30", "2026-10-24T23:30"}, "1025T03:30 1024T23:30"},
		{"the year ends within a week", transfer.Policy{Weekly: 2}, time.UTC, "2027-01-05T12:00",
			// 2026-12-28 to 2027-01-03 is week 53 of 2026; Monday begins week 1.
			[]string{"2027-01-04T10:00", "2027-01-03T10:00", "2026-12-31T10:00", "2026-12-28T10:00", "2026-12-27T10:00"}, "0104T10:00 0103T10:00"},
		{"a week of the year before", transfer.Policy{Weekly: 1, Last: 1}, time.UTC, "2025-01-01T12:00",
			// 2024-12-30 lies in week 1 of 2025, as 2025-01-01 does.
			[]string{"2025-01-01T10:00", "2024-12-30T10:00"}, "0101T10:00"},
		{"months", transfer.Policy{Monthly: 3}, time.UTC, "2026-03-10T12:00",
			[]string{"2026-03-01T10:00", "2026-02-28T10:00", "2026-02-01T10:00", "2026-01-31T23:00", "2025-12-31T10:00"}, "0301T10:00 0228T10:00 0131T23:00"},
		{"any rule is enough", transfer.Policy{Last: 1, Monthly: 2}, time.UTC, "2026-03-10T12:00",
			[]string{"2026-03-09T10:00", "2026-03-08T10:00", "2026-02-08T10:00"}, "0309T10:00 0208T10:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.policy.Location = tt.loc
			got := keptTimes(transfer.Retain(oneDisk(at(tt.loc, tt.points...)...), tt.policy, at(tt.loc, tt.now)[0], nil), tt.loc)
			if got != tt.want {
				t.Errorf("kept %s, want %s", got, tt.want)
			}
		})
	}
}

var retainNow = time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC)

func daysAgo(n int) time.Time { return retainNow.AddDate(0, 0, -n) }

// verdictOf is the verdict on the point frozen at an instant.
func verdictOf(t *testing.T, verdicts []transfer.Verdict, at time.Time) transfer.Verdict {
	t.Helper()
	for _, v := range verdicts {
		if v.Point.Frozen.Equal(at) {
			return v
		}
	}
	t.Fatalf("there is no verdict on %v", at)
	return transfer.Verdict{}
}

func TestRetainProtects(t *testing.T) {
	last := transfer.Policy{Last: 1}
	pending := func(s *transfer.Snapshot) { s.State = transfer.Pending }
	two := func(at time.Time) []transfer.Snapshot {
		return []transfer.Snapshot{sealedDisk("vm-1", at, 1, 2), sealedDisk("vm-1", at, 2, 2)}
	}
	another := func(s *transfer.Snapshot) { s.Label.Disk.UUID = "uuid-replaced" } // at the place of disk 1
	third := func(s *transfer.Snapshot) {
		s.Label.Disk, s.Label.DiskLabel = transfer.DiskID{Key: 2002, UUID: "uuid-3"}, "Hard disk 3"
	}
	newest := two(daysAgo(1))
	of := func(more ...transfer.Snapshot) []transfer.Snapshot { return append(slices.Clone(newest), more...) }
	gone := sealedDisk("vm-1", daysAgo(9), 3, 3)
	leftOut := slices.Clone(newest)
	for i := range leftOut {
		leftOut[i].Label.Excluded = []string{"Hard disk 3"}
	}
	for _, tt := range []struct {
		name   string
		all    []transfer.Snapshot
		at     time.Time
		inUse  transfer.SnapshotID
		keep   bool
		reason string
	}{
		{"an old one goes", of(two(daysAgo(9))...), daysAgo(9), "", false, "no rule keeps it"},
		{"newer ones are suspect", append(doubted(newest), two(daysAgo(9))...), daysAgo(9), "", true, "not suspect"},
		{"in use", of(two(daysAgo(9))...), daysAgo(9), two(daysAgo(9))[1].ID, true, "is in use: test launch"},
		{"the newest snapshot of a disk that is left out since", append(append(two(daysAgo(9)), gone), leftOut...), daysAgo(9), "", true, "not complete"},
		{"the last point with a disk that is no more", of(sealedDisk("vm-1", daysAgo(9), 1, 1, another)), daysAgo(9), "", false, "no rule keeps it"},
		{"the last point with a disk that is left out since", append(slices.Clone(leftOut), sealedDisk("vm-1", daysAgo(9), 1, 1, third)), daysAgo(9), "", true, "the next delta of Hard disk 3"},
		{"a draft builds on it", of(append(two(daysAgo(9)), sealedDisk("vm-1", daysAgo(0), 1, 2, pending, func(s *transfer.Snapshot) { s.Label.Parent = two(daysAgo(9))[0].ID }))...), daysAgo(9), "", true, "the draft"},
		{"younger than the newest complete one", of(sealedDisk("vm-1", daysAgo(0), 1, 2)), daysAgo(0), "", true, "clean looks after it"},
		{"what a deletion left", of(sealedDisk("vm-1", daysAgo(9), 2, 2)), daysAgo(9), "", false, "what is left of a point"},
		{"a draft from before", of(sealedDisk("vm-1", daysAgo(9), 2, 2, pending)), daysAgo(9), "", true, "clean looks after it"},
		{"a failed one", of(sealedDisk("vm-1", daysAgo(9), 2, 2, func(s *transfer.Snapshot) { s.State = transfer.Failed })), daysAgo(9), "", true, "clean looks after it"},
		{"twice the same disk", of(sealedDisk("vm-1", daysAgo(9), 2, 3), sealedDisk("vm-1", daysAgo(9), 2, 3, func(s *transfer.Snapshot) { s.ID += "b" })), daysAgo(9), "", true, "clean looks after it"},
		{"what is left is in use", of(sealedDisk("vm-1", daysAgo(9), 2, 2)), daysAgo(9), two(daysAgo(9))[1].ID, true, "in use"},
		{"what is left is of a disk that is no more", of(gone), daysAgo(9), "", false, "what is left of a point"},
		{"what is left is the newest of a disk that is left out since", append(slices.Clone(leftOut), gone), daysAgo(9), "", true, "the next delta of Hard disk 3 builds on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inUse := func(id transfer.SnapshotID) (string, bool) { return "test launch", id == tt.inUse }
			v := verdictOf(t, transfer.Retain(transfer.Points(tt.all), last, retainNow, inUse), tt.at)
			if v.Keep != tt.keep || !strings.Contains(v.Why, tt.reason) {
				t.Errorf("keep %v because %q, want %v because %q", v.Keep, v.Why, tt.keep, tt.reason)
			}
		})
	}
}

func doubted(of []transfer.Snapshot) []transfer.Snapshot {
	of = slices.Clone(of)
	for i := range of {
		of[i].Label.Suspect = "2026-05-01 an audit"
	}
	return of
}

// TestRetainWhatIsLeftKeepsItsAge: a point of which somebody deleted a disk by
// hand keeps the others as long as it would have stayed whole, and does not
// take the place of a whole one.
func TestRetainWhatIsLeftKeepsItsAge(t *testing.T) {
	all := []transfer.Snapshot{
		sealedDisk("vm-1", daysAgo(0), 1, 2), sealedDisk("vm-1", daysAgo(0), 2, 2),
		sealedDisk("vm-1", daysAgo(1), 2, 2),
		sealedDisk("vm-1", daysAgo(2), 1, 2), sealedDisk("vm-1", daysAgo(2), 2, 2),
		sealedDisk("vm-1", daysAgo(3), 2, 2),
	}
	v := transfer.Retain(transfer.Points(all), transfer.Policy{Daily: 2}, retainNow, nil)
	if d := verdictOf(t, v, daysAgo(1)); !d.Keep || !strings.Contains(d.Why, "its age") {
		t.Errorf("the young rest: %+v", d)
	}
	if d := verdictOf(t, v, daysAgo(2)); !d.Keep {
		t.Errorf("the rest took the place of a whole point: %s", d.Why)
	}
	if d := verdictOf(t, v, daysAgo(3)); d.Keep {
		t.Errorf("the old rest stays: %s", d.Why)
	}
}

func TestRetainCountsAConfirmedPointAsTheDayOfItsConfirmation(t *testing.T) {
	all := []transfer.Snapshot{
		sealedDisk("vm-1", daysAgo(40), 1, 1, func(s *transfer.Snapshot) { s.Label.Confirmed = daysAgo(2) }),
		sealedDisk("vm-1", daysAgo(1), 1, 1),
	}
	v := verdictOf(t, transfer.Retain(transfer.Points(all), transfer.Policy{Days: 7}, retainNow, nil), daysAgo(40))
	if !v.Keep {
		t.Errorf("it held until two days ago and goes: %s", v.Why)
	}
}

func TestPolicyCheck(t *testing.T) {
	for _, p := range []transfer.Policy{{}, {Last: -1, Daily: 3}, {Location: time.Local}} {
		if p.Check() == nil {
			t.Errorf("%+v passes", p)
		}
		for _, v := range transfer.Retain(oneDisk(daysAgo(1), daysAgo(2), daysAgo(900)), p, retainNow, nil) {
			if !v.Keep {
				t.Errorf("%+v deletes", p)
			}
		}
	}
	def := transfer.DefaultPolicy()
	if err := def.Check(); err != nil {
		t.Error(err)
	}
	var hourly []time.Time
	for h := range 24 * 60 {
		hourly = append(hourly, retainNow.Add(-time.Duration(h)*time.Hour))
	}
	kept := 0
	for _, v := range transfer.Retain(oneDisk(hourly...), def, retainNow, nil) {
		if v.Keep {
			kept++
		}
	}
	if kept < 10 || kept > 14 {
		t.Errorf("the default keeps %d of two months of hourly points", kept)
	}
}

// history makes random points of several VMs: whole, young, with disks lost,
// drafts and failures.
func history(rng *rand.Rand) []transfer.Snapshot {
	var all []transfer.Snapshot
	for vm := range 1 + rng.IntN(3) {
		disks := 1 + rng.IntN(3)
		at := retainNow.Add(-time.Duration(rng.IntN(1000)) * time.Minute)
		for range rng.IntN(25) {
			for n := 1; n <= disks; n++ {
				s := sealedDisk(fmt.Sprint("vm-", vm), at, n, disks)
				switch rng.IntN(30) {
				case 0:
					s.State = transfer.Pending
				case 1:
					s.State = transfer.Failed
				case 2:
					continue // gone
				}
				if rng.IntN(12) == 0 {
					s.Label.Suspect = "x"
				}
				if rng.IntN(6) == 0 {
					s.Label.Confirmed = at.Add(time.Hour)
				}
				if len(all) > 0 && rng.IntN(3) == 0 {
					s.Label.Parent = all[rng.IntN(len(all))].ID
				}
				all = append(all, s)
			}
			at = at.Add(-time.Duration(1+rng.IntN(5000)) * time.Minute)
		}
	}
	return all
}

func anyPolicy(rng *rand.Rand) transfer.Policy {
	n := func() int { return max(0, rng.IntN(9)-4) }
	return transfer.Policy{Last: n(), Days: n() * 7, Daily: n(), Weekly: n(), Monthly: n(), Location: time.FixedZone("x", rng.IntN(86400)-43200)}
}

// TestRetainInvariants holds random histories and policies against what must
// never go, computed another way.
func TestRetainInvariants(t *testing.T) {
	deleted := 0
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 3))
		all, policy := history(rng), anyPolicy(rng)
		used := map[transfer.SnapshotID]bool{}
		for _, s := range all {
			used[s.ID] = rng.IntN(20) == 0
		}
		points := transfer.Points(all)
		verdicts := transfer.Retain(points, policy, retainNow, func(id transfer.SnapshotID) (string, bool) { return "x", used[id] })
		seen := map[transfer.VMID]int{}  // complete points met, newest first
		sound := map[transfer.VMID]int{} // … without suspects
		for i, v := range verdicts {
			p := v.Point
			if p.Cycle != points[i].Cycle || v.Why == "" {
				t.Fatalf("seed %d: verdict %d is on another point, or without a reason", seed, i)
			}
			if p.Complete {
				seen[p.VM]++
			}
			if p.Complete && p.Suspect == "" {
				if sound[p.VM]++; sound[p.VM] == 1 && !v.Keep {
					t.Fatalf("seed %d: the newest point that is not suspect goes: %s", seed, p.Cycle)
				}
			}
			if v.Keep {
				continue
			}
			deleted++
			if err := mayGo(v, all, used, policy, seen[p.VM]); err != nil {
				t.Fatalf("seed %d, %+v: %s of %s goes (%s): %v", seed, policy, p.Cycle, p.VM, v.Why, err)
			}
		}
		again := transfer.Retain(points, policy, retainNow, func(id transfer.SnapshotID) (string, bool) { return "x", used[id] })
		for i := range again {
			if again[i].Keep != verdicts[i].Keep || again[i].Why != verdicts[i].Why {
				t.Fatalf("seed %d: another verdict the second time: %q, %q", seed, verdicts[i].Why, again[i].Why)
			}
		}
	}
	if deleted < 1000 {
		t.Errorf("only %d points went: the test shows little", deleted)
	}
}

// mayGo says why a point must not go; rank is how many complete points of the
// VM are as new.
func mayGo(v transfer.Verdict, all []transfer.Snapshot, used map[transfer.SnapshotID]bool, policy transfer.Policy, rank int) error {
	p := v.Point
	switch {
	case policy.Check() != nil:
		return errors.New("the policy is refused")
	case rank == 0:
		return errors.New("there is no newer complete point")
	case p.Complete && rank == 1:
		return errors.New("it is the newest")
	case p.Complete && policy.Days > 0 && p.Instant().After(retainNow.AddDate(0, 0, -policy.Days)):
		return errors.New("it is young")
	}
	for _, s := range p.Disks {
		if used[s.ID] || s.State != transfer.Completed {
			return fmt.Errorf("%s is used %v, %s", s.ID, used[s.ID], s.State)
		}
		newer := false
		for _, o := range all {
			if o.State == transfer.Pending && o.Label.Parent == s.ID && o.Label.VM == p.VM {
				return fmt.Errorf("a draft builds on %s", s.ID)
			}
			newer = newer || (o.State == transfer.Completed && o.Label.VM == p.VM && o.Label.Disk == s.Label.Disk && o.Label.Frozen.After(s.Label.Frozen))
		}
		if !newer {
			return fmt.Errorf("%s is the newest of its disk", s.ID)
		}
	}
	return nil
}

// TestRetainIsStable: what was kept is kept again once the rest is gone, so
// that pruning twice does what pruning once does.
func TestRetainIsStable(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 4))
		all, policy := history(rng), anyPolicy(rng)
		s := newShelf(all)
		if _, err := transfer.Prune(t.Context(), s, transfer.Retain(transfer.Points(all), policy, retainNow, nil)); err != nil {
			t.Fatal(err)
		}
		for _, v := range transfer.Retain(transfer.Points(s.list()), policy, retainNow, nil) {
			if !v.Keep {
				t.Fatalf("seed %d, %+v: %s goes at the second time only: %s", seed, policy, v.Point.Cycle, v.Why)
			}
		}
	}
}

// shelf is snapshots that can be deleted.
type shelf struct {
	snaps []transfer.Snapshot
	inUse map[transfer.SnapshotID]bool
	order []transfer.SnapshotID // of the deletions
	after int                   // deletions until crash
	crash error
}

func newShelf(all []transfer.Snapshot) *shelf {
	return &shelf{snaps: slices.Clone(all), inUse: map[transfer.SnapshotID]bool{}}
}

func (s *shelf) list() []transfer.Snapshot { return slices.Clone(s.snaps) }

func (s *shelf) Expire(ctx context.Context, id transfer.SnapshotID) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.crash != nil && len(s.order) >= s.after:
		return s.crash
	case s.inUse[id]:
		return transfer.Fail(transfer.Permanent, "delete "+string(id), transfer.ErrInUse, "")
	}
	s.order = append(s.order, id)
	s.snaps = slices.DeleteFunc(s.snaps, func(n transfer.Snapshot) bool { return n.ID == id })
	return nil
}

// TestPruneThatCrashes: wherever it stops, no point looks complete that was to
// go in part, and the next run finishes.
func TestPruneThatCrashes(t *testing.T) {
	var all []transfer.Snapshot
	for day := range 6 {
		for n := 1; n <= 3; n++ {
			all = append(all, sealedDisk("vm-1", daysAgo(day), n, 3))
		}
	}
	policy := transfer.Policy{Last: 2}
	for after := range 13 {
		s := newShelf(all)
		s.crash, s.after = errors.New("the process was killed"), after
		pruned, err := transfer.Prune(t.Context(), s, transfer.Retain(transfer.Points(all), policy, retainNow, nil))
		if (err == nil) != (after == 12) || len(s.order) != after {
			t.Fatalf("after %d deletions: %d, %v", after, len(s.order), err)
		}
		for _, p := range pruned {
			if !p.Keep && !p.Gone() && p.Blocked == "" {
				t.Errorf("after %d deletions: %s is not gone and nothing says why", after, p.Point.Cycle)
			}
		}
		for _, p := range transfer.Points(s.list()) {
			if p.Complete != (len(p.Disks) == 3) {
				t.Errorf("after %d deletions: %d disks, complete %v", after, len(p.Disks), p.Complete)
			}
		}
		s.crash = nil
		if _, err := transfer.Prune(t.Context(), s, transfer.Retain(transfer.Points(s.list()), policy, retainNow, nil)); err != nil {
			t.Fatal(err)
		}
		if left := transfer.Points(s.list()); len(left) != 2 || !left[0].Complete || !left[1].Complete {
			t.Errorf("after %d deletions and another run: %d points", after, len(left))
		}
	}
}

// TestPruneMeetsAnImage: the first disk is asked for first, so that a point
// whose boot disk AWS holds fast stays whole; the others go.
func TestPruneMeetsAnImage(t *testing.T) {
	var all []transfer.Snapshot
	for day := range 4 {
		all = append(all, sealedDisk("vm-1", daysAgo(day), 2, 2), sealedDisk("vm-1", daysAgo(day), 1, 2))
	}
	s := newShelf(all)
	s.inUse[sealedDisk("vm-1", daysAgo(2), 1, 2).ID] = true
	pruned, err := transfer.Prune(t.Context(), s, transfer.Retain(transfer.Points(all), transfer.Policy{Last: 1}, retainNow, nil))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pruned {
		switch want := []string{"kept", "gone", "blocked", "gone"}[i]; {
		case want == "kept" && !p.Keep, want == "gone" && !p.Gone(),
			want == "blocked" && (len(p.Deleted) > 0 || !strings.Contains(p.Blocked, "in use")):
			t.Errorf("point %d should be %s: %+v", i, want, p)
		}
	}
	if first := s.order[0]; first != sealedDisk("vm-1", daysAgo(3), 1, 2).ID {
		t.Errorf("the first to go was %s, not the first disk of the oldest", first)
	}
}

// TestRetainTheNewestStaysByItself: old, suspect, and with newer snapshots of
// each of its disks that make no point: nothing but being the newest keeps it.
func TestRetainTheNewestStaysByItself(t *testing.T) {
	all := doubted([]transfer.Snapshot{sealedDisk("vm-1", daysAgo(30), 1, 2), sealedDisk("vm-1", daysAgo(30), 2, 2)})
	all = append(all, sealedDisk("vm-1", daysAgo(20), 1, 2), sealedDisk("vm-1", daysAgo(10), 2, 2),
		sealedDisk("vm-1", daysAgo(40), 1, 2), sealedDisk("vm-1", daysAgo(40), 2, 2),
		sealedDisk("vm-1", daysAgo(50), 1, 2), sealedDisk("vm-1", daysAgo(50), 2, 2))
	verdicts := transfer.Retain(transfer.Points(all), transfer.Policy{Days: 1}, retainNow, nil)
	for days, want := range map[int]string{30: "the newest complete point", 40: "the newest point that is not suspect", 50: "no rule keeps it"} {
		if v := verdictOf(t, verdicts, daysAgo(days)); v.Why != want || v.Keep != (days < 50) {
			t.Errorf("%d days old: keep %v, %s", days, v.Keep, v.Why)
		}
	}
}
