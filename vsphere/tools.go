package vsphere

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// GuestTools says whether the guest can be asked to shut down now: VMware Tools
// run in it. text says how it is with them, for a person: "VMware Tools 12389 run".
func (c *Client) GuestTools(ctx context.Context, id transfer.VMID) (running bool, text string, err error) {
	op := "look at VMware Tools of " + id.Moref
	vm, err := c.vmRef(id)
	if err != nil {
		return false, "", err
	}
	f, err := c.fetchOne(ctx, vm, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: vm}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{propPower, propTools, propVersion, "guest.toolsVersion"}}},
	})
	if err != nil {
		return false, "", Explain(op, err)
	}
	m := f.vms[vm]
	if m.Guest == nil {
		m.Guest = &types.GuestInfo{}
	}
	running, text = describeTools(m.Runtime.PowerState, *m.Guest)
	return running, text, nil
}

func describeTools(power types.VirtualMachinePowerState, g types.GuestInfo) (running bool, text string) {
	name := "VMware Tools"
	if g.ToolsVersion != "" && g.ToolsVersion != "0" {
		name += " " + g.ToolsVersion
	}
	switch {
	case power == types.VirtualMachinePowerStatePoweredOff:
		return false, "the VM is off"
	case power == types.VirtualMachinePowerStateSuspended:
		return false, "the VM is suspended"
	case g.ToolsVersionStatus2 == string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled):
		return false, "VMware Tools are not installed"
	case g.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning):
		return true, name + " run"
	case g.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsExecutingScripts):
		return false, name + " are starting or stopping"
	}
	return false, name + " do not run"
}
