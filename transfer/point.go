package transfer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Point is a recovery point, or the remains of a cycle that did not become
// one: the EBS snapshots of one cycle of one VM.
type Point struct {
	Cycle     CycleID    `json:"cycle"`
	VM        VMID       `json:"vm"`
	VMName    string     `json:"vmName"`
	Frozen    time.Time  `json:"frozen"`
	Confirmed time.Time  `json:"confirmed"` // see Label.Confirmed; zero unless all snapshots have it
	Complete  bool       `json:"complete"`
	Suspect   string     `json:"suspect,omitempty"` // of the first disk that has one
	Missing   string     `json:"missing,omitempty"` // why it is not complete
	Disks     []Snapshot `json:"disks"`             // by ordinal
	// Conversions of the boot disk, in any state, newest first. They are no
	// disks of the point, and it is as complete without them.
	Conversions []Snapshot `json:"conversions,omitempty"`
}

// Instant is the latest moment whose data the point holds.
func (p Point) Instant() time.Time {
	if p.Confirmed.After(p.Frozen) {
		return p.Confirmed
	}
	return p.Frozen
}

// Points groups snapshots by VM and cycle, newest first. The tags alone decide:
// a point is complete when it has disks 1 to n of n and EC2 calls each of them
// completed. Conversions go with the point that they were made from; those
// whose point is gone are left out, see OrphanedConversions.
func Points(snapshots []Snapshot) []Point {
	groups, conversions := map[pointKey][]Snapshot{}, map[pointKey][]Snapshot{}
	for _, s := range snapshots {
		if s.Label.Kind == Conversion {
			k := pointKey{s.Label.VM, s.Label.Converts}
			conversions[k] = append(conversions[k], s)
			continue
		}
		k := pointKey{s.Label.VM, s.Label.Cycle}
		groups[k] = append(groups[k], s)
	}
	points := make([]Point, 0, len(groups))
	for k, disks := range groups {
		p := newPoint(disks)
		p.Conversions = newestStarted(conversions[k])
		points = append(points, p)
	}
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(b.Frozen.Compare(a.Frozen), cmp.Compare(b.Cycle, a.Cycle), cmp.Compare(a.VM.String(), b.VM.String()))
	})
	return points
}

// pointKey is what the snapshots of one point share.
type pointKey struct {
	vm    VMID
	cycle CycleID
}

func newPoint(disks []Snapshot) Point {
	slices.SortFunc(disks, func(a, b Snapshot) int {
		return cmp.Or(cmp.Compare(a.Label.Ordinal, b.Label.Ordinal), cmp.Compare(a.ID, b.ID))
	})
	first := disks[0].Label
	p := Point{Cycle: first.Cycle, VM: first.VM, VMName: first.VMName, Frozen: first.Frozen, Disks: disks}
	p.Confirmed = first.Confirmed
	for _, s := range disks {
		if s.Label.Confirmed.Before(p.Confirmed) {
			p.Confirmed = s.Label.Confirmed
		}
		p.Suspect = cmp.Or(p.Suspect, s.Label.Suspect)
	}
	p.Missing = missing(disks)
	p.Complete = p.Missing == ""
	return p
}

// missing says what keeps the snapshots of one cycle, sorted by ordinal, from
// being a recovery point.
func missing(disks []Snapshot) string {
	of := disks[0].Label.Of
	for i, s := range disks {
		l := s.Label
		switch {
		case l.Of != of || l.Of < 1:
			return fmt.Sprintf("%s says %d disks where others say %d", s.ID, l.Of, of)
		case i > 0 && l.Ordinal == disks[i-1].Label.Ordinal:
			return fmt.Sprintf("disk %d of %d is there twice: %s and %s", l.Ordinal, of, disks[i-1].ID, s.ID)
		case !l.Frozen.Equal(disks[0].Label.Frozen):
			return fmt.Sprintf("%s was frozen at another instant", s.ID)
		case s.State == Failed:
			return fmt.Sprintf("%s (%s) is in error: %s", s.ID, l.DiskLabel, s.Message)
		case s.State != Completed:
			return fmt.Sprintf("%s (%s) is %s", s.ID, l.DiskLabel, s.State)
		}
	}
	if len(disks) != of || disks[0].Label.Ordinal != 1 || disks[of-1].Label.Ordinal != of {
		return fmt.Sprintf("%d of %d disks are there", len(disks), of)
	}
	return ""
}

// Baseline returns the snapshot that the next draft of a disk builds on: the
// newest completed one of the same disk, of a complete point or not, since a
// disk that sealed while a sibling failed is as good a parent as any. Where
// there is none, why says so for a person.
func Baseline(snapshots []Snapshot, disk DiskID) (base *Snapshot, why string) {
	why = "no snapshot of this disk exists yet"
	for i := range snapshots {
		s := &snapshots[i]
		switch {
		case s.Label.Kind == Conversion: // the source never had these bytes
		case s.Label.Disk.Key == disk.Key && s.Label.Disk.UUID != disk.UUID && base == nil:
			why = fmt.Sprintf("the disk at this place is another one now (UUID %s, %s before)", disk.UUID, s.Label.Disk.UUID)
		case s.Label.Disk != disk || s.State != Completed:
		case base == nil || newer(s, base):
			base = s
		}
	}
	if base != nil {
		why = ""
	}
	return base, why
}

func newer(a, b *Snapshot) bool {
	return cmp.Or(a.Label.Frozen.Compare(b.Label.Frozen), a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID)) > 0
}

// LostDisk reports that the VM had a disk once and has it no more, as far as its
// points tell: the newest complete one is younger than the disk's last snapshot,
// has not the disk, and does not say that one of its name was left out. What
// such a disk left is nothing that a delta would build on; should the disk come
// back, it is seeded.
func LostDisk(newest *Point, last *Snapshot) bool {
	if newest == nil || !newest.Complete || newest.VM != last.Label.VM || !newest.Frozen.After(last.Label.Frozen) {
		return false
	}
	for _, s := range newest.Disks {
		if s.Label.Disk == last.Label.Disk || slices.Contains(s.Label.Excluded, last.Label.DiskLabel) {
			return false
		}
	}
	return true
}
