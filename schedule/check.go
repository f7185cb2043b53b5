package schedule

import (
	"fmt"
	"path"
	"regexp"
	"time"

	"snapferry/transfer"
)

const (
	minInterval = time.Minute // below it a VM hardly ever is without a VM snapshot
	maxInterval = 30 * day    // a longer one is a typing error, or no replication
	minAdaptive = 5 * time.Minute
	maxKeep     = 36_500 // points or days; a year in their place is a typing error
	minProve    = day    // more often it costs more than it tells
	maxProve    = 366 * day
)

var policyName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// invalid is an error of what a person wrote: it says all by itself, and is
// ErrInvalid.
type invalid struct{ text string }

func (e *invalid) Error() string        { return e.text }
func (e *invalid) Is(target error) bool { return target == ErrInvalid }

func invalidf(format string, args ...any) error {
	return &invalid{fmt.Sprintf(format, args...)}
}

// CheckAll checks each policy, and that no two have the same name.
func CheckAll(ps []Policy) error {
	seen := map[string]bool{}
	for i := range ps {
		if err := ps[i].Check(); err != nil {
			return err
		}
		if seen[ps[i].Name] {
			return invalidf("policy %s: there are two of this name: give each one of its own", ps[i].Name)
		}
		seen[ps[i].Name] = true
	}
	return nil
}

// Check refuses a policy that makes no sense. The error, an ErrInvalid, names
// policy and field and says what would be right.
func (p *Policy) Check() error {
	if !policyName.MatchString(p.Name) {
		return invalidf("policy %q: name must be of a-z, 0-9, dot, dash and underscore, begin with a letter or digit, and have at most 64 characters", p.Name)
	}
	for _, check := range []func() error{p.checkRhythm, p.checkJitter, p.checkWindows, p.checkRetention, p.checkWays, p.checkProve, p.checkMatch} {
		if err := check(); err != nil {
			return invalidf("policy %s: %v", p.Name, err)
		}
	}
	return nil
}

// checkRhythm looks at what says how often.
func (p *Policy) checkRhythm() error {
	if _, err := loadZone(p.TimeZone); err != nil || p.TimeZone == "Local" {
		return fmt.Errorf("timeZone: %q is no time zone that this machine knows, such as Europe/Berlin", p.TimeZone)
	}
	n := 0
	for _, set := range []bool{p.Every != 0, p.Cron != "", p.Adaptive != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("exactly one of every, cron and adaptive says how often, and %d of them are set", n)
	case p.Every != 0:
		return between("every", p.Every, minInterval, maxInterval)
	case p.Cron != "":
		if _, err := parseCron(p.Cron, time.UTC); err != nil {
			return fmt.Errorf("cron: %q: %w", p.Cron, err)
		}
		return nil
	}
	a := p.Adaptive
	if err := between("adaptive.floor", a.Floor, minAdaptive, maxInterval); err != nil {
		return err
	}
	if err := between("adaptive.ceiling", a.Ceiling, minAdaptive, maxInterval); err != nil {
		return err
	}
	if a.Floor > a.Ceiling {
		return fmt.Errorf("adaptive.floor is %s, more than adaptive.ceiling, %s: the floor is the shortest interval, the ceiling the longest", inWords(a.Floor.Std()), inWords(a.Ceiling.Std()))
	}
	return nil
}

func between(name string, d Duration, least, most time.Duration) error {
	if d.Std() < least || d.Std() > most {
		return fmt.Errorf("%s is %s: it must be from %s to %s", name, inWords(d.Std()), inWords(least), inWords(most))
	}
	return nil
}

// checkJitter: a share as long as the interval would be another slot's.
func (p *Policy) checkJitter() error {
	if p.Jitter == nil {
		return nil
	}
	j, most := p.Jitter.Std(), day
	switch {
	case p.Every != 0:
		most = p.Every.Std()
	case p.Adaptive != nil:
		most = p.Adaptive.Floor.Std()
	}
	if j < 0 || j >= most {
		return fmt.Errorf("jitter is %s: it must be from 0s to less than %s", inWords(j), inWords(most))
	}
	return nil
}

func (p *Policy) checkWindows() error {
	for i, w := range p.Blackout {
		if _, err := w.spans(); err != nil {
			return fmt.Errorf("blackout %d: %w", i+1, err)
		}
	}
	if p.blackout().whole() {
		return fmt.Errorf("blackout covers the whole week, so that nothing would ever start: leave some of it out, or pause the VMs")
	}
	for i, b := range p.Bandwidth {
		if _, err := b.spans(); err != nil {
			return fmt.Errorf("bandwidth %d: %w", i+1, err)
		}
		if b.Limit <= 0 {
			return fmt.Errorf("bandwidth %d: limit must be more than nothing, such as 50MB/s; for no limit leave the window out", i+1)
		}
	}
	return nil
}

// Rules are the policy's retention, or the default's where it has none, with
// days in its time zone: what transfer.Retain takes.
func (p *Policy) Rules() transfer.Policy {
	r := p.Retention
	r.Location = nil
	if r == (transfer.Policy{}) {
		r = transfer.DefaultPolicy()
	}
	r.Location = p.Location()
	return r
}

func (p *Policy) checkRetention() error {
	r := p.Rules()
	for _, n := range []int{r.Last, r.Days, r.Daily, r.Weekly, r.Monthly} {
		if n > maxKeep {
			return fmt.Errorf("retention: %d is more than the %d that can be meant", n, maxKeep)
		}
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	return nil
}

// checkWays looks at how cycles are run.
func (p *Policy) checkWays() error {
	switch p.Quiesce {
	case "", transfer.QuiesceOff, transfer.QuiesceTry, transfer.QuiesceRequire:
	default:
		return fmt.Errorf("quiesce: %q is none of off, try, require", p.Quiesce)
	}
	switch p.Zeros {
	case "", transfer.ZerosAuto, transfer.ZerosAll, transfer.ZerosAllocated:
	default:
		return fmt.Errorf("zeros: %q is none of auto, all, allocated", p.Zeros)
	}
	if p.Reader != "" && p.Reader != "hotadd" {
		return fmt.Errorf("reader: %q is not hotadd, the only one there is", p.Reader)
	}
	for i, name := range p.Exclude {
		if name == "" {
			return fmt.Errorf("exclude %d is empty: name a disk by its label, key, UUID or file", i+1)
		}
	}
	return nil
}

// checkProve: each proof costs an instance for as long as its checks take.
func (p *Policy) checkProve() error {
	if p.Prove == nil {
		return nil
	}
	return between("prove.every", p.Prove.Every, minProve, maxProve)
}

func (p *Policy) checkMatch() error {
	for i, m := range p.Match {
		if m == (Match{}) {
			return fmt.Errorf("match %d is empty: give it a name, folder, pool, tag or attribute; for every VM write name: \"*\"", i+1)
		}
		for _, q := range []struct{ field, pattern string }{{"name", m.Name}, {"folder", m.Folder}, {"pool", m.Pool}} {
			if _, err := path.Match(q.pattern, ""); err != nil {
				return fmt.Errorf("match %d: %s: %q is no pattern: close its brackets, or write \\[ for a bracket", i+1, q.field, q.pattern)
			}
		}
	}
	return nil
}
