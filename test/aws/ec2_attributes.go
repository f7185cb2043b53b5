package aws

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// attributeChange is one attribute of a ModifyInstanceAttribute.
type attributeChange struct {
	check func(*instance) *apiError
	apply func(*instance)
}

// boolAttributes are the attributes that are a yes or no.
var boolAttributes = map[string]func(*instance, bool){
	"DisableApiTermination": func(i *instance, v bool) { i.noTerminate = v },
	"DisableApiStop":        func(i *instance, v bool) { i.noStop = v },
	"EbsOptimized":          func(i *instance, v bool) { i.spec.optimized = &v },
	"SourceDestCheck":       func(i *instance, v bool) { i.nics[0].noCheck = !v },
}

// attributeChanges takes the attributes, in both of the call's forms.
func (c *call) attributeChanges(p *params) []attributeChange {
	var out []attributeChange
	for name, set := range boolAttributes {
		v := p.optBool(name + ".Value")
		if p.values.Get("Attribute") == strings.ToLower(name[:1])+name[1:] {
			v = p.optBool("Value")
			p.str("Attribute")
		}
		if v != nil {
			change := attributeChange{apply: func(i *instance) { set(i, *v) }}
			if name == "SourceDestCheck" {
				change.check = oneInterface
			}
			out = append(out, change)
		}
	}
	if kind := p.str("InstanceType.Value"); kind != "" {
		out = append(out, c.changeType(kind))
	}
	if text, there := p.str("UserData.Value"), p.has("UserData.Value"); there {
		if data, err := base64.StdEncoding.DecodeString(text); err != nil || len(data) > maxUserData {
			p.fail("InvalidUserData.Malformed", "Invalid user data.")
		}
		out = append(out, attributeChange{check: mustBeStopped, apply: func(i *instance) { i.spec.userData = text }})
	}
	if how := p.oneOf("InstanceInitiatedShutdownBehavior.Value", "stop", "terminate"); how != "" {
		out = append(out, attributeChange{apply: func(i *instance) { i.shutdown = how }})
	}
	if ids := p.list("GroupId"); len(ids) > 0 {
		out = append(out, c.changeGroups(ids))
	}
	if p.any("BlockDeviceMapping.") {
		out = append(out, c.changeMappings(p))
	}
	return out
}

func mustBeStopped(i *instance) *apiError {
	if i.state != "stopped" {
		return ec2Fault("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", i.id)
	}
	return nil
}

func oneInterface(i *instance) *apiError {
	if len(i.nics) != 1 {
		return ec2Fault("InvalidInstanceID", "There are multiple interfaces attached to instance '%s'. Please specify an interface ID for the operation instead.", i.id)
	}
	return nil
}

func (c *call) changeType(name string) attributeChange {
	var kind instanceType
	return attributeChange{func(i *instance) *apiError {
		if err := mustBeStopped(i); err != nil {
			return err
		}
		var ok bool
		if kind, ok = typeNamed(name); !ok {
			return ec2Fault("InvalidInstanceAttributeValue", "Invalid value '%s' for InstanceType.", name)
		}
		return (&launch{image: i.image, kind: kind}).checkFit()
	}, func(i *instance) { i.kind, i.bootMode = kind, kind.bootsAs(i.image) }}
}

func (c *call) changeGroups(ids []string) attributeChange {
	var groups []*securityGroup
	return attributeChange{func(i *instance) (err *apiError) {
		if err := oneInterface(i); err != nil {
			return err
		}
		groups, err = c.e.groupsFor(i.nics[0].subnet, ids, nil)
		return err
	}, func(i *instance) { i.nics[0].groups = groups }}
}

