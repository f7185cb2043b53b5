package vsphere

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func plainVM() mo.VirtualMachine {
	disk := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2000, ControllerKey: 1000, UnitNumber: new(int32(0)),
		Backing: &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent", Uuid: "6000C29a"}}}
	vm := mo.VirtualMachine{Config: &types.VirtualMachineConfigInfo{Version: "vmx-07"}}
	vm.Config.Hardware.Device = []types.BaseVirtualDevice{disk}
	vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateConnected
	return vm
}

func TestObstaclesOfAVM(t *testing.T) {
	if o := Obstacles(plainVM()); len(o) != 0 {
		t.Fatalf("a plain VM has %+v", o)
	}
	for words, change := range map[string]func(*mo.VirtualMachine){
		"template": func(vm *mo.VirtualMachine) { vm.Config.Template = true },
		"disconnected": func(vm *mo.VirtualMachine) {
			vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateDisconnected
		},
		"inaccessible": func(vm *mo.VirtualMachine) {
			vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateInaccessible
		},
		"no configuration":   nil,
		"hardware version 6": func(vm *mo.VirtualMachine) { vm.Config.Version = "vmx-06" },
		"Fault Tolerance": func(vm *mo.VirtualMachine) {
			vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateDisabled
		},
		"encrypted":     func(vm *mo.VirtualMachine) { vm.Config.KeyId = &types.CryptoKeyId{KeyId: "k"} },
		"consolidation": func(vm *mo.VirtualMachine) { vm.Runtime.ConsolidationNeeded = true },
		"shares its bus": func(vm *mo.VirtualMachine) {
			vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualNVMEController{SharedBus: "physicalSharing"})
		},
		"virtualSharing": func(vm *mo.VirtualMachine) {
			c := &types.ParaVirtualSCSIController{}
			c.SharedBus = types.VirtualSCSISharingVirtualSharing
			vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, c)
		},
		"passthrough": func(vm *mo.VirtualMachine) {
			vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualPCIPassthrough{})
		},
	} {
		vm := plainVM()
		if change == nil {
			vm.Config = nil
		} else {
			change(&vm)
		}
		if o := Obstacles(vm); len(o) != 1 || !strings.Contains(o[0].Reason, words) || o[0].Remedy == "" {
			t.Errorf("%s: %+v", words, o)
		}
	}
}

func TestObstaclesOfADisk(t *testing.T) {
	file := types.VirtualDeviceFileBackingInfo{FileName: "[ds] vm/vm.vmdk"}
	for words, b := range map[string]types.BaseVirtualDeviceBackingInfo{
		"independent_persistent":    &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "independent_persistent", Uuid: "u"},
		"independent_nonpersistent": &types.VirtualDiskSeSparseBackingInfo{DiskMode: "independent_nonpersistent", Uuid: "u"},
		"mode is nonpersistent":     &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "nonpersistent", Uuid: "u"},
		"mode is undoable":          &types.VirtualDiskSparseVer2BackingInfo{DiskMode: "undoable", Uuid: "u"},
		"physical mode":             &types.VirtualDiskRawDiskMappingVer1BackingInfo{CompatibilityMode: "physicalMode", DiskMode: "independent_persistent", Uuid: "u"},
		"first VMDK version":        &types.VirtualDiskSparseVer1BackingInfo{DiskMode: "persistent", VirtualDeviceFileBackingInfo: file},
		"persistent memory":         &types.VirtualDiskLocalPMemBackingInfo{DiskMode: "persistent", Uuid: "u"},
		"multi-writer":              &types.VirtualDiskRawDiskVer2BackingInfo{Sharing: "sharingMultiWriter", Uuid: "u"},
		"encrypted":                 &types.VirtualDiskSeSparseBackingInfo{DiskMode: "persistent", Uuid: "u", KeyId: &types.CryptoKeyId{}},
		"no UUID":                   &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent"},
		"not known":                 &types.VirtualCdromIsoBackingInfo{},
	} {
		if o := diskObstacles(viewBacking(b)); len(o) != 1 || !strings.Contains(o[0].Reason, words) {
			t.Errorf("%s: %+v", words, o)
		}
	}
	for _, b := range []types.BaseVirtualDeviceBackingInfo{
		&types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent", Uuid: "u", Sharing: "sharingNone"}, &types.VirtualDiskSeSparseBackingInfo{DiskMode: "persistent", Uuid: "u"},
		&types.VirtualDiskSparseVer2BackingInfo{DiskMode: "persistent", Uuid: "u"}, &types.VirtualDiskRawDiskMappingVer1BackingInfo{CompatibilityMode: "virtualMode", DiskMode: "persistent", Uuid: "u"},
		&types.VirtualDiskPartitionedRawDiskVer2BackingInfo{VirtualDiskRawDiskVer2BackingInfo: types.VirtualDiskRawDiskVer2BackingInfo{Uuid: "u"}},
	} {
		if o := diskObstacles(viewBacking(b)); len(o) != 0 {
			t.Errorf("%T: %+v", b, o)
		}
	}
}

func TestIndependentMultiWriterIsTheDisksOwn(t *testing.T) {
	vm := plainVM()
	vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2001,
		Backing: &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "independent_persistent", Sharing: "sharingMultiWriter", Uuid: "u"}}})
	if o := Obstacles(vm); len(o) != 0 {
		t.Errorf("the VM: %+v", o)
	}
	if d := describeDisks(vm.Config.Hardware.Device); len(d[1].Obstacles) != 2 {
		t.Errorf("the disk: %+v", d[1].Obstacles)
	}
}

func TestChainOfBackings(t *testing.T) {
	one, two := types.ManagedObjectReference{Value: "ds-1"}, types.ManagedObjectReference{Value: "ds-2"}
	d := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 2000, Backing: &types.VirtualDiskSeSparseBackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[b] vm/vm-000001.vmdk", Datastore: &two}, Uuid: "6000C29A", ChangeId: "e/2",
		Parent: &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[a] vm/vm.vmdk", Datastore: &one}}}},
		CapacityInKB: 3}
	got := describeDisks([]types.BaseVirtualDevice{d})[0]
	if got.Datastore != "a" || got.File != "[b] vm/vm-000001.vmdk" || got.ChangeID != "e/2" || got.Size != 3<<10 || got.ID.UUID != "6000c29a" {
		t.Errorf("%+v", got)
	}
	if s := viewBacking(d.Backing).stores(); len(s) != 2 || s[0] != "ds-2" || s[1] != "ds-1" {
		t.Errorf("datastores %v", s)
	}
	if file, uuid := DiskFile(d); file != got.File || uuid != "6000c29a" {
		t.Errorf("%s, %s", file, uuid)
	}
}
