package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// syncResult is the result of sync: the report of each cycle, in the order of
// the arguments.
type syncResult struct {
	Cycles []transfer.Report `json:"cycles"`
	Calls  transfer.Calls    `json:"calls"` // of all cycles together
}

// Exit is 3 where something was left that needs a hand.
func (s *syncResult) Exit() int {
	for _, r := range s.Cycles {
		if len(r.Alarms) > 0 {
			return exitAlarm
		}
	}
	return exitDone
}

func (s *syncResult) Text(w io.Writer) {
	for i, r := range s.Cycles {
		if i > 0 {
			fmt.Fprintln(w)
		}
		reportText(w, r)
	}
	if len(s.Cycles) > 1 { // finding the VMs is in these, and cycles side by side have none of their own
		fmt.Fprintf(w, "\ncalls together: %d to vCenter, %d to AWS\n", s.Calls.VCenter, s.Calls.AWS)
	}
}

func reportText(w io.Writer, r transfer.Report) {
	fmt.Fprintf(w, "%s: %s", r.VMName, outcomeText(r))
	if r.Point != "" {
		fmt.Fprintf(w, " %s", r.Point)
	}
	fmt.Fprintf(w, ", %s", tookText(r.Took(time.Now())))
	if !r.Frozen.IsZero() {
		fmt.Fprintf(w, ", frozen %s%s", timeText(r.Frozen), quiescedText(r))
	}
	fmt.Fprintln(w)
	if len(r.Disks) > 0 {
		t := newTable("DISK", "KIND", ">AREAS", ">READ", ">PUT", ">IDENTICAL", ">ZERO", ">TIME", ">RATE", "SNAPSHOT", "WHY")
		for _, d := range r.Disks {
			t.row(d.Label, orDash(string(d.Kind)), d.Areas, bytesText(d.BytesRead), d.Put, d.Identical, d.Zero,
				tookText(d.CopyEnded.Sub(d.CopyStarted)), rateText(d.Rate), diskSnapshot(d), orDash(d.Reason))
		}
		t.write(w, "  ")
	}
	for _, d := range r.Disks {
		auditText(w, d)
	}
	timesText(w, r)
	if r.Calls != (transfer.Calls{}) {
		fmt.Fprintf(w, "  calls: %d to vCenter, %d to AWS\n", r.Calls.VCenter, r.Calls.AWS)
	}
	if r.Tracking != "" {
		fmt.Fprintf(w, "  change tracking: %s\n", r.Tracking)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
	for _, a := range r.Alarms {
		fmt.Fprintf(w, "  ALARM: %s\n", a)
	}
}

// timesText says what vCenter and EC2 took of the time: no interval can be
// shorter.
func timesText(w io.Writer, r transfer.Report) {
	var parts []string
	add := func(what string, d time.Duration) {
		if d > 0 {
			parts = append(parts, what+" "+tookText(d))
		}
	}
	add("taken in", r.FreezeTook)
	add("held", r.FrozenFor)
	add("removed in", r.ReleaseTook)
	if len(parts) > 0 {
		fmt.Fprintf(w, "  VM snapshot: %s\n", strings.Join(parts, ", "))
	}
	if r.SealTook > 0 {
		fmt.Fprintf(w, "  EC2 completed the snapshots in %s\n", tookText(r.SealTook))
	}
	if floor := schedule.Floor(schedule.Measure{}.After(r, nil)); floor > 0 {
		fmt.Fprintf(w, "  shortest interval that a cycle like this allows: %s\n", tookText(floor))
	}
}

// auditText says what the audit of a disk looked at, and what it would have
// found.
func auditText(w io.Writer, d transfer.DiskReport) {
	a := d.Audit
	if a == nil {
		return
	}
	found := "all as they were"
	if a.Wrong > 0 {
		found = fmt.Sprintf("%d DIFFER", a.Wrong)
	}
	fmt.Fprintf(w, "  audit of %s: %d of %d unchanged blocks read, %s (odds of meeting one lost block %.3g %%, one of ten %.3g %%)\n",
		d.Label, a.Blocks, a.Of, found, 100*a.Odds, 100*a.Odds10)
}

// diskSnapshot is what AWS has of the disk after the cycle.
func diskSnapshot(d transfer.DiskReport) string {
	switch {
	case d.Sealed:
		return string(d.Snapshot)
	case d.Kept:
		return string(d.Snapshot) + " (draft, kept)"
	case d.Snapshot != "":
		return "-" // a draft that was given up
	}
	return orDash(string(d.Parent))
}

func outcomeText(r transfer.Report) string {
	switch r.Outcome {
	case transfer.OutcomePoint:
		return "new recovery point"
	case transfer.OutcomeConfirmed:
		return "nothing changed: confirmed recovery point"
	case transfer.OutcomeFailed:
		return "no recovery point"
	}
	return "not done"
}

func quiescedText(r transfer.Report) string {
	if r.Quiesced {
		return " (file systems quiesced)"
	}
	return " (crash-consistent)"
}
