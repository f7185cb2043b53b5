package aws

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

type vpc struct {
	meta
	cidr      netip.Prefix
	byDefault bool
}

type subnet struct {
	meta
	vpc       *vpc
	cidr      netip.Prefix
	zone      string
	byDefault bool
	public    bool // MapPublicIpOnLaunch
	taken     map[netip.Addr]bool
}

type securityGroup struct {
	meta
	vpc               *vpc
	name, description string
}

type keyPair struct {
	meta
	name string
}

// networkInterface is an ENI; instance is nil while it is available.
type networkInterface struct {
	meta
	subnet       *subnet
	ip           netip.Addr
	groups       []*securityGroup
	mac, text    string
	noCheck      bool // SourceDestCheck off
	instance     *instance
	index        int64
	remove       bool // deleted with the instance
	attachmentID string
	publicIP     string
}

// seedNetwork gives the account what AWS gives it: a default VPC with a subnet
// in each zone.
func (e *Emulator) seedNetwork() error {
	if e.opt.NoDefaultVPC {
		return nil
	}
	id, err := e.AddVPC("172.31.0.0/16")
	if err != nil {
		return err
	}
	e.cloud.vpcs[id].byDefault = true
	for i, z := range e.zones() {
		sub, err := e.AddSubnet(id, fmt.Sprintf("172.31.%d.0/20", i*16), z.Name)
		if err != nil {
			return err
		}
		e.cloud.subnets[sub].byDefault, e.cloud.subnets[sub].public = true, true
	}
	return nil
}

func (e *Emulator) setUp(prefix string) meta { return meta{id: newID(prefix), made: e.now()} }

// AddVPC sets up a VPC with its security group "default".
func (e *Emulator) AddVPC(cidr string) (id string, err error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || !prefix.Addr().Is4() || prefix.Bits() < 16 || prefix.Bits() > 28 || prefix != prefix.Masked() {
		return "", fmt.Errorf("add VPC %s: not an IPv4 block of /16 to /28", cidr)
	}
	v := &vpc{meta: e.setUp("vpc"), cidr: prefix}
	unlock := e.lockCloud()
	e.cloud.vpcs[v.id] = v
	unlock()
	_, err = e.AddSecurityGroup(v.id, "default")
	return v.id, err
}

// AddSubnet sets up a subnet of a VPC in a zone.
func (e *Emulator) AddSubnet(vpcID, cidr, zone string) (id string, err error) {
	defer e.lockCloud()()
	v := e.cloud.vpcs[vpcID]
	prefix, err := netip.ParsePrefix(cidr)
	switch {
	case v == nil:
		return "", fmt.Errorf("add subnet %s: no VPC %s", cidr, vpcID)
	case err != nil || prefix.Bits() > 28 || prefix != prefix.Masked() || !v.cidr.Contains(prefix.Addr()) || prefix.Bits() < v.cidr.Bits():
		return "", fmt.Errorf("add subnet %s: not a block of the VPC's %s", cidr, v.cidr)
	case !slices.ContainsFunc(e.zones(), func(z xmlZone) bool { return z.Name == zone }):
		return "", fmt.Errorf("add subnet %s: no zone %s", cidr, zone)
	}
	for _, s := range e.cloud.subnets {
		if s.vpc == v && s.cidr.Overlaps(prefix) {
			return "", fmt.Errorf("add subnet %s: it overlaps %s", cidr, s.cidr)
		}
	}
	s := &subnet{meta: e.setUp("subnet"), vpc: v, cidr: prefix, zone: zone, taken: map[netip.Addr]bool{}}
	e.cloud.subnets[s.id] = s
	return s.id, nil
}

// AddSecurityGroup sets up a security group of a VPC.
func (e *Emulator) AddSecurityGroup(vpcID, name string) (id string, err error) {
	defer e.lockCloud()()
	v := e.cloud.vpcs[vpcID]
	if v == nil {
		return "", fmt.Errorf("add security group %s: no VPC %s", name, vpcID)
	}
	g := &securityGroup{meta: e.setUp("sg"), vpc: v, name: name, description: name + " group"}
	e.cloud.groups[g.id] = g
	return g.id, nil
}

// AddKeyPair sets up a key pair.
func (e *Emulator) AddKeyPair(name string) (id string) {
	defer e.lockCloud()()
	k := &keyPair{meta: e.setUp("key"), name: name}
	e.cloud.keys[name] = k
	return k.id
}

// AddInstanceProfile sets up an IAM instance profile with a role of its name.
func (e *Emulator) AddInstanceProfile(name string) (arn string) {
	defer e.lockCloud()()
	e.cloud.profiles[name] = name
	return e.profileARN(name)
}

func (e *Emulator) profileARN(name string) string {
	return "arn:aws:iam::" + e.opt.AccountID + ":instance-profile/" + name
}

// AddPlacementGroup sets up a placement group.
func (e *Emulator) AddPlacementGroup(name string) {
	defer e.lockCloud()()
	e.cloud.placements[name] = true
}

