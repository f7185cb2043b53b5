package transfer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// DraftTimeout is how long AWS keeps a draft that nobody puts to: the
	// longest that StartSnapshot takes, and what is asked for.
	DraftTimeout = 72 * time.Hour
	// DraftGrace is how young a draft may be before it counts as forgotten. Its
	// age is reckoned between AWS's clock and ours, which may be minutes apart,
	// and a process that uses this appliance's ID with another state folder
	// shows no lock.
	DraftGrace = 15 * time.Minute
	// ConversionGrace is DraftGrace for the draft of a conversion, which no
	// journal speaks for: it is started when the guest has been changed already
	// and takes some hundred blocks, minutes even over a slow uplink.
	ConversionGrace = 2 * time.Hour
	// OldLeftover is the age at which a VM snapshot that stays is an alarm: its
	// redo log has grown for a day, and consolidating it takes ever longer.
	OldLeftover = 24 * time.Hour
)

// MarkedSnapshot is a VM snapshot that carries our mark, of whatever appliance.
type MarkedSnapshot struct {
	VM        VMID
	VMName    string
	Snapshot  string // moref
	Name      string
	Appliance ApplianceID
	Cycle     CycleID
	Created   time.Time
	Low       string // the datastore on which it grows and that runs low, in words; "" when none does
}

// MarkedDisk is a disk that hangs on an appliance and carries our mark, of
// whatever appliance.
type MarkedDisk struct {
	VM        VMID // whose disk it is
	Disk      DiskID
	File      string // datastore path
	Holder    string // moref of the VM it hangs on
	Slot      string // "scsi1:3"
	Appliance ApplianceID
	Cycle     CycleID
	Live      bool // a reader of this process has it open
}

// Found is what exists with our mark.
type Found struct {
	Disks     []MarkedDisk
	Snapshots []MarkedSnapshot
	EBS       []Snapshot
	// NoDisks and NoEBS say why Disks or EBS may not be all there are; what
	// cannot be judged without the rest is then left alone.
	NoDisks, NoEBS string
}

// Alive is what is known to be alive.
type Alive struct {
	Now       time.Time
	Appliance ApplianceID
	Dead      []ApplianceID   // declared by a person never to run again
	Live      map[VMID]string // why a VM is not to be touched: a cycle of it runs
	Journals  []JournaledDraft
	Ended     []VMID // whose replication is over: no cycle goes on with a draft
}

// JournaledDraft is a draft that a journal of this machine can go on with.
type JournaledDraft struct {
	VM      VMID
	Disk    DiskID
	Cycle   CycleID
	Draft   SnapshotID // "" where the answer to its start was lost
	Written time.Time  // about the last put
}

// Deed is what is done about something.
type Deed string

// The deeds, in the order in which they are done.
const (
	DeedDetach Deed = "detach" // a disk from an appliance
	DeedRemove Deed = "remove" // a VM snapshot
	DeedAbort  Deed = "abort"  // a draft
	DeedDelete Deed = "delete" // a completed EBS snapshot of a half-made point
	DeedLeave  Deed = "leave"  // alone
)

// LeftoverKind is what was found.
type LeftoverKind string

// The kinds.
const (
	LeftDisk     LeftoverKind = "attached disk"
	LeftSnapshot LeftoverKind = "VM snapshot"
	LeftDraft    LeftoverKind = "draft"
	LeftHalf     LeftoverKind = "half-made point"
	// LeftConversion is a completed conversion whose point is gone.
	LeftConversion LeftoverKind = "conversion of no point"
)

// Action is what is to be done about one thing, and why, for a person.
type Action struct {
	Do        Deed         `json:"do"`
	Kind      LeftoverKind `json:"kind"`
	ID        string       `json:"id"`   // slot, moref or EBS snapshot
	Name      string       `json:"name"` // file, name or disk
	VM        VMID         `json:"vm"`
	VMName    string       `json:"vmName,omitempty"`
	Appliance ApplianceID  `json:"appliance"`
	Cycle     CycleID      `json:"cycle"`
	Since     time.Time    `json:"since"` // zero: nobody knows
	Reason    string       `json:"reason"`

	disk     MarkedDisk
	snapshot MarkedSnapshot
}

