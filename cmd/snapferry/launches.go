package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

func launchesCommand() *cli.Command {
	return &cli.Command{
		Name: "launches", Args: "[VM|JOB]", Short: "list tests and cutovers, or show one with its log",
		Long: `Without an argument: every launch that is not over; --all lists the others, too.
With a launch's ID (job-…) its steps, events, checks and downtime are shown.`,
		Examples: []string{"snapferry launches", "snapferry launches app01 --all", "snapferry launches job-20261121T091500Z-1a2b3c4d"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			all := own.Bool("all", false, "those that are over, too")
			s, r := deskFlags(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) > 1 {
					return nil, cli.Usagef("launches takes one VM or one launch's ID, or nothing")
				}
				cfg, err := s.load(std)
				if err != nil {
					return nil, err
				}
				name := ""
				if len(args) == 1 {
					name = args[0]
				}
				book := bookOf(cfg)
				d, err := openDesk(ctx, cfg, *r)
				if err != nil && r.named() {
					return nil, err
				} else if err != nil { // no service: what the verbs did by themselves
					return listAlone(book, name, *all)
				}
				defer d.close()
				v, err := d.launches(ctx, name, *all)
				return v, serviceError(err)
			}
		},
	}
}

const launchesShown = 100

// launches asks the service.
func (d *desk) launches(ctx context.Context, name string, all bool) (cli.Value, error) {
	if strings.HasPrefix(name, "job-") {
		row, err := d.LaunchJob(ctx, name)
		if err != nil {
			return nil, err
		}
		return oneLaunch(row)
	}
	var vm *transfer.VMID
	if name != "" {
		ids, err := d.Resolve(ctx, []string{name})
		if err != nil {
			return nil, err
		}
		vm = &ids[0]
	}
	rows, err := d.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: vm, Open: !all, Limit: launchesShown})
	return &launchList{Launches: rows}, err
}

func listAlone(book launchBook, name string, all bool) (cli.Value, error) {
	rows, err := book.jobs(nil)
	list := &launchList{Launches: []schedule.LaunchJob{}}
	for _, row := range rows {
		switch {
		case row.ID == name:
			return oneLaunch(row)
		case name == "" || row.VMName == name || row.VM.Moref == name:
			if all || !row.Over {
				row.Doc = nil
				list.Launches = append(list.Launches, row)
			}
		}
	}
	if strings.HasPrefix(name, "job-") {
		return nil, transfer.Fail(transfer.Permanent, "find launch "+name, errNoLaunch, "snapferry launches --all lists what there is.")
	}
	return list, err
}

func oneLaunch(row schedule.LaunchJob) (cli.Value, error) {
	jobs, err := launchJobs([]schedule.LaunchJob{row})
	if err != nil {
		return nil, err
	}
	return &launchDetail{Launch: jobs[0]}, nil
}

// launchList is the result of launches.
type launchList struct {
	Launches []schedule.LaunchJob `json:"launches"`
}

func (l *launchList) Text(w io.Writer) {
	if len(l.Launches) == 0 {
		fmt.Fprintln(w, "There is no launch.")
		return
	}
	t := newTable("LAUNCH", "VM", "FOR", "STATE", "INSTANCE", "ADDRESS", "ENDS", ">DOWNTIME", "PROBLEM")
	for _, j := range l.Launches {
		ends := "-"
		if !j.Ends.IsZero() && !j.Over {
			ends = timeText(j.Ends)
		}
		t.row(j.ID, j.VMName, j.Purpose, j.State, orDash(j.Instance), orDash(j.Address), ends, tookText(j.Downtime.Std()), orDash(j.Error))
	}
	t.write(w, "")
}

// launchDetail is one launch with its log.
type launchDetail struct {
	Launch launch.Job `json:"launch"`
}

func (d *launchDetail) Text(w io.Writer) {
	jobText(w, d.Launch)
	if d.Launch.Error != "" {
		fmt.Fprintf(w, "  %-12s %s\n", "PROBLEM", d.Launch.Error)
	}
	if d.Launch.Hint != "" {
		fmt.Fprintf(w, "  %-12s %s\n", "next", d.Launch.Hint)
	}
	t := newTable("TIME", "EVENT", "STEP", "TEXT")
	for _, e := range d.Launch.Events {
		t.row(timeText(e.At), e.Kind, orDash(string(e.Step)), e.Text)
	}
	t.write(w, "  ")
}

func launchSettingsCommand() *cli.Command {
	return &cli.Command{
		Name: "launch-settings", Args: "[VM [KEY=VALUE...]]", Short: "list the launch settings; show or change those of a VM",
		Long: `Without an argument: every key, what it takes and its default. A key holds for the
cutover and for tests; with "test." before it for tests alone. The subnet and the
addresses of the cutover do not hold for tests.

What is set for a VM goes before what the settings file has under launch, and
--set of test and cutover goes before both. KEY= takes a setting back. The
settings of single VMs are the service's; export and import carry them as CSV.`,
		Examples: []string{"snapferry launch-settings", "snapferry launch-settings app01", "snapferry launch-settings app01 subnet=subnet-0a1b2c3d test.subnet=subnet-9f8e7d6c instanceType=m6i.large"},
		New: func(_, fs *pflag.FlagSet) cli.Run {
			s, r := deskFlags(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) == 0 {
					return keyList{launch.Keys()}, nil
				}
				return atDesk(s, r, setLaunchSettings)(ctx, std, args)
			}
		},
	}
}

func setLaunchSettings(ctx context.Context, d *desk, args []string) (cli.Value, error) {
	ids, err := d.Resolve(ctx, args[:1])
	if err != nil {
		return nil, err
	}
	vm, err := d.VM(ctx, ids[0])
	if err != nil {
		return nil, err
	}
	l := schedule.Launch{}
	for k, v := range vm.Launch {
		l[k] = v
	}
	for _, arg := range args[1:] {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, cli.Usagef("%q is not KEY=VALUE", arg)
		}
		if l[key] = value; value == "" {
			delete(l, key)
		}
	}
	if len(args) > 1 {
		if err := checkLaunch(l); err != nil {
			return nil, cli.Usage(err)
		}
		if err := d.SetLaunch(ctx, d.by, ids[0], l); err != nil {
			return nil, err
		}
	}
	return vmSettings{VM: vm.Name, Settings: l}, nil
}

type keyList struct {
	Keys []launch.Key `json:"keys"`
}

func (l keyList) Text(w io.Writer) {
	t := newTable("KEY", "TAKES", "DEFAULT", "WHAT")
	for _, k := range l.Keys {
		t.row(k.Name, k.Values, orDash(k.Default), k.Help)
	}
	t.write(w, "")
	fmt.Fprintln(w, "# is a number. Any key may have \"test.\" before it: it holds for tests alone then.")
}

type vmSettings struct {
	VM       string          `json:"vm"`
	Settings schedule.Launch `json:"settings"`
}

func (v vmSettings) Text(w io.Writer) {
	if len(v.Settings) == 0 {
		fmt.Fprintf(w, "%s has no launch settings of its own.\n", v.VM)
		return
	}
	t := newTable("KEY", "VALUE")
	for _, k := range slices.Sorted(maps.Keys(v.Settings)) {
		t.row(k, v.Settings[k])
	}
	t.write(w, "")
}
