package schedule

import (
	"fmt"
	"hash/fnv"
	"time"

	"snapferry/transfer"
)

// DueInput is all that decides when a VM is due.
type DueInput struct {
	VM  transfer.VMID
	Now time.Time
	// Last is the newest freeze that made or confirmed a point; zero: none.
	Last time.Time
	// Tried is the end of the newest failed run, zero without one; Fails counts
	// the failures since the last success.
	Tried time.Time
	Fails int
	// Measure is the VM's; its LastEnded tells which slots an overrun missed.
	Measure Measure
}

// Due is when a VM is next replicated.
type Due struct {
	At       time.Time     // never before Now; zero when it is not due at any time
	Why      string        // for a person, one line
	Interval time.Duration // from one cycle to the next as things stand
	Floor    time.Duration // of Floor
}

const (
	maxJitter  = 10 * time.Minute // of a policy that names none
	firstRetry = time.Minute      // doubled with every failure
	lastRetry  = time.Hour        // a vCenter that came back should not wait for longer
	// copyShare: an adaptive interval is so many times as long as its delta
	// copies.
	copyShare = 10
)

// NextDue says when a VM with this policy is due.
//
// A VM that was never replicated is due at once; admission says which of a
// thousand begins.
//
// Every has slots that lie an interval apart, the same for all time, shifted by
// the VM's own share of the jitter; Cron has its instants, each later by that
// share. The VM is due at the first one after its newest freeze and after that
// cycle's end: so slots that an overrun missed are skipped, while one that
// nobody was there to serve stays due. Since slots do not follow the freezes,
// however long a run waits the next one is not later for it. Adaptive has no
// slots: it counts from the freeze. No cycle begins sooner after a freeze than
// Floor.
//
// After a failure it is due again a minute later, then two, and so on up to an
// hour (or the interval), but never before it is due anyway. What falls into a
// blackout is due at its end, later by the VM's share of the jitter; and so is
// what comes between those two, so that all shares stay apart.
//
// The same question a moment later has the same answer, or now once the instant
// has passed: to ask often does no harm. NextDue is pure.
func NextDue(p *Policy, in DueInput) Due {
	a := &asked{DueInput: in, p: p, loc: p.Location(), share: shareOf(in.VM)}
	d := Due{Floor: Floor(in.Measure)}
	at := a.next(&d)
	if at.IsZero() {
		return Due{Why: d.Why, Floor: d.Floor}
	}
	if retry := a.retry(d.Interval); retry.After(at) {
		at = retry
		d.Why = fmt.Sprintf("again %s after the run that failed at %s", inWords(a.backoff(d.Interval)), a.clock(in.Tried))
		if in.Fails > 1 {
			d.Why += fmt.Sprintf(", the last of %d in a row", in.Fails)
		}
	}
	if at.Before(in.Now) {
		if !in.Last.IsZero() && in.Now.Sub(at) >= time.Minute {
			d.Why += ", overdue since " + a.clock(at)
		}
		at = in.Now
	}
	d.At = at
	if free, end := a.afterBlackout(at, d.Interval); free.After(at) {
		d.At = free
		d.Why += fmt.Sprintf("; not before %s because of the blackout until %s", a.clock(free), a.clock(end))
	}
	return d
}

// asked is a question to NextDue and what its answers share.
type asked struct {
	DueInput
	p     *Policy
	loc   *time.Location
	share float64 // 0 to 1, the VM's own
}

func (a *asked) clock(t time.Time) string { return clock(t, a.Now, a.loc) }

// next is when the VM is due but for failures and blackouts; it fills in
// interval and reason.
func (a *asked) next(d *Due) time.Time {
	var at time.Time
	switch p := a.p; {
	case p.Every > 0:
		at = a.every(d)
	case p.Cron != "":
		at = a.cron(d)
	case p.Adaptive != nil:
		at = a.adaptive(d)
	default:
		d.Why = fmt.Sprintf("policy %s does not say how often", p.Name)
	}
	switch {
	case at.IsZero():
		return at
	case a.Last.IsZero():
		d.Why = "it was never replicated"
		return a.Now
	}
	if least := a.Last.Add(d.Floor); least.After(at) {
		at = least
		d.Why += fmt.Sprintf("; the shortest that its cycles allow is %s, since %s", inWords(d.Floor), floorWhy(a.Measure))
	}
	d.Interval = max(d.Interval, d.Floor)
	return at
}

// served is until when slots are done with.
func (a *asked) served() time.Time {
	if a.Measure.LastEnded.After(a.Last) {
		return a.Measure.LastEnded
	}
	return a.Last
}

func (a *asked) every(d *Due) time.Time {
	d.Interval = a.p.Every.Std()
	d.Why = fmt.Sprintf("every %s, after the freeze of %s", inWords(d.Interval), a.clock(a.Last))
	phase := a.part(a.p.jitter(d.Interval)) % d.Interval
	return slotAfter(a.served(), d.Interval, phase)
}

