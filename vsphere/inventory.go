package vsphere

import (
	"cmp"
	"context"
	"slices"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// VMs lists every virtual machine that the user may see, with its obstacles,
// ordered by path. It takes three calls, one more for each further page that
// vCenter makes of the list. A VM that cannot be read fully is in the list, with
// that as its obstacle. Tags are not in it: see Tags.
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
	kinds = append(kinds, "ResourcePool", "ComputeResource", "ClusterComputeResource")
	return c.everywhere(ctx, kinds, slices.Concat([]types.PropertySpec{{Type: "VirtualMachine", PathSet: props}}, nameSpecs, placeSpecs), c.fieldsObject()...)
}
