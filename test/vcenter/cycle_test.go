package vcenter_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"snapferry/test/vcenter"
)

// TestReplicationCycles does what the product will do: everything by "*", then
// by change IDs, under a guest that writes.
func TestReplicationCycles(t *testing.T) {
	t.Parallel()
	e := start(t)
	const size = 8*mib + 512
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: size}}})
	d := vm.Disks()[0]
	write(t, d, 1*mib, noise(1, 3*mib))
	e.enableCBT(vm)
	e.v.KeepFrozen(t.TempDir(), "cycle")
	replica, id := make([]byte, size), "*"
	r := rand.New(rand.NewPCG(3, 4))
	for cycle := range 5 {
		want := content(t, d, size)
		name := fmt.Sprint("cycle", cycle)
		snap := e.snap(vm, name)
		for range 6 { // goes to the redo log
			p := noise(r.Uint64(), 1+r.IntN(200*kib))
			write(t, d, r.Int64N(size-int64(len(p))), p)
		}
		frozen, n, err := e.v.Frozen(snap.Value, d.Key())
		if err != nil {
			t.Fatal(err)
		}
		same(t, "frozen", content(t, frozen, n), want)
		list, _ := e.areas(vm, snap, d, id)
		for _, a := range list {
			if _, err := frozen.ReadAt(replica[a.Start:a.Start+a.Length], a.Start); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "replica", replica, want)
		id = e.changeID(snap, d.Key())
		live := content(t, d, size)
		e.unsnap(snap)
		same(t, "guest after removal", content(t, d, size), live)
		kept, err := e.v.FrozenCopy(name, d.Key())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(kept)
		same(t, "kept copy", b, want)
	}
	if n := len(d.Files()); n != 2 {
		t.Errorf("%d files after the last removal, want descriptor and base", n)
	}
	if got := e.props(vm, "snapshot"); got.Snapshot != nil {
		t.Errorf("snapshots are left: %+v", got.Snapshot)
	}
}
