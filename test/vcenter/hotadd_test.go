package vcenter_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
)

const mark = "guestinfo.snapferry.test"

// addSpec is a hand-built hot-add, as the reader must send it.
func addSpec(file string, controller, unit int32) *types.VirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{Key: -1, ControllerKey: controller, UnitNumber: &unit,
			Backing: &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "independent_nonpersistent",
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}}}}}
}

func removeSpec(key int32) *types.VirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove,
		Device: &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: key}}}
}

// reconfig sends changes to a VM together with our mark.
func (e *env) reconfig(vm *vcenter.VM, markValue string, changes ...types.BaseVirtualDeviceConfigSpec) error {
	spec := types.VirtualMachineConfigSpec{DeviceChange: changes,
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: mark, Value: markValue}}}
	return e.wait(e.obj(vm).Reconfigure(e.ctx, spec))
}

// source is a running VM with a snapshot, and the path of the frozen link.
func (e *env) source(name string) (vm *vcenter.VM, d *vcenter.Disk, snap types.ManagedObjectReference, file string) {
	e.Helper()
	vm = e.addVM(vcenter.VMSpec{Name: name, CBT: true, Disks: []vcenter.DiskSpec{{Size: 2*mib + 512}}})
	d = vm.Disks()[0]
	write(e, d, 1000, noise(uint64(len(name)), mib))
	snap = e.snap(vm, "ours")
	return vm, d, snap, flat(e.frozenDisk(snap, d.Key())).FileName
}

// sysfs reads an attribute of a block device.
func (e *env) sysfs(letter, attr string) string {
	e.Helper()
	b, err := os.ReadFile(filepath.Join(e.v.SysfsDir(), "block", letter, attr))
	if err != nil {
		e.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func (e *env) visible(letter string) bool {
	_, err := os.Stat(filepath.Join(e.v.SysfsDir(), "block", letter))
	_, err2 := os.Stat(filepath.Join(e.v.DevDir(), letter))
	return err == nil && err2 == nil
}

// poke writes into a sysfs file as a shell's echo does.
func (e *env) poke(text string, elem ...string) {
	e.Helper()
	name := filepath.Join(append([]string{e.v.SysfsDir()}, elem...)...)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		e.Fatal(err)
	}
}

// TestHotAdd is the whole life of an attachment, on the first link (the base)
// and on one with a parent (merged into one device).
func TestHotAdd(t *testing.T) {
	t.Parallel()
	for _, stacked := range []bool{false, true} {
		t.Run(fmt.Sprint("stacked ", stacked), func(t *testing.T) {
			t.Parallel()
			e := start(t)
			app := e.appliance()
			vm, d, snap, file := e.source("src")
			if stacked {
				write(t, d, 5, noise(9, 100*kib))
				snap = e.snap(vm, "second")
				file = flat(e.frozenDisk(snap, d.Key())).FileName
			}
			f, n, _ := e.v.Frozen(snap.Value, d.Key())
			want := content(t, f, n)
			write(t, d, 0, noise(10, 300*kib))
			if err := e.reconfig(app, "cycle 1", addSpec(file, 1001, 3)); err != nil {
				t.Fatal(err)
			}
			a := e.v.State().Attached
			if len(a) != 1 || a[0].Key != 2019 || a[0].Device != "sdb" || a[0].Source != vm.Moref() || a[0].File != file {
				t.Fatalf("attached %+v", a)
			}
			checkGuestView(e, app, d, "sdb", 1, 3)
			got, err := os.ReadFile(filepath.Join(e.v.DevDir(), "sdb"))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "device", got, want)
			vd := object.VirtualDeviceList(e.props(app, "config.hardware.device").Config.Hardware.Device).FindByKey(2019).(*types.VirtualDisk)
			if flat(vd).Uuid != d.UUID() || vd.CapacityInBytes != d.Size() {
				t.Errorf("the appliance lists %+v", flat(vd))
			}
			release(e, app, snap)
			if h := e.v.State(); len(h.Harms)+len(h.Surprises)+len(h.Deleted)+len(h.Crashed) != 0 {
				t.Errorf("harms %+v", h)
			}
		})
	}
}

