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

func vmid(n int) transfer.VMID {
	return transfer.VMID{VCenter: "5f0c2b1e-7e2c-4b0e-9a3e-2f6c1f0f9a11", Moref: fmt.Sprintf("vm-%d", n)}
}

func jitter(d time.Duration) *Duration { j := Duration(d); return &j }

// punctual is a policy without jitter.
func punctual(every time.Duration) Policy {
	return Policy{Name: "p", Every: Duration(every), Jitter: jitter(0)}
}

func TestNextDue(t *testing.T) {
	quarter := punctual(15 * time.Minute)
	nightly := Policy{Name: "p", Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Jitter: jitter(0)}
	night := quarter
	night.Blackout = []Window{{From: "22:00", To: "06:00"}}
	adaptive := Policy{Name: "p", Adaptive: &Adaptive{Floor: Duration(10 * time.Minute), Ceiling: Duration(4 * time.Hour)}}
	slow := Measure{Cycles: 5, Cycle: 12 * time.Minute, Freeze: time.Minute, Release: 9 * time.Minute}
	for name, x := range map[string]struct {
		p       Policy
		in      DueInput
		now, at string
		why     string
	}{
		"never":                 {quarter, DueInput{}, "2026-07-01 12:07", "2026-07-01 12:07", "it was never replicated"},
		"never, nightly":        {nightly, DueInput{}, "2026-07-01 12:07", "2026-07-01 12:07", "it was never replicated"},
		"never, in a blackout":  {night, DueInput{}, "2026-07-01 23:07", "2026-07-02 06:00", "it was never replicated; not before 2 Jul 06:00 UTC because of the blackout until 2 Jul 06:00 UTC"},
		"slot":                  {quarter, DueInput{Last: instant(t, "2026-07-01 12:04")}, "2026-07-01 12:06", "2026-07-01 12:15", "every 15m, after the freeze of 12:04 UTC"},
		"on the slot":           {quarter, DueInput{Last: instant(t, "2026-07-01 12:15")}, "2026-07-01 12:16", "2026-07-01 12:30", ""},
		"still due later":       {quarter, DueInput{Last: instant(t, "2026-07-01 12:04")}, "2026-07-01 12:17", "2026-07-01 12:17", "every 15m, after the freeze of 12:04 UTC, overdue since 12:15 UTC"},
		"long after a standby":  {quarter, DueInput{Last: instant(t, "2026-06-01 12:04")}, "2026-07-01 12:17", "2026-07-01 12:17", "overdue since 1 Jun 12:15 UTC"},
		"overrun":               {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{LastEnded: instant(t, "2026-07-01 12:40")}}, "2026-07-01 12:40", "2026-07-01 12:45", ""},
		"an old end":            {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{LastEnded: instant(t, "2026-07-01 11:40")}}, "2026-07-01 12:01", "2026-07-01 12:15", ""},
		"floor":                 {quarter, DueInput{Last: instant(t, "2026-07-01 12:04"), Measure: slow}, "2026-07-01 12:16", "2026-07-01 12:26", "every 15m, after the freeze of 12:04 UTC; the shortest that its cycles allow is 22m, since removing the VM snapshot takes 9m"},
		"floor within":          {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{Cycles: 1, Cycle: 9 * time.Minute}}, "2026-07-01 12:10", "2026-07-01 12:15", "every 15m, after the freeze of 12:00 UTC"},
		"failed":                {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Fails: 1, Tried: instant(t, "2026-07-01 12:15:30")}, "2026-07-01 12:15:30", "2026-07-01 12:16:30", "again 1m after the run that failed at 12:15 UTC"},
		"failed again":          {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Fails: 4, Tried: instant(t, "2026-07-01 12:20")}, "2026-07-01 12:20", "2026-07-01 12:28", "again 8m after the run that failed at 12:20 UTC, the last of 4 in a row"},
		"failed long":           {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Fails: 400, Tried: instant(t, "2026-07-01 18:20")}, "2026-07-01 18:20", "2026-07-01 18:35", ""},
		"failed before due":     {quarter, DueInput{Last: instant(t, "2026-07-01 12:00"), Fails: 1, Tried: instant(t, "2026-07-01 12:05")}, "2026-07-01 12:05", "2026-07-01 12:15", ""},
		"failed first":          {quarter, DueInput{Fails: 2, Tried: instant(t, "2026-07-01 12:20")}, "2026-07-01 12:20", "2026-07-01 12:22", ""},
		"failed nightly":        {nightly, DueInput{Last: instant(t, "2026-07-01 00:30"), Fails: 9, Tried: instant(t, "2026-07-02 01:00")}, "2026-07-02 01:00", "2026-07-02 02:00", ""},
		"failed into the night": {night, DueInput{Last: instant(t, "2026-07-01 21:40"), Fails: 1, Tried: instant(t, "2026-07-01 21:59:30")}, "2026-07-01 21:59:30", "2026-07-02 06:00", "blackout until 2 Jul 06:00"},
		"blackout":              {night, DueInput{Last: instant(t, "2026-07-01 21:50")}, "2026-07-01 21:51", "2026-07-02 06:00", "every 15m, after the freeze of 21:50 UTC; not before 2 Jul 06:00 UTC because of the blackout until 2 Jul 06:00 UTC"},
		"missed, now blackout":  {night, DueInput{Last: instant(t, "2026-07-01 21:35")}, "2026-07-01 22:30", "2026-07-02 06:00", "overdue since 21:45"},
		"nightly":               {nightly, DueInput{Last: instant(t, "2026-07-01 00:31")}, "2026-07-01 00:40", "2026-07-02 00:30", `cron "30 2 * * *", after the freeze of 02:31 CEST`},
		"nightly, skipped":      {nightly, DueInput{Last: instant(t, "2026-03-28 01:31")}, "2026-03-28 02:40", "2026-03-29 01:00", ""},
		"nightly, an overrun":   {nightly, DueInput{Last: instant(t, "2026-06-28 00:31"), Measure: Measure{LastEnded: instant(t, "2026-07-01 00:35")}}, "2026-07-01 00:35", "2026-07-02 00:30", ""},
		"adaptive, unknown":     {adaptive, DueInput{Last: instant(t, "2026-07-01 12:00")}, "2026-07-01 12:02", "2026-07-01 12:10", "10m after the freeze of 12:00 UTC, until its deltas are known"},
		"adaptive, small":       {adaptive, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{Cycles: 3, Cycle: 50 * time.Second, Seal: 30 * time.Second}}, "2026-07-01 12:02", "2026-07-01 12:10", "the policy's floor: copying a delta takes 20s"},
		"adaptive, middling":    {adaptive, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{Cycles: 3, Cycle: 5 * time.Minute, Seal: time.Minute}}, "2026-07-01 12:02", "2026-07-01 12:40", "40m after the freeze of 12:00 UTC, ten times as long as copying a delta takes, 4m"},
		"adaptive, large":       {adaptive, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{Cycles: 3, Cycle: time.Hour}}, "2026-07-01 12:02", "2026-07-01 16:00", "the policy's ceiling: copying a delta takes 1h"},
		"adaptive, slow":        {adaptive, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: slow}, "2026-07-01 12:02", "2026-07-01 12:22", "22m after the freeze of 12:00 UTC, the shortest that its cycles allow, since removing the VM snapshot takes 9m"},
		"adaptive, overrun":     {adaptive, DueInput{Last: instant(t, "2026-07-01 12:00"), Measure: Measure{LastEnded: instant(t, "2026-07-01 13:00")}}, "2026-07-01 13:00", "2026-07-01 13:00", ""},
	} {
		x.in.VM, x.in.Now = vmid(7), instant(t, x.now)
		got := NextDue(&x.p, x.in)
		if !got.At.Equal(instant(t, x.at)) || !strings.Contains(got.Why, x.why) {
			t.Errorf("%s: %v %q, want %s %q", name, got.At.UTC(), got.Why, x.at, x.why)
		}
		if got.Floor != Floor(x.in.Measure) {
			t.Errorf("%s: floor %v", name, got.Floor)
		}
	}
}

