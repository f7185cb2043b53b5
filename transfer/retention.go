package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy says which recovery points of a VM stay: those that any rule keeps. A
// point's time is its Instant, so that one which is confirmed day after day
// stands for all those days. Days, weeks and months are those of Location and
// only count where they have a point: a VM that is off for a month loses none.
type Policy struct {
	Last    int `json:"last"`    // the newest n
	Days    int `json:"days"`    // all of the last n days
	Daily   int `json:"daily"`   // the newest of each of n days
	Weekly  int `json:"weekly"`  // the newest of each of n ISO weeks
	Monthly int `json:"monthly"` // the newest of each of n months

	Location *time.Location `json:"-" yaml:"-"` // nil is UTC
}

// DefaultPolicy holds where nobody says otherwise: at most 14 points however
// often a VM is replicated. The last three outlive a guest that broke and was
// replicated once or twice before anybody looked; seven days and four weeks
// reach back behind most of what is noticed late. It is never "all": snapshots
// are paid for every month, and a region holds 100,000 of them.
func DefaultPolicy() Policy { return Policy{Last: 3, Daily: 7, Weekly: 4} }

// Check refuses a policy that keeps nothing: it can only be a mistake.
func (p Policy) Check() error {
	for _, n := range []int{p.Last, p.Days, p.Daily, p.Weekly, p.Monthly} {
		if n < 0 {
			return fmt.Errorf("keep %d: a number of points or days cannot be negative", n)
		}
	}
	if p.Last+p.Days+p.Daily+p.Weekly+p.Monthly == 0 {
		return errors.New("the policy keeps no recovery point at all")
	}
	return nil
}

// Verdict is what becomes of one point.
type Verdict struct {
	Point Point  `json:"point"`
	Keep  bool   `json:"keep"`
	Why   string `json:"why"` // for a person, one line
}

// Retain judges every point, in the order in which they come; points must be
// all there are of each VM that occurs. It is pure and never gives up
//   - the newest complete point of a VM, nor the newest that is not suspect,
//   - a point with a snapshot that inUse says is used,
//   - a point with a snapshot that the next draft of some disk would build on,
//     unless the VM has lost the disk, or that a pending draft builds on,
//   - what is not complete: it may be a cycle that still runs, and is the
//     reaper's business. The one exception is what a deletion that broke off
//     has left (see remains).
//
// inUse may be nil. A policy that Check refuses keeps everything.
func Retain(points []Point, policy Policy, now time.Time, inUse func(SnapshotID) (why string, used bool)) []Verdict {
	verdicts := make([]Verdict, len(points))
	if err := policy.Check(); err != nil {
		for i, p := range points {
			verdicts[i] = Verdict{Point: p, Keep: true, Why: err.Error()}
		}
		return verdicts
	}
	vms := map[VMID]*retention{}
	for _, p := range points {
		r := vms[p.VM]
		if r == nil {
			r = &retention{policy: policy, now: now, inUse: inUse}
			vms[p.VM] = r
		}
		r.add(p)
	}
	for _, r := range vms {
		r.prepare()
	}
	for i, p := range points {
		keep, why := vms[p.VM].judge(p)
		verdicts[i] = Verdict{Point: p, Keep: keep, Why: why}
	}
	return verdicts
}

// retention is what is known about the points of one VM.
type retention struct {
	policy Policy
	now    time.Time
	inUse  func(SnapshotID) (string, bool)

	all      []Snapshot
	complete []Point
	newest   *Point                // of the complete ones, as Points orders
	sound    *Point                // … of those that nothing calls suspect
	kept     map[CycleID][]string  // by which rules
	needed   map[SnapshotID]string // what a draft builds on, or will
}

func (r *retention) add(p Point) {
	r.all = append(append(r.all, p.Disks...), p.Conversions...)
	if p.Complete {
		r.complete = append(r.complete, p)
	}
}

func (r *retention) prepare() {
	slices.SortFunc(r.complete, newestFirst)
	r.kept = r.policy.keeps(r.complete, r.now)
	for i := range r.complete {
		p := &r.complete[i]
		if newerPoint(p, r.newest) {
			r.newest = p
		}
		if p.Suspect == "" && newerPoint(p, r.sound) {
			r.sound = p
		}
	}
	r.needed = map[SnapshotID]string{}
	looked := map[DiskID]bool{}
	for _, s := range r.all {
		if looked[s.Label.Disk] {
			continue
		}
		looked[s.Label.Disk] = true
		if base, _ := Baseline(r.all, s.Label.Disk); base != nil && !LostDisk(r.newest, base) {
			r.needed[base.ID] = "the next delta of " + base.Label.DiskLabel + " builds on " + string(base.ID)
		}
	}
	for _, s := range r.all {
		if s.State == Pending && s.Label.Parent != "" {
			r.needed[s.Label.Parent] = fmt.Sprintf("the draft %s builds on %s", s.ID, s.Label.Parent)
		}
	}
}

