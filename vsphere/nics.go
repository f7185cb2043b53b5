package vsphere

import (
	"context"
	"net/netip"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// NIC is one network adapter of a VM.
type NIC struct {
	Label   string // "Network adapter 1"
	MAC     string // lower case, with colons; empty before the VM's first power-on
	Network string // name of the port group or network; empty if the user may not read it
	// Connected is as it is while the VM runs, else as it will be at power-on.
	Connected bool
	// IPv4 and IPv6 are what the guest has on it, in its order, without
	// link-local ones; only while VMware Tools run.
	IPv4, IPv6 []string
}

// nicProps are a VM's properties that NICs reads.
var nicProps = []string{"name", "runtime.powerState", "config.hardware.device", "guest.net", propTools}

// netSpecs name what an adapter can hang on.
var netSpecs = []types.PropertySpec{
	{Type: "Network", PathSet: []string{"name"}},
	{Type: "DistributedVirtualPortgroup", PathSet: []string{"name", "key"}},
	{Type: "OpaqueNetwork", PathSet: []string{"name", "summary"}},
}

// NICs lists a VM's network adapters in the order of its devices, which is that
// of their labels. One call. Who wants the addresses of a VM that is to be shut
// down asks before.
func (c *Client) NICs(ctx context.Context, id transfer.VMID) ([]NIC, error) {
	op := "read the network adapters of " + id.Moref
	vm, err := c.vmRef(id)
	if err != nil {
		return nil, err
	}
	f, err := c.fetchOne(ctx, vm, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: vm, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "VirtualMachine", Path: "network"}}}},
		PropSet:   append([]types.PropertySpec{{Type: "VirtualMachine", PathSet: nicProps}}, netSpecs...),
	})
	if err != nil {
		return nil, Explain(op, err)
	}
	return describeNICs(f.vms[vm], f.nets), nil
}

func describeNICs(m mo.VirtualMachine, nets map[string]string) []NIC {
	if m.Config == nil {
		return nil
	}
	running := m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	guest := map[int32]types.GuestNicInfo{}
	if g := m.Guest; g != nil {
		for _, n := range g.Net {
			if _, ok := guest[n.DeviceConfigId]; !ok { // bridges and the like are -1, and none of ours
				guest[n.DeviceConfigId] = n
			}
		}
	}
	var nics []NIC
	for _, d := range m.Config.Hardware.Device {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		e, in := card.GetVirtualEthernetCard(), guest[d.GetVirtualDevice().Key]
		n := NIC{Label: deviceLabel(d), MAC: strings.ToLower(e.MacAddress), Network: networkOf(e.Backing, nets)}
		if n.Network == "" {
			n.Network = in.Network
		}
		if on := e.Connectable; on != nil {
			n.Connected = running && on.Connected || !running && on.StartConnected
		}
		if running && m.Guest != nil && m.Guest.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
			n.IPv4, n.IPv6 = addresses(in)
		}
		nics = append(nics, n)
	}
	return nics
}

// networkOf names what an adapter hangs on, by what the network itself is called
// or, for those of one host, by what the adapter says.
func networkOf(b types.BaseVirtualDeviceBackingInfo, nets map[string]string) string {
	switch b := b.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		if b.Network != nil && nets[b.Network.Value] != "" {
			return nets[b.Network.Value]
		}
		return b.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		return nets[b.Port.PortgroupKey]
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		return nets[b.OpaqueNetworkId]
	}
	return ""
}

// addresses are those of one adapter, by family.
func addresses(n types.GuestNicInfo) (v4, v6 []string) {
	all := n.IpAddress // of old Tools
	if n.IpConfig != nil {
		all = nil
		for _, a := range n.IpConfig.IpAddress {
			all = append(all, a.IpAddress)
		}
	}
	for _, text := range all {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil, a.IsLinkLocalUnicast(), a.IsLoopback(), a.IsUnspecified():
		case a.Is4():
			v4 = append(v4, a.String())
		default:
			v6 = append(v6, a.WithZone("").String())
		}
	}
	return v4, v6
}
