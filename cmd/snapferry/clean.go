package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/launch/convert"
	"snapferry/transfer"
)

type cleanOptions struct {
	dryRun bool
	id     string
	dead   bool
}

const cleanLong = `Detaches disks, removes VM snapshots, and deletes drafts and half-made points that
this appliance made and that no cycle needs any more. What a running cycle uses,
what the next sync goes on with, and what belongs to other appliances is left
alone. A file of a virtual disk is never deleted, nor a recovery point.

Tests whose time is over are ended, too; where no service runs, nothing else does
that but sync and the launch verbs when they start. What a conversion left on this
machine goes, its programs included.

sync does the same for its own VMs when it starts. clean serves for the rest, and
for an appliance that never returns: --appliance ID --dead. That is a promise
that it does not run and never will: power it off first. Its ID is in the list of
what clean found.`

func cleanCommand() *cli.Command {
	return &cli.Command{
		Name: "clean", Short: "find what a crash left in vSphere and AWS, and remove it", Long: cleanLong,
		Examples: []string{"snapferry clean --dry-run", "snapferry clean", "snapferry clean --appliance ferry-3f9c61d0a2b4 --dead --dry-run"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			o, s := &cleanOptions{}, newSettings(fs)
			own.BoolVar(&o.dryRun, "dry-run", false, "say what would be done and why; change nothing")
			own.StringVar(&o.id, "appliance", "", "clean up after the appliance with this `ID`, too")
			own.BoolVar(&o.dead, "dead", false, "the appliance that --appliance names never runs again")
			s.state(fs)
			s.vcenter(fs)
			s.devices(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				switch {
				case len(args) > 0:
					return nil, cli.Usagef("clean takes no VM: it looks at all of them")
				case o.dead && o.id == "":
					return nil, cli.Usagef("--dead wants --appliance ID: which one never runs again")
				case o.id != "" && !o.dead:
					return nil, cli.Usagef("--appliance %s wants --dead: what an appliance has made that may still run is not touched", o.id)
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				defer w.close(ctx)
				r, err := w.cleaner(ctx, transfer.ApplianceID(o.id))
				if err != nil {
					return nil, err
				}
				report, err := r.Run(ctx, o.dryRun)
				over, oerr := w.endOverdue(ctx, o.dryRun)
				swept, serr := convert.Sweep(convertFolder(w.cfg), o.dryRun)
				return cleanResult{report, over, swept}, errors.Join(err, oerr, serr)
			}
		},
	}
}

// devices are the folders in which the appliance's devices are looked for.
func (s *settings) devices(fs *pflag.FlagSet) {
	s.text(fs, "sysfs-dir", "`folder` where the kernel describes devices (default /sys)", func(c *config.Config) *string { return &c.Appliance.SysfsDir })
	s.text(fs, "dev-dir", "`folder` of device nodes (default /dev)", func(c *config.Config) *string { return &c.Appliance.DevDir })
}

// cleanResult is the result of clean.
type cleanResult struct {
	transfer.ReapReport
	Tests       []overdueTest   `json:"overdueTests,omitempty"`
	Conversions []convert.Swept `json:"conversions,omitempty"` // that a crash cut off, on this machine
}

// Exit is 3 where something stays that needs a hand.
func (r cleanResult) Exit() int {
	if len(r.Alarms) > 0 {
		return exitAlarm
	}
	return exitDone
}

func (r cleanResult) Text(w io.Writer) {
	for _, t := range r.Tests {
		done := "would be ended"
		if t.Ended {
			done = "ended"
		}
		fmt.Fprintf(w, "test %s of %s, over since %s: %s (%s)\n", t.Job, t.VM, timeText(t.Ends), done, orDash(t.Instance))
	}
	for _, c := range r.Conversions {
		fmt.Fprintln(w, r.sweptText(c))
	}
	if len(r.Things)+len(r.Unseen)+len(r.Tests)+len(r.Conversions) == 0 {
		fmt.Fprintln(w, "Nothing is left behind.")
	}
	if len(r.Things) > 0 {
		t := newTable("WHAT", "VM", "ID", "NAME", "APPLIANCE", "CYCLE", "SINCE", "ACTION", "WHY")
		for _, a := range r.Things {
			t.row(a.Kind, orDash(a.VMName), a.ID, orDash(a.Name), orDash(string(a.Appliance)), orDash(string(a.Cycle)), timeText(a.Since), r.actionText(a), a.Reason)
		}
		t.write(w, "")
	}
	for _, u := range r.Unseen {
		fmt.Fprintf(w, "not looked at: %s\n", u)
	}
	for _, a := range r.Alarms {
		fmt.Fprintf(w, "ALARM: %s\n", a)
	}
	if r.DryRun {
		fmt.Fprintln(w, "Nothing was changed.")
	}
}

// sweptText is one line about a conversion that a crash cut off.
func (r cleanResult) sweptText(c convert.Swept) string {
	what := fmt.Sprintf("a conversion that was cut off (%s)", c.Folder)
	if n := len(c.Processes); n > 0 {
		what += fmt.Sprintf(" and %d of its programs that still run", n)
	}
	switch {
	case c.Error != "":
		return what + ": FAILED to remove: " + c.Error
	case r.DryRun:
		return what + ": would be removed"
	}
	return what + ": removed"
}

// pastTense says what was done.
var pastTense = map[transfer.Deed]string{
	transfer.DeedDetach: "detached", transfer.DeedRemove: "removed", transfer.DeedAbort: "aborted", transfer.DeedDelete: "deleted",
}

func (r cleanResult) actionText(a transfer.Reaped) string {
	switch {
	case a.Do == transfer.DeedLeave:
		return "left alone"
	case r.DryRun:
		return "would be " + pastTense[a.Do]
	case a.Done:
		return pastTense[a.Do]
	}
	return "FAILED to " + string(a.Do)
}

// reapedText is one line about what was done or failed, "" where nothing was to
// be done.
func reapedText(a transfer.Reaped) string {
	what := fmt.Sprintf("%s %s", a.Kind, a.ID)
	if a.Name != "" {
		what += " (" + a.Name + ")"
	}
	age := ""
	if !a.Since.IsZero() {
		age = ", of " + timeText(a.Since)
	}
	switch {
	case a.Do == transfer.DeedLeave:
		return ""
	case a.Done:
		return fmt.Sprintf("%s: cleaned up: %s %s%s: %s", orDash(a.VMName), pastTense[a.Do], what, age, a.Reason)
	}
	return fmt.Sprintf("%s: could not clean up: %s %s%s: %s", orDash(a.VMName), a.Do, what, age, a.Error)
}
