package vsphere

import (
	"reflect"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestStartedAfter(t *testing.T) {
	boot := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		before, now time.Time
		want        bool
	}{
		"the same run":             {boot, boot, false},
		"the host's clock shifted": {boot, boot.Add(20 * time.Second), false},
		"powered on again":         {boot, boot.Add(time.Hour), true},
		"off":                      {boot, time.Time{}, false},
		"was off":                  {time.Time{}, boot, false},
	} {
		if got := (powerView{boot: c.now}).startedAfter(powerView{boot: c.before}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestNICsOfWhatCannotBeRead: networks that the user may not read, and what only
// other vCenters have.
func TestNICsOfWhatCannotBeRead(t *testing.T) {
	card := func(key int32, label string, b types.BaseVirtualDeviceBackingInfo) types.BaseVirtualDevice {
		c := &types.VirtualE1000{}
		c.Key, c.Backing, c.DeviceInfo = key, b, &types.Description{Label: label}
		return c
	}
	standard := &types.VirtualEthernetCardNetworkBackingInfo{Network: &ref{Type: "Network", Value: "network-1"}}
	standard.DeviceName = "LAN"
	distributed := &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: "dvportgroup-2"}}
	opaque := &types.VirtualEthernetCardOpaqueNetworkBackingInfo{OpaqueNetworkId: "segment-3"}
	vm := mo.VirtualMachine{
		Config: &types.VirtualMachineConfigInfo{Hardware: types.VirtualHardware{Device: []types.BaseVirtualDevice{
			card(4000, "a", standard), card(4001, "b", distributed), &types.VirtualCdrom{}, card(4002, "c", opaque), card(4003, "d", nil)}}},
		Guest: &types.GuestInfo{ToolsRunningStatus: "guestToolsRunning", Net: []types.GuestNicInfo{
			{DeviceConfigId: 4001, Network: "told by the guest", IpAddress: []string{"192.0.2.1", "no address", "127.0.0.1"}}}},
	}
	vm.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOn
	want := []NIC{{Label: "a", Network: "LAN"}, {Label: "b", Network: "told by the guest", IPv4: []string{"192.0.2.1"}}, {Label: "c", Network: "NSX"}, {Label: "d"}}
	if got := describeNICs(vm, map[string]string{"segment-3": "NSX"}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	want[0].Network, want[1].Network, want[2].Network = "renamed", "prod", ""
	if got := describeNICs(vm, map[string]string{"network-1": "renamed", "dvportgroup-2": "prod"}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := describeNICs(mo.VirtualMachine{}, nil); got != nil {
		t.Errorf("of a VM without configuration: %+v", got)
	}
}
