package aws

import (
	"slices"
	"strconv"
	"strings"
)

// shown lists the resources of one kind by ID, or those asked for; missing
// makes the error for an ID that is not there.
func shown[R any, X describable](e *Emulator, all map[string]R, of func(R) *meta, ids []string, missing func(id string) *apiError, describe func(R) X) ([]X, *apiError) {
	for _, id := range ids {
		if r, ok := all[id]; !ok || !e.visible(of(r)) {
			return nil, missing(id)
		}
	}
	if len(ids) == 0 {
		for id, r := range all {
			if e.visible(of(r)) {
				ids = append(ids, id)
			}
		}
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	out := make([]X, 0, len(ids))
	for _, id := range ids {
		out = append(out, describe(all[id]))
	}
	return out, nil
}

// absent is the usual error for an ID that is not there.
func absent(code, what string) func(string) *apiError {
	return func(id string) *apiError { return ec2Fault(code, "The %s '%s' does not exist", what, id) }
}

type xmlCIDRState struct {
	State string `xml:"state"`
}

type xmlCIDR struct {
	ID    string       `xml:"associationId"`
	CIDR  string       `xml:"cidrBlock"`
	State xmlCIDRState `xml:"cidrBlockState"`
}

type xmlVPC struct {
	ID      string          `xml:"vpcId"`
	Owner   string          `xml:"ownerId"`
	State   string          `xml:"state"`
	CIDR    string          `xml:"cidrBlock"`
	CIDRs   xmlSet[xmlCIDR] `xml:"cidrBlockAssociationSet"`
	Tenancy string          `xml:"instanceTenancy"`
	Default bool            `xml:"isDefault"`
	TagSet  *xmlTags        `xml:"tagSet"`
}

func (x xmlVPC) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"vpc-id": x.ID, "state": x.State, "cidr": x.CIDR, "is-default": strconv.FormatBool(x.Default), "owner-id": x.Owner,
	}}
}

func (c *call) describeVPCs(p *params) (any, *apiError) {
	ids, fs, g := p.list("VpcId"), p.filters(), p.paging(5, 1000)
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	items, err := shown(e, e.cloud.vpcs, func(v *vpc) *meta { return &v.meta }, ids, absent("InvalidVpcID.NotFound", "vpc ID"), func(v *vpc) xmlVPC {
		cidr := xmlCIDR{"vpc-cidr-assoc-" + strings.TrimPrefix(v.id, "vpc-"), v.cidr.String(), xmlCIDRState{"associated"}}
		return xmlVPC{v.id, e.opt.AccountID, "available", v.cidr.String(), xmlSet[xmlCIDR]{[]xmlCIDR{cidr}}, "default", v.byDefault, xmlTagSet(e.shownTags(&v.meta))}
	})
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlVPC] `xml:"vpcSet"`
		Next *string        `xml:"nextToken,omitempty"`
	}{xmlSet[xmlVPC]{items}, next}, err
}

type xmlSubnet struct {
	ID      string   `xml:"subnetId"`
	ARN     string   `xml:"subnetArn"`
	Owner   string   `xml:"ownerId"`
	State   string   `xml:"state"`
	VPC     string   `xml:"vpcId"`
	CIDR    string   `xml:"cidrBlock"`
	Free    int64    `xml:"availableIpAddressCount"`
	Zone    string   `xml:"availabilityZone"`
	ZoneID  string   `xml:"availabilityZoneId"`
	Default bool     `xml:"defaultForAz"`
	Public  bool     `xml:"mapPublicIpOnLaunch"`
	IPv6    bool     `xml:"assignIpv6AddressOnCreation"`
	TagSet  *xmlTags `xml:"tagSet"`
}

func (x xmlSubnet) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"subnet-id": x.ID, "vpc-id": x.VPC, "state": x.State, "cidr-block": x.CIDR, "availability-zone": x.Zone, "availability-zone-id": x.ZoneID,
		"default-for-az": strconv.FormatBool(x.Default), "owner-id": x.Owner, "available-ip-address-count": strconv.FormatInt(x.Free, 10),
		"map-public-ip-on-launch": strconv.FormatBool(x.Public), "subnet-arn": x.ARN,
	}}
}

func (e *Emulator) zoneID(zone string) string {
	for _, z := range e.zones() {
		if z.Name == zone {
			return z.ID
		}
	}
	return ""
}

