package config

import (
	"time"

	"snapferry/schedule"
)

// Config is everything that can be set. Its YAML form is the file's schema; a
// key that is not here is an error.
type Config struct {
	VCenter   VCenter   `yaml:"vcenter"`
	AWS       AWS       `yaml:"aws"`
	Appliance Appliance `yaml:"appliance"`
	Transfer  Transfer  `yaml:"transfer"`
	Retention Retention `yaml:"retention"`
	// Launch holds the launch settings of every VM that has none of its own; keys
	// as "snapferry launch-settings" lists them.
	Launch  schedule.Launch `yaml:"launch"`
	Convert Convert         `yaml:"convert"`
	// StateDir holds manifests, journals and the appliance's ID.
	StateDir string `yaml:"stateDir"`

	// What follows is for the service, snapferry run.
	Database Database          `yaml:"database"`
	Policies []schedule.Policy `yaml:"policies"`
	// Limits across the fleet; what is absent is schedule.DefaultLimits.
	Limits   schedule.Limits `yaml:"limits"`
	Server   Server          `yaml:"server"`
	Webhooks []Webhook       `yaml:"webhooks"`
	Log      Log             `yaml:"log"`
	History  History         `yaml:"history"`
}

// VCenter says where the virtual machines are and how to get in.
type VCenter struct {
	// URL as govc takes it: "vcenter.example.com" or "https://host:port/sdk".
	URL  string `yaml:"url"`
	User string `yaml:"user"`
	// Password, or the file that holds it; never both. A file with a password
	// in it must not be readable by others.
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"passwordFile"`

	// Insecure accepts any certificate.
	Insecure bool `yaml:"insecure"`
	// CACerts are PEM files with the authorities to trust instead of the
	// system's, separated by colons.
	CACerts string `yaml:"caCerts"`
	// KnownHosts is a file with lines "host[:port] thumbprint".
	KnownHosts string `yaml:"knownHosts"`
	// Thumbprint of the one certificate to accept: SHA-256 or SHA-1, in hex,
	// with or without colons; several are separated by commas.
	Thumbprint string `yaml:"thumbprint"`
}

// AWS says where recovery points go. What is empty, the SDK's environment and
// shared configuration decide.
type AWS struct {
	Profile   string    `yaml:"profile"`
	Region    string    `yaml:"region"`
	Endpoints Endpoints `yaml:"endpoints"`
	CABundle  string    `yaml:"caBundle"` // PEM file
	// Requests a second that this appliance may use of the account's quota;
	// 0 is 95 % of what the region grants. Set it where others use it too.
	PutsPerSecond float64 `yaml:"putsPerSecond"`
	GetsPerSecond float64 `yaml:"getsPerSecond"`
}

// Endpoints are URLs of the services, for PrivateLink or an emulator.
type Endpoints struct {
	EBS string `yaml:"ebs"`
	EC2 string `yaml:"ec2"`
	STS string `yaml:"sts"`
	SSM string `yaml:"ssm"` // for checks that run a command in the guest
}

// Convert says how guests are made ready for EC2.
type Convert struct {
	// Folder is where a conversion keeps what it reads and changes, some hundred
	// MiB; absent is below the state folder. Sockets are in it: keep its path
	// short.
	Folder string `yaml:"folder"`
	// CloudInit is "disable" or "enable"; absent leaves it as the guest has it.
	CloudInit string `yaml:"cloudInit"`
	// KeepNetwork leaves the guest's network settings alone.
	KeepNetwork bool `yaml:"keepNetwork"`
	// Drivers is a folder with driver packages for Windows guests: AWS's NVMe
	// and ENA drivers.
	Drivers string `yaml:"drivers"`
}

// Appliance is the VM that runs this program.
type Appliance struct {
	// ID marks what this appliance makes, in vCenter and in AWS. Where it is
	// empty one is made up once and kept in the state directory.
	ID string `yaml:"id"`
	// VM is the appliance's own moref or inventory path in vCenter; where it is
	// empty the machine's DMI serial number finds it.
	VM string `yaml:"vm"`
	// SysfsDir and DevDir are where the kernel shows block devices.
	SysfsDir string `yaml:"sysfsDir"`
	DevDir   string `yaml:"devDir"`
	// AllowNFSStun lets VMs on NFS 3 be read from another ESXi host: removing
	// their snapshot stuns them for seconds to minutes (KB 2010953).
	AllowNFSStun bool `yaml:"allowNFSStun"`
}

// Transfer says how recovery points are made.
type Transfer struct {
	Reads   int           `yaml:"reads"`   // in flight per disk
	Puts    int           `yaml:"puts"`    // in flight per disk
	Gets    int           `yaml:"gets"`    // in flight, verify and restore
	Buffers int           `yaml:"buffers"` // blocks of 512 KiB in memory, all disks together
	Limit   Rate          `yaml:"limit"`   // block data to and from AWS; 0 is no limit
	Cleanup time.Duration `yaml:"cleanup"` // what clean-up may take
	// MaxFreeze is how long a VM snapshot may live before the VM is frozen
	// anew; 0 is no limit.
	MaxFreeze time.Duration `yaml:"maxFreeze"`
	// Audit is how many blocks per disk and cycle are read though vSphere calls
	// them unchanged; negative is none.
	Audit int `yaml:"audit"`
	// MinFreeGiB is what a datastore must have free before a VM snapshot is
	// made on it, and while it lives; absent is 10 (a tenth of a small
	// datastore), 0 does not look.
	MinFreeGiB *int64 `yaml:"minFreeGiB"`

	Quiesce     Quiesce           `yaml:"quiesce"`
	Zeros       Zeros             `yaml:"zeros"`
	Encrypted   bool              `yaml:"encrypted"`
	KMSKey      string            `yaml:"kmsKey"`
	ExcludeDisk []string          `yaml:"excludeDisk"`
	Tags        map[string]string `yaml:"tags"`
}

const (
	// defaultReads: a datastore behind PVSCSI is saturated by 8 to 16 reads of
	// 512 KiB; more only lengthens its queue.
	defaultReads = 16
	// defaultPuts: 64 puts fill 1 Gbit/s up to 270 ms away (318 MB/s measured
	// at 100 ms).
	defaultPuts = 64
	// defaultGets: as for puts.
	defaultGets = 64
	// defaultAudit: 128 MiB, a second of a datastore's time.
	defaultAudit = 256
	// defaultCleanup is long because consolidating a VM snapshot is: minutes on
	// a busy datastore, and giving up leaves one that grows.
	defaultCleanup = 15 * time.Minute
)

// Default is what holds when nobody says otherwise. Buffers stays 0 until
// complete: it follows reads and puts.
func Default() Config {
	var c Config
	c.fill()
	return c
}

// fill puts the default in place of everything that is zero: a section of a
// file in which every line is commented out decodes to zeros.
func (c *Config) fill() {
	orElse(&c.Appliance.SysfsDir, "/sys")
	orElse(&c.Appliance.DevDir, "/dev")
	t := &c.Transfer
	orElse(&t.Reads, defaultReads)
	orElse(&t.Puts, defaultPuts)
	orElse(&t.Gets, defaultGets)
	orElse(&t.Cleanup, defaultCleanup)
	orElse(&t.Audit, defaultAudit)
	orElse(&t.Quiesce, QuiesceOff)
	orElse(&t.Zeros, ZerosAuto)
	c.Retention.fill()
	c.fillService()
}

func orElse[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Quiesce is the policy for file-system-consistent freezes.
type Quiesce string

// The quiesce policies.
const (
	QuiesceOff     Quiesce = "off"
	QuiesceTry     Quiesce = "try"
	QuiesceRequire Quiesce = "require"
)

// UnmarshalText refuses what is no policy.
func (q *Quiesce) UnmarshalText(text []byte) error {
	return choose(q, text, QuiesceOff, QuiesceTry, QuiesceRequire)
}

// Zeros is the policy for blocks of zeros.
type Zeros string

// The zero policies.
const (
	ZerosAuto      Zeros = "auto"
	ZerosAll       Zeros = "all"
	ZerosAllocated Zeros = "allocated"
)

// UnmarshalText refuses what is no policy.
func (z *Zeros) UnmarshalText(text []byte) error {
	return choose(z, text, ZerosAuto, ZerosAll, ZerosAllocated)
}
