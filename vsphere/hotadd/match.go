package hotadd

import (
	"fmt"
	"strings"
)

// want is how a disk of ours must look in the guest.
type want struct {
	wwid string // "naa.6000c29…"
	unit int32
	pci  string // of its controller, "0000:03:00"; empty if not known
	size int64  // bytes; 0 if not known
}

// seen is a block device as sysfs shows it.
type seen struct {
	name   string // "sdb"
	wwid   string
	target int32  // T of H:C:T:L; -1 if not shown
	pci    string // of its host adapter, "0000:03:00.0"; empty if not shown
	size   int64  // bytes
}

func (s seen) String() string {
	return fmt.Sprintf("%s (wwid %s, target %d, pci %s, %d bytes)", s.name, s.wwid, s.target, s.pci, s.size)
}

// wwidOf is the WWID that ESXi derives from a backing's UUID; empty for none.
func wwidOf(uuid string) string {
	hex := strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(uuid))
	if hex == "" {
		return ""
	}
	return "naa." + hex
}

// is: every key matches. Controllers are compared where both sides know them.
func (w want) is(s seen) bool {
	controller := w.pci == "" || s.pci == "" || strings.HasPrefix(s.pci, w.pci+".")
	return w.wwid != "" && s.wwid == w.wwid && s.target == w.unit && controller && (w.size == 0 || s.size == w.size)
}

// pick chooses the one device that is wanted. Two with its WWID are never
// chosen from. ok is false while there is none. It is pure.
func (w want) pick(all []seen) (name string, ok bool, err error) {
	var same []seen
	for _, s := range all {
		if s.wwid == w.wwid {
			same = append(same, s)
		}
		if w.is(s) {
			name, ok = s.name, true
		}
	}
	if len(same) > 1 {
		return "", false, fmt.Errorf("several devices show the same WWID:\n%s", list(same))
	}
	return name, ok, nil
}

func list(all []seen) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "  %v\n", s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
