package launch

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func a(name string, cpus int, gib int64, change ...func(*InstanceType)) InstanceType {
	t := InstanceType{
		Name: name, CPUs: cpus, MemoryMiB: gib << 10, X86: true, BootModes: []string{bootLegacy, bootUEFI}, ENA: true, NVMe: true, TPM: true,
		NICs: 3, Volumes: 28, Shared: true, Current: true, Offered: true, Burstable: strings.HasPrefix(name, "t"),
	}
	for _, c := range change {
		c(&t)
	}
	return t
}

func TestChoose(t *testing.T) {
	all := []InstanceType{
		a("t3.large", 2, 8), a("t3a.large", 2, 8), a("c6i.large", 2, 4), a("m6i.large", 2, 8), a("m6a.large", 2, 8), a("r6i.large", 2, 16),
		a("c6i.xlarge", 4, 8), a("m6i.xlarge", 4, 16), a("m7i.large", 2, 8), a("m5.large", 2, 8), a("m6id.large", 2, 8), a("x2iedn.xlarge", 4, 128),
		a("m4.large", 2, 8, func(t *InstanceType) { t.Current = false; t.NVMe = false }),
		a("m6g.large", 2, 8, func(t *InstanceType) { t.X86 = false }),
		a("m6i.metal", 128, 512, func(t *InstanceType) { t.BareMetal = true }),
	}
	want := func(r Requirements) Requirements {
		if r.BootMode == "" {
			r.BootMode = bootLegacy
		}
		r.NICs, r.Zone = max(r.NICs, 1), "z"
		return r
	}
	for name, c := range map[string]struct {
		want  Requirements
		type_ string
	}{
		"the smallest that is not smaller":  {Requirements{CPUs: 2, MemoryMiB: 4096}, "c6i.large"},
		"memory decides":                    {Requirements{CPUs: 2, MemoryMiB: 4097}, "m6a.large"},
		"CPUs decide":                       {Requirements{CPUs: 3, MemoryMiB: 4096}, "c6i.xlarge"},
		"one CPU":                           {Requirements{CPUs: 1, MemoryMiB: 512}, "c6i.large"},
		"burstable only if asked":           {Requirements{CPUs: 2, MemoryMiB: 8192, Burstable: true}, "t3a.large"},
		"much memory":                       {Requirements{CPUs: 2, MemoryMiB: 9000}, "r6i.large"},
		"specialised only if nothing else":  {Requirements{CPUs: 4, MemoryMiB: 100 << 10}, "x2iedn.xlarge"},
		"another, where there is no room":   {Requirements{CPUs: 2, MemoryMiB: 8192, Without: []string{"m6a.large"}}, "m6i.large"},
		"uefi-preferred is met by any mode": {Requirements{CPUs: 2, MemoryMiB: 4096, BootMode: bootPreferred}, "c6i.large"},
	} {
		got, why, err := Choose(all, want(c.want))
		if err != nil || got.Name != c.type_ || !strings.Contains(why, "prices were not asked for") {
			t.Errorf("%s: %s, %q, %v; want %s", name, got.Name, why, err, c.type_)
		}
		if got.CPUs < c.want.CPUs || got.MemoryMiB < c.want.MemoryMiB {
			t.Errorf("%s: %s is smaller than the source", name, got.Name)
		}
	}
	if _, _, err := Choose(all, want(Requirements{CPUs: 500, MemoryMiB: 1})); err == nil || !strings.Contains(err.Error(), "fewer vCPUs") {
		t.Errorf("nothing fits: %v", err)
	}
	if _, _, err := Choose(nil, want(Requirements{CPUs: 1, MemoryMiB: 1})); err == nil {
		t.Error("no types: no error")
	}
	if _, _, err := Choose(all, Requirements{}); err == nil {
		t.Error("an unknown source: no error")
	}
}

func TestFits(t *testing.T) {
	want := Requirements{CPUs: 2, MemoryMiB: 1024, BootMode: bootUEFI, NICs: 2, Volumes: 4, TPM: true, Zone: "z"}
	for why, change := range map[string]func(*InstanceType){
		"":                func(*InstanceType) {},
		"x86_64":          func(t *InstanceType) { t.X86 = false },
		"mode uefi":       func(t *InstanceType) { t.BootModes = []string{bootLegacy} },
		"ENA":             func(t *InstanceType) { t.ENA = false },
		"NVMe":            func(t *InstanceType) { t.NVMe = false },
		"TPM":             func(t *InstanceType) { t.TPM = false },
		"1 network":       func(t *InstanceType) { t.NICs = 1 },
		"takes 3 volumes": func(t *InstanceType) { t.Volumes = 6; t.LocalDisks = 1 }, // 6 - 2 interfaces - 1 disk
		"not offered":     func(t *InstanceType) { t.Offered = false },
	} {
		err := a("m6i.large", 2, 8, change).Fits(want)
		if (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", why, err)
		}
	}
	if err := a("m7i.large", 2, 8, func(t *InstanceType) { t.Volumes, t.Shared = 4, false }).Fits(want); err != nil {
		t.Errorf("volumes that share nothing: %v", err)
	}
}

// TestWeights: the order is that of the published prices.
func TestWeights(t *testing.T) {
	order := []InstanceType{
		a("t3a.large", 2, 8), a("t3.large", 2, 8), a("c6i.large", 2, 4), a("m5a.large", 2, 8), a("m6i.large", 2, 8), a("m7i.large", 2, 8), a("r6i.large", 2, 16),
		a("r6id.large", 2, 16), a("m6i.xlarge", 4, 16), a("r6i.xlarge", 4, 32), a("i4i.large", 2, 16),
	}
	for i := 1; i < len(order)-1; i++ {
		if order[i-1].weight() >= order[i].weight() {
			t.Errorf("%s (%v) is not cheaper than %s (%v)", order[i-1].Name, order[i-1].weight(), order[i].Name, order[i].weight())
		}
	}
	if i4i, r6i := a("i4i.large", 2, 16), a("r6i.large", 2, 16); i4i.weight() <= r6i.weight() {
		t.Error("a storage type comes before one of general use")
	}
}

func TestTypeOf(t *testing.T) {
	i := kind("m6i.large", 2, 8192, false)
	i.InstanceStorageInfo = &types.InstanceStorageInfo{Disks: []types.DiskInfo{{Count: aws.Int32(2)}}}
	got := typeOf(i)
	if got.CPUs != 2 || got.MemoryMiB != 8192 || !got.X86 || !got.ENA || !got.NVMe || !got.Shared || got.Volumes != 28 || got.LocalDisks != 2 || !got.Current || !got.TPM {
		t.Errorf("%+v", got)
	}
	i.NetworkInfo.EnaSupport, i.EbsInfo.NvmeSupport, i.EbsInfo.AttachmentLimitType = types.EnaSupportUnsupported, types.EbsNvmeSupportUnsupported, types.AttachmentLimitTypeDedicated
	if got := typeOf(i); got.ENA || got.NVMe || got.Shared {
		t.Errorf("%+v", got)
	}
	if got := typeOf(types.InstanceTypeInfo{}); got.X86 || got.Current {
		t.Errorf("of nothing: %+v", got)
	}
}