// slotAfter is the first instant after t that lies phase behind a multiple of
// the interval since the epoch.
func slotAfter(t time.Time, interval, phase time.Duration) time.Time {
	since := t.Sub(time.Unix(0, 0)) - phase
	n := since / interval
	if since < 0 && since%interval != 0 {
		n--
	}
	return time.Unix(0, 0).UTC().Add((n+1)*interval + phase)
}

func (a *asked) cron(d *Due) time.Time {
	r, err := parseCron(a.p.Cron, a.loc)
	if err != nil {
		d.Why = fmt.Sprintf("cron %q of policy %s: %v", a.p.Cron, a.p.Name, err)
		return time.Time{}
	}
	from := a.served()
	if a.Last.IsZero() {
		from = a.Now
	}
	at := r.next(from)
	if at.IsZero() {
		d.Why = fmt.Sprintf("cron %q never comes again", a.p.Cron)
		return at
	}
	if after := r.next(at); !after.IsZero() {
		d.Interval = after.Sub(at)
	}
	d.Why = fmt.Sprintf("cron %q, after the freeze of %s", a.p.Cron, a.clock(a.Last))
	return at.Add(a.part(min(a.p.jitter(d.Interval), d.Interval)))
}

// adaptive makes the interval ten times as long as the last deltas copied, so
// that a VM is being read for a tenth of its time. That settles: a longer
// interval has a larger delta, but less than twice as large for twice as long,
// since guests write the same blocks again.
func (a *asked) adaptive(d *Due) time.Time {
	copying := a.Measure.copying()
	least, most := max(a.p.Adaptive.Floor.Std(), d.Floor), a.p.Adaptive.Ceiling.Std()
	d.Interval = max(least, min(copyShare*copying, most)).Round(time.Second)
	d.Why = fmt.Sprintf("%s after the freeze of %s", inWords(d.Interval), a.clock(a.Last))
	switch {
	case a.Measure.Cycles == 0:
		d.Why += ", until its deltas are known"
	case d.Interval == most:
		d.Why += fmt.Sprintf(", the policy's ceiling: copying a delta takes %s", inWords(copying))
	case d.Interval == a.p.Adaptive.Floor.Std():
		d.Why += fmt.Sprintf(", the policy's floor: copying a delta takes %s", inWords(copying))
	case d.Interval == d.Floor:
		d.Why += fmt.Sprintf(", the shortest that its cycles allow, since %s", floorWhy(a.Measure))
	default:
		d.Why += fmt.Sprintf(", ten times as long as copying a delta takes, %s", inWords(copying))
	}
	at := a.Last.Add(d.Interval)
	if end := a.served(); end.After(at) {
		return end
	}
	return at
}

// backoff is how long after the newest failure the next try is.
func (a *asked) backoff(interval time.Duration) time.Duration {
	most := lastRetry
	if interval > 0 {
		most = min(most, interval)
	}
	if a.Fails > 6 { // 64 minutes
		return most
	}
	return min(most, firstRetry<<(a.Fails-1))
}

func (a *asked) retry(interval time.Duration) time.Time {
	if a.Fails <= 0 || a.Tried.IsZero() {
		return time.Time{}
	}
	return a.Tried.Add(a.backoff(interval))
}

// jitter is what the VMs of the policy are spread over.
func (p *Policy) jitter(interval time.Duration) time.Duration {
	if p.Jitter != nil {
		return max(0, p.Jitter.Std())
	}
	return min(interval/10, maxJitter)
}

// part is the VM's share of a time, in whole seconds.
func (a *asked) part(of time.Duration) time.Duration {
	return time.Duration(a.share * float64(of)).Truncate(time.Second)
}

// shareOf is a number from 0 to less than 1 that stays with the VM.
func shareOf(vm transfer.VMID) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(vm.String())) // never fails
	// FNV hardly carries the last letters, in which VMs differ, to the high
	// bits: stir once more (the finisher of MurmurHash3).
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return float64((x^x>>33)>>11) / (1 << 53)
}

// afterBlackout is the first instant from at on at which the VM may begin, and
// the end of the blackout that it waits for. Each VM has its own: a blackout
// lasts for it until its share of the jitter is over, or of the time until the
// next blackout where that is shorter.
func (a *asked) afterBlackout(at time.Time, interval time.Duration) (free, end time.Time) {
	w := a.p.blackout()
	if len(w) == 0 {
		return at, end
	}
	if w.whole() {
		return at.Add(weekLong), at.Add(weekLong)
	}
	jitter := a.p.jitter(interval)
	for t := at.Add(-jitter - time.Second); ; {
		in, until := w.holds(t, a.loc)
		if until.IsZero() {
			return at, end // not in this millennium
		}
		if !in {
			if !until.After(at) {
				t = until
				continue
			}
			return at, end
		}
		_, next := w.holds(until, a.loc)
		free := until.Add(a.part(min(jitter, max(0, next.Sub(until)))))
		if t = until; free.After(at) {
			return free, until
		}
	}
}
