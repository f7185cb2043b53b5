package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
)

// settings are the flags that many verbs share. Each is an override of the
// configuration: flags go before the environment, and that before the file.
type settings struct {
	file      string
	verbose   bool
	overrides []func(*config.Config) error
}

// newSettings declares the flags that every verb has.
func newSettings(fs *pflag.FlagSet) *settings {
	s := &settings{}
	fs.StringVar(&s.file, "config", "", "settings `file` (default $XDG_CONFIG_HOME/snapferry/config.yaml, /etc/snapferry/config.yaml)")
	fs.BoolVarP(&s.verbose, "verbose", "v", false, "log to stderr what is done")
	return s
}

// override declares a flag that changes the configuration.
func (s *settings) override(fs *pflag.FlagSet, name, usage string, set func(*config.Config, string) error) {
	fs.Func(name, usage, func(value string) error {
		var scratch config.Config // a wrong value is reported with its flag
		if err := set(&scratch, value); err != nil {
			return err
		}
		s.overrides = append(s.overrides, func(c *config.Config) error { return set(c, value) })
		return nil
	})
}

// text declares a flag for a setting that is any text.
func (s *settings) text(fs *pflag.FlagSet, name, usage string, field func(*config.Config) *string) {
	s.override(fs, name, usage, func(c *config.Config, value string) error { *field(c) = value; return nil })
}

// yes declares a flag for a setting that is true or false.
func (s *settings) yes(fs *pflag.FlagSet, name, usage string, field func(*config.Config) *bool) {
	fs.BoolFunc(name, usage, func(value string) error {
		b, err := parseBool(value)
		if err != nil {
			return err
		}
		s.overrides = append(s.overrides, func(c *config.Config) error { *field(c) = b; return nil })
		return nil
	})
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func (s *settings) vcenter(fs *pflag.FlagSet) {
	// Not by override: where a flag's value is refused pflag quotes it, and
	// this one may hold a password.
	fs.Func("vcenter", "vCenter `URL` (GOVC_URL)", func(value string) error {
		s.overrides = append(s.overrides, func(c *config.Config) error { return setVCenter(c, value) })
		return nil
	})
	s.text(fs, "vcenter-user", "vCenter user `name` (GOVC_USERNAME)", func(c *config.Config) *string { return &c.VCenter.User })
	s.override(fs, "vcenter-password-file", "`file` with the vCenter password (or GOVC_PASSWORD)", func(c *config.Config, value string) error {
		c.VCenter.SetPasswordFile(value)
		return nil
	})
	s.text(fs, "vcenter-thumbprint", "accept only the vCenter certificate with this SHA-256 or SHA-1 `thumbprint`", func(c *config.Config) *string { return &c.VCenter.Thumbprint })
	s.text(fs, "vcenter-ca-certs", "PEM `files` with the authorities to trust (GOVC_TLS_CA_CERTS)", func(c *config.Config) *string { return &c.VCenter.CACerts })
	s.text(fs, "vcenter-known-hosts", "`file` with thumbprints of hosts (GOVC_TLS_KNOWN_HOSTS)", func(c *config.Config) *string { return &c.VCenter.KnownHosts })
	s.yes(fs, "vcenter-insecure", "accept any vCenter certificate (GOVC_INSECURE)", func(c *config.Config) *bool { return &c.VCenter.Insecure })
}

// setVCenter takes the flag --vcenter, which may name the user.
func setVCenter(c *config.Config, value string) error {
	u, err := config.ParseURL(value)
	if err != nil {
		return fmt.Errorf("--vcenter: %w", err)
	}
	if _, has := u.User.Password(); has {
		return errors.New("--vcenter: a password on the command line can be read by every user of the machine: use GOVC_PASSWORD or --vcenter-password-file")
	}
	if u.User != nil {
		c.VCenter.User = u.User.Username()
		u.User = nil
	}
	c.VCenter.URL = u.String()
	return nil
}

func (s *settings) aws(fs *pflag.FlagSet) {
	s.text(fs, "aws-profile", "`profile` of the shared AWS configuration (AWS_PROFILE)", func(c *config.Config) *string { return &c.AWS.Profile })
	s.text(fs, "aws-region", "AWS `region` (AWS_REGION)", func(c *config.Config) *string { return &c.AWS.Region })
	s.text(fs, "aws-endpoint-ebs", "`URL` of EBS direct (AWS_ENDPOINT_URL_EBS)", func(c *config.Config) *string { return &c.AWS.Endpoints.EBS })
	s.text(fs, "aws-endpoint-ec2", "`URL` of EC2 (AWS_ENDPOINT_URL_EC2)", func(c *config.Config) *string { return &c.AWS.Endpoints.EC2 })
	s.text(fs, "aws-endpoint-sts", "`URL` of STS (AWS_ENDPOINT_URL_STS)", func(c *config.Config) *string { return &c.AWS.Endpoints.STS })
	s.text(fs, "aws-ca-bundle", "PEM `file` with the authorities to trust (AWS_CA_BUNDLE)", func(c *config.Config) *string { return &c.AWS.CABundle })
}

func (s *settings) appliance(fs *pflag.FlagSet) {
	s.text(fs, "appliance", "moref or inventory `path` of the VM that this runs in (default: found by its DMI serial number)", func(c *config.Config) *string { return &c.Appliance.VM })
	s.devices(fs)
}

func (s *settings) state(fs *pflag.FlagSet) {
	s.text(fs, "state-dir", "`folder` for manifests and the appliance's ID (default $STATE_DIRECTORY, $XDG_STATE_HOME/snapferry, /var/lib/snapferry for root)", func(c *config.Config) *string { return &c.StateDir })
}

func (s *settings) limit(fs *pflag.FlagSet) {
	s.override(fs, "limit", "bound on block data to and from AWS, all disks together: a `rate` such as 200MB/s, 190MiB/s, 800Mbit/s", func(c *config.Config, value string) error {
		return c.Transfer.Limit.UnmarshalText([]byte(value))
	})
}

// load puts the layers together. What is wrong there is wrong usage.
func (s *settings) load(std cli.Streams) (config.Config, error) {
	c, err := config.Load(config.Here(), s.file, s.overrides)
	if err != nil {
		return c, cli.Usage(err)
	}
	var handler slog.Handler = slog.DiscardHandler
	if s.verbose {
		handler = slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	slog.SetDefault(slog.New(handler))
	return c, nil
}

// tag reads a flag "key=value" into the tags.
func (s *settings) tag(fs *pflag.FlagSet) {
	s.override(fs, "tag", "`key=value` to tag everything in AWS with; may be repeated", func(c *config.Config, value string) error {
		k, v, ok := strings.Cut(value, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is not key=value", value)
		}
		tags := map[string]string{k: v}
		for old, was := range c.Transfer.Tags {
			if old != k {
				tags[old] = was
			}
		}
		c.Transfer.Tags = tags
		return nil
	})
}

// logged logs one fact.
func logged(ctx context.Context, message string, args ...any) {
	slog.DebugContext(ctx, message, args...)
}
