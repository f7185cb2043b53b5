package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapferry/transfer"
)

// chooseDisks says which disks a cycle would take, for a plan. A cycle decides
// for itself when it runs, by the same rules; a test holds the two together.
func chooseDisks(vm transfer.VM, exclude []string) (disks []transfer.Disk, excluded []string, err error) {
	op := "plan " + vm.Name
	if len(vm.Obstacles) > 0 {
		return nil, nil, transfer.Fail(transfer.Permanent, op, errors.New(vm.Obstacles[0].Reason), vm.Obstacles[0].Remedy)
	}
	used := map[string]bool{}
	for _, d := range vm.Disks {
		if i := slices.IndexFunc(exclude, func(name string) bool { return isCalled(d, name) }); i >= 0 {
			used[exclude[i]] = true
			excluded = append(excluded, d.Label)
			continue
		}
		if len(d.Obstacles) > 0 {
			return nil, nil, transfer.Fail(transfer.Permanent, fmt.Sprintf("%s: %s (%s)", op, d.Label, d.File), errors.New(d.Obstacles[0].Reason),
				strings.TrimSpace(fmt.Sprintf("%s To replicate the VM without this disk: --exclude-disk %q", d.Obstacles[0].Remedy, d.Label)))
		}
		disks = append(disks, d)
	}
	for _, name := range exclude {
		if !used[name] {
			return nil, nil, transfer.Fail(transfer.Permanent, "exclude disk "+name, fmt.Errorf("%s has no such disk", vm.Name), "")
		}
	}
	if len(disks) == 0 {
		return nil, nil, transfer.Fail(transfer.Permanent, op, errors.New("it has no disk to replicate"), "")
	}
	slices.SortFunc(disks, func(a, b transfer.Disk) int { return cmp.Compare(a.ID.Key, b.ID.Key) })
	return disks, excluded, nil
}

// isCalled reports whether a user means this disk by name.
func isCalled(d transfer.Disk, name string) bool {
	return strings.EqualFold(name, d.Label) || name == fmt.Sprint(d.ID.Key) || strings.EqualFold(name, d.ID.UUID) || name == d.File
}
