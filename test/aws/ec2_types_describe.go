package aws

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type xmlInstanceType struct {
	Name           string         `xml:"instanceType"`
	Current        bool           `xml:"currentGeneration"`
	FreeTier       bool           `xml:"freeTierEligible"`
	Usage          xmlSet[string] `xml:"supportedUsageClasses"`
	RootTypes      xmlSet[string] `xml:"supportedRootDeviceTypes"`
	Virtualization xmlSet[string] `xml:"supportedVirtualizationTypes"`
	BareMetal      bool           `xml:"bareMetal"`
	Hypervisor     string         `xml:"hypervisor"`
	Arch           xmlSet[string] `xml:"processorInfo>supportedArchitectures"`
	Maker          string         `xml:"processorInfo>manufacturer"`
	VCPUs          int64          `xml:"vCpuInfo>defaultVCpus"`
	Cores          int64          `xml:"vCpuInfo>defaultCores"`
	Threads        int64          `xml:"vCpuInfo>defaultThreadsPerCore"`
	Memory         int64          `xml:"memoryInfo>sizeInMiB"`
	HasStore       bool           `xml:"instanceStorageSupported"`
	Store          *xmlStore      `xml:"instanceStorageInfo,omitempty"`
	Optimized      string         `xml:"ebsInfo>ebsOptimizedSupport"`
	Encryption     string         `xml:"ebsInfo>encryptionSupport"`
	NVMe           string         `xml:"ebsInfo>nvmeSupport"`
	Disks          int64          `xml:"ebsInfo>maximumEbsAttachments"`
	DiskLimit      string         `xml:"ebsInfo>attachmentLimitType"`
	NICs           int64          `xml:"networkInfo>maximumNetworkInterfaces"`
	Cards          int64          `xml:"networkInfo>maximumNetworkCards"`
	IPv4           int64          `xml:"networkInfo>ipv4AddressesPerInterface"`
	IPv6           int64          `xml:"networkInfo>ipv6AddressesPerInterface"`
	HasIPv6        bool           `xml:"networkInfo>ipv6Supported"`
	ENA            string         `xml:"networkInfo>enaSupport"`
	EFA            bool           `xml:"networkInfo>efaSupported"`
	Burst          bool           `xml:"burstablePerformanceSupported"`
	Dedicated      bool           `xml:"dedicatedHostsSupported"`
	Recovery       bool           `xml:"autoRecoverySupported"`
	Modes          xmlSet[string] `xml:"supportedBootModes"`
	TPM            string         `xml:"nitroTpmSupport"`
}

type xmlStore struct {
	Total int64  `xml:"totalSizeInGB"`
	NVMe  string `xml:"nvmeSupport"`
}

func describeType(t instanceType) xmlInstanceType {
	one := func(s ...string) xmlSet[string] { return xmlSet[string]{s} }
	x := xmlInstanceType{
		Name: t.name, Current: t.current, FreeTier: t.name == "t3.micro", Usage: one("on-demand", "spot"), RootTypes: one("ebs"),
		Virtualization: one("hvm"), Hypervisor: t.hypervisor, Arch: one(t.arches...), Maker: t.maker,
		VCPUs: t.vcpus, Cores: t.vcpus / t.threads, Threads: t.threads, Memory: t.memory, HasStore: t.local > 0,
		Optimized: "default", Encryption: "supported", NVMe: t.nvme, Disks: t.disks, DiskLimit: "dedicated",
		NICs: t.nics, Cards: 1, IPv4: t.addresses, IPv6: t.addresses, HasIPv6: true, ENA: t.ena, Burst: t.burst,
		Dedicated: t.hosts, Recovery: t.local == 0, Modes: one(t.modes...), TPM: "unsupported",
	}
	if t.shared {
		x.DiskLimit = "shared"
	}
	if t.local > 0 {
		x.Store = &xmlStore{t.local, "required"}
	}
	if t.tpm {
		x.TPM = "supported"
	}
	if t.family == "t2" {
		x.Optimized = "unsupported"
	}
	return x
}

