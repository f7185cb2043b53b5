package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// System is where settings come from outside the flags.
type System struct {
	Getenv func(string) string
	Root   bool   // runs as root
	Home   string // "" when there is none
	Etc    string // "/etc"
}

// Here is the system that the process runs on.
func Here() System {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // a service has none; nothing is looked up there then
	}
	return System{Getenv: os.Getenv, Root: os.Geteuid() == 0, Home: home, Etc: "/etc"}
}

// Load reads the file (the default one, where it exists, if file is empty),
// puts the environment over it and then each override, and checks the whole.
func Load(sys System, file string, overrides []func(*Config) error) (Config, error) {
	c, err := loadFile(sys, file)
	if err != nil {
		return c, err
	}
	if err := c.environ(sys.Getenv); err != nil {
		return c, err
	}
	for _, set := range overrides {
		if err := set(&c); err != nil {
			return c, err
		}
	}
	return c, c.complete(sys)
}

func loadFile(sys System, file string) (Config, error) {
	candidates := []string{file}
	if file == "" {
		candidates = sys.defaultFiles()
	}
	for _, path := range candidates {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && file == "" {
			continue
		}
		if err != nil {
			return Config{}, readError("settings", path, err)
		}
		c, err := Parse(path, data)
		if err == nil && c.holdsSecret() {
			err = privately(path, sys.Getenv("CREDENTIALS_DIRECTORY"))
		}
		return c, err
	}
	return Default(), nil
}

// holdsSecret reports whether the file itself has a secret in it.
func (c *Config) holdsSecret() bool {
	for _, h := range c.Webhooks {
		if !h.Secret.Empty() {
			return true
		}
	}
	return !c.VCenter.Password.Empty() || !c.Database.Password.Empty()
}

func (s System) defaultFiles() []string {
	var files []string
	if dir := s.xdg("XDG_CONFIG_HOME", ".config"); dir != "" {
		files = append(files, filepath.Join(dir, "snapferry", "config.yaml"))
	}
	return append(files, filepath.Join(s.Etc, "snapferry", "config.yaml"))
}

// xdg is a base directory; a relative one is to be ignored, says its standard.
func (s System) xdg(variable, inHome string) string {
	if dir := s.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	if s.Home == "" {
		return ""
	}
	return filepath.Join(s.Home, inHome)
}

// environ puts govc's variables over c.
func (c *Config) environ(getenv func(string) string) error {
	set := func(v *string, name string) {
		if s := getenv(name); s != "" {
			*v = s
		}
	}
	v := &c.VCenter
	if s := getenv("GOVC_URL"); s != "" {
		if err := v.fromURL(s); err != nil {
			return fmt.Errorf("GOVC_URL: %w", err)
		}
	}
	set(&v.User, "GOVC_USERNAME")
	if s := getenv("GOVC_PASSWORD"); s != "" {
		v.SetPassword(NewSecret(s))
	}
	if s := getenv("GOVC_INSECURE"); s != "" {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("GOVC_INSECURE: %q is neither true nor false", s)
		}
		v.Insecure = b
	}
	set(&v.CACerts, "GOVC_TLS_CA_CERTS")
	set(&v.KnownHosts, "GOVC_TLS_KNOWN_HOSTS")
	return nil
}

// fromURL takes a URL that may carry the user and the password, as govc's may.
func (v *VCenter) fromURL(s string) error {
	u, err := ParseURL(s)
	if err != nil {
		return err
	}
	if u.User != nil {
		v.User = u.User.Username()
		if p, ok := u.User.Password(); ok {
			v.SetPassword(NewSecret(p))
		}
		u.User = nil
	}
	v.URL = u.String()
	return nil
}

// SetPassword replaces what any layer below said about the password.
func (v *VCenter) SetPassword(p Secret) { v.Password, v.PasswordFile = p, "" }

// SetPasswordFile replaces what any layer below said about the password.
func (v *VCenter) SetPasswordFile(path string) { v.Password, v.PasswordFile = Secret{}, path }

// ParseURL reads a vCenter's address as govc does: scheme and path may be left
// out. Its errors do not repeat the text, which may hold a password.
func ParseURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		var cause *url.Error
		if errors.As(err, &cause) && !strings.Contains(s, "@") {
			return nil, fmt.Errorf("this is not a URL: %w", cause.Err)
		}
		return nil, errors.New("this is not a URL such as https://vcenter.example.com/sdk")
	}
	if u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("this is not a URL such as https://vcenter.example.com/sdk")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	return u, nil
}
