package launch

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Boot modes, in EC2's words.
const (
	bootLegacy    = "legacy-bios"
	bootUEFI      = "uefi"
	bootPreferred = "uefi-preferred"
)

// InstanceType is what EC2 says about a type.
type InstanceType struct {
	Name      string   `json:"name"`
	CPUs      int      `json:"cpus"` // vCPUs, most often half a core each
	MemoryMiB int64    `json:"memoryMiB"`
	X86       bool     `json:"x86"`
	BootModes []string `json:"bootModes"`
	ENA       bool     `json:"ena"`
	NVMe      bool     `json:"nvme"` // EBS volumes are NVMe devices
	TPM       bool     `json:"tpm,omitempty"`
	NICs      int      `json:"nics"`
	// Volumes that can be attached; where Shared, interfaces and local disks
	// use up the same places.
	Volumes    int  `json:"volumes"`
	Shared     bool `json:"shared"`
	LocalDisks int  `json:"localDisks,omitempty"`
	Current    bool `json:"current"` // of the current generation
	Burstable  bool `json:"burstable,omitempty"`
	BareMetal  bool `json:"bareMetal,omitempty"`
	Offered    bool `json:"offered"` // in the subnet's availability zone
}

// Requirements are what a type must have.
type Requirements struct {
	CPUs      int    `json:"cpus"` // of the source: never fewer
	MemoryMiB int64  `json:"memoryMiB"`
	BootMode  string `json:"bootMode"`
	NICs      int    `json:"nics"`
	Volumes   int    `json:"volumes"`
	TPM       bool   `json:"tpm,omitempty"`
	Burstable bool   `json:"burstable,omitempty"` // whether such types will do
	Zone      string `json:"zone"`
	// Without are types that EC2 had no room for.
	Without []string `json:"without,omitempty"`
}

// Fits says what keeps the type from running the guest at all; size is not
// looked at.
func (t InstanceType) Fits(want Requirements) error {
	switch {
	case !t.X86:
		return errors.New("it is not an x86_64 type")
	case want.BootMode != bootPreferred && !slices.Contains(t.BootModes, want.BootMode):
		return fmt.Errorf("it does not boot in mode %s", want.BootMode)
	case !t.ENA:
		return errors.New("it has no ENA")
	case !t.NVMe:
		return errors.New("its volumes are no NVMe devices, for which guests are made ready")
	case want.TPM && !t.TPM:
		return errors.New("it has no TPM")
	case t.NICs < want.NICs:
		return fmt.Errorf("it takes %d network interfaces and %d are needed", t.NICs, want.NICs)
	case t.room(want.NICs) < want.Volumes:
		return fmt.Errorf("it takes %d volumes beside %d interfaces and %d are needed", t.room(want.NICs), want.NICs, want.Volumes)
	case !t.Offered:
		return fmt.Errorf("it is not offered in %s", want.Zone)
	}
	return nil
}

func (t InstanceType) room(nics int) int {
	if !t.Shared {
		return t.Volumes
	}
	return t.Volumes - nics - t.LocalDisks
}

// smaller says how the type falls short of the source, "" if it does not.
func (t InstanceType) smaller(want Requirements) string {
	switch {
	case t.CPUs < want.CPUs:
		return fmt.Sprintf("it has %d vCPUs and the source has %d", t.CPUs, want.CPUs)
	case t.MemoryMiB < want.MemoryMiB:
		return fmt.Sprintf("it has %d MiB of memory and the source has %d", t.MemoryMiB, want.MemoryMiB)
	}
	return ""
}

