package vsphere

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// create takes the snapshot, as quiesced as the policy says and the guest
// allows. When ctx ends meanwhile it still waits for the task; Freeze removes
// what it made.
func (f *freeze) create(ctx context.Context) (ref, error) {
	quiesce := (f.spec.Quiesce == transfer.QuiesceTry || f.spec.Quiesce == transfer.QuiesceRequire) && f.before.PoweredOn
	snapshot, err := f.take(ctx, quiesce)
	if quiesce && f.spec.Quiesce == transfer.QuiesceTry && isQuiesceFault(err) {
		snapshot, err = f.take(ctx, false)
	}
	if isQuiesceFault(err) {
		err = transfer.Fail(transfer.Retry, f.op, fmt.Errorf("the guest could not be quiesced, and quiescing is required: %w", err), hintQuiesce)
	}
	return snapshot, Explain(f.op, err)
}

// isQuiesceFault knows the faults of the task, and the general one that some
// versions give in their place by its text.
func isQuiesceFault(err error) bool {
	if err == nil || !hasFault(err) {
		return false
	}
	return fault.Is(err, &types.ApplicationQuiesceFault{}) || fault.Is(err, &types.FilesystemQuiesceFault{}) ||
		strings.Contains(strings.ToLower(err.Error()), "quiesc")
}

// take runs one CreateSnapshot_Task to its end. The call itself is not cut off
// with ctx: a lost answer could leave a snapshot.
func (f *freeze) take(ctx context.Context, quiesce bool) (ref, error) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.c.timing.Cleanup)
	defer cancel()
	var made ref
	err := f.c.WhileBusy(ctx, func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		res, err := methods.CreateSnapshot_Task(own, f.c.vim, &types.CreateSnapshot_Task{
			This: f.vm, Name: SnapshotPrefix + string(f.spec.Cycle), Description: newMark(f.spec), Memory: false, Quiesce: quiesce})
		if err != nil {
			return err
		}
		result, err := f.c.Await(ctx, res.Returnval)
		if ctx.Err() != nil {
			result, err = f.c.Await(own, res.Returnval)
		}
		made, _ = result.(ref)
		if err == nil && made.Value == "" {
			err = &goneError{res.Returnval} // a success that does not say what it made
		}
		return err
	})
	if IsLost(err) {
		made, err = f.adopt(own, err)
	}
	return made, err
}

// looks is how often adopt looks: a request that was on its way when its
// connection died has arrived after the pauses between.
const looks = 3

// adopt finds the snapshot of a CreateSnapshot whose answer or task got lost.
func (f *freeze) adopt(ctx context.Context, lost error) (ref, error) {
	pause := backoff{first: f.c.timing.RetryFirst, max: f.c.timing.RetryMax}
	for range looks {
		if err := f.c.UntilQuiet(ctx, f.vm); err != nil {
			return ref{}, fmt.Errorf("look for VM snapshot %s%s, of which it is not known whether it was made: %w", SnapshotPrefix, f.spec.Cycle, Explain("read the VM", err))
		}
		ours, err := f.c.OurSnapshots(ctx, f.id)
		if err != nil {
			return ref{}, fmt.Errorf("look for VM snapshot %s%s, of which it is not known whether it was made: %w", SnapshotPrefix, f.spec.Cycle, err)
		}
		for _, s := range ours {
			if s.Cycle == f.spec.Cycle {
				return ref{Type: "VirtualMachineSnapshot", Value: s.Moref}, nil
			}
		}
		if err := pause.wait(ctx); err != nil {
			return ref{}, err
		}
	}
	return ref{}, lost
}

// UntilQuiet waits until no recent task of an entity runs any more.
func (c *Client) UntilQuiet(ctx context.Context, entity ref) error {
	f, err := c.fetch(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: entity}},
		PropSet:   []types.PropertySpec{{Type: entity.Type, PathSet: []string{"recentTask"}}},
	})
	if err != nil {
		return err
	}
	for _, t := range f.vms[entity].RecentTask {
		// How it ended is seen by its effects.
		if _, err := c.Await(ctx, t); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// undo removes a snapshot whose freeze did not come to its end.
func (f *freeze) undo(ctx context.Context, snapshot ref) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.c.timing.Cleanup)
	defer cancel()
	r := release{c: f.c, vm: f.vm, snapshot: snapshot, name: SnapshotPrefix + string(f.spec.Cycle), alone: f.before.Snapshots == 0}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("VM snapshot %q (%s) of %s is left behind: %w", r.name, snapshot.Value, f.before.Name, err)
	}
	return nil
}
