package launch

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Check says what is wrong with the settings in themselves. force lets a test
// run in the cutover's subnet, where it may meet what the source talks to.
func (s Settings) Check(force bool) error {
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	s.checkNetwork(force, fail)
	s.checkImage(fail)
	s.checkVolumes(fail)
	if s.Host != "" && s.Tenancy != "host" {
		fail("host is set and tenancy is not host")
	}
	if s.TemplateVersion != "" && s.LaunchTemplate == "" {
		fail("launchTemplateVersion is set and launchTemplate is not")
	}
	if s.Purpose == ForTest && s.For <= 0 {
		fail("a test must end by itself: set for")
	}
	for i, c := range s.Checks {
		if err := c.Check(); err != nil {
			fail("check%d: %w", i, err)
		}
	}
	// The user's beside ours; a copied tag that finds no room is left out.
	if n := len(s.Tags) + ourTags; n > maxTags {
		fail("%d tags are needed and EC2 takes %d", n, maxTags)
	}
	if err := errors.Join(wrong...); err != nil {
		return refuse(fmt.Sprintf("use the settings of the %s", s.Purpose), "\"snapferry launch-settings\" lists the keys and what they take", "%w", err)
	}
	return nil
}

// ourTags is how many tags of ours a resource carries at most.
const ourTags = 10

func (s Settings) checkNetwork(force bool, fail func(string, ...any)) {
	nics := s.network(force)
	switch {
	case s.Purpose == ForTest && !s.ownSubnet() && !force:
		fail("a test needs a subnet of its own (test.subnet), apart from what the source talks to")
		return
	case len(nics) == 0 || nics[0].Subnet == "":
		fail("subnet is not set")
		return
	}
	seen := map[string]bool{}
	for i, n := range nics {
		if i > 0 && i < len(nics)-1 && n.empty() {
			fail("nic%d is not set and a later one is", i)
		}
		if n.PublicIP == "yes" && len(nics) > 1 {
			fail("nic%d: EC2 gives no public address to one of several NICs", i)
		}
		if n.PrivateIP != "" && n.PrivateIP != KeepIP && seen[n.PrivateIP] {
			fail("nic%d: address %s is there twice", i, n.PrivateIP)
		}
		seen[n.PrivateIP] = true
	}
}

// empty reports that nothing is set.
func (n NIC) empty() bool {
	return n.Subnet == "" && n.PrivateIP == "" && n.PublicIP == "" && len(n.SecurityGroups) == 0
}

func (s Settings) checkImage(fail func(string, ...any)) {
	switch {
	case s.Licence == LicenceAWS && s.StockImage == "":
		fail("licence aws needs stockImage, the image whose billing is to hold")
	case s.Licence != LicenceAWS && s.StockImage != "":
		fail("stockImage goes with licence aws only")
	case s.Licence == LicenceImport && s.Platform == "":
		fail("licence import needs platform")
	}
	if s.TPM && s.BootMode != "" && s.BootMode != bootUEFI {
		fail("a TPM needs boot mode uefi")
	}
	if s.TPM && s.Licence != LicenceBYOL {
		fail("a TPM can be given only to an image that is registered here (licence byol)")
	}
}

func (s Settings) checkVolumes(fail func(string, ...any)) {
	s.Volume.check("", fail)
	for n := range s.Disks {
		s.volumeOf(n).check(fmt.Sprintf("disk%d: ", n), fail)
	}
	if t := s.volumeOf(1).Type; t == "st1" || t == "sc1" {
		fail("disk1: EC2 boots from no volume of type %s", t)
	}
}

// check holds the figures against the type's bounds (EBS volume types, AWS).
func (v Volume) check(where string, fail func(string, ...any)) {
	bounds := map[string][2]int32{"gp3": {3000, 80000}, "io1": {100, 64000}, "io2": {100, 256000}}
	b, takes := bounds[v.Type]
	switch {
	case v.IOPS != 0 && !takes:
		fail("%siops cannot be set for type %s", where, v.Type)
	case v.IOPS != 0 && (v.IOPS < b[0] || v.IOPS > b[1]):
		fail("%siops of %s are %d to %d, not %d", where, v.Type, b[0], b[1], v.IOPS)
	case v.IOPS == 0 && (v.Type == "io1" || v.Type == "io2"):
		fail("%stype %s needs iops", where, v.Type)
	}
	if v.Throughput != 0 && v.Type != "gp3" {
		fail("%sthroughput cannot be set for type %s", where, v.Type)
	}
}

// checkTag says why a tag cannot be given.
func checkTag(k, v string) error {
	lower := strings.ToLower(k)
	switch {
	case k == "" || utf8.RuneCountInString(k) > maxTagKey:
		return fmt.Errorf("a tag's name has 1 to %d characters", maxTagKey)
	case strings.HasPrefix(lower, "aws:") || strings.HasPrefix(lower, tagPrefix):
		return errors.New("names that begin with aws: or snapferry: are taken")
	case utf8.RuneCountInString(v) > maxTagValue:
		return fmt.Errorf("a tag's value has at most %d characters", maxTagValue)
	case printable(k, len(k)) != k || printable(v, len(v)) != v:
		return errors.New("control characters and spaces at the ends do not survive in a tag")
	}
	return nil
}

// Check says what is wrong with a check.
func (c Check) Check() error {
	switch c.Kind {
	case CheckTCP:
		if n, err := strconv.Atoi(c.Target); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is no port", c.Target)
		}
	case CheckHTTP:
		return c.checkURL()
	case CheckSSM:
		if strings.TrimSpace(c.Target) == "" {
			return errors.New("the command is empty")
		}
	case CheckScript:
		if !filepath.IsAbs(c.Target) {
			return fmt.Errorf("%q is not an absolute path", c.Target)
		}
	case "":
		return errors.New("it says neither tcp nor http, ssm or script")
	default:
		return fmt.Errorf("%q is no kind of check", c.Kind)
	}
	if c.Status != 0 || c.Contains != "" || c.Insecure {
		return fmt.Errorf("status, contains and insecure are of HTTP checks, and this is a %s check", c.Kind)
	}
	return nil
}
