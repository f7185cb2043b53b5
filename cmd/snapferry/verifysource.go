package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"snapferry/cmd/internal/cli"
	"snapferry/ebs"
	"snapferry/transfer"
)

// verifySource holds a point against its VM, frozen anew.
func (w *wire) verifySource(ctx context.Context, stop *interrupts, show *display, o verifyOptions, point transfer.Point) (cli.Value, error) {
	reader, err := w.hotadd(ctx)
	if err != nil {
		return nil, err
	}
	sources, err := w.sources(ctx, []string{point.VM.Moref}, reader)
	if err != nil {
		return nil, err
	}
	if sources[0].id != point.VM {
		return nil, transfer.Fail(transfer.Permanent, "find the VM of point "+string(point.Cycle),
			fmt.Errorf("it is %s, and %s is the %s of this vCenter", point.VM, sources[0].id, point.VM.Moref), "Log in to the vCenter that the point came from.")
	}
	env, err := w.env(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.confirmSource(ctx, o, point); err != nil {
		return nil, err
	}
	check := &transfer.SourceCheck{Env: env, Source: sources[0].source, Point: point, Gets: w.cfg.Transfer.Gets, Sample: o.sample}
	run := &comparing{point: point, check: check, done: make([]int64, len(point.Disks)), of: make([]int64, len(point.Disks)), began: time.Now()}
	check.Progress = run.compared
	defer show.close()
	defer stop.through(show.writer(w.std.Err))()
	defer stop.leaves(run.leaves)()
	unfollow := show.follow(run)
	proof, err := check.Run(ctx)
	unfollow()
	result := sourceResult{SourceProof: proof}
	for _, d := range proof.Disks { // what was proven stays proven when another disk failed
		if d.Compared == 0 {
			continue // and proves nothing
		}
		result.NotStored = append(result.NotStored, w.note(ctx, d.Snapshot, d.Verification(proof.Source))...)
	}
	return result, err
}

// confirmSource says what comparing will cost at most: what has changed since
// the point is known after the freeze only.
func (w *wire) confirmSource(ctx context.Context, o verifyOptions, point transfer.Point) error {
	var readings []*reading
	for _, s := range point.Disks {
		r, err := w.openReading(ctx, "verify", s)
		if err != nil {
			return err
		}
		if o.sample != nil {
			r.blocks = o.sample.Size(r.blocks)
		}
		readings = append(readings, r)
	}
	return confirm(ctx, w.std, costOf("verify --source takes a VM snapshot for a while, and at most", readings), o.yes)
}

// comparing is a comparison as a subject for the display.
type comparing struct {
	point transfer.Point
	check *transfer.SourceCheck
	began time.Time

	mu       sync.Mutex
	done, of []int64 // blocks, by disk
}

func (c *comparing) compared(disk int, done, of int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[disk], c.of[disk] = max(c.done[disk], done), of
}

func (c *comparing) title() string { return "verify " + c.point.VMName }
func (c *comparing) step() string  { return "compare with the source" }

func (c *comparing) tracks() []track {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ts []track
	for i, s := range c.point.Disks {
		if c.of[i] == 0 {
			continue
		}
		ts = append(ts, track{name: s.Label.DiskLabel, done: c.done[i] * transfer.BlockSize, total: c.of[i] * transfer.BlockSize})
	}
	if n := len(ts); n > 0 { // one disk after the other: the last one moves
		var before int64
		for _, t := range ts {
			before += t.done
		}
		t := &ts[n-1]
		if seconds := time.Since(c.began).Seconds(); seconds > 0 && before > 0 {
			t.rate = float64(before) / seconds
			t.left = time.Duration(float64(t.total-t.done) / t.rate * float64(time.Second))
		}
	}
	return ts
}

// comparingState is a comparison's event.
type comparingState struct {
	Snapshot transfer.SnapshotID `json:"snapshot"`
	Done     int64               `json:"done"`   // blocks
	Blocks   int64               `json:"blocks"` // to compare; 0 before it is known
}

func (c *comparing) event() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make([]comparingState, len(c.point.Disks))
	for i, s := range c.point.Disks {
		states[i] = comparingState{Snapshot: s.ID, Done: c.done[i], Blocks: c.of[i]}
	}
	return struct {
		Disks []comparingState `json:"disks"`
	}{states}
}

// leaves says what exists now and would stay behind.
func (c *comparing) leaves() []string {
	disk, frozen := c.check.Left()
	if frozen == nil {
		return nil
	}
	r := transfer.Report{Snapshot: frozen.Snapshot, Cycle: c.point.Cycle}
	if disk != "" {
		r.Disks = []transfer.DiskReport{{Label: disk, Attached: true}}
	}
	return leftovers(c.point.VMName, r)
}

// sourceResult is the result of verify --source.
type sourceResult struct {
	transfer.SourceProof
	NotStored []string `json:"notStored,omitempty"`
}

// Exit is 4 where a change was lost, and else 3 where something was left.
func (s sourceResult) Exit() int {
	switch {
	case s.wrong():
		return exitProof
	case len(s.Alarms) > 0:
		return exitAlarm
	}
	return exitDone
}

func (s sourceResult) wrong() bool {
	for _, d := range s.Disks {
		if !d.OK {
			return true
		}
	}
	return false
}

func (s sourceResult) Text(w io.Writer) {
	fmt.Fprintf(w, "%s  point %s  frozen %s, compared with the VM of %s\n", s.VMName, s.Point, timeText(s.Frozen), timeText(s.Source))
	t := newTable(">DISK", "LABEL", "SNAPSHOT", ">SIZE", ">COMPARED", ">CHANGED", "RESULT")
	for _, d := range s.Disks {
		t.row(d.Ordinal, d.Label, d.Snapshot, bytesText(d.Size), d.Compared, d.Changed, sourceVerdict(d))
	}
	t.write(w, "")
	for _, d := range s.Disks {
		if d.Wrong > 0 {
			fmt.Fprintf(w, "%s: blocks (of 512 KiB) that differ, the lowest: %v\n", d.Label, d.First)
		}
		if d.Unknown > 0 {
			fmt.Fprintf(w, "%s: %s left out of the encrypted snapshot on purpose cannot be compared\n", d.Label, plural(d.Unknown, "block"))
		}
		oddsText(w, d.Label, d.Odds, d.OK)
	}
	fmt.Fprintf(w, "%s read from AWS, %s\n", plural(s.Gets, "block"), ebs.GetCost(s.Gets))
	if s.wrong() {
		fmt.Fprintf(w, "Changes were LOST before this point: it and earlier points of these disks are marked as suspect.\n  next: snapferry sync %q --seed copies every disk whole\n", s.VMName)
	}
	for _, a := range s.Alarms {
		fmt.Fprintf(w, "ALARM: %s\n", a)
	}
	notStoredText(w, s.NotStored)
}

func sourceVerdict(d transfer.SourceDisk) string {
	switch {
	case !d.OK:
		return "WRONG: " + d.Why
	case d.Compared == 0:
		return "nothing could be compared: all has changed since"
	}
	return "as the source"
}
