package vsphere

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/mo"

	"snapferry/transfer"
)

// DefaultMinFree is how many bytes a datastore must have free before a VM
// snapshot is made on it: what a guest that writes 20 MB/s fills in nine
// minutes, longer than most deltas take. A full datastore stops every VM on it.
const DefaultMinFree = 10 << 30

// smallShare: of a datastore too small for DefaultMinFree a tenth must be free.
const smallShare = 10

// checkSpace refuses to freeze where a redo log could fill a datastore. A
// datastore that says nothing of its capacity passes. It is pure.
func checkSpace(vm mo.VirtualMachine, stores map[ref]mo.Datastore, minFree *int64) error {
	if minFree != nil && *minFree <= 0 {
		return nil
	}
	used := redoStores(vm)
	for _, ds := range stores {
		s := ds.Summary
		if !slices.Contains(used, ds.Name) || s.Capacity <= 0 {
			continue
		}
		need := min(DefaultMinFree, s.Capacity/smallShare)
		if minFree != nil {
			need = *minFree
		}
		if s.FreeSpace < need {
			return transfer.Fail(transfer.Permanent, "freeze "+plainName(vm.Name),
				fmt.Errorf("datastore %s has %d MiB free, less than the %d MiB that a VM snapshot should find", ds.Name, s.FreeSpace>>20, need>>20),
				"Free space on it or extend it; the limit is a setting.")
		}
	}
	return nil
}

// redoStores are the names of the datastores on which a snapshot writes.
func redoStores(vm mo.VirtualMachine) []string {
	var names []string
	if vm.Config == nil {
		return nil
	}
	for _, d := range virtualDisks(vm.Config.Hardware.Device) {
		if b := viewBacking(d.Backing); b != nil {
			names = append(names, datastoreName(b.file))
		}
	}
	return append(names, datastoreName(vm.Config.Files.VmPathName))
}
