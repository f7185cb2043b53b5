package vcenter

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// slot is where a disk hangs.
type slot struct {
	key, controller, unit int32
}

// scsiUnits is how many units a SCSI controller has, its own (7) included.
const (
	scsiUnits = 16
	ownUnit   = 7
)

// pvscsiSlots are the PCI slot numbers ESXi gives the four SCSI controllers.
var pvscsiSlots = []int32{160, 192, 224, 256}

// rig hands out controllers and slots while a VM is put together.
type rig struct {
	devices  object.VirtualDeviceList
	disks    []types.BaseVirtualDevice
	extra    []types.BaseOptionValue
	byName   map[string]types.BaseVirtualController
	nextUnit map[int32]int32
	scsi     int32 // SCSI buses so far
}

// addHardware gives the VM controllers, disks and a network card.
func (vm *VM) addHardware() error {
	r := &rig{devices: slices.Clone(object.VirtualDeviceList(vm.sim().Config.Hardware.Device)),
		byName: map[string]types.BaseVirtualController{}, nextUnit: map[int32]int32{}}
	for i, spec := range vm.spec.Disks {
		s, err := r.place(spec)
		if err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
		d, err := vm.newDisk(i, spec, s)
		if err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
		vm.v.mu.Lock()
		vm.disks[d.key] = d
		vm.v.mu.Unlock()
		r.disks = append(r.disks, d.device(d.top, d.size, ""))
	}
	if vm.spec.PCIPassthrough {
		r.devices = append(r.devices, passthrough())
	}
	r.devices = slices.Concat(r.devices, r.disks, vm.networkCards())
	vm.setHardware(r.devices, r.extra)
	return nil
}

// place returns the next free slot on a controller of the kind that spec asks for.
func (r *rig) place(spec DiskSpec) (slot, error) {
	name := spec.Controller + "/" + spec.BusSharing
	c := r.byName[name]
	if c == nil {
		var err error
		if c, err = r.newController(spec.Controller, spec.BusSharing); err != nil {
			return slot{}, err
		}
		r.byName[name] = c
	}
	base := c.GetVirtualController()
	unit := r.nextUnit[base.Key]
	if unit == ownUnit && (spec.Controller == PVSCSI || spec.Controller == LSILogic) {
		unit++
	}
	r.nextUnit[base.Key] = unit + 1
	return slot{key: diskKey(c, unit), controller: base.Key, unit: unit}, nil
}

func (r *rig) newController(kind, sharing string) (types.BaseVirtualController, error) {
	switch kind {
	case PVSCSI, LSILogic:
		if int(r.scsi) == len(pvscsiSlots) {
			return nil, fmt.Errorf("more than %d SCSI controllers", len(pvscsiSlots))
		}
		c := newSCSI(kind, r.scsi, sharing)
		r.extra = append(r.extra,
			&types.OptionValue{Key: fmt.Sprintf("scsi%d.pciSlotNumber", r.scsi), Value: fmt.Sprint(pvscsiSlots[r.scsi])})
		r.scsi++
		r.devices = append(r.devices, c.(types.BaseVirtualDevice))
		return c, nil
	case SATA:
		c := &types.VirtualAHCIController{}
		c.Key, c.DeviceInfo, c.ControllerKey, c.UnitNumber = 15000, &types.Description{Label: "SATA controller 0", Summary: "AHCI"}, 100, types.NewInt32(24)
		r.devices = append(r.devices, c)
		return c, nil
	case NVMe:
		c := &types.VirtualNVMEController{}
		c.Key, c.DeviceInfo, c.ControllerKey, c.UnitNumber = 31000, &types.Description{Label: "NVME controller 0", Summary: "NVME controller"}, 100, types.NewInt32(30)
		r.devices = append(r.devices, c)
		return c, nil
	default:
		c, ok := r.devices.FindByKey(200).(*types.VirtualIDEController)
		if !ok {
			return nil, fmt.Errorf("no IDE controller")
		}
		return c, nil
	}
}

// newSCSI makes SCSI controller number bus, with the key that vSphere gives it.
func newSCSI(kind string, bus int32, sharing string) types.BaseVirtualController {
	setDefault(&sharing, string(types.VirtualSCSISharingNoSharing))
	s := types.VirtualSCSIController{
		VirtualController: types.VirtualController{
			VirtualDevice: types.VirtualDevice{
				Key: 1000 + bus, ControllerKey: 100, UnitNumber: types.NewInt32(3 + bus),
				DeviceInfo: &types.Description{Label: fmt.Sprintf("SCSI controller %d", bus), Summary: kind},
				SlotInfo:   &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: pvscsiSlots[bus]},
			},
			BusNumber: bus,
		},
		HotAddRemove: types.NewBool(true), SharedBus: types.VirtualSCSISharing(sharing), ScsiCtlrUnitNumber: ownUnit,
	}
	if kind == LSILogic {
		return &types.VirtualLsiLogicController{VirtualSCSIController: s}
	}
	return &types.ParaVirtualSCSIController{VirtualSCSIController: s}
}

// diskKey is the key that vSphere gives a disk by its place.
func diskKey(c types.BaseVirtualController, unit int32) int32 {
	bus := c.GetVirtualController().BusNumber
	switch c.(type) {
	case types.BaseVirtualSCSIController:
		return 2000 + bus*16 + unit
	case *types.VirtualAHCIController, types.BaseVirtualSATAController:
		return 16000 + bus*30 + unit
	case *types.VirtualNVMEController:
		return 32000 + bus*64 + unit
	default:
		return 3000 + bus*2 + unit
	}
}

func passthrough() types.BaseVirtualDevice {
	d := &types.VirtualPCIPassthrough{}
	d.Key, d.ControllerKey, d.UnitNumber = 13000, 100, types.NewInt32(18)
	d.DeviceInfo = &types.Description{Label: "PCI device 0", Summary: "passthrough"}
	d.Backing = &types.VirtualPCIPassthroughDeviceBackingInfo{Id: "0000:3b:00.0", DeviceId: "1db6", SystemId: "BYPASS", VendorId: 0x10de}
	return d
}

// setHardware publishes the device list and adds to extraConfig.
func (vm *VM) setHardware(devices []types.BaseVirtualDevice, extra []types.BaseOptionValue) {
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() {
		all := append(slices.Clone(m.Config.ExtraConfig), extra...)
		ctx.Update(m, []types.PropertyChange{
			{Name: "config.hardware.device", Val: devices},
			{Name: "config.extraConfig", Val: all},
		})
	})
}