func newerPoint(p, than *Point) bool {
	return than == nil || cmp.Or(p.Frozen.Compare(than.Frozen), cmp.Compare(p.Cycle, than.Cycle)) > 0
}

// newestFirst orders by the latest moment whose data the points hold.
func newestFirst(a, b Point) int {
	return cmp.Or(b.Instant().Compare(a.Instant()), b.Frozen.Compare(a.Frozen), cmp.Compare(b.Cycle, a.Cycle))
}

func (r *retention) judge(p Point) (keep bool, why string) {
	if !p.Complete {
		return r.judgeRest(p)
	}
	var reasons []string
	if p.Cycle == r.newest.Cycle {
		reasons = append(reasons, "the newest complete point")
	} else if r.sound != nil && p.Cycle == r.sound.Cycle {
		reasons = append(reasons, "the newest point that is not suspect")
	}
	reasons = append(reasons, r.kept[p.Cycle]...)
	reasons = append(reasons, r.needs(p)...)
	if len(reasons) > 0 {
		return true, strings.Join(reasons, ", ")
	}
	return false, "no rule keeps it"
}

// needs says why snapshots of a point must not go, whatever the rules say.
func (r *retention) needs(p Point) (reasons []string) {
	for _, s := range slices.Concat(p.Disks, p.Conversions) {
		if r.inUse != nil {
			if why, used := r.inUse(s.ID); used {
				reasons = append(reasons, fmt.Sprintf("%s is in use: %s", s.ID, why))
			}
		}
		if why := r.needed[s.ID]; why != "" {
			reasons = append(reasons, why)
		}
	}
	return reasons
}

// judgeRest judges what is not complete.
func (r *retention) judgeRest(p Point) (keep bool, why string) {
	if why := r.remains(p); why != "" {
		return true, "not complete (" + p.Missing + "): " + why
	}
	if reasons := r.needs(p); len(reasons) > 0 {
		return true, "not complete (" + p.Missing + "): " + strings.Join(reasons, ", ")
	}
	// It goes only if it would have gone when it was whole: one of whose
	// snapshots somebody deleted by hand keeps the others as long.
	whole := append([]Point{p}, r.complete...)
	slices.SortFunc(whole, newestFirst)
	if rules := r.policy.keeps(whole, r.now)[p.Cycle]; len(rules) > 0 {
		return true, "not complete (" + p.Missing + "), its age: " + strings.Join(rules, ", ")
	}
	return false, "what is left of a point that no rule keeps: " + p.Missing
}

// remains says why a point that is not complete is not what a deletion has
// left of one, or "". A deletion leaves some, not all, of the disks, each
// completed, of a point older than the newest complete one; a cycle that runs
// is younger than that, or has a draft.
func (r *retention) remains(p Point) string {
	const reaper = "clean looks after it"
	if r.newest == nil || !p.Frozen.Before(r.newest.Frozen) || len(p.Disks) >= p.Disks[0].Label.Of {
		return reaper
	}
	for i, s := range p.Disks {
		if s.State != Completed || s.Label.Of != p.Disks[0].Label.Of || (i > 0 && s.Label.Ordinal == p.Disks[i-1].Label.Ordinal) {
			return reaper
		}
	}
	return ""
}

// keeps says for each point which rules keep it; points come newest first.
func (p Policy) keeps(points []Point, now time.Time) map[CycleID][]string {
	loc := p.Location
	if loc == nil {
		loc = time.UTC
	}
	kept := map[CycleID][]string{}
	keep := func(pt Point, format string, args ...any) {
		kept[pt.Cycle] = append(kept[pt.Cycle], fmt.Sprintf(format, args...))
	}
	for i, pt := range points[:min(p.Last, len(points))] {
		keep(pt, "last %d of %d", i+1, p.Last)
	}
	if p.Days > 0 {
		since := now.In(loc).AddDate(0, 0, -p.Days) // calendar days: a change of the clocks is no hour too few
		for _, pt := range points {
			if !pt.Instant().Before(since) {
				keep(pt, "of the last %d days", p.Days)
			}
		}
	}
	for _, rule := range []struct {
		n    int
		name string
		of   func(time.Time) string
	}{
		{p.Daily, "newest of ", func(t time.Time) string { return t.Format("2006-01-02") }},
		{p.Weekly, "newest of week ", func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprintf("%04d-W%02d", y, w) }},
		{p.Monthly, "newest of ", func(t time.Time) string { return t.Format("2006-01") }},
	} {
		last, n := "", 0
		for _, pt := range points {
			period := rule.of(pt.Instant().In(loc))
			if period == last {
				continue
			}
			if n++; n > rule.n {
				break
			}
			last = period
			keep(pt, "%s%s", rule.name, period)
		}
	}
	return kept
}
