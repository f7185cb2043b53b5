package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

// latest is what a person writes for the newest complete point of a VM.
const latest = "latest"

// pickPoint finds the point that a person means: a cycle ID or a unique
// beginning of one, "VM@latest", "VM@cycle", a VM's name, moref, instance UUID
// or "vcenter/moref" (its newest complete point), or the ID of one EBS snapshot
// (then only that disk).
func pickPoint(points []transfer.Point, name string) (transfer.Point, error) {
	if strings.HasPrefix(name, "snap-") {
		return pickSnapshot(points, transfer.SnapshotID(name))
	}
	if vm, cycle, ok := cutLast(name, "@"); ok {
		of, err := pointsOf(points, vm)
		if err != nil {
			return transfer.Point{}, err
		}
		if cycle == latest || cycle == "" {
			return newest(of, vm)
		}
		return pickCycle(of, cycle, name)
	}
	p, err := pickCycle(points, name, name)
	if !errors.Is(err, errNoPoint) {
		return p, err
	}
	of, verr := pointsOf(points, name)
	if verr != nil {
		return transfer.Point{}, verr
	}
	return newest(of, name)
}

var errNoPoint = errors.New("there is no such recovery point")

const hintPoints = "snapferry points lists what there is; a point is named by its ID or the beginning of it, VM@latest, or a snapshot's ID."

func noPoint(name string) error {
	return transfer.Fail(transfer.Permanent, "find recovery point "+name, errNoPoint, hintPoints)
}

func pickSnapshot(points []transfer.Point, id transfer.SnapshotID) (transfer.Point, error) {
	for _, p := range points {
		for _, s := range p.Disks {
			if s.ID != id {
				continue
			}
			if s.State != transfer.Completed {
				return p, transfer.Fail(transfer.Permanent, "read "+string(id), fmt.Errorf("it is %s", s.State), "Only completed snapshots can be read.")
			}
			p.Disks = []transfer.Snapshot{s}
			return p, nil
		}
	}
	return transfer.Point{}, noPoint(string(id))
}

// pickCycle takes an exact ID before a beginning, since one may begin another.
func pickCycle(points []transfer.Point, prefix, name string) (transfer.Point, error) {
	var found []transfer.Point
	for _, p := range points {
		if string(p.Cycle) == prefix {
			return complete(p)
		}
		if prefix != "" && strings.HasPrefix(string(p.Cycle), prefix) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return transfer.Point{}, noPoint(name)
	case 1:
		return complete(found[0])
	}
	return transfer.Point{}, transfer.Fail(transfer.Permanent, "find recovery point "+name,
		fmt.Errorf("%d points begin so", len(found)), "Which one? "+listPoints(found))
}

// complete refuses what is no recovery point.
func complete(p transfer.Point) (transfer.Point, error) {
	if p.Complete {
		return p, nil
	}
	hint := "Take a complete point."
	for _, s := range p.Disks {
		if s.State == transfer.Completed {
			hint = fmt.Sprintf("Take a complete point, or name the snapshot of one disk, such as %s: it holds that disk alone.", s.ID)
			break
		}
	}
	return p, transfer.Fail(transfer.Permanent, "read recovery point "+string(p.Cycle), fmt.Errorf("it is not complete: %s", p.Missing), hint)
}

func newest(points []transfer.Point, vm string) (transfer.Point, error) {
	for _, p := range points { // newest first
		if p.Complete {
			return p, nil
		}
	}
	return transfer.Point{}, transfer.Fail(transfer.Permanent, "find the latest recovery point of "+vm,
		errors.New("none of them is complete"), "snapferry points says what is missing; snapferry sync makes a new one.")
}

// pointsOf returns the points of one VM; a name that several VMs have is an
// error that lists them.
func pointsOf(points []transfer.Point, vm string) ([]transfer.Point, error) {
	of := matching(points, vm)
	var vms []string
	for _, p := range of {
		if text := fmt.Sprintf("%s (%s)", p.VM, p.VMName); !slices.Contains(vms, text) {
			vms = append(vms, text)
		}
	}
	switch {
	case len(of) == 0:
		return nil, transfer.Fail(transfer.Permanent, "find recovery points of "+vm, errNoPoint, suggestVM(points, vm))
	case !oneVM(of):
		return nil, transfer.Fail(transfer.Permanent, "find recovery points of "+vm,
			errors.New("several VMs are called so"), "Name it as vcenter/moref: "+strings.Join(vms, ", ")+".")
	}
	return of, nil
}

// matching returns the points of all VMs that name may mean.
func matching(points []transfer.Point, name string) []transfer.Point {
	var of []transfer.Point
	for _, p := range points {
		if isVM(p, name) {
			of = append(of, p)
		}
	}
	return of
}

func isVM(p transfer.Point, name string) bool {
	return strings.EqualFold(p.VMName, name) || p.VM.Moref == name || p.VM.String() == name ||
		strings.EqualFold(p.Disks[0].Label.VMUUID, name)
}

func oneVM(points []transfer.Point) bool {
	return !slices.ContainsFunc(points, func(p transfer.Point) bool { return p.VM != points[0].VM })
}

func suggestVM(points []transfer.Point, name string) string {
	var names []string
	for _, p := range points {
		if !slices.Contains(names, p.VMName) {
			names = append(names, p.VMName)
		}
	}
	if len(names) == 0 {
		return "There is no recovery point of any VM in this account and region."
	}
	slices.SortStableFunc(names, func(a, b string) int { return cli.Distance(a, name) - cli.Distance(b, name) })
	return "There are points of " + strings.Join(names[:min(len(names), 5)], ", ") + ". " + hintPoints
}

func listPoints(points []transfer.Point) string {
	texts := make([]string, len(points))
	for i, p := range points {
		texts[i] = fmt.Sprintf("%s (%s)", p.Cycle, p.VMName)
	}
	return strings.Join(texts, ", ") + "."
}

// pickDisk finds one disk of a point by its number, label, key or UUID.
func pickDisk(p transfer.Point, name string) (transfer.Snapshot, error) {
	n, err := strconv.Atoi(name)
	for _, s := range p.Disks {
		l := s.Label
		if (err == nil && l.Ordinal == n) || strings.EqualFold(l.DiskLabel, name) || strconv.Itoa(int(l.Disk.Key)) == name || strings.EqualFold(l.Disk.UUID, name) {
			return s, nil
		}
	}
	names := make([]string, len(p.Disks))
	for i, s := range p.Disks {
		names[i] = fmt.Sprintf("%d (%s)", s.Label.Ordinal, s.Label.DiskLabel)
	}
	return transfer.Snapshot{}, transfer.Fail(transfer.Permanent, "find disk "+name,
		fmt.Errorf("the recovery point has no such disk"), "It has "+strings.Join(names, ", ")+".")
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
