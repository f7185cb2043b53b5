package vcenter

import (
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// attachment is a disk that hangs on a VM by the file of another. v.mu guards
// the list; an attachment itself never changes.
type attachment struct {
	vm     *VM
	key    int32
	bus    int32
	unit   int32
	ctl    int32
	file   string
	mode   string
	uuid   string
	size   int64
	source *Disk // nil: the file belongs to no VM of ours
	link   *link
}

func (a *attachment) describe(g *guest) Attachment {
	out := Attachment{VM: a.vm.ref.Value, Key: a.key, Controller: a.ctl, Unit: a.unit, File: a.file, Mode: a.mode, UUID: a.uuid}
	if a.source != nil {
		out.Source, out.SourceDisk = a.source.vm.ref.Value, a.source.key
	}
	if g != nil {
		out.Device = g.letter(a.key)
	}
	return out
}

// lockedLinks tells which links are open because a running VM has them, or a
// link above them, attached.
func (v *VCenter) lockedLinks() func(*link) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	var held []*link
	for _, a := range v.attached {
		if a.link != nil && a.vm.powered {
			held = append(held, a.link)
		}
	}
	return func(l *link) bool {
		return slices.ContainsFunc(held, l.within)
	}
}

// lockFiles is what a power-on must do: open the VM's own files, which nobody
// else may have, and those attached to it, which must exist.
func (vm *VM) lockFiles() types.BaseMethodFault {
	v := vm.v
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.attached {
		if a.vm == vm {
			if a.link != nil && missing(a.link) {
				return &types.FileNotFound{FileFault: fileFault(a.file)}
			}
			continue
		}
		if a.vm.powered && a.source != nil && a.source.vm == vm && a.source.top == a.link {
			return &types.FileLocked{FileFault: fileFault(a.file)}
		}
	}
	for _, d := range vm.disks {
		if missing(d.top) {
			return &types.FileNotFound{FileFault: fileFault(d.top.path())}
		}
	}
	return nil
}

func missing(l *link) bool {
	_, err := os.Stat(l.extent())
	return err != nil
}

// addDisk attaches an existing VMDK, or with a file operation makes one.
func (p *plan) addDisk(i int32, disk *types.VirtualDisk, op types.VirtualDeviceConfigSpecFileOperation) types.BaseMethodFault {
	file, mode, hasParent := fileName(disk.Backing)
	if hasParent {
		return invalidSpec(i, "device.backing.parent")
	}
	if _, rdm := disk.Backing.(*types.VirtualDiskRawDiskMappingVer1BackingInfo); rdm || file == "" {
		return &types.InvalidDeviceBacking{InvalidDeviceSpec: *invalidSpec(i, "device.backing")}
	}
	c, unit, f := p.slot(i, disk)
	if f != nil {
		return f
	}
	s, rel := p.vm.v.storePath(file)
	if s == nil {
		return &types.InvalidDatastorePath{InvalidDatastore: types.InvalidDatastore{Name: file}, DatastorePath: file}
	}
	if !p.vm.sees(s) {
		return &types.CannotAccessFile{FileFault: fileFault(file)}
	}
	_, err := os.Stat(path.Join(s.dir, rel))
	switch {
	case op != "" && err == nil:
		return &types.FileAlreadyExists{FileFault: fileFault(file)}
	case op != "":
		return p.createDisk(disk, c, unit, s, rel, mode)
	case err != nil:
		return &types.FileNotFound{FileFault: fileFault(file)}
	}
	return p.attachDisk(i, c, unit, file, mode)
}

// slot checks where the new disk wants to hang.
func (p *plan) slot(i int32, disk *types.VirtualDisk) (types.BaseVirtualController, int32, types.BaseMethodFault) {
	c := p.controllerOf(disk.ControllerKey)
	if c == nil {
		return nil, 0, invalidSpec(i, "device.controllerKey")
	}
	used := map[int32]bool{}
	_, scsi := c.(types.BaseVirtualSCSIController)
	most := int32(scsiUnits)
	if scsi {
		used[ownUnit] = true
	} else {
		most = 2
	}
	for _, d := range p.devices {
		b := d.GetVirtualDevice()
		if b.ControllerKey == c.GetVirtualController().Key && b.UnitNumber != nil {
			used[*b.UnitNumber] = true
		}
	}
	if disk.UnitNumber == nil {
		for u := range most {
			if !used[u] {
				return c, u, nil
			}
		}
		return nil, 0, invalidSpec(i, "device.unitNumber")
	}
	u := *disk.UnitNumber
	if u < 0 || u >= most || used[u] {
		return nil, 0, invalidSpec(i, "device.unitNumber")
	}
	return c, u, nil
}

// sees reports whether the VM's host has a datastore mounted.
func (vm *VM) sees(s *store) bool {
	ctx, m := vm.v.context(), vm.sim()
	var host types.ManagedObjectReference
	ctx.WithLock(m, func() { host = *m.Runtime.Host })
	h, ok := vm.v.registry().Get(host).(*simulator.HostSystem)
	if !ok {
		return false
	}
	seen := false
	ctx.WithLock(h, func() { seen = slices.Contains(h.Datastore, s.ref) })
	return seen
}

