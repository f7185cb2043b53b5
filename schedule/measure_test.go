package schedule

import (
	"math"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

// began is when the cycles of these tests began.
var began = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// sec is an instant so many seconds later.
func sec(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }

// deltaCycle is a cycle of two disks: frozen after 5 s, planned for 2 s,
// copied for 20 s, detached, released in 30 s beside a seal of 50 s.
func deltaCycle() (transfer.Report, []StepTime) {
	const mib = 2 // blocks
	r := transfer.Report{
		Outcome: transfer.OutcomePoint, Started: sec(0), Frozen: sec(5), Ended: sec(85), FrozenFor: 55 * time.Second,
		Disks: []transfer.DiskReport{
			{Kind: transfer.Delta, Done: 100 * mib, Put: 40 * mib, CopyStarted: sec(9), CopyEnded: sec(29)},
			{Kind: transfer.Delta, Done: 20 * mib, Put: 10 * mib, Resumed: 5 * mib, CopyStarted: sec(10), CopyEnded: sec(20)},
		},
	}
	steps := []StepTime{
		{transfer.StepInspect, sec(0)}, {transfer.StepFreeze, sec(2)}, {transfer.StepPlan, sec(7)}, {transfer.StepCopy, sec(9)},
		{transfer.StepDetach, sec(29)}, {transfer.StepSeal, sec(30)}, {transfer.StepRelease, sec(32)}, {transfer.StepSeal, sec(31)},
		{transfer.StepCommit, sec(60)}, {transfer.StepCommit, sec(80)},
	}
	return r, steps
}

func TestMeasureAfter(t *testing.T) {
	const MiB = 1 << 20
	r, steps := deltaCycle()
	got := Measure{LastFrozen: sec(5).Add(-1000 * time.Second)}.After(r, steps)
	want := Measure{
		ChangeRate: 55 * MiB / 1000.0, CopyRate: 120 * MiB / 20, PutRate: 50 * MiB / 20,
		Freeze: 5 * time.Second, Release: 30 * time.Second, Seal: 50 * time.Second, Cycle: 85 * time.Second, Frozen: 55 * time.Second,
		LastFrozen: sec(5), LastEnded: sec(85), Cycles: 1,
	}
	if got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}

	// The newest weighs a third.
	r.Frozen, r.Ended, r.Disks[0].Put, r.Disks[1].Put, r.Disks[1].Resumed = sec(1005), sec(1055), 200, 0, 0
	r.Started = sec(1000)
	got = got.After(r, steps)
	for name, x := range map[string]struct{ got, want float64 }{
		"change": {got.ChangeRate, (2*55*MiB/1000.0 + 100*MiB/1000.0) / 3}, "put": {got.PutRate, (2*50*MiB/20 + 100*MiB/20) / 3.0},
		"cycle": {got.Cycle.Seconds(), (2*85 + 55) / 3.0}, "copy": {got.CopyRate, 120 * MiB / 20},
	} {
		if math.Abs(x.got-x.want) > 1e-6*x.want {
			t.Errorf("%s: %v, want %v", name, x.got, x.want)
		}
	}
	if got.Cycles != 2 || got.LastFrozen != sec(1005) {
		t.Errorf("%+v", got)
	}
}

func TestMeasureAfterOthers(t *testing.T) {
	before := Measure{ChangeRate: 10, Cycle: time.Minute, Cycles: 4, Freeze: time.Second, Release: time.Second, Seal: time.Second, PutRate: 5, CopyRate: 5, LastFrozen: began.Add(-time.Hour)}

	r, steps := deltaCycle()
	r.Outcome = transfer.OutcomeFailed
	if got := before.After(r, steps); got != before {
		t.Errorf("a failure showed %+v", got)
	}

	r, steps = deltaCycle()
	r.Disks[1].Kind = transfer.Seed
	got := before.After(r, steps)
	if got.ChangeRate != 10 || got.Cycle != time.Minute || got.Cycles != 4 {
		t.Errorf("a seed told of deltas: %+v", got)
	}
	if got.PutRate <= 5 || got.CopyRate <= 5 || got.Freeze <= time.Second || got.Release <= time.Second || got.Seal <= time.Second || got.LastFrozen != r.Frozen {
		t.Errorf("a seed told nothing: %+v", got)
	}

	r, _ = deltaCycle()
	r.Outcome, r.Ended = transfer.OutcomeConfirmed, sec(20)
	for i := range r.Disks {
		r.Disks[i] = transfer.DiskReport{Kind: transfer.Delta}
	}
	r.FrozenFor = 8 * time.Second
	steps = []StepTime{{transfer.StepFreeze, sec(2)}, {transfer.StepPlan, sec(7)}, {transfer.StepCopy, sec(9)}, {transfer.StepDetach, sec(10)}, {transfer.StepRelease, sec(10)}, {transfer.StepCommit, sec(15)}}
	got = before.After(r, steps)
	if got.Cycles != 5 || got.PutRate != 5 || got.Seal != time.Second || math.Abs(got.ChangeRate-20.0/3) > 1e-9 || got.Release != time.Second+4*time.Second/3 {
		t.Errorf("a confirmation showed %+v", got)
	}
}

