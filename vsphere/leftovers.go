package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// leftoverProps are what the reaper needs of a VM.
var leftoverProps = []string{"name", "snapshot.rootSnapshotList", "datastore"}

// Leftovers lists the VM snapshots that carry our mark, of whatever appliance,
// oldest first: those of all VMs that the user may see, in three calls (four
// where vCenter pages), or those of some, in one call each. A VM that is gone
// has none. Which of them a live cycle needs the caller must know.
func (c *Client) Leftovers(ctx context.Context, vms []transfer.VMID) ([]transfer.MarkedSnapshot, error) {
	const op = "list our VM snapshots"
	var all []transfer.MarkedSnapshot
	if vms == nil {
		f, err := c.everywhere(ctx, []string{"VirtualMachine", "Datastore"},
			[]types.PropertySpec{{Type: "VirtualMachine", PathSet: leftoverProps}, storeSpec})
		if err != nil {
			return nil, Explain(op, err)
		}
		all = f.leftovers(c.ID())
	}
	for _, id := range vms {
		vm, err := c.vmRef(id)
		if err != nil {
			return nil, err
		}
		f, err := c.fetchVM(ctx, vm, leftoverProps)
		if isGone(err, "VirtualMachine") {
			continue
		}
		if err != nil {
			return nil, Explain(op+" of "+id.Moref, err)
		}
		all = append(all, f.leftovers(c.ID())...)
	}
	slices.SortFunc(all, func(a, b transfer.MarkedSnapshot) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Snapshot, b.Snapshot))
	})
	return all, nil
}

// views is how often a list is begun anew whose view went with its session.
const views = 3

// everywhere fetches properties of all objects of some kinds, and of others. It
// needs a view, which ends with the session: where that was begun anew meanwhile
// the view is missing, or, since missing objects are no fault here, all that is
// in it.
func (c *Client) everywhere(ctx context.Context, kinds []string, props []types.PropertySpec, also ...types.ObjectSpec) (*facts, error) {
	for try := 1; ; try++ {
		session := c.logins()
		f, err := c.inView(ctx, kinds, props, also)
		if (c.logins() == session && !isGone(err, "ContainerView")) || ctx.Err() != nil || try == views {
			return f, err
		}
	}
}

func (c *Client) inView(ctx context.Context, kinds []string, props []types.PropertySpec, also []types.ObjectSpec) (*facts, error) {
	view, err := methods.CreateContainerView(ctx, c.vim, &types.CreateContainerView{
		This: *c.vim.ServiceContent.ViewManager, Container: c.vim.ServiceContent.RootFolder, Type: kinds, Recursive: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timing.Call)
		defer cancel()
		_, _ = methods.DestroyView(ctx, c.vim, &types.DestroyView{This: view.Returnval}) // it ends with the session
	}()
	return c.fetch(ctx, types.PropertyFilterSpec{
		ObjectSet: append([]types.ObjectSpec{{Obj: view.Returnval, Skip: new(true), SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "ContainerView", Path: "view"}}}}, also...),
		PropSet: props,
		// A VM that is deleted while the list is made must not spoil it.
		ReportMissingObjectsInResults: new(true),
	})
}

// EachExtraConfig calls f with the advanced settings of every VM that the user
// may see: its moref and config.extraConfig. It takes three calls. A VM whose
// settings the user may not read is passed over: this user has set none there.
func (c *Client) EachExtraConfig(ctx context.Context, f func(moref string, options []types.BaseOptionValue)) error {
	found, err := c.everywhere(ctx, []string{"VirtualMachine"},
		[]types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"config.extraConfig"}}})
	if err != nil {
		return Explain("read the advanced settings of all VMs", err)
	}
	for r, vm := range found.vms {
		if vm.Config != nil {
			f(r.Value, vm.Config.ExtraConfig)
		}
	}
	return nil
}

func (f *facts) leftovers(vcenter string) []transfer.MarkedSnapshot {
	var all []transfer.MarkedSnapshot
	for r, vm := range f.vms {
		for _, s := range ourSnapshots(treeOf(f, r)) {
			all = append(all, transfer.MarkedSnapshot{
				VM: transfer.VMID{VCenter: vcenter, Moref: r.Value}, VMName: plainName(vm.Name),
				Snapshot: s.Moref, Name: s.Name, Appliance: s.Appliance, Cycle: s.Cycle, Created: s.Created, Low: f.low(vm),
			})
		}
	}
	return all
}

// low names the fullest of a VM's datastores that have less free than a new VM
// snapshot should find.
func (f *facts) low(vm mo.VirtualMachine) string {
	text, least := "", int64(0)
	for _, r := range vm.Datastore {
		ds, ok := f.stores[r]
		s := ds.Summary
		if !ok || s.Capacity <= 0 || s.FreeSpace >= min(DefaultMinFree, s.Capacity/smallShare) || (text != "" && s.FreeSpace >= least) {
			continue
		}
		text, least = fmt.Sprintf("%s has %d MiB free of %d", ds.Name, s.FreeSpace>>20, s.Capacity>>20), s.FreeSpace
	}
	return text
}
