package web

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"snapferry/schedule"
)

func mapKeys(m map[string]string) iter.Seq[string] { return maps.Keys(m) }

// facts are what vCenter says of a VM.
func facts(v schedule.VM) []fact {
	power := "off"
	if v.PoweredOn {
		power = "on"
	}
	cbt := "off: the next cycle turns it on where it can"
	if v.CBT {
		cbt = "on"
	}
	boot := v.Guest.Firmware
	if v.Guest.SecureBoot {
		boot += ", Secure Boot"
	}
	out := []fact{
		{"Inventory path", v.Path}, {"Managed object", v.ID.Moref}, {"Host", v.Host}, {"Resource pool", v.Pool}, {"Power", power},
		{"Guest", v.Guest.ID}, {"CPUs, memory", fmt.Sprintf("%d, %s", v.Guest.CPUs, size(v.Guest.MemoryMiB<<20))}, {"Firmware", boot},
		{"Changed block tracking", cbt}, {"VM snapshots now", fmt.Sprint(v.Snapshots)}, {"Tags", strings.Join(v.Tags, ", ")},
	}
	for _, key := range slices.Sorted(mapKeys(v.Attributes)) {
		out = append(out, fact{"Attribute " + key, v.Attributes[key]})
	}
	return slices.DeleteFunc(out, func(f fact) bool { return f.Value == "" })
}

// obstacles are all reasons against replicating, the VM's own first.
func obstacles(v schedule.VM) []obstacle {
	var out []obstacle
	for _, o := range v.Obstacles {
		out = append(out, obstacle{"The VM", o})
	}
	for _, d := range v.Disks {
		for _, o := range d.Obstacles {
			out = append(out, obstacle{d.Label, o})
		}
	}
	return out
}