func TestNextDueNever(t *testing.T) {
	for want, p := range map[string]Policy{
		"does not say how often": {Name: "p"}, "cron": {Name: "p", Cron: "never"},
	} {
		got := NextDue(&p, DueInput{Now: instant(t, "2026-07-01 12:00")})
		if !got.At.IsZero() || !strings.Contains(got.Why, want) {
			t.Errorf("%+v", got)
		}
	}
}

// TestShares: the due times of many VMs lie spread over the jitter, each VM's
// always at the same place, and none's interval is longer for it.
func TestShares(t *testing.T) {
	for name, p := range map[string]Policy{
		"default":  {Every: Duration(time.Hour)},                                                                                    // six minutes
		"nightly":  {Cron: "0 3 * * *", Jitter: jitter(6 * time.Minute)},                                                            //
		"blackout": {Every: Duration(time.Hour), Blackout: []Window{{From: "02:30", To: "03:00"}}, Jitter: jitter(6 * time.Minute)}, // 03:00 is its end
	} {
		last := instant(t, "2026-07-01 02:20")
		if name == "nightly" {
			last = instant(t, "2026-06-30 10:00")
		}
		base := instant(t, "2026-07-01 03:00")
		buckets := make([]int, 6)
		for n := range 1200 {
			at := NextDue(&p, DueInput{VM: vmid(n), Now: last.Add(time.Minute), Last: last}).At
			late := at.Sub(base)
			if late < 0 || late >= 6*time.Minute || late%time.Second != 0 {
				t.Fatalf("%s: VM %d is due at %v", name, n, at)
			}
			buckets[late/time.Minute]++
			next := NextDue(&p, DueInput{VM: vmid(n), Now: at.Add(time.Minute), Last: at.Add(20 * time.Second)}).At
			if gap := next.Sub(at); gap != time.Hour && gap != day {
				t.Fatalf("%s: VM %d is due %v later", name, n, gap)
			}
		}
		if slices.Min(buckets) < 150 || slices.Max(buckets) > 250 {
			t.Errorf("%s: the minutes have %v", name, buckets)
		}
	}
}

