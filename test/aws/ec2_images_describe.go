package aws

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

type xmlEBS struct {
	Delete     *bool  `xml:"deleteOnTermination,omitempty"`
	Encrypted  bool   `xml:"encrypted"`
	IOPS       *int64 `xml:"iops,omitempty"`
	KMSKeyID   string `xml:"kmsKeyId,omitempty"`
	SnapshotID string `xml:"snapshotId,omitempty"`
	Throughput *int64 `xml:"throughput,omitempty"`
	Size       int64  `xml:"volumeSize"`
	Kind       string `xml:"volumeType"`
}

type xmlMapping struct {
	Device string  `xml:"deviceName"`
	Store  string  `xml:"virtualName,omitempty"`
	EBS    *xmlEBS `xml:"ebs,omitempty"`
}

type xmlImage struct {
	ID             string             `xml:"imageId"`
	Location       string             `xml:"imageLocation"`
	State          string             `xml:"imageState"`
	Owner          string             `xml:"imageOwnerId"`
	Alias          string             `xml:"imageOwnerAlias,omitempty"`
	Created        string             `xml:"creationDate"`
	Public         bool               `xml:"isPublic"`
	Arch           string             `xml:"architecture"`
	Type           string             `xml:"imageType"`
	Platform       string             `xml:"platform,omitempty"`
	Details        string             `xml:"platformDetails"`
	Usage          string             `xml:"usageOperation"`
	Name           string             `xml:"name"`
	Description    string             `xml:"description,omitempty"`
	RootType       string             `xml:"rootDeviceType"`
	RootDevice     string             `xml:"rootDeviceName"`
	Mappings       xmlSet[xmlMapping] `xml:"blockDeviceMapping"`
	Virtualization string             `xml:"virtualizationType"`
	Hypervisor     string             `xml:"hypervisor"`
	ENA            *bool              `xml:"enaSupport,omitempty"`
	SRIOV          string             `xml:"sriovNetSupport,omitempty"`
	BootMode       string             `xml:"bootMode,omitempty"`
	TPM            string             `xml:"tpmSupport,omitempty"`
	IMDS           string             `xml:"imdsSupport,omitempty"`
	Reason         *xmlReason         `xml:"stateReason,omitempty"`
	TagSet         *xmlTags           `xml:"tagSet"`
}

func (e *Emulator) describeImage(img *machineImage) xmlImage {
	x := xmlImage{
		ID: img.id, Location: img.owner + "/" + img.name, State: img.state, Owner: img.owner, Alias: img.alias, Created: ec2Stamp(img.made),
		Public: img.public, Arch: img.arch, Type: "machine", Platform: img.platform, Details: img.platformDetails, Usage: img.usage,
		Name: img.name, Description: img.description, RootType: "ebs", RootDevice: img.rootDevice, Virtualization: img.virtualization,
		Hypervisor: "xen", SRIOV: img.sriov, BootMode: img.bootMode, TPM: img.tpm, IMDS: img.imds, TagSet: xmlTagSet(e.shownTags(&img.meta)),
		Mappings: e.describeMappings(img),
	}
	if img.ena {
		x.ENA = &img.ena
	}
	if img.state == "failed" {
		x.Reason = &xmlReason{"Server.InternalError", "Server.InternalError: Internal error on registration"}
	}
	return x
}

func (e *Emulator) describeMappings(img *machineImage) (set xmlSet[xmlMapping]) {
	for _, m := range img.mappings {
		x := xmlMapping{Device: m.device, Store: m.store}
		if s := m.ebs; s != nil {
			x.EBS = &xmlEBS{Delete: s.remove, IOPS: s.iops, SnapshotID: s.snapshotID, Throughput: s.throughput, Size: s.size, Kind: s.kind}
			if snap := e.lookup(s.snapshotID); snap != nil {
				x.EBS.Encrypted = snap.encrypted
			} else if s.encrypted != nil {
				x.EBS.Encrypted = *s.encrypted
			}
		}
		set.Items = append(set.Items, x)
	}
	return set
}

