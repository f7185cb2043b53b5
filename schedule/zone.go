package schedule

import (
	"sync"
	"time"
)

// zones remembers the time zones that were asked for: reading one costs a file
// each time, and a planner asks thousands of times a minute.
var zones sync.Map // name -> *time.Location

func loadZone(name string) (*time.Location, error) {
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), nil
	}
	loc, err := time.LoadLocation(name) // "" is UTC
	if err == nil {
		zones.Store(name, loc)
	}
	return loc, err
}

// Location is the policy's time zone; UTC where there is none, or none that
// this machine knows (Check refuses that).
func (p *Policy) Location() *time.Location {
	loc, err := loadZone(p.TimeZone)
	if err != nil {
		return time.UTC
	}
	return loc
}

// wall is what a clock on the wall in loc shows at t, written down as if it
// were UTC, so that it can be reckoned with without changes of the clocks.
func wall(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// farWest is more than any zone is ahead of UTC or behind it.
const farWest = 26 * time.Hour

// firstAt is the first instant at which the wall clock in loc shows w or more:
// of a time that exists twice the first, of one that is skipped the end of the
// gap. It never runs backwards as w rises.
func firstAt(w time.Time, loc *time.Location) time.Time {
	t := w.Add(-farWest)
	for {
		start, end := t.In(loc).ZoneBounds()
		_, offset := t.In(loc).Zone()
		at := w.Add(-time.Duration(offset) * time.Second)
		if at.Before(start) && !start.IsZero() {
			at = start
		}
		if end.IsZero() || at.Before(end) {
			return at.UTC()
		}
		t = end
	}
}
