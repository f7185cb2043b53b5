package aws

import (
	"slices"
	"strings"
	"sync"
)

// instanceType is one row of the catalogue. The figures are those of
// DescribeInstanceTypes for the type, as its documentation gives them.
type instanceType struct {
	name, family, hypervisor, maker string
	arches                          []string
	vcpus, threads, memory          int64 // memory in MiB
	modes                           []string
	ena                             string // required, supported, unsupported
	nics, addresses                 int64  // addresses per network interface
	disks                           int64  // EBS attachments
	shared                          bool   // disks are shared with network interfaces
	nvme                            string
	tpm, current, burst, hosts      bool
	local                           int64    // GB of instance store
	zones                           []string // letters
}

// typeFamily is what the types of a family have in common.
type typeFamily struct {
	name, arch, maker string
	threads           int64
	xen, old, burst   bool
	noHosts           bool // no dedicated hosts
	uefiOnly          bool
	dedicated         int64 // EBS attachments that are not shared; 0: 28 shared
	zones             string
	local             int64 // GB for each two vCPUs
	sizes             string
}

// sizes are "size:vCPUs:MiB:NICs:addresses".
var typeFamilies = []typeFamily{
	{name: "t2", noHosts: true, maker: "Intel", threads: 1, xen: true, burst: true, zones: "ab", sizes: "micro:1:1024:2:2 small:1:2048:3:4 medium:2:4096:3:6 large:2:8192:3:12"},
	{name: "m4", maker: "Intel", threads: 2, xen: true, old: true, zones: "ab", sizes: "large:2:8192:2:10 xlarge:4:16384:4:15"},
	{name: "i3", maker: "Intel", threads: 2, xen: true, local: 475, zones: "ab", sizes: "large:2:15616:3:10"},
	{name: "t3", maker: "Intel", threads: 2, burst: true, zones: "abc", sizes: "nano:2:512:2:2 micro:2:1024:2:2 small:2:2048:3:4 medium:2:4096:3:6 large:2:8192:3:12 xlarge:4:16384:4:15 2xlarge:8:32768:4:15"},
	{name: "t3a", noHosts: true, maker: "AMD", threads: 2, burst: true, zones: "abc", sizes: "micro:2:1024:2:2 small:2:2048:2:4 medium:2:4096:3:6 large:2:8192:3:12 xlarge:4:16384:4:15"},
	{name: "m5", maker: "Intel", threads: 2, old: true, zones: "abc", sizes: "large:2:8192:3:10 xlarge:4:16384:4:15 2xlarge:8:32768:4:15 4xlarge:16:65536:8:30"},
	{name: "c5", maker: "Intel", threads: 2, old: true, zones: "abc", sizes: "large:2:4096:3:10 xlarge:4:8192:4:15"},
	{name: "r5", maker: "Intel", threads: 2, old: true, zones: "abc", sizes: "large:2:16384:3:10 xlarge:4:32768:4:15"},
	{name: "m5d", maker: "Intel", threads: 2, local: 75, zones: "ab", sizes: "large:2:8192:3:10"},
	{name: "m6i", maker: "Intel", threads: 2, old: true, zones: "abc", sizes: "large:2:8192:3:10 xlarge:4:16384:4:15 2xlarge:8:32768:4:15 4xlarge:16:65536:8:30"},
	{name: "c6i", maker: "Intel", threads: 2, zones: "abc", sizes: "large:2:4096:3:10 xlarge:4:8192:4:15 2xlarge:8:16384:4:15"},
	{name: "r6i", maker: "Intel", threads: 2, old: true, zones: "abc", sizes: "large:2:16384:3:10 xlarge:4:32768:4:15 2xlarge:8:65536:4:15"},
	{name: "m7i", maker: "Intel", threads: 2, dedicated: 32, zones: "ab", sizes: "large:2:8192:3:10 xlarge:4:16384:4:15 2xlarge:8:32768:4:15 4xlarge:16:65536:8:30 8xlarge:32:131072:8:30"},
	{name: "m7a", maker: "AMD", threads: 1, dedicated: 32, zones: "ab", sizes: "medium:1:4096:2:4 large:2:8192:3:10"},
	{name: "t4g", noHosts: true, arch: "arm64", maker: "AWS", threads: 1, burst: true, uefiOnly: true, zones: "abc", sizes: "micro:2:1024:2:2 small:2:2048:3:4"},
	{name: "m7g", arch: "arm64", maker: "AWS", threads: 1, uefiOnly: true, zones: "abc", sizes: "medium:1:4096:2:4 large:2:8192:3:10 xlarge:4:16384:4:15"},
}

