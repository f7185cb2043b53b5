package aws

import (
	"encoding/base64"
	"regexp"
)

// machineImage is an AMI. What follows timed never changes.
type machineImage struct {
	meta
	timed
	gone bool // deregistered

	name, description, owner, alias, arch, virtualization, bootMode string
	rootDevice, imds, tpm, uefiData, kernel, ramdisk, sriov         string
	platform, platformDetails, usage                                string
	billing                                                         []string
	ena, public                                                     bool
	mappings                                                        []mapping
}

// Boot modes of images; empty is none.
const (
	bootLegacy    = "legacy-bios"
	bootUEFI      = "uefi"
	bootPreferred = "uefi-preferred"
)

// maxUEFIData bounds the decoded variable store; the service names no figure,
// this is the size of the store itself.
const maxUEFIData = 64 << 10

var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

// registerParams takes the parameters of RegisterImage, with the API's
// defaults, which are those of 2008.
func (c *call) registerParams(p *params) *machineImage {
	img := &machineImage{
		name: p.required("Name"), description: p.str("Description"), owner: c.e.opt.AccountID,
		arch:     p.oneOf("Architecture", "i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"),
		bootMode: p.oneOf("BootMode", bootLegacy, bootUEFI, bootPreferred), rootDevice: p.str("RootDeviceName"),
		virtualization: p.oneOf("VirtualizationType", "hvm", "paravirtual"), ena: p.boolean("EnaSupport"),
		imds: p.oneOf("ImdsSupport", "v2.0"), tpm: p.oneOf("TpmSupport", "v2.0"), uefiData: p.str("UefiData"),
		kernel: p.str("KernelId"), ramdisk: p.str("RamdiskId"), sriov: p.oneOf("SriovNetSupport", "simple"),
		billing: p.list("BillingProduct"), mappings: p.mappings(),
		platformDetails: "Linux/UNIX", usage: "RunInstances",
	}
	tags := p.tagSpecifications("image")
	img.meta = c.newMeta("ami", tags)
	orElse(&img.arch, "i386")
	orElse(&img.virtualization, "paravirtual")
	orElse(&img.rootDevice, "/dev/sda1")
	return img
}

