package vsphere_test

import (
	"reflect"
	"testing"

	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

func TestStopTracking(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib, mib)
	f := e.freeze(vm)
	wants(t, e.c.StopTracking(e.ctx, e.id(vm)), transfer.Permanent, "has 1 snapshot, beside which", "Delete")
	e.release(f)
	e.v.ResetCalls()
	e.v.Deny("VirtualMachine.Config.ChangeTracking")
	wants(t, e.c.StopTracking(e.ctx, e.id(vm)), transfer.Permanent, "VirtualMachine.Config.ChangeTracking", "Grant")
	e.v.Allow("VirtualMachine.Config.ChangeTracking")
	for range 2 {
		if err := e.c.StopTracking(e.ctx, e.id(vm)); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.v.Calls()["ReconfigVM_Task"]; n != 2 { // the refused one too
		t.Errorf("%d reconfigurations", n)
	}
	now, err := e.c.Inspect(e.ctx, e.id(vm))
	if err != nil || now.CBT {
		t.Errorf("%v; CBT: %v", err, now.CBT)
	}
	if vm.ExtraConfig()["ctkEnabled"] != "TRUE" {
		t.Error("a running VM stopped tracking before its next stun")
	}
	if _, err := vm.TakeSnapshot("stun"); err != nil {
		t.Fatal(err)
	}
	if c := vm.ExtraConfig(); c["ctkEnabled"] != "FALSE" || c["scsi0:1.ctkEnabled"] != "FALSE" {
		t.Errorf("it still tracks: %v", c)
	}
	off := e.addVM(vcenter.VMSpec{Name: "off", CBT: true, PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	if err := e.c.StopTracking(e.ctx, e.id(off)); err != nil || off.ExtraConfig()["ctkEnabled"] != "FALSE" {
		t.Errorf("of a VM that is off: %v, %v", err, off.ExtraConfig())
	}
}

func TestNICs(t *testing.T) {
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "app", NICs: []vcenter.NICSpec{
		{MAC: "00:50:56:AA:BB:01", IPs: []string{"10.1.2.3/16", "fe80::1", "2001:db8::7", "10.1.2.4"}},
		{Network: "dv prod/a", Distributed: true, Disconnected: true, IPs: []string{"169.254.3.4"}},
		{Network: "backup", MAC: "00:50:56:aa:bb:03"},
	}})
	want := []vsphere.NIC{
		{Label: "Network adapter 1", MAC: "00:50:56:aa:bb:01", Network: "VM Network", Connected: true, IPv4: []string{"10.1.2.3", "10.1.2.4"}, IPv6: []string{"2001:db8::7"}},
		{Label: "Network adapter 2", Network: "dv prod/a"},
		{Label: "Network adapter 3", MAC: "00:50:56:aa:bb:03", Network: "backup", Connected: true},
	}
	check := func(when string) {
		t.Helper()
		got, err := e.c.NICs(e.ctx, e.id(vm))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 3 && got[1].MAC != "" {
			got[1].MAC = "" // the simulator's own
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", when, got, want)
		}
	}
	e.v.ResetCalls()
	check("running")
	if n, calls := sum(e.v.Calls()); n != 1 {
		t.Errorf("%d calls:%s", n, calls)
	}
	want[0].IPv4, want[0].IPv6 = nil, nil
	vm.SetTools(vcenter.ToolsStopped)
	check("without Tools")
	vm.SetTools(vcenter.ToolsRun)
	if err := vm.PowerOff(); err != nil {
		t.Fatal(err)
	}
	check("off")
	if _, err := e.c.NICs(e.ctx, transfer.VMID{VCenter: e.v.InstanceUUID(), Moref: "vm-999"}); err == nil {
		t.Error("no error for a VM that does not exist")
	}
}

func TestGuestTools(t *testing.T) {
	e := start(t)
	vm := e.vm("app", mib)
	check := func(run bool, text string) {
		t.Helper()
		if r, s, err := e.c.GuestTools(e.ctx, e.id(vm)); err != nil || r != run || s != text {
			t.Errorf("%v, %q, %v; want %v, %q", r, s, err, run, text)
		}
	}
	check(true, "VMware Tools 12389 run")
	vm.SetTools(vcenter.ToolsStopped)
	check(false, "VMware Tools 12389 do not run")
	vm.SetTools(vcenter.ToolsAbsent)
	check(false, "VMware Tools are not installed")
	if err := vm.Suspend(); err != nil {
		t.Fatal(err)
	}
	check(false, "the VM is suspended")
	if err := vm.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if err := vm.PowerOff(); err != nil {
		t.Fatal(err)
	}
	check(false, "the VM is off")
}
