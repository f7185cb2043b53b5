package convert

import (
	"regexp"
	"slices"
	"strings"
)

// Facts are what was found out about a guest. They may hold what the guest keeps
// for itself, such as a Wi-Fi password in a netplan file: they are never logged
// nor part of a report.
type Facts struct {
	OS       string // "linux" or "windows", as libguestfs calls it
	Distro   string // "debian", "ubuntu", "rhel", …
	Product  string // "Debian GNU/Linux 12 (bookworm)"
	Major    int
	Minor    int
	Arch     string // "x86_64"
	Root     string // where the root file system is, as libguestfs names it
	Firmware string // "bios" or "efi", as vSphere says

	Mounts      []Mount      // but the root's, by path
	Filesystems []Filesystem // all on the disk
	Kernels     []Kernel
	Tools       map[string]bool   // programs of the guest that are there
	Units       map[string]bool   // services that are enabled
	Files       map[string]string // configuration, by path
	Grub        []string          // paths of grub.cfg that are there
	Linux       []string          // the kernel lines of those, without their indent
	EFI         []string          // *.efi files, by path in the guest
	Free        map[string]int64  // bytes, by mount point
	Windows     *WindowsFacts     // of a Windows guest
}

// Mount is a file system and where the guest has it.
type Mount struct{ Path, Device string }

// Filesystem is what one partition or volume holds.
type Filesystem struct {
	Device string // as the appliance calls it, /dev/sda1, /dev/vg0/root
	Type   string // "ext4", "xfs", "swap", "crypto_LUKS", …
	UUID   string
}

// ModuleState says how a kernel has a driver.
type ModuleState string

// The states of a module.
const (
	ModuleAbsent  ModuleState = "absent"
	ModuleLoads   ModuleState = "module"
	ModuleBuiltin ModuleState = "builtin"
)

// Kernel is one that the boot loader may start.
type Kernel struct {
	Version   string
	Image     string // path
	Initramfs string // path, "" if there is none
	NVMe, ENA ModuleState
	// Holds are the modules of interest in the initramfs; Listed says whether
	// the guest could list them at all.
	Holds  []string
	Listed bool
}

// has reports whether the kernel has its NVMe driver when it looks for the root.
func (k Kernel) hasNVMe() bool {
	return k.NVMe == ModuleBuiltin || slices.Contains(k.Holds, "nvme")
}

// diskName matches the first disk's whole name and partitions, by whatever bus
// the guest had it on. Only the boot disk is in the appliance: where the guest
// has a second one, its sdb is not ours.
var diskName = regexp.MustCompile(`^/dev/(?:sd|hd|vd|xvd)([a-z]+)(\d*)$`)

// kernelName reports whether a device is named as the kernel numbers disks,
// which NVMe changes, and if so which disk and partition that is.
func kernelName(device string) (disk, partition string, ok bool) {
	m := diskName.FindStringSubmatch(device)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// unstable reports whether a device's name depends on bus or place.
func unstable(device string) bool {
	_, _, named := kernelName(device)
	return named || strings.HasPrefix(device, "/dev/disk/by-path/") || strings.HasPrefix(device, "/dev/disk/by-id/scsi-") ||
		strings.HasPrefix(device, "/dev/disk/by-id/wwn-") || strings.HasPrefix(device, "/dev/disk/by-id/ata-")
}

// uuid is the UUID of what a device of the boot disk holds.
func (f Facts) uuid(device string) (string, bool) {
	disk, partition, ok := kernelName(device)
	if !ok || disk != "a" {
		return "", false
	}
	for _, fs := range f.Filesystems {
		if fs.UUID != "" && fs.Device == "/dev/sda"+partition {
			return fs.UUID, true
		}
	}
	return "", false
}

// files are the paths that begin with prefix and end with suffix, sorted.
func (f Facts) files(prefix, suffix string) []string {
	var all []string
	for path := range f.Files {
		if strings.HasPrefix(path, prefix) && strings.HasSuffix(path, suffix) {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return all
}
