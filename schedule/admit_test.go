package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

func appliance(id string, datastores ...string) Appliance {
	return Appliance{ID: transfer.ApplianceID(id), VCenter: "vc", Account: "1/eu", Alive: true, Datastores: datastores}
}

// queued is a run of two disks on host h1 and datastore d1, queued n minutes
// after the epoch.
func queued(run int64, change ...func(*Place)) Place {
	p := Place{Run: run, VM: transfer.VMID{VCenter: "vc", Moref: fmt.Sprint("vm-", run)}, Host: "h1", Datastores: []string{"d1"}, Disks: 2, Queued: run * 1000}
	for _, f := range change {
		f(&p)
	}
	return p
}

func onHost(h string) func(*Place)      { return func(p *Place) { p.Host = h } }
func onStores(d ...string) func(*Place) { return func(p *Place) { p.Datastores = d } }
func withDisks(n int) func(*Place)      { return func(p *Place) { p.Disks = n } }
func withPriority(n int) func(*Place)   { return func(p *Place) { p.Priority = n } }
func urgent(p *Place)                   { p.Urgent = true }
func queuedAt(d time.Duration) func(*Place) {
	return func(p *Place) { p.Queued = d.Milliseconds() }
}
func at(a string) func(*Place) {
	return func(p *Place) { p.Appliance, p.Account = transfer.ApplianceID(a), "1/eu" }
}
func inVCenter(vc string) func(*Place) { return func(p *Place) { p.VM.VCenter = vc } }

// granted is "run@appliance run@appliance".
func granted(gs []Grant) string {
	var all []string
	for _, g := range gs {
		all = append(all, fmt.Sprintf("%d@%s", g.Run, g.Appliance))
	}
	return strings.Join(all, " ")
}

