package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

var (
	reapNow = time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	reapVM  = transfer.VMID{VCenter: "vc-1", Moref: "vm-1"}
	others  = transfer.VMID{VCenter: "vc-1", Moref: "vm-2"}
)

const (
	us   = transfer.ApplianceID("us")
	them = transfer.ApplianceID("them")
	gone = transfer.ApplianceID("gone")
)

func reapDisk(n int32) transfer.DiskID {
	return transfer.DiskID{Key: 1999 + n, UUID: fmt.Sprint("u", n)}
}

func alive(change ...func(*transfer.Alive)) transfer.Alive {
	k := transfer.Alive{Now: reapNow, Appliance: us, Live: map[transfer.VMID]string{}}
	for _, f := range change {
		f(&k)
	}
	return k
}

func markedSnapshot(owner transfer.ApplianceID) transfer.MarkedSnapshot {
	return transfer.MarkedSnapshot{VM: reapVM, VMName: "app01", Snapshot: "snapshot-1", Name: "snapferry-c1", Appliance: owner, Cycle: "c1", Created: reapNow.Add(-time.Hour)}
}

func markedDisk(owner transfer.ApplianceID) transfer.MarkedDisk {
	return transfer.MarkedDisk{VM: reapVM, Disk: reapDisk(1), File: "[ds] app01/app01.vmdk", Holder: "vm-9", Slot: "scsi0:1", Appliance: owner, Cycle: "c1"}
}

// ebsSnap is disk n of of of a cycle that was started so long ago.
func ebsSnap(id string, state transfer.State, cycle transfer.CycleID, n, of int, ago time.Duration, change ...func(*transfer.Snapshot)) transfer.Snapshot {
	at := reapNow.Add(-ago)
	s := transfer.Snapshot{ID: transfer.SnapshotID(id), State: state, Started: at, Label: transfer.Label{
		Appliance: us, VM: reapVM, VMName: "app01", Cycle: cycle, Frozen: at, Disk: reapDisk(int32(n)), DiskLabel: fmt.Sprint("Hard disk ", n),
		Ordinal: n, Of: of, Blocks: -1}}
	if state == transfer.Completed {
		s.Label.Blocks = 10
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func ownedBy(owner transfer.ApplianceID) func(*transfer.Snapshot) {
	return func(s *transfer.Snapshot) { s.Label.Appliance = owner }
}

func parent(id string) func(*transfer.Snapshot) {
	return func(s *transfer.Snapshot) { s.Label.Parent = transfer.SnapshotID(id) }
}

const day = 24 * time.Hour

// verdict is "deed id: …reason…".
type verdict struct {
	do         transfer.Deed
	id, reason string
}

func TestReapDisksAndVMSnapshots(t *testing.T) {
	busy := func(k *transfer.Alive) { k.Live[reapVM] = "a cycle runs" }
	dead := func(k *transfer.Alive) { k.Dead = []transfer.ApplianceID{gone} }
	disks := func(d ...transfer.MarkedDisk) []transfer.MarkedDisk { return d }
	snaps := func(s ...transfer.MarkedSnapshot) []transfer.MarkedSnapshot { return s }
	open := markedDisk(us)
	open.Live = true
	unsigned := markedSnapshot("")
	nameless := markedSnapshot(us)
	nameless.Cycle = ""
	for name, c := range map[string]struct {
		f    transfer.Found
		k    transfer.Alive
		want []verdict
	}{
		"ours, dead cycle": {transfer.Found{Disks: disks(markedDisk(us)), Snapshots: snaps(markedSnapshot(us))}, alive(),
			[]verdict{{transfer.DeedDetach, "scsi0:1", "cycle c1 does not run"}, {transfer.DeedRemove, "snapshot-1", "cycle c1 does not run"}}},
		"ours, live cycle": {transfer.Found{Disks: disks(markedDisk(us)), Snapshots: snaps(markedSnapshot(us))}, alive(busy),
			[]verdict{{transfer.DeedLeave, "scsi0:1", "a cycle runs"}, {transfer.DeedLeave, "snapshot-1", "a cycle runs"}}},
		"another's": {transfer.Found{Disks: disks(markedDisk(them)), Snapshots: snaps(markedSnapshot(them))}, alive(dead),
			[]verdict{{transfer.DeedLeave, "scsi0:1", "belongs to appliance them; if that never runs again: snapferry clean --appliance them --dead"}, {transfer.DeedLeave, "snapshot-1", "appliance them"}}},
		"a dead one's": {transfer.Found{Disks: disks(markedDisk(gone)), Snapshots: snaps(markedSnapshot(gone))}, alive(dead),
			[]verdict{{transfer.DeedDetach, "scsi0:1", "gone is declared dead"}, {transfer.DeedRemove, "snapshot-1", "gone is declared dead"}}},
		"a dead one's, but a cycle of ours runs": {transfer.Found{Snapshots: snaps(markedSnapshot(gone))}, alive(dead, busy),
			[]verdict{{transfer.DeedLeave, "snapshot-1", "a cycle runs"}}},
		"open here": {transfer.Found{Disks: disks(open), Snapshots: snaps(markedSnapshot(us))}, alive(),
			[]verdict{{transfer.DeedLeave, "scsi0:1", "a reader has it open"}, {transfer.DeedLeave, "snapshot-1", "stays attached: a reader has it open"}}},
		"another's disk of it": {transfer.Found{Disks: disks(markedDisk(them)), Snapshots: snaps(markedSnapshot(us))}, alive(),
			[]verdict{{transfer.DeedLeave, "scsi0:1", "them"}, {transfer.DeedLeave, "snapshot-1", "[ds] app01/app01.vmdk of its VM stays attached"}}},
		"disks not seen": {transfer.Found{NoDisks: "vCenter is away", Snapshots: snaps(markedSnapshot(us))}, alive(),
			[]verdict{{transfer.DeedLeave, "snapshot-1", "may be attached: vCenter is away"}}},
		"no appliance in the mark": {transfer.Found{Snapshots: snaps(unsigned)}, alive(), []verdict{{transfer.DeedLeave, "snapshot-1", "does not say"}}},
		"no cycle in the mark":     {transfer.Found{Snapshots: snaps(nameless)}, alive(), []verdict{{transfer.DeedLeave, "snapshot-1", "does not say"}}},
		"we have no ID": {transfer.Found{Snapshots: snaps(unsigned, markedSnapshot(us))}, alive(func(k *transfer.Alive) { k.Appliance = "" }),
			[]verdict{{transfer.DeedLeave, "snapshot-1", "does not say"}, {transfer.DeedLeave, "snapshot-1", "us"}}},
	} {
		t.Run(name, func(t *testing.T) { check(t, transfer.Reap(c.f, c.k), c.want) })
	}
}

func check(t *testing.T, got []transfer.Action, want []verdict) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d actions, want %d: %+v", len(got), len(want), got)
	}
	for i, a := range got {
		if w := want[i]; a.Do != w.do || a.ID != w.id || !strings.Contains(a.Reason, w.reason) {
			t.Errorf("%s %s because %q, want %s %s because …%s…", a.Do, a.ID, a.Reason, w.do, w.id, w.reason)
		}
	}
}

