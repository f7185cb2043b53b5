package schedule

import (
	"testing"
	"time"
)

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 300 * time.Millisecond: "300ms", 9 * time.Second: "9s", 22 * time.Minute: "22m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 90 * time.Minute: "1h30m", time.Hour + 59*time.Second: "1h1m", 10 * time.Minute: "10m", 20 * time.Hour: "20h",
		47 * time.Hour: "47h", 48 * time.Hour: "2d", 76 * time.Hour: "3d4h", -time.Minute: "-1m", time.Hour + 10*time.Second: "1h",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestBytesInWords(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 12: "12 B", 999.7: "1 kB", 12e6: "12 MB", 1.5e9: "1.5 GB", 2e9: "2 GB", 9.96e6: "10 MB", 3e18: "3000 PB"} {
		if got := bytesInWords(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	now := time.Date(2026, 7, 1, 22, 30, 0, 0, time.UTC) // 00:30 in Berlin
	for at, want := range map[string]string{
		"2026-07-01T23:00:00Z": "01:00 CEST", "2026-07-01T21:00:00Z": "1 Jul 23:00 CEST", "2025-12-01T12:04:00Z": "1 Dec 2025 13:04 CET",
	} {
		if got := clock(instant(t, at), now, berlin); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// instant reads RFC 3339, or "2006-01-02 15:04" with seconds or not as UTC.
func instant(t testing.TB, s string) time.Time {
	t.Helper()
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at
		}
	}
	t.Fatalf("%q is no instant", s)
	return time.Time{}
}
