package transfer_test

import (
	"slices"
	"testing"
	"time"

	"snapferry/test/memory"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// TestTakeoverFindsADiskWithoutItsVMSnapshot: somebody removed the VM snapshot of
// a dead appliance, and its disk still hangs on that appliance's own VM. Other
// VMs of the dead one are not touched.
func TestTakeoverFindsADiskWithoutItsVMSnapshot(t *testing.T) {
	source := memory.NewLeftovers("vm-7") // B's
	theirs, other := markedDisk("dead-1"), markedDisk("dead-1")
	other.VM, other.Slot = others, "scsi0:2"
	source.Add(nil, []transfer.MarkedDisk{theirs, other})
	r := &transfer.Reaper{
		Source: source, Store: &memory.ReapStore{Store: memory.NewStore(), InUse: map[transfer.SnapshotID]bool{}}, State: manifest.Dir(t.TempDir()),
		Appliance: "living-2", Dead: []transfer.ApplianceID{"dead-1"}, VMs: []transfer.VMID{reapVM}, Now: time.Now, Cleanup: time.Minute,
	}
	rep, err := r.Run(t.Context(), false)
	if err != nil || len(rep.Things) != 1 || !slices.Equal(source.Log(), []string{"detach scsi0:1"}) {
		t.Errorf("%+v, %v; did %v", rep.Things, err, source.Log())
	}
}
