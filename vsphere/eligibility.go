package vsphere

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// minHardware is the first hardware version with changed block tracking (row
// 12 of the CBT table).
const minHardware = 7

// Obstacles says why a VM as a whole cannot be replicated; nothing when it can.
// It is pure and needs the properties that Client.VMs and Source.Inspect fetch.
func Obstacles(vm mo.VirtualMachine) []transfer.Obstacle {
	var all []transfer.Obstacle
	add := func(reason, remedy string) { all = append(all, transfer.Obstacle{Reason: reason, Remedy: remedy}) }
	if s := vm.Runtime.ConnectionState; s != "" && s != types.VirtualMachineConnectionStateConnected {
		add(fmt.Sprintf("vCenter calls it %s", s), "Bring its ESXi host or datastore back, or register the VM again.")
	}
	if vm.Config == nil {
		add("vCenter has no configuration of it", "Bring its ESXi host or datastore back.")
		return all
	}
	if vm.Config.Template {
		add("it is a template", "Deploy a VM from it, or convert it to a virtual machine.")
	}
	if n, ok := hardwareVersion(vm.Config.Version); ok && n < minHardware {
		add(fmt.Sprintf("its hardware version %d has no changed block tracking", n), "Upgrade the VM's compatibility to version 7 or later.")
	}
	if s := vm.Runtime.FaultToleranceState; (s != "" && s != types.VirtualMachineFaultToleranceStateNotConfigured) || vm.Config.FtInfo != nil {
		add("it is protected by Fault Tolerance, which allows no changed block tracking", "Turn Fault Tolerance off for it.")
	}
	if vm.Config.KeyId != nil {
		add("it is encrypted by vSphere: only an encrypted appliance with Cryptographer privileges could attach its disks", "Decrypt the VM (storage policy without encryption).")
	}
	if vm.Runtime.ConsolidationNeeded {
		add(reasonConsolidate, hintConsolidate)
	}
	return append(all, deviceObstacles(vm)...)
}

const (
	reasonConsolidate = "its disks need consolidation after an earlier snapshot removal"
	hintConsolidate   = "In the vSphere Client: Snapshots > Consolidate. If that fails, look for a backup proxy that still holds a disk of it."
)

// deviceObstacles are devices because of which vSphere refuses every snapshot
// of the VM, so that leaving their disks out does not help.
func deviceObstacles(vm mo.VirtualMachine) []transfer.Obstacle {
	var all []transfer.Obstacle
	for _, d := range vm.Config.Hardware.Device {
		label := deviceLabel(d)
		switch d := d.(type) {
		case *types.VirtualPCIPassthrough:
			all = append(all, transfer.Obstacle{Reason: label + " is a PCI passthrough device, with which vSphere takes no snapshots",
				Remedy: "Remove the device from the VM."})
		case types.BaseVirtualSCSIController:
			if s := d.GetVirtualSCSIController().SharedBus; s != "" && s != types.VirtualSCSISharingNoSharing {
				all = append(all, busSharing(label, string(s)))
			}
		case *types.VirtualNVMEController:
			if d.SharedBus != "" && d.SharedBus != string(types.VirtualNVMEControllerSharingNoSharing) {
				all = append(all, busSharing(label, d.SharedBus))
			}
		case *types.VirtualDisk:
			if b := viewBacking(d.Backing); b != nil && isMultiWriter(b) && !isIndependent(b.mode) {
				all = append(all, transfer.Obstacle{Reason: label + " is shared with other VMs (multi-writer), so that vSphere takes no snapshots",
					Remedy: "End the sharing, or make the disk independent and leave it out."})
			}
		}
	}
	return all
}

func busSharing(label, mode string) transfer.Obstacle {
	return transfer.Obstacle{Reason: fmt.Sprintf("%s shares its bus with other VMs (%s), so that vSphere takes no snapshots", label, mode),
		Remedy: "Set the controller's bus sharing to none (with the VM off)."}
}

// diskObstacles says why one disk cannot be replicated. It is pure.
func diskObstacles(b *backing) []transfer.Obstacle {
	var all []transfer.Obstacle
	add := func(reason, remedy string) { all = append(all, transfer.Obstacle{Reason: reason, Remedy: remedy}) }
	switch b.kind {
	case kindRDMPhysical:
		add("it is a raw device mapping in physical mode, which has no snapshots", "Change it to virtual compatibility mode, or replicate the LUN by other means.")
		return all // vSphere shows it as independent too
	case kindFlatVer1, kindSparseVer1:
		add("its file is of the first VMDK version, which has no changed block tracking", "Migrate the disk to another datastore, which converts it.")
	case kindPMem:
		add("it is on persistent memory, which has no snapshots", "Migrate the disk to a datastore.")
	case kindUnknown:
		add("its kind of backing is not known to this version", "")
	}
	if isIndependent(b.mode) {
		add("it is independent ("+b.mode+") and therefore not part of snapshots", "Set its mode to dependent (with the VM off).")
	} else if b.mode != "" && b.mode != string(types.VirtualDiskModePersistent) {
		add("its mode is "+b.mode+", which drops or holds back writes", "Set its mode to dependent (with the VM off).")
	}
	if isMultiWriter(b) {
		add("it is shared with other VMs (multi-writer)", "End the sharing.")
	}
	if b.encrypted {
		add("it is encrypted by vSphere", "Decrypt it (storage policy without encryption).")
	}
	if b.uuid == "" && len(all) == 0 {
		add("it has no UUID by which it could be recognized", "Migrate the disk to another datastore, which gives it one.")
	}
	return all
}

func isIndependent(mode string) bool { return strings.HasPrefix(mode, "independent_") }

func isMultiWriter(b *backing) bool {
	return b.sharing != "" && b.sharing != string(types.VirtualDiskSharingSharingNone)
}

// hardwareVersion reads "vmx-19".
func hardwareVersion(s string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "vmx-"))
	return n, err == nil
}

func deviceLabel(d types.BaseVirtualDevice) string {
	v := d.GetVirtualDevice()
	if v.DeviceInfo != nil {
		if l := v.DeviceInfo.GetDescription().Label; l != "" {
			return l
		}
	}
	return fmt.Sprintf("device %d", v.Key)
}