func TestReapDrafts(t *testing.T) {
	journal := func(id transfer.SnapshotID, ago time.Duration) func(*transfer.Alive) {
		return func(k *transfer.Alive) {
			k.Journals = []transfer.JournaledDraft{{VM: reapVM, Disk: reapDisk(1), Cycle: "c1", Draft: id, Written: reapNow.Add(-ago)}}
		}
	}
	dead := func(k *transfer.Alive) { k.Dead = []transfer.ApplianceID{gone} }
	busy := func(k *transfer.Alive) { k.Live[reapVM] = "a cycle runs" }
	ended := func(k *transfer.Alive) { k.Ended = []transfer.VMID{reapVM} }
	sealing := func(s *transfer.Snapshot) { s.Label.Blocks = 3 }
	draft := func(ago time.Duration, change ...func(*transfer.Snapshot)) transfer.Snapshot {
		return ebsSnap("snap-1", transfer.Pending, "c1", 1, 1, ago, change...)
	}
	failed := ebsSnap("snap-1", transfer.Failed, "c1", 1, 1, time.Minute)
	failed.Message = "checksum mismatch"
	for name, c := range map[string]struct {
		s    transfer.Snapshot
		k    transfer.Alive
		want verdict
	}{
		"forgotten":                         {draft(time.Hour), alive(), verdict{transfer.DeedAbort, "snap-1", "no journal here"}},
		"young":                             {draft(time.Minute), alive(), verdict{transfer.DeedLeave, "snap-1", "younger than 15m"}},
		"of the future":                     {draft(-time.Minute), alive(), verdict{transfer.DeedLeave, "snap-1", "younger"}},
		"live":                              {draft(time.Hour), alive(busy), verdict{transfer.DeedLeave, "snap-1", "a cycle runs"}},
		"resumable":                         {draft(2 * day), alive(journal("snap-1", 2*day)), verdict{transfer.DeedLeave, "snap-1", "goes on with it"}},
		"resumable, its VM is disconnected": {draft(2 * day), alive(journal("snap-1", day), ended), verdict{transfer.DeedAbort, "snap-1", "has ended"}},
		"sealing, its VM is disconnected":   {draft(time.Hour, sealing), alive(journal("snap-1", 0), ended), verdict{transfer.DeedLeave, "snap-1", "its seal has begun"}},
		"another VM is disconnected":        {draft(2 * day), alive(journal("snap-1", day), func(k *transfer.Alive) { k.Ended = []transfer.VMID{others} }), verdict{transfer.DeedLeave, "snap-1", "goes on with it"}},
		"resumable, put to since":           {draft(9 * day), alive(journal("snap-1", day)), verdict{transfer.DeedLeave, "snap-1", "goes on with it"}},
		"timed out":                         {draft(4 * day), alive(journal("snap-1", 3*day)), verdict{transfer.DeedAbort, "snap-1", "nothing was put since 2026-05-03T12:00:00Z"}},
		"its start's answer was lost":       {draft(time.Hour), alive(journal("", time.Hour)), verdict{transfer.DeedLeave, "snap-1", "goes on"}},
		"the journal names another":         {draft(time.Hour), alive(journal("snap-2", time.Hour)), verdict{transfer.DeedAbort, "snap-1", "no journal"}},
		"in error":                          {failed, alive(), verdict{transfer.DeedAbort, "snap-1", "checksum mismatch"}},
		"in error, journaled":               {failed, alive(journal("snap-1", 0)), verdict{transfer.DeedAbort, "snap-1", "checksum mismatch"}},
		"sealing":                           {draft(2*day, sealing), alive(), verdict{transfer.DeedLeave, "snap-1", "its seal has begun"}},
		"sealing for ever":                  {draft(4*day, sealing), alive(), verdict{transfer.DeedAbort, "snap-1", "does not run"}},
		"another's":                         {draft(9*day, ownedBy(them)), alive(dead), verdict{transfer.DeedLeave, "snap-1", "them"}},
		"another's, in error":               {ebsSnap("snap-1", transfer.Failed, "c1", 1, 1, day, ownedBy(them)), alive(dead), verdict{transfer.DeedLeave, "snap-1", "them"}},
		"a dead one's":                      {draft(time.Minute, ownedBy(gone)), alive(dead), verdict{transfer.DeedAbort, "snap-1", "declared dead"}},
		"a dead one's, journaled here":      {draft(time.Hour, ownedBy(gone)), alive(dead, journal("snap-1", 0)), verdict{transfer.DeedLeave, "snap-1", "goes on"}},
		"no appliance in the tags":          {draft(9*day, ownedBy("")), alive(), verdict{transfer.DeedLeave, "snap-1", "does not say"}},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, transfer.Reap(transfer.Found{EBS: []transfer.Snapshot{c.s}}, c.k), []verdict{c.want})
		})
	}
}

