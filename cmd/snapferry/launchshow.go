package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"snapferry/cmd/internal/cli"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// launchEvent is an event of a launch as --progress json has it.
type launchEvent struct {
	Launch launch.JobID  `json:"launch"`
	VM     transfer.VMID `json:"vm"`
	VMName string        `json:"vmName"`
	launch.Event
}

// tell shows an event of a launch among what else is shown.
func (d *display) tell(std cli.Streams, j launch.Job, e launch.Event) {
	switch d.paint.(type) {
	case silence:
	case *events:
		line, err := json.Marshal(launchEvent{j.ID, j.Request.VM, j.Request.VMName, e})
		if err == nil {
			_, _ = d.writer(std.Err).Write(append(line, '\n')) // as other progress
		}
	default:
		fmt.Fprintf(d.writer(std.Err), "%s  %s  %-20s  %s\n", e.At.Local().Format(time.TimeOnly), j.Request.VMName, e.Kind, e.Text)
	}
}

// launchResult is the result of test, cutover, revert and finalize: the launch
// of each VM as it is then.
type launchResult struct {
	Action   schedule.LaunchAction `json:"action"`
	Launches []launch.Job          `json:"launches"`
}

func (r *launchResult) Text(w io.Writer) {
	for i, j := range r.Launches {
		if j.ID == "" {
			continue // nothing began
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		jobText(w, j)
	}
}

func jobText(w io.Writer, j launch.Job) {
	fmt.Fprintf(w, "%s: %s %s is %s", j.Request.VMName, j.Request.Purpose, j.ID, j.State)
	if !j.Ends.IsZero() && j.State == launch.StateLaunched {
		fmt.Fprintf(w, ", ends by itself at %s", timeText(j.Ends))
	}
	fmt.Fprintln(w)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("point", "%s, frozen %s", j.Request.Point.Cycle, timeText(j.Request.Point.Frozen))
	if j.Instance != "" && j.State != launch.StateEnded {
		line("instance", "%s %s %s %s", j.Instance, j.Type, j.PrivateIP, j.PublicIP)
	}
	if j.TypeWhy != "" {
		line("type", "%s", j.TypeWhy)
	}
	conversionText(w, j.Conversion)
	for _, c := range j.Checks {
		line("check", "%s: %s", okText(c.OK), c.Name+": "+c.Text)
	}
	for _, n := range j.Notes {
		line("note", "%s", n)
	}
	if d := j.Downtime; d != nil && !d.Launched.IsZero() {
		line("downtime", "%s from the shutdown to the launch call, %s to the last step", tookText(d.ToLaunch), tookText(d.Total))
		for _, s := range d.Steps {
			line("", "  %-12s %s", s.Step, tookText(s.Took))
		}
	}
	if j.State == launch.StateFinalized {
		for _, r := range j.Left {
			line("left", "%s", r)
		}
	}
	if j.Console != "" && j.Error != "" {
		fmt.Fprintf(w, "  console, its end:\n    %s\n", strings.ReplaceAll(lastLines(j.Console, 12), "\n", "\n    "))
	}
}

func okText(ok bool) string {
	if ok {
		return "passed"
	}
	return "FAILED"
}

func conversionText(w io.Writer, c *launch.ConversionReport) {
	if c == nil {
		return
	}
	if c.Ready {
		fmt.Fprintf(w, "  %-12s %s\n", "guest", "was ready for EC2: nothing was changed")
	}
	for _, change := range c.Changes {
		fmt.Fprintf(w, "  %-12s %s\n", "guest", change)
	}
	for _, doubt := range c.Doubts {
		fmt.Fprintf(w, "  %-12s %s\n", "doubt", doubt)
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// launchPlans is the result of --plan.
type launchPlans struct {
	Plans []schedule.LaunchPreview `json:"plans"`
}

// problem is the error of an action that would be refused.
func (l *launchPlans) problem() error {
	for _, p := range l.Plans {
		if p.Problem != "" {
			return transfer.Fail(transfer.Permanent, fmt.Sprintf("%s %s", p.Action, p.VMName), fmt.Errorf("%s; nothing was begun for any VM", p.Problem), p.Hint)
		}
	}
	return nil
}

// Exit is 1 where the action would be refused.
func (l *launchPlans) Exit() int {
	if l.problem() != nil {
		return exitFailed
	}
	return exitDone
}

func (l *launchPlans) Text(w io.Writer) {
	for i, p := range l.Plans {
		if i > 0 {
			fmt.Fprintln(w)
		}
		planText(w, p)
	}
}

func planText(w io.Writer, p schedule.LaunchPreview) {
	fmt.Fprintf(w, "%s of %s", p.Action, p.VMName)
	if p.Point != "" {
		fmt.Fprintf(w, ", point %s", p.Point)
	}
	fmt.Fprintln(w, ": nothing is changed by this plan")
	if len(p.Steps) > 0 {
		t := newTable("STEP", ">TAKES", "WHAT", "BASIS")
		for _, s := range p.Steps {
			t.row(s.Name, tookText(s.Takes.Std()), s.Text, orDash(s.Basis))
		}
		t.write(w, "  ")
	}
	if p.Type != "" {
		fmt.Fprintf(w, "  instance type: %s\n", cmp.Or(p.TypeWhy, p.Type))
	}
	if p.Downtime > 0 {
		fmt.Fprintf(w, "  forecast: %s from the shutdown to the launch call, %s to the last step\n", tookText(p.ToLaunch.Std()), tookText(p.Downtime.Std()))
	}
	for _, u := range p.Unknown {
		fmt.Fprintf(w, "  not in it: %s\n", u)
	}
	if p.Cost != "" {
		fmt.Fprintf(w, "  cost: %s\n", p.Cost)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
	for _, d := range p.Denied {
		fmt.Fprintf(w, "  DENIED: %s\n", d)
	}
	if p.Problem != "" {
		fmt.Fprintf(w, "  REFUSED: %s\n", p.Problem)
		if p.Hint != "" {
			fmt.Fprintf(w, "    next: %s\n", p.Hint)
		}
	}
}
