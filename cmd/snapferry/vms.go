package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

func vmsCommand() *cli.Command {
	return &cli.Command{
		Name: "vms", Args: "[PATTERN]", Short: "list VMs, and whether they can be replicated",
		Long: `PATTERN chooses by name or inventory path: with * ? [ ] it must match the whole
of either, otherwise be a part of either. Letter case does not matter.`,
		Examples: []string{"snapferry vms", "snapferry vms 'app*'", "snapferry vms --json"},
		New: func(_, fs *pflag.FlagSet) cli.Run {
			s := newSettings(fs)
			s.vcenter(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) > 1 {
					return nil, cli.Usagef("vms takes one pattern; quote it, or the shell expands it")
				}
				keep, err := vmPattern(args)
				if err != nil {
					return nil, err
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				defer w.close(ctx)
				return w.vms(ctx, keep)
			}
		},
	}
}

func (w *wire) vms(ctx context.Context, keep func(transfer.VM) bool) (cli.Value, error) {
	all, err := w.inventory(ctx)
	if err != nil {
		return nil, err
	}
	list := vmList{VMs: []listedVM{}}
	for _, vm := range all {
		if keep(vm) {
			list.VMs = append(list.VMs, newListedVM(vm))
		}
	}
	return list, nil
}

// vmPattern returns what decides whether a VM is shown.
func vmPattern(args []string) (func(transfer.VM) bool, error) {
	if len(args) == 0 {
		return func(transfer.VM) bool { return true }, nil
	}
	p := strings.ToLower(args[0])
	if _, err := path.Match(p, ""); err != nil {
		return nil, cli.Usagef("pattern %q: %w", args[0], err)
	}
	matches := func(s string) bool { return strings.Contains(s, p) }
	if strings.ContainsAny(p, "*?[") {
		// A star crosses folders: to path.Match a slash would end it.
		flat := strings.NewReplacer("/", "\x00")
		p := flat.Replace(p)
		matches = func(s string) bool { ok, _ := path.Match(p, flat.Replace(s)); return ok }
	}
	return func(vm transfer.VM) bool {
		return matches(strings.ToLower(vm.Name)) || matches(strings.ToLower(vm.Path)) || p == strings.ToLower(vm.ID.Moref)
	}, nil
}

// vmList is the result of vms.
type vmList struct {
	VMs []listedVM `json:"vms"`
}

// listedVM is a VM and whether it can be replicated: as a whole, with all its
// disks.
type listedVM struct {
	transfer.VM
	Size       int64    `json:"size"` // of all disks
	Replicable bool     `json:"replicable"`
	Excludable []string `json:"excludable,omitempty"` // disks without which it can be
}

func newListedVM(vm transfer.VM) listedVM {
	l := listedVM{VM: vm, Replicable: len(vm.Obstacles) == 0 && len(vm.Disks) > 0}
	for _, d := range vm.Disks {
		l.Size += d.Size
		if len(d.Obstacles) > 0 {
			l.Replicable = false
			l.Excludable = append(l.Excludable, d.Label)
		}
	}
	if len(vm.Obstacles) > 0 || len(l.Excludable) == len(vm.Disks) {
		l.Excludable = nil
	}
	return l
}

func (l vmList) Text(w io.Writer) {
	if len(l.VMs) == 0 {
		fmt.Fprintln(w, "No VM matches.")
		return
	}
	t := newTable("VM", "MOREF", "POWER", ">DISKS", ">SIZE", "CBT", ">SNAPSHOTS", "REPLICABLE")
	for _, v := range l.VMs {
		t.row(v.Path, v.ID.Moref, onOff(v.PoweredOn), len(v.Disks), bytesText(v.Size), onOff(v.CBT), v.Snapshots, v.replicableText())
	}
	t.write(w, "")
	for _, v := range l.VMs {
		v.obstacles(w)
	}
}

func (v listedVM) replicableText() string {
	switch {
	case v.Replicable:
		return "yes"
	case len(v.Excludable) > 0:
		return "without " + strings.Join(v.Excludable, ", ")
	}
	return "no"
}

// obstacles says why not, and what removes it.
func (v listedVM) obstacles(w io.Writer) {
	if v.Replicable {
		return
	}
	fmt.Fprintf(w, "\n%s:\n", v.Path)
	say := func(what string, o transfer.Obstacle) {
		fmt.Fprintf(w, "  %s%s\n", what, o.Reason)
		if o.Remedy != "" {
			fmt.Fprintf(w, "    next: %s\n", o.Remedy)
		}
	}
	if len(v.Disks) == 0 && len(v.Obstacles) == 0 {
		say("", transfer.Obstacle{Reason: "it has no disk"})
	}
	for _, o := range v.Obstacles {
		say("", o)
	}
	for _, d := range v.Disks {
		for _, o := range d.Obstacles {
			say(d.Label+": ", o)
		}
	}
	for _, label := range v.Excludable {
		fmt.Fprintf(w, "  or: snapferry sync %q --exclude-disk %q\n", v.Path, label)
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
