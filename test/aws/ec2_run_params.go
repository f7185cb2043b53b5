package aws

import (
	"encoding/base64"
	"fmt"
)

// runSpec is what a launch asks for; zero values are what it leaves out.
type runSpec struct {
	image, kind, key, subnet, ip, userData   string
	profileARN, profileName                  string
	shutdown, zone, tenancy, host, placement string
	groupIDs, groupNames                     []string
	interfaces                               []interfaceSpec
	mappings                                 []mapping
	tags                                     map[string][]tag // by resource type
	metadata                                 metadataSpec
	noTermination, noStop, optimized         *bool
	monitoring                               *bool
	min, max                                 int64
}

// interfaceSpec is one NetworkInterface of a launch.
type interfaceSpec struct {
	index            *int64
	id, subnet, ip   string
	text             string
	groupIDs         []string
	remove, publicIP *bool
}

type metadataSpec struct {
	tokens, endpoint, tags string
	hops                   *int64
}

// runTagKinds are the resource types that RunInstances can tag.
var runTagKinds = []string{"instance", "volume", "network-interface"}

// maxUserData bounds the user data, in bytes after decoding.
const maxUserData = 16 << 10

// runSpec takes the parameters that RunInstances and launch templates share.
func (p *params) runSpec() runSpec {
	s := runSpec{
		image: p.str("ImageId"), kind: p.str("InstanceType"), key: p.str("KeyName"), subnet: p.str("SubnetId"), ip: p.str("PrivateIpAddress"),
		userData: p.str("UserData"), profileARN: p.str("IamInstanceProfile.Arn"), profileName: p.str("IamInstanceProfile.Name"),
		shutdown: p.oneOf("InstanceInitiatedShutdownBehavior", "stop", "terminate"), zone: p.str("Placement.AvailabilityZone"),
		tenancy: p.oneOf("Placement.Tenancy", "default", "dedicated", "host"), host: p.str("Placement.HostId"), placement: p.str("Placement.GroupName"),
		groupIDs: p.list("SecurityGroupId"), groupNames: p.list("SecurityGroup"), interfaces: p.interfaces(), mappings: p.mappings(),
		tags: p.tagsByKind(runTagKinds...), metadata: p.metadataSpec(),
		noTermination: p.optBool("DisableApiTermination"), noStop: p.optBool("DisableApiStop"), optimized: p.optBool("EbsOptimized"),
		monitoring: p.optBool("Monitoring.Enabled"),
	}
	if s.profileARN != "" && s.profileName != "" {
		p.fail("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	}
	if s.profileARN == "" && s.profileName == "" && p.any("IamInstanceProfile") {
		p.fail("MissingParameter", "The request must contain the parameter IamInstanceProfile.Name or IamInstanceProfile.Arn")
	}
	if data, err := base64.StdEncoding.DecodeString(s.userData); err != nil {
		p.fail("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
	} else if len(data) > maxUserData {
		p.fail("InvalidParameterValue", "User data is limited to %d bytes", maxUserData)
	}
	if s.host != "" && s.tenancy != "host" {
		p.fail("InvalidParameterCombination", "The parameter HostId requires the tenancy host.")
	}
	return s
}

func (p *params) interfaces() []interfaceSpec {
	var out []interfaceSpec
	for _, n := range p.numbers("NetworkInterface") {
		prefix := fmt.Sprintf("NetworkInterface.%d.", n)
		p.oneOf(prefix+"InterfaceType", "interface")
		if card := p.integer(prefix + "NetworkCardIndex"); card != 0 {
			p.fail("InvalidParameterValue", "The network card index %d does not exist.", card)
		}
		out = append(out, interfaceSpec{
			index: p.optInt(prefix + "DeviceIndex"), id: p.str(prefix + "NetworkInterfaceId"), subnet: p.str(prefix + "SubnetId"),
			ip: p.str(prefix + "PrivateIpAddress"), text: p.str(prefix + "Description"), groupIDs: p.list(prefix + "SecurityGroupId"),
			remove: p.optBool(prefix + "DeleteOnTermination"), publicIP: p.optBool(prefix + "AssociatePublicIpAddress"),
		})
	}
	return out
}

func (p *params) metadataSpec() metadataSpec {
	const at = "MetadataOptions."
	m := metadataSpec{
		tokens: p.oneOf(at+"HttpTokens", "optional", "required"), endpoint: p.oneOf(at+"HttpEndpoint", "enabled", "disabled"),
		tags: p.oneOf(at+"InstanceMetadataTags", "enabled", "disabled"), hops: p.optInt(at + "HttpPutResponseHopLimit"),
	}
	p.oneOf(at+"HttpProtocolIpv6", "enabled", "disabled")
	if m.hops != nil && (*m.hops < 1 || *m.hops > 64) {
		p.fail("InvalidParameterValue", "The HttpPutResponseHopLimit %d is not between 1 and 64.", *m.hops)
	}
	return m
}

// overlay lays a request over what its launch template says.
func (s runSpec) overlay(over runSpec) runSpec {
	for _, f := range []struct {
		to *string
		v  string
	}{
		{&s.image, over.image}, {&s.kind, over.kind}, {&s.key, over.key}, {&s.subnet, over.subnet}, {&s.ip, over.ip}, {&s.userData, over.userData},
		{&s.shutdown, over.shutdown}, {&s.zone, over.zone}, {&s.tenancy, over.tenancy}, {&s.host, over.host}, {&s.placement, over.placement},
		{&s.metadata.tokens, over.metadata.tokens}, {&s.metadata.endpoint, over.metadata.endpoint}, {&s.metadata.tags, over.metadata.tags},
	} {
		pick(f.to, f.v)
	}
	if over.profileARN != "" || over.profileName != "" {
		s.profileARN, s.profileName = over.profileARN, over.profileName
	}
	pick(&s.metadata.hops, over.metadata.hops)
	pick(&s.noTermination, over.noTermination)
	pick(&s.noStop, over.noStop)
	pick(&s.optimized, over.optimized)
	pick(&s.monitoring, over.monitoring)
	if len(over.groupIDs)+len(over.groupNames) > 0 {
		s.groupIDs, s.groupNames = over.groupIDs, over.groupNames
	}
	if len(over.interfaces) > 0 {
		s.interfaces = over.interfaces
	}
	s.mappings = overlayMappings(s.mappings, over.mappings)
	s.tags = overlayTags(s.tags, over.tags)
	s.min, s.max = over.min, over.max
	return s
}

func overlayMappings(base, over []mapping) []mapping {
	out := append([]mapping(nil), base...)
next:
	for _, o := range over {
		for i, b := range base {
			if b.device == o.device {
				out[i] = o
				if b.ebs != nil && o.ebs != nil {
					s := b.ebs.merge(*o.ebs)
					out[i].ebs = &s
				}
				continue next
			}
		}
		out = append(out, o)
	}
	return out
}

func overlayTags(base, over map[string][]tag) map[string][]tag {
	out := map[string][]tag{}
	for kind, tags := range base {
		out[kind] = append(out[kind], tags...)
	}
	for kind, tags := range over {
		out[kind] = append(out[kind], tags...) // the later value of a key wins
	}
	return out
}

// templateOf lays the request over the launch template that it names, if any.
func (c *call) templateOf(p *params) (runSpec, *apiError) {
	const at = "LaunchTemplate."
	id, name, version := p.str(at+"LaunchTemplateId"), p.str(at+"LaunchTemplateName"), p.str(at+"Version")
	s := p.runSpec()
	s.min, s.max = p.integer("MinCount"), p.integer("MaxCount")
	p.str("ClientToken")
	for _, k := range []string{"MinCount", "MaxCount"} {
		p.required(k)
	}
	if s.min < 0 || s.max < s.min || p.has("MinCount") && s.min < 1 {
		p.fail("InvalidParameterValue", "The counts %d and %d are not valid: 1 <= MinCount <= MaxCount.", s.min, s.max)
	}
	if err := p.complete(); err != nil {
		return s, err
	}
	if !p.any(at) {
		return s, nil
	}
	defer c.e.lockCloud()()
	base, err := c.e.templateSpec(id, name, version)
	if err != nil {
		return s, err
	}
	return base.overlay(s), nil
}
