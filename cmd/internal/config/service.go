package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"snapferry/schedule"
)

// Database says where the service keeps what it knows.
type Database struct {
	// URL is sqlite:PATH or postgres://USER@HOST/NAME; absent is a SQLite file
	// in the state folder. It holds no password.
	URL string `yaml:"url"`
	// Password, or the file that holds it; never both. Absent is what libpq's
	// rules find (PGPASSWORD, ~/.pgpass) or none.
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"passwordFile"`
}

// Server says where the API and the console listen.
type Server struct {
	// Listen is host:port; absent is the loopback's port 8980. "none" listens
	// on the state folder's socket only.
	Listen string `yaml:"listen"`
	// Cert and Key are PEM files; they are read again when they change. Without
	// them only the loopback is listened on, unless PlainHTTP says otherwise.
	Cert      string  `yaml:"cert"`
	Key       string  `yaml:"key"`
	PlainHTTP bool    `yaml:"plainHTTP"`
	Tokens    []Token `yaml:"tokens"`
	// OpenMetrics serves /metrics to whoever asks.
	OpenMetrics bool `yaml:"openMetrics"`
}

// Token lets its holder in. The file has its digest only: snapferry token makes
// both.
type Token struct {
	Name   string        `yaml:"name"`
	Role   schedule.Role `yaml:"role"`
	SHA256 string        `yaml:"sha256"` // of the token, in hex
}

// Webhook is told of events.
type Webhook struct {
	Name   string               `yaml:"name"`
	URL    string               `yaml:"url"`
	Events []schedule.EventKind `yaml:"events"` // none is all
	// Secret signs what is sent (or the file that holds it).
	Secret     Secret `yaml:"secret"`
	SecretFile string `yaml:"secretFile"`
	CACerts    string `yaml:"caCerts"` // PEM file
}

// Log says how the service logs.
type Log struct {
	Format string `yaml:"format"` // text or json
	Level  string `yaml:"level"`  // debug, info, warn, error
}

// History says how long runs, events and the audit log are kept.
type History struct {
	Keep time.Duration `yaml:"keep"`
}

const (
	defaultListen = "127.0.0.1:8980"
	// defaultKeep: a quarter of a year of runs answers most questions about
	// what happened; at an hourly run of 2,000 VMs that is four million rows.
	defaultKeep = 90 * 24 * time.Hour
	// NoListen is Server.Listen's word for the socket alone.
	NoListen = "none"
)

func (c *Config) fillService() {
	orElse(&c.Server.Listen, defaultListen)
	orElse(&c.Log.Format, "text")
	orElse(&c.Log.Level, "info")
	orElse(&c.History.Keep, defaultKeep)
	l, d := &c.Limits, schedule.DefaultLimits()
	orElse(&l.PerVCenter, d.PerVCenter)
	orElse(&l.PerHost, d.PerHost)
	orElse(&l.PerDatastore, d.PerDatastore)
	orElse(&l.PerAppliance, d.PerAppliance)
	orElse(&l.Disks, d.Disks)
	orElse(&l.Drafts, d.Drafts)
}

// completeService fills in what follows from the rest and refuses what cannot
// work.
func (c *Config) completeService(sys System) error {
	if c.Database.URL == "" {
		c.Database.URL = "sqlite:" + filepath.Join(c.StateDir, "snapferry.db")
	}
	if err := c.Database.Complete(sys); err != nil {
		return err
	}
	if err := schedule.CheckAll(c.Policies); err != nil {
		return err
	}
	for i := range c.Webhooks {
		if err := c.Webhooks[i].complete(sys); err != nil {
			return err
		}
	}
	if c.History.Keep < 24*time.Hour {
		return fmt.Errorf("history.keep is %v: it must be a day or more", c.History.Keep)
	}
	if err := c.Log.check(); err != nil {
		return err
	}
	if err := c.Convert.check(); err != nil {
		return err
	}
	if err := c.checkLimits(); err != nil {
		return err
	}
	return c.Server.check()
}

func (c *Config) checkLimits() error {
	l := c.Limits
	for _, q := range []struct {
		name string
		n    int
	}{
		{"perVCenter", l.PerVCenter}, {"perHost", l.PerHost}, {"perDatastore", l.PerDatastore},
		{"perAppliance", l.PerAppliance}, {"disks", l.Disks}, {"drafts", l.Drafts},
	} {
		if q.n < 0 {
			return fmt.Errorf("limits.%s is %d: it must be positive", q.name, q.n)
		}
	}
	if l.PutsPerSecond < 0 {
		return errors.New("limits.putsPerSecond must be positive, or 0 for the region's quota")
	}
	return nil
}

// Complete checks the URL and reads the password.
func (d *Database) Complete(sys System) error {
	scheme, rest, ok := strings.Cut(d.URL, ":")
	switch {
	case ok && scheme == "sqlite" && rest != "":
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		u, err := url.Parse(d.URL)
		if err != nil {
			return errors.New("database.url: this is not a URL such as postgres://snapferry@db.example.com/snapferry")
		}
		if _, has := u.User.Password(); has {
			return errors.New("database.url: keep the password under database.passwordFile, not in the URL")
		}
	default:
		return errors.New("database.url: it must be sqlite:PATH or postgres://USER@HOST/NAME")
	}
	return oneSecret("database.password", &d.Password, d.PasswordFile, sys)
}

// oneSecret reads a secret's file where that is how it is given.
func oneSecret(name string, s *Secret, file string, sys System) error {
	switch {
	case file == "":
		return nil
	case !s.Empty():
		return fmt.Errorf("%s and %sFile are both set: keep one", name, name)
	}
	p, err := readPassword(file, sys.Getenv("CREDENTIALS_DIRECTORY"))
	*s = p
	return err
}

func (h *Webhook) complete(sys System) error {
	u, err := url.Parse(h.URL)
	switch {
	case h.Name == "":
		return errors.New("webhooks: one has no name")
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return fmt.Errorf("webhook %s: url is not one such as https://hooks.example.com/snapferry", h.Name)
	case u.User != nil:
		return fmt.Errorf("webhook %s: its url holds a password; sign with secretFile instead", h.Name)
	}
	return oneSecret("webhooks: secret", &h.Secret, h.SecretFile, sys)
}

func (c Convert) check() error {
	if c.CloudInit != "" && c.CloudInit != "disable" && c.CloudInit != "enable" {
		return fmt.Errorf("convert.cloudInit %q: it must be disable or enable, or be left out", c.CloudInit)
	}
	return nil
}

func (l Log) check() error {
	switch {
	case l.Format != "text" && l.Format != "json":
		return fmt.Errorf("log.format %q: it must be text or json", l.Format)
	case l.Level != "debug" && l.Level != "info" && l.Level != "warn" && l.Level != "error":
		return fmt.Errorf("log.level %q: it must be debug, info, warn or error", l.Level)
	}
	return nil
}

func (s Server) check() error {
	if (s.Cert == "") != (s.Key == "") {
		return errors.New("server.cert and server.key come together")
	}
	if err := s.checkTokens(); err != nil || s.Listen == NoListen {
		return err
	}
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fmt.Errorf("server.listen %q: it must be HOST:PORT, such as %s or :8980", s.Listen, defaultListen)
	}
	if s.Cert == "" && !s.PlainHTTP && !isLoopback(host) {
		return fmt.Errorf("server.listen %s is reached from outside and would send tokens in the clear: give server.cert and server.key, or, behind a proxy that does TLS, set server.plainHTTP", s.Listen)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (s Server) checkTokens() error {
	seen := map[string]bool{}
	for _, t := range s.Tokens {
		sum, err := hex.DecodeString(t.SHA256)
		switch {
		case t.Name == "" || seen[t.Name]:
			return fmt.Errorf("server.tokens: %q: each needs a name of its own", t.Name)
		case t.Role != schedule.RoleViewer && t.Role != schedule.RoleOperator:
			return fmt.Errorf("server.tokens: %s: role %q must be viewer or operator", t.Name, t.Role)
		case err != nil || len(sum) != 32:
			return fmt.Errorf("server.tokens: %s: sha256 is not 64 hex digits; snapferry token makes one", t.Name)
		}
		seen[t.Name] = true
	}
	return nil
}
