package launch

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Key is one settings key, for documents and for people.
type Key struct {
	Name    string `json:"name"`   // # is a number
	Values  string `json:"values"` // what it takes
	Default string `json:"default,omitempty"`
	Help    string `json:"help"`
	Network bool   `json:"network,omitempty"` // a test does not inherit it
}

// setting is a key and what sets it. n is the number in the place of #.
type setting struct {
	Key
	set func(s *Settings, n int, v string) error
}

// Highest numbers in keys: EC2 has no type with more interfaces, and attaches
// no more volumes.
const (
	maxNIC   = 14
	maxDisk  = 128
	maxCheck = 49
)

func allSettings() []setting {
	var all []setting
	for _, group := range [][]setting{networkSettings(), instanceSettings(), volumeSettings(), guestSettings(), checkSettings()} {
		all = append(all, group...)
	}
	return all
}

// Keys lists the settings. Each may be given with "test." in front, for tests
// only; without it holds for the cutover and, but for those that say Network,
// for tests too.
func Keys() []Key {
	all := allSettings()
	keys := make([]Key, len(all))
	for i, s := range all {
		keys[i] = s.Key
	}
	return keys
}

func (s *Settings) nic(n int) *NIC {
	for len(s.NICs) <= n {
		s.NICs = append(s.NICs, NIC{})
	}
	return &s.NICs[n]
}

func networkSettings() []setting {
	subnet := func(s *Settings, n int, v string) error {
		s.nic(n).Subnet = v
		return hasPrefix(v, "subnet-")
	}
	groups := func(s *Settings, n int, v string) error {
		list, err := words(v)
		s.nic(n).SecurityGroups = list
		for _, g := range list {
			if err == nil {
				err = hasPrefix(g, "sg-")
			}
		}
		return err
	}
	private := func(s *Settings, n int, v string) error {
		s.nic(n).PrivateIP = v
		if a, err := netip.ParseAddr(v); v != KeepIP && (err != nil || !a.Is4()) {
			return fmt.Errorf("%q is neither %q nor an IPv4 address", v, KeepIP)
		}
		return nil
	}
	public := func(s *Settings, n int, v string) error {
		yes, err := flag(v)
		s.nic(n).PublicIP = map[bool]string{true: "yes", false: "no"}[yes]
		return err
	}
	k := func(name, values, help string, set func(*Settings, int, string) error) setting {
		return setting{Key{Name: name, Values: values, Help: help, Network: true}, set}
	}
	return []setting{
		k("subnet", "subnet-…", "the subnet of the first NIC; a test needs one of its own", subnet),
		k("securityGroups", "sg-…,sg-…", "the security groups of the first NIC; none: the VPC's default one", groups),
		k("privateIP", "keep or an IPv4 address", "the private address of the first NIC; not set: EC2 chooses", private),
		k("publicIP", "yes, no", "whether the first NIC gets a public address; not set: as the subnet says", public),
		k("nic#.subnet", "subnet-…", "the subnet of NIC # (from 0); not set: that of the first", subnet),
		k("nic#.securityGroups", "sg-…,sg-…", "the security groups of NIC #", groups),
		k("nic#.privateIP", "keep or an IPv4 address", "the private address of NIC #", private),
		k("nic#.publicIP", "yes, no", "whether NIC # gets a public address; only with a single NIC", public),
		k("tenancy", "default, dedicated, host", "whose hardware it runs on", func(s *Settings, _ int, v string) error {
			s.Tenancy = v
			return oneOf(v, "default", "dedicated", "host")
		}),
		k("host", "h-…", "the dedicated host", func(s *Settings, _ int, v string) error {
			s.Host = v
			return hasPrefix(v, "h-")
		}),
		k("placementGroup", "a name", "the placement group", text(func(s *Settings) *string { return &s.Group })),
	}
}

