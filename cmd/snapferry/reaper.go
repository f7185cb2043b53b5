package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// reaper joins both sides for cleaning up.
func (w *wire) reaper(vc *vsphere.Client, store transfer.ReapStore, id transfer.ApplianceID, here *hotadd.Appliance) *transfer.Reaper {
	return &transfer.Reaper{
		Source: hotadd.Leftovers{Client: vc, Appliance: here}, Store: store, State: w.state(), Appliance: id,
		Now: time.Now, Cleanup: w.cfg.Transfer.Cleanup,
	}
}

// cleaner is the reaper of the verb clean. What this appliance's ID marks is
// cleaned only on the VM that it runs in: elsewhere, a copy of its settings
// sees no lock of a cycle that runs.
func (w *wire) cleaner(ctx context.Context, dead transfer.ApplianceID) (*transfer.Reaper, error) {
	vc, err := w.vcenter(ctx)
	if err != nil {
		return nil, err
	}
	id, err := applianceID(w.cfg.Appliance.ID, w.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	reader, err := w.hotadd(ctx)
	here, _ := reader.(*hotadd.Appliance)
	switch {
	case err != nil && dead == "":
		return nil, err
	case err != nil:
		logged(ctx, "not on the appliance: only what the dead one made is cleaned", "error", err)
		id, here = "", nil
	case dead == id:
		return nil, transfer.Fail(transfer.Permanent, "clean up after appliance "+string(dead), errors.New("this is that appliance, and it runs"),
			"Without --appliance, clean removes what no cycle needs any more.")
	}
	var store transfer.ReapStore
	if store, err = w.store(ctx); err != nil {
		store = noStore{err: err} // vSphere can be cleaned all the same
	}
	r := w.reaper(vc, store, id, here)
	if dead != "" {
		r.Dead = []transfer.ApplianceID{dead}
	}
	return r, nil
}

// noStore is an AWS side that cannot be opened. There is nothing in it to act
// on.
type noStore struct {
	transfer.ReapStore
	err error
}

func (n noStore) AllSnapshots(context.Context) ([]transfer.Snapshot, error) { return nil, n.err }

// reapBefore cleans up after crashes before cycles begin: a VM snapshot of ours
// would make the freeze refuse. It says on stderr what it did. What it could not
// see the cycles meet too, and report.
func (w *wire) reapBefore(ctx context.Context, env transfer.Env, reader vsphere.Reader, sources []namedSource) {
	here, _ := reader.(*hotadd.Appliance)
	r := w.reaper(w.vc, w.aws, env.Appliance, here)
	for _, s := range sources {
		r.VMs = append(r.VMs, s.id)
	}
	report, err := r.Run(ctx, false)
	for _, a := range report.Things {
		if text := reapedText(a); text != "" {
			fmt.Fprintln(w.std.Err, text)
		}
	}
	if err != nil {
		logged(ctx, "clean up before the cycles", "error", err)
	}
}