func (c *call) describeSubnets(p *params) (any, *apiError) {
	ids, fs, g := p.list("SubnetId"), p.filters(), p.paging(5, 1000)
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	items, err := shown(e, e.cloud.subnets, func(s *subnet) *meta { return &s.meta }, ids, absent("InvalidSubnetID.NotFound", "subnet ID"), func(s *subnet) xmlSubnet {
		return xmlSubnet{
			ID: s.id, ARN: "arn:aws:ec2:" + e.opt.Region + ":" + e.opt.AccountID + ":subnet/" + s.id, Owner: e.opt.AccountID, State: "available",
			VPC: s.vpc.id, CIDR: s.cidr.String(), Free: s.free(), Zone: s.zone, ZoneID: e.zoneID(s.zone), Default: s.byDefault, Public: s.public,
			TagSet: xmlTagSet(e.shownTags(&s.meta)),
		}
	})
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlSubnet] `xml:"subnetSet"`
		Next *string           `xml:"nextToken,omitempty"`
	}{xmlSet[xmlSubnet]{items}, next}, err
}

type xmlRange struct {
	CIDR string `xml:"cidrIp"`
}

type xmlPermission struct {
	Protocol string           `xml:"ipProtocol"`
	Ranges   xmlSet[xmlRange] `xml:"ipRanges"`
}

type xmlGroup struct {
	ID     string                `xml:"groupId"`
	Name   string                `xml:"groupName"`
	Text   string                `xml:"groupDescription"`
	Owner  string                `xml:"ownerId"`
	VPC    string                `xml:"vpcId"`
	In     xmlSet[xmlPermission] `xml:"ipPermissions"`
	Out    xmlSet[xmlPermission] `xml:"ipPermissionsEgress"`
	TagSet *xmlTags              `xml:"tagSet"`
}

func (x xmlGroup) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"group-id": x.ID, "group-name": x.Name, "vpc-id": x.VPC, "owner-id": x.Owner, "description": x.Text,
	}}
}

func (c *call) describeGroups(p *params) (any, *apiError) {
	ids, names, fs, g := p.list("GroupId"), p.list("GroupName"), p.filters(), p.paging(5, 1000)
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	out := xmlSet[xmlPermission]{[]xmlPermission{{"-1", xmlSet[xmlRange]{[]xmlRange{{"0.0.0.0/0"}}}}}}
	items, err := shown(e, e.cloud.groups, func(s *securityGroup) *meta { return &s.meta }, ids, absent("InvalidGroup.NotFound", "security group"), func(s *securityGroup) xmlGroup {
		return xmlGroup{ID: s.id, Name: s.name, Text: s.description, Owner: e.opt.AccountID, VPC: s.vpc.id, Out: out, TagSet: xmlTagSet(e.shownTags(&s.meta))}
	})
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !slices.ContainsFunc(items, func(x xmlGroup) bool { return x.Name == n }) {
			return nil, absent("InvalidGroup.NotFound", "security group")(n)
		}
	}
	if len(names) > 0 {
		items = slices.DeleteFunc(items, func(x xmlGroup) bool { return !slices.Contains(names, x.Name) })
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlGroup] `xml:"securityGroupInfo"`
		Next *string          `xml:"nextToken,omitempty"`
	}{xmlSet[xmlGroup]{items}, next}, err
}

type xmlKey struct {
	ID          string   `xml:"keyPairId"`
	Name        string   `xml:"keyName"`
	Type        string   `xml:"keyType"`
	Fingerprint string   `xml:"keyFingerprint"`
	Created     string   `xml:"createTime"`
	TagSet      *xmlTags `xml:"tagSet"`
}

func (x xmlKey) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{"key-name": x.Name, "key-pair-id": x.ID, "fingerprint": x.Fingerprint}}
}

func (c *call) describeKeys(p *params) (any, *apiError) {
	names, ids, fs := p.list("KeyName"), p.list("KeyPairId"), p.filters()
	p.boolean("IncludePublicKey")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	of, missing := func(k *keyPair) *meta { return &k.meta }, absent("InvalidKeyPair.NotFound", "key pair")
	describe := func(k *keyPair) xmlKey {
		return xmlKey{k.id, k.name, "ed25519", "SHA256:" + k.id, ec2Stamp(k.made), xmlTagSet(e.shownTags(&k.meta))}
	}
	if len(ids) > 0 {
		known := map[string]string{}
		for _, k := range e.cloud.keys {
			known[k.id] = k.name
		}
		for _, id := range ids {
			if known[id] == "" {
				return nil, missing(id)
			}
			names = append(names, known[id])
		}
	}
	items, err := shown(e, e.cloud.keys, of, names, missing, describe)
	if err != nil {
		return nil, err
	}
	items, _, err = pageOf(c, items, fs, paging{})
	return struct {
		Set xmlSet[xmlKey] `xml:"keySet"`
	}{xmlSet[xmlKey]{items}}, err
}
