package vcenter_test

import (
	"slices"
	"strings"
	"testing"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

const grain = 64 * kib

// tracked is a VM of one disk with change tracking on.
func tracked(e *env, size int64) (*vcenter.VM, *vcenter.Disk) {
	e.Helper()
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: size}}})
	return vm, vm.Disks()[0]
}

// cycle takes a snapshot, removes it and returns its change ID.
func (e *env) cycle(vm *vcenter.VM, d *vcenter.Disk) string {
	e.Helper()
	s := e.snap(vm, "base")
	defer e.unsnap(s)
	return e.changeID(s, d.Key())
}

func (e *env) changed(vm *vcenter.VM, d *vcenter.Disk, id string) []types.DiskChangeExtent {
	e.Helper()
	s := e.snap(vm, "delta")
	defer e.unsnap(s)
	list, _ := e.areas(vm, s, d, id)
	return list
}

func area(start, n int64) types.DiskChangeExtent {
	return types.DiskChangeExtent{Start: start, Length: n}
}

// TestRow1: enabling takes effect at the next stun; powered off at once.
func TestRow1TrackingBeginsAtAStun(t *testing.T) {
	t.Parallel()
	e := start(t)
	for _, off := range []bool{false, true} {
		vm := e.addVM(vcenter.VMSpec{Name: "on" + map[bool]string{true: "-off"}[off], PoweredOff: off, Disks: []vcenter.DiskSpec{{Size: mib}}})
		d := vm.Disks()[0]
		live := func() string {
			list := object.VirtualDeviceList(e.props(vm, "config.hardware.device").Config.Hardware.Device)
			return flat(list.FindByKey(d.Key()).(*types.VirtualDisk)).ChangeId
		}
		if s := e.snap(vm, "before"); e.changeID(s, d.Key()) != "" {
			t.Error("a change ID without tracking")
		} else {
			e.unsnap(s)
		}
		e.enableCBT(vm)
		if on := e.props(vm, "config.changeTrackingEnabled").Config.ChangeTrackingEnabled; on == nil || !*on {
			t.Error("config says that tracking is off")
		}
		if got := live() != ""; got != off { // row 2: on, and yet no change ID
			t.Errorf("powered off %v: live change ID %q", off, live())
		}
		if id := e.cycle(vm, d); !strings.Contains(id, "/") {
			t.Errorf("first snapshot has change ID %q", id)
		}
		if live() == "" {
			t.Error("no change ID after a stun")
		}
		if x := vm.ExtraConfig(); x["ctkEnabled"] != "TRUE" || x["scsi0:0.ctkEnabled"] != "TRUE" {
			t.Errorf("extraConfig %v", x)
		}
	}
}

// TestRow3: tracking switched on beside a snapshot loses changes silently.
func TestRow3EnabledBesideASnapshot(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: 4 * mib}}})
	d := vm.Disks()[0]
	if _, err := vm.TakeSnapshot("a user's"); err != nil {
		t.Fatal(err)
	}
	e.enableCBT(vm)
	id := e.cycle(vm, d)
	write(t, d, 0, noise(1, 2*grain))
	if got := e.changed(vm, d, id); len(got) == 1 && got[0] == area(0, 2*grain) {
		t.Error("the answer is right; vSphere's would not be")
	}
}

