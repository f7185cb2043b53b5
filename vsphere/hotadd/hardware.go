package hotadd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/vsphere"
)

// hardware is the appliance VM as vCenter has it now.
type hardware struct {
	version    string // config.changeVersion: a reconfiguration must be based on it
	biosUUID   string
	cbt        bool
	enableUUID bool
	buses      map[int32]bus // PVSCSI controllers by key
	disks      []attachedDisk
	taken      map[slot]bool // units in use, by anything
	marks      map[slot]Mark
	host       string
	stores     map[string]store // what the host sees, by moref
	home       string           // name of the datastore of its own files
}

type bus struct {
	number  int32
	ownUnit int32
	pciSlot string // as in /sys/bus/pci/slots, empty if unknown
}

type attachedDisk struct {
	slot  slot
	key   int32
	label string
	file  string
	uuid  string // lower case
}

type store struct{ name, kind string }

// unitsPerBus: 0 to 15, of which one is the controller's own.
const unitsPerBus = 16

// fetch reads the appliance, its host and what that sees, in one call.
func (a *Appliance) fetch(ctx context.Context) (*hardware, error) {
	host := &types.TraversalSpec{Type: "VirtualMachine", Path: "runtime.host", SelectSet: []types.BaseSelectionSpec{
		&types.TraversalSpec{Type: "HostSystem", Path: "datastore"}}}
	content, err := mo.RetrievePropertiesEx(ctx, a.c.VIM(), types.RetrievePropertiesEx{
		This: a.c.VIM().ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: a.vm, SelectSet: []types.BaseSelectionSpec{host}}},
			PropSet: []types.PropertySpec{
				{Type: "VirtualMachine", PathSet: []string{"config.changeVersion", "config.uuid", "config.changeTrackingEnabled",
					"config.hardware.device", "config.extraConfig", "config.files.vmPathName"}},
				{Type: "HostSystem", PathSet: []string{"name"}},
				{Type: "Datastore", PathSet: []string{"name", "summary.type"}},
			},
		}},
	})
	if err != nil {
		return nil, err
	}
	h := &hardware{stores: map[string]store{}}
	for _, o := range content {
		for _, m := range o.MissingSet {
			return nil, task.Error{LocalizedMethodFault: &m.Fault}
		}
		loaded, err := mo.ObjectContentToType(o)
		if err != nil {
			return nil, err
		}
		switch v := loaded.(type) {
		case mo.VirtualMachine:
			if v.Config == nil {
				return nil, fmt.Errorf("vCenter has no configuration of it")
			}
			h.read(v.Config)
		case mo.HostSystem:
			h.host = v.Name
		case mo.Datastore:
			h.stores[v.Self.Value] = store{v.Name, v.Summary.Type}
		}
	}
	return h, nil
}

// read takes over what a VM's configuration says. It is pure.
func (h *hardware) read(c *types.VirtualMachineConfigInfo) {
	options := map[string]string{}
	for _, o := range c.ExtraConfig {
		if v := o.GetOptionValue(); v != nil {
			options[strings.ToLower(v.Key)] = fmt.Sprint(v.Value)
		}
	}
	h.version, h.biosUUID = c.ChangeVersion, c.Uuid
	h.cbt = c.ChangeTrackingEnabled != nil && *c.ChangeTrackingEnabled
	h.enableUUID = strings.EqualFold(options["disk.enableuuid"], "TRUE")
	h.home = homeOf(c)
	h.readDevices(c.Hardware.Device, options)
	h.marks = map[slot]Mark{}
	for key, value := range options {
		if controller, unit, m, ok := readMark(key, value); ok {
			h.marks[slot{controller, h.buses[controller].number, unit}] = m
		}
	}
}

// homeOf is the name of the datastore of a VM's own files.
func homeOf(c *types.VirtualMachineConfigInfo) string {
	var home object.DatastorePath
	home.FromString(c.Files.VmPathName)
	return home.Datastore
}

func (h *hardware) readDevices(devices []types.BaseVirtualDevice, options map[string]string) {
	h.buses, h.taken, h.disks = map[int32]bus{}, map[slot]bool{}, nil
	for _, d := range devices {
		c, ok := d.(*types.ParaVirtualSCSIController)
		if !ok {
			continue
		}
		b := bus{number: c.BusNumber, ownUnit: cmp.Or(c.ScsiCtlrUnitNumber, 7), pciSlot: options[fmt.Sprintf("scsi%d.pcislotnumber", c.BusNumber)]}
		if info, ok := c.SlotInfo.(*types.VirtualDevicePciBusSlotInfo); ok && b.pciSlot == "" {
			b.pciSlot = fmt.Sprint(info.PciSlotNumber)
		}
		h.buses[c.Key] = b
	}
	for _, d := range devices {
		v := d.GetVirtualDevice()
		at := slot{controller: v.ControllerKey, bus: h.buses[v.ControllerKey].number}
		if v.UnitNumber != nil {
			at.unit = *v.UnitNumber
			h.taken[at] = true
		}
		if disk, ok := d.(*types.VirtualDisk); ok {
			a := attachedDisk{slot: at, key: v.Key}
			a.file, a.uuid = vsphere.DiskFile(disk)
			if v.DeviceInfo != nil {
				a.label = v.DeviceInfo.GetDescription().Label
			}
			h.disks = append(h.disks, a)
		}
	}
}

// freeSlot is a free slot on the PVSCSI controller with the most of them, so
// that disks that are read side by side have a queue each.
func (h *hardware) freeSlot() (slot, bool) {
	var best slot
	most := 0
	keys := make([]int32, 0, len(h.buses))
	for key := range h.buses {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b := h.buses[key]
		first, free := int32(-1), 0
		for unit := range int32(unitsPerBus) {
			if unit == 7 || unit == b.ownUnit || h.taken[slot{key, b.number, unit}] {
				continue
			}
			if free++; first < 0 {
				first = unit
			}
		}
		if free > most {
			best, most = slot{key, b.number, first}, free
		}
	}
	return best, most > 0
}

// diskAt is the disk in a slot.
func (h *hardware) diskAt(s slot) (attachedDisk, bool) {
	i := slices.IndexFunc(h.disks, func(d attachedDisk) bool { return d.slot == s })
	if i < 0 {
		return attachedDisk{}, false
	}
	return h.disks[i], true
}

// isConflict: the configuration changed between our look and our change.
func isConflict(err error) bool { return err != nil && fault.Is(err, &types.ConcurrentAccess{}) }
