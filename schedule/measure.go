package schedule

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"snapferry/transfer"
)

// Measure is what the cycles of a VM have shown: moving averages in which the
// newest cycle weighs a third, so that three cycles tell a change.
type Measure struct {
	// ChangeRate is bytes of blocks put per second of the VM's time, from freeze
	// to freeze; deltas only.
	ChangeRate float64 `json:"changeRate"`
	// CopyRate is bytes looked at per second of copying, all disks together.
	CopyRate float64 `json:"copyRate"`
	// PutRate is bytes put per second of copying.
	PutRate float64 `json:"putRate"`

	Freeze  time.Duration `json:"freezeNs"`  // taking the VM snapshot
	Release time.Duration `json:"releaseNs"` // removing it
	Seal    time.Duration `json:"sealNs"`    // until EC2 called the snapshots completed
	Cycle   time.Duration `json:"cycleNs"`   // a whole delta cycle
	Frozen  time.Duration `json:"frozenNs"`  // how long the VM snapshot existed

	// LastFrozen is the instant of the newest freeze that made or confirmed a
	// point; zero when there is none.
	LastFrozen time.Time `json:"lastFrozen"`
	// LastEnded is when that cycle ended: what was due before is done with.
	LastEnded time.Time `json:"lastEnded"`
	// Cycles that went into the averages, seeds not counted.
	Cycles int `json:"cycles"`
}

// newest is the weight of the newest cycle in the averages.
const newest = 1.0 / 3

// After is m with what a cycle has shown. One that failed shows nothing. steps
// are the run's, in the order in which they began; a run that was taken over or
// froze its VM anew has some of them twice, and the last freeze counts. Seeds
// and compares read whole disks: they tell rates and what snapshots cost, not
// what the guest changes.
func (m Measure) After(r transfer.Report, steps []StepTime) Measure {
	if r.Frozen.IsZero() || (r.Outcome != transfer.OutcomePoint && r.Outcome != transfer.OutcomeConfirmed) {
		return m
	}
	c := copied(r)
	if c.took > 0 && c.done > 0 {
		m.CopyRate = average(m.CopyRate, c.done/c.took)
	}
	if c.took > 0 && c.put > 0 {
		m.PutRate = average(m.PutRate, c.put/c.took)
	}
	t := stepsTook(r, steps)
	m.Freeze = averageTime(m.Freeze, t.freeze)
	m.Release = averageTime(m.Release, t.release)
	m.Seal = averageTime(m.Seal, t.seal)
	m.Frozen = averageTime(m.Frozen, r.FrozenFor)
	if c.delta {
		m = m.afterDelta(r, c)
	}
	m.LastFrozen, m.LastEnded = r.Frozen, r.Ended
	return m
}

func (m Measure) afterDelta(r transfer.Report, c copying) Measure {
	if since := r.Frozen.Sub(m.LastFrozen).Seconds(); !m.LastFrozen.IsZero() && since > 0 {
		rate := (c.put + c.held) / since
		if m.Cycles == 0 {
			m.ChangeRate = rate
		} else {
			m.ChangeRate += (rate - m.ChangeRate) * newest
		}
	}
	m.Cycle = averageTime(m.Cycle, r.Ended.Sub(r.Started))
	m.Cycles++
	return m
}

// average is the moving average; what is zero was never measured.
func average(old, sample float64) float64 {
	if old <= 0 {
		return sample
	}
	return old + (sample-old)*newest
}

func averageTime(old, sample time.Duration) time.Duration {
	if sample <= 0 {
		return old
	}
	return time.Duration(average(float64(old), float64(sample)))
}

// copying is what all disks of a cycle did together.
type copying struct {
	delta     bool    // all of them were deltas
	done, put float64 // bytes
	held      float64 // bytes that drafts of earlier attempts held already
	took      float64 // seconds from the first disk's start to the last one's end
}

func copied(r transfer.Report) copying {
	c := copying{delta: len(r.Disks) > 0}
	var first, last time.Time
	for _, d := range r.Disks {
		c.delta = c.delta && d.Kind == transfer.Delta
		c.done += float64(d.Done * transfer.BlockSize)
		c.put += float64(d.Put * transfer.BlockSize)
		c.held += float64(d.Resumed * transfer.BlockSize)
		if !d.CopyStarted.IsZero() && (first.IsZero() || d.CopyStarted.Before(first)) {
			first = d.CopyStarted
		}
		if d.CopyEnded.After(last) {
			last = d.CopyEnded
		}
	}
	if !first.IsZero() {
		c.took = math.Max(0, last.Sub(first).Seconds())
	}
	return c
}