// TestRow4And6: change IDs of another life, disk or future.
func TestRow4ForeignChangeIDs(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, mib)
	id := e.cycle(vm, d)
	uuid, _, _ := strings.Cut(id, "/")
	s := e.snap(vm, "s")
	for _, bad := range []string{"", "garbage", uuid, uuid + "/999", "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/1"} {
		if _, err := e.page(vm, s, d.Key(), 0, bad); !gfault.Is(err, &types.FileFault{}) {
			t.Errorf("change ID %q: %v, want FileFault", bad, err)
		} else if !strings.Contains(err.Error(), "Error caused by file [vmfs1] app01/app01") {
			t.Errorf("the fault says %q", err)
		}
	}
	if _, err := e.page(vm, s, d.Key(), 0, id); err != nil {
		t.Errorf("good change ID: %v", err)
	}
	e.unsnap(s)
	resets := map[string]func() error{
		"reset":      func() error { d.ResetCBT(); return nil },
		"power loss": func() error { defer vm.PowerOn(); return vm.PowerLoss() },
		"revert": func() error {
			s, err := vm.TakeSnapshot("r")
			if err == nil {
				err = vm.Revert(s)
			}
			if err == nil {
				err = vm.RemoveSnapshot(s)
			}
			if err == nil {
				err = vm.PowerOn()
			}
			return err
		},
	}
	for name, reset := range resets {
		id := e.cycle(vm, d)
		if err := reset(); err != nil {
			t.Fatal(name, err)
		}
		s := e.snap(vm, name)
		if _, err := e.page(vm, s, d.Key(), 0, id); !gfault.Is(err, &types.FileFault{}) {
			t.Errorf("after %s: %v, want FileFault", name, err)
		}
		e.unsnap(s)
	}
	id = e.cycle(vm, d)
	if err := vm.PowerOff(); err != nil {
		t.Fatal(err)
	}
	write(t, d, 0, []byte{1})
	if got := e.changed(vm, d, id); !slices.Equal(got, []types.DiskChangeExtent{area(0, grain)}) {
		t.Errorf("over a clean power-off: %v", got)
	}
}

func TestRow5Paging(t *testing.T) {
	t.Parallel()
	e := start(t, func(o *vcenter.Options) { o.MaxAreas = 10 })
	vm, d := tracked(e, 4*mib+512)
	id := e.cycle(vm, d)
	var want []types.DiskChangeExtent
	for i := int64(0); i < 25; i++ {
		write(t, d, 2*i*grain+5, []byte{1})
		want = append(want, area(2*i*grain, grain))
	}
	write(t, d, 4*mib, noise(1, 512)) // the short last grain
	want = append(want, area(4*mib, 512))
	s := e.snap(vm, "s")
	got, pages := e.areas(vm, s, d, id)
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages: %v", pages, got)
	}
	d.SetEmptyPages(2)
	first, err := e.page(vm, s, d.Key(), grain, id)
	if err != nil || len(first.ChangedArea) != 0 || first.Length != grain || first.StartOffset != grain {
		t.Errorf("empty page: %+v, %v", first, err)
	}
	if got, _ := e.areas(vm, s, d, id); !slices.Equal(got, want) {
		t.Errorf("with an empty page: %v", got)
	}
	for _, off := range []int64{d.Size(), d.Size() + 1, -1} {
		if _, err := e.page(vm, s, d.Key(), off, id); !gfault.Is(err, &types.InvalidArgument{}) {
			t.Errorf("offset %d: %v, want InvalidArgument", off, err)
		}
	}
	if _, err := e.page(vm, s, 9999, 0, id); !gfault.Is(err, &types.InvalidArgument{}) {
		t.Errorf("unknown disk: %v, want InvalidArgument", err)
	}
	if info, err := e.page(vm, s, d.Key(), 3, id); err != nil || info.ChangedArea[0] != area(3, grain-3) {
		t.Errorf("from inside a grain: %+v, %v", info, err)
	}
	if _, err := e.page(vm, types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: "snapshot-0"}, d.Key(), 0, id); !gfault.Is(err, &types.ManagedObjectNotFound{}) {
		t.Errorf("unknown snapshot: %v", err)
	}
}

// TestRow8: five backings carry a change ID, three kinds of disk do not.
func TestRow8Backings(t *testing.T) {
	t.Parallel()
	e := start(t)
	kinds := []vcenter.Backing{vcenter.Flat, vcenter.Sparse2, vcenter.SESparse, vcenter.RDMVirtual, vcenter.RawDisk2, vcenter.RDMPhysical, vcenter.FlatVer1}
	spec := vcenter.VMSpec{Name: "zoo", CBT: true}
	for _, k := range kinds {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: mib, Backing: k})
	}
	spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: mib, Mode: "independent_persistent"}, vcenter.DiskSpec{Size: mib, NoCBT: true},
		vcenter.DiskSpec{Size: mib, DeltaSESparse: true})
	vm := e.addVM(spec)
	s := e.snap(vm, "s")
	for i, d := range vm.Disks() {
		id, live := backingID(e.frozenDisk(s, d.Key()).Backing), ""
		list := object.VirtualDeviceList(e.props(vm, "config.hardware.device").Config.Hardware.Device)
		live = backingID(list.FindByKey(d.Key()).(*types.VirtualDisk).Backing)
		if want := i < 5 || i == 9; (id != "") != want || (live != "") != want {
			t.Errorf("disk %d: frozen change ID %q, live %q; want one: %v", i, id, live, want)
		}
	}
	d := vm.Disks()[9]
	list := object.VirtualDeviceList(e.props(vm, "config.hardware.device").Config.Hardware.Device)
	if _, ok := list.FindByKey(d.Key()).(*types.VirtualDisk).Backing.(*types.VirtualDiskSeSparseBackingInfo); !ok {
		t.Error("the redo log of a VMFS6 disk is no SeSparse backing")
	}
}

