package vcenter_test

import (
	"os"
	"testing"
	"time"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
)

func TestRelocation(t *testing.T) {
	t.Parallel()
	e := start(t)
	app := e.appliance()
	vm, d, snap, file := e.source("src")
	want := content(t, d, d.Size())
	id := e.changeID(snap, d.Key())
	to, _, _ := e.v.Datastore("vmfs2")
	if err := e.reconfig(app, "x", addSpec(file, 1000, 4)); err != nil {
		t.Fatal(err)
	}
	err := e.wait(e.obj(app).Relocate(e.ctx, types.VirtualMachineRelocateSpec{Datastore: &to}, ""))
	if !gfault.Is(err, &types.NonPersistentDisksNotSupported{}) {
		t.Errorf("storage vMotion of the appliance while reading: %v", err)
	}
	host := e.v.Hosts()[1]
	e.must(e.obj(app).Relocate(e.ctx, types.VirtualMachineRelocateSpec{Host: &host}, ""))
	if got := e.props(app, "runtime.host").Runtime.Host; *got != host {
		t.Errorf("vMotion went to %v", got)
	}
	if err := e.reconfig(app, "", removeSpec(2004)); err != nil {
		t.Fatal(err)
	}
	e.must(e.obj(vm).Relocate(e.ctx, types.VirtualMachineRelocateSpec{Datastore: &to}, ""))
	same(t, "after storage vMotion", content(t, d, d.Size()), want)
	m := e.props(vm, "datastore", "config.files", "config.hardware.device")
	if m.Datastore[0] != to || m.Config.Files.VmPathName != "[vmfs2] src/src.vmx" || d.Path() != "[vmfs2] src/src.vmdk" {
		t.Errorf("home %v %s, disk %s", m.Datastore, m.Config.Files.VmPathName, d.Path())
	}
	b := flat(e.frozenDisk(snap, d.Key()))
	if b.FileName != "[vmfs2] src/src.vmdk" || b.ChangeId != id {
		t.Errorf("the snapshot's disk is %s, %s", b.FileName, b.ChangeId)
	}
	if _, err := os.Stat(d.Files()[1]); err != nil {
		t.Error(err)
	}
	e.unsnap(snap)
}

// TestTasks: they run while the caller does something else, and one at a time
// on a VM.
func TestTasks(t *testing.T) {
	t.Parallel()
	const delay = 500 * time.Millisecond // long against a busy machine's hiccups
	e := start(t, func(o *vcenter.Options) { o.TaskDelay = delay })
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	begin := time.Now()
	first, err := e.obj(vm).CreateSnapshot(e.ctx, "1", "", false, false)
	if err != nil {
		t.Fatal(err)
	}
	e.props(vm, "config", "recentTask") // is not held up by the task
	if recent := e.props(vm, "recentTask").RecentTask; len(recent) == 0 || recent[len(recent)-1] != first.Reference() {
		t.Errorf("recentTask %v", recent)
	}
	if s := get[mo.Task](e, first.Reference(), "info.state").Info.State; s != types.TaskInfoStateRunning {
		t.Errorf("the task is %s before its delay is over", s)
	}
	if err := e.wait(e.obj(vm).CreateSnapshot(e.ctx, "2", "", false, false)); !gfault.Is(err, &types.TaskInProgress{}) {
		t.Errorf("second task: %v, want TaskInProgress", err)
	}
	info, err := first.WaitForResult(e.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < delay {
		t.Errorf("the task took %v", d)
	}
	if info.Entity == nil || *info.Entity != vm.Ref() || info.Name == "" {
		t.Errorf("task info %+v", info)
	}
	if err := e.wait(e.obj(vm).CreateSnapshot(e.ctx, "3", "", false, false)); err != nil {
		t.Errorf("after the first: %v", err)
	}
	if _, err := methods.ShutdownGuest(e.ctx, e.c, &types.ShutdownGuest{This: vm.Ref()}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "shutdown", func() bool { return !vm.PoweredOn() })
}
