package schedule

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestWindowErrors(t *testing.T) {
	for _, x := range []struct {
		w    Window
		want string
	}{
		{Window{Days: "mon-", From: "1:00", To: "2:00"}, "days"},
		{Window{Days: "monday", From: "1:00", To: "2:00"}, `"monday"`},
		{Window{Days: "mon,,tue", From: "1:00", To: "2:00"}, "days"},
		{Window{From: "", To: "2:00"}, "from"},
		{Window{From: "24:00", To: "2:00"}, "cannot begin at 24:00"},
		{Window{From: "1:60", To: "2:00"}, "from"},
		{Window{From: "1:00", To: "24:01"}, "to"},
		{Window{From: "1:00", To: "2"}, "to"},
		{Window{From: "+1:00", To: "2:00"}, "from"},
		{Window{From: "001:00", To: "2:00"}, "from"},
		{Window{From: "1:00", To: "2:5"}, "to"},
	} {
		if _, err := x.w.spans(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q in it", x.w, err, x.want)
		}
	}
}

func TestBlackoutAt(t *testing.T) {
	night := Window{From: "22:00", To: "06:00"}
	for name, x := range map[string]struct {
		zone    string
		windows []Window
		at      string
		until   string // "" is outside
	}{
		"before":                         {"", []Window{night}, "2026-07-01 21:59:59", ""},
		"begin":                          {"", []Window{night}, "2026-07-01 22:00", "2026-07-02 06:00"},
		"over midnight":                  {"", []Window{night}, "2026-07-02 00:00", "2026-07-02 06:00"},
		"end":                            {"", []Window{night}, "2026-07-02 06:00", ""},
		"zone":                           {"Europe/Berlin", []Window{night}, "2026-07-01 20:00", "2026-07-02 04:00"},
		"belongs to the day it begins":   {"", []Window{{Days: "fri", From: "22:00", To: "06:00"}}, "2026-07-04 05:00", "2026-07-04 06:00"}, // a Saturday
		"not on the day after":           {"", []Window{{Days: "fri", From: "22:00", To: "06:00"}}, "2026-07-03 05:00", ""},
		"sunday into monday":             {"", []Window{{Days: "sun", From: "22:00", To: "06:00"}}, "2026-07-05 23:00", "2026-07-06 06:00"},
		"days over the week's end":       {"", []Window{{Days: "fri-mon", From: "00:00", To: "24:00"}}, "2026-07-03 01:00", "2026-07-07 00:00"},
		"touching windows":               {"", []Window{{From: "20:00", To: "22:00"}, night}, "2026-07-01 20:30", "2026-07-02 06:00"},
		"overlapping":                    {"", []Window{{From: "05:00", To: "09:00"}, night}, "2026-07-01 22:30", "2026-07-02 09:00"},
		"inside another":                 {"", []Window{{From: "23:00", To: "23:30"}, night}, "2026-07-01 23:15", "2026-07-02 06:00"},
		"whole day":                      {"", []Window{{Days: "wed", From: "08:00", To: "08:00"}}, "2026-07-01 09:00", "2026-07-02 08:00"},
		"commas":                         {"", []Window{{Days: "Mon, wed,fri", From: "1:00", To: "2:00"}}, "2026-07-01 01:30", "2026-07-01 02:00"},
		"the night that is shorter":      {"Europe/Berlin", []Window{night}, "2026-03-28 21:00", "2026-03-29 04:00"},
		"the night that is longer":       {"Europe/Berlin", []Window{night}, "2026-10-24 20:00", "2026-10-25 05:00"},
		"an hour that is skipped":        {"Europe/Berlin", []Window{{From: "02:00", To: "03:00"}}, "2026-03-29 01:00", ""},
		"ends in the skipped hour":       {"Europe/Berlin", []Window{{From: "01:00", To: "02:30"}}, "2026-03-29 00:30", "2026-03-29 01:00"},
		"begins in the skipped hour":     {"Europe/Berlin", []Window{{From: "02:30", To: "04:00"}}, "2026-03-29 01:00", "2026-03-29 02:00"},
		"the hour that is twice":         {"Europe/Berlin", []Window{{From: "02:00", To: "03:00"}}, "2026-10-25 00:10", "2026-10-25 02:00"},
		"half of it, the first time":     {"Europe/Berlin", []Window{{From: "02:00", To: "02:30"}}, "2026-10-25 00:10", "2026-10-25 00:30"},
		"half of it, between":            {"Europe/Berlin", []Window{{From: "02:00", To: "02:30"}}, "2026-10-25 00:40", ""},
		"half of it, the second time":    {"Europe/Berlin", []Window{{From: "02:00", To: "02:30"}}, "2026-10-25 01:10", "2026-10-25 01:30"},
		"the week but an hour":           {"", []Window{{Days: "mon-sat", From: "00:00", To: "24:00"}, {Days: "sun", From: "01:00", To: "24:00"}}, "2026-07-01 09:00", "2026-07-05 00:00"},
		"nothing that lasts":             {"", nil, "2026-07-01 09:00", ""},
		"for ever is looked at again":    {"", []Window{{From: "00:00", To: "24:00"}}, "2026-07-01 09:00", "2026-07-08 09:00"},
		"America/New_York goes forward":  {"America/New_York", []Window{{From: "01:30", To: "03:30"}}, "2026-03-08 06:30", "2026-03-08 07:30"},
		"half an hour (Lord Howe) is so": {"Australia/Lord_Howe", []Window{{From: "01:00", To: "02:15"}}, "2026-10-03 15:00", "2026-10-03 15:30"},
	} {
		p := &Policy{TimeZone: x.zone, Blackout: x.windows}
		until, in := p.BlackoutAt(instant(t, x.at))
		if in != (x.until != "") || (in && !until.Equal(instant(t, x.until))) {
			t.Errorf("%s: %v until %v, want %q", name, in, until.UTC(), x.until)
		}
	}
}

