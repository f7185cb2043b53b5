package webhook

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
)

// Hook is one receiver.
type Hook struct {
	Name string // unique; in logs, metrics and the cursor
	// URL is told to nobody: with many receivers its path is the password.
	URL    string
	Events []schedule.EventKind // none is all
	// Secret signs; empty signs nothing. "whsec_…" is base64 as the Standard
	// Webhooks libraries make it, anything else is used as it stands.
	Secret Secret
	// CA is a PEM file with the authorities to trust instead of the system's.
	CA string
	// Timeout of one request; 0 is 15 s: a receiver should queue, not work.
	Timeout time.Duration
}

// Secret is a key that no log tells.
type Secret string

const hidden = "[secret]"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString keeps %#v from telling it.
func (s Secret) GoString() string { return s.String() }

// LogValue keeps logs from telling it.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps JSON and YAML from telling it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

const (
	secretPrefix = "whsec_"
	// shortestKey: 16 bytes cannot be guessed when they are random.
	shortestKey = 16
)

// key is what signs, nil without a secret.
func (s Secret) key() ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	key := []byte(s)
	if text, ok := strings.CutPrefix(string(s), secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, errors.New("its secret is not base64 behind " + secretPrefix)
		}
	}
	if len(key) < shortestKey {
		return nil, fmt.Errorf("its secret has %d bytes: make it %d or more (openssl rand -base64 32)", len(key), shortestKey)
	}
	return key, nil
}

// kinds are all events that there are.
var kinds = []schedule.EventKind{
	schedule.EventVMAdded, schedule.EventVMGone, schedule.EventRunQueued, schedule.EventRunStart, schedule.EventRunEnd,
	schedule.EventRunFail, schedule.EventRunCancelled, schedule.EventRunTakenOver, schedule.EventInitialDone, schedule.EventStalled,
	schedule.EventRecovered, schedule.EventPaused, schedule.EventResumed, schedule.EventPruned, schedule.EventLifecycle,
	schedule.EventAlarm, schedule.EventAlarmCleared, schedule.EventPolicyChanged, schedule.EventWaveChanged,
	schedule.EventApplianceUp, schedule.EventApplianceDown, schedule.EventSettingsChange,
	schedule.EventLaunchQueued, schedule.EventLaunchCancelled,
	schedule.EventTestStart, schedule.EventTestEnd, schedule.EventTestFail, schedule.EventTestTerminated, schedule.EventTerminateFail,
	schedule.EventCutoverStart, schedule.EventCutoverEnd, schedule.EventCutoverFail, schedule.EventRevertStart, schedule.EventRevertEnd,
	schedule.EventRevertFail, schedule.EventFinalizeStart, schedule.EventFinalizeEnd, schedule.EventFinalizeFail, schedule.EventBootProved,
}

// longestName fits into a file's name however it is escaped.
const longestName = 64

func (h Hook) check() error {
	u, err := url.Parse(h.URL)
	switch {
	case h.Name == "" || len(h.Name) > longestName:
		return fmt.Errorf("webhook %q: its name must have 1 to %d bytes", h.Name, longestName)
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return fmt.Errorf("webhook %s: its URL is not one such as https://hooks.example.com/snapferry", h.Name)
	case u.User != nil:
		return fmt.Errorf("webhook %s: its URL holds a password: sign with a secret instead", h.Name)
	case h.Timeout < 0:
		return fmt.Errorf("webhook %s: its timeout is negative", h.Name)
	}
	for _, k := range h.Events {
		if !slices.Contains(kinds, k) {
			return fmt.Errorf("webhook %s: there is no event %q; docs/observability.md lists them", h.Name, k)
		}
	}
	return nil
}

func (h Hook) wants(k schedule.EventKind) bool {
	return len(h.Events) == 0 || slices.Contains(h.Events, k)
}

// pool reads the hook's authorities, nil for the system's.
func (h Hook) pool() (*x509.CertPool, error) {
	if h.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(h.CA)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: read its authorities: %w", h.Name, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("webhook %s: %s holds no certificate in PEM", h.Name, h.CA)
	}
	return pool, nil
}