// stepTimes is how long steps took; zero where that is not known.
type stepTimes struct{ freeze, release, seal time.Duration }

// stepsTook reads the steps behind the last freeze. Release runs beside seal,
// and each disk seals on its own, so that a step does not end where the next
// one begins: release ends when the VM snapshot had lived for FrozenFor, which
// is reckoned from the freeze's end, where the plan begins.
func stepsTook(r transfer.Report, steps []StepTime) (t stepTimes) {
	began := map[transfer.Step]time.Time{}
	for _, s := range steps {
		switch s.Step {
		case transfer.StepFreeze:
			clear(began)
		case transfer.StepSeal: // of several disks: from the first …
			if _, ok := began[s.Step]; ok {
				continue
			}
		}
		began[s.Step] = s.Began // … to the last commit
	}
	between := func(from, to transfer.Step) time.Duration {
		a, b := began[from], began[to]
		if a.IsZero() || b.IsZero() {
			return 0
		}
		return max(0, b.Sub(a))
	}
	t.freeze = between(transfer.StepFreeze, transfer.StepPlan)
	t.seal = between(transfer.StepSeal, transfer.StepCommit)
	plan, release := began[transfer.StepPlan], began[transfer.StepRelease]
	if r.FrozenFor > 0 && !plan.IsZero() && !release.IsZero() {
		t.release = max(0, r.FrozenFor-release.Sub(plan))
	}
	t.freeze, t.release, t.seal = cmp.Or(r.FreezeTook, t.freeze), cmp.Or(r.ReleaseTook, t.release), cmp.Or(r.SealTook, t.seal)
	return t
}

// fixed is what every cycle takes however small its delta is. Sealing runs
// beside the removal of the VM snapshot.
func (m Measure) fixed() time.Duration { return m.Freeze + max(m.Release, m.Seal) }

// copying is how long a delta copies.
func (m Measure) copying() time.Duration { return max(0, m.Cycle-m.fixed()) }

// Floor is the shortest interval that makes sense for a VM with these cycles;
// 0 while nothing was measured. It is a cycle, since the next one cannot begin
// before, and on top of it as long as it takes to make and remove the VM
// snapshot: those are when the guest may stand still, and so they are never
// more than half of its time.
//
// A cycle that followed a long interval says little about a short one: the
// first after a seed may copy the changes of days. Where the changes come so
// slowly that the rates promise less, the promise counts; if it was wrong, the
// next cycle puts it right. Deltas that copy for most of their interval do not
// lengthen it further: else a VM that just keeps up would fall back for ever.
func Floor(m Measure) time.Duration {
	rest := m.Freeze + m.Release
	if m.Cycles == 0 {
		return (m.fixed() + rest).Round(time.Second)
	}
	floor := m.Cycle + rest
	if m.PutRate > 0 && m.ChangeRate < m.PutRate {
		promised := float64(m.fixed()+rest) / (1 - m.ChangeRate/m.PutRate)
		if promised < float64(floor) {
			floor = time.Duration(promised)
		}
	}
	return floor.Round(time.Second)
}

// floorWhy names the largest part of Floor.
func floorWhy(m Measure) string {
	largest, why := m.Release, "removing the VM snapshot"
	for _, q := range []struct {
		took time.Duration
		what string
	}{{m.Seal, "completing the snapshots in AWS"}, {m.copying(), "copying"}, {m.Freeze, "taking the VM snapshot"}} {
		if q.took > largest {
			largest, why = q.took, q.what
		}
	}
	return fmt.Sprintf("%s takes %s", why, inWords(largest))
}

// Converges reports whether deltas become smaller than what is written
// meanwhile; if not, why has the numbers. A guest's writes are told from
// freeze to freeze and its uploads while copying, so that a VM that is
// replicated without a pause and falls back all the same shows here. One delta
// alone proves nothing: it may be the first after a seed.
func Converges(m Measure) (ok bool, why string) {
	if m.Cycles < 2 || m.PutRate <= 0 || m.ChangeRate <= m.PutRate {
		return true, ""
	}
	return false, fmt.Sprintf("the guest changes %s/s and %s/s are uploaded: each delta takes longer than the one before; give it more bandwidth, or have the guest write less",
		bytesInWords(m.ChangeRate), bytesInWords(m.PutRate))
}
