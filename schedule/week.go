package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const weekLong = 7 * day

// span is a part of the week, from Monday 00:00 on the wall clock: from <= t <
// to <= weekLong.
type span struct{ from, to time.Duration }

// week is a set of spans, ascending, disjoint and not touching.
type week []span

// weekOf joins windows into one set; what cannot be read is left out, and is
// the error.
func weekOf(windows ...Window) (week, error) {
	var all week
	var errs []error
	for _, w := range windows {
		spans, err := w.spans()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, spans...)
	}
	slices.SortFunc(all, func(a, b span) int { return int(a.from - b.from) })
	var merged week
	for _, s := range all {
		if n := len(merged); n > 0 && s.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, s.to)
			continue
		}
		merged = append(merged, s)
	}
	return merged, errors.Join(errs...)
}

// whole reports that nothing of the week is outside.
func (w week) whole() bool { return len(w) == 1 && w[0].from == 0 && w[0].to == weekLong }

// at says whether the place is inside, and how far it is to the next edge,
// which may be the week's end with more of the same behind it.
func (w week) at(place time.Duration) (in bool, edge time.Duration) {
	for _, s := range w {
		if place < s.from {
			return false, s.from - place
		}
		if place < s.to {
			return true, s.to - place
		}
	}
	return false, weekLong - place
}

// place is where in the week the wall clock stands.
func place(t time.Time, loc *time.Location) time.Duration {
	w := wall(t, loc)
	days := (int(w.Weekday()) + 6) % 7 // since Monday
	return time.Duration(days)*day + w.Sub(w.Truncate(day))
}

// holds says whether t is inside by the wall clock of loc, and until when that
// stays so; zero is for ever. A time that exists twice is inside both times.
func (w week) holds(t time.Time, loc *time.Location) (in bool, until time.Time) {
	in, _ = w.at(place(t, loc))
	if len(w) == 0 || w.whole() {
		return in, time.Time{}
	}
	// Each step goes to an edge of the week or to a change of the clocks; within
	// a week every edge is met.
	for at := t; at.Sub(t) <= 2*weekLong; {
		now, edge := w.at(place(at, loc))
		if now != in {
			return in, at
		}
		next := at.Add(edge)
		if _, end := at.In(loc).ZoneBounds(); !end.IsZero() && end.Before(next) {
			next = end
		}
		at = next
	}
	return in, time.Time{}
}

// spans are the window's parts of the week: two where it reaches over the
// week's end.
func (w Window) spans() ([]span, error) {
	days, err := parseDays(w.Days)
	if err != nil {
		return nil, err
	}
	from, err := parseOfDay(w.From)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	to, err := parseOfDay(w.To)
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	if from == day {
		return nil, errors.New(`from: a window cannot begin at 24:00: write "00:00" of the next day`)
	}
	if to <= from {
		to += day
	}
	var spans []span
	for d, on := range days {
		if !on {
			continue
		}
		s := span{time.Duration(d)*day + from, time.Duration(d)*day + to}
		if s.to > weekLong {
			spans = append(spans, span{0, s.to - weekLong})
			s.to = weekLong
		}
		spans = append(spans, s)
	}
	return spans, nil
}

// parseOfDay reads "HH:MM" from 00:00 to 24:00.
func parseOfDay(s string) (time.Duration, error) {
	hh, mm, ok := strings.Cut(s, ":")
	h, errH := strconv.ParseUint(hh, 10, 8)
	m, errM := strconv.ParseUint(mm, 10, 8)
	if !ok || errH != nil || errM != nil || len(hh) > 2 || len(mm) != 2 || m > 59 || h > 24 || (h == 24 && m > 0) {
		return 0, fmt.Errorf("%q is no time of day such as 06:00 or 22:30", s)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, nil
}

var dayNames = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// parseDays reads "mon", "mon-fri", "fri-mon" and commas between; "" is every
// day.
func parseDays(s string) (days [7]bool, err error) {
	if strings.TrimSpace(s) == "" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, b := dayNumber(first), dayNumber(last)
		if !isRange {
			b = a
		}
		if a < 0 || b < 0 {
			return days, fmt.Errorf("days: %q is none of mon, tue, wed, thu, fri, sat, sun, nor a range of them such as mon-fri", strings.TrimSpace(part))
		}
		for d := a; ; d = (d + 1) % 7 {
			days[d] = true
			if d == b {
				break
			}
		}
	}
	return days, nil
}

func dayNumber(s string) int {
	return slices.Index(dayNames, strings.ToLower(strings.TrimSpace(s)))
}

// blackout is when no cycle starts.
func (p *Policy) blackout() week {
	w, _ := weekOf(p.Blackout...) // Check refuses what cannot be read
	return w
}

// BlackoutAt says whether no cycle may start at t, and when one may again.
// Windows that touch or overlap count as one. A blackout without an end, which
// Check refuses, is looked at again after a week.
func (p *Policy) BlackoutAt(t time.Time) (until time.Time, in bool) {
	in, until = p.blackout().holds(t, p.Location())
	switch {
	case !in:
		return time.Time{}, false
	case until.IsZero():
		return t.Add(weekLong), true
	}
	return until, true
}

// LimitAt is the bandwidth limit that holds at t, and whether there is one: of
// several the lowest.
func (p *Policy) LimitAt(t time.Time) (Rate, bool) {
	var lowest Rate
	found := false
	for _, b := range p.Bandwidth {
		w, err := weekOf(b.Window)
		if err != nil {
			continue
		}
		if in, _ := w.at(place(t, p.Location())); in && (!found || b.Limit < lowest) {
			lowest, found = b.Limit, true
		}
	}
	return lowest, found
}