func instanceSettings() []setting {
	k := func(name, values, def, help string, set func(*Settings, int, string) error) setting {
		return setting{Key{Name: name, Values: values, Default: def, Help: help}, set}
	}
	return []setting{
		k("instanceType", "auto or a type", "auto", "auto chooses the cheapest type that is not smaller than the source", func(s *Settings, _ int, v string) error {
			if s.InstanceType = v; v == "auto" {
				s.InstanceType = ""
			} else if !strings.Contains(v, ".") {
				return fmt.Errorf("%q is neither auto nor a type such as m6i.large", v)
			}
			return nil
		}),
		k("burstable", "yes, no", "no", "whether auto may choose t types, which have a whole CPU only while their credits last", boolean(func(s *Settings) *bool { return &s.Burstable })),
		k("launchTemplate", "lt-… or a name", "", "a launch template for what is not set here", text(func(s *Settings) *string { return &s.LaunchTemplate })),
		k("launchTemplateVersion", "a number, $Latest, $Default", "$Default", "the version of the template", text(func(s *Settings) *string { return &s.TemplateVersion })),
		k("iamProfile", "a name or an ARN", "", "the instance profile", text(func(s *Settings) *string { return &s.IAMProfile })),
		k("keyName", "a name", "", "the key pair", text(func(s *Settings) *string { return &s.KeyName })),
		k("userDataFile", "a path", "", "the file with the user data, at most 16 KiB", text(func(s *Settings) *string { return &s.UserDataFile })),
		k("stopped", "yes, no", "no", "stop the instance once it was launched and checked", boolean(func(s *Settings) *bool { return &s.Stopped })),
		k("copyTags", "yes, no", "yes", "copy the source's tags and custom attributes to the instance and its volumes", boolean(func(s *Settings) *bool { return &s.CopyTags })),
		k("tag.*", "text", "", "a tag of your own on all that a launch makes; the name follows the dot", nil),
		k("metadata.tokens", "required, optional", "required", "whether the metadata service wants session tokens (IMDSv2)", func(s *Settings, _ int, v string) error {
			s.Metadata.Tokens = v
			return oneOf(v, "required", "optional")
		}),
		k("metadata.endpoint", "enabled, disabled", "enabled", "the metadata service", func(s *Settings, _ int, v string) error {
			s.Metadata.Endpoint = v
			return oneOf(v, "enabled", "disabled")
		}),
		k("metadata.hopLimit", "1 to 64", "2", "how far its answers travel", number(1, 64, func(s *Settings, _ int, n int32) { s.Metadata.HopLimit = n })),
		k("metadata.tags", "yes, no", "no", "whether the guest can read its tags there", boolean(func(s *Settings) *bool { return &s.Metadata.Tags })),
	}
}

// onVolume makes the two keys of a property: for all disks and for one.
func onVolume(name, values, def, help string, set func(*Volume, string) error) []setting {
	return []setting{
		{Key{Name: name, Values: values, Default: def, Help: help}, func(s *Settings, _ int, v string) error { return set(&s.Volume, v) }},
		{Key{Name: "disk#." + name, Values: values, Help: "the same for disk # of the point (from 1)"}, func(s *Settings, n int, v string) error {
			if n < 1 {
				return fmt.Errorf("disks are counted from 1")
			}
			d := s.Disks[n]
			err := set(&d, v)
			s.Disks[n] = d
			return err
		}},
	}
}

