package vcenter

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// AddAppliance makes the VM that reads disks: four PVSCSI controllers,
// disk.EnableUUID, a boot disk, powered on. Its guest's view is below GuestDirs,
// that of the first one below SysfsDir and DevDir, too.
func (v *VCenter) AddAppliance(name string) (*VM, error) {
	return v.AddApplianceVM(VMSpec{Name: name})
}

// AddApplianceVM is AddAppliance with a host, a folder and so on of one's
// choice; without disks in the spec it gets a boot disk.
func (v *VCenter) AddApplianceVM(spec VMSpec) (*VM, error) {
	if len(spec.Disks) == 0 {
		spec.Disks = []DiskSpec{{Size: 4 << 20}}
	}
	off := spec.PoweredOff
	spec.PoweredOff = true
	vm, err := v.AddVM(spec)
	if err != nil {
		return nil, fmt.Errorf("add appliance: %w", err)
	}
	vm.addControllers()
	v.mu.Lock()
	dir := "guest"
	if v.appliance == nil {
		v.appliance = vm
	} else {
		dir += "-" + vm.ref.Value
	}
	g := newGuest(vm, filepath.Join(v.opts.Dir, dir))
	v.guests[vm] = g
	v.mu.Unlock()
	v.running.Add(1)
	go func() {
		defer v.running.Done()
		g.watch(v.closed)
	}()
	if off {
		return vm, nil
	}
	if err := vm.PowerOn(); err != nil {
		return nil, fmt.Errorf("add appliance: %w", err)
	}
	return vm, nil
}

// addControllers fills the VM up to four PVSCSI controllers and sets what an
// appliance's configuration needs.
func (vm *VM) addControllers() {
	devices := vm.deviceList()
	extra := []types.BaseOptionValue{&types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"}}
	for bus := range int32(len(pvscsiSlots)) {
		if devices.FindByKey(1000+bus) != nil {
			continue
		}
		devices = append(devices, newSCSI(PVSCSI, bus, "").(types.BaseVirtualDevice))
		extra = append(extra,
			&types.OptionValue{Key: fmt.Sprintf("scsi%d.pciSlotNumber", bus), Value: fmt.Sprint(pvscsiSlots[bus])})
	}
	vm.setHardware(devices, extra)
}

// GuestDirs are an appliance guest's /sys and /dev; empty for any other VM.
func (v *VCenter) GuestDirs(vm *VM) (sysfs, dev string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	g := v.guests[vm]
	if g == nil {
		return "", ""
	}
	return g.sys, g.dev
}

// SysfsDir is the appliance guest's /sys.
func (v *VCenter) SysfsDir() string { return filepath.Join(v.opts.Dir, "guest", "sys") }

// DevDir is the appliance guest's /dev.
func (v *VCenter) DevDir() string { return filepath.Join(v.opts.Dir, "guest", "dev") }

// powerChanged shows a VM's new power state to its guest. It runs with v.ops
// held.
func (v *VCenter) powerChanged(vm *VM) {
	g, on, uuids := v.guestOf(vm)
	if g == nil {
		return
	}
	if !on {
		v.guestError(g.halt())
		return
	}
	v.guestError(g.boot(uuids, vm.biosUUID))
	vm.showBuses(g)
	for _, d := range vm.Disks() {
		v.guestError(g.plug(&guestDevice{key: d.key, bus: d.controller - 1000, unit: d.unit, size: d.Size(), uuid: d.uuid, source: d.topExtent()}))
	}
	v.mu.Lock()
	attached := append([]*attachment{}, v.attached...)
	v.mu.Unlock()
	for _, a := range attached {
		if a.vm == vm {
			v.guestError(v.plug(g, a))
		}
	}
}

func (v *VCenter) guestOf(vm *VM) (g *guest, on, uuids bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	g = v.guests[vm]
	if g == nil {
		return nil, false, false
	}
	return g, vm.powered, vm.enableUUID
}

// showBuses makes every SCSI controller of the VM visible.
func (vm *VM) showBuses(g *guest) {
	for _, dev := range vm.deviceList() {
		if c, ok := dev.(types.BaseVirtualSCSIController); ok {
			vm.v.guestError(g.addBus(c.GetVirtualSCSIController().BusNumber))
		}
	}
}

// showGuest makes what a reconfiguration added appear.
func (p *plan) showGuest() {
	g, on, _ := p.vm.v.guestOf(p.vm)
	if g == nil || !on {
		return
	}
	p.vm.showBuses(g)
	for _, d := range p.newDisks {
		p.vm.v.guestError(g.plug(&guestDevice{key: d.key, bus: d.controller - 1000, unit: d.unit, size: d.Size(), uuid: d.uuid, source: d.topExtent()}))
	}
	for _, a := range p.attach {
		p.vm.v.guestError(p.vm.v.plug(g, a))
	}
}

// plug shows an attached disk. ESXi presents a link and its parents as one
// device: a base is shown as itself, a redo log as a copy of what it stands for.
func (v *VCenter) plug(g *guest, a *attachment) error {
	d := &guestDevice{key: a.key, bus: a.bus, unit: a.unit, size: a.size, uuid: a.uuid}
	switch {
	case a.link == nil:
		s, rel := v.storePath(a.file)
		d.source = strings.TrimSuffix(filepath.Join(s.dir, rel), ".vmdk") + "-flat.vmdk"
	case a.link.parent == nil:
		d.source = a.link.extent()
	default:
		d.source, d.copied = filepath.Join(filepath.Dir(g.sys), "merged", fmt.Sprintf("%d.raw", a.key)), true
		if err := a.link.copySparse(d.source, a.size); err != nil {
			return fmt.Errorf("show %s to the guest: %w", a.file, err)
		}
	}
	return g.plug(d)
}

// unplug takes a device out of the VM and, if the guest still has it, notes
// the surprise.
func (v *VCenter) unplug(vm *VM, key int32) {
	g, _, _ := v.guestOf(vm)
	if g == nil || !g.unplug(key) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.log.surprise(vm, fmt.Sprintf("disk %d was removed while the guest had it", key))
}

// guestError notes that the guest's view could not be made; nothing else can
// be done about it inside a task, and a test that looks at State sees it.
func (v *VCenter) guestError(err error) {
	if err == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.log.surprises_ = append(v.log.surprises_, Event{What: "guest view: " + err.Error()})
}

func (d *Disk) topExtent() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.top.extent()
}

// descriptorSize reads the capacity, in bytes, of a VMDK that no VM of ours
// owns from its descriptor; 0 if it says nothing.
func descriptorSize(name string) int64 {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 2 && w[0] == "RW" {
			n, _ := strconv.ParseInt(w[1], 10, 64)
			return n * SectorSize
		}
	}
	return 0
}
