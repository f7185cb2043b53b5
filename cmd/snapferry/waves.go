package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
	"snapferry/transfer"
)

const wavesLong = `A wave is a named group of VMs that go together. A VM is in one wave at most.

  waves                     list them
  waves set NAME VM...      make it of these VMs, or change it to them
  waves delete NAME         forget the group; its VMs stay as they are
  waves sync NAME           also pause, resume, cancel, ready-for-cutover,
                            ready-for-test, cancel-launch: the same for each of its VMs

snapferry test, cutover, revert and finalize take --wave NAME: they begin for all
of its VMs, or for none.`

func wavesCommand() *cli.Command {
	return &cli.Command{
		Name: "waves", Args: "[ACTION NAME [VM...]]", Short: "groups of VMs that go together", Long: wavesLong,
		Examples: []string{"snapferry waves", "snapferry waves set first app01 db01 --note 'the easy ones'", "snapferry waves sync first"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			note := own.String("note", "", "`text` about the wave, with set")
			s, r := deskFlags(fs)
			return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
				if len(args) == 0 {
					return listWaves(ctx, d)
				}
				if len(args) == 1 {
					return nil, cli.Usagef("waves %s wants the wave's name; see snapferry help waves", args[0])
				}
				return onWave(ctx, d, args[0], args[1], args[2:], *note)
			})
		},
	}
}

// waveActions are what can be done to all VMs of a wave.
var waveActions = []string{"sync", "pause", "resume", "cancel", "ready-for-cutover", "ready-for-test", "cancel-launch"}

func onWave(ctx context.Context, d *desk, action, name string, vms []string, note string) (cli.Value, error) {
	switch {
	case action == "set":
		ids, err := d.Resolve(ctx, vms)
		if err != nil {
			return nil, err
		}
		if err := d.SaveWave(ctx, d.by, schedule.Wave{Name: name, Note: note, VMs: ids}); err != nil {
			return nil, err
		}
		return listWaves(ctx, d)
	case len(vms) > 0:
		return nil, cli.Usagef("waves %s takes the wave's name alone", action)
	case action == "delete":
		if err := d.DeleteWave(ctx, d.by, name); err != nil {
			return nil, err
		}
		return listWaves(ctx, d)
	case slices.Contains(waveActions, action):
		done, err := d.ActOnWave(ctx, d.by, name, action)
		return doneList{done, d.alone}, errors.Join(err, doneError(done))
	}
	return nil, cli.Usagef("waves %s: it must be set, delete, %s", action, strings.Join(waveActions, ", "))
}

type waveList struct {
	Waves []listedWave `json:"waves"`
}

type listedWave struct {
	schedule.Wave
	Names  []string                     `json:"names"`
	States map[schedule.Replication]int `json:"states"`
	Lives  map[schedule.Lifecycle]int   `json:"lifecycles"`
}

func listWaves(ctx context.Context, d *desk) (cli.Value, error) {
	waves, err := d.Waves(ctx)
	if err != nil {
		return nil, err
	}
	l := waveList{Waves: []listedWave{}}
	for _, wave := range waves {
		page, err := d.VMs(ctx, schedule.VMQuery{Wave: wave.Name, Limit: pageSize})
		if err != nil {
			return nil, err
		}
		lw := listedWave{Wave: wave, States: map[schedule.Replication]int{}, Lives: map[schedule.Lifecycle]int{}}
		for _, v := range page.VMs {
			lw.Names = append(lw.Names, v.Name)
			lw.States[v.Replication]++
			lw.Lives[v.Lifecycle]++
		}
		l.Waves = append(l.Waves, lw)
	}
	return l, nil
}

func (l waveList) Text(w io.Writer) {
	if len(l.Waves) == 0 {
		fmt.Fprintln(w, "There is no wave. \"snapferry waves set NAME VM...\" makes one.")
		return
	}
	t := newTable("WAVE", ">VMS", "STATES", "LIFECYCLE", "NOTE", "MEMBERS")
	for _, wave := range l.Waves {
		t.row(wave.Name, len(wave.VMs), countsText(wave.States), countsText(wave.Lives), orDash(wave.Note), strings.Join(wave.Names, " "))
	}
	t.write(w, "")
}