// Reap decides what is done about everything that exists with our mark: a pure
// function. Detaching comes before removing VM snapshots. Ownership is what the
// mark says, appliance and cycle; a name proves nothing. Completed snapshots
// are in the result only where their cycle made no complete point.
func Reap(f Found, k Alive) []Action {
	r := reap{Found: f, Alive: k, points: Points(slices.Clone(f.EBS))}
	var all []Action
	for _, d := range f.Disks {
		all = append(all, r.disk(d))
	}
	stuck := slices.Clone(all)
	for _, s := range f.Snapshots {
		all = append(all, r.snapshot(s, stuck))
	}
	for _, s := range f.EBS {
		if s.State == Pending || s.State == Failed {
			all = append(all, r.draft(s))
		}
	}
	for _, s := range OrphanedConversions(f.EBS) {
		all = append(all, r.orphanedConversion(s)...)
	}
	for _, p := range r.points {
		if !p.Complete {
			all = append(all, r.half(p)...)
		}
	}
	return all
}

type reap struct {
	Found
	Alive
	points []Point // of Found.EBS, newest first
}

// hands says why something is not to be touched by this appliance, or "".
func (r *reap) hands(vm VMID, owner ApplianceID, cycle CycleID) string {
	switch {
	case owner == "" || cycle == "":
		return "its mark does not say of which appliance and cycle it is"
	case owner != r.Appliance && !slices.Contains(r.Dead, owner):
		return fmt.Sprintf("it belongs to appliance %s; if that never runs again: snapferry clean --appliance %s --dead", owner, owner)
	}
	return r.Live[vm]
}

// dead reports that a person declared the owner dead.
func (r *reap) dead(owner ApplianceID) bool {
	return owner != r.Appliance && slices.Contains(r.Dead, owner)
}

// orphan says why something has no owner any more.
func (r *reap) orphan(owner ApplianceID, cycle CycleID) string {
	if r.dead(owner) {
		return fmt.Sprintf("appliance %s is declared dead", owner)
	}
	return fmt.Sprintf("cycle %s does not run any more", cycle)
}

func (r *reap) disk(d MarkedDisk) Action {
	a := Action{Do: DeedLeave, Kind: LeftDisk, ID: d.Slot, Name: d.File, VM: d.VM, Appliance: d.Appliance, Cycle: d.Cycle, disk: d}
	switch why := r.hands(d.VM, d.Appliance, d.Cycle); {
	case why != "":
		a.Reason = why
	case d.Live:
		a.Reason = "a reader has it open"
	default:
		a.Do, a.Reason = DeedDetach, r.orphan(d.Appliance, d.Cycle)
	}
	return a
}

// snapshot leaves a VM snapshot as long as a disk of its VM stays attached: to
// remove it then leaves the VM in need of consolidation.
func (r *reap) snapshot(s MarkedSnapshot, disks []Action) Action {
	a := Action{Do: DeedLeave, Kind: LeftSnapshot, ID: s.Snapshot, Name: s.Name, VM: s.VM, VMName: s.VMName,
		Appliance: s.Appliance, Cycle: s.Cycle, Since: s.Created, snapshot: s}
	stays := slices.IndexFunc(disks, func(d Action) bool { return d.Do == DeedLeave && d.VM == s.VM })
	switch why := r.hands(s.VM, s.Appliance, s.Cycle); {
	case why != "":
		a.Reason = why
	case r.NoDisks != "":
		a.Reason = "a disk of it may be attached: " + r.NoDisks
	case stays >= 0:
		a.Reason = fmt.Sprintf("%s of its VM stays attached: %s", disks[stays].Name, disks[stays].Reason)
	default:
		a.Do, a.Reason = DeedRemove, r.orphan(s.Appliance, s.Cycle)
	}
	return a
}

func (r *reap) ebs(s Snapshot, kind LeftoverKind) Action {
	l := s.Label
	return Action{Do: DeedLeave, Kind: kind, ID: string(s.ID), Name: l.DiskLabel, VM: l.VM, VMName: l.VMName,
		Appliance: l.Appliance, Cycle: l.Cycle, Since: s.Started}
}

func (r *reap) draft(s Snapshot) Action {
	a := r.ebs(s, LeftDraft)
	j, journaled := r.journal(s)
	last := latest(s.Started, j.Written)
	sealing := s.Label.Blocks >= 0 && r.Now.Sub(latest(s.Started, s.Label.Frozen)) < DraftTimeout
	switch why := r.hands(s.Label.VM, s.Label.Appliance, s.Label.Cycle); {
	case why != "":
		a.Reason = why
	case s.State == Failed:
		a.Do, a.Reason = DeedAbort, "EC2 ended it in error: "+cmp.Or(s.Message, "no reason given")
	case sealing: // its tags come just before CompleteSnapshot
		a.Reason = "its seal has begun: EC2 may yet complete it"
	case journaled && r.Now.Sub(last) >= DraftTimeout:
		a.Do, a.Reason = DeedAbort, fmt.Sprintf("nothing was put since %s, and AWS drops a draft after %v", last.UTC().Format(time.RFC3339), DraftTimeout)
	case journaled && slices.Contains(r.Ended, s.Label.VM):
		a.Do, a.Reason = DeedAbort, "the replication of its VM has ended"
	case journaled:
		a.Reason = "the next cycle goes on with it"
	case !r.dead(s.Label.Appliance) && s.Label.Kind == Conversion && r.Now.Sub(s.Started) < ConversionGrace:
		a.Reason = fmt.Sprintf("it is younger than %v: a conversion may be writing it", ConversionGrace)
	case !r.dead(s.Label.Appliance) && r.Now.Sub(s.Started) < DraftGrace:
		a.Reason = fmt.Sprintf("it is younger than %v: a cycle that is not seen here may be starting it", DraftGrace)
	default:
		a.Do, a.Reason = DeedAbort, r.orphan(s.Label.Appliance, s.Label.Cycle)+", and no journal here can go on with it"
	}
	return a
}

