package hotadd

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
	"snapferry/vsphere"
)

var (
	testSlot = slot{controller: 1001, bus: 1, unit: 3}
	testMark = Mark{Appliance: "a", Cycle: "c", VM: "vm-1", Disk: transfer.DiskID{Key: 2000, UUID: "6000c29a-1"}, File: "[ds] vm/vm-000001.vmdk"}
)

// everySpec are all specs that this package can build.
func everySpec() map[string]types.VirtualMachineConfigSpec {
	return map[string]types.VirtualMachineConfigSpec{
		"attach": attachSpec("v1", testSlot, testMark),
		"detach": detachSpec("v1", attachedDisk{slot: testSlot, key: 2019, file: testMark.File}),
		"clear":  clearSpec("v1", testSlot),
	}
}

// TestNoSpecCanTouchAFile walks every value of every spec.
func TestNoSpecCanTouchAFile(t *testing.T) {
	for name, spec := range everySpec() {
		operations := 0
		walk(reflect.ValueOf(spec), func(v any) {
			switch v := v.(type) {
			case types.VirtualDeviceConfigSpec:
				operations++
				if v.FileOperation != "" {
					t.Errorf("%s: file operation %q", name, v.FileOperation)
				}
				if v.Profile != nil || v.Backing != nil {
					t.Errorf("%s: profile or backing spec", name)
				}
			case types.VirtualDisk:
				if v.CapacityInBytes != 0 || v.CapacityInKB != 0 || v.Shares != nil || v.StorageIOAllocation != nil {
					t.Errorf("%s: capacity or shares: %+v", name, v)
				}
			case types.VirtualDiskFlatVer2BackingInfo:
				if v.Parent != nil || v.DiskMode != "independent_nonpersistent" || v.Sharing != "" {
					t.Errorf("%s: backing %+v", name, v)
				}
			}
		})
		if want := 1; name != "clear" && operations != want {
			t.Errorf("%s: %d device changes", name, operations)
		}
		if spec.ChangeVersion != "v1" || len(spec.ExtraConfig) != 1 {
			t.Errorf("%s: version %q, %d options", name, spec.ChangeVersion, len(spec.ExtraConfig))
		}
	}
}

// walk calls f with every struct below v.
func walk(v reflect.Value, f func(any)) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walk(v.Elem(), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), f)
		}
	case reflect.Struct:
		f(v.Interface())
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				walk(v.Field(i), f)
			}
		}
	}
}

func TestSpecsNameTheSlotAndTheMark(t *testing.T) {
	add := attachSpec("v1", testSlot, testMark)
	change := add.DeviceChange[0].GetVirtualDeviceConfigSpec()
	d := change.Device.GetVirtualDevice()
	if change.Operation != types.VirtualDeviceConfigSpecOperationAdd || d.Key >= 0 || d.ControllerKey != 1001 || *d.UnitNumber != 3 {
		t.Errorf("attach %+v", d)
	}
	o := add.ExtraConfig[0].GetOptionValue()
	c, u, m, ok := readMark(o.Key, o.Value.(string))
	if !ok || c != 1001 || u != 3 || m != testMark {
		t.Errorf("mark %s = %v reads as %d:%d %+v, %v", o.Key, o.Value, c, u, m, ok)
	}
	remove := detachSpec("v1", attachedDisk{slot: testSlot, key: 2019})
	if o := remove.ExtraConfig[0].GetOptionValue(); o.Key != "snapferry.disk.1001:3" || o.Value != "" {
		t.Errorf("detach clears %+v", o)
	}
	if c := remove.DeviceChange[0].GetVirtualDeviceConfigSpec(); c.Operation != types.VirtualDeviceConfigSpecOperationRemove || c.Device.GetVirtualDevice().Key != 2019 {
		t.Errorf("detach %+v", c)
	}
}

func TestReadMarkRefuses(t *testing.T) {
	for key, value := range map[string]string{
		"snapferry.disk.1000:x": testMark.String(), "snapferry.disk.1000": testMark.String(), "other.1000:1": testMark.String(),
		"snapferry.disk.1000:1": "true", "snapferry.disk.1000:2": "{}",
	} {
		if _, _, m, ok := readMark(key, value); ok {
			t.Errorf("%s=%s is taken for the mark %+v", key, value, m)
		}
	}
}

// hardwareWith is an appliance with PVSCSI controllers and disks at slots.
func hardwareWith(buses int, used ...slot) *hardware {
	c := &types.VirtualMachineConfigInfo{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "disk.EnableUUID", Value: "true"}}}
	for i := range int32(buses) {
		p := &types.ParaVirtualSCSIController{}
		p.Key, p.BusNumber, p.ScsiCtlrUnitNumber = 1000+i, i, 7
		c.Hardware.Device = append(c.Hardware.Device, p)
	}
	for i, s := range used {
		d := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2000 + int32(i), ControllerKey: s.controller, UnitNumber: new(s.unit)}}
		d.Backing = &types.VirtualDiskFlatVer2BackingInfo{Uuid: "6000C29x-" + s.String()}
		c.Hardware.Device = append(c.Hardware.Device, d)
	}
	h := &hardware{host: "esx1", stores: map[string]store{"ds-1": {"vmfs1", "VMFS"}, "ds-nfs": {"nfs1", "NFS"}, "ds-vsan": {"vsan1", "vsan"}}}
	h.read(c)
	h.home = "vmfs1"
	return h
}