func (x xmlInstanceType) resource() resource {
	flag := strconv.FormatBool
	return resource{fields: map[string]string{
		"instance-type": x.Name, "current-generation": flag(x.Current), "free-tier-eligible": flag(x.FreeTier), "hypervisor": x.Hypervisor,
		"bare-metal": flag(x.BareMetal), "burstable-performance-supported": flag(x.Burst), "vcpu-info.default-vcpus": strconv.FormatInt(x.VCPUs, 10),
		"vcpu-info.default-cores": strconv.FormatInt(x.Cores, 10), "memory-info.size-in-mib": strconv.FormatInt(x.Memory, 10),
		"network-info.ena-support": x.ENA, "network-info.maximum-network-interfaces": strconv.FormatInt(x.NICs, 10),
		"ebs-info.nvme-support": x.NVMe, "ebs-info.ebs-optimized-support": x.Optimized, "instance-storage-supported": flag(x.HasStore),
		"processor-info.manufacturer": x.Maker, "nitro-tpm-support": x.TPM, "auto-recovery-supported": flag(x.Recovery),
	}, many: map[string][]string{
		"processor-info.supported-architecture": x.Arch.Items, "supported-boot-mode": x.Modes.Items, "supported-virtualization-type": x.Virtualization.Items,
		"supported-usage-class": x.Usage.Items, "supported-root-device-type": x.RootTypes.Items,
	}}
}

