package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"snapferry/transfer"
)

// measured is what the last long copy reached on this machine, for plans.
type measured struct {
	BytesPerSecond float64   `json:"bytesPerSecond"` // disk bytes looked at, of all disks together
	At             time.Time `json:"at"`
}

// leastMeasured is how many blocks a cycle must have put for its rate to mean
// something: below 64 MiB it tells of latency, not of the uplink.
const leastMeasured = 128

// rateOf is the rate of a cycle's copy; ok is false where too little was put.
func rateOf(r transfer.Report) (rate float64, ok bool) {
	var done, put int64
	var first, last time.Time
	for _, d := range r.Disks {
		if d.CopyStarted.IsZero() {
			continue
		}
		done, put = done+d.Done, put+d.Put
		if first.IsZero() || d.CopyStarted.Before(first) {
			first = d.CopyStarted
		}
		if d.CopyEnded.After(last) {
			last = d.CopyEnded
		}
	}
	seconds := last.Sub(first).Seconds()
	if put < leastMeasured || seconds <= 0 {
		return 0, false
	}
	return float64(done*transfer.BlockSize) / seconds, true
}

func (w *wire) rateFile() string { return filepath.Join(w.cfg.StateDir, "rate.json") }

// noteRate keeps the rate of the newest cycle that says something.
func (w *wire) noteRate(reports []transfer.Report) {
	for _, r := range reports {
		rate, ok := rateOf(r)
		if !ok || r.Error != "" {
			continue
		}
		text, err := json.Marshal(measured{BytesPerSecond: rate, At: r.Ended.UTC()})
		if err == nil {
			_ = os.WriteFile(w.rateFile(), text, 0o600) // only plans miss it
		}
	}
}

// lastRate is what noteRate kept; ok is false where there is nothing sensible.
func (w *wire) lastRate() (m measured, ok bool) {
	text, err := os.ReadFile(w.rateFile())
	if err != nil || json.Unmarshal(text, &m) != nil {
		return m, false
	}
	return m, m.BytesPerSecond > 0
}
