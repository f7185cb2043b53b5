package vsphere_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

// refused freezes and wants an error of a kind with these words in it.
func (e *env) refused(vm *vcenter.VM, kind transfer.Kind, words string, s ...transfer.FreezeSpec) {
	e.Helper()
	if len(s) == 0 {
		s = append(s, spec())
	}
	f, err := e.source(vm).Freeze(e.ctx, s[0])
	if err == nil {
		e.release(f)
		e.Errorf("it froze, want %q", words)
		return
	}
	if transfer.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
		e.Errorf("%v: %v, want %v with %q", transfer.KindOf(err), err, kind, words)
	}
}

func TestFrozenStateIsTheSnapshots(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", 4*mib, 3*mib+512)
	s := spec()
	f, err := e.source(vm).Freeze(e.ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	state, before := f.State(), vm.Snapshots()
	if len(before) != 1 || before[0].Moref != state.Snapshot || before[0].Name != state.SnapshotName || state.SnapshotName != "snapferry-"+string(s.Cycle) {
		t.Errorf("state %+v, snapshots %+v", state, before)
	}
	var mark map[string]any
	if err := json.Unmarshal([]byte(before[0].Description), &mark); err != nil || mark["appliance"] != "appliance-1" || mark["cycle"] != string(s.Cycle) {
		t.Errorf("description %q", before[0].Description)
	}
	if age := time.Since(state.At); age < -time.Minute || age > time.Minute || state.Quiesced {
		t.Errorf("at %v, quiesced %v", state.At, state.Quiesced)
	}
	for i, d := range vm.Disks() {
		got := state.VM.Disks[i]
		if got.ID != (transfer.DiskID{Key: d.Key(), UUID: strings.ToLower(d.UUID())}) || got.Size != d.Size() || got.File != d.Path() || got.Datastore != "vmfs1" || got.ChangeID == "" {
			t.Errorf("disk %+v", got)
		}
	}
	own, err := e.c.OurSnapshots(e.ctx, e.id(vm))
	if err != nil || len(own) != 1 || own[0].Cycle != s.Cycle || own[0].Appliance != s.Appliance || own[0].Moref != state.Snapshot {
		t.Errorf("ours: %+v, %v", own, err)
	}
	e.release(f)
	e.release(f)
	e.clean()
}

func TestNeverTwoOfOurs(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	first := e.freeze(vm)
	e.refused(vm, transfer.Retry, first.State().SnapshotName)
	e.refused(vm, transfer.Retry, "appliance-1")
	// what a crash left, a reaper removes by its mark
	own, err := e.c.OurSnapshots(e.ctx, e.id(vm))
	if err != nil || len(own) != 1 {
		t.Fatal(own, err)
	}
	if err := e.c.RemoveOurs(e.ctx, e.id(vm), own[0]); err != nil {
		t.Fatal(err)
	}
	if err := e.c.RemoveOurs(e.ctx, e.id(vm), own[0]); err != nil {
		t.Errorf("again: %v", err)
	}
	e.release(e.freeze(vm))
	e.clean()
}

func TestSnapshotsOfOthersStay(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	if _, err := vm.TakeSnapshot("below"); err != nil {
		t.Fatal(err)
	}
	f := e.freeze(vm)
	if f.State().VM.Disks[0].ChangeID == "" || f.State().Tracking != "" {
		t.Errorf("CBT was on already: %+v", f.State())
	}
	if _, err := vm.TakeSnapshot("snapferry-like above"); err != nil {
		t.Fatal(err)
	}
	e.release(f)
	var names []string
	for _, s := range vm.Snapshots() {
		names = append(names, s.Name)
	}
	if len(names) != 2 || names[0] != "below" || names[1] != "snapferry-like above" {
		t.Errorf("snapshots left: %v", names)
	}
	if n := e.v.Calls()["RemoveAllSnapshots_Task"] + e.v.Calls()["ConsolidateVMDisks_Task"]; n != 0 {
		t.Errorf("%d calls that touch others' snapshots", n)
	}
}

func TestCBTIsEnabledOnlyWithoutSnapshots(t *testing.T) {
	e := start(t)
	plain := e.addVM(vcenter.VMSpec{Name: "plain", Disks: []vcenter.DiskSpec{{Size: mib}}})
	f := e.freeze(plain)
	if s := f.State(); s.Tracking != "" || s.VM.Disks[0].ChangeID == "" || !s.VM.CBT {
		t.Errorf("without snapshots: %+v", s)
	}
	e.release(f)
	e.v.ResetCalls()
	e.release(e.freeze(plain))
	if n := e.v.Calls()["ReconfigVM_Task"]; n != 0 {
		t.Errorf("enabled again %d times", n)
	}

	kept := e.addVM(vcenter.VMSpec{Name: "kept", Disks: []vcenter.DiskSpec{{Size: mib}}})
	moref, err := kept.TakeSnapshot("by hand")
	if err != nil {
		t.Fatal(err)
	}
	f = e.freeze(kept)
	if s := f.State(); s.VM.Disks[0].ChangeID != "" || !strings.Contains(s.Tracking, "1 snapshot") {
		t.Errorf("beside a snapshot: %+v", s)
	}
	e.release(f)
	if st, _ := e.v.State().VM("kept"); st.ChangeTracking {
		t.Error("CBT was enabled beside a snapshot")
	}
	if err := kept.RemoveSnapshot(moref); err != nil {
		t.Fatal(err)
	}
	f = e.freeze(kept)
	if f.State().VM.Disks[0].ChangeID == "" {
		t.Errorf("after the snapshot went: %+v", f.State())
	}
	e.release(f)
	e.clean()
}

func TestWhyAChangeIDIsMissing(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}, {Size: mib, NoCBT: true}}})
	f := e.freeze(vm)
	if s := f.State(); s.VM.Disks[0].ChangeID == "" || s.VM.Disks[1].ChangeID != "" || !strings.Contains(s.Tracking, "Hard disk 2") {
		t.Errorf("%+v", s)
	}
	e.release(f)

	e.v.Deny("VirtualMachine.Config.ChangeTracking")
	f = e.freeze(e.addVM(vcenter.VMSpec{Name: "bare", Disks: []vcenter.DiskSpec{{Size: mib}}}))
	if s := f.State(); !strings.Contains(s.Tracking, "VirtualMachine.Config.ChangeTracking") {
		t.Errorf("tracking %q", s.Tracking)
	}
	e.release(f)
	e.clean()
}