func TestAdmit(t *testing.T) {
	far := appliance("b")
	far.VCenter = "vc2"
	dead, leaving := appliance("b"), appliance("b")
	dead.Alive, leaving.Draining = false, true
	other := appliance("b")
	other.Account = "2/eu"
	for name, x := range map[string]struct {
		s    Scene
		want string
		why  string // of run 9
	}{
		"nothing":   {Scene{Appliances: []Appliance{appliance("a")}}, "", ""},
		"no limits": {Scene{Queued: []Place{queued(1), queued(2)}, Appliances: []Appliance{appliance("a")}}, "1@a 2@a", ""},
		"order": {Scene{Queued: []Place{queued(1), queued(2, withPriority(5)), queued(3, urgent), queued(4, withPriority(5), queuedAt(0)), queued(0, queuedAt(time.Second))},
			Appliances: []Appliance{appliance("a")}}, "3@a 4@a 2@a 0@a 1@a", ""},
		"host": {Scene{Limits: Limits{PerHost: 2}, Active: []Place{queued(1, at("a"))}, Queued: []Place{queued(2), queued(9), queued(10, onHost("h2"))},
			Appliances: []Appliance{appliance("a")}}, "2@a 10@a", "2 of 2 runs on host h1"},
		"a host of that name elsewhere": {Scene{Limits: Limits{PerHost: 1}, Active: []Place{queued(1, at("b"), inVCenter("vc2"))}, Queued: []Place{queued(2)},
			Appliances: []Appliance{appliance("a"), far}}, "2@a", ""},
		"vCenter": {Scene{Limits: Limits{PerVCenter: 1}, Active: []Place{queued(1, at("a"))}, Queued: []Place{queued(9), queued(10, inVCenter("vc2"))},
			Appliances: []Appliance{appliance("a"), far}}, "10@b", "1 of 1 runs on its vCenter"},
		"datastore": {Scene{Limits: Limits{PerDatastore: 1}, Active: []Place{queued(1, at("a"))}, Queued: []Place{queued(9, onStores("d2", "d1")), queued(10, onStores("d2", "d2"))},
			Appliances: []Appliance{appliance("a")}}, "10@a", "1 of 1 runs on datastore d1"},
		"appliance's runs": {Scene{Limits: Limits{PerAppliance: 1}, Queued: []Place{queued(2), queued(3), queued(9)},
			Appliances: []Appliance{appliance("a"), appliance("b")}}, "2@a 3@b", "1 of 1 runs on appliance a; 1 of 1 runs on appliance b"},
		"appliance's disks": {Scene{Limits: Limits{Disks: 5}, Active: []Place{queued(1, at("a"))}, Queued: []Place{queued(9, withDisks(4)), queued(10, withDisks(3))},
			Appliances: []Appliance{appliance("a")}}, "10@a", "2 of 5 disks on appliance a, and it has 4 disks"},
		"drafts": {Scene{Limits: Limits{Drafts: 5}, Active: []Place{queued(1, at("a"))}, Queued: []Place{queued(9, withDisks(4)), queued(10, withDisks(3))},
			Appliances: []Appliance{appliance("a")}}, "10@a", "2 of 5 pending snapshots in account 1/eu, and it has 4 disks"},
		"another account": {Scene{Limits: Limits{Drafts: 5}, Active: []Place{queued(1, at("a"))}, Queued: []Place{queued(9, withDisks(4))},
			Appliances: []Appliance{appliance("a"), other}}, "9@b", "it starts now"},
		"fewest disks": {Scene{Active: []Place{queued(1, at("a"), withDisks(9))}, Queued: []Place{queued(2, withDisks(8)), queued(3), queued(4)},
			Appliances: []Appliance{appliance("a"), appliance("b")}}, "2@b 3@b 4@a", ""},
		"reach": {Scene{Queued: []Place{queued(9, onStores("d1", "d2")), queued(10, onStores("d2"))},
			Appliances: []Appliance{appliance("a", "d1"), appliance("b", "d2")}}, "10@b", "no living appliance reaches all of its datastores: d1, d2"},
		"no reach": {Scene{Queued: []Place{queued(9, onStores("d1", "d7"))}, Appliances: []Appliance{appliance("a", "d1"), appliance("b", "d2")}},
			"", "no living appliance reaches datastore d7"},
		"dead":          {Scene{Queued: []Place{queued(9)}, Appliances: []Appliance{dead}}, "", "no living appliance works with its vCenter"},
		"draining":      {Scene{Queued: []Place{queued(9)}, Appliances: []Appliance{leaving}}, "", "no living appliance works with its vCenter"},
		"other vCenter": {Scene{Queued: []Place{queued(9)}, Appliances: []Appliance{far}}, "", "no living appliance works with its vCenter"},
		"too big": {Scene{Limits: Limits{Disks: 60}, Queued: []Place{queued(9, withDisks(61)), queued(10)}, Appliances: []Appliance{appliance("a")}},
			"10@a", "it has 61 disks, and an appliance takes 60: raise limits.disks or leave disks out"},
		"too many drafts": {Scene{Limits: Limits{Drafts: 10}, Queued: []Place{queued(9, withDisks(11))}, Appliances: []Appliance{appliance("a")}},
			"", "it has 11 disks, and the account may have 10 pending snapshots: raise limits.drafts or leave disks out"},
		"passed by": {Scene{Limits: Limits{Disks: 10}, Active: []Place{queued(1, at("a"), withDisks(5))},
			Queued:     []Place{queued(9, withDisks(8)), queued(10, queuedAt(59*time.Minute))},
			Appliances: []Appliance{appliance("a")}}, "10@a", "5 of 10 disks on appliance a, and it has 8 disks"},
		"not for ever": {Scene{Limits: Limits{Disks: 10}, Active: []Place{queued(2, at("a"), withDisks(5))},
			Queued:     []Place{queued(1, withDisks(8)), queued(9, urgent, queuedAt(61*time.Minute))},
			Appliances: []Appliance{appliance("a")}}, "", "5 of 10 disks on appliance a and 8 kept for run 1, which has waited longest, and it has 2 disks"},
		"others elsewhere": {Scene{Limits: Limits{PerHost: 1}, Active: []Place{queued(2, at("a"))},
			Queued:     []Place{queued(1), queued(9, queuedAt(61*time.Minute)), queued(10, onHost("h2"), queuedAt(61*time.Minute))},
			Appliances: []Appliance{appliance("a")}}, "10@a", "1 of 1 runs on host h1 and 1 kept for run 1, which has waited longest"},
		"the longest first": {Scene{Limits: Limits{PerHost: 1},
			Queued:     []Place{queued(1), queued(9, urgent, withPriority(7), queuedAt(61*time.Minute))},
			Appliances: []Appliance{appliance("a")}}, "1@a", "1 of 1 runs on host h1"},
		"of an hour by rank": {Scene{Limits: Limits{PerHost: 1},
			Queued:     []Place{queued(1), queued(2, withPriority(1)), queued(9, urgent, queuedAt(2*time.Hour))},
			Appliances: []Appliance{appliance("a")}}, "2@a", "1 of 1 runs on host h1"},
		"nothing is kept for one too big": {Scene{Limits: Limits{Disks: 10},
			Queued:     []Place{queued(1, withDisks(11)), queued(9, queuedAt(61*time.Minute))},
			Appliances: []Appliance{appliance("a")}}, "9@a", "it starts now"},
		"nor for one that nobody reaches": {Scene{Limits: Limits{PerHost: 1},
			Queued:     []Place{queued(1, onStores("d2")), queued(9, queuedAt(61*time.Minute))},
			Appliances: []Appliance{appliance("a", "d1")}}, "9@a", "it starts now"},
		"kept where it has room": {Scene{Limits: Limits{PerHost: 1, Disks: 4, Drafts: 4},
			Active: []Place{queued(2, at("c"), withDisks(4)), queued(3, onHost("h2"), withDisks(1), func(p *Place) { p.Appliance, p.Account = "b", "2/eu" })},
			Queued: []Place{queued(1), queued(9, onHost("h3"), queuedAt(61*time.Minute))}, Appliances: []Appliance{appliance("a"), other, appliance("c")}},
			"", "4 of 4 pending snapshots in account 1/eu, and it has 2 disks; 1 of 4 disks on appliance b and 2 kept for run 1, which has waited longest, and it has 2 disks; 4 of 4 disks on appliance c, and it has 2 disks"},
		"unknown hosts are not one host": {Scene{Limits: Limits{PerHost: 1}, Queued: []Place{queued(1, onHost("")), queued(9, onHost(""))},
			Appliances: []Appliance{appliance("a")}}, "1@a 9@a", "it starts now"},
	} {
		if got := granted(Admit(x.s)); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
		if got := WhyWaiting(x.s, 9); got != x.why {
			t.Errorf("%s: %q, want %q", name, got, x.why)
		}
	}
}

