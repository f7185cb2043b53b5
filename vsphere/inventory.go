package vsphere

import (
	"cmp"
	"context"
	"slices"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// VMs lists every virtual machine that the user may see, with its obstacles,
// ordered by path. It takes four calls, more only where vCenter pages. A VM
// that cannot be read fully is in the list, with that as its obstacle.
func (c *Client) VMs(ctx context.Context) ([]transfer.VM, error) {
	f, err := c.list(ctx, listProps)
	if err != nil {
		return nil, Explain("list virtual machines", err)
	}
	vms := make([]transfer.VM, 0, len(f.vms))
	for r := range f.vms {
		vms = append(vms, f.describe(c.ID(), r))
	}
	slices.SortFunc(vms, func(a, b transfer.VM) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID.Moref, b.ID.Moref))
	})
	return vms, nil
}

// list fetches properties of all VMs, and the names around them.
func (c *Client) list(ctx context.Context, props []string) (*facts, error) {
	kinds := []string{"VirtualMachine"}
	for _, s := range nameSpecs {
		kinds = append(kinds, s.Type)
	}
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
		ObjectSet: []types.ObjectSpec{{Obj: view.Returnval, Skip: new(true), SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "ContainerView", Path: "view"}}}},
		PropSet: append([]types.PropertySpec{{Type: "VirtualMachine", PathSet: props}}, nameSpecs...),
		// A VM that is deleted while the list is made must not spoil it.
		ReportMissingObjectsInResults: new(true),
	})
}
