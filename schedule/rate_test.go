package schedule

import (
	"encoding/json"
	"testing"
)

func TestParseRate(t *testing.T) {
	for s, want := range map[string]Rate{
		"200MB/s": 200e6, "200 MB/s": 200e6, "190MiB/s": 190 << 20, "800Mbit/s": 100e6, "1Gbps": 125e6, "1Gbit": 125e6,
		"1.5GB/s": 1.5e9, "1000": 1000, "64KiB/s": 64 << 10, "8kbit/s": 1000, "0": 0, "none": 0, " 10MB ": 10e6, "100Mb/s": 12.5e6,
	} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "fast", "-1MB/s", "1XB/s", "0MB/s", "0.1", "1e9", "9999999999999GB/s", "MB/s", "1MB/h"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("%q gave %d", s, got)
		}
	}
}

func TestRateRoundTrip(t *testing.T) {
	for _, want := range []Rate{0, 1, 12_500_000, 1 << 40} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Rate
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%d became %s and %d, %v", want, text, got, err)
		}
	}
}