func volumeSettings() []setting {
	within := func(least, most int64, to func(*Volume) *int32) func(*Volume, string) error {
		return func(d *Volume, v string) error {
			n, err := integer(v, least, most)
			*to(d) = int32(n)
			return err
		}
	}
	var all []setting
	add := func(s []setting) { all = append(all, s...) }
	add(onVolume("volumeType", "gp3, gp2, io1, io2, st1, sc1, standard", "gp3", "the type of the volumes", func(d *Volume, v string) error {
		d.Type = v
		return oneOf(v, "gp3", "gp2", "io1", "io2", "st1", "sc1", "standard")
	}))
	add(onVolume("iops", "a number", "", "provisioned operations per second, of gp3, io1 and io2", within(100, 256000, func(d *Volume) *int32 { return &d.IOPS })))
	add(onVolume("throughput", "MiB/s", "", "provisioned throughput, of gp3", within(125, 2000, func(d *Volume) *int32 { return &d.Throughput })))
	add(onVolume("initializationRate", "100 to 300 MiB/s", "", "how fast EC2 loads the snapshot; not set: as blocks are read. AWS bills it", within(100, 300, func(d *Volume) *int32 { return &d.InitRate })))
	add(onVolume("encrypted", "yes, no", "no", "encrypt with the account's default key; refused where blocks of zeros are absent", func(d *Volume, v string) error {
		yes, err := flag(v)
		d.Encrypted = yes
		return err
	}))
	add(onVolume("kmsKey", "an ID, ARN or alias", "", "encrypt with this key", func(d *Volume, v string) error {
		d.KMSKey = v
		return nil
	}))
	add(onVolume("keepVolumes", "yes, no", "yes", "keep the volumes when the instance is terminated; a test's never are", func(d *Volume, v string) error {
		yes, err := flag(v)
		d.Keep = map[bool]string{true: "yes", false: "no"}[yes]
		return err
	}))
	return all
}

func guestSettings() []setting {
	k := func(name, values, def, help string, set func(*Settings, int, string) error) setting {
		return setting{Key{Name: name, Values: values, Default: def, Help: help}, set}
	}
	return []setting{
		k("licence", "byol, aws, import", "byol", "aws runs stockImage and replaces its root volume, import has AWS import the disks", func(s *Settings, _ int, v string) error {
			s.Licence = Licence(v)
			return oneOf(v, string(LicenceBYOL), string(LicenceAWS), string(LicenceImport))
		}),
		k("stockImage", "ami-…", "", "of licence aws: the image whose billing is to hold", func(s *Settings, _ int, v string) error {
			s.StockImage = v
			return hasPrefix(v, "ami-")
		}),
		k("platform", "Linux, Windows", "", "of licence import: the guest's system", func(s *Settings, _ int, v string) error {
			s.Platform = v
			return oneOf(v, "Linux", "Windows")
		}),
		k("importRole", "a name", "vmimport", "of licence import: the role that AWS assumes", text(func(s *Settings) *string { return &s.ImportRole })),
		k("bootMode", "auto, legacy-bios, uefi, uefi-preferred", "auto", "auto is as the source's firmware", func(s *Settings, _ int, v string) error {
			if s.BootMode = v; v == "auto" {
				s.BootMode = ""
			}
			return oneOf(v, "auto", "legacy-bios", "uefi", "uefi-preferred")
		}),
		k("tpm", "yes, no", "no", "give the instance a TPM; needs boot mode uefi", boolean(func(s *Settings) *bool { return &s.TPM })),
		k("convert", "yes, no", "yes", "make the guest ready for EC2; no launches it as it is", func(s *Settings, _ int, v string) error {
			yes, err := flag(v)
			s.AsIs = !yes
			return err
		}),
		k("waitStatus", "yes, no", "yes", "wait for EC2's status checks", boolean(func(s *Settings) *bool { return &s.WaitStatus })),
		k("for", "a duration", "8h", "how long a test lives that nobody ends", duration(time.Minute, 90*24*time.Hour, func(s *Settings) *time.Duration { return &s.For })),
		k("shutdownTimeout", "a duration", "10m", "of a cutover: patience with the guest's shutdown", duration(time.Second, 24*time.Hour, func(s *Settings) *time.Duration { return &s.ShutdownFor })),
		k("forcePowerOff", "yes, no", "no", "of a cutover: power off a guest that does not shut down in that time", boolean(func(s *Settings) *bool { return &s.ForceOff })),
		k("keepConversion", "yes, no", "no", "keep the converted snapshot when the launch ends, for another launch of the same point", boolean(func(s *Settings) *bool { return &s.KeepConv })),
	}
}

func (s *Settings) check(n int) *Check {
	for len(s.Checks) <= n {
		s.Checks = append(s.Checks, Check{})
	}
	return &s.Checks[n]
}

