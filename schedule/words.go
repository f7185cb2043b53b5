package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// inWords is a duration for a person: "9s", "22m", "1h30m", and from two days
// on "3d4h". Seconds are left out of an hour or more.
func inWords(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + inWords(-d)
	case d == 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d >= 2*day:
		d = d.Round(time.Hour)
		if d%day == 0 {
			return fmt.Sprintf("%dd", d/day)
		}
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		d = d.Round(time.Minute)
	default:
		d = d.Round(time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// clock is an instant for a person who looks at it at now: "12:04 CEST", with
// the date where that is not today's.
func clock(t, now time.Time, loc *time.Location) string {
	t, now = t.In(loc), now.In(loc)
	switch {
	case t.Year() != now.Year():
		return t.Format("2 Jan 2006 15:04 MST")
	case t.YearDay() != now.YearDay():
		return t.Format("2 Jan 15:04 MST")
	}
	return t.Format("15:04 MST")
}

// bytesInWords is a number of bytes for a person: "12 MB", "1.5 GB".
func bytesInWords(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for n >= 999.5 && i < len(units)-1 {
		n /= 1000
		i++
	}
	digits := 0
	if n < 9.95 && i > 0 {
		digits = 1
	}
	return strings.TrimSuffix(strconv.FormatFloat(n, 'f', digits, 64), ".0") + " " + units[i]
}

// plural is "1 disk", "2 disks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
