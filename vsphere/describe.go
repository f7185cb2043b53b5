package vsphere

import (
	"strings"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// describe renders a VM as the core knows it.
func (f *facts) describe(vcenter string, r ref) transfer.VM {
	m := f.vms[r]
	vm := transfer.VM{
		ID:        transfer.VMID{VCenter: vcenter, Moref: r.Value},
		Name:      plainName(m.Name),
		Path:      f.path(r),
		PoweredOn: m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff,
		Obstacles: Obstacles(m),
	}
	if h := m.Runtime.Host; h != nil {
		vm.Host = f.names[*h].name
	}
	if m.ResourcePool != nil { // templates have none
		vm.Pool = f.poolPath(*m.ResourcePool)
	}
	vm.Attributes = f.attributes(m.CustomValue)
	if m.Snapshot != nil {
		vm.Snapshots = countTree(m.Snapshot.RootSnapshotList)
	}
	if err := f.denied[r]; err != nil {
		why := Explain("read the VM", err)
		vm.Obstacles = []transfer.Obstacle{{Reason: why.Error(), Remedy: transfer.HintOf(why)}}
	}
	c := m.Config
	if c == nil {
		return vm
	}
	vm.InstanceUUID = c.InstanceUuid
	vm.CBT = c.ChangeTrackingEnabled != nil && *c.ChangeTrackingEnabled
	vm.Guest = transfer.Guest{ID: c.GuestId, Firmware: c.Firmware, CPUs: int(c.Hardware.NumCPU), MemoryMiB: int64(c.Hardware.MemoryMB)}
	if b := c.BootOptions; b != nil && b.EfiSecureBootEnabled != nil {
		vm.Guest.SecureBoot = *b.EfiSecureBootEnabled
	}
	vm.Disks = describeDisks(c.Hardware.Device)
	allocated := allocation(m.LayoutEx)
	for i := range vm.Disks {
		vm.Disks[i].Allocated = allocated[vm.Disks[i].ID.Key]
	}
	return vm
}

// attributes are a VM's custom attributes by name; nil for none.
func (f *facts) attributes(values []types.BaseCustomFieldValue) map[string]string {
	var all map[string]string
	for _, v := range values {
		s, ok := v.(*types.CustomFieldStringValue)
		if !ok || f.fields[s.Key] == "" || s.Value == "" { // an empty one is one that was cleared
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[f.fields[s.Key]] = s.Value
	}
	return all
}

// describeDisks renders the disks of a device list, live or of a snapshot.
func describeDisks(devices []types.BaseVirtualDevice) []transfer.Disk {
	var disks []transfer.Disk
	for _, d := range virtualDisks(devices) {
		b := viewBacking(d.Backing)
		if b == nil {
			b = &backing{kind: kindUnknown}
		}
		disks = append(disks, transfer.Disk{
			ID:        transfer.DiskID{Key: d.Key, UUID: strings.ToLower(b.uuid)},
			Label:     deviceLabel(d),
			Size:      capacity(d),
			Datastore: datastoreName(b.base().file),
			File:      b.file,
			Backing:   b.kind,
			ChangeID:  transfer.ChangeID(b.changeID),
			Obstacles: diskObstacles(b),
		})
	}
	return disks
}

func virtualDisks(devices []types.BaseVirtualDevice) []*types.VirtualDisk {
	var disks []*types.VirtualDisk
	for _, d := range devices {
		if d, ok := d.(*types.VirtualDisk); ok {
			disks = append(disks, d)
		}
	}
	return disks
}

func findDisk(devices []types.BaseVirtualDevice, id transfer.DiskID) (*types.VirtualDisk, *backing) {
	for _, d := range virtualDisks(devices) {
		if b := viewBacking(d.Backing); d.Key == id.Key && b != nil && strings.EqualFold(b.uuid, id.UUID) {
			return d, b
		}
	}
	return nil, nil
}

// capacity in bytes; vCenter before 5.5 knows only KiB.
func capacity(d *types.VirtualDisk) int64 {
	if d.CapacityInBytes > 0 {
		return d.CapacityInBytes
	}
	return d.CapacityInKB << 10
}

// allocation sums the sizes of each disk's files, by device key.
func allocation(l *types.VirtualMachineFileLayoutEx) map[int32]int64 {
	bytes := map[int32]int64{}
	if l == nil {
		return bytes
	}
	sizes := map[int32]int64{}
	for _, f := range l.File {
		sizes[f.Key] = f.Size
	}
	for _, d := range l.Disk {
		for _, unit := range d.Chain {
			for _, file := range unit.FileKey {
				bytes[d.Key] += sizes[file]
			}
		}
	}
	return bytes
}

// controllerOf names where a disk hangs, "scsi0:3": the prefix of its settings
// in extraConfig. Empty if the controller is not in the list.
func controllerOf(devices []types.BaseVirtualDevice, d *types.VirtualDisk) (kind string, bus int32) {
	for _, c := range devices {
		v, ok := c.(types.BaseVirtualController)
		if !ok || v.GetVirtualController().Key != d.ControllerKey {
			continue
		}
		bus = v.GetVirtualController().BusNumber
		switch c.(type) {
		case types.BaseVirtualSCSIController:
			return ControllerSCSI, bus
		case types.BaseVirtualSATAController:
			return ControllerSATA, bus
		case *types.VirtualNVMEController:
			return ControllerNVMe, bus
		case *types.VirtualIDEController:
			return ControllerIDE, bus
		}
	}
	return "", 0
}

// The kinds of controller a source disk can hang on.
const (
	ControllerSCSI = "scsi"
	ControllerSATA = "sata"
	ControllerNVMe = "nvme"
	ControllerIDE  = "ide"
)

// option looks a setting up in extraConfig; keys differ in case only by whim.
func option(options []types.BaseOptionValue, key string) string {
	for _, o := range options {
		if v := o.GetOptionValue(); strings.EqualFold(v.Key, key) {
			s, _ := v.Value.(string)
			return s
		}
	}
	return ""
}

// plainName decodes what vCenter encodes in names.
func plainName(s string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%").Replace(s)
}

func wrapFault(f types.LocalizedMethodFault) error {
	return task.Error{LocalizedMethodFault: &f}
}

func countTree(list []types.VirtualMachineSnapshotTree) int {
	n := 0
	for range walkTree(list) {
		n++
	}
	return n
}
