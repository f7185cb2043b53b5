package schedule

import (
	"testing"
	"time"
)

func TestCronNext(t *testing.T) {
	for name, x := range map[string]struct {
		expr, zone, after string
		want              []string // UTC
	}{
		"nightly":                    {"30 2 * * *", "", "2026-07-01 02:30", []string{"2026-07-02 02:30", "2026-07-03 02:30"}},
		"a moment before":            {"30 2 * * *", "", "2026-07-01 02:29:59", []string{"2026-07-01 02:30"}},
		"zone":                       {"30 2 * * *", "Europe/Berlin", "2026-07-01 02:30", []string{"2026-07-02 00:30"}},
		"descriptor":                 {"@daily", "Asia/Kolkata", "2026-07-01 00:00", []string{"2026-07-01 18:30", "2026-07-02 18:30"}},
		"skipped fires once":         {"30 2 * * *", "Europe/Berlin", "2026-03-28 02:00", []string{"2026-03-29 01:00", "2026-03-30 00:30"}},
		"skipped ones fire as one":   {"0,20,40 2 * * *", "Europe/Berlin", "2026-03-29 00:00", []string{"2026-03-29 01:00", "2026-03-30 00:00"}},
		"with one at the gap's end":  {"0 2,3 * * *", "Europe/Berlin", "2026-03-29 00:00", []string{"2026-03-29 01:00", "2026-03-30 00:00"}},
		"twice fires once":           {"30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", []string{"2026-10-25 00:30", "2026-10-26 01:30"}},
		"twice, asked between":       {"30 2 * * *", "Europe/Berlin", "2026-10-25 00:45", []string{"2026-10-26 01:30"}},
		"twice, asked the 2nd time":  {"30 2 * * *", "Europe/Berlin", "2026-10-25 01:15", []string{"2026-10-26 01:30"}},
		"every quarter goes on":      {"*/15 * * * *", "Europe/Berlin", "2026-10-25 00:50", []string{"2026-10-25 01:00", "2026-10-25 01:15"}},
		"hourly goes on":             {"@hourly", "Europe/Berlin", "2026-10-24 23:30", []string{"2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"}},
		"hourly in spring":           {"30 * * * *", "Europe/Berlin", "2026-03-29 00:00", []string{"2026-03-29 00:30", "2026-03-29 01:30"}},
		"quarters in spring":         {"*/15 * * * *", "America/New_York", "2026-03-08 06:45", []string{"2026-03-08 07:00", "2026-03-08 07:15"}},
		"New York skips":             {"30 2 * * *", "America/New_York", "2026-03-08 00:00", []string{"2026-03-08 07:00", "2026-03-09 06:30"}},
		"New York twice":             {"30 1 * * *", "America/New_York", "2026-11-01 00:00", []string{"2026-11-01 05:30", "2026-11-02 06:30"}},
		"no midnight (Sao Paulo)":    {"0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00", []string{"2018-11-04 03:00", "2018-11-05 02:00"}},
		"midnight twice (Sao Paulo)": {"30 23 * * *", "America/Sao_Paulo", "2018-02-17 12:00", []string{"2018-02-18 01:30", "2018-02-19 02:30"}},
		"a day that never was":       {"0 12 * * *", "Pacific/Apia", "2011-12-29 12:00", []string{"2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"}},
		"half an hour (Lord Howe)":   {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00", []string{"2026-10-03 15:30", "2026-10-04 15:15"}},
		"its quarters":               {"*/15 * * * *", "Australia/Lord_Howe", "2026-10-03 15:15", []string{"2026-10-03 15:30", "2026-10-03 15:45"}},
		"weekdays":                   {"0 20 * * mon-fri", "", "2026-07-03 20:00", []string{"2026-07-06 20:00"}},
		"leap day":                   {"0 0 29 2 *", "", "2026-07-03 20:00", []string{"2028-02-29 00:00"}},
	} {
		r, err := parseCron(x.expr, zone(t, x.zone))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		at := instant(t, x.after)
		for _, want := range x.want {
			if at = r.next(at); !at.Equal(instant(t, want)) {
				t.Errorf("%s: %v, want %s", name, at, want)
				break
			}
		}
	}
}

func TestCronErrors(t *testing.T) {
	for _, s := range []string{
		"", "* * * *", "* * * * * *", "61 * * * *", "TZ=UTC * * * * *", "CRON_TZ=UTC 1 * * * *", "TZ=", "@every 5m", "@EVERY 5m", "@reboot",
		"0 0 30 2 *", "0 0 31 feb,apr *", ", * * * *", "* , * * *", "* * * * 7", "nonsense",
	} {
		if _, err := parseCron(s, time.UTC); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// TestCronMinuteByMinute compares with every minute that the wall clock shows.
func TestCronMinuteByMinute(t *testing.T) {
	for _, z := range []struct{ zone, from string }{
		{"Europe/Berlin", "2026-03-28 18:00"}, {"Europe/Berlin", "2026-10-24 18:00"}, {"America/New_York", "2026-03-08 00:00"},
		{"America/New_York", "2026-11-01 00:00"}, {"Australia/Lord_Howe", "2026-04-04 09:00"}, {"America/Sao_Paulo", "2018-11-03 21:00"},
	} {
		loc, from := zone(t, z.zone), instant(t, z.from)
		for _, expr := range []string{"0 * * * *", "*/20 * * * *", "15,45 2 * * *", "0 0,1,2,3 * * *", "30 1-3 * * sun", "0 0 * * *", "59 23 * * *"} {
			r, err := parseCron(expr, loc)
			if err != nil {
				t.Fatal(err)
			}
			shown := map[string]bool{} // wall times that fired
			next := r.next(from)
			for at := from.Add(time.Minute); at.Sub(from) < 36*time.Hour; at = at.Add(time.Minute) {
				local := at.In(loc)
				text := local.Format("2006-01-02 15:04")
				match := r.spec.Next(wall(at, loc).Add(-time.Second)).Equal(wall(at, loc))
				want := match && (r.hourly || !shown[text])
				if start, _ := local.ZoneBounds(); start.Equal(at) && !want && !r.hourly {
					before := wall(at.Add(-time.Minute), loc)
					skipped := r.spec.Next(before)
					want = wall(at, loc).After(before.Add(time.Minute)) && skipped.Before(wall(at, loc))
				}
				if got := next.Equal(at); got != want {
					t.Fatalf("%s %q: at %v fires %v, want %v", z.zone, expr, local, got, want)
				}
				if want {
					shown[text] = true
					next = r.next(at)
				}
			}
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("30 2 * * mon-fri", "Europe/Berlin", int64(1_774_746_000))
	f.Add("@hourly", "America/New_York", int64(1_793_500_000))
	f.Add("*/7 1-5/2 */3 jan,feb ?", "", int64(0))
	f.Fuzz(func(t *testing.T, expr, zone string, at int64) {
		loc, err := loadZone(zone)
		if err != nil || len(expr) > 200 {
			return
		}
		r, err := parseCron(expr, loc)
		if err != nil {
			return
		}
		when := time.Unix(at%(1<<33), 0)
		for range 5 {
			next := r.next(when)
			if next.IsZero() {
				return
			}
			if !next.After(when) {
				t.Fatalf("%q in %v: after %v comes %v", expr, loc, when, next)
			}
			when = next
		}
	})
}
