package aws

import "net/netip"

// plannedInterface is a network interface that a launch will make, or one that
// exists and it will attach.
type plannedInterface struct {
	index    int64
	old      *networkInterface
	subnet   *subnet
	ip       netip.Addr
	groups   []*securityGroup
	remove   bool
	publicIP bool
	text     string
}

// planNetwork finds the subnets, groups and addresses of all instances.
func (e *Emulator) planNetwork(l *launch) *apiError {
	s := l.spec
	specs := s.interfaces
	if len(specs) == 0 {
		zero := int64(0)
		specs = []interfaceSpec{{index: &zero, subnet: s.subnet, ip: s.ip, groupIDs: s.groupIDs}}
		if s.ip != "" && s.max > 1 {
			return ec2Fault("InvalidParameterCombination", "The parameter privateIpAddress cannot be used with more than one instance.")
		}
	} else if err := s.checkInterfaces(l.kind); err != nil {
		return err
	}
	fixed := map[*subnet][]netip.Addr{}
	for n := range s.max {
		nics, err := e.planInterfaces(l, specs, fixed)
		if err != nil {
			// Between MinCount and MaxCount EC2 launches what it can.
			if n >= s.min && err.code == "InsufficientFreeAddressesInSubnet" {
				break
			}
			return err
		}
		l.nics = append(l.nics, nics)
	}
	return nil
}

// checkInterfaces looks at the list by itself.
func (s runSpec) checkInterfaces(t instanceType) *apiError {
	combination := func(what string) *apiError {
		return ec2Fault("InvalidParameterCombination", "Network interfaces and an instance-level %s may not be specified on the same request", what)
	}
	switch {
	case s.subnet != "":
		return combination("subnet ID")
	case len(s.groupIDs)+len(s.groupNames) > 0:
		return combination("security groups")
	case s.ip != "":
		return combination("private address")
	case int64(len(s.interfaces)) > t.nics:
		return ec2Fault("AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", len(s.interfaces), t.name)
	}
	seen := map[int64]bool{}
	for _, i := range s.interfaces {
		switch {
		case i.index == nil:
			return ec2Fault("InvalidParameterValue", "Each network interface requires a device index.")
		case seen[*i.index]:
			return ec2Fault("InvalidParameterValue", "Each network interface requires a unique device index.")
		case i.id != "" && (i.subnet != "" || i.ip != "" || len(i.groupIDs) > 0):
			return ec2Fault("InvalidParameterCombination", "A network interface may not specify both a network interface ID and a subnet, an address or security groups")
		case (i.id != "" || i.ip != "") && s.max > 1:
			return ec2Fault("InvalidParameterCombination", "A network interface ID or an address cannot be used with more than one instance.")
		case i.publicIP != nil && *i.publicIP && len(s.interfaces) > 1:
			return ec2Fault("InvalidParameterCombination", "The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces.")
		}
		seen[*i.index] = true
	}
	if !seen[0] {
		return ec2Fault("InvalidParameterValue", "When specifying network interfaces, you must include a device at index 0.")
	}
	return nil
}

// planInterfaces plans one instance; fixed are the addresses that the request
// has taken so far.
func (e *Emulator) planInterfaces(l *launch, specs []interfaceSpec, fixed map[*subnet][]netip.Addr) ([]plannedInterface, *apiError) {
	var out []plannedInterface
	for _, spec := range specs {
		n, err := e.planInterface(l, spec, fixed)
		if err != nil {
			return nil, err
		}
		if l.zone == "" {
			l.zone = n.subnet.zone
		}
		if n.subnet.zone != l.zone {
			return nil, ec2Fault("InvalidParameterCombination", "The network interfaces are not all in the Availability Zone %s.", l.zone)
		}
		if n.subnet.vpc != out0(out, n).subnet.vpc {
			return nil, ec2Fault("InvalidParameterCombination", "The network interfaces are not all in one VPC.")
		}
		out = append(out, n)
	}
	if l.spec.zone != "" && l.spec.zone != l.zone {
		return nil, ec2Fault("InvalidParameterValue", "The subnet is in the Availability Zone %s, not in %s.", l.zone, l.spec.zone)
	}
	return out, nil
}

func out0(all []plannedInterface, or plannedInterface) plannedInterface {
	if len(all) > 0 {
		return all[0]
	}
	return or
}

func (e *Emulator) planInterface(l *launch, spec interfaceSpec, fixed map[*subnet][]netip.Addr) (plannedInterface, *apiError) {
	n := plannedInterface{index: *spec.index, remove: spec.id == "", text: spec.text}
	if spec.remove != nil {
		n.remove = *spec.remove
	}
	if spec.id != "" {
		n.old = e.cloud.interfaces[spec.id]
		if n.old == nil || !e.visible(&n.old.meta) {
			return n, absent("InvalidNetworkInterfaceID.NotFound", "networkInterface ID")(spec.id)
		}
		if n.old.instance != nil {
			return n, ec2Fault("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", spec.id)
		}
		n.subnet = n.old.subnet
		return n, nil
	}
	var err *apiError
	if n.subnet, err = e.subnetFor(l, spec.subnet); err != nil {
		return n, err
	}
	var names []string
	if len(l.spec.interfaces) == 0 {
		names = l.spec.groupNames
	}
	if n.groups, err = e.groupsFor(n.subnet, spec.groupIDs, names); err != nil {
		return n, err
	}
	if n.ip, err = n.subnet.choose(spec.ip, fixed[n.subnet]); err != nil {
		return n, err
	}
	fixed[n.subnet] = append(fixed[n.subnet], n.ip)
	n.publicIP = n.subnet.public && len(l.spec.interfaces) <= 1
	if spec.publicIP != nil {
		n.publicIP = *spec.publicIP
	}
	return n, nil
}

// subnetFor finds a subnet by ID, or the default one of the zone.
func (e *Emulator) subnetFor(l *launch, id string) (*subnet, *apiError) {
	if id != "" {
		s := e.cloud.subnets[id]
		if s == nil || !e.visible(&s.meta) {
			return nil, absent("InvalidSubnetID.NotFound", "subnet ID")(id)
		}
		return s, nil
	}
	zone := l.spec.zone
	orElse(&zone, l.zone)
	if offered := e.offers(l.kind); len(offered) > 0 {
		orElse(&zone, offered[0]) // EC2 chooses a zone that has the type
	}
	orElse(&zone, e.zones()[0].Name)
	if e.zoneID(zone) == "" {
		return nil, ec2Fault("InvalidParameterValue", "Invalid availability zone: [%s]", zone)
	}
	exists := false
	for _, s := range e.cloud.subnets {
		if s.byDefault && s.zone == zone {
			return s, nil
		}
		exists = exists || s.byDefault
	}
	if !exists {
		return nil, ec2Fault("VPCIdNotSpecified", "No default VPC for this user.")
	}
	return nil, ec2Fault("MissingInput", "No subnets found for the default VPC in the Availability Zone %s. Please specify a subnet.", zone)
}

// publicAddress makes up an address of the block for documentation.
func publicAddress(id string) string {
	var sum byte
	for _, b := range []byte(id) {
		sum = sum*31 + b
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, max(sum, 1)}).String()
}
