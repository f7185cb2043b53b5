package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
	"snapferry/transfer"
)

// onVMs is a verb that does one thing to VMs.
func onVMs(name, short, long string, examples []string, flags func(own *pflag.FlagSet), do func(ctx context.Context, d *desk, vms []transfer.VMID) ([]schedule.Done, error)) *cli.Command {
	return &cli.Command{
		Name: name, Args: "VM...", Short: short, Long: long, Examples: examples,
		New: func(own, fs *pflag.FlagSet) cli.Run {
			if flags != nil {
				flags(own)
			}
			s, r := deskFlags(fs)
			return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
				if len(args) == 0 {
					return nil, cli.Usagef("%s takes the VMs; snapferry status lists them", name)
				}
				vms, err := d.Resolve(ctx, args)
				if err != nil {
					return nil, err
				}
				done, err := do(ctx, d, vms)
				return doneList{done, d.alone}, errors.Join(err, doneError(done))
			})
		},
	}
}

func pauseCommand() *cli.Command {
	var why string
	return onVMs("pause", "start no more cycles of VMs", `A cycle that runs goes on to its end. Points stay. snapferry resume takes it back.`,
		[]string{"snapferry pause app01 --why 'storage maintenance'"},
		func(own *pflag.FlagSet) { own.StringVar(&why, "why", "", "`reason`, for those who look") },
		func(ctx context.Context, d *desk, vms []transfer.VMID) ([]schedule.Done, error) {
			return d.Pause(ctx, d.by, vms, why)
		})
}

func resumeCommand() *cli.Command {
	return onVMs("resume", "replicate paused VMs again", "", []string{"snapferry resume app01"}, nil,
		func(ctx context.Context, d *desk, vms []transfer.VMID) ([]schedule.Done, error) {
			return d.Resume(ctx, d.by, vms)
		})
}

func cancelCommand() *cli.Command {
	var launch bool
	return onVMs("cancel", "give up the running cycle of VMs, or their launch", `The cycle is wound up in order: disks are detached, the VM snapshot is removed.
What was uploaded is kept, and the next cycle goes on with it.

--launch gives up the test, cutover, revert or finalize that runs, where it stands:
a source that is off stays off. Repeat it to go on, or take the way back
(snapferry test --done, snapferry revert).`, []string{"snapferry cancel app01", "snapferry cancel app01 --launch"},
		func(own *pflag.FlagSet) {
			own.BoolVar(&launch, "launch", false, "the launch, and not the cycle")
		},
		func(ctx context.Context, d *desk, vms []transfer.VMID) ([]schedule.Done, error) {
			if launch {
				return d.CancelLaunch(ctx, d.by, vms)
			}
			return d.Cancel(ctx, d.by, vms)
		})
}

func markCommand() *cli.Command {
	var as string
	c := onVMs("mark", "move VMs in their lifecycle", `--as is one of
  ready-for-cutover  a test was found good
  ready-for-test     takes that back
  disconnect         ends replication; points stay until retention or a person deletes them
  reconnect          begins it again`,
		[]string{"snapferry mark app01 --as ready-for-cutover", "snapferry mark app01 --as disconnect"},
		func(own *pflag.FlagSet) { own.StringVar(&as, "as", "", "the `state` to move to (see above)") },
		func(ctx context.Context, d *desk, vms []transfer.VMID) ([]schedule.Done, error) {
			if as == "" {
				return nil, cli.Usagef("mark wants --as: ready-for-cutover, ready-for-test, disconnect or reconnect")
			}
			return d.Mark(ctx, d.by, vms, as)
		})
	return c
}

func assignCommand() *cli.Command {
	var to string
	return onVMs("assign", "give VMs a policy by hand", `It goes before what policies match by themselves. --policy "" takes it back.`,
		[]string{"snapferry assign app01 db01 --policy hourly"},
		func(own *pflag.FlagSet) { own.StringVar(&to, "policy", "", "`name` of the policy") },
		func(ctx context.Context, d *desk, vms []transfer.VMID) ([]schedule.Done, error) {
			return d.Choose(ctx, d.by, vms, to)
		})
}

// doneList is what an action did to each VM.
type doneList struct {
	VMs   []schedule.Done `json:"vms"`
	Alone bool            `json:"noDaemon,omitempty"`
}

func (l doneList) Text(w io.Writer) {
	t := newTable("VM", "RESULT", ">RUN")
	for _, d := range l.VMs {
		run := "-"
		if d.Run != 0 {
			run = fmt.Sprint(d.Run)
		}
		result := d.Result
		if d.Error != "" {
			result = "FAILED: " + d.Error
		}
		t.row(d.Name, result, run)
	}
	t.write(w, "")
	if l.Alone {
		fmt.Fprintln(w, "No daemon runs on this machine: what was written waits for one.")
	}
}

// doneError is an error when one of the VMs could not be served.
func doneError(done []schedule.Done) error {
	failed := 0
	for _, d := range done {
		if d.Error != "" {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s could not be served", failed, plural(int64(len(done)), "VM"))
}