func TestReapHalfMadePoints(t *testing.T) {
	done := func(id string, cycle transfer.CycleID, n int, ago time.Duration, change ...func(*transfer.Snapshot)) transfer.Snapshot {
		return ebsSnap(id, transfer.Completed, cycle, n, 2, ago, change...)
	}
	whole := []transfer.Snapshot{done("snap-8", "c8", 1, day), done("snap-9", "c8", 2, day)}
	with := func(s ...transfer.Snapshot) []transfer.Snapshot { return append(s, whole...) }
	confirmed := func(s *transfer.Snapshot) { s.Label.Confirmed = reapNow }
	replaced := func(s *transfer.Snapshot) { s.Label.Disk.UUID = "another" }
	busy := func(k *transfer.Alive) { k.Live[reapVM] = "a cycle runs" }
	dead := func(k *transfer.Alive) { k.Dead = []transfer.ApplianceID{gone} }
	for name, c := range map[string]struct {
		ebs   []transfer.Snapshot
		noEBS string
		k     transfer.Alive
		want  []verdict
	}{
		"complete points are not spoken of": {ebs: whole, k: alive()},
		"a half, superseded":                {ebs: with(done("snap-1", "c1", 1, 2*day)), k: alive(), want: []verdict{{transfer.DeedDelete, "snap-1", "1 of 2 disks are there"}}},
		"a baseline":                        {ebs: with(done("snap-1", "c9", 1, time.Hour)), k: alive(), want: []verdict{{transfer.DeedLeave, "snap-1", "the next delta"}}},
		"of a disk that is no more":         {ebs: with(done("snap-1", "c1", 1, 2*day, replaced)), k: alive(), want: []verdict{{transfer.DeedDelete, "snap-1", "newer points of the VM"}}},
		"of a disk that may come back":      {ebs: with(done("snap-1", "c9", 1, time.Hour, replaced)), k: alive(), want: []verdict{{transfer.DeedLeave, "snap-1", "the next delta"}}},
		"live":                              {ebs: with(done("snap-1", "c1", 1, 2*day)), k: alive(busy), want: []verdict{{transfer.DeedLeave, "snap-1", "a cycle runs"}}},
		"another's":                         {ebs: with(done("snap-1", "c1", 1, 2*day, ownedBy(them))), k: alive()},
		"a dead one's":                      {ebs: with(done("snap-1", "c1", 1, 2*day, ownedBy(gone))), k: alive(dead), want: []verdict{{transfer.DeedDelete, "snap-1", "never became a point"}}},
		"labels that cannot be read":        {ebs: with(done("snap-1", "c1", 1, 2*day)), noEBS: "snap-7", k: alive(), want: []verdict{{transfer.DeedLeave, "snap-1", "snap-7"}}},
		"a sibling is a draft":              {ebs: with(done("snap-1", "c1", 1, 2*day), ebsSnap("snap-2", transfer.Pending, "c1", 2, 2, time.Minute)), k: alive(), want: []verdict{{transfer.DeedLeave, "snap-2", "younger"}, {transfer.DeedLeave, "snap-1", "a draft still"}}},
		"a sibling is in error": {ebs: with(done("snap-1", "c1", 1, 2*day), ebsSnap("snap-2", transfer.Failed, "c1", 2, 2, 2*day)), k: alive(),
			want: []verdict{{transfer.DeedAbort, "snap-2", "error"}, {transfer.DeedDelete, "snap-1", "in error"}}},
		"once confirmed":    {ebs: with(done("snap-1", "c1", 1, 2*day, confirmed)), k: alive(), want: []verdict{{transfer.DeedLeave, "snap-1", "retention"}}},
		"a draft builds on": {ebs: with(done("snap-1", "c1", 1, 2*day), ebsSnap("snap-3", transfer.Pending, "c3", 1, 2, time.Minute, parent("snap-1"))), k: alive(), want: []verdict{{transfer.DeedLeave, "snap-3", "younger"}, {transfer.DeedLeave, "snap-1", "a draft builds on it"}}},
		// Disk 2 went on from a snapshot that is gone: it may have been of c1.
		"a sibling was deleted by hand": {ebs: []transfer.Snapshot{done("snap-1", "c1", 1, 2*day), done("snap-8", "c8", 1, day, parent("snap-1")), done("snap-9", "c8", 2, day, parent("snap-2"))},
			k: alive(), want: []verdict{{transfer.DeedLeave, "snap-1", "retention"}}},
		"the sibling went on from before": {ebs: []transfer.Snapshot{done("snap-a", "c0", 1, 3*day), done("snap-b", "c0", 2, 3*day), done("snap-1", "c1", 1, 2*day, parent("snap-a")),
			done("snap-8", "c8", 1, day, parent("snap-1")), done("snap-9", "c8", 2, day, parent("snap-b"))}, k: alive(), want: []verdict{{transfer.DeedDelete, "snap-1", "1 of 2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, transfer.Reap(transfer.Found{EBS: c.ebs, NoEBS: c.noEBS}, c.k), c.want)
		})
	}
}

// TestReapTouchesNothingOfOthers: whatever there is, no deed is about something
// without a mark, of another appliance that may live, or of a VM that a cycle
// works on; nothing that a delta needs is deleted; disks go first.
func TestReapTouchesNothingOfOthers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	deeds := map[transfer.Deed]int{}
	for range 3000 {
		f, k := randomFound(rng), randomAlive(rng)
		actions := transfer.Reap(f, k)
		for i, a := range actions {
			deeds[a.Do]++
			if a.Reason == "" {
				t.Fatalf("no reason: %+v", a)
			}
			if a.Do == transfer.DeedLeave {
				continue
			}
			mine := a.Appliance == k.Appliance || slices.Contains(k.Dead, a.Appliance)
			if a.Appliance == "" || a.Cycle == "" || !mine || k.Live[a.VM] != "" {
				t.Fatalf("%+v\nof %+v\nwith %+v", a, f, k)
			}
			checkDeed(t, a, actions[:i], f, k)
		}
	}
	for _, d := range []transfer.Deed{transfer.DeedDetach, transfer.DeedRemove, transfer.DeedAbort, transfer.DeedDelete, transfer.DeedLeave} {
		if deeds[d] == 0 {
			t.Errorf("never a %s: the worlds are too poor", d)
		}
	}
}

