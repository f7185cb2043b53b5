package vsphere

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// trackingPlan is what to do about CBT before a freeze.
type trackingPlan struct {
	enable bool
	why    string // change IDs will be missing, in words for a person
}

// planTracking decides by rows 1 to 3 of the CBT table. It is pure.
func planTracking(cbt bool, snapshots int) trackingPlan {
	switch {
	case cbt:
		return trackingPlan{}
	case snapshots > 0:
		return trackingPlan{why: fmt.Sprintf("CBT is off and the VM has %s, beside which it must not be enabled (it would give wrong areas, KB 320557); "+
			"once they are deleted the next cycle enables it", plural(snapshots, "snapshot"))}
	}
	return trackingPlan{enable: true}
}

// explainTracking says why change IDs are missing in a snapshot, or "".
func explainTracking(plan trackingPlan, vm mo.VirtualMachine, frozen []transfer.Disk) string {
	var reasons []string
	for _, d := range frozen {
		if d.ChangeID != "" || len(d.Obstacles) > 0 {
			continue
		}
		if plan.why != "" {
			return plan.why
		}
		if key := ctkKey(vm, d.ID); key != "" && strings.EqualFold(option(vm.Config.ExtraConfig, key), "FALSE") {
			reasons = append(reasons, fmt.Sprintf("CBT is switched off for %s (%s=FALSE)", d.Label, key))
			continue
		}
		reasons = append(reasons, fmt.Sprintf("CBT is on but vSphere has no change ID for %s yet; it begins to track at the VM's next stun, such as the end of this snapshot", d.Label))
	}
	return strings.Join(reasons, "; ")
}

// ctkKey is a disk's own CBT setting, "scsi0:0.ctkEnabled" (row 2).
func ctkKey(vm mo.VirtualMachine, id transfer.DiskID) string {
	if vm.Config == nil {
		return ""
	}
	d, _ := findDisk(vm.Config.Hardware.Device, id)
	if d == nil || d.UnitNumber == nil {
		return ""
	}
	kind, bus := controllerOf(vm.Config.Hardware.Device, d)
	if kind == "" {
		return ""
	}
	return fmt.Sprintf("%s%d:%d.ctkEnabled", kind, bus, *d.UnitNumber)
}

// foreignBeside reports a snapshot beside ours. Where CBT was enabled a moment
// ago one means that it was enabled beside a snapshot after all.
func foreignBeside(tree []types.VirtualMachineSnapshotTree, ours ref) bool {
	for s := range walkTree(tree) {
		if s.Snapshot != ours {
			return true
		}
	}
	return false
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