func TestLimitAt(t *testing.T) {
	p := &Policy{TimeZone: "Europe/Berlin", Bandwidth: []Bandwidth{
		{Window{Days: "mon-fri", From: "08:00", To: "18:00"}, 50e6},
		{Window{From: "12:00", To: "13:00"}, 20e6},
		{Window{From: "00:00", To: "24:00"}, 100e6},
		{Window{From: "nonsense", To: "24:00"}, 1},
	}}
	for at, want := range map[string]Rate{
		"2026-07-01 05:59": 100e6, "2026-07-01 06:00": 50e6, "2026-07-01 10:00": 20e6, "2026-07-01 11:00": 50e6, "2026-07-04 08:00": 100e6,
	} {
		if got, ok := p.LimitAt(instant(t, at)); !ok || got != want {
			t.Errorf("%s: %d %v, want %d", at, got, ok, want)
		}
	}
	p.Bandwidth = p.Bandwidth[:2]
	if got, ok := p.LimitAt(instant(t, "2026-07-01 05:59")); ok {
		t.Errorf("there is a limit of %d where none is", got)
	}
}

// TestHoldsMinuteByMinute compares holds with what the wall clock says of
// every minute around changes of the clocks.
func TestHoldsMinuteByMinute(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, z := range []struct{ zone, around string }{
		{"Europe/Berlin", "2026-03-29 01:00"}, {"Europe/Berlin", "2026-10-25 01:00"}, {"America/New_York", "2026-11-01 06:00"},
		{"Australia/Lord_Howe", "2026-04-04 15:00"}, {"Pacific/Apia", "2011-12-30 10:00"}, // a whole day was skipped
	} {
		loc, mid := zone(t, z.zone), instant(t, z.around)
		for range 12 {
			p := &Policy{TimeZone: z.zone, Blackout: randomWindows(r)}
			w := p.blackout()
			from, to := mid.Add(-30*time.Hour), mid.Add(30*time.Hour)
			wasIn, until := w.holds(from, loc)
			for at := from; at.Before(to); at = at.Add(time.Minute) {
				if !until.IsZero() && !at.Before(until) {
					wasIn, until = w.holds(at, loc)
				}
				if want := insideByClock(p.Blackout, at.In(loc)); want != wasIn {
					t.Fatalf("%s, %+v: at %v it says %v until %v", z.zone, p.Blackout, at.In(loc), wasIn, until.In(loc))
				}
			}
		}
	}
}

func randomWindows(r *rand.Rand) []Window {
	var ws []Window
	for range 1 + r.IntN(3) {
		clock := func() string {
			return time.Date(2000, 1, 1, r.IntN(24), 15*r.IntN(4), 0, 0, time.UTC).Format("15:04")
		}
		w := Window{From: clock(), To: clock()}
		if r.IntN(2) == 0 {
			w.Days = dayNames[r.IntN(7)] + "-" + dayNames[r.IntN(7)]
		}
		ws = append(ws, w)
	}
	return ws
}

// insideByClock asks the plainest way.
func insideByClock(ws []Window, at time.Time) bool {
	minutes := func(s string) int {
		c, _ := time.Parse("15:04", s)
		return c.Hour()*60 + c.Minute()
	}
	now := at.Hour()*60 + at.Minute()
	today := (int(at.Weekday()) + 6) % 7
	for _, w := range ws {
		days, _ := parseDays(w.Days)
		from, to := minutes(w.From), minutes(w.To)
		if to > from {
			if days[today] && from <= now && now < to {
				return true
			}
			continue
		}
		if (days[today] && now >= from) || (days[(today+6)%7] && now < to) {
			return true
		}
	}
	return false
}

func FuzzWindow(f *testing.F) {
	f.Add("mon-fri", "22:00", "06:00", "Europe/Berlin", int64(1_774_746_000))
	f.Add("", "00:00", "24:00", "", int64(0))
	f.Add("fri-mon,wed", "8:00", "8:00", "America/New_York", int64(1_793_000_000))
	f.Fuzz(func(t *testing.T, days, from, to, zone string, at int64) {
		p := &Policy{TimeZone: zone, Blackout: []Window{{Days: days, From: from, To: to}}}
		when := time.Unix(at%(1<<33), 0)
		until, in := p.BlackoutAt(when)
		if in && !until.After(when) {
			t.Fatalf("a blackout at %v ends at %v", when, until)
		}
		if _, still := p.BlackoutAt(until); in && still && !p.blackout().whole() {
			t.Fatalf("a blackout at %v ends at %v and does not", when, until)
		}
	})
}