// TestShareInAGap: where the time between two blackouts is shorter than the
// jitter, shares shrink to it.
func TestShareInAGap(t *testing.T) {
	p := punctual(time.Hour)
	p.Jitter = jitter(30 * time.Minute)
	p.Blackout = []Window{{From: "00:05", To: "24:00"}}
	for n := range 200 {
		at := NextDue(&p, DueInput{VM: vmid(n), Now: instant(t, "2026-07-01 12:00"), Last: instant(t, "2026-07-01 11:00")}).At
		if at.Before(instant(t, "2026-07-02 00:00")) || !at.Before(instant(t, "2026-07-02 00:05")) {
			t.Fatalf("VM %d is due at %v", n, at)
		}
	}
}

// TestShareAfterABlackout: who asks in the minutes after a blackout hears the
// same as who asked before; not all VMs are due in its first second.
func TestShareAfterABlackout(t *testing.T) {
	p := punctual(time.Hour)
	p.Jitter = jitter(30 * time.Minute)
	p.Blackout = []Window{{From: "22:00", To: "06:00"}}
	now := 0
	for n := range 200 {
		in := DueInput{VM: vmid(n), Now: instant(t, "2026-07-02 03:00"), Last: instant(t, "2026-07-01 20:40")}
		before := NextDue(&p, in).At
		in.Now = instant(t, "2026-07-02 06:00:01")
		if after := NextDue(&p, in).At; !after.Equal(before) && before.After(in.Now) {
			t.Fatalf("VM %d was due at %v and is at %v", n, before, after)
		} else if after.Equal(in.Now) {
			now++
		}
	}
	if now > 5 {
		t.Errorf("%d VMs are due at once", now)
	}
}

func TestSlotAfter(t *testing.T) {
	for _, x := range []struct{ after, phase, want int64 }{{0, 0, 10}, {9, 0, 10}, {10, 0, 20}, {12, 3, 13}, {13, 3, 23}, {2, 3, 3}, {-5, 0, 0}, {-10, 0, 0}, {-11, 0, -10}, {-8, 3, -7}} {
		if got := slotAfter(time.Unix(x.after, 0), 10*time.Second, time.Duration(x.phase)*time.Second).Unix(); got != x.want {
			t.Errorf("after %d with phase %d: %d, want %d", x.after, x.phase, got, x.want)
		}
	}
}

