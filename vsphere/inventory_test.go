package vsphere_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"snapferry/test/vcenter"
	"snapferry/transfer"
)

func TestFind(t *testing.T) {
	e := start(t)
	app := e.vm("app01", mib)
	web1 := e.addVM(vcenter.VMSpec{Name: "web", Folder: "prod"})
	web2 := e.addVM(vcenter.VMSpec{Name: "web", Folder: "test/deep"})
	for name, want := range map[string]*vcenter.VM{
		"app01": app, app.Moref(): app, app.InstanceUUID(): app, strings.ToUpper(app.InstanceUUID()): app, "/DC0/vm/app01": app, "DC0/vm/app01": app,
		"prod/web": web1, "/DC0/vm/prod/web": web1, "test/deep/web": web2,
	} {
		got, err := e.c.Find(e.ctx, name)
		if err != nil || got.ID != e.id(want) {
			t.Errorf("%s: %v, %v", name, got.ID, err)
		}
	}
	_, err := e.c.Find(e.ctx, "web")
	for _, want := range []string{"/DC0/vm/prod/web", "/DC0/vm/test/deep/web", web1.Moref(), web2.Moref()} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ambiguous: %v lacks %s", err, want)
		}
	}
	_, err = e.c.Find(e.ctx, "app10")
	if err == nil || !strings.Contains(transfer.HintOf(err), "/DC0/vm/app01") || strings.Contains(transfer.HintOf(err), "web") {
		t.Errorf("not found: %v; %s", err, transfer.HintOf(err))
	}
	for _, name := range []string{"", "/", "vm-99999", "zzzzzz", "prod"} {
		if vm, err := e.c.Find(e.ctx, name); err == nil {
			t.Errorf("%q is %s", name, vm.Path)
		}
	}
	if _, err := e.c.Inspect(e.ctx, transfer.VMID{VCenter: "another", Moref: app.Moref()}); err == nil || !strings.Contains(err.Error(), "another vCenter") {
		t.Error(err)
	}
}

func TestVMIsDescribed(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Folder: "prod", CBT: true, Firmware: "efi", CPUs: 4, MemoryMB: 3072, Host: 1,
		Disks: []vcenter.DiskSpec{{Size: 2 * mib}, {Size: 3 * mib, Datastore: "vmfs2", Controller: vcenter.NVMe}}})
	if _, err := vm.TakeSnapshot("by hand"); err != nil {
		t.Fatal(err)
	}
	got, err := e.source(vm).Inspect(e.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "app01" || got.Path != "/DC0/vm/prod/app01" || got.InstanceUUID != vm.InstanceUUID() || !got.PoweredOn || !got.CBT || got.Snapshots != 1 || got.Host == "" {
		t.Errorf("%+v", got)
	}
	if g := got.Guest; g.ID != "debian12_64Guest" || g.Firmware != "efi" || g.CPUs != 4 || g.MemoryMiB != 3072 {
		t.Errorf("guest %+v", g)
	}
	if len(got.Disks) != 2 || len(got.Obstacles) != 0 {
		t.Fatalf("%+v", got)
	}
	if d := got.Disks[1]; d.Size != 3*mib || d.Datastore != "vmfs2" || d.Label != "Hard disk 2" || d.Backing != "flat" || !strings.HasPrefix(d.File, "[vmfs2] app01/") {
		t.Errorf("disk %+v", d)
	}
	listed, err := e.c.VMs(e.ctx)
	if err != nil || len(listed) != 1 || listed[0].Path != got.Path || len(listed[0].Disks) != 2 {
		t.Errorf("%+v, %v", listed, err)
	}
}

// TestListing: a few calls, however many VMs.
func TestListing(t *testing.T) {
	e := start(t)
	for i := range 40 {
		e.addVM(vcenter.VMSpec{Name: fmt.Sprintf("vm%02d", i), Folder: fmt.Sprint("f", i%3), PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: grain}}})
	}
	e.v.ResetCalls()
	vms, err := e.c.VMs(e.ctx)
	if err != nil || len(vms) != 40 {
		t.Fatalf("%d, %v", len(vms), err)
	}
	if n, text := sum(e.v.Calls()); n != 3 {
		t.Errorf("%d calls:%s", n, text)
	}
	if !slices.IsSortedFunc(vms, func(a, b transfer.VM) int { return strings.Compare(a.Path, b.Path) }) || vms[0].PoweredOn {
		t.Errorf("first %+v", vms[0])
	}
}

// TestObstacles: row 12 of the CBT table, as a vCenter shows it.
func TestObstacles(t *testing.T) {
	e := start(t)
	disk := func(change func(*vcenter.DiskSpec)) []vcenter.DiskSpec {
		d := vcenter.DiskSpec{Size: mib}
		change(&d)
		return []vcenter.DiskSpec{{Size: mib}, d}
	}
	for name, x := range map[string]struct {
		spec  vcenter.VMSpec
		disk  string // words of the second disk's obstacle
		whole string // words of the VM's
	}{
		"fine":        {spec: vcenter.VMSpec{Disks: disk(func(*vcenter.DiskSpec) {})}},
		"old":         {spec: vcenter.VMSpec{HardwareVersion: 4, Disks: disk(func(*vcenter.DiskSpec) {})}, whole: "hardware version 4"},
		"ft":          {spec: vcenter.VMSpec{FaultTolerant: true, Disks: disk(func(*vcenter.DiskSpec) {})}, whole: "Fault Tolerance"},
		"pci":         {spec: vcenter.VMSpec{PCIPassthrough: true, Disks: disk(func(*vcenter.DiskSpec) {})}, whole: "passthrough"},
		"independent": {spec: vcenter.VMSpec{Disks: disk(func(d *vcenter.DiskSpec) { d.Mode = "independent_persistent" })}, disk: "independent"},
		"physical":    {spec: vcenter.VMSpec{Disks: disk(func(d *vcenter.DiskSpec) { d.Backing = vcenter.RDMPhysical })}, disk: "physical mode"},
		"ver1":        {spec: vcenter.VMSpec{Disks: disk(func(d *vcenter.DiskSpec) { d.Backing = vcenter.FlatVer1 })}, disk: "first VMDK version"},
		"multiwriter": {spec: vcenter.VMSpec{Disks: disk(func(d *vcenter.DiskSpec) { d.Sharing = "sharingMultiWriter" })}, disk: "multi-writer", whole: "Hard disk 2"},
		"bus":         {spec: vcenter.VMSpec{Disks: disk(func(d *vcenter.DiskSpec) { d.BusSharing = "physicalSharing" })}, whole: "physicalSharing"},
	} {
		x.spec.Name, x.spec.PoweredOff = name, true
		got, err := e.source(e.addVM(x.spec)).Inspect(e.ctx)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what, words string, obstacles []transfer.Obstacle) {
			if (words == "") != (len(obstacles) == 0) {
				t.Errorf("%s: %s has %+v", name, what, obstacles)
			} else if words != "" && (!strings.Contains(obstacles[0].Reason, words) || obstacles[0].Remedy == "") {
				t.Errorf("%s: %s has %+v, want %q", name, what, obstacles, words)
			}
		}
		check("the VM", x.whole, got.Obstacles)
		check("disk 1", "", got.Disks[0].Obstacles)
		check("disk 2", x.disk, got.Disks[1].Obstacles)
	}
}