// Attachment limits, as the service reports them: most Nitro types share 28
// among volumes and network interfaces, one of which every instance has, and the
// instance store takes its own.
const (
	nitroAttachments = 27
	xenAttachments   = 40
)

var instanceTypes = sync.OnceValue(func() []instanceType {
	var out []instanceType
	for _, f := range typeFamilies {
		for size := range strings.FieldsSeq(f.sizes) {
			out = append(out, f.make(strings.Split(size, ":")))
		}
	}
	slices.SortFunc(out, func(a, b instanceType) int { return strings.Compare(a.name, b.name) })
	return out
})

func (f typeFamily) make(size []string) instanceType {
	t := instanceType{
		name: f.name + "." + size[0], family: f.name, arches: []string{f.arch}, hypervisor: "nitro", maker: f.maker,
		vcpus: number(size[1]), threads: f.threads, memory: number(size[2]), modes: []string{bootLegacy, bootUEFI}, ena: "required",
		nics: number(size[3]), addresses: number(size[4]), disks: nitroAttachments, shared: true, nvme: "required",
		tpm: true, current: !f.old, burst: f.burst, hosts: !f.noHosts, zones: strings.Split(f.zones, ""),
	}
	orElse(&t.arches[0], "x86_64")
	t.threads = min(t.threads, t.vcpus)
	if t.local = f.local * max(t.vcpus/2, 1); t.local > 0 {
		t.disks--
	}
	if f.dedicated > 0 {
		t.disks, t.shared = f.dedicated, false
	}
	if f.uefiOnly {
		t.modes = []string{bootUEFI}
	}
	if f.xen {
		t.hypervisor, t.modes, t.ena, t.nvme, t.tpm = "xen", []string{bootLegacy}, "unsupported", "unsupported", false
		t.disks = xenAttachments
		if f.local > 0 {
			t.ena, t.nvme = "supported", "supported" // i3 is the one with both
		}
		if f.name == "t2" && t.memory < 8192 {
			t.arches = []string{"i386", "x86_64"}
		}
	}
	return t
}

// number reads a figure of the table above.
func number(s string) (n int64) {
	for _, d := range s {
		n = n*10 + int64(d-'0')
	}
	return n
}

func typeNamed(name string) (instanceType, bool) {
	all := instanceTypes()
	at := slices.IndexFunc(all, func(t instanceType) bool { return t.name == name })
	if at < 0 {
		return instanceType{}, false
	}
	return all[at], true
}

// offers lists the zones that have a type; the cloud is locked.
func (e *Emulator) offers(t instanceType) []string {
	if zones, ok := e.cloud.offered[t.name]; ok {
		return zones
	}
	var out []string
	for _, letter := range t.zones {
		out = append(out, e.opt.Region+letter)
	}
	return out
}

// room reports how many volumes fit beside so many network interfaces.
func (t instanceType) room(nics int) int {
	if !t.shared {
		return int(t.disks)
	}
	return int(t.disks) - max(nics-1, 0)
}

// bootsAs is the mode in which the type starts an image; empty if it cannot.
func (t instanceType) bootsAs(img *machineImage) string {
	mode := img.bootMode
	switch mode {
	case "":
		mode = t.modes[0] // legacy-bios on x86, uefi on arm64
	case bootPreferred:
		if mode = bootLegacy; slices.Contains(t.modes, bootUEFI) {
			mode = bootUEFI
		}
	}
	if !slices.Contains(t.modes, mode) {
		return ""
	}
	return mode
}
