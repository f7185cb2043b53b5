package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Args: "[VM]", Short: "how replication stands, of all VMs or of one",
		Long: `Lag is how old the data of a VM's newest recovery point is. Forecast is how long
a final sync would take if it began now.`,
		Examples: []string{"snapferry status", "snapferry status app01", "snapferry status --state stalled --json"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			var q schedule.VMQuery
			own.StringVar((*string)(&q.Replication), "state", "", "only VMs in this `state`, such as stalled or up-to-date")
			own.StringVar(&q.Wave, "wave", "", "only VMs of this `wave`")
			own.StringVar(&q.Policy, "policy", "", "only VMs of this `policy`")
			own.StringVar(&q.Sort, "sort", "name", "`key`: name, lag, size, state, next or backlog")
			s, r := deskFlags(fs)
			return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
				switch len(args) {
				case 0:
					return wholeStatus(ctx, d, q)
				case 1:
					vms, err := d.Resolve(ctx, args)
					if err != nil {
						return nil, err
					}
					detail, err := d.VM(ctx, vms[0])
					return vmDetail{detail}, err
				}
				return nil, cli.Usagef("status takes one VM, or none for all")
			})
		},
	}
}

// statusList is the result of status.
type statusList struct {
	Overview schedule.Overview   `json:"overview"`
	VMs      []schedule.VMStatus `json:"vms"`
	Alarms   []schedule.Alarm    `json:"alarms"`
	Alone    bool                `json:"noDaemon,omitempty"`
}

// pageSize of the lists that are read whole.
const pageSize = 1000

func wholeStatus(ctx context.Context, d *desk, q schedule.VMQuery) (cli.Value, error) {
	l := statusList{Alone: d.alone}
	var err error
	if l.Overview, err = d.Overview(ctx); err != nil {
		return nil, err
	}
	if l.Alarms, err = d.Alarms(ctx, false, pageSize); err != nil {
		return nil, err
	}
	q.Limit = pageSize
	for {
		page, err := d.VMs(ctx, q)
		if err != nil {
			return nil, err
		}
		l.VMs = append(l.VMs, page.VMs...)
		q.Offset += len(page.VMs)
		if len(page.VMs) == 0 || q.Offset >= page.Total {
			return l, nil
		}
	}
}

// Exit is 3 while an alarm is open.
func (l statusList) Exit() int {
	if len(l.Alarms) > 0 {
		return exitAlarm
	}
	return exitDone
}

func (l statusList) Text(w io.Writer) {
	o := l.Overview
	fmt.Fprintf(w, "%s", plural(int64(o.VMs), "VM"))
	for _, s := range schedule.Replications() {
		if n := o.ByState[s]; n > 0 {
			fmt.Fprintf(w, ", %d %s", n, s)
		}
	}
	fmt.Fprintf(w, "; %d running, %d queued; %s read, %s put\n", o.Running, o.Queued, rateText(o.Throughput), rateText(o.PutRate))
	if len(l.VMs) > 0 {
		t := newTable("VM", "STATE", "LIFECYCLE", "POLICY", ">LAG", ">BACKLOG", ">FORECAST", "NEXT", "TROUBLE")
		for _, v := range l.VMs {
			t.row(v.Name, stateOf(v), v.Lifecycle, orDash(v.Policy), lagText(v), bytesText(v.Backlog), durationText(v.Forecast), nextText(v), orDash(v.Trouble))
		}
		t.write(w, "")
	}
	for _, a := range l.Alarms {
		fmt.Fprintf(w, "ALARM %s: %s%s\n", a.Kind, vmPrefix(a.VMName), a.Text)
		if a.Hint != "" {
			fmt.Fprintf(w, "  next: %s\n", a.Hint)
		}
	}
	if l.Alone {
		fmt.Fprintln(w, "No daemon runs on this machine: this is what its database says.")
	}
}

func vmPrefix(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}

// stateOf is the replication state, with how far a running cycle is.
func stateOf(v schedule.VMStatus) string {
	text := string(v.Replication)
	if v.Run == nil || v.Run.State != schedule.RunRunning {
		return text
	}
	var done, all int64
	for _, d := range v.Run.Report.Disks {
		done, all = done+d.Done, all+d.Blocks
	}
	if all > 0 {
		text += fmt.Sprintf(" %d%%", done*100/all)
	}
	return text
}

func lagText(v schedule.VMStatus) string {
	if v.Point.Cycle == "" {
		return "-"
	}
	return durationText(v.Lag)
}

func durationText(d schedule.Duration) string {
	if d == 0 {
		return "-"
	}
	return tookText(d.Std())
}

func nextText(v schedule.VMStatus) string {
	if v.Next.IsZero() {
		return "-"
	}
	if left := time.Until(v.Next); left > 0 {
		return "in " + tookText(left.Round(time.Second))
	}
	return "now"
}

// vmDetail is the result of status VM.
type vmDetail struct{ schedule.VMDetail }

func (d vmDetail) Text(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, %s\n", d.Name, stateOf(d.VMStatus), d.Lifecycle)
	line := func(name, value string) {
		if value != "" && value != "-" {
			fmt.Fprintf(w, "  %-10s %s\n", name, value)
		}
	}
	line("path", d.Path)
	line("trouble", d.Trouble)
	line("policy", d.Policy)
	if d.Lifecycle.Replicates() {
		line("lag", lagText(d.VMStatus))
		line("next", nextText(d.VMStatus)+" "+d.NextWhy)
	}
	line("backlog", bytesText(d.Backlog))
	line("forecast", durationText(d.Forecast))
	line("interval", floorText(d.VMStatus))
	if d.Paused {
		line("paused", "yes "+d.PausedWhy)
	}
	for _, j := range d.LaunchJobs {
		line(j.Purpose, launchLine(j))
	}
	if len(d.Points) > 0 {
		t := newTable("POINT", "FROZEN", "CONFIRMED", "KIND", ">BLOCKS", ">DISKS", "STATE")
		for _, p := range d.Points {
			t.row(p.Cycle, timeText(p.Frozen), timeText(p.Confirmed), p.Kind, p.Blocks, p.Disks, rowState(p))
		}
		t.write(w, "  ")
	}
	runTable(w, d.Runs)
	for _, a := range d.Alarms {
		fmt.Fprintf(w, "  ALARM %s: %s\n", a.Kind, a.Text)
	}
}

// launchLine is an open launch in a line.
func launchLine(j schedule.LaunchJob) string {
	text := fmt.Sprintf("%s is %s %s %s", j.ID, j.State, j.Instance, j.Address)
	if !j.Ends.IsZero() {
		text += ", ends by itself at " + timeText(j.Ends)
	}
	if j.Error != "" {
		text += ": " + j.Error
	}
	return text
}

// floorText is the shortest interval that the measured cycles allow.
func floorText(v schedule.VMStatus) string {
	if v.Floor == 0 {
		return ""
	}
	m := v.Measure
	return fmt.Sprintf("%s at least: freezing takes %s, removing the VM snapshot %s, a cycle %s",
		tookText(v.Floor.Std()), tookText(m.Freeze), tookText(m.Release), tookText(m.Cycle))
}

func rowState(p schedule.PointRow) string {
	text := "complete"
	switch {
	case p.Suspect != "":
		text = "SUSPECT: " + p.Suspect
	case !p.Complete:
		return "incomplete"
	case !p.Verified.IsZero():
		text = "verified " + timeText(p.Verified)
	}
	if !p.Proved.IsZero() {
		text += ", booted " + timeText(p.Proved)
	}
	return text
}
