package vsphere

import (
	"context"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// listProps are a VM's properties that a listing needs; the device list is
// most of their bytes.
var listProps = []string{
	"name", "parent", "parentVApp", "snapshot.rootSnapshotList",
	"runtime.powerState", "runtime.connectionState", "runtime.host", "runtime.faultToleranceState", "runtime.consolidationNeeded",
	"config.template", "config.version", "config.instanceUuid", "config.changeTrackingEnabled", "config.guestId", "config.firmware",
	"config.bootOptions.efiSecureBootEnabled", "config.hardware.device", "config.hardware.numCPU", "config.hardware.memoryMB",
	"config.ftInfo", "config.keyId",
}

// inspectProps are those that one VM's inspection needs besides.
var inspectProps = append([]string{"config.extraConfig", "config.files.vmPathName", "layoutEx.disk", "layoutEx.file"}, listProps...)

// nameSpecs are what an inventory path is made of.
var nameSpecs = []types.PropertySpec{
	{Type: "Folder", PathSet: []string{"name", "parent"}},
	{Type: "Datacenter", PathSet: []string{"name", "parent"}},
	{Type: "VirtualApp", PathSet: []string{"name", "parentFolder", "parentVApp"}},
	{Type: "HostSystem", PathSet: []string{"name"}},
}

var storeSpec = types.PropertySpec{Type: "Datastore", PathSet: []string{
	"name", "summary.type", "summary.capacity", "summary.freeSpace", "summary.accessible"}}

// facts are objects as one call returned them.
type facts struct {
	vms    map[ref]mo.VirtualMachine
	names  map[ref]node
	stores map[ref]mo.Datastore

	snapshots map[ref]mo.VirtualMachineSnapshot
	denied    map[ref]error // why some properties of an object are missing
}

// node is a link of an inventory path.
type node struct {
	name   string
	parent ref
}

// traverseUp selects an entity's ancestors. (The names of selections are only
// for each other.)
func traverseUp() []types.BaseSelectionSpec {
	up := &types.SelectionSpec{Name: "up"}
	app := &types.SelectionSpec{Name: "app"}
	return []types.BaseSelectionSpec{
		&types.TraversalSpec{SelectionSpec: *up, Type: "ManagedEntity", Path: "parent", SelectSet: []types.BaseSelectionSpec{up}},
		&types.TraversalSpec{SelectionSpec: *app, Type: "VirtualMachine", Path: "parentVApp", SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "appFolder"}, Type: "VirtualApp", Path: "parentFolder", SelectSet: []types.BaseSelectionSpec{up}},
			&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "appApp"}, Type: "VirtualApp", Path: "parentVApp", SelectSet: []types.BaseSelectionSpec{
				&types.SelectionSpec{Name: "appFolder"}, &types.SelectionSpec{Name: "appApp"}}},
		}},
	}
}

// fetchVM gets all about one VM, its host, datastores and ancestors, in one call.
func (c *Client) fetchVM(ctx context.Context, vm ref, props []string) (*facts, error) {
	selects := append(traverseUp(),
		&types.TraversalSpec{Type: "VirtualMachine", Path: "runtime.host"},
		&types.TraversalSpec{Type: "VirtualMachine", Path: "datastore"})
	f, err := c.fetch(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: vm, SelectSet: selects}},
		PropSet:   append([]types.PropertySpec{{Type: "VirtualMachine", PathSet: props}, storeSpec}, nameSpecs...),
	})
	if err != nil {
		return nil, err
	}
	if _, ok := f.vms[vm]; !ok {
		return nil, &goneError{vm}
	}
	return f, f.denied[vm]
}

// fetch retrieves properties in as few calls as vCenter's paging allows.
func (c *Client) fetch(ctx context.Context, spec types.PropertyFilterSpec) (*facts, error) {
	content, err := mo.RetrievePropertiesEx(ctx, c.vim, types.RetrievePropertiesEx{
		This: c.vim.ServiceContent.PropertyCollector, SpecSet: []types.PropertyFilterSpec{spec}})
	if err != nil {
		return nil, err
	}
	f := &facts{vms: map[ref]mo.VirtualMachine{}, names: map[ref]node{}, stores: map[ref]mo.Datastore{},
		snapshots: map[ref]mo.VirtualMachineSnapshot{}, denied: map[ref]error{}}
	for _, o := range content {
		if err := f.add(o); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *facts) add(o types.ObjectContent) error {
	for _, m := range o.MissingSet {
		f.denied[o.Obj] = wrapFault(m.Fault)
	}
	o.MissingSet = nil // mo would refuse the whole object
	loaded, err := mo.ObjectContentToType(o)
	if err != nil {
		return err
	}
	switch v := loaded.(type) {
	case mo.VirtualMachine:
		f.vms[o.Obj] = v
		f.names[o.Obj] = node{v.Name, parentOf(v.Parent, v.ParentVApp)}
	case mo.Folder:
		f.names[o.Obj] = node{v.Name, parentOf(v.Parent)}
	case mo.Datacenter:
		f.names[o.Obj] = node{v.Name, parentOf(v.Parent)}
	case mo.VirtualApp:
		f.names[o.Obj] = node{v.Name, parentOf(v.ParentFolder, v.ParentVApp)}
	case mo.HostSystem:
		f.names[o.Obj] = node{name: v.Name}
	case mo.VirtualMachineSnapshot:
		f.snapshots[o.Obj] = v
	case mo.Datastore:
		f.stores[o.Obj] = v
	}
	return nil
}

func parentOf(candidates ...*ref) ref {
	for _, r := range candidates {
		if r != nil {
			return *r
		}
	}
	return ref{}
}

// path is an entity's inventory path. The root folder, which has no parent,
// has no part in it.
func (f *facts) path(r ref) string {
	path := ""
	for range 100 { // deeper than any inventory; a cycle would never end
		n, ok := f.names[r]
		if !ok || n.parent.Value == "" {
			return path
		}
		path, r = "/"+n.name+path, n.parent
	}
	return path
}
