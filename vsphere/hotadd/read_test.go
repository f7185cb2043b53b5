package hotadd_test

import (
	"testing"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer"
	"snapferry/vsphere/hotadd"
)

func TestReadsWhatWasFrozen(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", 8*mib, 3*mib+512)
	f := e.freeze(vm, e.open())
	// the guest goes on writing
	for _, d := range vm.Disks() {
		if _, err := d.WriteAt(make([]byte, mib), 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := range f.State().VM.Disks {
		r := e.openDisk(f, i)
		e.same(f, i, r)
		if n := len(e.v.State().Attached); n != 1 {
			t.Errorf("%d disks are attached", n)
		}
		if err := f.Release(e.ctx); err == nil {
			t.Fatal("released while a disk was attached")
		}
		e.close(r)
		e.close(r) // a second time does nothing
		if _, err := r.ReadAt(aligned(512), 0); err == nil {
			t.Error("read after close")
		}
	}
	e.release(f)
	e.clean()
}

func TestReadChecksItsArguments(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", 2*mib), e.open())
	r := e.openDisk(f, 0)
	for _, x := range []transfer.Extent{{Offset: 1, Length: 512}, {Offset: 0, Length: 100}, {Offset: -512, Length: 512}, {Offset: 2 * mib, Length: 512}, {Offset: mib, Length: 2 * mib}} {
		if _, err := r.ReadAt(aligned(int(x.Length)), x.Offset); err == nil {
			t.Errorf("read %v", x)
		}
	}
	// a buffer that O_DIRECT cannot take is served all the same
	odd := aligned(1024 + 8)[8:]
	if n, err := r.ReadAt(odd, 512); err != nil || n != 1024 {
		t.Errorf("unaligned buffer: %d, %v", n, err)
	}
	e.close(r)
	e.release(f)
	e.clean()
}

// TestSideBySide: many VMs on one appliance at once, as cycles do, and from
// two processes, which have no lock in common.
func TestSideBySide(t *testing.T) {
	e := start(t)
	processes := []*hotadd.Appliance{e.open(), e.open()}
	var g errgroup.Group
	for i, name := range []string{"a", "b", "c", "d"} {
		vm := e.vm(name, mib, 2*mib)
		f := e.freeze(vm, processes[i%2])
		var disks errgroup.Group
		for i, d := range f.State().VM.Disks {
			disks.Go(func() error {
				r, err := f.Open(e.ctx, d.ID)
				if err != nil {
					return err
				}
				e.same(f, i, r)
				return r.Close(e.ctx)
			})
		}
		g.Go(func() error {
			if err := disks.Wait(); err != nil {
				return err
			}
			return f.Release(e.ctx)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	e.clean()
}