// journal finds the journal that names a draft, by its ID or, where the answer
// to its start was lost, by what started it.
func (r *reap) journal(s Snapshot) (JournaledDraft, bool) {
	for _, j := range r.Journals {
		if j.VM == s.Label.VM && (j.Draft == s.ID || j.Draft == "" && j.Cycle == s.Label.Cycle && j.Disk == s.Label.Disk) {
			return j, true
		}
	}
	return JournaledDraft{}, false
}

// half judges the completed snapshots of a cycle that has no complete point.
// Those of other appliances are not ours to mention.
func (r *reap) half(p Point) (all []Action) {
	for _, s := range p.Disks {
		if s.State != Completed || (s.Label.Appliance != r.Appliance && !r.dead(s.Label.Appliance)) {
			continue
		}
		a := r.ebs(s, LeftHalf)
		base, _ := Baseline(r.ofVM(p.VM), s.Label.Disk)
		switch why := cmp.Or(r.hands(p.VM, s.Label.Appliance, s.Label.Cycle), r.mayMatter(p)); {
		case why != "":
			a.Reason = why
		case base == nil || (base.ID == s.ID && !LostDisk(r.newest(p.VM), &s)):
			a.Reason = "the next delta of this disk builds on it"
		case r.isParent(s.ID):
			a.Reason = "a draft builds on it"
		default:
			a.Do, a.Reason = DeedDelete, "its cycle never became a point ("+p.Missing+"), and newer points of the VM exist"
		}
		all = append(all, a)
	}
	return all
}

// mayMatter says why a point that is not complete may still become one, or have
// been one, or "". What somebody deletes of a complete point by hand is no
// reason to delete the rest.
func (r *reap) mayMatter(p Point) string {
	if r.NoEBS != "" {
		return "its siblings cannot all be read: " + r.NoEBS
	}
	here := map[DiskID]bool{}
	for _, s := range p.Disks {
		here[s.Label.Disk] = true
		switch {
		case s.State == Pending:
			return "a sibling is a draft still"
		case !s.Label.Confirmed.IsZero():
			return wasComplete
		}
	}
	if len(p.Disks) < p.Disks[0].Label.Of && r.lostSibling(p, here) {
		return wasComplete
	}
	return ""
}

const wasComplete = "its point may once have been complete: retention looks after it"

// lostSibling reports that a disk that the cycle has no snapshot of went on from
// one that is gone now: it may have been the cycle's.
func (r *reap) lostSibling(p Point, here map[DiskID]bool) bool {
	all := r.ofVM(p.VM)
	there := map[SnapshotID]bool{}
	next := map[DiskID]Snapshot{} // the first one after the cycle
	for _, s := range all {
		there[s.ID] = true
		if s.Label.Kind == Conversion {
			continue // it says nothing about what the source's disk went on from
		}
		if n, ok := next[s.Label.Disk]; s.Label.Frozen.After(p.Frozen) && (!ok || newer(&n, &s)) {
			next[s.Label.Disk] = s
		}
	}
	for disk, n := range next {
		if !here[disk] && n.Label.Parent != "" && !there[n.Label.Parent] {
			return true
		}
	}
	return false
}

// newest is the VM's newest complete point, or nil.
func (r *reap) newest(vm VMID) *Point {
	if i := slices.IndexFunc(r.points, func(p Point) bool { return p.Complete && p.VM == vm }); i >= 0 {
		return &r.points[i]
	}
	return nil
}

// isParent reports that a draft builds on a snapshot.
func (r *reap) isParent(id SnapshotID) bool {
	return slices.ContainsFunc(r.EBS, func(s Snapshot) bool { return s.State == Pending && s.Label.Parent == id })
}

func (r *reap) ofVM(vm VMID) []Snapshot {
	return slices.DeleteFunc(slices.Clone(r.EBS), func(s Snapshot) bool { return s.Label.VM != vm })
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
