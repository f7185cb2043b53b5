package launch

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Licence says who licenses the guest's operating system.
type Licence string

// The licences. EC2 takes billing from a snapshot's metadata, which ours do not
// have: what AWS is to bill runs on a stock image, or is imported.
const (
	LicenceBYOL   Licence = "byol"
	LicenceAWS    Licence = "aws"    // a stock image is run, and its root volume replaced
	LicenceImport Licence = "import" // ImportImage makes the image, and converts the guest
)

// KeepIP, as a NIC's PrivateIP, keeps the address that the source's NIC has.
const KeepIP = "keep"

// NIC is one network interface; its place in Settings.NICs is the device index.
type NIC struct {
	Subnet         string   `json:"subnet,omitempty"` // "": that of the first
	SecurityGroups []string `json:"securityGroups,omitempty"`
	PrivateIP      string   `json:"privateIP,omitempty"` // "", KeepIP or an IPv4 address
	PublicIP       string   `json:"publicIP,omitempty"`  // "" as the subnet has it, "yes", "no"
}

// Volume is how a volume is made; what is not set is "" or 0.
type Volume struct {
	Type       string `json:"type,omitempty"`
	IOPS       int32  `json:"iops,omitempty"`
	Throughput int32  `json:"throughput,omitempty"` // MiB/s
	InitRate   int32  `json:"initRate,omitempty"`   // MiB/s, 100 to 300
	KMSKey     string `json:"kmsKey,omitempty"`
	Encrypted  bool   `json:"encrypted,omitempty"` // with the account's default key
	Keep       string `json:"keep,omitempty"`      // "yes", "no": when the instance is terminated
}

// Encrypts reports whether the launch asks for encryption.
func (v Volume) Encrypts() bool { return v.Encrypted || v.KMSKey != "" }

// over lays what is set in v over base.
func (v Volume) over(base Volume) Volume {
	set := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	number := func(to *int32, from int32) {
		if from != 0 {
			*to = from
		}
	}
	if v.Type != "" && v.Type != base.Type { // the figures of another type do not hold for this one
		base.IOPS, base.Throughput = 0, 0
	}
	set(&base.Type, v.Type)
	set(&base.KMSKey, v.KMSKey)
	set(&base.Keep, v.Keep)
	number(&base.IOPS, v.IOPS)
	number(&base.Throughput, v.Throughput)
	number(&base.InitRate, v.InitRate)
	base.Encrypted = base.Encrypted || v.Encrypted
	return base
}

// Settings are how an instance is launched, for one purpose.
type Settings struct {
	Purpose Purpose `json:"purpose"`

	NICs []NIC `json:"nics"`
	// Borrowed, of a test, are the subnets and groups of the cutover, which a
	// forced test without a subnet of its own uses; never with addresses.
	Borrowed []NIC `json:"borrowed,omitempty"`

	InstanceType string `json:"instanceType,omitempty"` // "": chosen, see Choose
	Burstable    bool   `json:"burstable,omitempty"`    // whether t types may be chosen
	Tenancy      string `json:"tenancy,omitempty"`
	Group        string `json:"placementGroup,omitempty"`
	Host         string `json:"host,omitempty"`

	LaunchTemplate  string `json:"launchTemplate,omitempty"` // ID (lt-…) or name
	TemplateVersion string `json:"launchTemplateVersion,omitempty"`
	IAMProfile      string `json:"iamProfile,omitempty"` // name or ARN
	KeyName         string `json:"keyName,omitempty"`

	Volume Volume         `json:"volume"`          // of all disks
	Disks  map[int]Volume `json:"disks,omitempty"` // by ordinal, over Volume

	CopyTags     bool              `json:"copyTags"`
	Tags         map[string]string `json:"tags,omitempty"`
	UserDataFile string            `json:"userDataFile,omitempty"` // read at each launch, kept nowhere: it may hold secrets
	Stopped      bool              `json:"stopped,omitempty"`      // stop the instance once it was launched and checked

	Licence    Licence `json:"licence"`
	StockImage string  `json:"stockImage,omitempty"` // of LicenceAWS: the image to run
	Platform   string  `json:"platform,omitempty"`   // of LicenceImport: "Linux" or "Windows"
	ImportRole string  `json:"importRole,omitempty"` // of LicenceImport; "" is AWS's vmimport

	AsIs     bool     `json:"asIs,omitempty"`     // the guest is not converted
	BootMode string   `json:"bootMode,omitempty"` // "": as the source's firmware
	TPM      bool     `json:"tpm,omitempty"`
	Metadata Metadata `json:"metadata"`

	WaitStatus  bool          `json:"waitStatus"`         // wait for EC2's status checks
	For         time.Duration `json:"forNs,omitempty"`    // a test ends by itself after this
	ShutdownFor time.Duration `json:"shutdownForNs"`      // patience with the guest's shutdown
	ForceOff    bool          `json:"forceOff,omitempty"` // power off what does not shut down in that time
	KeepConv    bool          `json:"keepConversion"`     // keep the converted snapshot when the launch ends
	Checks      []Check       `json:"checks,omitempty"`   // after the launch
}

