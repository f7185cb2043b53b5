package hotadd

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// TestReachJudges: what no simulated host has.
func TestReachJudges(t *testing.T) {
	here, there := types.ManagedObjectReference{Type: "HostSystem", Value: "host-1"}, types.ManagedObjectReference{Type: "HostSystem", Value: "host-2"}
	vm := func(home string) mo.VirtualMachine {
		m := mo.VirtualMachine{Config: &types.VirtualMachineConfigInfo{Files: types.VirtualMachineFileInfo{VmPathName: "[" + home + "] a/a.vmx"}}}
		m.Runtime.Host = &here
		return m
	}
	store := func(name, kind string, change ...func(*types.HostMountInfo)) mo.Datastore {
		i := types.HostMountInfo{AccessMode: "readWrite", Mounted: new(true), Accessible: new(true)}
		for _, f := range change {
			f(&i)
		}
		ds := mo.Datastore{Summary: types.DatastoreSummary{Type: kind, Accessible: true}}
		ds.Name = name
		ds.Host = []types.DatastoreHostMount{{Key: there, MountInfo: types.HostMountInfo{AccessMode: "readWrite"}}, {Key: here, MountInfo: i}}
		return ds
	}
	elsewhere := store("elsewhere", "VMFS")
	elsewhere.Host = elsewhere.Host[:1]
	lost := store("lost", "VMFS")
	lost.Summary.Accessible = false
	all := []mo.Datastore{
		store("plain", "VMFS"), store("nfs", "NFS41"), store("vsan", "vsan"), elsewhere, lost,
		store("readonly", "NFS", func(i *types.HostMountInfo) { i.AccessMode = "readOnly" }),
		store("unmounted", "VMFS", func(i *types.HostMountInfo) { i.Mounted = new(false) }),
		store("apd", "VMFS", func(i *types.HostMountInfo) { i.Accessible = new(false) }),
		store("unknown", "VMFS", func(i *types.HostMountInfo) { i.Accessible, i.Mounted = nil, nil }),
	}
	if got := reach(vm("plain"), all); !slices.Equal(got, []string{"nfs", "plain", "unknown"}) {
		t.Errorf("%v", got)
	}
	if got := reach(vm("vsan"), all); !slices.Equal(got, []string{"nfs", "plain", "unknown", "vsan"}) {
		t.Errorf("on vSAN: %v", got)
	}
	if got := reach(mo.VirtualMachine{}, all); got == nil || len(got) != 0 {
		t.Errorf("without a host: %v", got)
	}
}
