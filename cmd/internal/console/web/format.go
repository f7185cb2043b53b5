package web

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// size is bytes in the units of storage: "12.4 GiB".
func size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return short(v) + " " + units[i]
}

// rate is bytes a second in the units of networks: "84.2 MB/s".
func rate(v float64) string {
	units := []string{"B/s", "kB/s", "MB/s", "GB/s"}
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return short(v) + " " + units[i]
}

// short is three significant digits without zeros at the end.
func short(v float64) string {
	digits := 0
	if v < 99.95 {
		digits = 1
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	return strings.TrimSuffix(s, ".0")
}

// count groups thousands: "2,000".
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// span is a duration as people say it; static/time.js says the same.
func span(d time.Duration) string {
	s := d.Seconds()
	switch {
	case s < 0:
		return "0 s"
	case s > 0 && s < 1:
		return strconv.FormatFloat(math.Max(s, 0.1), 'f', 1, 64) + " s"
	case s < 60:
		return fmt.Sprintf("%d s", int(s))
	case s < 3600:
		return fmt.Sprintf("%d min", int(s/60))
	case s < 48*3600:
		return pair(int(s/3600), "h", int(s/60)%60, "min")
	default:
		return pair(int(s/86400), "d", int(s/3600)%24, "h")
	}
}

// exact is a duration to the second up to an hour: a downtime of 3 min 50 s is
// not one of 3 min.
func exact(d time.Duration) string {
	if s := int(d.Seconds()); s >= 60 && s < 3600 {
		return pair(s/60, "min", s%60, "s")
	}
	return span(d)
}

func pair(a int, unitA string, b int, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// relative is "12 min ago" or "in 3 h", from whole seconds: pages carry no
// more, and scripts have to come to the same.
func relative(now, t time.Time) string {
	d := now.Truncate(time.Second).Sub(t.Truncate(time.Second))
	switch {
	case d < 0:
		return "in " + span(-d)
	case d < time.Second:
		return "just now"
	default:
		return span(d) + " ago"
	}
}

const (
	isoFormat   = "2006-01-02T15:04:05Z"
	exactFormat = "2006-01-02 15:04:05 UTC"
	plainFormat = "2006-01-02 15:04 UTC"
)

// ago is a time element that says how long ago it was or will be; scripts keep
// it true. Its parts are all of our making.
func ago(now, t time.Time) template.HTML {
	return timeElement(t, "rel", func() string { return relative(now, t) })
}

// clock is a time element with the date and the minute: in UTC, and by scripts
// in the browser's zone.
func clock(t time.Time) template.HTML {
	return timeElement(t, "full", func() string { return t.UTC().Format(plainFormat) })
}

// second is a time element with hours, minutes and seconds, for log lines.
func second(t time.Time) template.HTML {
	return timeElement(t, "sec", func() string { return t.UTC().Format("15:04:05") })
}

// minute is a time element with hours and minutes, for the axes of charts.
func minute(t time.Time) template.HTML {
	return timeElement(t, "min", func() string { return t.UTC().Format("15:04") })
}

func timeElement(t time.Time, kind string, text func() string) template.HTML {
	if t.IsZero() {
		return `<span class="none">–</span>`
	}
	u := t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s" data-time="%s">%s</time>`,
		u.Format(isoFormat), u.Format(exactFormat), kind, template.HTMLEscapeString(text())))
}
