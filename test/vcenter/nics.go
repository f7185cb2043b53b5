package vcenter

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// NICSpec says what one network adapter of a new VM is.
type NICSpec struct {
	// Network is its name, default "VM Network"; one that does not exist is made.
	Network string
	// Distributed: the network is a port group of a distributed switch.
	Distributed  bool
	MAC          string // default one made from the VM's instance UUID
	Disconnected bool   // now and at power-on
	// IPs are what the guest has on it, with or without a prefix length. vCenter
	// shows them while VMware Tools run.
	IPs []string
}

func (s *NICSpec) complete() error {
	setDefault(&s.Network, "VM Network")
	for _, ip := range s.IPs {
		if _, err := prefix(ip); err != nil {
			return err
		}
	}
	return nil
}

// prefix reads an address with a length; without one it is that of a LAN.
func prefix(ip string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(ip); err == nil {
		return p, nil
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.Is4() {
		return netip.PrefixFrom(a, 24), nil
	}
	return netip.PrefixFrom(a, 64), nil
}

// The place of network adapters among a VM's devices.
const (
	nicKey  = 4000
	nicUnit = 7 // on the PCI controller
)

// networkCards makes the adapters and notes their networks in the VM.
func (vm *VM) networkCards() []types.BaseVirtualDevice {
	var cards []types.BaseVirtualDevice
	var nets []types.ManagedObjectReference
	for i, s := range vm.spec.NICs {
		n := &types.VirtualVmxnet3{}
		n.Key, n.ControllerKey, n.UnitNumber = nicKey+int32(i), 100, types.NewInt32(nicUnit+int32(i))
		n.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", i+1), Summary: s.Network}
		n.AddressType, n.MacAddress = "assigned", vm.mac(i)
		n.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: !s.Disconnected, Connected: !s.Disconnected, AllowGuestControl: true}
		net := vm.v.network(s.Network, s.Distributed)
		if s.Distributed {
			n.DeviceInfo.(*types.Description).Summary = "DVSwitch: 50 0e"
			n.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{
				SwitchUuid: "50 0e", PortgroupKey: net.Value, PortKey: fmt.Sprint(i)}}
		} else {
			n.Backing = &types.VirtualEthernetCardNetworkBackingInfo{
				VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: s.Network}, Network: &net}
		}
		if !slices.Contains(nets, net) {
			nets = append(nets, net)
		}
		cards = append(cards, n)
	}
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() { ctx.Update(m, []types.PropertyChange{{Name: "network", Val: nets}}) })
	return cards
}

// mac is the address of an adapter, of VMware's own range unless it was given.
func (vm *VM) mac(i int) string {
	if m := vm.spec.NICs[i].MAC; m != "" {
		return m
	}
	id := vm.instanceUUID
	return fmt.Sprintf("00:50:56:%02x:%s:%s", 0x8e+i, id[len(id)-4:len(id)-2], id[len(id)-2:])
}

// network finds or makes a network. What is made is known by its reference alone:
// it hangs in no folder.
func (v *VCenter) network(name string, distributed bool) types.ManagedObjectReference {
	key := fmt.Sprint(distributed, name)
	v.mu.Lock()
	known, ok := v.networks[key]
	v.mu.Unlock()
	if ok {
		return known
	}
	made := v.newNetwork(name, distributed)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.networks[key] = made
	return made
}

// newNetwork makes a network, or finds that which vcsim has made.
func (v *VCenter) newNetwork(name string, distributed bool) types.ManagedObjectReference {
	if !distributed {
		for _, e := range v.registry().All("Network") {
			if e.Entity().Name == name {
				return e.Reference()
			}
		}
		n := &mo.Network{}
		n.Name = name
		n.Entity().Name = name
		return v.registry().Put(n).Reference()
	}
	p := &simulator.DistributedVirtualPortgroup{}
	p.Name = name
	p.Entity().Name = name
	ref := v.registry().Put(p).Reference()
	p.Key = ref.Value
	p.Config.Key, p.Config.Name = p.Key, name
	return ref
}

// guestNet is what VMware Tools tell of the adapters, and of a bridge of the
// guest's own, which belongs to none.
func (vm *VM) guestNet() []types.GuestNicInfo {
	var all []types.GuestNicInfo
	for i, s := range vm.spec.NICs {
		if len(s.IPs) == 0 {
			continue
		}
		n := types.GuestNicInfo{Network: s.Network, MacAddress: vm.mac(i), Connected: !s.Disconnected, DeviceConfigId: nicKey + int32(i), IpConfig: &types.NetIpConfigInfo{}}
		for _, ip := range s.IPs {
			p, _ := prefix(ip) // was checked
			n.IpAddress = append(n.IpAddress, p.Addr().String())
			n.IpConfig.IpAddress = append(n.IpConfig.IpAddress, types.NetIpConfigInfoIpAddress{IpAddress: p.Addr().String(), PrefixLength: int32(p.Bits()), State: "preferred"})
		}
		all = append(all, n)
	}
	if len(all) > 0 {
		all = append(all, types.GuestNicInfo{MacAddress: "02:42:ac:11:00:01", Connected: true, DeviceConfigId: -1, IpAddress: []string{"172.17.0.1"},
			IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: "172.17.0.1", PrefixLength: 16, State: "preferred"}}}})
	}
	return all
}
