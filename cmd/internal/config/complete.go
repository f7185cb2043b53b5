package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// complete fills in what follows from the rest and refuses what cannot work.
func (c *Config) complete(sys System) error {
	if c.StateDir == "" {
		c.StateDir = sys.stateDir()
	}
	if c.StateDir == "" {
		return errors.New("there is no home directory to keep state in: set stateDir or --state-dir")
	}
	if c.Transfer.Buffers == 0 {
		// Enough for one disk to have all its reads and puts in flight; disks
		// side by side share them, and so memory does not grow with disks.
		c.Transfer.Buffers = c.Transfer.Reads + c.Transfer.Puts
	}
	if err := c.VCenter.complete(sys); err != nil {
		return err
	}
	if err := c.completeService(sys); err != nil {
		return err
	}
	return c.check()
}

func (s System) stateDir() string {
	// systemd gives a list when a unit has several; the first is ours.
	if dir, _, _ := strings.Cut(s.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if dir := s.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "snapferry")
	}
	if s.Root {
		return "/var/lib/snapferry"
	}
	if s.Home == "" {
		return ""
	}
	return filepath.Join(s.Home, ".local", "state", "snapferry")
}

func (v *VCenter) complete(sys System) error {
	if v.URL != "" {
		u, err := ParseURL(v.URL)
		if err != nil {
			return fmt.Errorf("vCenter URL: %w", err)
		}
		if _, has := u.User.Password(); has {
			return errors.New("vCenter URL: a settings file keeps the password under password or passwordFile, not in the URL")
		}
		if u.User != nil {
			if v.User == "" {
				v.User = u.User.Username()
			}
			u.User = nil
		}
		v.URL = u.String()
	}
	if v.PasswordFile == "" {
		return nil
	}
	if !v.Password.Empty() {
		return errors.New("vcenter.password and vcenter.passwordFile are both set: keep one")
	}
	p, err := readPassword(v.PasswordFile, sys.Getenv("CREDENTIALS_DIRECTORY"))
	v.Password = p
	return err
}

// Bounds of quantities, wide enough for any machine: they catch typing errors,
// such as bytes where blocks are meant.
const (
	maxInFlight = 1024
	maxBuffers  = 16384 // 8 GiB
)

var (
	thumbprint  = regexp.MustCompile(`^(?:[0-9A-Fa-f]{2}[: -]?){19}[0-9A-Fa-f]{2}$|^(?:[0-9A-Fa-f]{2}[: -]?){31}[0-9A-Fa-f]{2}$`)
	applianceID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

func (c *Config) check() error {
	t := c.Transfer
	for _, q := range []struct {
		name   string
		n, max int
	}{
		{"transfer.reads", t.Reads, maxInFlight}, {"transfer.puts", t.Puts, maxInFlight},
		{"transfer.gets", t.Gets, maxInFlight}, {"transfer.buffers", t.Buffers, maxBuffers},
	} {
		if q.n < 1 || q.n > q.max {
			return fmt.Errorf("%s is %d: it must be from 1 to %d", q.name, q.n, q.max)
		}
	}
	switch {
	case t.Cleanup <= 0:
		return fmt.Errorf("transfer.cleanup is %v: clean-up needs time, 15m for example", t.Cleanup)
	case t.MaxFreeze < 0:
		return fmt.Errorf("transfer.maxFreeze is %v: it must be positive, or 0 for no limit", t.MaxFreeze)
	case t.Audit > maxBuffers:
		return fmt.Errorf("transfer.audit is %d blocks of 512 KiB: more than %d is a full read; verify --source does that", t.Audit, maxBuffers)
	case t.MinFreeGiB != nil && (*t.MinFreeGiB < 0 || *t.MinFreeGiB > 1<<20):
		return fmt.Errorf("transfer.minFreeGiB is %d: it is in GiB, and 0 does not look", *t.MinFreeGiB)
	case t.Limit < 0:
		return fmt.Errorf("transfer.limit is %d: it must be positive, or 0 for none", t.Limit)
	case c.VCenter.Thumbprint != "" && !isThumbprints(c.VCenter.Thumbprint):
		return errors.New("vcenter.thumbprint: a SHA-256 (or SHA-1) thumbprint has 32 (or 20) bytes in hex, AB:CD:…")
	case c.Appliance.ID != "" && !applianceID.MatchString(c.Appliance.ID):
		return fmt.Errorf("appliance.id %q: letters, digits, dots, underscores and hyphens only, at most 63", c.Appliance.ID)
	}
	if err := c.AWS.check(); err != nil {
		return err
	}
	if err := c.Retention.check(); err != nil {
		return err
	}
	switch c.Convert.CloudInit {
	case "", "disable", "enable":
	default:
		return fmt.Errorf("convert.cloudInit is %q: it is disable or enable, or absent to leave it as the guest has it", c.Convert.CloudInit)
	}
	return checkTags(t.Tags)
}

// isThumbprints: several are separated by commas, for the time in which a
// certificate is being replaced.
func isThumbprints(s string) bool {
	for t := range strings.SplitSeq(s, ",") {
		if !thumbprint.MatchString(strings.TrimSpace(t)) {
			return false
		}
	}
	return true
}

func (a AWS) check() error {
	for _, e := range []struct{ name, value string }{
		{"ebs", a.Endpoints.EBS}, {"ec2", a.Endpoints.EC2}, {"sts", a.Endpoints.STS}, {"ssm", a.Endpoints.SSM},
	} {
		if e.value == "" {
			continue
		}
		if u, err := url.Parse(e.value); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return fmt.Errorf("aws.endpoints.%s: %q is not a URL such as https://%s.eu-central-1.amazonaws.com", e.name, e.value, e.name)
		}
	}
	if a.PutsPerSecond < 0 || a.GetsPerSecond < 0 {
		return errors.New("aws.putsPerSecond and aws.getsPerSecond must be positive, or 0 for the region's quota")
	}
	return nil
}

// checkTags knows EC2's rules for tags; the room for our own is kept by the
// store.
func checkTags(tags map[string]string) error {
	for k, v := range tags {
		switch {
		case k == "" || len(k) > 128:
			return fmt.Errorf("tag %q: a tag's key has 1 to 128 characters", k)
		case len(v) > 255:
			return fmt.Errorf("tag %q: its value has more than 255 characters", k)
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return fmt.Errorf("tag %q: keys that begin with aws: belong to AWS", k)
		}
	}
	return nil
}
