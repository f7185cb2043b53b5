package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"snapferry/cmd/internal/config"
	"snapferry/transfer"
)

func TestThePlanUsesTheMeasuredRate(t *testing.T) {
	w := &wire{cfg: config.Config{StateDir: t.TempDir()}}
	start := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	disk := func(put, done int64, from, to int) transfer.DiskReport {
		return transfer.DiskReport{Put: put, Done: done, CopyStarted: start.Add(time.Duration(from) * time.Second), CopyEnded: start.Add(time.Duration(to) * time.Second)}
	}
	few := transfer.Report{Ended: start, Disks: []transfer.DiskReport{disk(127, 2000, 0, 1)}}
	w.noteRate([]transfer.Report{few, {Error: "cut", Disks: []transfer.DiskReport{disk(500, 500, 0, 1)}}})
	if _, from := w.planRate(syncOptions{}); !strings.HasPrefix(from, "assumed") {
		t.Errorf("too little was put, and yet the rate is %s", from)
	}
	w.noteRate([]transfer.Report{{Ended: start, Disks: []transfer.DiskReport{disk(200, 1000, 0, 10), disk(0, 1000, 5, 20), {}}}})
	rate, from := w.planRate(syncOptions{})
	if want := 2000.0 * transfer.BlockSize / 20; rate != want || !strings.HasPrefix(from, "measured 2026-03-04") {
		t.Errorf("%v (%s), want %v", rate, from, want)
	}
	if err := os.WriteFile(w.rateFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, from := w.planRate(syncOptions{}); !strings.HasPrefix(from, "assumed") {
		t.Errorf("an unreadable note gave a rate: %s", from)
	}
}
