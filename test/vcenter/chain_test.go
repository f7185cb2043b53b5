package vcenter_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

// TestChainAgainstModel takes, removes and reverts to snapshots in any order
// and compares every frozen disk with a plain copy of it after each step.
func TestChainAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			e := start(t)
			const size = mib + 1024
			vm := e.addVM(vcenter.VMSpec{Name: "m", Disks: []vcenter.DiskSpec{{Size: size}, {Size: size, Backing: vcenter.SESparse}}})
			r := rand.New(rand.NewPCG(seed, 1))
			live := [2][]byte{make([]byte, size), make([]byte, size)}
			frozen := map[string][2][]byte{}
			for step := range 40 {
				switch op := r.IntN(10); {
				case op < 5:
					for i, d := range vm.Disks() {
						p := noise(r.Uint64(), 1+r.IntN(150*kib))
						off := r.Int64N(size - int64(len(p)))
						write(t, d, off, p)
						copy(live[i][off:], p)
					}
				case op < 7:
					s, err := vm.TakeSnapshot(fmt.Sprint("s", step))
					if err != nil {
						t.Fatal(err)
					}
					frozen[s] = [2][]byte{append([]byte{}, live[0]...), append([]byte{}, live[1]...)}
				case op < 9:
					if all := vm.Snapshots(); len(all) > 0 {
						s := all[r.IntN(len(all))].Moref
						if err := vm.RemoveSnapshot(s); err != nil {
							t.Fatal(err)
						}
						delete(frozen, s)
					}
				default:
					if all := vm.Snapshots(); len(all) > 0 {
						s := all[r.IntN(len(all))].Moref
						if err := vm.Revert(s); err != nil {
							t.Fatal(err)
						}
						for i := range live {
							copy(live[i], frozen[s][i])
						}
					}
				}
				checkChain(t, e, vm, live, frozen)
			}
		})
	}
}

func checkChain(t *testing.T, e *env, vm *vcenter.VM, live [2][]byte, frozen map[string][2][]byte) {
	t.Helper()
	for i, d := range vm.Disks() {
		same(t, "guest", content(t, d, d.Size()), live[i])
		for s, want := range frozen {
			f, n, err := e.v.Frozen(s, d.Key())
			if err != nil {
				t.Fatal(err)
			}
			same(t, "snapshot "+s, content(t, f, n), want[i])
		}
		for _, f := range d.Files() {
			if _, err := os.Stat(f); err != nil {
				t.Error(err)
			}
		}
		if len(frozen) == 0 && len(d.Files()) != 2 {
			t.Errorf("files are left: %v", d.Files())
		}
	}
}

// TestStackedSnapshots: a user's below and above ours; ours alone goes.
func TestStackedSnapshots(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, mib)
	write(t, d, 0, noise(1, 100*kib))
	below := e.snap(vm, "below")
	write(t, d, 50*kib, noise(2, 100*kib))
	ours := e.snap(vm, "ours")
	write(t, d, 90*kib, noise(3, 100*kib))
	above := e.snap(vm, "above")
	if got := flat(e.frozenDisk(ours, d.Key())); got.FileName != "[vmfs1] app01/app01-000001.vmdk" || got.Parent == nil || got.Parent.FileName != "[vmfs1] app01/app01.vmdk" {
		t.Errorf("ours is frozen in %s", got.FileName)
	}
	want := map[types.ManagedObjectReference][]byte{}
	for _, s := range []types.ManagedObjectReference{below, above} {
		f, n, _ := e.v.Frozen(s.Value, d.Key())
		want[s] = content(t, f, n)
	}
	e.unsnap(ours)
	for s, w := range want {
		f, n, err := e.v.Frozen(s.Value, d.Key())
		if err != nil {
			t.Fatal(err)
		}
		same(t, s.Value, content(t, f, n), w)
	}
	tree := e.props(vm, "snapshot").Snapshot
	if len(tree.RootSnapshotList) != 1 || tree.RootSnapshotList[0].ChildSnapshotList[0].Snapshot != above || *tree.CurrentSnapshot != above {
		t.Errorf("tree %+v", tree)
	}
	var res, err = methods.RemoveSnapshot_Task(e.ctx, e.c, &types.RemoveSnapshot_Task{This: ours})
	if !gfault.Is(err, &types.ManagedObjectNotFound{}) {
		t.Errorf("remove again: %v, %v", res, err)
	}
	e.must(e.obj(vm).RemoveAllSnapshot(e.ctx, nil))
	if len(d.Files()) != 2 {
		t.Errorf("files %v", d.Files())
	}
}

func TestRevertOverSOAP(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, mib)
	write(t, d, 0, noise(1, mib))
	want := content(t, d, mib)
	s := e.snap(vm, "s")
	id := e.changeID(s, d.Key())
	write(t, d, 1000, noise(2, 200*kib))
	e.must(e.obj(vm).RevertToSnapshot(e.ctx, s.Value, true))
	same(t, "after revert", content(t, d, mib), want)
	if vm.PoweredOn() {
		t.Error("a VM came back running from a snapshot without memory")
	}
	write(t, d, 0, []byte{9})
	s2 := e.snap(vm, "s2")
	if _, err := e.page(vm, s2, d.Key(), 0, id); !gfault.Is(err, &types.FileFault{}) {
		t.Errorf("old change ID after a revert: %v", err)
	}
	// The treacherous kind, which keeps the life of the tracker.
	id = e.changeID(s2, d.Key())
	write(t, d, 512*kib, noise(3, grain))
	e.faults.Add(fault.Rule{Op: "RevertToSnapshot_Task", Kind: fault.Lie, Detail: "keep-change-ids"})
	e.must(e.obj(vm).RevertToSnapshot(e.ctx, s2.Value, true))
	if _, err := e.page(vm, e.snap(vm, "s3"), d.Key(), 0, id); err != nil {
		t.Errorf("kept change ID: %v", err)
	}
}

