package vcenter_test

import (
	"testing"

	"snapferry/test/vcenter"
)

// TestReplaceDisk: the VM has another disk under the same key; the snapshot goes
// on holding the old one, its bytes and its tracking.
func TestReplaceDisk(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}, {Size: mib}}})
	old := vm.Disks()[0]
	before := noise(1, 1000)
	write(t, old, 5000, before)
	first := e.snap(vm, "first")
	id := e.changeID(first, old.Key())
	e.unsnap(first)
	write(t, old, 300*kib, noise(2, 10))
	second := e.snap(vm, "second")
	d, err := vm.ReplaceDisk(old.Key(), vcenter.DiskSpec{Size: 2 * mib})
	if err != nil {
		t.Fatal(err)
	}
	if now := vm.Disks()[0]; now != d || d.Key() != old.Key() || d.UUID() == old.UUID() || d.Path() == old.Path() || d.Size() != 2*mib {
		t.Errorf("%d %s %s, before %d %s %s", d.Key(), d.UUID(), d.Path(), old.Key(), old.UUID(), old.Path())
	}
	write(t, d, 5000, noise(3, 1000))
	r, size, err := e.v.Frozen(second.Value, old.Key())
	if err != nil || size != mib {
		t.Fatalf("the frozen disk: %d bytes, %v", size, err)
	}
	same(t, "the frozen disk", content(t, r, size)[5000:6000], before)
	if b := flat(e.frozenDisk(second, old.Key())); b.Uuid != old.UUID() {
		t.Errorf("the snapshot's disk is %s, not %s", b.Uuid, old.UUID())
	}
	if got, _ := e.areas(vm, second, old, id); len(got) != 1 || got[0].Start != 256*kib {
		t.Errorf("changed areas of the old disk: %v", got)
	}
	e.unsnap(second)
	third := e.snap(vm, "third")
	if b := flat(e.frozenDisk(third, old.Key())); b.Uuid != d.UUID() {
		t.Errorf("then: %s, not %s", b.Uuid, d.UUID())
	}
	e.unsnap(third)
	if s := e.v.State(); len(s.Deleted) > 0 || len(s.Harms) > 0 {
		t.Errorf("deleted %v, harms %v", s.Deleted, s.Harms)
	}
}

// TestCBTByAnotherHand: switched on beside a snapshot it loses writes, without
// one it does not.
func TestCBTByAnotherHand(t *testing.T) {
	for _, beside := range []bool{true, false} {
		e := start(t)
		vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
		d := vm.Disks()[0]
		vm.SetCBT(false)
		if beside {
			if _, err := vm.TakeSnapshotOf("before the upgrade", "by hand"); err != nil {
				t.Fatal(err)
			}
		}
		vm.SetCBT(true)
		first := e.snap(vm, "first")
		id := e.changeID(first, d.Key())
		e.unsnap(first)
		write(t, d, 0, noise(1, 10))
		write(t, d, 512*kib, noise(2, 10))
		second := e.snap(vm, "second")
		if got, _ := e.areas(vm, second, d, id); len(got) != map[bool]int{true: 1, false: 2}[beside] {
			t.Errorf("beside a snapshot %v: %v", beside, got)
		}
	}
}

// TestRevertKeepingChangeIDs: what the revert undid is in no answer.
func TestRevertKeepingChangeIDs(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	d := vm.Disks()[0]
	base, err := vm.TakeSnapshot("before the upgrade")
	if err != nil {
		t.Fatal(err)
	}
	write(t, d, 0, noise(1, 10))
	first := e.snap(vm, "first")
	id := e.changeID(first, d.Key())
	e.unsnap(first)
	if err := vm.RevertKeepingChangeIDs(base); err != nil {
		t.Fatal(err)
	}
	second := e.snap(vm, "second")
	got, _ := e.areas(vm, second, d, id)
	if b := content(t, d, 10); len(got) != 0 || string(b) != string(make([]byte, 10)) {
		t.Errorf("areas %v, the disk begins with %x", got, b)
	}
}
