package vsphere_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

const grain = 64 << 10

// seeded is a VM with one disk and the change ID of a first cycle.
func seeded(e *env, size int64) (*vcenter.VM, *vcenter.Disk, transfer.ChangeID) {
	e.Helper()
	vm := e.vm("app01", size)
	f := e.freeze(vm)
	id := f.State().VM.Disks[0].ChangeID
	if id == "" || f.State().Tracking != "" {
		e.Fatalf("change ID %q, tracking %q", id, f.State().Tracking)
	}
	e.release(f)
	return vm, vm.Disks()[0], id
}

func TestMoreThanOnePage(t *testing.T) {
	e := start(t)
	const n = 4500 // three pages of 2000
	vm, d, id := seeded(e, 2*n*grain+512)
	for i := range int64(n) {
		write(t, d, 2*i*grain, 512)
	}
	f := e.freeze(vm)
	e.v.ResetCalls()
	got, err := e.areas(f, 0, id)
	if err != nil || len(got) != n {
		t.Fatalf("%d areas, %v", len(got), err)
	}
	for i, a := range got {
		if want := (transfer.Extent{Offset: 2 * int64(i) * grain, Length: grain}); a != want {
			t.Fatalf("area %d is %v, want %v", i, a, want)
		}
	}
	if calls := e.v.Calls()["QueryChangedDiskAreas"]; calls != 3 {
		t.Errorf("%d pages, want 3", calls)
	}
	stop := errors.New("enough")
	err = f.Areas(e.ctx, f.State().VM.Disks[0].ID, id, func(transfer.Extent) error { return stop })
	if err != stop {
		t.Errorf("the error of yield came back as %v", err)
	}
	e.release(f)
	e.clean()
}

func TestEmptyPagesAreNotTheEnd(t *testing.T) {
	e := start(t)
	vm, d, id := seeded(e, 16*mib)
	write(t, d, 15*mib, grain)
	f := e.freeze(vm)
	d.SetEmptyPages(5)
	got, err := e.areas(f, 0, id)
	if want := []transfer.Extent{{Offset: 15 * mib, Length: grain}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	e.release(f)
	e.clean()
}

func TestAllocatedAreas(t *testing.T) {
	e := start(t)
	vm, d, _ := seeded(e, 8*mib)
	write(t, d, 3*mib, mib)
	f := e.freeze(vm)
	got, err := e.areas(f, 0, transfer.AllAllocated)
	if want := []transfer.Extent{{Offset: 3 * mib, Length: mib}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	d.SetAllocation(vcenter.AllocationWholeDisk)
	if got, err = e.areas(f, 0, transfer.AllAllocated); err != nil || len(got) != 1 || got[0].Length != 8*mib {
		t.Errorf("whole disk: %v, %v", got, err)
	}
	d.SetAllocation(vcenter.AllocationUnsupported)
	if _, err = e.areas(f, 0, transfer.AllAllocated); transfer.KindOf(err) != transfer.BaselineLost {
		t.Errorf("unsupported: %v (%v)", err, transfer.KindOf(err))
	}
	e.release(f)
	e.clean()
}

func TestChangeIDsThatDoNotServe(t *testing.T) {
	e := start(t)
	vm, d, id := seeded(e, 4*mib)
	f := e.freeze(vm)
	for _, bad := range []transfer.ChangeID{"", "52 aa aa/1", "nonsense", id + "99"} {
		if _, err := e.areas(f, 0, bad); transfer.KindOf(err) != transfer.BaselineLost {
			t.Errorf("change ID %q: %v (%v)", bad, err, transfer.KindOf(err))
		}
	}
	e.release(f)
	d.ResetCBT()
	f = e.freeze(vm)
	if now := f.State().VM.Disks[0].ChangeID; now.Epoch() == id.Epoch() {
		t.Errorf("the epoch of %q did not change", now)
	}
	_, err := e.areas(f, 0, id)
	if transfer.KindOf(err) != transfer.BaselineLost || !strings.Contains(err.Error(), string(id)) || !strings.Contains(err.Error(), "Error caused by file") {
		t.Errorf("after a reset: %v", err)
	}
	e.release(f)
	e.clean()
}

func TestDishonestPages(t *testing.T) {
	e := start(t)
	vm, d, id := seeded(e, 8*mib)
	for i := range int64(8) {
		write(t, d, i*mib, 512)
	}
	f := e.freeze(vm)
	for _, lie := range []string{"unsorted", "outside", "gap"} {
		e.faults.Add(fault.Rule{Name: lie, Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: lie})
		if _, err := e.areas(f, 0, id); transfer.KindOf(err) != transfer.BaselineLost {
			t.Errorf("%s: %v (%v)", lie, err, transfer.KindOf(err))
		}
	}
	if left := e.faults.Unfired(); len(left) > 0 {
		t.Errorf("did not fire: %v", left)
	}
	e.release(f)
	e.clean()
}

func TestAreasOfWhatIsNotThere(t *testing.T) {
	e := start(t)
	vm, _, id := seeded(e, mib)
	f := e.freeze(vm)
	err := f.Areas(e.ctx, transfer.DiskID{Key: 9}, id, nil)
	if transfer.KindOf(err) != transfer.Permanent {
		t.Errorf("no such disk: %v", err)
	}
	if err := vm.RemoveSnapshot(f.State().Snapshot); err != nil {
		t.Fatal(err)
	}
	_, err = e.areas(f, 0, id)
	if transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), "removed by somebody else") {
		t.Errorf("snapshot gone: %v", err)
	}
	e.release(f) // gone already is fine
	e.clean()
}

func TestFiveBackings(t *testing.T) {
	e := start(t)
	want := map[vcenter.Backing]string{
		vcenter.Flat: "flat", vcenter.Sparse2: "sparse", vcenter.SESparse: "sesparse", vcenter.RDMVirtual: "rdm-virtual", vcenter.RawDisk2: "raw-disk"}
	spec := vcenter.VMSpec{Name: "app01", CBT: true}
	kinds := []vcenter.Backing{vcenter.Flat, vcenter.Sparse2, vcenter.SESparse, vcenter.RDMVirtual, vcenter.RawDisk2}
	for _, b := range kinds {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: 2 * mib, Backing: b})
	}
	vm := e.addVM(spec)
	seed := e.freeze(vm)
	e.release(seed)
	for _, d := range vm.Disks() {
		write(t, d, mib, grain)
	}
	f := e.freeze(vm)
	for i, d := range f.State().VM.Disks {
		live := seed.State().VM.Disks[i]
		if d.Backing != want[kinds[i]] || d.ChangeID == "" || d.ID != live.ID || d.File == "" || len(d.Obstacles) > 0 {
			t.Errorf("%s: %+v", kinds[i], d)
		}
		got, err := e.areas(f, i, live.ChangeID)
		if x := []transfer.Extent{{Offset: mib, Length: grain}}; err != nil || !slices.Equal(got, x) {
			t.Errorf("%s: %v, %v", kinds[i], got, err)
		}
	}
	e.release(f)
	e.clean()
}
