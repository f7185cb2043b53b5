package vcenter

import (
	"fmt"
	"slices"
)

// Backing is the kind of a disk's base.
type Backing string

// The backings. Five of them can carry a change ID; the Ver1 ones and the
// physical raw device mapping cannot.
const (
	Flat        Backing = "flat" // VirtualDiskFlatVer2BackingInfo, the default
	Sparse2     Backing = "sparse2"
	SESparse    Backing = "sesparse"
	RDMVirtual  Backing = "rdm-virtual"
	RDMPhysical Backing = "rdm-physical"
	RawDisk2    Backing = "rawdisk2"
	FlatVer1    Backing = "flat-ver1"
)

// The controllers a disk can hang on.
const (
	PVSCSI   = "pvscsi" // the default
	LSILogic = "lsilogic"
	SATA     = "sata"
	NVMe     = "nvme"
	IDE      = "ide"
)

// VMSpec says what AddVM makes. The zero value of every field but Name has a
// sensible meaning.
type VMSpec struct {
	Name            string
	Folder          string // below the datacenter's vm folder, may be nested: "prod/web"
	Disks           []DiskSpec
	PoweredOff      bool
	HardwareVersion int    // default 21
	Firmware        string // "bios" (default) or "efi"
	GuestID         string // default "debian12_64Guest"
	CBT             bool   // change tracking on and running already
	MemoryMB        int64  // default 2048
	CPUs            int32  // default 2
	Datastore       string // home; default the first
	Host            int    // index of the host it runs on
	FaultTolerant   bool
	PCIPassthrough  bool
	Tools           Tools
	NICs            []NICSpec // default one on "VM Network" without addresses
	// BIOSUUID repeats among clones; empty is a fresh one.
	BIOSUUID string
}

// DiskSpec says what one disk of a new VM is.
type DiskSpec struct {
	Size    int64   // bytes, a multiple of 512
	Backing Backing // default Flat
	// DeltaSESparse makes redo logs VirtualDiskSeSparseBackingInfo, as VMFS6
	// does; otherwise they are of the base's kind.
	DeltaSESparse bool
	Mode          string // persistent (default), independent_persistent, independent_nonpersistent
	Sharing       string // "sharingMultiWriter" or empty
	Thick         bool   // eager-zeroed: allocated as a whole
	Controller    string // pvscsi (default), lsilogic, sata, nvme, ide
	BusSharing    string // of its SCSI controller: "physicalSharing", "virtualSharing"
	Datastore     string // default the VM's
	UUID          string // default a fresh "6000C29…"
	NoCBT         bool   // scsiX:Y.ctkEnabled=FALSE: never tracked
}

func (s *VMSpec) complete(o Options) error {
	if s.Name == "" {
		return fmt.Errorf("add VM: it has no name")
	}
	setDefault(&s.HardwareVersion, 21)
	setDefault(&s.Firmware, "bios")
	setDefault(&s.GuestID, "debian12_64Guest")
	setDefault(&s.MemoryMB, 2048)
	setDefault(&s.CPUs, 2)
	setDefault(&s.Datastore, o.Datastores[0])
	s.NICs = slices.Clone(s.NICs)
	if len(s.NICs) == 0 {
		s.NICs = make([]NICSpec, 1)
	}
	for i := range s.NICs {
		if err := s.NICs[i].complete(); err != nil {
			return fmt.Errorf("add VM %s: network adapter %d: %w", s.Name, i, err)
		}
	}
	s.Disks = slices.Clone(s.Disks)
	for i := range s.Disks {
		if err := s.Disks[i].complete(s.Datastore); err != nil {
			return fmt.Errorf("add VM %s: disk %d: %w", s.Name, i, err)
		}
	}
	return nil
}

func (s *DiskSpec) complete(home string) error {
	setDefault(&s.Backing, Flat)
	setDefault(&s.Mode, "persistent")
	setDefault(&s.Controller, PVSCSI)
	setDefault(&s.Datastore, home)
	setDefault(&s.UUID, newDiskUUID())
	if s.Size <= 0 || s.Size%SectorSize != 0 {
		return fmt.Errorf("a size of %d bytes is not a positive multiple of %d", s.Size, SectorSize)
	}
	known := []Backing{Flat, Sparse2, SESparse, RDMVirtual, RDMPhysical, RawDisk2, FlatVer1}
	if !slices.Contains(known, s.Backing) {
		return fmt.Errorf("unknown backing %q", s.Backing)
	}
	if !slices.Contains([]string{PVSCSI, LSILogic, SATA, NVMe, IDE}, s.Controller) {
		return fmt.Errorf("unknown controller %q", s.Controller)
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
