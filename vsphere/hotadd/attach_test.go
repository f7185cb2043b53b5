package hotadd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

const reconfigure = "ReconfigVM_Task"

func TestRemovalRefusedTwice(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	r := e.openDisk(f, 0)
	e.faults.Add(fault.Rule{Op: reconfigure, Subject: e.appliance.Moref(), Kind: fault.TaskFault, Detail: "InvalidState", Times: 2})
	e.close(r)
	if left := e.faults.Unfired(); len(left) > 0 || e.faults.Fired()[reconfigure+"/task-fault"] != 2 {
		t.Errorf("faults fired: %v", e.faults.Fired())
	}
	e.release(f)
	e.clean()
}

func TestRemovalThatStaysRefusedIsNamedAndTriedAgain(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	r := e.openDisk(f, 0)
	e.faults.Add(fault.Rule{Op: reconfigure, Kind: fault.TaskFault, Detail: "InvalidState", Times: -1})
	err := r.Close(e.ctx)
	if err == nil || !strings.Contains(err.Error(), "still attached") || !strings.Contains(err.Error(), f.State().VM.Disks[0].File) ||
		!strings.Contains(transfer.HintOf(err), "WITHOUT deleting") {
		t.Errorf("%v; %s", err, transfer.HintOf(err))
	}
	if err := f.Release(e.ctx); err == nil {
		t.Fatal("released while the disk is attached")
	}
	e.faults.Clear()
	e.close(r)
	e.release(f)
	e.clean()
}

func TestDuplicateUUID(t *testing.T) {
	e := start(t)
	a := e.open()
	const uuid = "6000C29a-1111-2222-3333-444455556666"
	one := e.addVM(vcenter.VMSpec{Name: "one", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib, UUID: uuid}}})
	two := e.addVM(vcenter.VMSpec{Name: "two", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib, UUID: uuid}}})
	f1, f2 := e.freeze(one, a), e.freeze(two, a)
	r := e.openDisk(f1, 0)
	_, err := f2.Open(e.ctx, f2.State().VM.Disks[0].ID)
	if err == nil || !strings.Contains(err.Error(), "same UUID") || !strings.Contains(transfer.HintOf(err), string("cycle")) {
		t.Errorf("%v; %s", err, transfer.HintOf(err))
	}
	e.close(r)
	e.close(e.openDisk(f2, 0)) // and once it is gone, the other may
	e.release(f1)
	e.release(f2)
	e.clean()
}

// TestSlotsRunOut: 57 slots hold the appliance's own disks, 3 are free.
func TestSlotsRunOut(t *testing.T) {
	t.Parallel()
	e := bare(t)
	spec := vcenter.VMSpec{Name: "appliance"}
	for i := range 57 { // a bus sharing of its own is how the simulator is told another controller
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: 64 << 10, BusSharing: []string{"", "virtualSharing", "physicalSharing", "noSharing"}[i/15]})
	}
	var err error
	if e.appliance, err = e.v.AddApplianceVM(spec); err != nil {
		t.Fatal(err)
	}
	source := vcenter.VMSpec{Name: "app01", CBT: true}
	for range 3 {
		source.Disks = append(source.Disks, vcenter.DiskSpec{Size: 64 << 10})
	}
	a := e.open()
	f := e.freeze(e.addVM(source), a)
	one := e.freeze(e.vm("one", 64<<10), a)
	var readers []transfer.DiskReader
	for i := range f.State().VM.Disks {
		readers = append(readers, e.openDisk(f, i))
	}
	_, err = one.Open(e.ctx, one.State().VM.Disks[0].ID)
	if err == nil || !strings.Contains(err.Error(), "60 slots") || transfer.KindOf(err) != transfer.Retry {
		t.Errorf("the 61st disk: %v", err)
	}
	units := map[int32]bool{}
	for _, at := range e.v.State().Attached {
		units[at.Unit] = true
	}
	if len(units) != 3 || !units[13] || !units[14] || !units[15] {
		t.Errorf("units %v", units)
	}
	for _, r := range readers {
		e.close(r)
	}
	e.close(e.openDisk(one, 0))
	e.release(f)
	e.release(one)
	e.clean()
}