// AddNetworkInterface sets up a network interface that no instance has; an
// empty ip takes any free one, and no groups mean the VPC's default group.
func (e *Emulator) AddNetworkInterface(subnetID, ip string, groupIDs ...string) (id string, err error) {
	defer e.lockCloud()()
	s := e.cloud.subnets[subnetID]
	if s == nil {
		return "", fmt.Errorf("add network interface: no subnet %s", subnetID)
	}
	groups, fault := e.groupsFor(s, groupIDs, nil)
	if fault != nil {
		return "", fmt.Errorf("add network interface in %s: %s", subnetID, fault.message)
	}
	addr, fault := s.choose(ip, nil)
	if fault != nil {
		return "", fmt.Errorf("add network interface in %s: %s", subnetID, fault.message)
	}
	n := e.newInterface(e.setUp("eni"), s, addr, groups)
	return n.id, nil
}

// newInterface keeps an interface and takes its address; the cloud is locked.
func (e *Emulator) newInterface(m meta, s *subnet, addr netip.Addr, groups []*securityGroup) *networkInterface {
	s.taken[addr] = true
	n := &networkInterface{meta: m, subnet: s, ip: addr, groups: groups, mac: macOf(m.id)}
	e.cloud.interfaces[n.id] = n
	return n
}

func macOf(id string) string {
	h := id[len(id)-10:]
	return fmt.Sprintf("02:%s:%s:%s:%s:%s", h[:2], h[2:4], h[4:6], h[6:8], h[8:])
}

// dropInterface deletes an interface and frees its address.
func (e *Emulator) dropInterface(n *networkInterface) {
	delete(n.subnet.taken, n.ip)
	delete(e.cloud.interfaces, n.id)
}

// Of every subnet AWS keeps the first four addresses and the last.
const reservedLow, reservedAll = 4, 5

func (s *subnet) total() int64 { return 1 << (32 - s.cidr.Bits()) }

func (s *subnet) free() int64 { return s.total() - reservedAll - int64(len(s.taken)) }

func (s *subnet) at(n int64) netip.Addr {
	base := s.cidr.Addr().As4()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// choose checks the address that was asked for, or finds a free one; besides
// are those that the request has chosen already.
func (s *subnet) choose(want string, besides []netip.Addr) (netip.Addr, *apiError) {
	if want != "" {
		return s.wanted(want, besides)
	}
	for n := int64(reservedLow); n < s.total()-1; n++ {
		if a := s.at(n); !s.taken[a] && !slices.Contains(besides, a) {
			return a, nil
		}
	}
	return netip.Addr{}, ec2Fault("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", s.id)
}

func (s *subnet) wanted(want string, besides []netip.Addr) (netip.Addr, *apiError) {
	a, err := netip.ParseAddr(want)
	if err != nil || !a.Is4() {
		return a, ec2Fault("InvalidParameterValue", "Invalid IPv4 address: %s", want)
	}
	if !s.cidr.Contains(a) {
		return a, ec2Fault("InvalidParameterValue", "Address %s does not fall within the subnet's address range", want)
	}
	for n := range int64(reservedLow) {
		if a == s.at(n) {
			return a, ec2Fault("InvalidParameterValue", "Address %s is in subnet's reserved address range", want)
		}
	}
	if a == s.at(s.total()-1) {
		return a, ec2Fault("InvalidParameterValue", "Address %s is in subnet's reserved address range", want)
	}
	if s.taken[a] || slices.Contains(besides, a) {
		return a, ec2Fault("InvalidIPAddress.InUse", "Address %s is in use.", want)
	}
	return a, nil
}

// groupsFor finds the security groups of an interface in the subnet.
func (e *Emulator) groupsFor(s *subnet, ids, names []string) ([]*securityGroup, *apiError) {
	var out []*securityGroup
	for _, id := range ids {
		g := e.cloud.groups[id]
		if g == nil {
			return nil, ec2Fault("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		if g.vpc != s.vpc {
			return nil, ec2Fault("InvalidParameter", "Security group %s and subnet %s belong to different networks.", id, s.id)
		}
		if slices.Contains(out, g) {
			return nil, ec2Fault("InvalidParameterValue", "Duplicate security group %s", id)
		}
		out = append(out, g)
	}
	for _, name := range names {
		g := e.groupNamed(s.vpc, name)
		if g == nil {
			return nil, ec2Fault("InvalidGroup.NotFound", "The security group '%s' does not exist in VPC '%s'", name, s.vpc.id)
		}
		out = append(out, g)
	}
	if len(out) == 0 {
		out = append(out, e.groupNamed(s.vpc, "default"))
	}
	if len(out) > maxGroups {
		return nil, ec2Fault("SecurityGroupsPerInterfaceLimitExceeded", "You have exceeded the maximum number of security groups allowed per network interface.")
	}
	return out, nil
}

// maxGroups is the default quota of security groups for each interface.
const maxGroups = 5

func (e *Emulator) groupNamed(v *vpc, name string) *securityGroup {
	for _, g := range e.cloud.groups {
		if g.vpc == v && g.name == name {
			return g
		}
	}
	return nil
}
