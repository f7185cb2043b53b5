package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapferry/transfer"
)

// patience is how long a run lets later ones go before it; then a place is kept
// for it, see Admit. An hour is several cycles of most VMs, so that priorities
// mean something, and short beside a day, so that the last ones come too.
const patience = time.Hour

// Admit says which queued runs start now, and where. It is pure; together with
// what is active the grants never break a limit.
//
// Urgent runs come first, then those of higher priority, then the longest
// queued. One that does not fit is passed over: a full host holds nobody back
// who goes elsewhere.
//
// So that nobody is passed over for ever, one run that has waited for an hour
// and longest of all goes before the others, urgent ones too. If it does not
// fit, it is counted as if it ran: nobody takes the place on its host, its
// datastores or the appliance that it waits for, and as runs end there it comes
// in. A run that would not fit into an idle fleet has no such right. A fleet
// that is more than an hour behind so gives the first place that comes free to
// the longest waiting and all others by rank.
//
// A run goes to the appliance of its vCenter that is alive, does not drain,
// reaches all its datastores, has room, and holds the fewest disks.
func Admit(s Scene) []Grant {
	return admit(s).grants
}

// WhyWaiting says in words why a queued run does not start; "" for a run that
// is not queued.
func WhyWaiting(s Scene, run int64) string { return admit(s).why[run] }

// Waiting is WhyWaiting of all queued runs at once.
func Waiting(s Scene) map[int64]string { return admit(s).why }

// admission is a scene while it is decided upon.
type admission struct {
	limits Limits
	fleet  []Appliance
	used   usage
	grants []Grant
	why    map[int64]string
	kept   *Place // the run that is counted as if it ran, and where
}

func admit(s Scene) *admission {
	a := &admission{limits: s.Limits, fleet: s.Appliances, used: newUsage(), why: map[int64]string{}}
	for i := range s.Active {
		a.used.add(&s.Active[i])
	}
	queued := slices.Clone(s.Queued)
	slices.SortStableFunc(queued, byRank)
	if i := longest(s, queued, a.fitsIdle); i >= 0 {
		first := queued[i]
		queued = slices.Delete(queued, i, i+1)
		a.decide(&first, true)
	}
	for i := range queued {
		a.decide(&queued[i], false)
	}
	return a
}

// decide grants one run or notes why it has to wait. The first of all is kept a
// place if it does not fit.
func (a *admission) decide(p *Place, first bool) {
	on, why := a.room(p)
	if on == nil {
		a.why[p.Run] = why
		if first {
			a.keep(p)
		}
		return
	}
	place := *p
	place.Appliance, place.Account = on.ID, on.Account
	a.used.add(&place)
	a.grants = append(a.grants, Grant{Run: p.Run, VM: p.VM, Appliance: on.ID})
	a.why[p.Run] = "it starts now"
}