// attachDisk is hot-add proper.
func (p *plan) attachDisk(i int32, c types.BaseVirtualController, unit int32, file, mode string) types.BaseMethodFault {
	a := &attachment{vm: p.vm, key: diskKey(c, unit), bus: c.GetVirtualController().BusNumber, unit: unit,
		ctl: c.GetVirtualController().Key, file: file, mode: mode, uuid: strings.ToLower(uuid.NewString())}
	a.source, a.link = p.vm.v.findLink(file)
	if a.source != nil {
		if f := p.checkSource(i, a); f != nil {
			return f
		}
		a.source.mu.RLock()
		a.uuid, a.size = a.source.uuid, a.link.size
		a.source.mu.RUnlock()
	} else if s, rel := p.vm.v.storePath(file); s != nil {
		a.size = descriptorSize(path.Join(s.dir, rel))
	}
	p.attach = append(p.attach, a)
	p.devices = append(p.devices, a.device(p.vm.v))
	return nil
}

// checkSource refuses what ESXi refuses about the VM that owns the file.
func (p *plan) checkSource(i int32, a *attachment) types.BaseMethodFault {
	v, d := p.vm.v, a.source
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case d.spec.Controller == IDE, d.spec.Backing == RDMVirtual, d.spec.Backing == RDMPhysical:
		return &types.InvalidDeviceBacking{InvalidDeviceSpec: *invalidSpec(i, "device.backing")}
	case d.vm == p.vm, d.vm.powered && a.link == d.top:
		return &types.FileLocked{FileFault: fileFault(a.file)}
	}
	for _, o := range slices.Concat(v.attached, p.attach) {
		sameVM := o.vm == p.vm && o.link == a.link && !slices.Contains(p.detach, o)
		writer := o.link == a.link && o.vm.powered && o.mode != "independent_nonpersistent"
		if sameVM || writer {
			return &types.FileLocked{FileFault: fileFault(a.file)}
		}
	}
	p.busyDisk = p.busyDisk || d.vm.powered
	return nil
}

// findLink finds the disk and link that a datastore path names.
func (v *VCenter) findLink(file string) (*Disk, *link) {
	for _, vm := range v.VMs() {
		v.mu.Lock()
		disks := vm.heldDisks()
		v.mu.Unlock()
		for _, d := range disks {
			d.mu.RLock()
			i := slices.IndexFunc(d.links, func(l *link) bool { return l.path() == file })
			var l *link
			if i >= 0 {
				l = d.links[i]
			}
			d.mu.RUnlock()
			if l != nil {
				return d, l
			}
		}
	}
	return nil, nil
}

// device renders the attachment as the VM's hardware lists it.
func (a *attachment) device(v *VCenter) *types.VirtualDisk {
	file := types.VirtualDeviceFileBackingInfo{FileName: a.file}
	if s, _ := v.storePath(a.file); s != nil {
		file.Datastore = &s.ref
	}
	vd := &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: a.key, ControllerKey: a.ctl, UnitNumber: types.NewInt32(a.unit),
			DeviceInfo: &types.Description{Label: "Hard disk", Summary: summary(a.size)},
		},
		CapacityInKB: a.size / 1024, CapacityInBytes: a.size,
	}
	no := types.NewBool(false)
	if a.source != nil && (a.source.spec.Backing == SESparse || a.source.spec.DeltaSESparse && a.link.parent != nil) {
		vd.Backing = &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: a.mode, Uuid: a.uuid, WriteThrough: no}
	} else {
		vd.Backing = &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: a.mode, Uuid: a.uuid,
			Split: no, WriteThrough: no, ThinProvisioned: types.NewBool(true)}
	}
	return vd
}

// createDisk makes a new, empty disk of the VM's own.
func (p *plan) createDisk(disk *types.VirtualDisk, c types.BaseVirtualController, unit int32, s *store, rel, mode string) types.BaseMethodFault {
	size := disk.CapacityInBytes
	if size == 0 {
		size = disk.CapacityInKB * 1024
	}
	spec := DiskSpec{Size: size, Mode: mode, Datastore: s.name}
	if err := spec.complete(s.name); err != nil {
		return &types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: "virtualDeviceSpec.device.capacityInKB"}}
	}
	base, err := newLink(s, rel, size, nil)
	if err != nil {
		return &types.GenericVmConfigFault{Reason: err.Error()}
	}
	p.undo = append(p.undo, func() { _ = base.remove() })
	d := &Disk{vm: p.vm, key: diskKey(c, unit), uuid: spec.UUID, spec: spec, SectorSize: SectorSize, label: "Hard disk",
		controller: c.GetVirtualController().Key, unit: unit, objectID: p.vm.ref.Value + "-" + rel,
		size: size, top: base, links: []*link{base}, frozen: map[string]*frozen{}}
	p.newDisks = append(p.newDisks, d)
	p.devices = append(p.devices, d.device(base, size, ""))
	return nil
}

// destroyDisk deletes the files behind a datastore path, as the file
// operation "destroy" and the destruction of a VM do, and remembers it.
func (v *VCenter) destroyDisk(file string) {
	s, rel := v.storePath(file)
	if s == nil {
		return
	}
	desc := path.Join(s.dir, rel)
	stem := strings.TrimSuffix(desc, ".vmdk")
	for _, f := range []string{desc, stem + "-flat.vmdk", stem + "-delta.vmdk"} {
		if os.Remove(f) == nil {
			v.mu.Lock()
			v.log.deleted = append(v.log.deleted, f)
			v.mu.Unlock()
		}
	}
}
