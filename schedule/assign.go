package schedule

import (
	"fmt"
	"path"
	"strings"
)

// Assign says which policy a VM gets, and why: the one that a person chose for
// it, else the first in order that matches; "" when there is none. A chosen
// policy that does not exist (any more) is not replaced by another: what a
// person meant by it nobody knows.
func Assign(ps []Policy, vm *VM) (name, why string) {
	if vm.Chosen != "" {
		for i := range ps {
			if ps[i].Name == vm.Chosen {
				return vm.Chosen, "chosen for this VM"
			}
		}
		return "", fmt.Sprintf("policy %s was chosen for this VM and does not exist", vm.Chosen)
	}
	for i := range ps {
		for _, m := range ps[i].Match {
			if why, ok := m.fits(vm); ok {
				return ps[i].Name, why
			}
		}
	}
	return "", "no policy matches it"
}

// fits reports whether everything in m holds for the VM, and what that is.
func (m Match) fits(vm *VM) (why string, ok bool) {
	var reasons []string
	for _, q := range []struct {
		what, want string
		fits       func(want string, vm *VM) bool
	}{
		{"name", m.Name, func(want string, vm *VM) bool { return matches(want, vm.Name) }},
		{"folder", m.Folder, func(want string, vm *VM) bool { return isBelow(want, path.Dir(vm.Path)) }},
		{"pool", m.Pool, func(want string, vm *VM) bool { return isBelow(want, vm.Pool) }},
		{"tag", m.Tag, hasTag},
		{"attribute", m.Attribute, hasAttribute},
	} {
		if q.want == "" {
			continue
		}
		if !q.fits(q.want, vm) {
			return "", false
		}
		reasons = append(reasons, q.what+" "+q.want)
	}
	return "matches " + strings.Join(reasons, " and "), len(reasons) > 0
}

func matches(pattern, s string) bool {
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(s))
	return err == nil && ok // Check refuses bad patterns
}

// isBelow reports whether a folder, or one above it, matches.
func isBelow(pattern, folder string) bool {
	if folder == "" {
		return false
	}
	if trimmed := strings.TrimRight(pattern, "/"); trimmed != "" {
		pattern = trimmed
	}
	for {
		if matches(pattern, folder) {
			return true
		}
		above := path.Dir(folder)
		if above == folder {
			return false
		}
		folder = above
	}
}

// hasTag: "category:tag", or a tag alone in any category.
func hasTag(want string, vm *VM) bool {
	for _, t := range vm.Tags {
		_, tag, _ := strings.Cut(t, ":")
		if strings.EqualFold(t, want) || (tag != "" && strings.EqualFold(tag, want)) {
			return true
		}
	}
	return false
}

// hasAttribute: "name=value", or a name alone for any value but none.
func hasAttribute(want string, vm *VM) bool {
	key, value, exact := strings.Cut(want, "=")
	for k, v := range vm.Attributes {
		if strings.EqualFold(k, key) && ((exact && strings.EqualFold(v, value)) || (!exact && v != "")) {
			return true
		}
	}
	return false
}