// checkGuestView follows the links that a reader follows from a block device
// to its controller.
func checkGuestView(e *env, app *vcenter.VM, d *vcenter.Disk, letter string, bus, unit int) {
	e.Helper()
	if got := e.sysfs(letter, "size"); got != fmt.Sprint(d.Size()/512) {
		e.Errorf("size %s sectors", got)
	}
	if got, want := e.sysfs(letter, "device/wwid"), "naa."+strings.ToLower(strings.ReplaceAll(d.UUID(), "-", "")); got != want {
		e.Errorf("wwid %s, want %s", got, want)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(e.v.SysfsDir(), "block", letter, "device"))
	if err != nil {
		e.Fatal(err)
	}
	var host, ch, target, lun int
	if _, err := fmt.Sscanf(filepath.Base(real), "%d:%d:%d:%d", &host, &ch, &target, &lun); err != nil || target != unit || ch != 0 || lun != 0 || host == bus {
		e.Errorf("address %s (%v)", filepath.Base(real), err)
	}
	pci := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(real))))
	slot := app.ExtraConfig()[fmt.Sprintf("scsi%d.pciSlotNumber", bus)]
	b, err := os.ReadFile(filepath.Join(e.v.SysfsDir(), "bus/pci/slots", slot, "address"))
	if err != nil || strings.TrimSpace(string(b))+".0" != pci {
		e.Errorf("slot %s has address %q, the disk hangs on %s (%v)", slot, b, pci, err)
	}
	if _, err := os.Stat(filepath.Join(e.v.SysfsDir(), "class/scsi_host", fmt.Sprint("host", host), "scan")); err != nil {
		e.Error(err)
	}
}

// release lets go in the right order: guest, VM, snapshot.
func release(e *env, app *vcenter.VM, snap types.ManagedObjectReference) {
	e.Helper()
	real, _ := filepath.EvalSymlinks(filepath.Join(e.v.SysfsDir(), "block", "sdb", "device"))
	e.poke("1\n", "block/sdb/device/delete")
	waitFor(e, "sdb to go", func() bool { return !e.visible("sdb") })
	host, _, _ := strings.Cut(filepath.Base(real), ":")
	e.poke("- - -\n", "class/scsi_host", "host"+host, "scan")
	waitFor(e, "sdb to come back", func() bool { return e.visible("sdb") })
	e.poke("1\n", "block/sdb/device/delete")
	waitFor(e, "sdb to go", func() bool { return !e.visible("sdb") })
	if err := e.reconfig(app, "", removeSpec(2019)); err != nil {
		e.Fatal(err)
	}
	if _, ok := app.ExtraConfig()[mark]; ok {
		e.Error("an empty value did not remove the mark")
	}
	e.unsnap(snap)
	if st, _ := e.v.State().VM("src"); st.ConsolidationNeeded || len(st.Missing) != 0 {
		e.Errorf("source %+v", st)
	}
}

func TestApplianceGuest(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	own := app.Disks()[0]
	checkGuestView(e, app, own, "sda", 0, 0)
	b, _ := os.ReadFile(filepath.Join(e.v.SysfsDir(), "class/dmi/id/product_serial"))
	serial := strings.NewReplacer("VMware-", "", " ", "", "-", "", "\n", "").Replace(string(b))
	if serial != strings.ReplaceAll(app.BIOSUUID(), "-", "") {
		t.Errorf("product_serial %q, uuid %s", b, app.BIOSUUID())
	}
	ref, err := object.NewSearchIndex(e.c).FindByUuid(e.ctx, nil, app.BIOSUUID(), true, nil)
	if err != nil || ref == nil || ref.Reference() != app.Ref() {
		t.Errorf("FindByUuid: %v, %v", ref, err)
	}
	list := object.VirtualDeviceList(e.props(app, "config.hardware.device").Config.Hardware.Device)
	if n := len(list.SelectByType((*types.ParaVirtualSCSIController)(nil))); n != 4 {
		t.Errorf("%d PVSCSI controllers", n)
	}
	// Without disk.EnableUUID, which takes a power cycle, there is no wwid.
	if err := e.wait(e.obj(app).Reconfigure(e.ctx, types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "disk.EnableUUID", Value: "FALSE"}}})); err != nil {
		t.Fatal(err)
	}
	e.sysfs("sda", "device/wwid")
	e.must(e.obj(app).Reset(e.ctx))
	if _, err := os.Stat(filepath.Join(e.v.SysfsDir(), "block/sda/device/wwid")); err == nil {
		t.Error("a wwid without disk.EnableUUID")
	}
	e.must(e.obj(app).PowerOff(e.ctx))
	if e.visible("sda") {
		t.Error("a guest that is off shows disks")
	}
}