func TestQuiesce(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	quiesced := func(q transfer.Quiesce, want bool) {
		t.Helper()
		f := e.freeze(vm, q)
		if f.State().Quiesced != want {
			t.Errorf("%s: quiesced %v", q, f.State().Quiesced)
		}
		e.release(f)
	}
	quiesced(transfer.QuiesceOff, false)
	quiesced(transfer.QuiesceTry, true)
	quiesced(transfer.QuiesceRequire, true)
	for _, name := range []string{"ApplicationQuiesceFault", "FilesystemQuiesceFault"} {
		e.faults.Add(fault.Rule{Name: "try " + name, Op: "CreateSnapshot_Task", Kind: fault.TaskFault, Detail: name})
		quiesced(transfer.QuiesceTry, false)
		e.faults.Add(fault.Rule{Name: "require " + name, Op: "CreateSnapshot_Task", Kind: fault.TaskFault, Detail: name})
		e.refused(vm, transfer.Retry, "quiesc", spec(transfer.QuiesceRequire))
	}
	e.faults.Add(fault.Rule{Name: "fallback", Op: "CreateSnapshot_Task", Kind: fault.Lie, Detail: "quiesce-fallback", Times: 2})
	quiesced(transfer.QuiesceTry, false)
	e.refused(vm, transfer.Retry, "without quiescing", spec(transfer.QuiesceRequire))
	if left := e.faults.Unfired(); len(left) > 0 {
		t.Errorf("did not fire: %v", left)
	}
	e.clean()
}

