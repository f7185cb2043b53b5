package vcenter_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
)

func TestInventory(t *testing.T) {
	t.Parallel()
	e := start(t)
	disk := []vcenter.DiskSpec{{Size: 2 * mib}, {Size: mib, Controller: vcenter.SATA}, {Size: mib, Controller: vcenter.NVMe}, {Size: mib, Controller: vcenter.LSILogic}}
	a := e.addVM(vcenter.VMSpec{Name: "db", Folder: "prod/web", Disks: disk, Host: 1, MemoryMB: 4096, CPUs: 3, Firmware: "efi"})
	b := e.addVM(vcenter.VMSpec{Name: "db", Folder: "test", Disks: disk, Datastore: "vmfs2"})
	f := find.NewFinder(e.c)
	dc, err := f.DefaultDatacenter(e.ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.SetDatacenter(dc)
	for path, want := range map[string]*vcenter.VM{"/DC0/vm/prod/web/db": a, "/DC0/vm/test/db": b} {
		if vm, err := f.VirtualMachine(e.ctx, path); err != nil || vm.Reference() != want.Ref() {
			t.Errorf("%s: %v, %v", path, vm, err)
		}
	}
	m := e.props(a, "config", "runtime", "guest", "summary", "resourcePool")
	if m.Config.InstanceUuid != a.InstanceUUID() || a.InstanceUUID() == b.InstanceUUID() || m.Config.Uuid != a.BIOSUUID() {
		t.Errorf("identity %s %s", m.Config.InstanceUuid, m.Config.Uuid)
	}
	if *m.Runtime.Host != e.v.Hosts()[1] || m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || m.ResourcePool == nil {
		t.Errorf("runtime %+v", m.Runtime)
	}
	if m.Guest.HostName != "db" || m.Config.Firmware != "efi" || m.Config.Hardware.NumCPU != 3 || m.Config.Hardware.MemoryMB != 4096 || m.Config.Version != "vmx-21" {
		t.Errorf("hardware %+v", m.Config.Hardware)
	}
	list := object.VirtualDeviceList(m.Config.Hardware.Device)
	for i, d := range a.Disks() {
		vd, ok := list.FindByKey(d.Key()).(*types.VirtualDisk)
		if !ok || vd.CapacityInBytes != d.Size() || list.FindByKey(vd.ControllerKey) == nil {
			t.Errorf("disk %d: %+v", i, vd)
		}
	}
	write(t, a.Disks()[0], 0, noise(1, mib))
	e.snap(a, "s") // renders usage
	if c := e.props(a, "summary.storage").Summary.Storage.Committed; c < mib || c > 2*mib {
		t.Errorf("committed %d", c)
	}
	ix := object.NewSearchIndex(e.c)
	yes := true
	if ref, err := ix.FindByUuid(e.ctx, nil, b.InstanceUUID(), true, &yes); err != nil || ref == nil || ref.Reference() != b.Ref() {
		t.Errorf("by instance uuid: %v, %v", ref, err)
	}
	v, err := view.NewManager(e.c).CreateContainerView(e.ctx, e.c.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	var all []mo.VirtualMachine
	if err := v.Retrieve(e.ctx, []string{"VirtualMachine"}, []string{"name", "config.hardware", "snapshot"}, &all); err != nil || len(all) != 2 {
		t.Errorf("view: %d VMs, %v", len(all), err)
	}
}

func TestDatastores(t *testing.T) {
	t.Parallel()
	e := start(t, func(o *vcenter.Options) { o.Datastores = []string{"gold"} })
	ref, dir, err := e.v.Datastore("gold")
	if err != nil || dir == "" {
		t.Fatal(err)
	}
	if err := e.v.SetFreeSpace("gold", 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := methods.RefreshDatastore(e.ctx, e.c, &types.RefreshDatastore{This: ref}); err != nil {
		t.Fatal(err)
	}
	s := get[mo.Datastore](e, ref, "summary", "host")
	if s.Summary.FreeSpace != 12345 || s.Summary.Type != "VMFS" || len(s.Host) != 2 {
		t.Errorf("summary %+v, hosts %d", s.Summary, len(s.Host))
	}
}

// TestPrivileges: each call names what it lacks, and the questions agree.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	vm, d, snap, file := e.source("src")
	ds, _, _ := e.v.Datastore("vmfs1")
	id := e.changeID(snap, d.Key())
	add := func() error { return e.reconfig(app, "x", addSpec(file, 1000, 4)) }
	for _, c := range []struct {
		privilege string
		on        types.ManagedObjectReference
		call      func() error
	}{
		{"VirtualMachine.State.CreateSnapshot", vm.Ref(), func() error { return e.wait(e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false)) }},
		{"VirtualMachine.State.RemoveSnapshot", vm.Ref(), func() error {
			_, err := methods.RemoveSnapshot_Task(e.ctx, e.c, &types.RemoveSnapshot_Task{This: snap})
			return err
		}},
		{"VirtualMachine.Config.ChangeTracking", vm.Ref(), func() error {
			return e.wait(e.obj(vm).Reconfigure(e.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)}))
		}},
		{"VirtualMachine.Provisioning.DiskRandomRead", vm.Ref(), func() error { _, err := e.page(vm, snap, d.Key(), 0, id); return err }},
		{"VirtualMachine.Config.AddExistingDisk", app.Ref(), add},
		{"VirtualMachine.Config.AdvancedConfig", app.Ref(), add},
		{"Datastore.FileManagement", ds, add},
		{"Datastore.AllocateSpace", ds, func() error { return e.wait(e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false)) }},
		{"VirtualMachine.Config.RemoveDisk", app.Ref(), func() error { return e.reconfig(app, "", removeSpec(2000)) }},
		{"VirtualMachine.Interact.PowerOff", vm.Ref(), func() error { return e.wait(e.obj(vm).PowerOff(e.ctx)) }},
	} {
		e.v.Deny(c.privilege, c.on)
		if err := c.call(); !lacks(c.privilege)(err) {
			t.Errorf("%s denied: %v", c.privilege, err)
		}
		got := hasPrivilege(e, c.privilege, c.on, vm.Ref(), app.Ref(), ds)
		if got[0] || !slices.Contains(got, true) {
			t.Errorf("%s: HasPrivilegeOnEntities says %v", c.privilege, got)
		}
		e.v.Allow(c.privilege, c.on)
		if !hasPrivilege(e, c.privilege, c.on)[0] {
			t.Errorf("%s stays denied", c.privilege)
		}
	}
	if len(e.v.State().Attached) != 0 || len(vm.Snapshots()) != 1 {
		t.Error("a denied call had an effect")
	}
	e.v.Deny("VirtualMachine.State.CreateSnapshot", e.c.ServiceContent.RootFolder) // reaches down
	if err := e.wait(e.obj(vm).CreateSnapshot(e.ctx, "s", "", false, false)); !gfault.Is(err, &types.NoPermission{}) {
		t.Errorf("denied at the root: %v", err)
	}
	e.v.Allow("VirtualMachine.State.CreateSnapshot")
	e.snap(vm, "allowed again")
}

