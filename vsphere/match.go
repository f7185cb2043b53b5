package vsphere

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapferry/transfer"
)

// candidate is a VM as far as names go.
type candidate struct {
	moref, name, path, uuid string
}

func (c candidate) String() string { return fmt.Sprintf("%s (%s)", c.path, c.moref) }

// match finds what a person means by name. An exact path goes before a moref,
// that before an instance UUID, a path within a datacenter and a bare name.
func match(name string, all []candidate) (candidate, error) {
	op := "find VM " + name
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.moref, b.moref)) })
	rules := []func(candidate) bool{
		func(c candidate) bool { return c.path == strings.TrimSuffix(name, "/") || c.path == "/"+name },
		func(c candidate) bool {
			return c.moref == name || c.moref == strings.TrimPrefix(name, "VirtualMachine:")
		},
		func(c candidate) bool { return c.uuid != "" && strings.EqualFold(c.uuid, name) },
		func(c candidate) bool { return strings.Contains(name, "/") && relative(c.path) == name },
		func(c candidate) bool { return c.name == name },
	}
	if strings.Trim(name, "/") == "" {
		return candidate{}, transfer.Fail(transfer.Permanent, "find VM", errors.New("the name is empty"), "")
	}
	for _, is := range rules {
		var hits []candidate
		for _, c := range all {
			if is(c) {
				hits = append(hits, c)
			}
		}
		switch len(hits) {
		case 0:
		case 1:
			return hits[0], nil
		default:
			return candidate{}, transfer.Fail(transfer.Permanent, op, fmt.Errorf("it may be any of\n%s", lines(hits)),
				"Give the inventory path or the moref.")
		}
	}
	hint := "`snapferry vms` lists them."
	if close := closest(name, all); len(close) > 0 {
		hint = "Did you mean\n" + lines(close)
	}
	return candidate{}, transfer.Fail(transfer.Permanent, op, errors.New("there is no such VM, or the vCenter user may not see it"), hint)
}

func lines(cs []candidate) string {
	var b strings.Builder
	for i, c := range cs {
		if i == 20 { // a screenful
			fmt.Fprintf(&b, "  … and %d more\n", len(cs)-i)
			break
		}
		fmt.Fprintf(&b, "  %v\n", c)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// relative is a path below its datacenter's vm folder. Datacenters may be in
// folders, so that the first "/vm/" ends the prefix.
func relative(path string) string {
	_, rest, _ := strings.Cut(path, "/vm/")
	return rest
}

// closest returns up to five candidates whose names resemble name, best first.
func closest(name string, all []candidate) []candidate {
	want := strings.ToLower(name[strings.LastIndexByte(name, '/')+1:])
	type scored struct {
		candidate
		distance int
	}
	var near []scored
	for _, c := range all {
		have := strings.ToLower(c.name)
		d := distance(want, have)
		if want != "" && (strings.Contains(have, want) || strings.Contains(want, have)) {
			d = min(d, 1)
		}
		if d <= 1+len(want)/4 { // a quarter of the letters wrong is a typo, more another name
			near = append(near, scored{c, d})
		}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return a.distance - b.distance })
	var best []candidate
	for _, s := range near[:min(5, len(near))] {
		best = append(best, s.candidate)
	}
	return best
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
