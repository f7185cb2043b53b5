package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"snapferry/cmd/internal/config"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// launchBook keeps launches where no service does: a file for each in a folder
// below the state.
type launchBook string

// bookOf is this machine's.
func bookOf(cfg config.Config) launchBook {
	return launchBook(filepath.Join(cfg.StateDir, "launches"))
}

func (b launchBook) file(id launch.JobID) string { return filepath.Join(string(b), string(id)+".json") }

// save writes a job so that a power cut leaves either the old state or the new.
func (b launchBook) save(_ context.Context, j launch.Job) error {
	row, err := launchRow(j)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(b), 0o700); err != nil {
		return fmt.Errorf("make folder of launches: %w", err)
	}
	text, err := json.MarshalIndent(row, "", " ")
	if err != nil {
		return fmt.Errorf("write down launch %s: %w", j.ID, err)
	}
	f, err := os.CreateTemp(string(b), "new-")
	if err != nil {
		return fmt.Errorf("write down launch %s: %w", j.ID, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), b.file(j.ID))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone
		return fmt.Errorf("write down launch %s: %w", j.ID, err)
	}
	return b.sync()
}

// sync makes the folder's entries durable.
func (b launchBook) sync() error {
	d, err := os.Open(string(b))
	if err != nil {
		return fmt.Errorf("write down launches: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write down launches: %w", err)
	}
	return nil
}

// jobs are all that are kept of a VM, or of all VMs (nil), newest first. A file
// that cannot be read is an error beside the others.
func (b launchBook) jobs(vm *transfer.VMID) ([]schedule.LaunchJob, error) {
	entries, err := os.ReadDir(string(b))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read launches: %w", err)
	}
	var all []schedule.LaunchJob
	var wrong []error
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		var row schedule.LaunchJob
		text, err := os.ReadFile(filepath.Join(string(b), e.Name()))
		if err == nil {
			err = json.Unmarshal(text, &row)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("read launch %s: %w", e.Name(), err))
			continue
		}
		if vm == nil || row.VM == *vm {
			all = append(all, row)
		}
	}
	slices.SortFunc(all, func(a, b schedule.LaunchJob) int { return -cmp.Compare(a.ID, b.ID) })
	return all, errors.Join(wrong...)
}

// open are the jobs of a VM that are not over.
func (b launchBook) open(vm transfer.VMID) ([]launch.Job, error) {
	rows, err := b.jobs(&vm)
	if err != nil {
		return nil, err
	}
	return launchJobs(slices.DeleteFunc(rows, func(r schedule.LaunchJob) bool { return r.Over }))
}