// fleet is a random world in which runs come and go.
type fleet struct {
	r     *rand.Rand
	scene Scene
	ends  map[int64]int // when active runs end
	next  int64
}

func newFleet(seed uint64) *fleet {
	r := rand.New(rand.NewPCG(seed, 6))
	f := &fleet{r: r, ends: map[int64]int{}}
	f.scene.Limits = Limits{PerVCenter: r.IntN(9), PerHost: r.IntN(4), PerDatastore: r.IntN(5), PerAppliance: r.IntN(6), Disks: 6 + r.IntN(12), Drafts: 8 + r.IntN(20)}
	for i := range 1 + r.IntN(4) {
		a := Appliance{ID: transfer.ApplianceID(fmt.Sprint("a", i)), VCenter: fmt.Sprint("vc", r.IntN(2)), Account: fmt.Sprint("acc", r.IntN(2)), Alive: true}
		if r.IntN(3) == 0 {
			a.Datastores = []string{"d0", "d1", "d2"}
		}
		f.scene.Appliances = append(f.scene.Appliances, a)
	}
	return f
}

func (f *fleet) place(queued int64) Place {
	r := f.r
	f.next++
	p := Place{Run: f.next, VM: transfer.VMID{VCenter: fmt.Sprint("vc", r.IntN(2)), Moref: fmt.Sprint("vm-", f.next)}, Host: fmt.Sprint("h", r.IntN(4)),
		Disks: 1 + r.IntN(4), Urgent: r.IntN(20) == 0, Priority: r.IntN(3), Queued: queued}
	if r.IntN(12) == 0 {
		p.Disks = 8 + r.IntN(12)
	}
	for range 1 + r.IntN(2) {
		p.Datastores = append(p.Datastores, fmt.Sprint("d", r.IntN(5)))
	}
	return p
}

// possible is a run that fits into the fleet when it is idle.
func (f *fleet) possible(queued int64) Place {
	for {
		p := f.place(queued)
		if len(Admit(Scene{Limits: f.scene.Limits, Appliances: f.scene.Appliances, Queued: []Place{p}})) > 0 {
			return p
		}
	}
}

// apply moves what was granted to the active ones.
func (f *fleet) apply(t *testing.T, gs []Grant, now int) {
	for _, g := range gs {
		i := slices.IndexFunc(f.scene.Queued, func(p Place) bool { return p.Run == g.Run })
		j := slices.IndexFunc(f.scene.Appliances, func(a Appliance) bool { return a.ID == g.Appliance })
		if i < 0 || j < 0 || f.scene.Queued[i].VM != g.VM {
			t.Fatalf("%+v grants what is not there", g)
		}
		p, a := f.scene.Queued[i], f.scene.Appliances[j]
		if !a.Alive || a.Draining || a.VCenter != p.VM.VCenter || !a.Reaches(p.Datastores) {
			t.Fatalf("%+v goes to %+v", p, a)
		}
		p.Appliance, p.Account = a.ID, a.Account
		f.scene.Queued = slices.Delete(f.scene.Queued, i, i+1)
		f.scene.Active = append(f.scene.Active, p)
		f.ends[p.Run] = now + 1 + f.r.IntN(40)
	}
}

