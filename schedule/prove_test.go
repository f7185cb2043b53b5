package schedule

import (
	"strings"
	"testing"
	"time"
)

func TestProveDue(t *testing.T) {
	now := instant(t, "2026-07-01 12:00")
	hours := func(n int) time.Time { return now.Add(-time.Duration(n) * time.Hour) }
	weekly := Policy{Name: "p", Every: Duration(time.Hour), Prove: &Prove{Every: Duration(7 * day)}}
	good := func() VM {
		v := VM{Lifecycle: ReadyForTest, Point: LastPoint{Cycle: "c9", Instant: hours(1)}}
		v.ID = vmid(1)
		return v
	}
	done := func(at time.Time) Proving { return Proving{At: at, State: RunDone, Point: "c1"} }
	for name, x := range map[string]struct {
		change func(*VM, *Policy)
		last   Proving
		due    bool
		why    string
	}{
		"never":                  {nil, Proving{}, true, "never proved"},
		"no policy for it":       {func(_ *VM, p *Policy) { p.Prove = nil }, Proving{}, false, "asks for no proofs"},
		"gone":                   {func(v *VM, _ *Policy) { v.Gone = true }, Proving{}, false, "not in vCenter"},
		"paused":                 {func(v *VM, _ *Policy) { v.Paused = true }, Proving{}, false, "paused"},
		"no point":               {func(v *VM, _ *Policy) { v.Point = LastPoint{} }, Proving{}, false, "no complete"},
		"suspect":                {func(v *VM, _ *Policy) { v.Point.Suspect = "audit" }, Proving{}, false, "suspect: audit"},
		"not ready":              {func(v *VM, _ *Policy) { v.Lifecycle = "" }, Proving{}, false, "not-ready"},
		"cutting over":           {func(v *VM, _ *Policy) { v.Lifecycle = CuttingOver }, Proving{}, false, "cutting-over"},
		"ready for cutover":      {func(v *VM, _ *Policy) { v.Lifecycle = ReadyForCutover }, Proving{}, true, "never proved"},
		"under way":              {nil, Proving{At: hours(400), State: RunRunning}, false, "being proved"},
		"proved lately":          {nil, done(hours(24)), false, "proved next at"},
		"less than half ago":     {nil, done(hours(83)), false, "proved next at"},
		"long ago":               {nil, done(hours(24 * 11)), true, "every 7d, since"},
		"the same point":         {func(v *VM, _ *Policy) { v.Point.Cycle = "c1" }, done(hours(400)), false, "no newer point"},
		"no newer point":         {nil, Proving{At: hours(0), State: RunFailed}, false, "no newer point"},
		"failed a moment ago":    {nil, Proving{At: hours(23), State: RunFailed}, false, "proved next at"},
		"failed a day ago":       {nil, Proving{At: hours(24), State: RunFailed}, true, "every 7d"},
		"failed, the same point": {func(v *VM, _ *Policy) { v.Point.Cycle = "c1" }, Proving{At: hours(30), State: RunFailed, Point: "c1"}, true, ""},
		"cancelled":              {nil, Proving{At: hours(2), State: RunCancelled}, false, "proved next at"},
	} {
		vm, p := good(), weekly
		if x.change != nil {
			x.change(&vm, &p)
		}
		if due, why := ProveDue(&p, &vm, x.last, now); due != x.due || !strings.Contains(why, x.why) {
			t.Errorf("%s: %v, %q", name, due, why)
		}
	}
	if due, _ := ProveDue(nil, &VM{}, Proving{}, now); due {
		t.Error("a VM without a policy is proved")
	}
}

// VMs that were proved at one instant are not due together again, and from then
// on every one is due once in an interval.
func TestProveSpread(t *testing.T) {
	const every, n = 7 * day, 200
	p := Policy{Name: "p", Every: Duration(time.Hour), Prove: &Prove{Every: Duration(every)}}
	began := instant(t, "2026-07-01 12:00")
	perDay, total := map[int]int{}, 0
	for i := range n {
		vm := VM{Lifecycle: ReadyForTest}
		vm.ID = vmid(i)
		last, times := began, []time.Time(nil)
		for now := began; now.Before(began.Add(4 * every)); now = now.Add(time.Hour) {
			vm.Point = LastPoint{Cycle: "new", Instant: now}
			if due, _ := ProveDue(&p, &vm, Proving{At: last, State: RunDone, Point: "old"}, now); due {
				last, times = now, append(times, now)
			}
		}
		total += len(times)
		if len(times) < 3 || times[0].Sub(began) < every/2 {
			t.Fatalf("VM %d is due at %v", i, times)
		}
		perDay[int(times[1].Sub(began)/day)]++
		for k := 1; k < len(times); k++ {
			if gap := times[k].Sub(times[k-1]); gap < every-time.Hour || gap > every+time.Hour {
				t.Errorf("VM %d: %v between two proofs", i, gap)
			}
		}
	}
	for d, got := range perDay {
		if got > n/3 {
			t.Errorf("%d of %d VMs are due on day %d", got, n, d)
		}
	}
	if len(perDay) < 7 || total > 4*n {
		t.Errorf("spread over %d days, %d proofs", len(perDay), total)
	}
}
