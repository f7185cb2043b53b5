package hotadd_test

import (
	"strings"
	"testing"

	"snapferry/transfer"
	"snapferry/vsphere/hotadd"
)

// only returns the one disk that is found.
func (e *env) only(l hotadd.Leftovers, everywhere bool) transfer.MarkedDisk {
	e.Helper()
	disks, err := l.Disks(e.ctx, everywhere)
	if err != nil || len(disks) != 1 {
		e.Fatalf("disks, everywhere %v: %+v, %v", everywhere, disks, err)
	}
	return disks[0]
}

func (e *env) none(l hotadd.Leftovers) {
	e.Helper()
	if disks, err := l.Disks(e.ctx, true); err != nil || len(disks) != 0 {
		e.Errorf("disks: %+v, %v", disks, err)
	}
}

func TestLeftoversOfTheApplianceItself(t *testing.T) {
	e := start(t)
	crashed := e.open()
	f := e.freeze(e.vm("app01", mib), crashed)
	e.openDisk(f, 0)
	if d := e.only(hotadd.Leftovers{Client: e.c, Appliance: crashed}, false); !d.Live {
		t.Errorf("open in this process: %+v", d)
	}
	l := hotadd.Leftovers{Client: e.c, Appliance: e.open()} // a new process
	d := e.only(l, true)                                    // once, not twice
	state := f.State()
	if d.Live || d.VM != state.VM.ID || d.Disk != state.VM.Disks[0].ID || d.File != state.VM.Disks[0].File || d.Holder != e.appliance.Moref() ||
		d.Appliance != "appliance-1" || !strings.HasSuffix(state.SnapshotName, string(d.Cycle)) {
		t.Errorf("%+v", d)
	}
	other := d
	other.Cycle = "another"
	if err := l.Detach(e.ctx, other); err != nil {
		t.Error(err)
	}
	if n := len(e.v.State().Attached); n != 1 {
		t.Errorf("%d disks are attached: one with another mark was detached", n)
	}
	for range 2 { // and again, when it is gone
		if err := l.Detach(e.ctx, d); err != nil {
			t.Error(err)
		}
	}
	e.none(l)
	snapshots, err := l.Snapshots(e.ctx, nil)
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("%+v, %v", snapshots, err)
	}
	for range 2 {
		if err := l.Remove(e.ctx, snapshots[0]); err != nil {
			t.Error(err)
		}
	}
	e.clean()
}

// TestLeftoversOfAnotherVM: the appliance that attached it is gone, and its VM
// is off.
func TestLeftoversOfAnotherVM(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	e.openDisk(f, 0)
	if err := e.appliance.PowerOff(); err != nil {
		t.Fatal(err)
	}
	l := hotadd.Leftovers{Client: e.c}
	if disks, err := l.Disks(e.ctx, false); err != nil || len(disks) > 0 {
		t.Errorf("not everywhere: %+v, %v", disks, err)
	}
	d := e.only(l, true)
	if d.Holder != e.appliance.Moref() || d.File != f.State().VM.Disks[0].File || d.Live {
		t.Errorf("%+v", d)
	}
	other := d
	other.Appliance = "appliance-9"
	if err := l.Detach(e.ctx, other); err != nil {
		t.Error(err)
	}
	if n := len(e.v.State().Attached); n != 1 {
		t.Errorf("%d disks are attached: one with another mark was detached", n)
	}
	for range 2 {
		if err := l.Detach(e.ctx, d); err != nil {
			t.Error(err)
		}
	}
	e.none(l)
	snapshots, err := l.Snapshots(e.ctx, nil)
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("%+v, %v", snapshots, err)
	}
	if err := l.Remove(e.ctx, snapshots[0]); err != nil {
		t.Error(err)
	}
	e.clean()
}

// TestLeftoversOfAMarkWithoutItsDisk: somebody took the disk off, or put another
// one in its place.
func TestLeftoversOfAMarkWithoutItsDisk(t *testing.T) {
	e := start(t)
	l := hotadd.Leftovers{Client: e.c}
	const key = "snapferry.disk.1001:3"
	e.setOption(key, `{"appliance":"appliance-1","cycle":"c","vm":"vm-1","disk":{"key":2000,"uuid":"u"},"file":"[ds] x.vmdk"}`)
	e.setOption("snapferry.disk.1001:4", "no mark")
	if err := l.Detach(e.ctx, e.only(l, true)); err != nil {
		t.Error(err)
	}
	e.none(l)
	st, _ := e.v.State().VM("appliance")
	if _, there := st.ExtraConfig[key]; there {
		t.Error("the mark is still there")
	}
}
