package vsphere

import (
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// backing is what the kinds of disk backing have in common.
type backing struct {
	kind      string // as transfer.Disk.Backing
	file      string // datastore path of this link
	store     *ref
	mode      string // types.VirtualDiskMode; empty where the kind has none
	uuid      string
	changeID  string
	sharing   string
	encrypted bool
	parent    *backing // the link below, in the same terms
}

// The kinds of backing. The first five carry a change ID (row 8 of the CBT
// table: peers forget SeSparse, which is what VMFS6 snapshots are).
const (
	kindFlat        = "flat"
	kindSESparse    = "sesparse"
	kindSparse      = "sparse"
	kindRDMVirtual  = "rdm-virtual"
	kindRawDisk     = "raw-disk"
	kindRDMPhysical = "rdm-physical"
	kindFlatVer1    = "flat-v1"
	kindSparseVer1  = "sparse-v1"
	kindPMem        = "pmem"
	kindUnknown     = "unknown"
)

// viewBacking reads a backing; nil in, nil out. Of a backing of an unknown
// kind only that is known.
func viewBacking(b types.BaseVirtualDeviceBackingInfo) *backing {
	switch b := b.(type) {
	case nil:
		return nil
	case *types.VirtualDiskFlatVer2BackingInfo:
		v := backing{kind: kindFlat, file: b.FileName, store: b.Datastore, mode: b.DiskMode, uuid: b.Uuid, changeID: b.ChangeId, sharing: b.Sharing, encrypted: b.KeyId != nil}
		if b.Parent != nil {
			v.parent = viewBacking(b.Parent)
		}
		return &v
	case *types.VirtualDiskSeSparseBackingInfo:
		v := backing{kind: kindSESparse, file: b.FileName, store: b.Datastore, mode: b.DiskMode, uuid: b.Uuid, changeID: b.ChangeId, encrypted: b.KeyId != nil}
		if b.Parent != nil {
			v.parent = viewBacking(b.Parent)
		}
		return &v
	case *types.VirtualDiskSparseVer2BackingInfo:
		v := backing{kind: kindSparse, file: b.FileName, store: b.Datastore, mode: b.DiskMode, uuid: b.Uuid, changeID: b.ChangeId, encrypted: b.KeyId != nil}
		if b.Parent != nil {
			v.parent = viewBacking(b.Parent)
		}
		return &v
	}
	return viewRawBacking(b)
}

// viewRawBacking knows the raw and the old kinds.
func viewRawBacking(b types.BaseVirtualDeviceBackingInfo) *backing {
	switch b := b.(type) {
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		v := backing{kind: kindRDMVirtual, file: b.FileName, store: b.Datastore, mode: b.DiskMode, uuid: b.Uuid, changeID: b.ChangeId, sharing: b.Sharing}
		if b.CompatibilityMode == string(types.VirtualDiskCompatibilityModePhysicalMode) {
			v.kind = kindRDMPhysical
		}
		if b.Parent != nil {
			v.parent = viewBacking(b.Parent)
		}
		return &v
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		return &backing{kind: kindRawDisk, file: b.DescriptorFileName, uuid: b.Uuid, changeID: b.ChangeId, sharing: b.Sharing}
	case *types.VirtualDiskPartitionedRawDiskVer2BackingInfo:
		return viewBacking(&b.VirtualDiskRawDiskVer2BackingInfo)
	case *types.VirtualDiskFlatVer1BackingInfo:
		return &backing{kind: kindFlatVer1, file: b.FileName, store: b.Datastore, mode: b.DiskMode}
	case *types.VirtualDiskSparseVer1BackingInfo:
		return &backing{kind: kindSparseVer1, file: b.FileName, store: b.Datastore, mode: b.DiskMode}
	case *types.VirtualDiskLocalPMemBackingInfo:
		return &backing{kind: kindPMem, file: b.FileName, store: b.Datastore, mode: b.DiskMode, uuid: b.Uuid}
	}
	return &backing{kind: kindUnknown}
}

// base is the lowest link of the chain.
func (b *backing) base() *backing {
	for b.parent != nil {
		b = b.parent
	}
	return b
}

// stores are the datastores of the whole chain, by moref, without repeats.
func (b *backing) stores() []string {
	var all []string
	seen := map[string]bool{}
	for ; b != nil; b = b.parent {
		if b.store != nil && !seen[b.store.Value] {
			seen[b.store.Value] = true
			all = append(all, b.store.Value)
		}
	}
	return all
}

// datastoreName is "ds" of "[ds] dir/file.vmdk".
func datastoreName(file string) string {
	var p object.DatastorePath
	p.FromString(file)
	return p.Datastore
}

// DiskFile is the datastore path and the UUID (in lower case, with dashes) of
// a disk's backing, whichever kind it is of; empty where it has none.
func DiskFile(d *types.VirtualDisk) (file, uuid string) {
	b := viewBacking(d.Backing)
	if b == nil {
		return "", ""
	}
	return b.file, strings.ToLower(b.uuid)
}
