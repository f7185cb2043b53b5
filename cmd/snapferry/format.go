package main

import (
	"fmt"
	"strings"
	"time"
)

// bytesText is a size for a person, in the units of disks: "1.5 GiB".
func bytesText(n int64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		value, unit = value/step, u
		if value < step {
			break
		}
	}
	return shortNumber(value) + " " + unit
}

// rateText is a speed for a person, in the units of networks: "210 MB/s".
func rateText(perSecond float64) string {
	if perSecond <= 0 {
		return "-"
	}
	const step = 1000
	value, unit := perSecond, "B/s"
	for _, u := range []string{"kB/s", "MB/s", "GB/s"} {
		if value < step {
			break
		}
		value, unit = value/step, u
	}
	return shortNumber(value) + " " + unit
}

// shortNumber has three digits that mean something.
func shortNumber(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	default:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
	}
}

// tookText is a length of time for a person: "850ms", "12s", "1h2m".
func tookText(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		d = d.Round(time.Second)
	default:
		d = d.Round(time.Minute)
	}
	text := d.String() // "15m0s", "1h2m0s", "168h0m0s": what is 0 says nothing
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-len(zero)+1]
		}
	}
	return text
}

// timeText is an instant for a person; UTC, since vCenter, AWS and the reader
// are rarely in one zone.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// plural is "1 disk", "2 disks".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