func countsText[K ~string](counts map[K]int) string {
	var parts []string
	for k, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, k))
	}
	slices.Sort(parts)
	return orDash(strings.Join(parts, ", "))
}

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Short: "write VMs, waves and launch settings as CSV to stdout",
		Long:     `One line for each VM. snapferry import reads it back.`,
		Examples: []string{"snapferry export > vms.csv"},
		New: func(_, fs *pflag.FlagSet) cli.Run {
			s, r := deskFlags(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
					if len(args) > 0 {
						return nil, cli.Usagef("export takes no argument: it writes all VMs")
					}
					return nil, d.ExportCSV(ctx, std.Out)
				})(ctx, std, args)
			}
		},
	}
}

func importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Args: "FILE", Short: "read waves, policies and launch settings of VMs from CSV",
		Long:     `All or nothing: where a line makes no sense it is named, and nothing is changed.`,
		Examples: []string{"snapferry import vms.csv"},
		New: func(_, fs *pflag.FlagSet) cli.Run {
			s, r := deskFlags(fs)
			return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
				if len(args) != 1 {
					return nil, cli.Usagef("import takes one CSV file; snapferry export writes one")
				}
				f, err := os.Open(args[0])
				if err != nil {
					return nil, cli.Usage(err)
				}
				defer f.Close()
				done, err := d.ImportCSV(ctx, d.by, f)
				return doneList{done, d.alone}, errors.Join(err, doneError(done))
			})
		},
	}
}

func policiesCommand() *cli.Command {
	return &cli.Command{
		Name: "policies", Short: "list the policies and how many VMs have each",
		Long:     `Policies are made in the settings file or over the API. snapferry assign gives one to a VM by hand.`,
		Examples: []string{"snapferry policies", "snapferry policies --json"},
		New: func(_, fs *pflag.FlagSet) cli.Run {
			s, r := deskFlags(fs)
			return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
				if len(args) > 0 {
					return nil, cli.Usagef("policies takes no argument")
				}
				rows, err := d.Policies(ctx)
				return policyList{rows}, err
			})
		},
	}
}

type policyList struct {
	Policies []schedule.PolicyRow `json:"policies"`
}

func (l policyList) Text(w io.Writer) {
	if len(l.Policies) == 0 {
		fmt.Fprintln(w, "There is no policy: nothing is replicated by itself. Write one under policies in the settings.")
		return
	}
	t := newTable("POLICY", "WHEN", ">VMS", "FROM", "RETENTION", ">PRIORITY", "PROVED BY LAUNCHING")
	for _, p := range l.Policies {
		proved := "-"
		if p.Prove != nil {
			proved = "every " + tookText(p.Prove.Every.Std())
		}
		t.row(p.Name, whenText(p.Policy), p.VMs, p.Origin, keepText(p.Retention), p.Priority, proved)
	}
	t.write(w, "")
	for _, p := range l.Policies {
		if p.ProveCost != "" {
			fmt.Fprintf(w, "%s: proving its points costs, %s\n", p.Name, p.ProveCost)
		}
	}
}

func whenText(p schedule.Policy) string {
	switch {
	case p.Cron != "":
		return "cron " + p.Cron
	case p.Adaptive != nil:
		return fmt.Sprintf("from %s to %s, as the VM changes", tookText(p.Adaptive.Floor.Std()), tookText(p.Adaptive.Ceiling.Std()))
	}
	return "every " + tookText(p.Every.Std())
}

func keepText(p transfer.Policy) string {
	if p == (transfer.Policy{}) {
		return "default"
	}
	var parts []string
	for _, q := range []struct {
		n    int
		name string
	}{{p.Last, "last"}, {p.Days, "days"}, {p.Daily, "daily"}, {p.Weekly, "weekly"}, {p.Monthly, "monthly"}} {
		if q.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", q.n, q.name))
		}
	}
	return strings.Join(parts, ", ")
}