func checkDeed(t *testing.T, a transfer.Action, before []transfer.Action, f transfer.Found, k transfer.Alive) {
	t.Helper()
	switch a.Do {
	case transfer.DeedRemove:
		for _, d := range f.Disks {
			if d.VM == a.VM && !slices.ContainsFunc(before, func(b transfer.Action) bool { return b.Do == transfer.DeedDetach && b.ID == d.Slot }) {
				t.Fatalf("%s is not detached before %+v", d.Slot, a)
			}
		}
	case transfer.DeedAbort:
		for _, s := range f.EBS {
			if string(s.ID) == a.ID && s.State == transfer.Completed {
				t.Fatalf("abort of a completed snapshot: %+v", a)
			}
		}
	case transfer.DeedDelete:
		points := transfer.Points(slices.Clone(f.EBS))
		newest := slices.IndexFunc(points, func(p transfer.Point) bool { return p.Complete && p.VM == a.VM })
		for _, p := range points {
			for _, s := range p.Disks {
				base, _ := transfer.Baseline(f.EBS, s.Label.Disk)
				needed := base == nil || base.ID == s.ID && base.Label.VM == s.Label.VM && (newest < 0 || !transfer.LostDisk(&points[newest], base))
				if string(s.ID) == a.ID && (p.Complete || s.State != transfer.Completed || needed) {
					t.Fatalf("deletes what is needed: %+v of %+v", a, p)
				}
			}
		}
	}
}