func orElse(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

func (c *call) registerImage(p *params) (any, *apiError) {
	img := c.registerParams(p)
	if err := p.complete(); err != nil {
		return nil, err
	}
	if err := c.mayTag(len(img.tags.m) > 0); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	if err := c.checkImage(img); err != nil {
		return nil, err
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	img.enter("pending", c.e.now())
	img.then("available", c.e.opt.ImageDelay)
	if c.lie == lieFailure {
		img.then("failed", c.e.opt.ImageDelay)
	}
	if err := c.e.addImage(img); err != nil {
		return nil, err
	}
	return struct {
		ID string `xml:"imageId"`
	}{img.id}, nil
}

// addImage keeps the image and its snapshots; the cloud is locked.
func (e *Emulator) addImage(img *machineImage) *apiError {
	for i, m := range img.mappings {
		if m.ebs == nil || m.ebs.snapshotID == "" {
			continue
		}
		if err := e.UseInImage(m.ebs.snapshotID, img.id); err != nil {
			e.DeregisterImage(img.id) // the snapshots before it are free again
			return snapshotMissing(m.ebs.snapshotID)
		}
		s := *m.ebs
		if snap := e.lookup(s.snapshotID); snap != nil && s.size == 0 {
			s.size = snap.size
		}
		orElse(&s.kind, "gp2")
		if s.remove == nil {
			yes := true
			s.remove = &yes
		}
		img.mappings[i].ebs = &s
	}
	e.cloud.images[img.id] = img
	return nil
}

func (c *call) checkImage(img *machineImage) *apiError {
	if !imageName.MatchString(img.name) {
		return ec2Fault("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")
	}
	for _, other := range c.e.cloud.images {
		if !other.gone && other.owner == img.owner && other.name == img.name {
			return ec2Fault("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", img.name, other.id)
		}
	}
	if err := img.checkBoot(); err != nil {
		return err
	}
	if len(img.billing) > 0 {
		return ec2Fault("OperationNotPermitted", "The account is not authorized to specify billing products.")
	}
	if err := checkMappings(img.mappings); err != nil {
		return err
	}
	root := false
	for _, m := range img.mappings {
		if err := c.e.checkImageMapping(m); err != nil {
			return err
		}
		root = root || m.device == img.rootDevice && m.ebs != nil && m.ebs.snapshotID != ""
	}
	if !root {
		return badMapping("No root snapshot specified in device mapping.")
	}
	return nil
}

// checkBoot looks at how the parts of booting fit together.
func (img *machineImage) checkBoot() *apiError {
	combination := func(text string) *apiError { return ec2Fault("InvalidParameterCombination", "%s", text) }
	hvm := img.virtualization == "hvm"
	switch {
	case !hvm && img.bootMode != "" && img.bootMode != bootLegacy:
		return combination("The boot mode " + img.bootMode + " requires the virtualization type hvm.")
	case !hvm && (img.ena || img.sriov != ""):
		return combination("Enhanced networking is supported for HVM images only.")
	case !hvm && img.arch == "arm64":
		return combination("The architecture arm64 requires the virtualization type hvm.")
	case img.arch == "arm64" && img.bootMode != "" && img.bootMode != bootUEFI:
		return combination("The architecture arm64 requires the boot mode uefi.")
	case img.arch == "i386" && img.bootMode == bootUEFI:
		return combination("The architecture i386 does not support the boot mode uefi.")
	case img.tpm != "" && img.bootMode != bootUEFI:
		// Measured by others: uefi-preferred is not enough.
		return combination("TpmSupport requires the boot mode uefi.")
	case img.uefiData != "" && img.bootMode != bootUEFI && img.bootMode != bootPreferred:
		return combination("UefiData requires the boot mode uefi or uefi-preferred.")
	}
	if data, err := base64.StdEncoding.DecodeString(img.uefiData); err != nil || len(data) > maxUEFIData {
		return ec2Fault("InvalidParameterValue", "The value for parameter UefiData is invalid.")
	}
	return nil
}

var amiID = regexp.MustCompile(`^ami-[0-9a-f]{8}([0-9a-f]{9})?$`)

// image finds an image that requests can see, deregistered ones among them.
func (e *Emulator) image(id string) (*machineImage, *apiError) {
	if !amiID.MatchString(id) {
		return nil, ec2Fault("InvalidAMIID.Malformed", "Invalid id: \"%s\" (expecting \"ami-...\")", id)
	}
	img := e.cloud.images[id]
	if img == nil || !e.visible(&img.meta) {
		return nil, ec2Fault("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
	}
	return img, nil
}

// liveImage is image for calls that need it registered and available.
func (e *Emulator) liveImage(id string) (*machineImage, *apiError) {
	img, err := e.image(id)
	if err != nil {
		return nil, err
	}
	if img.gone || img.state != "available" {
		return nil, ec2Fault("InvalidAMIID.Unavailable", "The image ID '%s' is not available", id)
	}
	return img, nil
}

type snapshotReturn struct {
	ID   string `xml:"snapshotId"`
	Code string `xml:"returnCode"`
}

type deregisterOutput struct {
	Return  bool                    `xml:"return"`
	Results *xmlSet[snapshotReturn] `xml:"deleteSnapshotResultSet,omitempty"`
}

func (c *call) deregisterImage(p *params) (any, *apiError) {
	id, also := p.required("ImageId"), p.boolean("DeleteAssociatedSnapshots")
	if err := p.complete(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	img, err := c.e.image(id)
	switch {
	case err != nil:
		return nil, err
	case img.gone:
		return nil, ec2Fault("InvalidAMIID.Unavailable", "The image ID '%s' is no longer available", id)
	case img.owner != c.e.opt.AccountID:
		return nil, ec2Fault("AuthFailure", "Not authorized for image:%s", id)
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	img.gone = true
	c.e.DeregisterImage(id)
	out := deregisterOutput{Return: true}
	if also {
		out.Results = &xmlSet[snapshotReturn]{}
		for _, m := range img.mappings {
			if m.ebs != nil && m.ebs.snapshotID != "" {
				out.Results.Items = append(out.Results.Items, snapshotReturn{m.ebs.snapshotID, c.deleteBacking(m.ebs.snapshotID)})
			}
		}
	}
	return out, nil
}

// deleteBacking deletes a snapshot along with its image, in the words of EC2.
func (c *call) deleteBacking(id string) (code string) {
	e := c.e
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.snapshots[id]
	if s == nil {
		return "success"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.amis) > 0 {
		return "skipped"
	}
	s.state, s.message = stateError, "deleted by "+c.op
	delete(e.snapshots, id)
	return "success"
}

// mayTag asks for the permission to tag what a call makes.
func (c *call) mayTag(tags bool) *apiError {
	if !tags {
		return nil
	}
	return c.need("ec2:CreateTags")
}

// need is UnauthorizedOperation if the action is denied.
func (c *call) need(action string) *apiError {
	if !c.e.denied(action) {
		return nil
	}
	return ec2Fault("UnauthorizedOperation", "You are not authorized to perform this operation. User: %s is not authorized to perform: %s because no identity-based policy allows the %s action", c.e.userARN(), action, action)
}
