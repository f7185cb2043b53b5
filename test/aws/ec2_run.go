package aws

import (
	"slices"
	"strings"
)

// launch is a checked RunInstances on its way to instances.
type launch struct {
	spec     runSpec
	image    *machineImage
	kind     instanceType
	bootMode string
	zone     string
	profile  string // name
	mappings []mapping
	nics     [][]plannedInterface // for each instance
}

func (c *call) runInstances(p *params) (any, *apiError) {
	spec, err := c.templateOf(p)
	if err != nil {
		return nil, err
	}
	e, token := c.e, p.str("ClientToken")
	defer e.lockCloud()()
	if answer, err := c.repeated(token); err != nil || answer != nil {
		if err != nil {
			return nil, err
		}
		return answer(), nil
	}
	l, err := c.planLaunch(spec)
	if err != nil {
		return nil, err
	}
	if err := c.mayLaunch(l); err != nil {
		return nil, err
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	if err := e.checkCapacity(l); err != nil {
		return nil, err
	}
	reservation := newID("r")
	var made []*instance
	for n := range l.nics {
		made = append(made, c.makeInstance(l, n, reservation, token))
	}
	answer := func() any { return e.describeReservation(reservation, made) }
	c.remember(token, answer)
	return answer(), nil
}

// planLaunch checks everything that EC2 checks before it makes anything.
func (c *call) planLaunch(s runSpec) (*launch, *apiError) {
	e, l := c.e, &launch{spec: s}
	if s.image == "" {
		return nil, ec2Fault("MissingParameter", "The request must contain the parameter ImageId")
	}
	var err *apiError
	if l.image, err = e.liveImage(s.image); err != nil {
		return nil, err
	}
	kind := s.kind
	orElse(&kind, "m1.small") // the API's default, which no account has any more
	var ok bool
	if l.kind, ok = typeNamed(kind); !ok {
		return nil, ec2Fault("InvalidParameterValue", "Invalid value '%s' for InstanceType.", kind)
	}
	if err := l.checkFit(); err != nil {
		return nil, err
	}
	if err := e.planNetwork(l); err != nil {
		return nil, err
	}
	if !slices.Contains(e.offers(l.kind), l.zone) {
		return nil, ec2Fault("Unsupported", "Your requested instance type (%s) is not supported in your requested Availability Zone (%s). Please retry your request by not specifying an Availability Zone or choosing %s.", l.kind.name, l.zone, strings.Join(e.offers(l.kind), ", "))
	}
	if err := e.checkNames(l); err != nil {
		return nil, err
	}
	if l.mappings, err = e.merged(l.image, s.mappings); err != nil {
		return nil, err
	}
	if len(l.mappings) > l.kind.room(len(l.nics[0])) {
		return nil, ec2Fault("AttachmentLimitExceeded", "The volume count %d exceeds the limit of %s, which is %d with %d network interfaces", len(l.mappings), l.kind.name, l.kind.room(len(l.nics[0])), len(l.nics[0]))
	}
	return l, nil
}

// checkFit looks at whether the type can start the image.
func (l *launch) checkFit() *apiError {
	img, t := l.image, l.kind
	switch {
	case img.virtualization != "hvm":
		return ec2Fault("InvalidParameterCombination", "Virtualization type 'hvm' is required for instances of type '%s'. Ensure that you are using an AMI with virtualization type 'hvm'. For more information, see the AMI types.", t.name)
	case !slices.Contains(t.arches, img.arch):
		return ec2Fault("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.", strings.Join(t.arches, ","), img.arch)
	case t.ena == "required" && !img.ena:
		return ec2Fault("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is required for the '%s' instance type. Ensure that you are using an AMI that is enabled for ENA.", t.name)
	case img.tpm != "" && !t.tpm:
		return ec2Fault("InvalidParameterValue", "The %s instance type does not support NitroTPM.", t.name)
	}
	if l.bootMode = t.bootsAs(img); l.bootMode == "" {
		mode := map[string]string{bootUEFI: "UEFI", bootPreferred: "UEFI", bootLegacy: "Legacy BIOS", "": "Legacy BIOS"}[img.bootMode]
		// The text for UEFI is captured.
		return ec2Fault("InvalidParameterValue", "The %s instance type does not support an AMI with a boot mode of %s. Only instance types built on the Nitro System support UEFI. Specify an instance type that supports %s, and try again.", t.name, mode, mode)
	}
	return nil
}

// checkNames looks at what a launch names besides the network.
func (e *Emulator) checkNames(l *launch) *apiError {
	s := l.spec
	if s.key != "" && e.cloud.keys[s.key] == nil {
		return ec2Fault("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", s.key)
	}
	if s.profileARN != "" || s.profileName != "" {
		l.profile = s.profileName
		if s.profileARN != "" {
			l.profile = strings.TrimPrefix(s.profileARN, e.profileARN(""))
		}
		if _, ok := e.cloud.profiles[l.profile]; !ok {
			return ec2Fault("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", l.profile)
		}
	}
	if s.placement != "" && !e.cloud.placements[s.placement] {
		return ec2Fault("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", s.placement)
	}
	if s.host != "" || s.tenancy == "host" {
		return ec2Fault("InvalidHostID.NotFound", "The host '%s' does not exist", s.host)
	}
	if s.tenancy == "dedicated" && l.kind.family == "t2" {
		return ec2Fault("Unsupported", "The instance type %s does not support the tenancy dedicated.", l.kind.name)
	}
	return checkRunTags(s.tags)
}

func checkRunTags(byKind map[string][]tag) *apiError {
	for _, tags := range byKind {
		var t tagSet
		for _, one := range tags {
			t.set(one.Key, one.Value)
		}
		if len(t.m) > maxTags {
			return ec2Fault("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
		}
	}
	return nil
}

// mayLaunch asks for the permissions besides ec2:RunInstances.
func (c *call) mayLaunch(l *launch) *apiError {
	if l.profile != "" {
		if err := c.need("iam:PassRole"); err != nil {
			return err
		}
	}
	return c.mayTag(len(l.spec.tags) > 0)
}

// checkCapacity looks at the quota of vCPUs, which a dry run does not.
func (e *Emulator) checkCapacity(l *launch) *apiError {
	if e.opt.MaxVCPUs <= 0 {
		return nil
	}
	used := l.kind.vcpus * int64(len(l.nics))
	for _, i := range e.cloud.instances {
		if i.state == "pending" || i.state == "running" {
			used += i.kind.vcpus
		}
	}
	if used > int64(e.opt.MaxVCPUs) {
		return vcpuLimit(e.opt.MaxVCPUs)
	}
	return nil
}

func vcpuLimit(n int) *apiError {
	return ec2Fault("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.", n)
}
