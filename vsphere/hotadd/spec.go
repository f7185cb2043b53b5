package hotadd

import (
	"github.com/vmware/govmomi/vim25/types"
)

// The specs are built by hand. govmomi's helpers set a file operation: its
// removal deletes the customer's VMDK, its addition creates one. None of these
// ever has one, which a test walks all of them for.

// newKey is the temporary key of the one new device in a spec; any negative
// number is no device's.
const newKey = -1

// attachSpec attaches a frozen link and marks it as ours in one step. There is
// no capacity, no parent and no shares: vSphere takes all from the file.
func attachSpec(version string, s slot, m Mark) types.VirtualMachineConfigSpec {
	return types.VirtualMachineConfigSpec{
		ChangeVersion: version,
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd,
			Device: &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
				Key:           newKey,
				ControllerKey: s.controller,
				UnitNumber:    new(s.unit),
				Backing: &types.VirtualDiskFlatVer2BackingInfo{
					VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: m.File},
					DiskMode:                     string(types.VirtualDiskModeIndependent_nonpersistent),
				},
			}},
		}},
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: markKey(s.controller, s.unit), Value: m.String()}},
	}
}

// detachSpec takes a disk off the appliance, its files stay, and clears the mark.
func detachSpec(version string, d attachedDisk) types.VirtualMachineConfigSpec {
	spec := clearSpec(version, d.slot)
	spec.DeviceChange = []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationRemove,
		Device: &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
			Key:           d.key,
			ControllerKey: d.slot.controller,
			UnitNumber:    new(d.slot.unit),
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: d.file},
				DiskMode:                     string(types.VirtualDiskModeIndependent_nonpersistent),
			},
		}},
	}}
	return spec
}

// clearSpec clears a mark whose disk is gone; an empty value removes the key.
func clearSpec(version string, s slot) types.VirtualMachineConfigSpec {
	return types.VirtualMachineConfigSpec{
		ChangeVersion: version,
		ExtraConfig:   []types.BaseOptionValue{&types.OptionValue{Key: markKey(s.controller, s.unit), Value: ""}},
	}
}
