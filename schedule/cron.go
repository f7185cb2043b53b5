package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// rhythm is a cron expression in a time zone. The library only says which wall
// times match: it skips what falls into the gap when clocks go forward, and
// fires twice when they go back.
type rhythm struct {
	spec *cron.SpecSchedule
	loc  *time.Location
	// hourly: the expression names no hour, so that it means "all the time",
	// and runs on through changes of the clocks.
	hourly bool
}

const everyHour = 1<<24 - 1

func parseCron(expr string, loc *time.Location) (*rhythm, error) {
	s := strings.TrimSpace(expr)
	switch {
	case strings.Contains(s, "TZ="):
		return nil, errors.New("it has a time zone in it: set timeZone instead")
	case strings.HasPrefix(strings.ToLower(s), "@every"):
		return nil, errors.New("write every: 15m instead of @every")
	}
	parsed, err := cron.ParseStandard(s)
	if err != nil {
		return nil, fmt.Errorf("%w: write five fields (minute, hour, day of month, month, day of week) such as 30 2 * * mon-fri, or @hourly, @daily, @weekly, @monthly", err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("it is no expression of five fields")
	}
	for _, field := range []uint64{spec.Minute, spec.Hour, spec.Dom, spec.Month, spec.Dow} {
		if field == 0 { // "," passes the library; it would look for a match for five years, minute by minute
			return nil, errors.New("one of its fields names nothing")
		}
	}
	spec.Location = time.UTC // wall times are written down as UTC
	if spec.Next(someMonday).IsZero() {
		return nil, errors.New("no day ever matches it")
	}
	return &rhythm{spec: spec, loc: loc, hourly: spec.Hour&everyHour == everyHour}, nil
}

// someMonday is where reckoning starts that needs no particular start.
var someMonday = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// next is the first instant after t at which the expression fires; zero when
// it never does. In a time zone whose clocks change, an expression that names
// hours fires exactly once for each wall time: at the end of the gap for one
// that is skipped, the first time for one that comes twice. One that names none
// fires whenever the clock shows a minute of it.
func (r *rhythm) next(t time.Time) time.Time {
	if r.hourly {
		return r.nextShown(t)
	}
	for w := wall(t, r.loc); ; {
		if w = r.spec.Next(w); w.IsZero() {
			return w
		}
		// Those whose instant is past share it with another, or come again.
		if at := firstAt(w, r.loc); at.After(t) {
			return at
		}
	}
}

// nextShown is the first instant after t at which the wall clock shows a time
// that matches.
func (r *rhythm) nextShown(t time.Time) time.Time {
	for {
		_, offset := t.In(r.loc).Zone()
		_, end := t.In(r.loc).ZoneBounds()
		w := r.spec.Next(wall(t, r.loc))
		if w.IsZero() {
			return w
		}
		at := w.Add(-time.Duration(offset) * time.Second)
		if end.IsZero() || at.Before(end) {
			return at
		}
		if w := wall(end, r.loc); r.spec.Next(w.Add(-time.Second)).Equal(w) {
			return end.UTC()
		}
		t = end
	}
}
