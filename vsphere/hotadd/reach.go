package hotadd

import (
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/vsphere"
)

// Host is the name of the ESXi host that the appliance runs on, as in
// transfer.VM.Host. One call; vMotion changes the answer.
func (a *Appliance) Host(ctx context.Context) (string, error) {
	h, err := a.fetch(ctx)
	if err != nil {
		return "", vsphere.Explain("read the appliance's host", err)
	}
	return h.host, nil
}

// Slots is how many frozen disks the appliance can hold at most, those that it
// holds now among them: the units of its PVSCSI controllers without what is
// there for good, such as its own disks. One call.
func (a *Appliance) Slots(ctx context.Context) (int, error) {
	h, err := a.fetch(ctx)
	if err != nil {
		return 0, vsphere.Explain("count the appliance's slots", err)
	}
	return h.slots(), nil
}

// slots counts the units that are free or carry a mark of ours.
func (h *hardware) slots() int {
	n := 0
	for key, b := range h.buses {
		for unit := range int32(unitsPerBus) {
			s := slot{key, b.number, unit}
			if _, ours := h.marks[s]; unit != 7 && unit != b.ownUnit && (ours || !h.taken[s]) {
				n++
			}
		}
	}
	return n
}

// Datastores are the names, in order, of the datastores from which disks can be
// hot-added: those that the appliance's host has mounted, can access and may
// write to; vSAN only where the appliance is on vSAN itself. The names mean what
// they mean in transfer.Disk.Datastore. One call, of which the answer grows with
// datastores times hosts.
func (a *Appliance) Datastores(ctx context.Context) ([]string, error) {
	const op = "list the datastores that the appliance reaches"
	content, err := mo.RetrievePropertiesEx(ctx, a.c.VIM(), types.RetrievePropertiesEx{
		This: a.c.VIM().ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: a.vm, SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{Type: "VirtualMachine", Path: "runtime.host", SelectSet: []types.BaseSelectionSpec{
					&types.TraversalSpec{Type: "HostSystem", Path: "datastore"}}}}}},
			PropSet: []types.PropertySpec{
				{Type: "VirtualMachine", PathSet: []string{"runtime.host", "config.files.vmPathName"}},
				{Type: "Datastore", PathSet: []string{"name", "summary.type", "summary.accessible", "host"}},
			},
		}},
	})
	if err != nil {
		return nil, vsphere.Explain(op, err)
	}
	var vm mo.VirtualMachine
	var stores []mo.Datastore
	for _, o := range content {
		for _, m := range o.MissingSet {
			return nil, vsphere.Explain(op, task.Error{LocalizedMethodFault: &m.Fault})
		}
		loaded, err := mo.ObjectContentToType(o)
		if err != nil {
			return nil, vsphere.Explain(op, err)
		}
		switch v := loaded.(type) {
		case mo.VirtualMachine:
			vm = v
		case mo.Datastore:
			stores = append(stores, v)
		}
	}
	return reach(vm, stores), nil
}

// reach is the pure part of Datastores.
func reach(vm mo.VirtualMachine, stores []mo.Datastore) []string {
	isVSAN := func(ds mo.Datastore) bool { return strings.EqualFold(ds.Summary.Type, "vsan") }
	home := ""
	if vm.Config != nil {
		home = homeOf(vm.Config)
	}
	onVSAN := slices.ContainsFunc(stores, func(ds mo.Datastore) bool { return ds.Name == home && isVSAN(ds) })
	names := []string{} // nothing within reach is not the same as unknown
	for _, ds := range stores {
		if vm.Runtime.Host != nil && ds.Summary.Accessible && usable(ds, *vm.Runtime.Host) && (onVSAN || !isVSAN(ds)) {
			names = append(names, ds.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// usable: the host has the datastore mounted, accessible and writable. vCenter
// leaves out what it does not know; only what it says counts against it.
func usable(ds mo.Datastore, host types.ManagedObjectReference) bool {
	no := func(b *bool) bool { return b != nil && !*b }
	for _, m := range ds.Host {
		if m.Key == host {
			i := m.MountInfo
			return i.AccessMode != string(types.HostMountModeReadOnly) && !no(i.Mounted) && !no(i.Accessible)
		}
	}
	return false
}