// TestRefusals is everything that vSphere refuses to attach.
func TestRefusals(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	vm, d, _, file := e.source("src")
	ide := e.addVM(vcenter.VMSpec{Name: "ide", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib, Controller: vcenter.IDE}}})
	rdm := e.addVM(vcenter.VMSpec{Name: "rdm", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib, Backing: vcenter.RDMVirtual}}})
	live := flat(object.VirtualDeviceList(e.props(vm, "config.hardware.device").Config.Hardware.Device).FindByKey(d.Key()).(*types.VirtualDisk)).FileName
	withOp := func(s *types.VirtualDeviceConfigSpec) *types.VirtualDeviceConfigSpec {
		s.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		return s
	}
	withParent := addSpec(file, 1000, 4)
	b := flat(withParent.Device.(*types.VirtualDisk))
	b.Parent = &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}}
	for name, c := range map[string]struct {
		spec *types.VirtualDeviceConfigSpec
		want types.BaseMethodFault
		says string
	}{
		"live link of a running VM": {addSpec(live, 1000, 4), &types.FileLocked{}, "Failed to lock the file"},
		"unit 7":                    {addSpec(file, 1000, 7), &types.InvalidDeviceSpec{}, "Invalid configuration for device '0'."},
		"unit 16":                   {addSpec(file, 1000, 16), &types.InvalidDeviceSpec{}, ""},
		"unit -1":                   {addSpec(file, 1000, -1), &types.InvalidDeviceSpec{}, ""},
		"taken slot":                {addSpec(file, 1000, 0), &types.InvalidDeviceSpec{}, ""},
		"no controller":             {addSpec(file, 0, 0), &types.InvalidDeviceSpec{}, ""},
		"create over a file":        {withOp(addSpec(file, 1000, 4)), &types.FileAlreadyExists{}, "exists"},
		"with a parent":             {withParent, &types.InvalidDeviceSpec{}, ""},
		"no such file":              {addSpec("[vmfs1] src/none.vmdk", 1000, 4), &types.FileNotFound{}, ""},
		"no such datastore":         {addSpec("[nowhere] a.vmdk", 1000, 4), &types.InvalidDatastorePath{}, ""},
		"IDE source":                {addSpec(ide.Disks()[0].Path(), 1000, 4), &types.InvalidDeviceBacking{}, ""},
		"RDM source":                {addSpec(rdm.Disks()[0].Path(), 1000, 4), &types.InvalidDeviceBacking{}, ""},
		"unknown device removed":    {removeSpec(4711), &types.InvalidDeviceSpec{}, ""},
	} {
		err := e.reconfig(app, "never", c.spec)
		if !gfault.Is(err, c.want) || !strings.Contains(errText(err), c.says) {
			t.Errorf("%s: %v, want %T", name, err, c.want)
		}
	}
	// Nothing is half done: a good change beside a bad one has no effect.
	if err := e.reconfig(app, "never", addSpec(file, 1000, 4), addSpec(file, 1000, 7)); err == nil {
		t.Error("two changes, one bad, passed")
	}
	if _, ok := app.ExtraConfig()[mark]; ok || len(e.v.State().Attached) != 0 || e.visible("sdb") {
		t.Errorf("a refused reconfiguration left something: %v", e.v.State().Attached)
	}
	if err := e.v.HideDatastore("vmfs1", e.v.Hosts()[0]); err != nil {
		t.Fatal(err)
	}
	if err := e.reconfig(app, "x", addSpec(file, 1000, 4)); !gfault.Is(err, &types.CannotAccessFile{}) {
		t.Errorf("datastore not visible: %v", err)
	}
}

func TestAttachTwice(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	_, _, _, file := e.source("src")
	if err := e.reconfig(app, "x", addSpec(file, 1000, 4)); err != nil {
		t.Fatal(err)
	}
	if err := e.reconfig(app, "x", addSpec(file, 1000, 5)); !gfault.Is(err, &types.FileLocked{}) {
		t.Errorf("the same file twice: %v", err)
	}
}