func randomPolicy(r *rand.Rand) Policy {
	p := Policy{Name: "p", TimeZone: []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}[r.IntN(4)]}
	switch r.IntN(3) {
	case 0:
		p.Every = Duration(time.Minute * time.Duration(1+r.IntN(3000)))
	case 1:
		p.Cron = []string{"30 2 * * *", "*/15 * * * *", "0 */6 * * *", "0 20 * * mon-fri", "15 2,3 1 * *", "@hourly"}[r.IntN(6)]
	case 2:
		floor := time.Minute * time.Duration(5+r.IntN(60))
		p.Adaptive = &Adaptive{Duration(floor), Duration(floor * time.Duration(1+r.IntN(10)))}
	}
	if r.IntN(2) == 0 {
		p.Jitter = jitter(time.Second * time.Duration(r.IntN(60)))
	}
	if r.IntN(3) > 0 {
		p.Blackout = randomWindows(r)
	}
	if p.Check() != nil {
		return randomPolicy(r)
	}
	return p
}

func randomInput(r *rand.Rand) DueInput {
	base := time.Date(2026, time.Month(1+r.IntN(12)), 1+r.IntN(31), r.IntN(24), r.IntN(60), r.IntN(60), 0, time.UTC)
	in := DueInput{VM: vmid(r.IntN(1000)), Last: base, Now: base.Add(time.Duration(r.Int64N(int64(5 * day))))}
	if r.IntN(2) == 0 {
		in.Measure = Measure{Cycles: r.IntN(3), Freeze: time.Duration(r.Int64N(int64(time.Minute))), Release: time.Duration(r.Int64N(int64(10 * time.Minute))),
			Seal: time.Duration(r.Int64N(int64(3 * time.Minute))), LastEnded: base.Add(time.Duration(r.Int64N(int64(day))))}
		in.Measure.Cycle = in.Measure.Freeze + in.Measure.Release + time.Duration(r.Int64N(int64(30*time.Minute)))
	}
	if r.IntN(3) == 0 {
		in.Fails, in.Tried = 1+r.IntN(12), base.Add(time.Duration(r.Int64N(int64(3*day))))
	}
	return in
}

func TestNextDueProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2500 {
		p, in := randomPolicy(r), randomInput(r)
		due := NextDue(&p, in)
		say := func(what string, args ...any) {
			t.Helper()
			t.Fatalf("%s\npolicy %+v\ninput %+v\ndue %v %s", fmt.Sprintf(what, args...), p, in, due.At.UTC(), due.Why)
		}
		if due.At.IsZero() || due.Why == "" || due.Interval <= 0 {
			say("it is never due, or without a reason or interval")
		}
		if _, in := p.BlackoutAt(due.At); in {
			say("it is due in a blackout")
		}
		if !due.At.After(in.Last) || due.At.Before(in.Now) || due.At.Before(in.Last.Add(due.Floor)) {
			say("it is due before its last freeze, before now, or before its floor is over")
		}
		if in.Fails > 0 && due.At.Before(in.Tried) {
			say("it is due before its last failure")
		}
		later := in
		later.Now = in.Now.Add(time.Duration(r.Int64N(int64(2 * day))))
		if at := NextDue(&p, later).At; at.Before(due.At) || (!later.Now.After(due.At) && !at.Equal(due.At)) {
			say("at %v the answer is %v", later.Now, at.UTC())
		}
		if p.Adaptive == nil {
			later = in
			later.Last = in.Last.Add(time.Duration(r.Int64N(int64(2 * day))))
			if at := NextDue(&p, later).At; at.Before(due.At) {
				say("with a newer freeze, of %v, it is due earlier: %v", later.Last, at.UTC())
			}
		}
		if r.IntN(2) == 0 { // whoever starts at that instant is served: the next is later
			then := DueInput{VM: in.VM, Now: due.At, Last: due.At, Measure: in.Measure}
			if next := NextDue(&p, then); !next.At.After(due.At) {
				say("after that it is due at %v", next.At.UTC())
			}
		}
	}
}

func BenchmarkNextDue(b *testing.B) {
	p := Policy{Name: "p", Cron: "30 2 * * *", TimeZone: "Europe/Berlin", Blackout: []Window{{Days: "mon-fri", From: "08:00", To: "18:00"}, {From: "22:00", To: "02:00"}}}
	in := DueInput{VM: vmid(1), Now: time.Unix(1_774_746_000, 0), Last: time.Unix(1_774_700_000, 0)}
	for b.Loop() {
		NextDue(&p, in)
	}
}