func one[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func randomFound(rng *rand.Rand) (f transfer.Found) {
	owner := func() transfer.ApplianceID { return one(rng, us, us, us, them, gone, "") }
	for i := range rng.IntN(4) {
		d := markedDisk(owner())
		d.VM, d.Slot, d.Live = one(rng, reapVM, others), fmt.Sprint("scsi0:", i), rng.IntN(5) == 0
		d.Cycle = one[transfer.CycleID](rng, "c1", "c2", "")
		f.Disks = append(f.Disks, d)
	}
	for i := range rng.IntN(4) {
		s := markedSnapshot(owner())
		s.VM, s.Snapshot = one(rng, reapVM, others), fmt.Sprint("snapshot-", i)
		s.Cycle = one[transfer.CycleID](rng, "c1", "c2", "")
		f.Snapshots = append(f.Snapshots, s)
	}
	for i := range rng.IntN(9) {
		s := ebsSnap(fmt.Sprint("snap-", i), one(rng, transfer.Pending, transfer.Failed, transfer.Completed, transfer.Completed),
			transfer.CycleID(fmt.Sprint("c", rng.IntN(4))), 1+rng.IntN(2), 2, time.Duration(rng.IntN(120))*time.Hour, ownedBy(owner()))
		s.Label.VM = one(rng, reapVM, reapVM, others)
		f.EBS = append(f.EBS, s)
	}
	f.NoDisks, f.NoEBS = one(rng, "", "", "", "away"), one(rng, "", "", "", "away")
	return f
}

func randomAlive(rng *rand.Rand) transfer.Alive {
	k := alive()
	k.Appliance = one[transfer.ApplianceID](rng, us, us, us, us, "")
	if rng.IntN(2) == 0 {
		k.Dead = []transfer.ApplianceID{gone}
	}
	if rng.IntN(4) == 0 {
		k.Live[one(rng, reapVM, others)] = "a cycle runs"
	}
	for i := range rng.IntN(3) {
		k.Journals = append(k.Journals, transfer.JournaledDraft{VM: reapVM, Disk: reapDisk(1), Cycle: "c1", Draft: transfer.SnapshotID(fmt.Sprint("snap-", i)), Written: reapNow.Add(-time.Hour)})
	}
	return k
}
