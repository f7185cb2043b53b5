package aws

import (
	"cmp"
	"slices"
	"strconv"
)

type xmlReason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type xmlState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func stateOf(name string) xmlState { return xmlState{instanceCodes[name], name} }

type xmlInstanceEBS struct {
	VolumeID string `xml:"volumeId"`
	Status   string `xml:"status"`
	Time     string `xml:"attachTime"`
	Delete   bool   `xml:"deleteOnTermination"`
}

type xmlInstanceMapping struct {
	Device string         `xml:"deviceName"`
	EBS    xmlInstanceEBS `xml:"ebs"`
}

type xmlProfile struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type xmlMetadataOptions struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	Hops     int64  `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	Tags     string `xml:"instanceMetadataTags"`
}

type xmlInstance struct {
	ID         string                     `xml:"instanceId"`
	Image      string                     `xml:"imageId"`
	State      xmlState                   `xml:"instanceState"`
	PrivateDNS string                     `xml:"privateDnsName"`
	PublicDNS  string                     `xml:"dnsName"`
	Why        string                     `xml:"reason"`
	Key        string                     `xml:"keyName,omitempty"`
	Index      int                        `xml:"amiLaunchIndex"`
	Type       string                     `xml:"instanceType"`
	Launched   string                     `xml:"launchTime"`
	Zone       string                     `xml:"placement>availabilityZone"`
	ZoneID     string                     `xml:"placement>availabilityZoneId"`
	Group      string                     `xml:"placement>groupName"`
	Tenancy    string                     `xml:"placement>tenancy"`
	Platform   string                     `xml:"platform,omitempty"`
	Details    string                     `xml:"platformDetails"`
	Usage      string                     `xml:"usageOperation"`
	Monitoring string                     `xml:"monitoring>state"`
	Subnet     string                     `xml:"subnetId,omitempty"`
	VPC        string                     `xml:"vpcId,omitempty"`
	IP         string                     `xml:"privateIpAddress,omitempty"`
	PublicIP   string                     `xml:"ipAddress,omitempty"`
	Check      bool                       `xml:"sourceDestCheck"`
	Groups     xmlSet[xmlGroupID]         `xml:"groupSet"`
	Reason     *xmlReason                 `xml:"stateReason,omitempty"`
	Arch       string                     `xml:"architecture"`
	RootType   string                     `xml:"rootDeviceType"`
	RootDevice string                     `xml:"rootDeviceName"`
	Mappings   xmlSet[xmlInstanceMapping] `xml:"blockDeviceMapping"`
	Virtual    string                     `xml:"virtualizationType"`
	Token      string                     `xml:"clientToken"`
	TagSet     *xmlTags                   `xml:"tagSet"`
	Hypervisor string                     `xml:"hypervisor"`
	NICs       xmlSet[xmlInterface]       `xml:"networkInterfaceSet"`
	Profile    *xmlProfile                `xml:"iamInstanceProfile,omitempty"`
	Optimized  bool                       `xml:"ebsOptimized"`
	ENA        bool                       `xml:"enaSupport"`
	Cores      int64                      `xml:"cpuOptions>coreCount"`
	Threads    int64                      `xml:"cpuOptions>threadsPerCore"`
	Metadata   xmlMetadataOptions         `xml:"metadataOptions"`
	BootMode   string                     `xml:"bootMode,omitempty"`
	BootedAs   string                     `xml:"currentInstanceBootMode"`
	TPM        string                     `xml:"tpmSupport,omitempty"`
}

func (e *Emulator) describeInstance(i *instance) xmlInstance {
	x := xmlInstance{
		ID: i.id, Image: i.image.id, State: stateOf(i.state), Why: i.why, Key: i.spec.key, Index: i.launchIndex, Type: i.kind.name,
		Launched: ec2Stamp(i.launched), Zone: i.zone, ZoneID: e.zoneID(i.zone), Group: i.spec.placement, Tenancy: i.spec.tenancy,
		Platform: i.image.platform, Details: i.image.platformDetails, Usage: i.image.usage, Monitoring: "disabled", Reason: i.reason,
		Arch: i.image.arch, RootType: "ebs", RootDevice: i.image.rootDevice, Virtual: i.image.virtualization, Token: i.token,
		TagSet: xmlTagSet(e.shownTags(&i.meta)), Hypervisor: "xen", Optimized: i.spec.optimized != nil && *i.spec.optimized,
		ENA: i.image.ena, Cores: i.kind.vcpus / i.kind.threads, Threads: i.kind.threads, Metadata: i.metadataOptions(),
		BootMode: i.image.bootMode, BootedAs: i.bootMode, TPM: i.image.tpm,
	}
	orElse(&x.Tenancy, "default")
	if i.spec.monitoring != nil && *i.spec.monitoring {
		x.Monitoring = "enabled"
	}
	if i.profile != "" {
		x.Profile = &xmlProfile{e.profileARN(i.profile), "AIPAEXAMPLEEXAMPLEEXA"}
	}
	for _, v := range e.volumesOf(i) {
		a := v.attached
		x.Mappings.Items = append(x.Mappings.Items, xmlInstanceMapping{a.device, xmlInstanceEBS{v.id, a.state, ec2Stamp(a.made), a.remove}})
	}
	for n, nic := range i.nics {
		d := e.describeInterface(nic)
		d.Zone, d.TagSet, d.Attachment.Instance, d.Attachment.Owner = "", nil, "", ""
		x.NICs.Items = append(x.NICs.Items, d)
		if n == 0 {
			x.Subnet, x.VPC, x.IP, x.Check, x.Groups, x.PrivateDNS = d.Subnet, d.VPC, d.IP, d.Check, d.Groups, d.DNS
			if i.state == "running" {
				x.PublicIP = nic.publicIP
			}
		}
	}
	return x
}

// metadataOptions are those of the launch, of the image, or the defaults.
func (i *instance) metadataOptions() xmlMetadataOptions {
	m, hops := i.spec.metadata, int64(1)
	tokens := "optional"
	if i.image.imds == "v2.0" {
		tokens, hops = "required", 2
	}
	if m.hops != nil {
		hops = *m.hops
	}
	x := xmlMetadataOptions{"applied", m.tokens, hops, m.endpoint, m.tags}
	orElse(&x.Tokens, tokens)
	orElse(&x.Endpoint, "enabled")
	orElse(&x.Tags, "disabled")
	return x
}

func (x xmlInstance) resource() resource {
	profile := ""
	if x.Profile != nil {
		profile = x.Profile.ARN
	}
	r := resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"instance-id": x.ID, "image-id": x.Image, "instance-state-name": x.State.Name, "instance-state-code": strconv.Itoa(x.State.Code),
		"instance-type": x.Type, "availability-zone": x.Zone, "subnet-id": x.Subnet, "vpc-id": x.VPC, "private-ip-address": x.IP,
		"ip-address": x.PublicIP, "private-dns-name": x.PrivateDNS, "key-name": x.Key, "client-token": x.Token, "architecture": x.Arch,
		"root-device-name": x.RootDevice, "tenancy": x.Tenancy, "platform": x.Platform, "launch-time": x.Launched,
		"iam-instance-profile.arn": profile, "hypervisor": x.Hypervisor, "virtualization-type": x.Virtual,
	}, many: map[string][]string{
		"block-device-mapping.volume-id": nil, "block-device-mapping.device-name": nil, "network-interface.network-interface-id": nil,
		"instance.group-id": nil, "network-interface.addresses.private-ip-address": nil,
	}}
	add := func(name, v string) { r.many[name] = append(r.many[name], v) }
	for _, m := range x.Mappings.Items {
		add("block-device-mapping.volume-id", m.EBS.VolumeID)
		add("block-device-mapping.device-name", m.Device)
	}
	for _, n := range x.NICs.Items {
		add("network-interface.network-interface-id", n.ID)
		add("network-interface.addresses.private-ip-address", n.IP)
	}
	for _, g := range x.Groups.Items {
		add("instance.group-id", g.ID)
	}
	return r
}

type xmlReservation struct {
	ID        string              `xml:"reservationId"`
	Owner     string              `xml:"ownerId"`
	Groups    xmlSet[xmlGroupID]  `xml:"groupSet"`
	Instances xmlSet[xmlInstance] `xml:"instancesSet"`
}

func (e *Emulator) describeReservation(id string, all []*instance) xmlReservation {
	r := xmlReservation{ID: id, Owner: e.opt.AccountID}
	for _, i := range all {
		r.Instances.Items = append(r.Instances.Items, e.describeInstance(i))
	}
	return r
}

// wanted lists the instances by ID, or all that can be seen, oldest first.
func (e *Emulator) wanted(ids []string) ([]*instance, *apiError) {
	if len(ids) > 0 {
		return e.instancesNamed(ids)
	}
	var out []*instance
	for _, i := range e.cloud.instances {
		if e.visible(&i.meta) {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b *instance) int { return cmp.Or(a.made.Compare(b.made), cmp.Compare(a.id, b.id)) })
	return out, nil
}

func (c *call) describeInstances(p *params) (any, *apiError) {
	ids, fs, g := p.list("InstanceId"), p.filters(), p.paging(5, 1000)
	p.boolean("IncludeManagedResources")
	if len(ids) > 0 && g.max > 0 {
		p.fail("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	found, err := e.wanted(ids)
	if err != nil {
		return nil, err
	}
	var items []xmlInstance
	by := map[string]*instance{}
	for _, i := range found {
		items = append(items, e.describeInstance(i))
		by[i.id] = i
	}
	items, next, err := pageOf(c, items, fs, g)
	if err != nil {
		return nil, err
	}
	var set xmlSet[xmlReservation]
	for _, x := range items {
		r := by[x.ID].reservation
		at := slices.IndexFunc(set.Items, func(o xmlReservation) bool { return o.ID == r })
		if at < 0 {
			set.Items = append(set.Items, xmlReservation{ID: r, Owner: e.opt.AccountID})
			at = len(set.Items) - 1
		}
		set.Items[at].Instances.Items = append(set.Items[at].Instances.Items, x)
	}
	return struct {
		Set  xmlSet[xmlReservation] `xml:"reservationSet"`
		Next *string                `xml:"nextToken,omitempty"`
	}{set, next}, nil
}

type xmlCheck struct {
	Name   string `xml:"name"`
	Status string `xml:"status"`
	Since  string `xml:"impairedSince,omitempty"`
}

type xmlHealth struct {
	Status  string           `xml:"status"`
	Details xmlSet[xmlCheck] `xml:"details"`
}

type xmlInstanceStatus struct {
	ID     string    `xml:"instanceId"`
	Zone   string    `xml:"availabilityZone"`
	State  xmlState  `xml:"instanceState"`
	System xmlHealth `xml:"systemStatus"`
	Guest  xmlHealth `xml:"instanceStatus"`
}

func (e *Emulator) describeStatus(i *instance) xmlInstanceStatus {
	system, guest := e.health(i)
	health := func(status string) xmlHealth {
		h := xmlHealth{Status: status}
		check := xmlCheck{"reachability", map[string]string{"ok": "passed", "initializing": "initializing", "impaired": "failed"}[status], ""}
		if status == "impaired" {
			check.Since = ec2Stamp(i.since.Add(e.opt.StatusDelay))
		}
		if check.Status != "" {
			h.Details.Items = []xmlCheck{check}
		}
		return h
	}
	return xmlInstanceStatus{i.id, i.zone, stateOf(i.state), health(system), health(guest)}
}

func (x xmlInstanceStatus) resource() resource {
	return resource{fields: map[string]string{
		"availability-zone": x.Zone, "instance-state-name": x.State.Name, "instance-state-code": strconv.Itoa(x.State.Code),
		"system-status.status": x.System.Status, "instance-status.status": x.Guest.Status,
	}}
}

func (c *call) describeInstanceStatus(p *params) (any, *apiError) {
	ids, all, fs, g := p.list("InstanceId"), p.boolean("IncludeAllInstances"), p.filters(), p.paging(5, 1000)
	p.boolean("IncludeManagedResources")
	if len(ids) > 0 && g.max > 0 {
		p.fail("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	found, err := e.wanted(ids)
	if err != nil {
		return nil, err
	}
	var items []xmlInstanceStatus
	for _, i := range found {
		if all || i.state == "running" {
			items = append(items, e.describeStatus(i))
		}
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlInstanceStatus] `xml:"instanceStatusSet"`
		Next *string                   `xml:"nextToken,omitempty"`
	}{xmlSet[xmlInstanceStatus]{items}, next}, err
}
