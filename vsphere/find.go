package vsphere

import (
	"context"

	"snapferry/transfer"
)

// Find returns the VM that a person means: by inventory path ("/DC0/vm/prod/app01",
// or relative to the datacenter's vm folder, "prod/app01"), by name, moref or
// instance UUID. Several candidates are an error that lists them; none, one
// that suggests names.
func (c *Client) Find(ctx context.Context, name string) (transfer.VM, error) {
	op := "find VM " + name
	f, err := c.list(ctx, []string{"name", "parent", "parentVApp", "config.instanceUuid"})
	if err != nil {
		return transfer.VM{}, Explain(op, err)
	}
	var all []candidate
	for r, m := range f.vms {
		v := candidate{moref: r.Value, name: plainName(m.Name), path: f.path(r)}
		if m.Config != nil {
			v.uuid = m.Config.InstanceUuid
		}
		all = append(all, v)
	}
	found, err := match(name, all)
	if err != nil {
		return transfer.VM{}, err
	}
	return c.Inspect(ctx, transfer.VMID{VCenter: c.ID(), Moref: found.moref})
}

// Inspect describes one VM, in one call.
func (c *Client) Inspect(ctx context.Context, id transfer.VMID) (transfer.VM, error) {
	vm, err := c.vmRef(id)
	if err != nil {
		return transfer.VM{}, err
	}
	f, err := c.fetchVM(ctx, vm, inspectProps)
	if err != nil {
		return transfer.VM{}, Explain("read VM "+id.Moref, err)
	}
	return f.describe(c.ID(), vm), nil
}
