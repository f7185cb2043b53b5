package schedule

import (
	"fmt"
	"strings"
	"time"

	"snapferry/transfer"
)

// SnapshotQuota is how many snapshots AWS lets an account have in a region
// ("Snapshots per Region", adjustable).
const SnapshotQuota = 100_000

// QuotaOf is how many EBS snapshots a policy keeps at most of disks disks:
// points times disks. The error, an ErrInvalid, spells the sum out when that is
// more than limit (0: SnapshotQuota).
func QuotaOf(p *Policy, disks int, limit int) (n int, err error) {
	if limit <= 0 {
		limit = SnapshotQuota
	}
	points, sum := p.pointsKept()
	n = points * disks
	if n > limit {
		return n, invalidf("policy %s keeps %s of %s: %d × %d = %d snapshots, and AWS grants %d in a region: keep fewer, or replicate less often",
			p.Name, plural(points, "point")+sum, plural(disks, "disk"), points, disks, n, limit)
	}
	return n, nil
}

// Quota refuses policies that together keep more snapshots than AWS grants a
// region. vms are the VMs that the policies are given to (VM.Policy); have is
// how many snapshots there are besides theirs. A policy without VMs counts as
// if it had one disk: what not even that fits is a mistake.
func Quota(ps []Policy, vms []VM, have int) error {
	disks := map[string]int{}
	for i := range vms {
		if vms[i].Policy != "" && !vms[i].Gone {
			disks[vms[i].Policy] += disksOf(ps, &vms[i])
		}
	}
	total := have
	var parts []string
	for i := range ps {
		p := &ps[i]
		n, err := QuotaOf(p, max(1, disks[p.Name]), 0)
		if err != nil {
			return err
		}
		if d := disks[p.Name]; d > 0 {
			points, _ := p.pointsKept()
			total += n
			parts = append(parts, fmt.Sprintf("%s %d × %d = %d", p.Name, points, d, n))
		}
	}
	if total <= SnapshotQuota {
		return nil
	}
	if have > 0 {
		parts = append(parts, fmt.Sprintf("others %d", have))
	}
	return invalidf("the policies keep %d snapshots, and AWS grants %d in a region; points × disks are %s: keep fewer, or replicate less often",
		total, SnapshotQuota, strings.Join(parts, ", "))
}

// disksOf is how many disks of a VM are replicated.
func disksOf(ps []Policy, vm *VM) int {
	for i := range ps {
		if ps[i].Name == vm.Policy {
			if disks, _, err := transfer.ChooseDisks(vm.VM, ps[i].Exclude); err == nil {
				return len(disks)
			}
		}
	}
	return len(vm.Disks)
}

// pointsKept is how many points of a VM the retention keeps at most, and how
// that comes about where it is not plain from the rules. Rules overlap: the
// newest points and the newest of the last days are among all of those days.
func (p *Policy) pointsKept() (n int, sum string) {
	r := p.Rules()
	all := 0
	if r.Days > 0 {
		all = p.pointsIn(r.Days)
		sum = fmt.Sprintf(" (%d in %s)", all, plural(r.Days, "day"))
	}
	return max(r.Last, all) + max(0, r.Daily-r.Days) + r.Weekly + r.Monthly, sum
}

// pointsIn is how many points come into being in so many days at most.
func (p *Policy) pointsIn(days int) int {
	switch {
	case p.Every > 0:
		return perDays(days, p.Every.Std())
	case p.Adaptive != nil && p.Adaptive.Floor > 0:
		return perDays(days, p.Adaptive.Floor.Std())
	case p.Cron != "":
		return cronPointsIn(p.Cron, days)
	}
	return 0
}

func perDays(days int, interval time.Duration) int {
	return int((time.Duration(days)*day + interval - 1) / interval)
}

// cronPointsIn counts instants: the most in so many days on end, wherever in
// four years (with their leap day) those lie.
func cronPointsIn(expr string, days int) int {
	r, err := parseCron(expr, time.UTC)
	if err != nil {
		return 0
	}
	const years = 4*365 + 1
	if days > years {
		return days/years*cronPointsIn(expr, years) + cronPointsIn(expr, days%years)
	}
	if days == 0 {
		return 0
	}
	perDay := 0 // of a day that matches: all have the same hours and minutes
	firing := make([]bool, years+days)
	for at := r.next(someMonday.Add(-time.Second)); !at.IsZero(); {
		d := int(at.Sub(someMonday) / day)
		if d >= len(firing) {
			break
		}
		firing[d] = true
		dayEnd := someMonday.Add(time.Duration(d+1)*day - time.Second)
		if perDay == 0 {
			for ; !at.IsZero() && !at.After(dayEnd); at = r.next(at) {
				perDay++
			}
			continue
		}
		at = r.next(dayEnd)
	}
	most, now := 0, 0
	for d, on := range firing {
		if on {
			now++
		}
		if d >= days && firing[d-days] {
			now--
		}
		most = max(most, now)
	}
	return most * perDay
}