func TestCancelWhileAttaching(t *testing.T) {
	e := start(t, func(o *vcenter.Options) { o.TaskDelay = 60 * time.Millisecond })
	f := e.freeze(e.vm("app01", mib), e.open())
	ctx, cancel := context.WithCancel(e.ctx)
	before := e.v.Calls()[reconfigure]
	go func() {
		for e.v.Calls()[reconfigure] == before && e.ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := f.Open(ctx, f.State().VM.Disks[0].ID)
	if !errors.Is(err, context.Canceled) || transfer.KindOf(err) != transfer.Canceled {
		t.Fatal(err)
	}
	e.release(f)
	e.clean()
}

// TestCancelAtEveryCall cancels while each call of an Open is under way.
func TestCancelAtEveryCall(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	id := f.State().VM.Disks[0].ID
	canceled := 0
	for i := range 11 { // more than an open has
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
		r, err := f.Open(ctx, id)
		if err == nil {
			e.close(r)
		} else if canceled++; transfer.KindOf(err) != transfer.Canceled {
			t.Errorf("cancelled in call %d: %v (%v)", i, err, transfer.KindOf(err))
		}
		cancel()
		<-done
		if left := e.v.State().Attached; len(left) != 0 {
			t.Fatalf("cancelled in call %d: %+v is left", i, left)
		}
	}
	if canceled < 5 {
		t.Errorf("only %d of the opens were cancelled", canceled)
	}
	e.faults.Clear()
	e.release(f)
	e.clean()
}

// TestLostAnswers: the effect is found out by looking, not by asking again.
func TestLostAnswers(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	e.faults.Add(fault.Rule{Op: reconfigure, Kind: fault.LostAnswer})
	r := e.openDisk(f, 0)
	e.same(f, 0, r)
	e.faults.Add(fault.Rule{Name: "detach", Op: reconfigure, Kind: fault.LostAnswer})
	e.close(r)
	e.faults.Add(fault.Rule{Name: "cut", Op: reconfigure, Kind: fault.Cut})
	if r, err := f.Open(e.ctx, f.State().VM.Disks[0].ID); err == nil {
		e.close(r)
		t.Error("an attach that never arrived succeeded")
	} else if transfer.KindOf(err) != transfer.Retry {
		t.Error(err)
	}
	if left := e.faults.Unfired(); len(left) > 0 {
		t.Errorf("did not fire: %v", left)
	}
	e.release(f)
	e.clean()
}

func TestSessionsDieWhileAttached(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	e.v.KillSessions()
	r := e.openDisk(f, 0)
	e.v.KillSessions()
	e.same(f, 0, r)
	e.close(r)
	e.v.KillSessions()
	e.release(f)
	e.clean()
}

// TestLeftBehind: what a crash left is found by its mark, and only that.
func TestLeftBehind(t *testing.T) {
	e := start(t)
	crashed := e.open()
	f := e.freeze(e.vm("app01", mib), crashed)
	r := e.openDisk(f, 0)
	if own, err := crashed.Attached(e.ctx); err != nil || len(own) != 1 || !own[0].Live {
		t.Fatalf("%+v, %v", own, err)
	} else if err := crashed.Detach(e.ctx, own[0]); err == nil {
		t.Fatal("detached a disk that is being read")
	}

	next := e.open() // a new process
	left, err := next.Attached(e.ctx)
	if err != nil || len(left) != 1 || left[0].Live || left[0].Gone {
		t.Fatalf("%+v, %v", left, err)
	}
	state := f.State()
	if m := left[0].Mark; m.Appliance != "appliance-1" || m.VM != state.VM.ID.Moref || m.Disk != state.VM.Disks[0].ID ||
		m.File != state.VM.Disks[0].File || !strings.HasSuffix(state.SnapshotName, string(m.Cycle)) {
		t.Errorf("the mark says %+v", m)
	}
	if err := next.Detach(e.ctx, left[0]); err != nil {
		t.Fatal(err)
	}
	if err := next.Detach(e.ctx, left[0]); err != nil {
		t.Errorf("again: %v", err)
	}
	e.close(r) // the old reader finds it gone
	e.release(f)
	e.clean()
}

// TestUnmarkedIsNotTouched: a disk whose mark is not there may be anybody's.
func TestUnmarkedIsNotTouched(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	r := e.openDisk(f, 0)
	var key, mark string
	st, _ := e.v.State().VM("appliance")
	for k, v := range st.ExtraConfig {
		if strings.HasPrefix(k, "snapferry") {
			key, mark = k, v
		}
	}
	e.setOption(key, "")
	err := r.Close(e.ctx)
	if err == nil || !strings.Contains(err.Error(), "does not carry our mark") || transfer.KindOf(err) != transfer.Permanent {
		t.Errorf("closed a disk without a mark: %v", err)
	}
	if n := len(e.v.State().Attached); n != 1 {
		t.Errorf("%d disks are attached, want the one without a mark", n)
	}
	e.setOption(key, mark)
	e.close(r)
	e.release(f)
	e.clean()
}

// setOption is somebody's hand in the appliance's advanced settings.
func (e *env) setOption(key, value string) {
	e.Helper()
	res, err := methods.ReconfigVM_Task(e.ctx, e.c.VIM(), &types.ReconfigVM_Task{This: e.appliance.Ref(),
		Spec: types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}}}})
	if err == nil {
		_, err = e.c.Await(e.ctx, res.Returnval)
	}
	if err != nil {
		e.Fatal(err)
	}
}

