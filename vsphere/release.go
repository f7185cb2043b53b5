package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// release removes one VM snapshot of ours, and sees to its consolidation. run
// may be called again after an error.
type release struct {
	c        *Client
	vm       ref
	snapshot ref
	name     string
	// alone: when ours was made the VM had no other snapshot and needed no
	// consolidation, so that what needs it now is ours.
	alone        bool
	consolidated bool // the one consolidation was asked for
}

func (r *release) op() string {
	return fmt.Sprintf("remove VM snapshot %q (%s)", r.name, r.snapshot.Value)
}

// run removes the snapshot alone, its children stay, and waits until the VM
// needs no consolidation. A snapshot that is gone already is fine.
func (r *release) run(ctx context.Context) error {
	for try := 1; ; try++ {
		err := r.remove(ctx)
		if err != nil && ctx.Err() != nil {
			return Explain(r.op(), err)
		}
		now, lookErr := r.look(ctx)
		switch {
		case isGone(lookErr, "VirtualMachine"):
			return nil
		case lookErr != nil:
			return Explain(r.op(), errors.Join(lookErr, err))
		case !now.exists && !now.needed:
			return nil
		case !now.exists:
			return r.settle(ctx)
		case err == nil:
			return transfer.Fail(transfer.Retry, r.op(), errors.New("vCenter reports success and still has it"), "Look at the VM's snapshots in vCenter.")
		case !IsLost(err) || try == looks:
			return Explain(r.op(), err)
		}
		// Its answer got lost and it still is there: ask again once it is at rest.
		if err := r.c.UntilQuiet(ctx, r.vm); err != nil {
			return Explain(r.op(), err)
		}
	}
}

func (r *release) remove(ctx context.Context) error {
	err := r.c.WhileBusy(ctx, func() error {
		res, err := methods.RemoveSnapshot_Task(ctx, r.c.vim, &types.RemoveSnapshot_Task{This: r.snapshot, RemoveChildren: false, Consolidate: new(true)})
		if err != nil {
			return err
		}
		_, err = r.c.Await(ctx, res.Returnval)
		return err
	})
	if isGone(err, "VirtualMachineSnapshot") {
		return nil
	}
	return err
}

// aftermath is the VM after a removal.
type aftermath struct {
	exists bool // the snapshot
	needed bool // runtime.consolidationNeeded
	others int  // snapshots besides it
}

func (r *release) look(ctx context.Context) (aftermath, error) {
	f, err := r.c.fetch(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: r.vm}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"snapshot.rootSnapshotList", "runtime.consolidationNeeded"}}},
	})
	if err == nil {
		err = f.denied[r.vm]
	}
	if err != nil {
		return aftermath{}, err
	}
	a := aftermath{needed: f.vms[r.vm].Runtime.ConsolidationNeeded}
	for s := range walkTree(treeOf(f, r.vm)) {
		if s.Snapshot == r.snapshot {
			a.exists = true
		} else {
			a.others++
		}
	}
	return a, nil
}

// settle waits for runtime.consolidationNeeded to go, consolidates once where
// nobody else has a part in the chain, and gives up with what to do.
func (r *release) settle(ctx context.Context) error {
	if err := r.untilConsolidated(ctx); err == nil || ctx.Err() != nil {
		return Explain(r.op(), err)
	}
	now, err := r.look(ctx)
	if err != nil || !now.needed {
		return Explain(r.op(), err)
	}
	if !r.alone || now.others > 0 {
		return transfer.Fail(transfer.Retry, r.op(),
			errors.New("the snapshot is gone but the VM's disks need consolidation, and other snapshots had a part in the chain: Snapferry leaves it alone"), hintConsolidate)
	}
	if !r.consolidated {
		r.consolidated = true
		if err := r.consolidate(ctx); err != nil {
			return transfer.Fail(transfer.Retry, r.op(), fmt.Errorf("the snapshot is gone but its files are not merged: %w", Explain("consolidate", err)), hintConsolidate)
		}
		if err := r.untilConsolidated(ctx); err == nil || ctx.Err() != nil {
			return Explain(r.op(), err)
		}
	}
	return transfer.Fail(transfer.Retry, r.op(), errors.New("the snapshot is gone but the VM's disks still need consolidation"), hintConsolidate)
}

func (r *release) consolidate(ctx context.Context) error {
	return r.c.WhileBusy(ctx, func() error {
		res, err := methods.ConsolidateVMDisks_Task(ctx, r.c.vim, &types.ConsolidateVMDisks_Task{This: r.vm})
		if err != nil {
			return err
		}
		_, err = r.c.Await(ctx, res.Returnval)
		return err
	})
}

// untilConsolidated waits at most Timing.Settle.
func (r *release) untilConsolidated(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.c.timing.Settle)
	defer cancel()
	const needed = "runtime.consolidationNeeded"
	return r.c.watch(ctx, []watched{{r.vm, []string{needed}}}, func(v values) bool {
		is, _ := v[r.vm][needed].(bool)
		return !is
	})
}