func checkSettings() []setting {
	k := func(name, values, def, help string, set func(*Check, string) error) setting {
		return setting{Key{Name: "check#." + name, Values: values, Default: def, Help: help}, func(s *Settings, n int, v string) error { return set(s.check(n), v) }}
	}
	kind := func(name CheckKind, values, help string) setting {
		return k(string(name), values, "", help, func(c *Check, v string) error {
			if c.Kind != "" && c.Kind != name {
				return fmt.Errorf("the check is a %s already", c.Kind)
			}
			c.Kind, c.Target = name, v
			return nil
		})
	}
	return []setting{
		kind(CheckTCP, "a port", "check # (from 0): connect to this port of the instance"),
		kind(CheckHTTP, "a URL with {ip}", "get http://{ip}:8080/health, say; {ip} is the instance's address"),
		kind(CheckSSM, "a command", "run this in the guest through Systems Manager"),
		kind(CheckScript, "an absolute path", "run this program on the connector; it finds SNAPFERRY_INSTANCE, SNAPFERRY_IP and more in its environment"),
		k("status", "100 to 599", "200", "of an HTTP check: the status that is right", func(c *Check, v string) error {
			n, err := integer(v, 100, 599)
			c.Status = int(n)
			return err
		}),
		k("contains", "text", "", "of an HTTP check: what the answer must contain", func(c *Check, v string) error { c.Contains = v; return nil }),
		k("insecure", "yes, no", "no", "of an HTTPS check: take any certificate", func(c *Check, v string) (err error) {
			c.Insecure, err = flag(v)
			return err
		}),
		k("address", "private, public", "private", "which address is meant", func(c *Check, v string) error {
			c.Address = v
			return oneOf(v, "private", "public")
		}),
		k("timeout", "a duration", "30s", "of each attempt", func(c *Check, v string) (err error) {
			c.Timeout, err = span(v, time.Millisecond, time.Hour)
			return err
		}),
		k("attempts", "1 to 1000", "20", "how often", func(c *Check, v string) error {
			n, err := integer(v, 1, 1000)
			c.Attempts = int(n)
			return err
		}),
		k("pause", "a duration", "15s", "between attempts", func(c *Check, v string) (err error) {
			c.Pause, err = span(v, 0, time.Hour)
			return err
		}),
	}
}

func text(to func(*Settings) *string) func(*Settings, int, string) error {
	return func(s *Settings, _ int, v string) error { *to(s) = v; return nil }
}

func boolean(to func(*Settings) *bool) func(*Settings, int, string) error {
	return func(s *Settings, _ int, v string) (err error) {
		*to(s), err = flag(v)
		return err
	}
}

func number(least, most int64, set func(*Settings, int, int32)) func(*Settings, int, string) error {
	return func(s *Settings, i int, v string) error {
		n, err := integer(v, least, most)
		set(s, i, int32(n))
		return err
	}
}

func duration(least, most time.Duration, to func(*Settings) *time.Duration) func(*Settings, int, string) error {
	return func(s *Settings, _ int, v string) (err error) {
		*to(s), err = span(v, least, most)
		return err
	}
}

func flag(v string) (bool, error) {
	switch v {
	case "yes", "true":
		return true, nil
	case "no", "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither yes nor no", v)
}

func integer(v string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is not a number from %d to %d", v, least, most)
	}
	return n, nil
}

func span(v string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%q is not a duration from %v to %v, such as 90s or 8h", v, least, most)
	}
	return d, nil
}

func oneOf(v string, allowed ...string) error {
	for _, a := range allowed {
		if v == a {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", v, strings.Join(allowed, ", "))
}

func hasPrefix(v, prefix string) error {
	if !strings.HasPrefix(v, prefix) || len(v) == len(prefix) {
		return fmt.Errorf("%q is not an ID of the form %s…", v, prefix)
	}
	return nil
}

func words(v string) ([]string, error) {
	var out []string
	for w := range strings.SplitSeq(v, ",") {
		if w = strings.TrimSpace(w); w == "" {
			return nil, fmt.Errorf("%q is not a list such as a,b", v)
		}
		out = append(out, w)
	}
	return out, nil
}