func backingID(b types.BaseVirtualDeviceBackingInfo) string {
	switch b := b.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return b.ChangeId
	case *types.VirtualDiskSparseVer2BackingInfo:
		return b.ChangeId
	case *types.VirtualDiskSeSparseBackingInfo:
		return b.ChangeId
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return b.ChangeId
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		return b.ChangeId
	}
	return ""
}

func TestRow9Allocated(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", CBT: true, Disks: []vcenter.DiskSpec{{Size: 2 * mib}, {Size: 2 * mib, Thick: true}}})
	thin, thick := vm.Disks()[0], vm.Disks()[1]
	write(t, thin, 200*kib, []byte{1})
	s := e.snap(vm, "s")
	write(t, thin, mib, []byte{1}) // after the freeze: not in the answer
	whole := []types.DiskChangeExtent{area(0, 2*mib)}
	if got, _ := e.areas(vm, s, thin, "*"); !slices.Equal(got, []types.DiskChangeExtent{area(192*kib, grain)}) {
		t.Errorf("thin: %v", got)
	}
	if got, _ := e.areas(vm, s, thick, "*"); !slices.Equal(got, whole) {
		t.Errorf("thick: %v", got)
	}
	thin.SetAllocation(vcenter.AllocationWholeDisk)
	if got, _ := e.areas(vm, s, thin, "*"); !slices.Equal(got, whole) {
		t.Errorf("whole disk: %v", got)
	}
	thin.SetAllocation(vcenter.AllocationUnsupported)
	if _, err := e.page(vm, s, thin.Key(), 0, "*"); !gfault.Is(err, &types.FileFault{}) {
		t.Errorf("unsupported: %v", err)
	}
}

func TestRow10Lies(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, 2*mib)
	id := e.cycle(vm, d)
	write(t, d, 256*kib, noise(1, 128*kib))
	truth := []types.DiskChangeExtent{area(256*kib, 128*kib)}
	s := e.snap(vm, "s")
	write(t, d, mib, []byte{1}) // after the freeze: in the next answer
	for name, want := range map[string][]types.DiskChangeExtent{
		"under-report": {area(320*kib, grain)},
		"over-report":  {area(192*kib, 256*kib)},
		"whole-disk":   {area(0, 2*mib)},
		"empty-page":   truth,
	} {
		e.faults.Clear()
		e.faults.Add(fault.Rule{Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: name})
		if got, pages := e.areas(vm, s, d, id); !slices.Equal(got, want) || (name == "empty-page") != (pages == 2) {
			t.Errorf("%s: %v in %d pages, want %v", name, got, pages, want)
		}
		if got, _ := e.areas(vm, s, d, id); !slices.Equal(got, truth) {
			t.Errorf("after %s: %v", name, got)
		}
	}
	for _, name := range []string{"outside", "gap"} {
		e.faults.Add(fault.Rule{Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: name})
		info, err := e.page(vm, s, d.Key(), 0, id)
		if err != nil {
			t.Fatal(err)
		}
		last := info.ChangedArea[len(info.ChangedArea)-1]
		if info.StartOffset == 0 && last.Start+last.Length <= d.Size() {
			t.Errorf("%s: an honest page %+v", name, info)
		}
	}
}