func TestOffSourceAttachesItsBase(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	vm := e.addVM(vcenter.VMSpec{Name: "off", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	if err := e.reconfig(app, "x", addSpec(vm.Disks()[0].Path(), 1003, 15)); err != nil {
		t.Fatal(err)
	}
	if err := e.wait(e.obj(vm).PowerOn(e.ctx)); !gfault.Is(err, &types.FileLocked{}) {
		t.Errorf("power on while the base is attached: %v", err)
	}
}

func TestSnapshotRemovedWhileAttached(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	vm, d, snap, file := e.source("src")
	if err := e.reconfig(app, "x", addSpec(file, 1000, 4)); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(filepath.Join(e.v.DevDir(), "sdb"))
	write(t, d, 0, noise(5, mib))
	e.unsnap(snap)
	m := e.props(vm, "runtime.consolidationNeeded", "snapshot")
	if !m.Runtime.ConsolidationNeeded || m.Snapshot != nil || len(d.Files()) != 4 {
		t.Errorf("consolidationNeeded %v, files %v", m.Runtime.ConsolidationNeeded, d.Files())
	}
	got, _ := os.ReadFile(filepath.Join(e.v.DevDir(), "sdb"))
	if !bytes.Equal(got, want) {
		t.Error("the attached disk changed under its reader")
	}
	if err := vm.Consolidate(); err == nil {
		t.Error("consolidated under a lock")
	}
	if err := e.reconfig(app, "", removeSpec(2004)); err != nil {
		t.Fatal(err)
	}
	if s := e.v.State().Surprises; len(s) != 1 {
		t.Errorf("a disk pulled from the guest: %v", s)
	}
	if err := vm.Consolidate(); err != nil || len(d.Files()) != 2 {
		t.Errorf("after detaching: %v, %v", err, d.Files())
	}
}

// TestDestroyDeletes: the two ways to lose a customer's disk work.
func TestDestroyDeletes(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	_, d, _, file := e.source("src")
	if err := e.reconfig(app, "x", addSpec(file, 1000, 4)); err != nil {
		t.Fatal(err)
	}
	bad := removeSpec(2004)
	bad.FileOperation = types.VirtualDeviceConfigSpecFileOperationDestroy
	if err := e.reconfig(app, "", bad); err != nil {
		t.Fatal(err)
	}
	if got := e.v.State().Deleted; len(got) != 2 || got[0] != d.Files()[0] {
		t.Errorf("deleted %v", got)
	}
	if st, _ := e.v.State().VM("src"); len(st.Missing) != 2 {
		t.Errorf("missing %v", st.Missing)
	}
	_, d2, _, file2 := e.source("other")
	if err := e.reconfig(app, "x", addSpec(file2, 1000, 4)); err != nil {
		t.Fatal(err)
	}
	task := e.obj(app)
	if err := e.wait(task.Destroy(e.ctx)); !gfault.Is(err, &types.InvalidPowerState{}) {
		t.Errorf("destroy a running VM: %v", err)
	}
	e.must(task.PowerOff(e.ctx))
	e.must(task.Destroy(e.ctx))
	if _, err := os.Stat(d2.Files()[1]); err == nil {
		t.Error("the disk survived the VM it was attached to")
	}
	if _, ok := e.v.State().VM("appliance"); ok {
		t.Error("the appliance is still there")
	}
}

func controller(bus int32) *types.VirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd,
		Device: &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			SharedBus:         types.VirtualSCSISharingNoSharing,
			VirtualController: types.VirtualController{BusNumber: bus, VirtualDevice: types.VirtualDevice{Key: -100}}}}}
}

// TestControllers: one added to a running VM stuns it, one added with a busy
// disk kills it.
func TestControllers(t *testing.T) {
	t.Parallel()
	e := start(t)
	app, err := e.v.AddApplianceVM(vcenter.VMSpec{Name: "appliance"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, file := e.source("src")
	gone := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove,
		Device: &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 1003}}}}}
	if err := e.reconfig(app, "", gone); err != nil {
		t.Fatal(err)
	}
	stuns := func() (n int) {
		for _, s := range e.v.State().Stuns {
			if s.What == "controller added" {
				n++
			}
		}
		return n
	}
	if err := e.reconfig(app, "x", addSpec(file, 1000, 4)); err != nil {
		t.Fatal(err)
	}
	if err := e.reconfig(app, "x", controller(3)); err != nil || stuns() != 1 || len(e.v.State().Harms) != 1 {
		t.Errorf("controller beside an attached disk: %v, %d stuns, harms %v", err, stuns(), e.v.State().Harms)
	}
	if err := e.reconfig(app, "", removeSpec(2004)); err != nil {
		t.Fatal(err)
	}
	if err := e.reconfig(app, "", gone); err != nil {
		t.Fatal(err)
	}
	err = e.reconfig(app, "x", controller(3), addSpec(file, -100, 0))
	if !gfault.Is(err, &types.FileLocked{}) {
		t.Errorf("controller and busy disk in one spec: %v", err)
	}
	waitFor(t, "the crash to show", func() bool {
		return e.props(app, "runtime.powerState").Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
	})
	if got := e.v.State().Crashed; len(got) != 1 || got[0] != app.Moref() {
		t.Errorf("crashed %v", got)
	}
}

func TestPersistentAttachIsHarm(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	_, _, _, file := e.source("src")
	spec := addSpec(file, 1000, 4)
	flat(spec.Device.(*types.VirtualDisk)).DiskMode = "persistent"
	if err := e.reconfig(app, "x", spec); err != nil {
		t.Fatal(err)
	}
	if got := e.v.State().Harms; len(got) != 1 || !strings.Contains(got[0].What, "persistent") {
		t.Errorf("harms %v", got)
	}
}

func TestDuplicateUUIDs(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	const same = "6000C29a-1111-2222-3333-444444444444"
	var files []string
	for _, name := range []string{"a", "b"} {
		vm := e.addVM(vcenter.VMSpec{Name: name, PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib, UUID: same}}})
		files = append(files, vm.Disks()[0].Path())
	}
	for i, f := range files { // vSphere does not mind; the reader must
		if err := e.reconfig(app, "x", addSpec(f, 1000, int32(4+i))); err != nil {
			t.Fatal(err)
		}
	}
	if e.sysfs("sdb", "device/wwid") != e.sysfs("sdc", "device/wwid") {
		t.Error("two copies have two identities")
	}
}
