package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"snapferry/transfer"
)

// applianceID returns the ID that marks what this appliance makes: the one of
// the settings, or one that was made up once and is kept in the state folder.
func applianceID(setting, stateDir string) (transfer.ApplianceID, error) {
	if setting != "" {
		return transfer.ApplianceID(setting), nil
	}
	path := filepath.Join(stateDir, "appliance-id")
	id, err := readID(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return "", fmt.Errorf("make state folder: %w", err)
	}
	if err := makeID(path); err != nil {
		return "", err
	}
	return readID(path)
}

func readID(path string) (transfer.ApplianceID, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read appliance ID: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if id == "" {
		return "", transfer.Fail(transfer.Permanent, "read appliance ID", fmt.Errorf("%s is empty", path),
			"Put the ID back that the VM snapshots and EBS snapshots of this appliance carry, or remove the file to get a new one.")
	}
	return transfer.ApplianceID(id), nil
}

// makeID writes a fresh ID, whole or not at all, unless another process was
// quicker: linking fails where the name exists.
func makeID(path string) error {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	f, err := os.CreateTemp(filepath.Dir(path), "appliance-id-")
	if err != nil {
		return fmt.Errorf("make appliance ID: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString("ferry-" + hex.EncodeToString(b[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make appliance ID: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep appliance ID: %w", err)
	}
	return nil
}