// Metadata is the instance's metadata service.
type Metadata struct {
	Tokens   string `json:"tokens"`   // "required", "optional"
	Endpoint string `json:"endpoint"` // "enabled", "disabled"
	HopLimit int32  `json:"hopLimit"`
	Tags     bool   `json:"tags,omitempty"`
}

const (
	// DefaultFor is how long a test lives that nobody ends: a working day.
	DefaultFor = 8 * time.Hour
	// defaultShutdown is what vSphere's own shutdown of a host gives its guests,
	// twice: databases write back what they have.
	defaultShutdown = 10 * time.Minute
	// defaultHops lets containers in the guest reach the metadata service.
	defaultHops = 2
)

// Defaults are the settings that hold where nothing is set.
func Defaults(p Purpose) Settings {
	s := Settings{
		Purpose: p, Licence: LicenceBYOL, CopyTags: true, WaitStatus: true, ShutdownFor: defaultShutdown,
		// gp3 costs less than gp2, which EC2 would take, and is not slower.
		Volume:   Volume{Type: "gp3"},
		Metadata: Metadata{Tokens: "required", Endpoint: "enabled", HopLimit: defaultHops},
		Disks:    map[int]Volume{}, Tags: map[string]string{},
	}
	if p == ForTest {
		s.For = DefaultFor
	}
	return s
}

// converts reports whether the guest is made ready here: AWS does so where it
// imports.
func (s Settings) converts() bool { return s.Licence != LicenceImport && !s.AsIs }

// volumeOf is how the volume of disk number ordinal is made.
func (s Settings) volumeOf(ordinal int) Volume { return s.Disks[ordinal].over(s.Volume) }

// keeps reports whether that volume outlives its instance. A test's never does:
// it would cost money for nobody. A cutover's do, since they are the data.
func (s Settings) keeps(ordinal int) bool {
	return s.Purpose != ForTest && s.volumeOf(ordinal).Keep != "no"
}

// network are the NICs to launch with.
func (s Settings) network(force bool) []NIC {
	if s.ownSubnet() || !force {
		return s.NICs
	}
	return s.Borrowed
}

func (s Settings) ownSubnet() bool { return len(s.NICs) > 0 && s.NICs[0].Subnet != "" }

// subnetOf is the subnet of NIC n.
func subnetOf(nics []NIC, n int) string {
	if nics[n].Subnet != "" {
		return nics[n].Subnet
	}
	return nics[0].Subnet
}

// withoutAddresses is what a test may borrow of the cutover's network.
func withoutAddresses(nics []NIC) []NIC {
	out := slices.Clone(nics)
	for i := range out {
		out[i].PrivateIP = ""
	}
	return out
}

// address is the private IP to ask for; source are the addresses of the
// source's NICs, by device index.
func (n NIC) address(index int, source []string) (string, bool) {
	if n.PrivateIP != KeepIP {
		return n.PrivateIP, true
	}
	if index >= len(source) {
		return "", false
	}
	a, err := netip.ParseAddr(source[index])
	return source[index], err == nil && a.Is4()
}

func (s Settings) clone() Settings {
	s.NICs, s.Borrowed = slices.Clone(s.NICs), slices.Clone(s.Borrowed)
	s.Disks, s.Tags = maps.Clone(s.Disks), maps.Clone(s.Tags)
	s.Checks = slices.Clone(s.Checks)
	return s
}
