package schedule

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"snapferry/transfer"
)

// cycleOf says how the nth run of a VM (from 1), which is due at an instant,
// goes: how long it waits for its turn, how long it takes, and whether it fails.
type cycleOf func(n int, due time.Time) (wait, took time.Duration, fails bool)

// quick is a minute and a half after three seconds in the queue.
func quick(int, time.Time) (wait, took time.Duration, fails bool) {
	return 3 * time.Second, 90 * time.Second, false
}

// player is one VM under a policy: a planner that looks again and again, and
// runs that take their time.
type player struct {
	t     *testing.T
	p     *Policy
	in    DueInput
	due   Due
	cycle cycleOf
	off   func(time.Time) bool // nobody is there to plan

	ended  chan bool // whether the run failed
	frozen time.Time
	dues   []time.Time // what a run was queued for
}

// play runs a VM from an instant on for so long, and returns when runs were
// queued. It is to be called in a bubble.
func play(t *testing.T, p *Policy, vm int, from string, long time.Duration, cycle cycleOf, off func(time.Time) bool) []time.Time {
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(instant(t, from)))
	x := &player{t: t, p: p, in: DueInput{VM: vmid(vm)}, cycle: cycle, off: off, ended: make(chan bool)}
	x.plan()
	running := false
	for end := time.Now().Add(long); time.Now().Before(end) || running; {
		if running {
			x.finish(<-x.ended)
			running = false
			continue
		}
		if !x.due.At.After(time.Now()) && !(x.off != nil && x.off(time.Now())) {
			running = true
			x.dues = append(x.dues, time.Now().UTC())
			go x.run(len(x.dues))
			continue
		}
		// The planner looks every now and then, and whenever something is due.
		time.Sleep(max(time.Second, min(23*time.Minute, time.Until(x.due.At))))
		x.look()
	}
	return x.dues
}

func (x *player) plan() {
	x.in.Now = time.Now()
	x.due = NextDue(x.p, x.in)
}

// look plans anew: the answer must not have moved, unless its time has come.
func (x *player) look() {
	was := x.due.At
	x.plan()
	if x.due.At.Before(was) || (time.Now().Before(was) && !x.due.At.Equal(was)) {
		x.t.Fatalf("at %v the next run is due at %v, and was at %v", time.Now().UTC(), x.due.At.UTC(), was.UTC())
	}
}

func (x *player) run(n int) {
	wait, took, fails := x.cycle(n, x.dues[n-1])
	time.Sleep(wait)
	x.frozen = time.Now()
	time.Sleep(took)
	x.ended <- fails
}

func (x *player) finish(failed bool) {
	now := time.Now()
	if failed {
		x.in.Fails++
		x.in.Tried = now
	} else {
		kind := transfer.Delta
		if x.in.Last.IsZero() {
			kind = transfer.Seed
		}
		r := transfer.Report{Outcome: transfer.OutcomePoint, Started: x.frozen, Frozen: x.frozen, Ended: now, FrozenFor: now.Sub(x.frozen),
			Disks: []transfer.DiskReport{{Kind: kind}}}
		x.in.Measure = x.in.Measure.After(r, nil)
		x.in.Last, x.in.Fails = x.frozen, 0
	}
	x.plan()
}

// month plays one VM in a bubble of its own.
func month(t *testing.T, p Policy, from string, cycle cycleOf, off func(time.Time) bool) (dues []time.Time) {
	t.Helper()
	if p.Jitter == nil {
		p.Jitter = jitter(0)
	}
	p.Name = "p"
	synctest.Test(t, func(t *testing.T) { dues = play(t, &p, 1, from, 31*day, cycle, off) })
	return dues
}

// same compares instants with what is expected, and shows the first that
// differs with its neighbours.
func same(t *testing.T, got, want []time.Time) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i < len(got) && i < len(want) && got[i].Equal(want[i]) {
			continue
		}
		around := func(ts []time.Time) string { return fmt.Sprint(ts[max(0, min(i-2, len(ts))):min(i+3, len(ts))]) }
		t.Fatalf("%d instants, want %d; they differ at %d:\n%s\nwant\n%s", len(got), len(want), i, around(got), around(want))
	}
}

// slots are all instants from a (excluded) on for a month, step apart from
// midnight UTC, for which keep says so; the first run, at a, goes before.
func slots(t *testing.T, a string, step time.Duration, keep func(time.Time) bool) []time.Time {
	from := instant(t, a)
	all := []time.Time{from}
	for at := from.Truncate(day); at.Before(from.Add(31 * day)); at = at.Add(step) {
		if at.After(from) && keep(at) {
			all = append(all, at)
		}
	}
	return all
}

func always(time.Time) bool { return true }

