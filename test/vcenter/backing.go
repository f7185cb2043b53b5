package vcenter

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// device renders the disk as vSphere lists it, seen from link l (the top one
// in the VM, the frozen one in a snapshot). The caller holds d.mu.
func (d *Disk) device(l *link, size int64, changeID string) *types.VirtualDisk {
	return &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key:           d.key,
			DeviceInfo:    &types.Description{Label: d.label, Summary: summary(size)},
			Backing:       d.backing(l, changeID),
			ControllerKey: d.controller,
			UnitNumber:    types.NewInt32(d.unit),
		},
		CapacityInKB:    size / 1024,
		CapacityInBytes: size,
		DiskObjectId:    d.objectID,
	}
}

func (d *Disk) backing(l *link, changeID string) types.BaseVirtualDeviceBackingInfo {
	kind := d.spec.Backing
	if l.parent != nil && (d.spec.DeltaSESparse || kind == SESparse) {
		kind = SESparse
	}
	file := types.VirtualDeviceFileBackingInfo{FileName: l.path(), Datastore: &l.store.ref}
	no := types.NewBool(false)
	switch kind {
	case SESparse:
		b := &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: d.spec.Mode,
			WriteThrough: no, Uuid: d.uuid, ContentId: contentID(l), ChangeId: changeID, DeltaDiskFormat: deltaFormat(l, "seSparseFormat")}
		if p, ok := d.parent(l).(*types.VirtualDiskSeSparseBackingInfo); ok {
			b.Parent = p
		}
		return b
	case Sparse2:
		b := &types.VirtualDiskSparseVer2BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: d.spec.Mode,
			Split: no, WriteThrough: no, Uuid: d.uuid, ContentId: contentID(l), ChangeId: changeID}
		b.Parent, _ = d.parent(l).(*types.VirtualDiskSparseVer2BackingInfo)
		return b
	case RDMVirtual, RDMPhysical:
		return d.rdm(l, file, changeID)
	case RawDisk2:
		return &types.VirtualDiskRawDiskVer2BackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "vml." + d.objectID},
			DescriptorFileName:             l.path(), Uuid: d.uuid, ChangeId: changeID, Sharing: d.spec.Sharing}
	case FlatVer1:
		b := &types.VirtualDiskFlatVer1BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: d.spec.Mode, ContentId: contentID(l)}
		b.Parent, _ = d.parent(l).(*types.VirtualDiskFlatVer1BackingInfo)
		return b
	default:
		return d.flat(l, file, changeID)
	}
}

func (d *Disk) flat(l *link, file types.VirtualDeviceFileBackingInfo, changeID string) types.BaseVirtualDeviceBackingInfo {
	b := &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: d.spec.Mode,
		Split: types.NewBool(false), WriteThrough: types.NewBool(false), ThinProvisioned: types.NewBool(!d.spec.Thick),
		EagerlyScrub: types.NewBool(d.spec.Thick), Uuid: d.uuid, ContentId: contentID(l), ChangeId: changeID,
		Sharing: d.spec.Sharing, DeltaDiskFormat: deltaFormat(l, "redoLogFormat")}
	b.Parent, _ = d.parent(l).(*types.VirtualDiskFlatVer2BackingInfo)
	return b
}

func (d *Disk) rdm(l *link, file types.VirtualDeviceFileBackingInfo, changeID string) types.BaseVirtualDeviceBackingInfo {
	mode := string(types.VirtualDiskCompatibilityModeVirtualMode)
	diskMode := d.spec.Mode
	if d.spec.Backing == RDMPhysical {
		mode, diskMode, changeID = string(types.VirtualDiskCompatibilityModePhysicalMode), "independent_persistent", ""
	}
	b := &types.VirtualDiskRawDiskMappingVer1BackingInfo{VirtualDeviceFileBackingInfo: file, LunUuid: "02000000" + d.objectID,
		DeviceName: "vml." + d.objectID, CompatibilityMode: mode, DiskMode: diskMode, Uuid: d.uuid,
		ContentId: contentID(l), ChangeId: changeID, Sharing: d.spec.Sharing}
	b.Parent, _ = d.parent(l).(*types.VirtualDiskRawDiskMappingVer1BackingInfo)
	return b
}

// parent is the backing below l, or nil. Parents carry no change ID.
func (d *Disk) parent(l *link) types.BaseVirtualDeviceBackingInfo {
	if l.parent == nil {
		return nil
	}
	return d.backing(l.parent, "")
}

func deltaFormat(l *link, format string) string {
	if l.parent == nil {
		return ""
	}
	return format
}

// contentID stands for the CID of the descriptor; it is the same for as long
// as the link's name is.
func contentID(l *link) string {
	return strings.ReplaceAll(newNamedUUID(l.path()), "-", "")
}

// fileName returns the VMDK that a disk's backing names, and its mode; empty
// if the backing names none.
func fileName(b types.BaseVirtualDeviceBackingInfo) (file, mode string, hasParent bool) {
	switch b := b.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return b.FileName, b.DiskMode, b.Parent != nil
	case *types.VirtualDiskSeSparseBackingInfo:
		return b.FileName, b.DiskMode, b.Parent != nil
	case *types.VirtualDiskSparseVer2BackingInfo:
		return b.FileName, b.DiskMode, b.Parent != nil
	case *types.VirtualDiskFlatVer1BackingInfo:
		return b.FileName, b.DiskMode, b.Parent != nil
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return b.FileName, b.DiskMode, b.Parent != nil
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		return b.DescriptorFileName, "", false
	}
	return "", "", false
}