func TestRefusedBeforeAttaching(t *testing.T) {
	e := start(t)
	a := e.open()
	f := e.freeze(e.addVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib, Datastore: "vmfs2"}}}), a)
	if err := e.v.HideDatastore("vmfs2", e.v.Hosts()[0]); err != nil {
		t.Fatal(err)
	}
	before := e.v.Calls()[reconfigure]
	_, err := f.Open(e.ctx, f.State().VM.Disks[0].ID)
	if err == nil || !strings.Contains(err.Error(), "does not see the datastore") || transfer.HintOf(err) == "" {
		t.Error(err)
	}
	if e.v.Calls()[reconfigure] != before {
		t.Error("it was attached first")
	}
	e.release(f)
	e.clean()
}

func TestPrivilegesAreNamed(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	for _, p := range []string{"VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AdvancedConfig"} {
		e.v.Deny(p)
		_, err := f.Open(e.ctx, f.State().VM.Disks[0].ID)
		if err == nil || !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), e.appliance.Moref()) || transfer.KindOf(err) != transfer.Permanent {
			t.Errorf("%s: %v", p, err)
		}
		e.v.Allow(p)
	}
	e.release(f)
	e.clean()
}

func TestIDEIsRefusedBeforeTheFreeze(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "old", Disks: []vcenter.DiskSpec{{Size: mib}, {Size: mib, Controller: vcenter.IDE}, {Size: mib, Backing: vcenter.RDMVirtual}}})
	got, err := e.c.Source(transfer.VMID{VCenter: e.v.InstanceUUID(), Moref: vm.Moref()}, vsphere.Options{Reader: e.open()}).Inspect(e.ctx)
	if err != nil {
		t.Fatal(err)
	}
	obstacles := map[string]int{}
	for _, d := range got.Disks {
		obstacles[d.Backing] += len(d.Obstacles)
		if d.ID.Key >= 3000 && len(d.Obstacles) != 1 {
			t.Errorf("IDE: %+v", d.Obstacles)
		}
	}
	if obstacles["rdm-virtual"] != 1 || obstacles["flat"] != 1 {
		t.Errorf("obstacles by backing: %v", obstacles)
	}
}

func TestFindsItself(t *testing.T) {
	e := start(t)
	e.vm("appliance2", mib)
	for _, name := range []string{"", "appliance", e.appliance.Moref(), e.appliance.InstanceUUID()} {
		cfg := e.config()
		cfg.Appliance = name
		e.open(cfg)
	}
	cfg := e.config()
	cfg.Appliance = "appliance2"
	if _, err := hotadd.New(e.ctx, e.c, cfg); err == nil || !strings.Contains(err.Error(), "runs in another VM") {
		t.Errorf("another VM: %v", err)
	}
	cfg = e.config()
	cfg.SysfsDir = t.TempDir()
	if _, err := hotadd.New(e.ctx, e.c, cfg); err == nil || !strings.Contains(transfer.HintOf(err), "appliance.vm") {
		t.Errorf("no VM at all: %v", err)
	}
	e.addVM(vcenter.VMSpec{Name: "clone", BIOSUUID: e.appliance.BIOSUUID()})
	if _, err := hotadd.New(e.ctx, e.c, e.config()); err == nil || !strings.Contains(err.Error(), "clones") {
		t.Errorf("a clone: %v", err)
	}
}
