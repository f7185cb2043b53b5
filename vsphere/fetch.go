package vsphere

import (
	"context"
	"slices"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// listProps are a VM's properties that a listing needs; the device list is
// most of their bytes.
var listProps = []string{
	"name", "parent", "parentVApp", "resourcePool", "customValue", "snapshot.rootSnapshotList",
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

// placeSpecs are what the path of a resource pool and the names of custom
// attributes are made of besides.
var placeSpecs = []types.PropertySpec{
	{Type: "ResourcePool", PathSet: []string{"name", "parent"}}, // virtual apps are such, too
	{Type: "ComputeResource", PathSet: []string{"name", "parent"}},
	{Type: "CustomFieldsManager", PathSet: []string{"field"}},
}

var storeSpec = types.PropertySpec{Type: "Datastore", PathSet: []string{
	"name", "summary.type", "summary.capacity", "summary.freeSpace", "summary.accessible"}}

// facts are objects as one call returned them.
type facts struct {
	vms    map[ref]mo.VirtualMachine
	names  map[ref]node
	pools  map[ref]node      // resource pools, by where they are among the hosts
	fields map[int32]string  // custom attributes by key
	nets   map[string]string // names of networks by moref, port group key or opaque ID
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
		&types.TraversalSpec{Type: "VirtualMachine", Path: "resourcePool", SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "up"}}},
		&types.TraversalSpec{Type: "VirtualMachine", Path: "runtime.host"},
		&types.TraversalSpec{Type: "VirtualMachine", Path: "datastore"})
	return c.fetchOne(ctx, vm, types.PropertyFilterSpec{
		ObjectSet: append([]types.ObjectSpec{{Obj: vm, SelectSet: selects}}, c.fieldsObject()...),
		PropSet:   slices.Concat([]types.PropertySpec{{Type: "VirtualMachine", PathSet: props}, storeSpec}, nameSpecs, placeSpecs),
	})
}

// fetchOne is fetch of one VM, and what spec selects besides. Where something of
// the VM may not be read, that is the error.
func (c *Client) fetchOne(ctx context.Context, vm ref, spec types.PropertyFilterSpec) (*facts, error) {
	f, err := c.fetch(ctx, spec)
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
	f := &facts{vms: map[ref]mo.VirtualMachine{}, names: map[ref]node{}, pools: map[ref]node{}, fields: map[int32]string{}, nets: map[string]string{}, stores: map[ref]mo.Datastore{},
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
		f.pools[o.Obj] = node{v.Name, parentOf(v.Parent)}
	case mo.ResourcePool:
		f.pools[o.Obj] = node{v.Name, parentOf(v.Parent)}
	case mo.ComputeResource:
		f.names[o.Obj] = node{v.Name, parentOf(v.Parent)}
	case mo.ClusterComputeResource:
		f.names[o.Obj] = node{v.Name, parentOf(v.Parent)}
	case mo.CustomFieldsManager:
		for _, d := range v.Field {
			f.fields[d.Key] = d.Name
		}
	case mo.HostSystem:
		f.names[o.Obj] = node{name: v.Name}
	case mo.VirtualMachineSnapshot:
		f.snapshots[o.Obj] = v
	case mo.Network:
		f.nets[o.Obj.Value] = plainName(v.Name)
	case mo.DistributedVirtualPortgroup:
		f.nets[v.Key] = plainName(v.Name)
	case mo.OpaqueNetwork:
		if s, ok := v.Summary.(*types.OpaqueNetworkSummary); ok {
			f.nets[s.OpaqueNetworkId] = plainName(v.Name)
		}
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

// fieldsObject selects the names of all custom attributes, one small object.
func (c *Client) fieldsObject() []types.ObjectSpec {
	m := c.vim.ServiceContent.CustomFieldsManager
	if m == nil {
		return nil
	}
	return []types.ObjectSpec{{Obj: *m}}
}

// poolPath is a resource pool's inventory path, through its cluster or host.
func (f *facts) poolPath(r ref) string {
	path := ""
	for range 100 { // as in path
		p, ok := f.pools[r]
		if !ok {
			return f.path(r) + path
		}
		path, r = "/"+p.name+path, p.parent
	}
	return path
}
