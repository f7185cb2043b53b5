package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
	"snapferry/transfer"
)

// launchOptions are those of test, cutover, revert and finalize.
type launchOptions struct {
	action   schedule.LaunchAction
	wish     schedule.LaunchWish
	wave     string
	plan     bool
	yes      bool
	alone    bool
	progress string

	done    bool // of test
	length  time.Duration
	point   string
	left    string
	changed func(flag string) bool
}

// question says what is about to be done.
func (o launchOptions) question(names []string) string {
	whom := strings.Join(names, ", ")
	if o.wave != "" {
		whom = "wave " + o.wave
	}
	switch o.action {
	case schedule.LaunchTestDone:
		return "The test instance of " + whom + " is terminated, with its volumes."
	case schedule.LaunchCutover:
		return whom + " is shut down, replicated for the last time, and launched on AWS."
	case schedule.LaunchRevert:
		if o.wish.Discard {
			return "The instance of " + whom + " is terminated with its volumes, and the source powered on. What the instance wrote is lost."
		}
		return "The instance of " + whom + " is stopped, and the source powered on. What the instance wrote stays behind on its volumes."
	case schedule.LaunchFinalize:
		return "The replication of " + whom + " ends for good, and what it used is deleted: " + pointsLeftText(o.wish.Points) + ". There is no way back."
	}
	return whom + " is launched on AWS for a test, beside the running source."
}

// launchVerb is a verb about the launches of VMs.
type launchVerb struct {
	name, short, long string
	examples          []string
	action            schedule.LaunchAction
	flags             func(own *pflag.FlagSet, o *launchOptions)
	check             func(o *launchOptions) error
}

func (v launchVerb) command(stop *interrupts) *cli.Command {
	return &cli.Command{
		Name: v.name, Args: "VM...", Short: v.short, Long: v.long, Examples: v.examples,
		New: func(own, fs *pflag.FlagSet) cli.Run {
			o, r, s := &launchOptions{action: v.action}, &remote{}, newSettings(fs)
			o.changed = own.Changed
			own.StringVar(&o.wave, "wave", "", "the VMs of this `wave`, as one: nothing begins where one of them would be refused")
			own.BoolVar(&o.plan, "plan", false, "say what would be done, step by step; change nothing")
			own.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
			own.BoolVar(&o.alone, "alone", false, "do it in this process and not through the service")
			progressFlag(own, &o.progress)
			if v.flags != nil {
				v.flags(own, o)
			}
			r.flags(fs)
			s.state(fs)
			s.vcenter(fs)
			s.appliance(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if err := o.complete(v, args); err != nil {
					return nil, err
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				defer w.close(ctx)
				if o.throughService(w, *r) {
					return w.launchAtDesk(ctx, *r, *o, args)
				}
				if o.wave != "" {
					return nil, cli.Usagef("--wave: waves are the service's, and none runs on this machine; name the VMs")
				}
				return w.launchAlone(ctx, stop, *o, args)
			}
		},
	}
}

// throughService decides who does it.
func (o *launchOptions) throughService(w *wire, r remote) bool {
	return r.named() || !o.alone && daemonRuns(w.cfg)
}

func (o *launchOptions) complete(v launchVerb, args []string) error {
	switch {
	case len(args) == 0 && o.wave == "":
		return cli.Usagef("%s takes the VMs; snapferry vms lists them", v.name)
	case len(args) > 0 && o.wave != "":
		return cli.Usagef("--wave names the VMs already")
	}
	if v.check == nil {
		return nil
	}
	return v.check(o)
}

// setFlag declares --set for launch settings of this launch alone.
func setFlag(own *pflag.FlagSet, o *launchOptions) {
	own.Func("set", "launch setting `key=value` for this launch, such as subnet=subnet-0a1b; may be repeated (see launch-settings)", func(v string) error {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not key=value", v)
		}
		if o.wish.Settings == nil {
			o.wish.Settings = schedule.Launch{}
		}
		o.wish.Settings[key] = value
		return nil
	})
}

func testCommand(stop *interrupts) *cli.Command {
	return launchVerb{
		name: "test", action: schedule.LaunchTest, short: "launch a test instance of VMs, beside the running source",
		long: `Makes the guest of a recovery point ready for EC2 (in a converted copy: the point
stays as it is), launches it with the settings for tests (launch settings with
the prefix "test."), and runs the checks that are set. An earlier test of the VM
is ended first. The test ends by itself, after 8 hours unless --for says
otherwise; --done ends it now. Where no service runs, the next snapferry sync,
clean or launch verb after that time ends it.

A test wants a subnet of its own (test.subnet), where it cannot meet what the
source talks to; --force borrows that of the cutover.

A launch that passes its checks marks the point as boot-proved.`,
		examples: []string{
			"snapferry test app01 --set test.subnet=subnet-0a1b2c3d",
			"snapferry test app01 --point 20261121T0915 --for 2h",
			"snapferry test app01 --plan",
			"snapferry test app01 --done",
		},
		flags: func(own *pflag.FlagSet, o *launchOptions) {
			own.BoolVar(&o.done, "done", false, "end the test: its instance and all it made go")
			own.StringVar(&o.point, "point", "", "the recovery `point`, by its ID or the beginning of it (default: the newest complete one)")
			own.DurationVar(&o.length, "for", 0, "end it by itself after this `time` (default 8h, or the setting for)")
			own.BoolVar(&o.wish.Prove, "prove", false, "end it as soon as it has passed, or failed, its checks")
			own.BoolVar(&o.wish.Force, "force", false, "borrow the cutover's subnet; launch a suspect point")
			setFlag(own, o)
		},
		check: (*launchOptions).checkTest,
	}.command(stop)
}

