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

func disconnectCommand(stop *interrupts) *cli.Command {
	return &cli.Command{
		Name: "disconnect", Args: "VM...", Short: "end the replication of VMs without a cutover",
		Long: `No cycle of the VM begins any more, and one that runs is wound up: its VM
snapshot goes. An unfinished draft in AWS goes at once, or where the service runs
within minutes. Recovery points stay until retention or a person deletes them. The
source is not touched otherwise. "snapferry mark VM --as reconnect" begins it again
where the service runs, "snapferry sync VM" elsewhere.`,
		Examples: []string{"snapferry disconnect app01"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			r, s := &remote{}, newSettings(fs)
			o := launchOptions{}
			own.BoolVar(&o.alone, "alone", false, "do it in this process and not through the service")
			r.flags(fs)
			s.state(fs)
			s.vcenter(fs)
			s.appliance(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) == 0 {
					return nil, cli.Usagef("disconnect takes the VMs; snapferry points lists those that have points")
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				defer w.close(ctx)
				if o.throughService(w, *r) {
					return w.disconnectAtDesk(ctx, *r, args)
				}
				o.progress = progressNone
				return w.disconnectAlone(ctx, stop, o, args)
			}
		},
	}
}

func (w *wire) disconnectAtDesk(ctx context.Context, r remote, names []string) (cli.Value, error) {
	d, err := openDesk(ctx, w.cfg, r)
	if err != nil {
		return nil, err
	}
	defer d.close()
	vms, err := d.Resolve(ctx, names)
	if err != nil {
		return nil, serviceError(err)
	}
	done, err := d.Mark(ctx, d.by, vms, "disconnect")
	return doneList{done, d.alone}, errors.Join(serviceError(err), doneError(done))
}

func (w *wire) disconnectAlone(ctx context.Context, stop *interrupts, o launchOptions, names []string) (cli.Value, error) {
	a, err := w.newAlone(ctx, stop, o)
	if err != nil {
		return nil, err
	}
	result := disconnected{VMs: []schedule.Done{}}
	for _, name := range names {
		k, err := a.target(ctx, name)
		if err == nil {
			err = k.refuseOpen(a.book)
		}
		if err == nil {
			err = k.endReplication(ctx)
		}
		if err != nil {
			return result, err
		}
		result.VMs = append(result.VMs, schedule.Done{VM: k.id, Name: k.name, Result: "disconnected"})
	}
	return result, nil
}

// refuseOpen: a launch builds on what is ended here.
func (k *launching) refuseOpen(book launchBook) error {
	known, err := book.open(k.id)
	if err != nil || len(known) == 0 {
		return err
	}
	return transfer.Fail(transfer.Permanent, "disconnect "+k.name, fmt.Errorf("its %s %s is %s", known[0].Request.Purpose, known[0].ID, known[0].State),
		"End the test (snapferry test --done), or finalize or revert the cutover first.")
}

type disconnected struct {
	VMs []schedule.Done `json:"vms"`
}

func (d disconnected) Text(w io.Writer) {
	for _, vm := range d.VMs {
		fmt.Fprintf(w, "%s is disconnected: nothing of ours is left on it; its recovery points stay.\n", vm.Name)
	}
}
