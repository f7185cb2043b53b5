package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// StopTracking switches CBT off, for all disks; where it is off already nothing
// is done. Every change ID is worthless from then on, those of other products
// too. On a VM that is off it takes effect at once, on one that runs at its next
// stun: a snapshot made or removed, a migration, a power cycle. Until then vSphere
// goes on tracking, and says that CBT is off.
//
// A VM with snapshots is refused: vSphere wants CBT switched on a VM without any
// (KB 2139574), and one that is reverted to would bring CBT back. It needs the
// privilege VirtualMachine.Config.ChangeTracking.
func (c *Client) StopTracking(ctx context.Context, id transfer.VMID) error {
	op := "switch CBT off on " + id.Moref
	vm, err := c.vmRef(id)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		now, err := c.tracked(ctx, vm)
		switch {
		case err != nil:
			return Explain(op, err)
		case !now.on:
			return nil
		case now.snapshots > 0:
			return transfer.Fail(transfer.Permanent, op, fmt.Errorf("it has %s, beside which CBT must not be switched", plural(now.snapshots, "snapshot")),
				"Delete the VM's snapshots and try again, or leave CBT on: it costs little.")
		}
		err = c.setTracking(ctx, vm, false)
		if err == nil || !IsLost(err) || try == looks || ctx.Err() != nil {
			return Explain(op, err)
		}
		if err := c.UntilQuiet(ctx, vm); err != nil {
			return Explain(op, err)
		}
	}
}

type trackedNow struct {
	on        bool
	snapshots int
}

func (c *Client) tracked(ctx context.Context, vm ref) (trackedNow, error) {
	f, err := c.fetchOne(ctx, vm, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: vm}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"config.changeTrackingEnabled", "snapshot.rootSnapshotList"}}},
	})
	if err != nil {
		return trackedNow{}, err
	}
	config := f.vms[vm].Config
	if config == nil {
		return trackedNow{}, errors.New("vCenter has no configuration of it")
	}
	on := config.ChangeTrackingEnabled
	return trackedNow{on: on != nil && *on, snapshots: countTree(treeOf(f, vm))}, nil
}

// setTracking switches CBT and waits for the task; its error is raw.
func (c *Client) setTracking(ctx context.Context, vm ref, on bool) error {
	return c.WhileBusy(ctx, func() error {
		res, err := methods.ReconfigVM_Task(ctx, c.vim, &types.ReconfigVM_Task{This: vm,
			Spec: types.VirtualMachineConfigSpec{ChangeTrackingEnabled: new(on)}})
		if err != nil {
			return err
		}
		_, err = c.Await(ctx, res.Returnval)
		return err
	})
}