func (o *launchOptions) checkTest() error {
	if o.done {
		for _, f := range []string{"point", "for", "prove", "force", "set"} {
			if o.changed(f) {
				return cli.Usagef("--done ends the test; --%s is for launching one", f)
			}
		}
		o.action = schedule.LaunchTestDone
		return nil
	}
	if o.changed("for") && o.length < time.Minute {
		return cli.Usagef("--for %v: a test needs a minute at least", o.length)
	}
	o.wish.Point, o.wish.For = transfer.CycleID(o.point), schedule.Duration(o.length)
	return nil
}

func cutoverCommand(stop *interrupts) *cli.Command {
	return launchVerb{
		name: "cutover", action: schedule.LaunchCutover, short: "move VMs: shut down, last delta, launch on AWS",
		long: `Checks everything that can be known to fail, replicates once more while the source
runs, shuts the guest down (by force only with --force-off), takes the last delta,
makes the guest ready for EC2, launches it and runs the checks. The downtime is
told at the end, step by step; --plan tells the forecast before.

It can be repeated after any failure or crash, and goes on where it stopped. The
source is never powered on by it: the way back is snapferry revert. Once all is
well, snapferry finalize ends the migration.

Where the service runs, a VM is first marked: snapferry mark VM --as
ready-for-cutover.`,
		examples: []string{
			"snapferry cutover app01 --plan",
			"snapferry cutover app01 --set subnet=subnet-0a1b2c3d",
			"snapferry cutover --wave first --yes",
		},
		flags: func(own *pflag.FlagSet, o *launchOptions) {
			own.BoolVar(&o.wish.ForceOff, "force-off", false, "power off a guest that does not shut down in time (shutdownTimeout, 10m)")
			own.BoolVar(&o.wish.SkipPreSync, "skip-pre-sync", false, "shut down at once, without replicating before")
			setFlag(own, o)
		},
	}.command(stop)
}

func revertCommand(stop *interrupts) *cli.Command {
	return launchVerb{
		name: "revert", action: schedule.LaunchRevert, short: "go back from a cutover: stop the instance, power the source on",
		long: `The instance is stopped and stays, with its volumes, to be looked at; then the
source is powered on. What the instance wrote meanwhile is not brought back.
The next cutover, or --discard, removes it.`,
		examples: []string{"snapferry revert app01", "snapferry revert app01 --discard --yes"},
		flags: func(own *pflag.FlagSet, o *launchOptions) {
			own.BoolVar(&o.wish.Discard, "discard", false, "terminate the instance and delete its volumes, too")
		},
	}.command(stop)
}

func finalizeCommand(stop *interrupts) *cli.Command {
	return launchVerb{
		name: "finalize", action: schedule.LaunchFinalize, short: "end the migration of VMs that were cut over",
		long: `Replication ends; tests, images, temporary volumes, conversions, drafts and the
recovery points that are not to stay are deleted. What is left is the instance
with its volumes, and the points that --points keeps. An inventory at the end
proves it. There is no way back from here by Snapferry.

Changed block tracking stays on at the source unless --cbt-off is given: a backup
product may rely on it by now.`,
		examples: []string{"snapferry finalize app01 --plan", "snapferry finalize app01", "snapferry finalize app01 --points none --cbt-off --yes"},
		flags: func(own *pflag.FlagSet, o *launchOptions) {
			own.StringVar(&o.left, "points", string(schedule.PointsNewest), "recovery points to keep: `newest` (the one that was launched), none or all")
			own.BoolVar(&o.wish.StopTracking, "cbt-off", false, "turn changed block tracking off at the source")
			own.BoolVar(&o.wish.Force, "force", false, "although the checks of the cutover failed")
		},
		check: func(o *launchOptions) error {
			switch p := schedule.PointsLeft(o.left); p {
			case schedule.PointsNewest, schedule.PointsNone, schedule.PointsAll:
				o.wish.Points = p
				return nil
			}
			return cli.Usagef("--points %s: it is newest, none or all", o.left)
		},
	}.command(stop)
}