// TestMonthBlackout: a quarter-hourly policy with a night's blackout through
// the change of the clocks. The morning always begins at 06:00 on the wall.
func TestMonthBlackout(t *testing.T) {
	for _, x := range []struct{ zone, from string }{
		{"Europe/Berlin", "2026-03-05 12:07"}, {"Europe/Berlin", "2026-10-05 12:07"}, {"America/New_York", "2026-02-20 15:07"}, {"America/New_York", "2026-10-20 15:07"},
	} {
		p := Policy{Every: Duration(15 * time.Minute), TimeZone: x.zone, Blackout: []Window{{From: "22:00", To: "06:00"}}}
		loc := zone(t, x.zone)
		same(t, month(t, p, x.from, quick, nil), slots(t, x.from, 15*time.Minute, func(at time.Time) bool {
			h := at.In(loc).Hour()
			return 6 <= h && h < 22
		}))
	}
}

// TestMonthCron: nightly in the hour that changes, and hourly right through it.
func TestMonthCron(t *testing.T) {
	for _, x := range []struct {
		cron, zone, from string
		first            string           // that the expression is due
		clock            map[string]int   // hours UTC of the runs by date from here on
		odd              map[string]int64 // minutes by which a date's run is off that
	}{
		{"30 2 * * *", "Europe/Berlin", "2026-03-05 12:07", "2026-03-06 01:30", map[string]int{"2026-03-30": 0}, map[string]int64{"2026-03-29": -30}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-05 12:07", "2026-10-06 00:30", map[string]int{"2026-10-26": 1}, nil},
		{"30 2 * * *", "America/New_York", "2026-02-20 12:07", "2026-02-21 07:30", map[string]int{"2026-03-09": 6}, map[string]int64{"2026-03-08": -30}},
		{"30 1 * * *", "America/New_York", "2026-10-20 12:07", "2026-10-21 05:30", map[string]int{"2026-11-02": 6}, nil},
	} {
		want := []time.Time{instant(t, x.from)}
		for at := instant(t, x.first); at.Before(want[0].Add(31 * day)); at = at.Add(day) {
			date := at.Format(time.DateOnly)
			if h, ok := x.clock[date]; ok {
				at = at.Truncate(day).Add(time.Duration(h)*time.Hour + 30*time.Minute)
			}
			want = append(want, at.Add(time.Duration(x.odd[date])*time.Minute))
		}
		same(t, month(t, Policy{Cron: x.cron, TimeZone: x.zone}, x.from, quick, nil), want)
	}
	for _, x := range []struct{ zone, from string }{{"Europe/Berlin", "2026-03-05 12:07"}, {"America/New_York", "2026-10-20 12:07"}} {
		same(t, month(t, Policy{Cron: "@hourly", TimeZone: x.zone}, x.from, quick, nil), slots(t, x.from, time.Hour, always))
	}
}

// TestMonthOverruns: runs that take longer than the interval skip what they
// missed, one time each, and the times after are what they were.
func TestMonthOverruns(t *testing.T) {
	from := "2026-03-05 12:07"
	long := map[string]time.Duration{"2026-03-07 09:00": 160 * time.Minute, "2026-03-29 00:00": 61 * time.Minute, "2026-03-30 10:00": 59*time.Minute + 57*time.Second}
	cycle := func(_ int, due time.Time) (time.Duration, time.Duration, bool) {
		if took, ok := long[due.Format("2006-01-02 15:04")]; ok {
			return 3 * time.Second, took, false
		}
		return 3 * time.Second, 90 * time.Second, false
	}
	missed := map[string]bool{"2026-03-07 10:00": true, "2026-03-07 11:00": true, "2026-03-29 01:00": true, "2026-03-30 11:00": true} // the last by ending in the very moment
	same(t, month(t, Policy{Every: Duration(time.Hour)}, from, cycle, nil), slots(t, from, time.Hour, func(at time.Time) bool {
		return !missed[at.Format("2006-01-02 15:04")]
	}))
}

// TestMonthWaiting: what waits long for its turn moves nothing behind it.
func TestMonthWaiting(t *testing.T) {
	from := "2026-03-05 12:07"
	cycle := func(n int, _ time.Time) (time.Duration, time.Duration, bool) {
		return time.Duration(n%50) * time.Minute, 5 * time.Minute, false
	}
	same(t, month(t, Policy{Every: Duration(time.Hour)}, from, cycle, nil), slots(t, from, time.Hour, always))
}

// TestMonthFailures: backoff, its cap, the blackout's edge, and the return to
// the slots; and a connector that was off at a slot serves it when it is back.
func TestMonthFailures(t *testing.T) {
	from := "2026-03-05 12:07"
	p := Policy{Every: Duration(time.Hour), TimeZone: "Europe/Berlin", Blackout: []Window{{From: "22:00", To: "06:00"}}}
	failing := func(at time.Time) bool {
		for _, w := range [][2]string{
			{"2026-03-07 09:00", "2026-03-07 11:50"}, // vCenter is away
			{"2026-03-27 20:00", "2026-03-28 00:00"}, // in the last run of the evening
			{"2026-03-30 10:00", "2026-03-30 10:00:10"},
		} {
			if !at.Before(instant(t, w[0])) && at.Before(instant(t, w[1])) {
				return true
			}
		}
		return false
	}
	cycle := func(_ int, due time.Time) (time.Duration, time.Duration, bool) {
		if failing(due) {
			return 0, 10 * time.Second, true
		}
		return quick(0, due)
	}
	off := func(at time.Time) bool {
		return !at.Before(instant(t, "2026-03-20 09:30")) && at.Before(instant(t, "2026-03-20 12:20"))
	}
	berlin := zone(t, "Europe/Berlin")
	want := slots(t, from, time.Hour, func(at time.Time) bool {
		h := at.In(berlin).Hour()
		return 6 <= h && h < 22
	})
	replace := func(a, b string, with ...string) {
		var all []time.Time
		for _, at := range want {
			if at.Before(instant(t, a)) {
				all = append(all, at)
			}
		}
		for _, s := range with {
			all = append(all, instant(t, s))
		}
		for _, at := range want {
			if at.After(instant(t, b)) {
				all = append(all, at)
			}
		}
		want = all
	}
	// One minute after the failure's end, then 2, 4, 8, 16, 32, and an hour.
	replace("2026-03-07 09:00", "2026-03-07 12:00", "2026-03-07 09:00", "2026-03-07 09:01:10", "2026-03-07 09:03:20", "2026-03-07 09:07:30",
		"2026-03-07 09:15:40", "2026-03-07 09:31:50", "2026-03-07 10:04:00", "2026-03-07 11:04:10", "2026-03-07 12:04:20")
	// The connector is back at 12:20; its planner looks soon after.
	replace("2026-03-20 10:00", "2026-03-20 12:00", "2026-03-20 12:20")
	// 21:00 in Berlin; tries go on until 22:00, and from 06:00.
	replace("2026-03-27 20:00", "2026-03-28 05:00", "2026-03-27 20:00", "2026-03-27 20:01:10", "2026-03-27 20:03:20", "2026-03-27 20:07:30",
		"2026-03-27 20:15:40", "2026-03-27 20:31:50", "2026-03-28 05:00")
	replace("2026-03-30 10:00", "2026-03-30 10:00", "2026-03-30 10:00", "2026-03-30 10:01:10")

	got := month(t, p, from, cycle, off)
	for i := range got { // the planner's look after the pause is not on the second
		if d := got[i].Sub(instant(t, "2026-03-20 12:20")); 0 <= d && d < 23*time.Minute {
			got[i] = instant(t, "2026-03-20 12:20")
		}
	}
	same(t, got, want)
}

// TestMonthFloor: a VM whose cycles take longer than the interval is
// replicated as often as they allow, and at the slots again when they are
// shorter.
func TestMonthFloor(t *testing.T) {
	from := "2026-03-05 12:00"
	cycle := func(_ int, due time.Time) (time.Duration, time.Duration, bool) {
		if due.Before(instant(t, "2026-03-20 00:00")) {
			return 0, 22 * time.Minute, false
		}
		return 0, time.Minute, false
	}
	dues := month(t, Policy{Every: Duration(15 * time.Minute)}, from, cycle, nil)
	for i := 1; i < len(dues); i++ {
		gap := dues[i].Sub(dues[i-1])
		switch at := dues[i]; {
		case i == 1:
		case at.Before(instant(t, "2026-03-20 00:00")) && gap != 30*time.Minute: // ends at :22, the next slot
			t.Fatalf("at %v after %v", at, gap)
		case at.After(instant(t, "2026-03-20 03:00")) && gap != 15*time.Minute:
			t.Fatalf("at %v after %v", at, gap)
		}
	}
}

// TestMonthOfMany: many VMs keep their own phase for a month, each exactly an
// interval after the other, through a change of the clocks.
func TestMonthOfMany(t *testing.T) {
	minutes := map[int]int{}
	for vm := range 30 {
		p := Policy{Name: "p", Every: Duration(4 * time.Hour), TimeZone: "Europe/Berlin"} // jitter is ten minutes
		synctest.Test(t, func(t *testing.T) {
			dues := play(t, &p, vm, "2026-03-05 12:07", 31*day, quick, nil)
			if len(dues) < 31*6 || len(dues) > 31*6+1 {
				t.Fatalf("VM %d had %d runs", vm, len(dues))
			}
			for i, at := range dues[2:] {
				if gap := at.Sub(dues[i+1]); gap != 4*time.Hour {
					t.Fatalf("VM %d: at %v after %v", vm, at, gap)
				}
			}
			late := dues[1].Sub(dues[1].Truncate(4 * time.Hour))
			minutes[int(late/time.Minute)]++
		})
	}
	if len(minutes) < 8 || minutes[0] == 30 {
		t.Errorf("the VMs begin in minutes %v", minutes)
	}
	for m := range minutes {
		if m > 9 { // of ten
			t.Errorf("a VM begins in minute %d", m)
		}
	}
}
