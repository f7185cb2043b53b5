package vsphere

import (
	"bufio"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"snapferry/transfer"
)

// trust decides whether a certificate is vCenter's. It works inside the TLS
// handshake and therefore through HTTP proxies too, which govmomi's own
// thumbprint check (a DialTLS function) does not.
type trust struct {
	host   string   // as in the URL, with port
	pins   []string // accept these and nothing else
	known  []string // accept these also where the chain does not verify
	roots  *x509.CertPool
	anyone bool
	until  atomic.Pointer[time.Time] // how long what was accepted last is valid
}

func newTrust(c Config, host string) (*trust, error) {
	t := &trust{host: host, anyone: c.Insecure}
	for _, p := range strings.Split(c.Thumbprint, ",") {
		if strings.TrimSpace(p) == "" {
			continue
		}
		pin, err := thumbprint(p)
		if err != nil {
			return nil, transfer.Fail(transfer.Permanent, "read the vCenter thumbprint", err, "")
		}
		t.pins = append(t.pins, pin)
	}
	for _, file := range filepath.SplitList(c.KnownHosts) {
		if err := t.loadKnown(file); err != nil {
			return nil, transfer.Fail(transfer.Permanent, "read known hosts", err, "")
		}
	}
	for _, file := range filepath.SplitList(c.CACertFiles) {
		if err := t.loadRoots(file); err != nil {
			return nil, transfer.Fail(transfer.Permanent, "read the vCenter's certificate authorities", err, "")
		}
	}
	return t, nil
}

func (t *trust) loadRoots(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if t.roots == nil {
		t.roots = x509.NewCertPool()
	}
	if !t.roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no PEM certificate", file)
	}
	return nil
}

func (t *trust) loadKnown(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		host, print, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if !ok || strings.HasPrefix(host, "#") || withPort(host) != withPort(t.host) {
			continue
		}
		pin, err := thumbprint(print)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		t.known = append(t.known, pin)
	}
	return lines.Err()
}

func (t *trust) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12, // vCenter has had it since 5.5
		InsecureSkipVerify: true,             // VerifyConnection does it, with the pins
		VerifyConnection:   t.verify,
	}
}

func (t *trust) verify(s tls.ConnectionState) error {
	leaf := s.PeerCertificates[0] // crypto/tls refuses a server without one
	if len(t.pins) > 0 {
		if isPinned(leaf, t.pins) {
			t.until.Store(&leaf.NotAfter)
			return nil
		}
		return &CertificateError{Host: t.host, SHA256: sha256Of(leaf), SHA1: sha1Of(leaf), Pinned: t.pins}
	}
	if t.anyone || isPinned(leaf, t.known) {
		t.until.Store(&leaf.NotAfter)
		return nil
	}
	o := x509.VerifyOptions{Roots: t.roots, DNSName: s.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(o)
	if err != nil {
		return &CertificateError{Host: t.host, SHA256: sha256Of(leaf), SHA1: sha1Of(leaf), Pinned: t.known, Err: err}
	}
	until := validUntil(chains)
	t.until.Store(&until)
	return nil
}

// validUntil is when the last of the chains breaks: a chain lives as long as
// its weakest certificate.
func validUntil(chains [][]*x509.Certificate) (until time.Time) {
	for _, chain := range chains {
		weakest := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(weakest) {
				weakest = c.NotAfter
			}
		}
		if weakest.After(until) {
			until = weakest
		}
	}
	return until
}

// CertificateError is a certificate that was not accepted.
type CertificateError struct {
	Host         string
	SHA256, SHA1 string   // of the certificate that the server showed
	Pinned       []string // that would have been accepted, in hex without colons
	Err          error    // why the chain does not verify; nil when only pins count
}

func (e *CertificateError) Error() string {
	var b strings.Builder
	if e.Err != nil {
		fmt.Fprintf(&b, "the certificate of %s is not trusted (%v)", e.Host, e.Err)
	} else {
		fmt.Fprintf(&b, "the certificate of %s is not the pinned one", e.Host)
	}
	for _, p := range e.Pinned {
		fmt.Fprintf(&b, "\n  pinned:        %s", colons(p))
	}
	fmt.Fprintf(&b, "\n  shown SHA-256: %s\n  shown SHA-1:   %s", e.SHA256, e.SHA1)
	return b.String()
}

func (e *CertificateError) Unwrap() error { return e.Err }

const hintCertificate = "Compare the thumbprint with the vCenter's own (on its console: openssl x509 -in /etc/vmware-vpx/ssl/rui.crt -noout -fingerprint -sha256). " +
	"If they are equal, pin it with --vcenter-thumbprint, or put a line \"host thumbprint\" into the file that GOVC_TLS_KNOWN_HOSTS names. " +
	"To trust an authority of your own instead, name its PEM file in GOVC_TLS_CA_CERTS."

func sha256Of(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return colons(hex.EncodeToString(sum[:]))
}

func sha1Of(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw) // what vSphere's own tools show
	return colons(hex.EncodeToString(sum[:]))
}

func isPinned(c *x509.Certificate, pins []string) bool {
	for _, p := range pins {
		if colons(p) == sha256Of(c) || colons(p) == sha1Of(c) {
			return true
		}
	}
	return false
}

// thumbprint normalizes one to lower-case hex without separators.
func thumbprint(s string) (string, error) {
	pin := strings.ToLower(strings.NewReplacer(":", "", " ", "", "-", "").Replace(s))
	if b, err := hex.DecodeString(pin); err != nil || (len(b) != sha256.Size && len(b) != sha1.Size) {
		return "", fmt.Errorf("%q is no SHA-256 (64 hex digits) or SHA-1 (40) thumbprint", strings.TrimSpace(s))
	}
	return pin, nil
}

func colons(pin string) string {
	var b strings.Builder
	for i, r := range strings.ToUpper(pin) {
		if i > 0 && i%2 == 0 {
			b.WriteByte(':')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return strings.ToLower(host)
	}
	return strings.ToLower(net.JoinHostPort(strings.Trim(host, "[]"), "443"))
}