func TestConsolidationNeeded(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	spoil := func(name string) {
		e.faults.Add(fault.Rule{Name: name, Op: "RemoveSnapshot_Task", Kind: fault.Lie, Detail: "consolidation-needed"})
	}
	f := e.freeze(vm)
	spoil("ours")
	e.release(f) // our chain alone: consolidated, once
	if n := e.v.Calls()["ConsolidateVMDisks_Task"]; n != 1 {
		t.Errorf("consolidated %d times", n)
	}
	e.clean()

	if _, err := vm.TakeSnapshot("by hand"); err != nil {
		t.Fatal(err)
	}
	f = e.freeze(vm)
	spoil("shared")
	err := f.Release(e.ctx)
	if transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), "other snapshots") || !strings.Contains(transfer.HintOf(err), "Consolidate") {
		t.Errorf("a chain with others: %v", err)
	}
	if n := e.v.Calls()["ConsolidateVMDisks_Task"]; n != 1 {
		t.Errorf("consolidated a chain of others: %d", n)
	}
	e.refused(vm, transfer.Permanent, "consolidation")
	if err := vm.Consolidate(); err != nil {
		t.Fatal(err)
	}
	e.release(f) // once a person did it, the release is done
	e.release(e.freeze(vm))
	if left := e.faults.Unfired(); len(left) > 0 {
		t.Errorf("did not fire: %v", left)
	}
}

func TestCancelWhileFreezing(t *testing.T) {
	e := start(t, func(o *vcenter.Options) { o.TaskDelay = 50 * time.Millisecond })
	vm := e.vm("app01", mib)
	ctx, cancel := context.WithCancel(e.ctx)
	go func() {
		for e.v.Calls()["CreateSnapshot_Task"] == 0 && e.ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := e.source(vm).Freeze(ctx, spec())
	if !errors.Is(err, context.Canceled) || transfer.KindOf(err) != transfer.Canceled {
		t.Errorf("%v (%v)", err, transfer.KindOf(err))
	}
	if n := len(vm.Snapshots()); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
	e.clean()
}

// TestCancelAtEveryCall cancels while each call of a freeze is under way.
func TestCancelAtEveryCall(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: mib}}})
	canceled := 0
	for i := range 14 { // more than a freeze has
		e.faults.Clear()
		e.faults.Add(fault.Rule{Name: "slow", Op: "*", Kind: fault.Stall, Delay: 30 * time.Millisecond, Skip: i})
		ctx, cancel := context.WithCancel(e.ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e.faults.Fired()["slow"] == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		f, err := e.source(vm).Freeze(ctx, spec())
		if err == nil {
			e.release(f)
		} else if canceled++; transfer.KindOf(err) != transfer.Canceled {
			t.Errorf("cancelled in call %d: %v (%v)", i, err, transfer.KindOf(err))
		}
		cancel()
		<-done
		if n := len(vm.Snapshots()); n != 0 {
			t.Fatalf("cancelled in call %d: %d snapshots are left", i, n)
		}
	}
	if canceled < 6 {
		t.Errorf("only %d of the freezes were cancelled", canceled)
	}
	e.faults.Clear()
	e.clean()
}

func TestLostAnswersOfSnapshotCalls(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	e.faults.Add(fault.Rule{Name: "create", Op: "CreateSnapshot_Task", Kind: fault.LostAnswer})
	f := e.freeze(vm) // it was made, and is found
	if n := e.v.Calls()["CreateSnapshot_Task"]; n != 1 {
		t.Errorf("asked %d times", n)
	}
	e.faults.Add(fault.Rule{Name: "remove", Op: "RemoveSnapshot_Task", Kind: fault.LostAnswer})
	e.release(f)
	e.faults.Add(fault.Rule{Name: "cut", Op: "CreateSnapshot_Task", Kind: fault.Cut})
	e.refused(vm, transfer.Retry, "cannot be reached")
	f = e.freeze(vm)
	e.faults.Add(fault.Rule{Name: "cut remove", Op: "RemoveSnapshot_Task", Kind: fault.Cut})
	e.release(f)
	if left := e.faults.Unfired(); len(left) > 0 {
		t.Errorf("did not fire: %v", left)
	}
	e.clean()
}

// TestAnotherToolsTask: ours waits until it is over.
func TestAnotherToolsTask(t *testing.T) {
	e := start(t, func(o *vcenter.Options) { o.TaskDelay = 100 * time.Millisecond })
	vm := e.vm("app01", mib)
	other := make(chan error, 1)
	go func() {
		f, err := e.source(vm).Freeze(e.ctx, spec())
		if err == nil {
			err = f.Release(e.ctx)
		}
		other <- err
	}()
	for e.v.Calls()["CreateSnapshot_Task"] == 0 && e.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	f, err := e.source(vm).Freeze(e.ctx, spec())
	if err == nil {
		e.release(f)
	} else if transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), "already") {
		t.Error(err) // the other's snapshot was there first
	}
	if err := <-other; err != nil {
		t.Errorf("the first: %v", err)
	}
	e.clean()
}

