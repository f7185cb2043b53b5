package vsphere_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

func TestLeftoversOfTheWholeInventory(t *testing.T) {
	e := start(t)
	a, b, c := e.vm("a", mib), e.addVM(vcenter.VMSpec{Name: "b", Folder: "prod", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}}}), e.vm("c", mib)
	first, second := e.freeze(a).State(), e.freeze(b).State()
	if _, err := c.TakeSnapshot("snapferry-20260101T000000Z-00000000"); err != nil { // a name proves nothing
		t.Fatal(err)
	}
	before := e.c.Calls()
	all, err := e.c.Leftovers(e.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := e.c.Calls() - before; n > 3 {
		t.Errorf("%d calls", n)
	}
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	for i, want := range []transfer.FrozenVM{first, second} {
		got := all[i]
		if got.VM != want.VM.ID || got.VMName != want.VM.Name || got.Snapshot != want.Snapshot || got.Name != want.SnapshotName ||
			got.Appliance != "appliance-1" || vsphere.SnapshotPrefix+string(got.Cycle) != want.SnapshotName || !got.Created.Equal(want.At) || got.Low != "" {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
	some, err := e.c.Leftovers(e.ctx, []transfer.VMID{e.id(c), e.id(b), {VCenter: e.c.ID(), Moref: "vm-99999"}})
	if err != nil || len(some) != 1 || some[0].Snapshot != second.Snapshot {
		t.Errorf("of two VMs and one that is gone: %+v, %v", some, err)
	}
	if _, err := e.c.Leftovers(e.ctx, []transfer.VMID{{VCenter: "another", Moref: "vm-1"}}); err == nil {
		t.Error("a VM of another vCenter was looked for here")
	}
	if none, err := e.c.Leftovers(e.ctx, []transfer.VMID{}); err != nil || len(none) != 0 {
		t.Errorf("of no VM: %+v, %v", none, err)
	}
}

func TestLeftoversSayWhichDatastoreRunsLow(t *testing.T) {
	e := start(t)
	e.freeze(e.vm("a", mib))
	if err := e.v.SetFreeSpace("vmfs1", 7<<20); err != nil {
		t.Fatal(err)
	}
	all, err := e.c.Leftovers(e.ctx, nil)
	if err != nil || len(all) != 1 || !strings.Contains(all[0].Low, "vmfs1 has 7 MiB free of ") {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestEachExtraConfig(t *testing.T) {
	e := start(t)
	vm, other := e.vm("a", mib), e.vm("b", mib)
	seen := map[string]string{}
	err := e.c.EachExtraConfig(e.ctx, func(moref string, options []types.BaseOptionValue) {
		seen[moref] = fmt.Sprint(len(options))
	})
	if err != nil || seen[vm.Moref()] == "" || seen[other.Moref()] == "" {
		t.Errorf("%v, %v", seen, err)
	}
}