// check counts anew, in the plainest way.
func (f *fleet) check(t *testing.T) {
	t.Helper()
	l := f.scene.Limits
	count := func(limit int, what string, of func(Place) []string, n func(Place) int) {
		if limit == 0 {
			return
		}
		sums := map[string]int{}
		for _, p := range f.scene.Active {
			for _, k := range of(p) {
				if sums[k] += n(p); sums[k] > limit {
					t.Fatalf("%s %s has more than %d: %+v", what, k, limit, f.scene.Active)
				}
			}
		}
	}
	one := func(Place) int { return 1 }
	disks := func(p Place) int { return p.Disks }
	count(l.PerVCenter, "vCenter", func(p Place) []string { return []string{p.VM.VCenter} }, one)
	count(l.PerHost, "host", func(p Place) []string { return []string{p.VM.VCenter + p.Host} }, one)
	count(l.PerDatastore, "datastore", func(p Place) []string {
		var all []string
		for _, d := range p.Datastores {
			if k := p.VM.VCenter + d; !slices.Contains(all, k) {
				all = append(all, k)
			}
		}
		return all
	}, one)
	count(l.PerAppliance, "appliance", func(p Place) []string { return []string{string(p.Appliance)} }, one)
	count(l.Disks, "appliance", func(p Place) []string { return []string{string(p.Appliance)} }, disks)
	count(l.Drafts, "account", func(p Place) []string { return []string{p.Account} }, disks)
}

// TestAdmitNeverBreaksALimit lets random fleets run under a load that never
// ends, of runs that often go before what waits; and what would fit into an
// idle fleet does start, however large and unimportant it is.
func TestAdmitNeverBreaksALimit(t *testing.T) {
	for seed := range uint64(14) {
		f := newFleet(seed)
		const minutes = 700
		for now := range minutes {
			f.scene.Active = slices.DeleteFunc(f.scene.Active, func(p Place) bool { return f.ends[p.Run] <= now })
			for len(f.scene.Queued) < 12 { // more than there is room for
				f.scene.Queued = append(f.scene.Queued, f.possible(int64(now)*60_000))
			}
			gs := Admit(f.scene)
			if now%50 == 0 {
				f.saysWhy(t, gs)
			}
			f.apply(t, gs, now)
			f.check(t)
			if now < 60 { // nobody is kept a place yet
				if again := Admit(f.scene); len(again) > 0 {
					t.Fatalf("seed %d: right after admitting, %v more are admitted", seed, again)
				}
			}
		}
		for _, p := range f.scene.Queued {
			if waited := minutes - p.Queued/60_000; waited > 400 {
				t.Errorf("seed %d: %+v waits for %d minutes: %s", seed, p, waited, WhyWaiting(f.scene, p.Run))
			}
		}
	}
}

func (f *fleet) saysWhy(t *testing.T, gs []Grant) {
	t.Helper()
	why := Waiting(f.scene)
	for _, p := range f.scene.Queued {
		starts := slices.ContainsFunc(gs, func(g Grant) bool { return g.Run == p.Run })
		if why[p.Run] == "" || (why[p.Run] == "it starts now") != starts {
			t.Fatalf("%+v starts: %v, and says %q", p, starts, why[p.Run])
		}
	}
}

func TestAdmitChangesNothing(t *testing.T) {
	f := newFleet(1)
	for n := range 20 {
		f.scene.Queued = append(f.scene.Queued, f.place(int64(n)))
	}
	before := fmt.Sprint(f.scene)
	Admit(f.scene)
	if after := fmt.Sprint(f.scene); after != before {
		t.Errorf("the scene was\n%s\nand is\n%s", before, after)
	}
}

func BenchmarkAdmit2000(b *testing.B) {
	f := newFleet(7)
	f.scene.Limits = DefaultLimits()
	for n := range 2000 {
		p := f.place(int64(n))
		p.Host, p.Datastores = fmt.Sprint("h", n%100), []string{fmt.Sprint("d", n%40)}
		f.scene.Queued = append(f.scene.Queued, p)
	}
	for i := range f.scene.Appliances {
		f.scene.Appliances[i].Datastores = nil
	}
	for b.Loop() {
		Admit(f.scene)
	}
}