func TestEverySlotIsUsedOnceAndNever7(t *testing.T) {
	h := hardwareWith(4, slot{1000, 0, 0})
	seen := map[slot]bool{{1000, 0, 0}: true}
	for range 59 {
		s, ok := h.freeSlot()
		if !ok || seen[s] || s.unit == 7 || s.unit > 15 || s.bus != s.controller-1000 {
			t.Fatalf("slot %v, %v, after %d", s, ok, len(seen))
		}
		seen[s], h.taken[s] = true, true
	}
	if s, ok := h.freeSlot(); ok {
		t.Errorf("a 61st slot: %v", s)
	}
	if err := h.full("attach"); !strings.Contains(err.Error(), "60 slots") || transfer.KindOf(err) != transfer.Retry {
		t.Error(err)
	}
}

func TestSlotsAreSpread(t *testing.T) {
	h := hardwareWith(4, slot{1000, 0, 0})
	for range 3 {
		s, _ := h.freeSlot()
		h.taken[s] = true
		if s.bus == 0 {
			t.Errorf("%v before the other controllers had a disk", s)
		}
	}
}

func TestSelfChecks(t *testing.T) {
	for want, change := range map[string]func(*hardware){
		"PVSCSI": func(h *hardware) { clear(h.buses) }, "disk.EnableUUID": func(h *hardware) { h.enableUUID = false },
		"CBT is enabled on the appliance": func(h *hardware) { h.cbt = true },
	} {
		h := hardwareWith(4)
		if err := h.checkSelf("use"); err != nil {
			t.Fatal(err)
		}
		change(h)
		if err := h.checkSelf("use"); err == nil || !strings.Contains(err.Error(), want) || transfer.HintOf(err) == "" {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestSourceChecks(t *testing.T) {
	here := self{vcenter: "vc", moref: "vm-9", path: "/DC0/vm/appliance"}
	good := func() vsphere.FrozenDisk {
		return vsphere.FrozenDisk{
			VM:   transfer.VM{ID: transfer.VMID{VCenter: "vc", Moref: "vm-1"}, Path: "/DC0/vm/prod/app01", Host: "esx2", PoweredOn: true},
			Disk: transfer.Disk{ID: transfer.DiskID{Key: 2000, UUID: "6000c29a"}, Backing: "flat", Datastore: "vmfs1"}, Controller: "scsi", Datastores: []string{"ds-1"}}
	}
	h := hardwareWith(2, slot{1000, 0, 0})
	if err := h.checkSource("attach", here, good(), false); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*vsphere.FrozenDisk){
		"another vCenter":       func(d *vsphere.FrozenDisk) { d.VM.ID.VCenter = "other" },
		"datacenter /DC1":       func(d *vsphere.FrozenDisk) { d.VM.Path = "/DC1/vm/app01" },
		"the appliance itself":  func(d *vsphere.FrozenDisk) { d.VM.ID.Moref = "vm-9" },
		"IDE controller":        func(d *vsphere.FrozenDisk) { d.Controller = "ide" },
		"hangs on an IDE":       func(d *vsphere.FrozenDisk) { d.Disk.ID.Key = 3001 },
		"raw device mapping":    func(d *vsphere.FrozenDisk) { d.Disk.Backing = "rdm-virtual" },
		"raw disk":              func(d *vsphere.FrozenDisk) { d.Disk.Backing = "raw-disk" },
		"does not see the data": func(d *vsphere.FrozenDisk) { d.Datastores = []string{"ds-1", "ds-far"} },
		"on vSAN":               func(d *vsphere.FrozenDisk) { d.Datastores = []string{"ds-vsan"} },
		"NFS 3":                 func(d *vsphere.FrozenDisk) { d.Datastores = []string{"ds-nfs"} },
		"no UUID":               func(d *vsphere.FrozenDisk) { d.Disk.ID.UUID = "" },
		"same UUID":             func(d *vsphere.FrozenDisk) { d.Disk.ID.UUID = "6000c29x-scsi0:0" },
	} {
		d := good()
		change(&d)
		if err := h.checkSource("attach", here, d, false); err == nil || !strings.Contains(err.Error(), want) || transfer.HintOf(err) == "" {
			t.Errorf("%s: %v (%s)", want, err, transfer.HintOf(err))
		}
	}
	d := good()
	d.Datastores = []string{"ds-nfs"}
	if err := h.checkSource("attach", here, d, true); err != nil {
		t.Errorf("the stun is allowed: %v", err)
	}
	d.VM.Host = "esx1"
	if err := h.checkSource("attach", here, d, false); err != nil {
		t.Errorf("the same host: %v", err)
	}
}

func TestVerifyAfterAttaching(t *testing.T) {
	s := slot{1001, 1, 3}
	h := hardwareWith(2, s)
	h.disks[0].file = testMark.File
	m := testMark
	m.Disk.UUID = "6000C29X-scsi1:3"
	h.marks[s] = m
	at := attachment{slot: s, mark: m}
	if err := h.verify("attach", at, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.verify("attach", at, errors.New("lost")); err != nil {
		t.Errorf("its answer got lost and it is there: %v", err)
	}
	other := at
	other.mark.Cycle = "another"
	if err := h.verify("attach", other, nil); err == nil || !strings.Contains(err.Error(), "our mark") {
		t.Errorf("another's mark: %v", err)
	}
	h.disks[0].uuid = "6000c29y"
	if err := h.verify("attach", at, nil); err == nil || !strings.Contains(err.Error(), "6000c29y") {
		t.Errorf("another UUID: %v", err)
	}
	h.disks[0].file = "[ds] vm/other.vmdk"
	if err := h.verify("attach", at, nil); err == nil || !strings.Contains(err.Error(), "other.vmdk") {
		t.Errorf("another file: %v", err)
	}
	h.disks = nil
	if err := h.verify("attach", at, nil); err == nil {
		t.Error("nothing hangs there")
	}
}