// TestMeasureOfTheLastFreeze: a run that froze its VM anew, or was taken over,
// has steps twice.
func TestMeasureOfTheLastFreeze(t *testing.T) {
	r, steps := deltaCycle()
	var all []StepTime
	for _, s := range steps[:7] {
		all = append(all, StepTime{s.Step, s.Began.Add(-time.Hour)})
	}
	if got, want := (Measure{}).After(r, append(all, steps...)), (Measure{}).After(r, steps); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Measure{}).After(r, nil); got.Freeze != 0 || got.Release != 0 || got.Seal != 0 || got.Frozen == 0 {
		t.Errorf("without steps: %+v", got)
	}
}

func TestFloor(t *testing.T) {
	m := time.Minute
	for name, x := range map[string]struct {
		m    Measure
		want time.Duration
	}{
		"nothing":          {Measure{}, 0},
		"after the seed":   {Measure{Freeze: m, Release: 9 * m, Seal: 4 * m}, 20 * m},
		"a cycle":          {Measure{Cycles: 3, Cycle: 12 * m, Freeze: m, Release: 9 * m, Seal: 4 * m}, 22 * m},
		"its copy is long": {Measure{Cycles: 3, Cycle: 40 * m, Freeze: m, Release: 9 * m, ChangeRate: 9, PutRate: 10}, 50 * m},
		// Twelve hours of copying were the changes of days: at this rate a
		// tenth of any interval goes into copying.
		"after a seed of days": {Measure{Cycles: 1, Cycle: 12 * time.Hour, Freeze: m, Release: 7 * m, Seal: 10 * m, ChangeRate: 1, PutRate: 10}, 21*m + 7*time.Second},
		"falls back":           {Measure{Cycles: 3, Cycle: time.Hour, Freeze: m, Release: 9 * m, ChangeRate: 11, PutRate: 10}, 70 * m},
	} {
		if got := Floor(x.m).Round(10 * time.Second); got != x.want.Round(10*time.Second) {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

// TestFloorSettles plays a VM that is replicated as often as its floor allows:
// however the averages start, the floor ends where a cycle and a rest fit, and
// a VM that copies for most of its time does not fall back for ever.
func TestFloorSettles(t *testing.T) {
	const freeze, release, attach = 10 * time.Second, time.Minute, 15 * time.Second
	for _, busy := range []float64{0, 0.1, 0.5, 0.8} { // of each second's changes this part of a second to upload
		for _, first := range []time.Duration{time.Minute, 3 * day} {
			m, at := Measure{LastFrozen: began}, began.Add(first)
			interval := first
			for range 60 {
				since := at.Sub(m.LastFrozen)
				copying := attach + time.Duration(busy*float64(since))
				cycle := freeze + copying + release
				blocks := int64(busy * since.Seconds() * 200) // at 200 blocks a second
				m = m.After(transfer.Report{Outcome: transfer.OutcomePoint, Started: at, Frozen: at, Ended: at.Add(cycle), FrozenFor: copying + release,
					Disks: []transfer.DiskReport{{Kind: transfer.Delta, Done: blocks, Put: blocks, CopyStarted: at.Add(freeze), CopyEnded: at.Add(freeze + copying)}}},
					[]StepTime{{transfer.StepFreeze, at}, {transfer.StepPlan, at.Add(freeze)}, {transfer.StepRelease, at.Add(freeze + copying)}})
				interval = max(Floor(m), cycle)
				at = at.Add(interval)
			}
			// interval = cycle + freeze + release, cycle = fixed + busy × interval
			want := time.Duration(float64(2*(freeze+release)+attach) / (1 - busy))
			if d := (interval - want).Abs(); d > want/20 {
				t.Errorf("%v busy, first after %v: the interval is %v, want %v", busy, first, interval, want)
			}
		}
	}
}

func TestConverges(t *testing.T) {
	for _, m := range []Measure{{}, {Cycles: 1, ChangeRate: 20e6, PutRate: 10e6}, {Cycles: 5, ChangeRate: 10e6, PutRate: 10e6}, {Cycles: 5, ChangeRate: 10e6}} {
		if ok, why := Converges(m); !ok || why != "" {
			t.Errorf("%+v: %s", m, why)
		}
	}
	ok, why := Converges(Measure{Cycles: 2, ChangeRate: 20e6, PutRate: 8.5e6})
	if ok || !strings.Contains(why, "20 MB/s") || !strings.Contains(why, "8.5 MB/s") {
		t.Errorf("%v, %s", ok, why)
	}
}