func TestConsolidation(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, mib)
	s := e.snap(vm, "s")
	write(t, d, 0, noise(1, grain))
	no := false
	res, err := methods.RemoveSnapshot_Task(e.ctx, e.c, &types.RemoveSnapshot_Task{This: s, Consolidate: &no})
	if err != nil {
		t.Fatal(err)
	}
	e.must(object.NewTask(e.c, res.Returnval), nil)
	if m := e.props(vm, "runtime.consolidationNeeded", "snapshot"); !m.Runtime.ConsolidationNeeded || m.Snapshot != nil {
		t.Errorf("consolidationNeeded %v, snapshots %v", m.Runtime.ConsolidationNeeded, m.Snapshot)
	}
	if len(d.Files()) != 4 {
		t.Errorf("files %v, want the redo log to stay", d.Files())
	}
	if st, _ := e.v.State().VM("app01"); !st.ConsolidationNeeded || len(st.Missing) != 0 {
		t.Errorf("state %+v", st)
	}
	want := content(t, d, mib)
	c, err := methods.ConsolidateVMDisks_Task(e.ctx, e.c, &types.ConsolidateVMDisks_Task{This: vm.Ref()})
	if err != nil {
		t.Fatal(err)
	}
	e.must(object.NewTask(e.c, c.Returnval), nil)
	same(t, "after consolidation", content(t, d, mib), want)
	if len(d.Files()) != 2 || e.props(vm, "runtime.consolidationNeeded").Runtime.ConsolidationNeeded {
		t.Errorf("not consolidated: %v", d.Files())
	}
}

func TestQuiesce(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, _ := tracked(e, mib)
	for _, c := range []struct {
		rule *fault.Rule
		want bool
	}{{nil, true}, {&fault.Rule{Op: "CreateSnapshot_Task", Kind: fault.Lie, Detail: "quiesce-fallback"}, false}} {
		if c.rule != nil {
			e.faults.Add(*c.rule)
		}
		e.must(e.obj(vm).CreateSnapshot(e.ctx, "q", "d", false, true))
		root := e.props(vm, "snapshot").Snapshot.RootSnapshotList[0]
		if root.Quiesced != c.want || root.Name != "q" || root.Description != "d" {
			t.Errorf("tree %+v, want quiesced %v", root, c.want)
		}
		if err := vm.RemoveSnapshot(root.Snapshot.Value); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ApplicationQuiesceFault", "FilesystemQuiesceFault"} {
		e.faults.Add(fault.Rule{Name: name, Op: "CreateSnapshot_Task", Kind: fault.TaskFault, Detail: name})
		err := e.wait(e.obj(vm).CreateSnapshot(e.ctx, "q", "", false, true))
		if !gfault.Is(err, &types.ApplicationQuiesceFault{}) && !gfault.Is(err, &types.FilesystemQuiesceFault{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(vm.Snapshots()) != 0 {
		t.Error("a failed task left a snapshot")
	}
}

func TestOnFreezeSeesTheInstant(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "two", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}, {Size: mib}}})
	var seen []vcenter.FreezeEvent
	e.v.OnFreeze(func(f vcenter.FreezeEvent) {
		for _, d := range vm.Disks() {
			write(t, d, 0, []byte("late")) // the guest goes on
			b := make([]byte, 4)
			if _, err := f.Disks[d.Key()].ReadAt(b, 0); err != nil || string(b) != "\x00\x00\x00\x00" {
				t.Errorf("frozen content %q, %v", b, err)
			}
		}
		seen = append(seen, f)
	})
	s := e.snap(vm, "mark")
	if len(seen) != 1 || seen[0].Snapshot != s.Value || seen[0].Name != "mark" || seen[0].VM != vm.Ref() || seen[0].Description != "by test" {
		t.Fatalf("seen %+v", seen)
	}
	if id := e.changeID(s, vm.Disks()[0].Key()); seen[0].Disks[vm.Disks()[0].Key()].ChangeID != id {
		t.Error("another change ID than the inventory's")
	}
}

// TestHugeDisksCostNothing: a 1 TiB disk through a whole cycle.
func TestHugeDisksCostNothing(t *testing.T) {
	t.Parallel()
	e := start(t)
	const size = 1 << 40
	vm, d := tracked(e, size)
	e.v.KeepFrozen(t.TempDir(), "")
	write(t, d, size-512, noise(1, 512))
	s := e.snap(vm, "s")
	write(t, d, 0, noise(2, 512))
	if got, _ := e.areas(vm, s, d, "*"); len(got) != 1 || got[0] != area(size-grain, grain) {
		t.Errorf("allocated %v", got)
	}
	kept, err := e.v.FrozenCopy("s", d.Key())
	if err != nil {
		t.Fatal(err)
	}
	e.unsnap(s)
	for _, f := range append(d.Files(), kept) {
		var st syscall.Stat_t
		if err := syscall.Stat(f, &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > mib {
			t.Errorf("%s takes %d bytes", f, st.Blocks*512)
		}
	}
}
