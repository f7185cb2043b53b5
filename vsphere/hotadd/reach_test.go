package hotadd_test

import (
	"slices"
	"testing"

	"snapferry/test/vcenter"
)

// TestReach: what the host mounts is what can be attached, and the names are
// those of the disks.
func TestReach(t *testing.T) {
	e := start(t, func(o *vcenter.Options) { o.Datastores = []string{"vmfs1", "vmfs2", "vmfs3"}; o.Hosts = 3 })
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Host: 2, Disks: []vcenter.DiskSpec{{Size: mib, Datastore: "vmfs2"}, {Size: mib, Datastore: "vmfs3"}}})
	a := e.open()
	check := func(want ...string) []string {
		t.Helper()
		got, err := a.Datastores(e.ctx)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		return got
	}
	check("vmfs1", "vmfs2", "vmfs3")
	if err := e.v.Mount("vmfs3", 1, 2); err != nil {
		t.Fatal(err)
	}
	seen := check("vmfs1", "vmfs2")
	f := e.freeze(vm, a)
	for i, d := range f.State().VM.Disks {
		r, err := f.Open(e.ctx, d.ID)
		if within := slices.Contains(seen, d.Datastore); within != (err == nil) {
			t.Errorf("disk %d on %s: %v", i, d.Datastore, err)
		}
		if err == nil {
			e.close(r)
		}
	}
	e.release(f)
	e.clean()
	home, err := a.Host(e.ctx)
	if err != nil || home == "" {
		t.Fatal(home, err)
	}
	if err := e.appliance.Migrate(e.v.Hosts()[1]); err != nil {
		t.Fatal(err)
	}
	check("vmfs1", "vmfs2", "vmfs3")
	if now, err := a.Host(e.ctx); err != nil || now == home {
		t.Errorf("%s after vMotion from %s, %v", now, home, err)
	}
	e.v.ResetCalls()
	check("vmfs1", "vmfs2", "vmfs3")
	if n := e.v.Calls()["RetrievePropertiesEx"]; n != 1 || len(e.v.Calls()) != 1 {
		t.Errorf("calls %v", e.v.Calls())
	}
}

// TestSlots: four controllers of fifteen, without the boot disk, and with what
// hangs there now on our behalf.
func TestSlots(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib, mib)
	a := e.open()
	check := func() {
		t.Helper()
		if n, err := a.Slots(e.ctx); err != nil || n != 59 {
			t.Errorf("%d slots, %v", n, err)
		}
	}
	check()
	f := e.freeze(vm, a)
	r := e.openDisk(f, 0)
	check()
	e.close(r)
	e.release(f)
	check()
	e.clean()
}