func TestFreeSpace(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	if err := e.v.SetFreeSpace("vmfs1", 9<<30); err != nil {
		t.Fatal(err)
	}
	if err := e.v.SetFreeSpace("vmfs2", 0); err != nil { // not this VM's
		t.Fatal(err)
	}
	e.refused(vm, transfer.Permanent, "vmfs1")
	for _, limit := range []int64{0, 9 << 30} {
		f, err := e.source(vm, vsphere.Options{MinFree: &limit}).Freeze(e.ctx, spec())
		if err != nil {
			t.Fatalf("limit %d: %v", limit, err)
		}
		e.release(f)
	}
	if n := e.v.Calls()["CreateSnapshot_Task"]; n != 2 {
		t.Errorf("%d snapshots were made", n)
	}
	e.clean()
}

func TestPrivilegesAndMethodsAreNamed(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	e.v.Deny("VirtualMachine.State.CreateSnapshot")
	e.refused(vm, transfer.Permanent, "VirtualMachine.State.CreateSnapshot on VirtualMachine "+vm.Moref())
	e.v.Allow("VirtualMachine.State.CreateSnapshot")
	f := e.freeze(vm)
	e.v.Deny("VirtualMachine.Provisioning.DiskRandomRead")
	_, err := e.areas(f, 0, f.State().VM.Disks[0].ChangeID)
	if transfer.KindOf(err) != transfer.Permanent || !strings.Contains(err.Error(), "VirtualMachine.Provisioning.DiskRandomRead") || !strings.Contains(transfer.HintOf(err), vm.Moref()) {
		t.Errorf("areas: %v", err)
	}
	if _, err = e.areas(f, 0, transfer.AllAllocated); transfer.KindOf(err) != transfer.Permanent {
		t.Errorf("allocated areas: %v", err)
	}
	e.v.Deny("VirtualMachine.State.RemoveSnapshot")
	if err := f.Release(e.ctx); err == nil || !strings.Contains(err.Error(), "VirtualMachine.State.RemoveSnapshot") {
		t.Errorf("release: %v", err)
	}
	e.v.Allow("VirtualMachine.State.RemoveSnapshot")
	e.release(f)
	vm.DisableMethods("CreateSnapshot_Task")
	e.refused(vm, transfer.Retry, "disabled")
	vm.EnableMethods()
	e.release(e.freeze(vm))
	e.clean()
}

// movedReader stands where a reader would; it must not be asked.
type movedReader struct{ opened int }

func (*movedReader) Obstacle(transfer.Disk) (o transfer.Obstacle, is bool) { return o, false }

func (r *movedReader) Open(context.Context, vsphere.FrozenDisk) (transfer.DiskReader, error) {
	r.opened++
	return closer{}, nil
}

type closer struct{}

func (closer) ReadAt([]byte, int64) (int, error) { return 0, nil }
func (closer) Close(context.Context) error       { return nil }

func TestFilesThatMoved(t *testing.T) {
	e := start(t)
	vm := e.vm("app01", mib)
	r := &movedReader{}
	f, err := e.source(vm, vsphere.Options{Reader: r}).Freeze(e.ctx, spec())
	if err != nil {
		t.Fatal(err)
	}
	id := f.State().VM.Disks[0].ID
	opened, err := f.Open(e.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Release(e.ctx); err == nil || !strings.Contains(err.Error(), "still attached") {
		t.Errorf("released beside an open reader: %v", err)
	}
	if err := opened.Close(e.ctx); err != nil {
		t.Fatal(err)
	}
	if err := vm.MoveTo("vmfs2"); err != nil {
		t.Fatal(err)
	}
	if _, err = f.Open(e.ctx, id); transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), "moved") || r.opened != 1 {
		t.Errorf("%v, opened %d times", err, r.opened)
	}
	e.release(f)
	if _, err := f.Open(e.ctx, id); err == nil {
		t.Error("opened after the release")
	}
	e.clean()
}