func unknownType(name string) *apiError {
	return ec2Fault("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
}

func (c *call) describeInstanceTypes(p *params) (any, *apiError) {
	names, fs, g := p.list("InstanceType"), p.filters(), p.paging(5, 100)
	p.boolean("IncludeUnsupportedInRegion")
	if len(names) > 100 {
		p.fail("InvalidParameterValue", "The number of instance types exceeds the maximum of 100.")
	}
	if len(names) > 0 && g.max > 0 {
		p.fail("InvalidParameterCombination", "The parameter instanceTypes cannot be used with the parameter maxResults")
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	for _, n := range names {
		if _, ok := typeNamed(n); !ok {
			return nil, unknownType(n)
		}
	}
	if len(names) == 0 && g.max == 0 {
		g.max = 100
	}
	defer c.e.lockCloud()()
	var items []xmlInstanceType
	for _, t := range instanceTypes() {
		if len(names) == 0 && len(c.e.offers(t)) > 0 || slices.Contains(names, t.name) {
			items = append(items, describeType(t))
		}
	}
	items, next, err := pageOf(c, items, fs, g)
	if err != nil {
		return nil, err
	}
	return struct {
		Set  xmlSet[xmlInstanceType] `xml:"instanceTypeSet"`
		Next *string                 `xml:"nextToken,omitempty"`
	}{xmlSet[xmlInstanceType]{items}, next}, nil
}

type xmlOffering struct {
	Type     string `xml:"instanceType"`
	Kind     string `xml:"locationType"`
	Location string `xml:"location"`
}

func (x xmlOffering) resource() resource {
	return resource{fields: map[string]string{"instance-type": x.Type, "location": x.Location}}
}

func (c *call) describeOfferings(p *params) (any, *apiError) {
	kind, fs, g := p.oneOf("LocationType", "region", "availability-zone", "availability-zone-id"), p.filters(), p.paging(5, 1000)
	orElse(&kind, "region")
	if err := p.finish(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	var items []xmlOffering
	for _, t := range instanceTypes() {
		zones := c.e.offers(t)
		switch {
		case len(zones) == 0:
		case kind == "region":
			items = append(items, xmlOffering{t.name, kind, c.e.opt.Region})
		default:
			for _, z := range c.e.zones() {
				if where := map[string]string{"availability-zone": z.Name, "availability-zone-id": z.ID}[kind]; slices.Contains(zones, z.Name) {
					items = append(items, xmlOffering{t.name, kind, where})
				}
			}
		}
	}
	items, next, err := pageOf(c, items, fs, g)
	if err != nil {
		return nil, err
	}
	return struct {
		Set  xmlSet[xmlOffering] `xml:"instanceTypeOfferingSet"`
		Next *string             `xml:"nextToken,omitempty"`
	}{xmlSet[xmlOffering]{items}, next}, nil
}

// span is a Min and Max; a Max of 0 is none.
type span struct{ min, max int64 }

func (s span) has(n int64) bool { return n >= s.min && (s.max == 0 || n <= s.max) }

func (p *params) span(prefix string, minNeeded bool) span {
	s := span{p.integer(prefix + ".Min"), p.integer(prefix + ".Max")}
	if minNeeded && !p.has(prefix+".Min") {
		p.fail("MissingParameter", "The request must contain the parameter %s.Min", prefix)
	}
	if s.max != 0 && s.max < s.min {
		p.fail("InvalidParameterValue", "%s: the maximum %d is below the minimum %d.", prefix, s.max, s.min)
	}
	return s
}

// requirements are the attributes of GetInstanceTypesFromInstanceRequirements
// that the catalogue can answer. Without them said, previous generations count,
// and neither bare metal nor burstable types do.
type requirements struct {
	vcpus, memory, nics     span
	metal, burst, local     string
	makers, generations     []string
	allowed, excluded       []string
	arches, virtualizations []string
}

func (p *params) requirements() requirements {
	const at = "InstanceRequirements."
	modes := []string{"included", "excluded", "required"}
	r := requirements{
		vcpus: p.span(at+"VCpuCount", true), memory: p.span(at+"MemoryMiB", true), nics: p.span(at+"NetworkInterfaceCount", false),
		metal: p.oneOf(at+"BareMetal", modes...), burst: p.oneOf(at+"BurstablePerformance", modes...), local: p.oneOf(at+"LocalStorage", modes...),
		makers: p.list(at + "CpuManufacturer"), generations: p.list(at + "InstanceGeneration"),
		allowed: p.list(at + "AllowedInstanceType"), excluded: p.list(at + "ExcludedInstanceType"),
		arches: p.list("ArchitectureType"), virtualizations: p.list("VirtualizationType"),
	}
	orElse(&r.burst, "excluded")
	orElse(&r.metal, "excluded")
	orElse(&r.local, "included")
	if len(r.arches) == 0 || len(r.virtualizations) == 0 {
		p.fail("MissingParameter", "The request must contain the parameters ArchitectureType and VirtualizationType")
	}
	if len(r.allowed) > 0 && len(r.excluded) > 0 {
		p.fail("InvalidParameterCombination", "AllowedInstanceTypes and ExcludedInstanceTypes cannot both be specified.")
	}
	return r
}

func (r requirements) match(t instanceType) bool {
	wants := func(mode string, is bool) bool { return mode == "included" || (mode == "required") == is }
	in := func(set []string, v string) bool { return len(set) == 0 || slices.Contains(set, v) }
	named := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(s string) bool { return wildcard(s, t.name) })
	}
	generation := map[bool]string{true: "current", false: "previous"}[t.current]
	maker := map[string]string{"Intel": "intel", "AMD": "amd", "AWS": "amazon-web-services"}[t.maker]
	return r.vcpus.has(t.vcpus) && r.memory.has(t.memory) && r.nics.has(t.nics) && wants(r.metal, false) && wants(r.burst, t.burst) &&
		wants(r.local, t.local > 0) && in(r.makers, maker) && in(r.generations, generation) && slices.ContainsFunc(r.arches, func(a string) bool { return slices.Contains(t.arches, a) }) &&
		slices.Contains(r.virtualizations, "hvm") && (len(r.allowed) == 0 || named(r.allowed)) && !named(r.excluded)
}

type xmlTypeName struct {
	Name string `xml:"instanceType"`
}

func (x xmlTypeName) resource() resource { return resource{} }

func (c *call) typesFromRequirements(p *params) (any, *apiError) {
	r, g := p.requirements(), p.paging(1, 1000)
	if err := p.finish(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	var items []xmlTypeName
	for _, t := range instanceTypes() {
		if r.match(t) && len(c.e.offers(t)) > 0 {
			items = append(items, xmlTypeName{t.name})
		}
	}
	items, next, err := pageOf(c, items, nil, g)
	if err != nil {
		return nil, err
	}
	return struct {
		Set  xmlSet[xmlTypeName] `xml:"instanceTypeSet"`
		Next *string             `xml:"nextToken,omitempty"`
	}{xmlSet[xmlTypeName]{items}, next}, nil
}

// Offer sets the zones in which an instance type can be had; none at all takes
// it out of the region.
func (e *Emulator) Offer(instanceType string, zones ...string) error {
	if _, ok := typeNamed(instanceType); !ok {
		return fmt.Errorf("offer %s in %s: no such instance type", instanceType, strings.Join(zones, ", "))
	}
	defer e.lockCloud()()
	e.cloud.offered[instanceType] = slices.Clone(zones)
	return nil
}