// Choose takes the cheapest type that can run the guest and is smaller than the
// source neither in CPUs nor in memory; why says how it was found. EC2's API
// has no prices: types are in the order of a rough cost, see weight.
func Choose(all []InstanceType, want Requirements) (chosen InstanceType, why string, err error) {
	const what = "choose an instance type"
	if want.CPUs < 1 || want.MemoryMiB < 1 {
		return chosen, "", refuse(what, "set instanceType", "the source's %d CPUs and %d MiB of memory are not known", want.CPUs, want.MemoryMiB)
	}
	var fit []InstanceType
	reasons := map[string]int{}
	for _, t := range all {
		if r := t.unfit(want); r != "" {
			reasons[r]++
			continue
		}
		fit = append(fit, t)
	}
	if len(fit) == 0 {
		return chosen, "", refuse(what, "set instanceType, or another subnet", "none of %d types will do for %d CPUs, %d MiB, %s: %s",
			len(all), want.CPUs, want.MemoryMiB, want.BootMode, mostOften(reasons))
	}
	slices.SortFunc(fit, func(a, b InstanceType) int {
		return cmp.Or(cmp.Compare(a.weight(), b.weight()), -cmp.Compare(generation(a.Name), generation(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	chosen = fit[0]
	why = fmt.Sprintf("%s (%d vCPUs, %d MiB) is the cheapest by family and size of %d types that have at least %d vCPUs and %d MiB, boot in mode %s and are offered in %s; prices were not asked for",
		chosen.Name, chosen.CPUs, chosen.MemoryMiB, len(fit), want.CPUs, want.MemoryMiB, want.BootMode, want.Zone)
	return chosen, why, nil
}

func (t InstanceType) unfit(want Requirements) string {
	switch err := t.Fits(want); {
	case err != nil:
		return err.Error()
	case slices.Contains(want.Without, t.Name):
		return "EC2 had no room for it"
	case !t.Current:
		return "it is of an earlier generation"
	case t.BareMetal:
		return "it is a whole machine"
	case t.Burstable && !want.Burstable:
		return "it is burstable: it has a whole CPU only while credits last"
	}
	return cutDigits(t.smaller(want))
}

// cutDigits makes the reasons of different types one.
func cutDigits(s string) string {
	switch {
	case strings.Contains(s, "vCPUs"):
		return "it has fewer vCPUs"
	case strings.Contains(s, "memory"):
		return "it has less memory"
	}
	return s
}

func mostOften(reasons map[string]int) string {
	type count struct {
		why string
		n   int
	}
	var all []count
	for why, n := range reasons {
		all = append(all, count{why, n})
	}
	slices.SortFunc(all, func(a, b count) int { return cmp.Or(b.n-a.n, cmp.Compare(a.why, b.why)) })
	var out []string
	for _, c := range all[:min(len(all), 3)] {
		out = append(out, fmt.Sprintf("%s (%d)", c.why, c.n))
	}
	if len(out) == 0 {
		return "EC2 named no type"
	}
	return strings.Join(out, ", ")
}

// Weights of a vCPU and of a GiB of memory. The published Linux prices of the
// 6th generation in us-east-1 (c6i.large 8.5, m6i.large 9.6, r6i.large 12.6
// US cents an hour for 2 vCPUs and 4, 8, 16 GiB) are met by them within 5 %.
const (
	cpuWeight = 3.6
	gibWeight = 0.34
)

// discounts, in per cent, of processors other than Intel's and of burstable
// types against m6i; and what specialised families cost more.
var surcharges = []struct {
	prefix string
	factor float64
}{
	{"t3a", 0.76}, {"t3", 0.84}, {"t2", 0.94},
	{"m5a", 0.90}, {"c5a", 0.91}, {"r5a", 0.90}, {"m6a", 0.90}, {"c6a", 0.90}, {"r6a", 0.90},
	{"m7i-flex", 0.95}, {"c7i-flex", 0.95}, {"m8i-flex", 0.95}, {"c8i-flex", 0.95},
	{"m7i", 1.05}, {"c7i", 1.05}, {"r7i", 1.05}, {"m7a", 1.21}, {"c7a", 1.21}, {"r7a", 1.21},
	{"m8", 1.1}, {"c8", 1.1}, {"r8", 1.1},
	{"m", 1}, {"c", 1}, {"r", 1},
}

// otherFamilies (storage, accelerators, very much memory) come after all that
// are for general use.
const otherFamilies = 4

// perVariant is the surcharge of each letter behind the generation that stands
// for something extra: d local disks, n network, b EBS bandwidth, z clock.
const perVariant = 1.15

// weight is a rough cost: only its order counts.
func (t InstanceType) weight() float64 {
	family, _, _ := strings.Cut(t.Name, ".")
	factor := float64(otherFamilies)
	for _, s := range surcharges {
		if rest, ok := strings.CutPrefix(family, s.prefix); ok && (len(s.prefix) > 1 || rest != "" && rest[0] >= '0' && rest[0] <= '9') {
			factor = s.factor
			break
		}
	}
	base, _, _ := strings.Cut(family, "-")
	variant := strings.TrimLeft(strings.TrimLeft(base, "abcdefghijklmnopqrstuvwxyz"), "0123456789")
	for _, l := range variant {
		if strings.ContainsRune("dnbz", l) {
			factor *= perVariant
		}
	}
	w := factor * (cpuWeight*float64(t.CPUs) + gibWeight*float64(t.MemoryMiB)/1024)
	return math.Round(w*1000) / 1000
}

// generation is the number in a type's name, 6 in m6i.large.
func generation(name string) (n int) {
	for _, r := range strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz") {
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int(r-'0')
	}
	return n
}
