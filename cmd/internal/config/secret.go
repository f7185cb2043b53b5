package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Secret is a password. Only Reveal tells it.
type Secret struct{ value string }

// NewSecret wraps a password.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal is the password, for the one call that logs in.
func (s Secret) Reveal() string { return s.value }

// Empty reports whether there is none.
func (s Secret) Empty() bool { return s.value == "" }

const hidden = "[secret]"

func (s Secret) String() string {
	if s.Empty() {
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

// UnmarshalText takes the password as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	s.value = string(text)
	return nil
}

// privately refuses a file with a secret in it that others can read. What is
// no ordinary file (a pipe from a password manager) has no lasting content, and
// systemd's credentials are guarded by an access list that shows in the mode as
// a group's right.
func privately(path, credentials string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if credentials != "" && filepath.Dir(path) == filepath.Clean(credentials) && st.Mode().Perm()&0o037 == 0 {
		return nil
	}
	return fmt.Errorf("%s holds a password and others can read it (mode %04o): chmod 600 %s", path, st.Mode().Perm(), path)
}

// readPassword reads a password file: its first line.
func readPassword(path, credentials string) (Secret, error) {
	if err := privately(path, credentials); err != nil {
		return Secret{}, readError("password file", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Secret{}, readError("password file", path, err)
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	if strings.TrimSpace(rest) != "" {
		return Secret{}, fmt.Errorf("password file %s has more than one line", path)
	}
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return Secret{}, fmt.Errorf("password file %s is empty", path)
	}
	return NewSecret(line), nil
}

// readError names the file once: errors of package os name it already.
func readError(what, path string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		return fmt.Errorf("read %s %s: %w", what, path, named.Err)
	}
	return fmt.Errorf("read %s: %w", what, err)
}