// TestRow12: what cannot be snapshotted says so in the inventory, and faults.
func TestRow12(t *testing.T) {
	t.Parallel()
	e := start(t)
	one := []vcenter.DiskSpec{{Size: mib}}
	for _, c := range []struct {
		spec  vcenter.VMSpec
		want  types.BaseMethodFault
		shows func(mo.VirtualMachine) bool
	}{
		{vcenter.VMSpec{Name: "ft", FaultTolerant: true, Disks: one}, &types.SnapshotDisabled{},
			func(m mo.VirtualMachine) bool { return m.Config.FtInfo != nil && !m.Capability.ChangeTrackingSupported }},
		{vcenter.VMSpec{Name: "pci", PCIPassthrough: true, Disks: one}, &types.SnapshotIncompatibleDeviceInVm{},
			func(m mo.VirtualMachine) bool {
				return len(object.VirtualDeviceList(m.Config.Hardware.Device).SelectByType((*types.VirtualPCIPassthrough)(nil))) == 1
			}},
		{vcenter.VMSpec{Name: "bus", Disks: []vcenter.DiskSpec{{Size: mib, BusSharing: "physicalSharing"}}}, &types.SnapshotIncompatibleDeviceInVm{},
			func(m mo.VirtualMachine) bool {
				c, ok := object.VirtualDeviceList(m.Config.Hardware.Device).FindByKey(1000).(*types.ParaVirtualSCSIController)
				return ok && c.SharedBus == types.VirtualSCSISharingPhysicalSharing
			}},
		{vcenter.VMSpec{Name: "mw", Disks: []vcenter.DiskSpec{{Size: mib, Sharing: "sharingMultiWriter"}}}, &types.SnapshotIncompatibleDeviceInVm{},
			func(m mo.VirtualMachine) bool {
				return flat(object.VirtualDeviceList(m.Config.Hardware.Device).FindByKey(2000).(*types.VirtualDisk)).Sharing == "sharingMultiWriter"
			}},
	} {
		vm := e.addVM(c.spec)
		if m := e.props(vm, "config", "capability"); !c.shows(m) {
			t.Errorf("%s: the inventory does not show it", c.spec.Name)
		}
		if err := e.wait(e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false)); !gfault.Is(err, c.want) {
			t.Errorf("%s: %v, want %T", c.spec.Name, err, c.want)
		}
	}
	old := e.addVM(vcenter.VMSpec{Name: "old", HardwareVersion: 6, Disks: one})
	err := e.wait(e.obj(old).Reconfigure(e.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)}))
	if !gfault.Is(err, &types.NotSupported{}) {
		t.Errorf("tracking on hardware version 6: %v", err)
	}
	if v := e.props(old, "config.version").Config.Version; v != "vmx-06" {
		t.Errorf("version %q", v)
	}
	mixed := e.addVM(vcenter.VMSpec{Name: "mixed", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}, {Size: mib, Mode: "independent_persistent"}, {Size: mib, Backing: vcenter.RDMPhysical}}})
	s := e.snap(mixed, "s")
	for i, d := range mixed.Disks() {
		if _, _, err := e.v.Frozen(s.Value, d.Key()); (err == nil) != (i == 0) {
			t.Errorf("disk %d frozen: %v", i, err)
		}
	}
}

func TestGrow(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, mib)
	id := e.cycle(vm, d)
	if err := d.Grow(mib + 512); err != nil {
		t.Fatal(err)
	}
	s := e.snap(vm, "s")
	if vd := e.frozenDisk(s, d.Key()); vd.CapacityInBytes != mib+512 {
		t.Errorf("capacity %d", vd.CapacityInBytes)
	}
	if got, _ := e.areas(vm, s, d, id); len(got) != 0 {
		t.Errorf("growth alone changed %v", got)
	}
	if err := d.Grow(2 * mib); err == nil {
		t.Error("a disk grew beside a snapshot")
	}
	e.unsnap(s)
	if err := d.Grow(mib); err == nil {
		t.Error("a disk shrank")
	}
	vd := object.VirtualDeviceList(e.props(vm, "config.hardware.device").Config.Hardware.Device).FindByKey(d.Key()).(*types.VirtualDisk)
	vd.CapacityInBytes, vd.CapacityInKB = 3*mib, 3*kib
	e.must(e.obj(vm).Reconfigure(e.ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: vd}}}))
	if d.Size() != 3*mib {
		t.Errorf("size %d after an edit over SOAP", d.Size())
	}
	if _, err := d.WriteAt(make([]byte, 2), 3*mib-1); err == nil {
		t.Error("a write left the disk")
	}
	if _, err := d.ReadAt(make([]byte, 2), 3*mib+1); err == nil {
		t.Error("a read began behind the disk")
	}
}
