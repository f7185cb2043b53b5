package aws

import (
	"bytes"
	"encoding/xml"
	"strings"
	"time"
)

const (
	ec2Version   = "2016-11-15"
	ec2Namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"
	stsVersion   = "2011-06-15"
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	xmlHeader    = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	ec2Time      = "2006-01-02T15:04:05.000Z"
)

// ec2Action is one call: it takes its parameters, finishes them and returns the
// members of the answer.
type ec2Action func(c *call, p *params) (any, *apiError)

var ec2Actions = map[string]ec2Action{
	"DescribeSnapshots":                        (*call).describeSnapshots,
	"DeleteSnapshot":                           (*call).deleteSnapshot,
	"CreateTags":                               (*call).createTags,
	"DeleteTags":                               (*call).deleteTags,
	"DescribeTags":                             (*call).describeTags,
	"GetEbsEncryptionByDefault":                (*call).getEncryptionByDefault,
	"EnableEbsEncryptionByDefault":             (*call).enableEncryptionByDefault,
	"DisableEbsEncryptionByDefault":            (*call).disableEncryptionByDefault,
	"GetEbsDefaultKmsKeyId":                    (*call).getDefaultKMSKey,
	"DescribeRegions":                          (*call).describeRegions,
	"DescribeAvailabilityZones":                (*call).describeZones,
	"CreateVolume":                             (*call).createVolume,
	"DescribeVolumes":                          (*call).describeVolumes,
	"DeleteVolume":                             (*call).deleteVolume,
	"AttachVolume":                             (*call).attachVolume,
	"DetachVolume":                             (*call).detachVolume,
	"ModifyVolume":                             (*call).modifyVolume,
	"DescribeVolumesModifications":             (*call).describeModifications,
	"RegisterImage":                            (*call).registerImage,
	"DeregisterImage":                          (*call).deregisterImage,
	"DescribeImages":                           (*call).describeImages,
	"DescribeImageAttribute":                   (*call).describeImageAttribute,
	"ImportImage":                              (*call).importImage,
	"DescribeImportImageTasks":                 (*call).describeImports,
	"RunInstances":                             (*call).runInstances,
	"StartInstances":                           (*call).startInstances,
	"StopInstances":                            (*call).stopInstances,
	"TerminateInstances":                       (*call).terminateInstances,
	"DescribeInstances":                        (*call).describeInstances,
	"DescribeInstanceStatus":                   (*call).describeInstanceStatus,
	"DescribeInstanceAttribute":                (*call).describeInstanceAttribute,
	"ModifyInstanceAttribute":                  (*call).modifyInstanceAttribute,
	"GetConsoleOutput":                         (*call).consoleOutput,
	"GetConsoleScreenshot":                     (*call).consoleScreenshot,
	"CreateReplaceRootVolumeTask":              (*call).createRootTask,
	"DescribeReplaceRootVolumeTasks":           (*call).describeRootTasks,
	"DescribeInstanceTypes":                    (*call).describeInstanceTypes,
	"DescribeInstanceTypeOfferings":            (*call).describeOfferings,
	"GetInstanceTypesFromInstanceRequirements": (*call).typesFromRequirements,
	"DescribeVpcs":                             (*call).describeVPCs,
	"DescribeSubnets":                          (*call).describeSubnets,
	"DescribeSecurityGroups":                   (*call).describeGroups,
	"DescribeKeyPairs":                         (*call).describeKeys,
	"DescribeNetworkInterfaces":                (*call).describeInterfaces,
	"DeleteNetworkInterface":                   (*call).deleteInterface,
	"CreateLaunchTemplate":                     (*call).createTemplate,
	"DescribeLaunchTemplates":                  (*call).describeTemplates,
	"DescribeLaunchTemplateVersions":           (*call).describeTemplateVersions,
}

func (c *call) doEC2() (*reply, *apiError) {
	p := c.params
	if p.action == "" {
		return nil, ec2Fault("MissingAction", "The request must contain the parameter Action")
	}
	act, ok := ec2Actions[p.action]
	if v := p.values.Get("Version"); !ok || v != ec2Version {
		return nil, ec2Fault("InvalidAction", "The action %s is not valid for this web service.", p.action)
	}
	if c.e.denied("ec2:" + p.action) {
		return nil, ec2Fault("UnauthorizedOperation", "You are not authorized to perform this operation. User: %s is not authorized to perform: ec2:%s because no identity-based policy allows the ec2:%s action", c.e.userARN(), p.action, p.action)
	}
	out, err := act(c, p)
	if err != nil {
		return nil, err
	}
	members, failed := membersXML(out)
	if failed != nil {
		return nil, ec2Fault("InternalError", "encode the answer: %v", failed)
	}
	return c.xmlReply(p.action+"Response", ec2Namespace, struct {
		RequestID string `xml:"requestId"`
		Members   string `xml:",innerxml"`
	}{c.requestID, members}), nil
}

// membersXML encodes the members of v without an element around them.
func membersXML(v any) (string, error) {
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).EncodeElement(v, xml.StartElement{Name: xml.Name{Local: "x"}}); err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), "<x>"), "</x>"), nil
}

// xmlSet is a list of the EC2 protocol, which is there even when it is empty.
type xmlSet[T any] struct {
	Items []T `xml:"item"`
}

func (c *call) xmlReply(name, namespace string, v any) *reply {
	var b bytes.Buffer
	b.WriteString(xmlHeader)
	start := xml.StartElement{Name: xml.Name{Local: name}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}}}
	if err := xml.NewEncoder(&b).EncodeElement(v, start); err != nil {
		return c.fail(ec2Fault("InternalError", "encode the answer: %v", err))
	}
	return &reply{status: 200, body: b.Bytes(), header: map[string]string{
		"Content-Type": "text/xml;charset=UTF-8", "Cache-Control": "no-cache, no-store", "Server": "AmazonEC2",
	}}
}

func ec2Error(err *apiError, requestID string) *reply {
	type item struct {
		Code    string
		Message string
	}
	body, _ := xml.Marshal(struct {
		XMLName   xml.Name `xml:"Response"`
		Errors    []item   `xml:"Errors>Error"`
		RequestID string
	}{Errors: []item{{err.code, err.message}}, RequestID: requestID})
	return &reply{status: err.status, body: append([]byte(xmlHeader), body...), header: map[string]string{
		"Content-Type": "text/xml;charset=UTF-8", "Server": "AmazonEC2",
	}}
}

// returned is the answer of calls that have nothing to say.
type returned struct {
	Return bool `xml:"return"`
}

func ec2Stamp(t time.Time) string { return t.UTC().Format(ec2Time) }

type xmlTag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

type xmlTags = xmlSet[xmlTag]

// xmlTagSet leaves the element out where there are no tags, as EC2 does.
func xmlTagSet(tags []tag) *xmlTags {
	if len(tags) == 0 {
		return nil
	}
	out := &xmlTags{}
	for _, t := range tags {
		out.Items = append(out.Items, xmlTag(t))
	}
	return out
}
