package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"snapferry/transfer"
)

// cycleTable is the reports of the demo's cycles, a line a disk.
type cycleTable []transfer.Report

func (t cycleTable) write(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CYCLE\tDISK\tKIND\tAREAS\tREAD\tPUT\tIDENTICAL\tZERO\tCALLS vC/AWS\tTOOK\tRATE\tWHY")
	for _, r := range t {
		for i, d := range r.Disks {
			cycle, calls, took := "", "", ""
			if i == 0 {
				cycle = string(r.Cycle) + " " + string(r.Outcome)
				calls = fmt.Sprintf("%d/%d", r.Calls.VCenter, r.Calls.AWS)
				took = r.Took(r.Ended).Round(10 * time.Millisecond).String()
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d MiB\t%d\t%d\t%d\t%s\t%s\t%.0f MB/s\t%s\n", cycle, d.Label, d.Kind,
				d.Areas, d.BytesRead/mib, d.Put, d.Identical, d.Zero, calls, took, d.Rate/1e6, d.Reason)
		}
	}
	_ = tw.Flush() // to a terminal or a pipe: nothing to be done about it
}
