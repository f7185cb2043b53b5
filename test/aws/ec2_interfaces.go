package aws

import "strconv"

type xmlGroupID struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

func groupIDs(gs []*securityGroup) (set xmlSet[xmlGroupID]) {
	for _, g := range gs {
		set.Items = append(set.Items, xmlGroupID{g.id, g.name})
	}
	return set
}

type xmlAttachedInterface struct {
	ID       string `xml:"attachmentId"`
	Instance string `xml:"instanceId,omitempty"`
	Owner    string `xml:"instanceOwnerId,omitempty"`
	Index    int64  `xml:"deviceIndex"`
	Card     int64  `xml:"networkCardIndex"`
	Status   string `xml:"status"`
	Time     string `xml:"attachTime"`
	Delete   bool   `xml:"deleteOnTermination"`
}

type xmlAddress struct {
	IP      string `xml:"privateIpAddress"`
	DNS     string `xml:"privateDnsName"`
	Primary bool   `xml:"primary"`
}

// xmlInterface serves DescribeNetworkInterfaces and, without its zone and tags,
// DescribeInstances.
type xmlInterface struct {
	ID         string                `xml:"networkInterfaceId"`
	Subnet     string                `xml:"subnetId"`
	VPC        string                `xml:"vpcId"`
	Zone       string                `xml:"availabilityZone,omitempty"`
	Text       string                `xml:"description"`
	Owner      string                `xml:"ownerId"`
	Status     string                `xml:"status"`
	MAC        string                `xml:"macAddress"`
	IP         string                `xml:"privateIpAddress"`
	DNS        string                `xml:"privateDnsName"`
	Check      bool                  `xml:"sourceDestCheck"`
	Groups     xmlSet[xmlGroupID]    `xml:"groupSet"`
	Attachment *xmlAttachedInterface `xml:"attachment,omitempty"`
	Addresses  xmlSet[xmlAddress]    `xml:"privateIpAddressesSet"`
	Kind       string                `xml:"interfaceType"`
	TagSet     *xmlTags              `xml:"tagSet"`
}

func (e *Emulator) describeInterface(n *networkInterface) xmlInterface {
	x := xmlInterface{
		ID: n.id, Subnet: n.subnet.id, VPC: n.subnet.vpc.id, Zone: n.subnet.zone, Text: n.text, Owner: e.opt.AccountID, Status: "available",
		MAC: n.mac, IP: n.ip.String(), DNS: e.privateDNS(n.ip.String()), Check: !n.noCheck, Groups: groupIDs(n.groups), Kind: "interface",
		TagSet: xmlTagSet(e.shownTags(&n.meta)),
	}
	x.Addresses.Items = []xmlAddress{{x.IP, x.DNS, true}}
	if i := n.instance; i != nil {
		x.Status = "in-use"
		x.Attachment = &xmlAttachedInterface{n.attachmentID, i.id, e.opt.AccountID, n.index, 0, "attached", ec2Stamp(i.launched), n.remove}
		if i.state == statePending {
			x.Attachment.Status = "attaching"
		}
	}
	return x
}

func (x xmlInterface) resource() resource {
	a := xmlAttachedInterface{}
	if x.Attachment != nil {
		a = *x.Attachment
	}
	r := resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"network-interface-id": x.ID, "subnet-id": x.Subnet, "vpc-id": x.VPC, "availability-zone": x.Zone, "status": x.Status,
		"private-ip-address": x.IP, "addresses.private-ip-address": x.IP, "mac-address": x.MAC, "description": x.Text, "owner-id": x.Owner,
		"attachment.instance-id": a.Instance, "attachment.attachment-id": a.ID, "attachment.status": a.Status,
		"attachment.device-index": strconv.FormatInt(a.Index, 10), "attachment.delete-on-termination": strconv.FormatBool(a.Delete),
	}, many: map[string][]string{"group-id": nil}}
	for _, g := range x.Groups.Items {
		r.many["group-id"] = append(r.many["group-id"], g.ID)
	}
	return r
}

func (c *call) describeInterfaces(p *params) (any, *apiError) {
	ids, fs, g := p.list("NetworkInterfaceId"), p.filters(), p.paging(5, 1000)
	p.boolean("IncludeManagedResources")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	items, err := shown(e, e.cloud.interfaces, func(n *networkInterface) *meta { return &n.meta }, ids,
		absent("InvalidNetworkInterfaceID.NotFound", "networkInterface ID"), e.describeInterface)
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlInterface] `xml:"networkInterfaceSet"`
		Next *string              `xml:"nextToken,omitempty"`
	}{xmlSet[xmlInterface]{items}, next}, err
}

// deleteInterface is DeleteNetworkInterface, for those that outlive their
// instance.
func (c *call) deleteInterface(p *params) (any, *apiError) {
	id := p.required("NetworkInterfaceId")
	if err := p.complete(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	n := c.e.cloud.interfaces[id]
	switch {
	case n == nil:
		return nil, absent("InvalidNetworkInterfaceID.NotFound", "networkInterface ID")(id)
	case n.instance != nil:
		return nil, ec2Fault("InvalidParameterValue", "Network interface '%s' is currently in use.", id)
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	c.e.dropInterface(n)
	return returned{true}, nil
}