func hasPrivilege(e *env, privilege string, refs ...types.ManagedObjectReference) (out []bool) {
	e.Helper()
	am := object.NewAuthorizationManager(e.c)
	res, err := am.HasUserPrivilegeOnEntities(e.ctx, refs, e.v.URL().User.Username(), []string{privilege})
	if err != nil {
		e.Fatal(err)
	}
	for _, r := range res {
		out = append(out, r.PrivAvailability[0].IsGranted)
	}
	return out
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	e.v.ResetCalls()
	e.snap(vm, "s")
	if n := e.v.Calls(); n["CreateSnapshot_Task"] != 1 || n["WaitForUpdatesEx"] == 0 || n["Login"] != 0 {
		t.Errorf("calls %v", n)
	}
}

// TestManyAtOnce: several vCenters, sessions and writers in one process.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for range 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			e := start(t)
			vm, d := tracked(e, 2*mib)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Add(2)
			go func() {
				defer wg.Done()
				pace := time.NewTicker(time.Millisecond)
				defer pace.Stop()
				for i := uint64(0); ; i++ {
					select {
					case <-stop:
						return
					case <-pace.C:
						write(t, d, int64(i*7919%(mib)), noise(i, 1000))
					}
				}
			}()
			c := e.login()
			go func() {
				defer wg.Done()
				pace := time.NewTicker(3 * time.Millisecond)
				defer pace.Stop()
				for {
					select {
					case <-stop:
						return
					case <-pace.C:
					}
					var m mo.VirtualMachine
					err := property.DefaultCollector(c).RetrieveOne(e.ctx, vm.Ref(), []string{"config", "snapshot", "layoutEx", "summary"}, &m)
					if err != nil {
						t.Error(err)
						return
					}
				}
			}()
			for i := range 6 {
				s := e.snap(vm, "s")
				f, n, err := e.v.Frozen(s.Value, d.Key())
				if err != nil {
					t.Fatal(err)
				}
				a := content(t, f, n)
				same(t, "frozen", content(t, f, n), a)
				if i%2 == 0 {
					e.snap(vm, "above")
				}
				e.unsnap(s)
			}
			close(stop)
			wg.Wait()
		})
	}
}