func (x xmlImage) resource() resource {
	r := resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"image-id": x.ID, "state": x.State, "name": x.Name, "owner-id": x.Owner, "owner-alias": x.Alias, "architecture": x.Arch,
		"virtualization-type": x.Virtualization, "root-device-name": x.RootDevice, "root-device-type": x.RootType, "platform": x.Platform,
		"is-public": strconv.FormatBool(x.Public), "description": x.Description, "image-type": x.Type, "hypervisor": x.Hypervisor,
		"boot-mode": x.BootMode, "creation-date": x.Created, "ena-support": strconv.FormatBool(x.ENA != nil && *x.ENA),
		"platform-details": x.Details, "usage-operation": x.Usage,
	}, many: map[string][]string{"block-device-mapping.snapshot-id": nil, "block-device-mapping.device-name": nil}}
	for _, m := range x.Mappings.Items {
		r.many["block-device-mapping.device-name"] = append(r.many["block-device-mapping.device-name"], m.Device)
		if m.EBS != nil {
			r.many["block-device-mapping.snapshot-id"] = append(r.many["block-device-mapping.snapshot-id"], m.EBS.SnapshotID)
		}
	}
	return r
}

type describeImagesOutput struct {
	Set  xmlSet[xmlImage] `xml:"imagesSet"`
	Next *string          `xml:"nextToken,omitempty"`
}

func (c *call) describeImages(p *params) (any, *apiError) {
	ids, owners, fs, g := p.list("ImageId"), p.list("Owner"), p.filters(), p.paging(1, 1000)
	p.list("ExecutableBy")
	p.boolean("IncludeDeprecated")
	p.boolean("IncludeDisabled")
	if err := p.finish(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	for _, id := range ids {
		img, err := c.e.image(id)
		if err != nil {
			return nil, err
		}
		if img.gone {
			return nil, ec2Fault("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
		}
	}
	var items []xmlImage
	for _, img := range c.e.cloud.images {
		mine := img.owner == c.e.opt.AccountID && slices.Contains(owners, "self")
		owned := len(owners) == 0 || mine || slices.Contains(owners, img.owner) || img.alias != "" && slices.Contains(owners, img.alias)
		if owned && !img.gone && c.e.visible(&img.meta) && (len(ids) == 0 || slices.Contains(ids, img.id)) {
			items = append(items, c.e.describeImage(img))
		}
	}
	slices.SortFunc(items, func(a, b xmlImage) int { return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID)) })
	items, next, err := pageOf(c, items, fs, g)
	if err != nil {
		return nil, err
	}
	return describeImagesOutput{xmlSet[xmlImage]{items}, next}, nil
}

type xmlValue struct {
	Value string `xml:"value,omitempty"`
}

type imageAttributeOutput struct {
	ID       string              `xml:"imageId"`
	Boot     *xmlValue           `xml:"bootMode,omitempty"`
	Text     *xmlValue           `xml:"description,omitempty"`
	TPM      *xmlValue           `xml:"tpmSupport,omitempty"`
	UEFI     *xmlValue           `xml:"uefiData,omitempty"`
	IMDS     *xmlValue           `xml:"imdsSupport,omitempty"`
	SRIOV    *xmlValue           `xml:"sriovNetSupport,omitempty"`
	Mappings *xmlSet[xmlMapping] `xml:"blockDeviceMapping,omitempty"`
}

func (c *call) describeImageAttribute(p *params) (any, *apiError) {
	id, name := p.required("ImageId"), p.required("Attribute")
	if err := p.finish(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	img, err := c.e.image(id)
	if err != nil {
		return nil, err
	}
	if img.owner != c.e.opt.AccountID {
		return nil, ec2Fault("AuthFailure", "Not authorized for image:%s", id)
	}
	out := imageAttributeOutput{ID: id}
	values := map[string]func(){
		"bootMode": func() { out.Boot = &xmlValue{img.bootMode} }, "description": func() { out.Text = &xmlValue{img.description} },
		"tpmSupport": func() { out.TPM = &xmlValue{img.tpm} }, "uefiData": func() { out.UEFI = &xmlValue{img.uefiData} },
		"imdsSupport": func() { out.IMDS = &xmlValue{img.imds} }, "sriovNetSupport": func() { out.SRIOV = &xmlValue{img.sriov} },
		"blockDeviceMapping": func() { set := c.e.describeMappings(img); out.Mappings = &set },
	}
	fill, ok := values[name]
	if !ok {
		return nil, ec2Fault("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Expected one of: %v", name, slices.Sorted(maps.Keys(values)))
	}
	fill()
	return out, nil
}