// byRank is the order in which runs are looked at.
func byRank(a, b Place) int {
	urgent := func(p Place) int {
		if p.Urgent {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(urgent(a), urgent(b)), cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(a.Queued, b.Queued), cmp.Compare(a.Run, b.Run))
}

// longest is the index of the run that goes before all others, -1 for none: of
// those queued in the same hour of the clock the first by rank, so that which
// one it is does not change to and fro while it waits.
func longest(s Scene, queued []Place, fits func(*Place) bool) int {
	// Only later runs can pass one by: the newest of the scene is clock enough.
	var now int64
	for _, ps := range [][]Place{s.Active, s.Queued} {
		for _, p := range ps {
			now = max(now, p.Queued)
		}
	}
	best, hour := -1, int64(0)
	for i := range queued { // by rank
		h := queued[i].Queued / patience.Milliseconds()
		if now-queued[i].Queued >= patience.Milliseconds() && (best < 0 || h < hour) && fits(&queued[i]) {
			best, hour = i, h
		}
	}
	return best
}

// where names what belongs to one vCenter: two may have a host of one name.
type where struct{ vcenter, name string }

// usage counts what is taken of each limit.
type usage struct {
	vcenters          map[string]int
	hosts, datastores map[where]int
	runs, disks       map[transfer.ApplianceID]int
	drafts            map[string]int
}

func newUsage() usage {
	return usage{map[string]int{}, map[where]int{}, map[where]int{}, map[transfer.ApplianceID]int{}, map[transfer.ApplianceID]int{}, map[string]int{}}
}

func (u *usage) add(p *Place) {
	u.vcenters[p.VM.VCenter]++
	u.hosts[where{p.VM.VCenter, p.Host}]++
	for _, d := range distinct(p.Datastores) {
		u.datastores[where{p.VM.VCenter, d}]++
	}
	u.runs[p.Appliance]++
	u.disks[p.Appliance] += p.Disks
	u.drafts[p.Account] += p.Disks
}

func distinct(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// full reports that n more would break a limit. Zero is no limit.
func full(used, n, limit int) bool { return limit > 0 && used+n > limit }

// room is the appliance on which a run can start now; nil with why it cannot.
func (a *admission) room(p *Place) (on *Appliance, why string) {
	reach := a.reaching(p)
	if len(reach) == 0 {
		return nil, a.unreached(p)
	}
	if why := a.tooBig(p); why != "" {
		return nil, why
	}
	if why := a.crowded(p); why != "" {
		return nil, why
	}
	var full []string
	for _, x := range reach {
		why := a.busy(p, x)
		if why == "" {
			return x, ""
		}
		if !slices.Contains(full, why) {
			full = append(full, why)
		}
	}
	return nil, strings.Join(full, "; ")
}

// crowded says which limit on the source's side is reached.
func (a *admission) crowded(p *Place) string {
	l, u, vc := a.limits, &a.used, p.VM.VCenter
	same := func(k *Place) bool { return k.VM.VCenter == vc }
	if n := u.vcenters[vc]; full(n, 1, l.PerVCenter) {
		return a.taken(n, l.PerVCenter, "runs on its vCenter", same, 1)
	}
	if n := u.hosts[where{vc, p.Host}]; p.Host != "" && full(n, 1, l.PerHost) {
		return a.taken(n, l.PerHost, "runs on host "+p.Host, func(k *Place) bool { return same(k) && k.Host == p.Host }, 1)
	}
	for _, d := range distinct(p.Datastores) {
		if n := u.datastores[where{vc, d}]; full(n, 1, l.PerDatastore) {
			return a.taken(n, l.PerDatastore, "runs on datastore "+d, func(k *Place) bool { return same(k) && slices.Contains(k.Datastores, d) }, 1)
		}
	}
	return ""
}

// busy says which limit of an appliance or its account is reached.
func (a *admission) busy(p *Place, x *Appliance) string {
	l, u := a.limits, &a.used
	here := func(k *Place) bool { return k.Appliance == x.ID }
	if n := u.runs[x.ID]; full(n, 1, l.PerAppliance) {
		return a.taken(n, l.PerAppliance, "runs on appliance "+string(x.ID), here, 1)
	}
	kept, needs := 0, ", and it has "+plural(p.Disks, "disk")
	if a.kept != nil {
		kept = a.kept.Disks
	}
	if n := u.disks[x.ID]; full(n, p.Disks, l.Disks) {
		return a.taken(n, l.Disks, "disks on appliance "+string(x.ID), here, kept) + needs
	}
	if n := u.drafts[x.Account]; full(n, p.Disks, l.Drafts) {
		same := func(k *Place) bool { return k.Account == x.Account }
		return a.taken(n, l.Drafts, "pending snapshots in account "+x.Account, same, kept) + needs
	}
	return ""
}

// taken is how much of a limit is used, and by whom where that is the run for
// which a place is kept.
func (a *admission) taken(used, limit int, what string, by func(kept *Place) bool, kept int) string {
	if a.kept == nil || !by(a.kept) {
		return fmt.Sprintf("%d of %d %s", used, limit, what)
	}
	return fmt.Sprintf("%d of %d %s and %d kept for run %d, which has waited longest", used-kept, limit, what, kept, a.kept.Run)
}

// tooBig says which limit a run breaks all by itself.
func (a *admission) tooBig(p *Place) string {
	switch l := a.limits; {
	case full(0, p.Disks, l.Disks):
		return fmt.Sprintf("it has %s, and an appliance takes %d: raise limits.disks or leave disks out", plural(p.Disks, "disk"), l.Disks)
	case full(0, p.Disks, l.Drafts):
		return fmt.Sprintf("it has %s, and the account may have %d pending snapshots: raise limits.drafts or leave disks out", plural(p.Disks, "disk"), l.Drafts)
	}
	return ""
}

// serves reports whether an appliance takes new runs of a VM's vCenter.
func (x *Appliance) serves(p *Place) bool { return x.Alive && !x.Draining && x.VCenter == p.VM.VCenter }

// reaching are the appliances that could run it, the one with the fewest disks
// first.
func (a *admission) reaching(p *Place) []*Appliance {
	var reach []*Appliance
	for i := range a.fleet {
		if x := &a.fleet[i]; x.serves(p) && x.Reaches(p.Datastores) {
			reach = append(reach, x)
		}
	}
	slices.SortStableFunc(reach, func(x, y *Appliance) int {
		return cmp.Or(cmp.Compare(a.used.disks[x.ID], a.used.disks[y.ID]), cmp.Compare(a.used.runs[x.ID], a.used.runs[y.ID]), cmp.Compare(x.ID, y.ID))
	})
	return reach
}

// unreached says why no appliance could run it.
func (a *admission) unreached(p *Place) string {
	var serving []*Appliance
	for i := range a.fleet {
		if a.fleet[i].serves(p) {
			serving = append(serving, &a.fleet[i])
		}
	}
	if len(serving) == 0 {
		return "no living appliance works with its vCenter"
	}
	for _, d := range distinct(p.Datastores) {
		if !slices.ContainsFunc(serving, func(x *Appliance) bool { return x.Reaches([]string{d}) }) {
			return "no living appliance reaches datastore " + d
		}
	}
	return "no living appliance reaches all of its datastores: " + strings.Join(distinct(p.Datastores), ", ")
}

// fitsIdle reports that a run could start if no other did.
func (a *admission) fitsIdle(p *Place) bool { return len(a.reaching(p)) > 0 && a.tooBig(p) == "" }

// keep counts a run that does not fit as if it ran: on an appliance that has
// room for it, where only the source's side has none, else on the one that
// holds the fewest disks, whose number then only falls.
func (a *admission) keep(p *Place) {
	reach := a.reaching(p)
	on := reach[0]
	if i := slices.IndexFunc(reach, func(x *Appliance) bool { return a.busy(p, x) == "" }); i > 0 {
		on = reach[i]
	}
	place := *p
	place.Appliance, place.Account = on.ID, on.Account
	a.used.add(&place)
	a.kept = &place
}