// changeMappings can change whether volumes are deleted with the instance.
func (c *call) changeMappings(p *params) attributeChange {
	remove := map[string]bool{}
	for _, n := range p.numbers("BlockDeviceMapping") {
		prefix := fmt.Sprintf("BlockDeviceMapping.%d.", n)
		device := p.required(prefix + "DeviceName")
		p.str(prefix + "Ebs.VolumeId")
		if v := p.optBool(prefix + "Ebs.DeleteOnTermination"); v != nil {
			remove[device] = *v
		} else {
			p.fail("MissingParameter", "The request must contain the parameter %sEbs.DeleteOnTermination", prefix)
		}
	}
	of := func(i *instance, device string) *volume {
		for _, v := range c.e.volumesOf(i) {
			if sameDevice(v.attached.device, device) {
				return v
			}
		}
		return nil
	}
	return attributeChange{func(i *instance) *apiError {
		for device := range remove {
			if of(i, device) == nil {
				return ec2Fault("InvalidInstanceAttributeValue", "No device is currently mapped at %s", device)
			}
		}
		return nil
	}, func(i *instance) {
		for device, v := range remove {
			of(i, device).attached.remove = v
		}
	}}
}

func (c *call) modifyInstanceAttribute(p *params) (any, *apiError) {
	id, changes := p.required("InstanceId"), c.attributeChanges(p)
	if len(changes) == 0 {
		p.fail("InvalidParameterCombination", "No attributes specified.")
	}
	if len(changes) > 1 {
		p.fail("InvalidParameterCombination", "Fields for multiple attribute types specified")
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	i, err := c.e.liveInstance(id)
	if err != nil {
		return nil, err
	}
	if changes[0].check != nil {
		if err := changes[0].check(i); err != nil {
			return nil, err
		}
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	changes[0].apply(i)
	return returned{true}, nil
}

type xmlFlag struct {
	Value bool `xml:"value"`
}

type instanceAttributeOutput struct {
	ID          string                      `xml:"instanceId"`
	Type        *xmlValue                   `xml:"instanceType,omitempty"`
	UserData    *xmlValue                   `xml:"userData,omitempty"`
	Shutdown    *xmlValue                   `xml:"instanceInitiatedShutdownBehavior,omitempty"`
	Root        *xmlValue                   `xml:"rootDeviceName,omitempty"`
	NoTerminate *xmlFlag                    `xml:"disableApiTermination,omitempty"`
	NoStop      *xmlFlag                    `xml:"disableApiStop,omitempty"`
	Check       *xmlFlag                    `xml:"sourceDestCheck,omitempty"`
	ENA         *xmlFlag                    `xml:"enaSupport,omitempty"`
	Groups      *xmlSet[xmlGroupID]         `xml:"groupSet,omitempty"`
	Mappings    *xmlSet[xmlInstanceMapping] `xml:"blockDeviceMapping,omitempty"`
}

func (c *call) describeInstanceAttribute(p *params) (any, *apiError) {
	id, name := p.required("InstanceId"), p.required("Attribute")
	if err := p.finish(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	i, err := c.e.instance(id)
	if err != nil {
		return nil, err
	}
	out, x := instanceAttributeOutput{ID: id}, c.e.describeInstance(i)
	switch name {
	case "instanceType":
		out.Type = &xmlValue{x.Type}
	case "userData":
		out.UserData = &xmlValue{i.spec.userData}
	case "instanceInitiatedShutdownBehavior":
		out.Shutdown = &xmlValue{i.shutdown}
	case "rootDeviceName":
		out.Root = &xmlValue{x.RootDevice}
	case "disableApiTermination":
		out.NoTerminate = &xmlFlag{i.noTerminate}
	case "disableApiStop":
		out.NoStop = &xmlFlag{i.noStop}
	case "sourceDestCheck":
		out.Check = &xmlFlag{x.Check}
	case "enaSupport":
		out.ENA = &xmlFlag{x.ENA}
	case "groupSet":
		out.Groups = &x.Groups
	case "blockDeviceMapping":
		out.Mappings = &x.Mappings
	default:
		return nil, ec2Fault("InvalidParameterValue", "Value (%s) for parameter attribute is invalid.", name)
	}
	return out, nil
}
