package aws_test

import (
	"bytes"
	"encoding/base64"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
	"snapferry/test/fault"
)

// refusals are changes of a good launch and the codes that they are refused with.
type refusals map[string]struct {
	code   string
	change func(*ec2.RunInstancesInput)
}

func (l *lot) refuse(all refusals) {
	l.Helper()
	before := l.kinds()
	for name, k := range all {
		in := l.runInput()
		k.change(in)
		l.rejected(rejection{name: name, code: k.code, err: l.tryRun(in)})
	}
	l.wantKinds(before)
}

func TestRunInstancesRefuses(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	uefi := l.imageInput("uefi")
	uefi.BootMode = "uefi"
	uefiAMI := l.register(uefi)
	_, otherGroup := l.elsewhere()
	l.refuse(refusals{
		"no such image":   {"InvalidAMIID.NotFound", func(in *ec2.RunInstancesInput) { in.ImageId = awssdk.String("ami-0123456789abcdef0") }},
		"malformed image": {"InvalidAMIID.Malformed", func(in *ec2.RunInstancesInput) { in.ImageId = awssdk.String("image") }},
		"no image":        {"MissingParameter", func(in *ec2.RunInstancesInput) { in.ImageId = nil }},
		"no such type":    {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.InstanceType = "t3.huge" }},
		"type not in zone": {"Unsupported", func(in *ec2.RunInstancesInput) {
			_ = l.e.Offer("m6i.large", l.zone("b"))
			in.InstanceType = "m6i.large"
		}},
		"wrong architecture": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.InstanceType = "m7g.medium" }},
		"UEFI on Xen":        {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.ImageId, in.InstanceType = &uefiAMI, "t2.micro" }},
		"no such subnet":     {"InvalidSubnetID.NotFound", func(in *ec2.RunInstancesInput) { in.SubnetId = awssdk.String("subnet-1") }},
		"no such group":      {"InvalidGroup.NotFound", func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-1"} }},
		"group of other VPC": {"InvalidParameter", func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{otherGroup} }},
		"address outside":    {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = awssdk.String("10.1.2.7") }},
		"reserved address":   {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = awssdk.String("10.1.1.3") }},
		"last address":       {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = awssdk.String("10.1.1.15") }},
		"address for two": {"InvalidParameterCombination", func(in *ec2.RunInstancesInput) {
			in.PrivateIpAddress, in.MaxCount = awssdk.String("10.1.1.8"), awssdk.Int32(2)
		}},
		"subnet full": {"InsufficientFreeAddressesInSubnet", func(in *ec2.RunInstancesInput) { in.MinCount, in.MaxCount = awssdk.Int32(12), awssdk.Int32(12) }},
		"no such key": {"InvalidKeyPair.NotFound", func(in *ec2.RunInstancesInput) { in.KeyName = awssdk.String("none") }},
		"no such profile": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: awssdk.String("none")}
		}},
		"no such placement": {"InvalidPlacementGroup.Unknown", func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{GroupName: awssdk.String("none")} }},
		"no such host":      {"InvalidHostID.NotFound", func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{Tenancy: "host"} }},
		"user data": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			in.UserData = awssdk.String(base64.StdEncoding.EncodeToString(make([]byte, 16385)))
		}},
		"user data garbled": {"InvalidUserData.Malformed", func(in *ec2.RunInstancesInput) { in.UserData = awssdk.String("#!/bin/sh") }},
		"metadata hops": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpPutResponseHopLimit: awssdk.Int32(65)}
		}},
		"counts": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.MinCount = awssdk.Int32(2) }},
		"no such template": {"InvalidLaunchTemplateName.NotFoundException", func(in *ec2.RunInstancesInput) {
			in.LaunchTemplate = &types.LaunchTemplateSpecification{LaunchTemplateName: awssdk.String("none")}
		}},
		"tag of another kind":  {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { in.TagSpecifications = specs(types.ResourceTypeImage, "a", "b") }},
		"what is not emulated": {"UnknownParameter", func(in *ec2.RunInstancesInput) { in.Ipv6AddressCount = awssdk.Int32(1) }},
	})
}

func TestRunInstancesRefusesMappings(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	other := l.snapshot(ebs.StartSnapshotInput{}, nil)
	root := func(in *ec2.RunInstancesInput, e types.EbsBlockDevice) {
		in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: awssdk.String("/dev/sda1"), Ebs: &e}}
	}
	l.refuse(refusals{
		"root too small": {"InvalidBlockDeviceMapping", func(in *ec2.RunInstancesInput) { root(in, types.EbsBlockDevice{VolumeSize: awssdk.Int32(7)}) }},
		"key alone":      {"InvalidParameterDependency", func(in *ec2.RunInstancesInput) { root(in, types.EbsBlockDevice{KmsKeyId: awssdk.String("alias/x")}) }},
		"gp3 IOPS low": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeType: "gp3", Iops: awssdk.Int32(2999)})
		}},
		"gp3 IOPS ratio": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeType: "gp3", Iops: awssdk.Int32(4001)})
		}},
		"gp3 throughput": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeType: "gp3", Throughput: awssdk.Int32(751)})
		}},
		"gp2 throughput": {"InvalidParameterCombination", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeType: "gp2", Throughput: awssdk.Int32(125)})
		}},
		"gp2 IOPS":         {"InvalidParameterCombination", func(in *ec2.RunInstancesInput) { root(in, types.EbsBlockDevice{Iops: awssdk.Int32(3000)}) }},
		"io2 without IOPS": {"MissingParameter", func(in *ec2.RunInstancesInput) { root(in, types.EbsBlockDevice{VolumeType: "io2"}) }},
		"boot from st1": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeType: "st1", VolumeSize: awssdk.Int32(125)})
		}},
		"initialization rate": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeInitializationRate: awssdk.Int32(99)})
		}},
		"empty, initialized": {"InvalidParameterCombination", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{VolumeInitializationRate: awssdk.Int32(100), VolumeSize: awssdk.Int32(1)})
			in.BlockDeviceMappings[0].DeviceName = awssdk.String("/dev/sdf")
		}},
		"other root snapshot": {"InvalidBlockDeviceMapping", func(in *ec2.RunInstancesInput) {
			root(in, types.EbsBlockDevice{SnapshotId: &other})
		}},
		"too many volumes": {"AttachmentLimitExceeded", func(in *ec2.RunInstancesInput) {
			for n := range 27 {
				in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: awssdk.String("/dev/xvd" + string(rune('b'+n/26)) + string(rune('a'+n%26))), Ebs: &types.EbsBlockDevice{VolumeSize: awssdk.Int32(1)}})
			}
		}},
	})
}

func TestRunInstancesRefusesInterfaces(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	subnetB, err := l.e.AddSubnet(l.vpc, "10.1.2.0/28", l.zone("b"))
	l.must(err)
	nic := func(index int32, subnet string) types.InstanceNetworkInterfaceSpecification {
		return types.InstanceNetworkInterfaceSpecification{DeviceIndex: &index, SubnetId: &subnet}
	}
	nics := func(in *ec2.RunInstancesInput, all ...types.InstanceNetworkInterfaceSpecification) {
		in.SubnetId, in.SecurityGroupIds, in.NetworkInterfaces = nil, nil, all
	}
	l.refuse(refusals{
		"interfaces and subnet": {"InvalidParameterCombination", func(in *ec2.RunInstancesInput) {
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{nic(0, l.subnet)}
		}},
		"interface without index": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			nics(in, types.InstanceNetworkInterfaceSpecification{SubnetId: &l.subnet})
		}},
		"interface 0 missing":     {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { nics(in, nic(1, l.subnet)) }},
		"interface index twice":   {"InvalidParameterValue", func(in *ec2.RunInstancesInput) { nics(in, nic(0, l.subnet), nic(0, l.subnet)) }},
		"too many interfaces":     {"AttachmentLimitExceeded", func(in *ec2.RunInstancesInput) { nics(in, nic(0, l.subnet), nic(1, l.subnet), nic(2, l.subnet)) }},
		"interfaces in two zones": {"InvalidParameterCombination", func(in *ec2.RunInstancesInput) { nics(in, nic(0, l.subnet), nic(1, subnetB)) }},
		"no such interface": {"InvalidNetworkInterfaceID.NotFound", func(in *ec2.RunInstancesInput) {
			nics(in, types.InstanceNetworkInterfaceSpecification{DeviceIndex: awssdk.Int32(0), NetworkInterfaceId: awssdk.String("eni-1")})
		}},
		"zone against subnet": {"InvalidParameterValue", func(in *ec2.RunInstancesInput) {
			in.Placement = &types.Placement{AvailabilityZone: awssdk.String(l.zone("b"))}
		}},
	})
}

// elsewhere sets up another VPC.
func (l *lot) elsewhere() (subnet, group string) {
	l.Helper()
	vpc, err := l.e.AddVPC("10.9.0.0/16")
	if err != nil {
		l.Fatal(err)
	}
	if subnet, err = l.e.AddSubnet(vpc, "10.9.0.0/24", l.zone("a")); err != nil {
		l.Fatal(err)
	}
	if group, err = l.e.AddSecurityGroup(vpc, "web"); err != nil {
		l.Fatal(err)
	}
	return subnet, group
}

func TestLaunchWithEverything(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	l.e.AddKeyPair("ops")
	l.e.AddInstanceProfile("app")
	l.e.AddPlacementGroup("near")
	old, err := l.e.AddNetworkInterface(l.subnet, "10.1.1.10")
	if err != nil {
		t.Fatal(err)
	}
	in := l.runInput()
	in.SubnetId, in.SecurityGroupIds, in.InstanceType, in.KeyName = nil, nil, "m5.large", awssdk.String("ops")
	in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{
		{DeviceIndex: awssdk.Int32(0), SubnetId: &l.subnet, PrivateIpAddress: awssdk.String("10.1.1.9"), Groups: []string{l.group}},
		{DeviceIndex: awssdk.Int32(1), NetworkInterfaceId: &old},
	}
	in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: awssdk.String("app")}
	in.Placement = &types.Placement{Tenancy: "dedicated", GroupName: awssdk.String("near")}
	in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: "required", HttpPutResponseHopLimit: awssdk.Int32(2)}
	in.UserData = awssdk.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh")))
	in.TagSpecifications = append(specs(types.ResourceTypeInstance, "vm", "web"), specs(types.ResourceTypeVolume, "of", "web")...)
	in.BlockDeviceMappings = []types.BlockDeviceMapping{
		{DeviceName: awssdk.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{VolumeSize: awssdk.Int32(20), VolumeType: "gp3", Iops: awssdk.Int32(4000), Throughput: awssdk.Int32(500), VolumeInitializationRate: awssdk.Int32(300)}},
		{DeviceName: awssdk.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{SnapshotId: &l.snap, Encrypted: awssdk.Bool(true), DeleteOnTermination: awssdk.Bool(false)}},
	}
	i := l.instance(*l.run(in).InstanceId)
	if i.State.Name != "running" || *i.PrivateIpAddress != "10.1.1.9" || len(i.NetworkInterfaces) != 2 || *i.KeyName != "ops" || i.Placement.Tenancy != "dedicated" ||
		i.MetadataOptions.HttpTokens != "required" || *i.MetadataOptions.HttpPutResponseHopLimit != 2 || i.CurrentInstanceBootMode != "legacy-bios" ||
		i.IamInstanceProfile == nil || len(i.SecurityGroups) != 1 || *i.SubnetId != l.subnet || *i.VpcId != l.vpc || len(i.Tags) != 1 || !*i.EnaSupport {
		t.Errorf("instance %+v", i)
	}
	root, data := l.volume(*i.BlockDeviceMappings[0].Ebs.VolumeId), l.volume(*i.BlockDeviceMappings[1].Ebs.VolumeId)
	if *root.Size != 20 || root.VolumeType != "gp3" || *root.Iops != 4000 || *root.Throughput != 500 || *root.VolumeInitializationRate != 300 || root.State != "in-use" ||
		!*root.Attachments[0].DeleteOnTermination || *root.AvailabilityZone != l.zone("a") || len(root.Tags) != 1 {
		t.Errorf("root volume %+v", root)
	}
	if *data.Size != 8 || !*data.Encrypted || data.KmsKeyId == nil || *data.Attachments[0].DeleteOnTermination {
		t.Errorf("data volume %+v", data)
	}
	l.wantBytes(*root.VolumeId, 0, l.block, true)
	l.wantBytes(*root.VolumeId, 1, make([]byte, blockSize), true)
	l.wantBytes(*data.VolumeId, 0, l.block, true)
	l.wantBytes(*data.VolumeId, 1, make([]byte, blockSize), false) // garbage
	if _, err := l.ec2.TerminateInstances(l.ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{*i.InstanceId}}); err != nil {
		t.Fatal(err)
	}
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1, "volume": 1})
	nic, err := l.ec2.DescribeNetworkInterfaces(l.ctx, &ec2.DescribeNetworkInterfacesInput{Filters: filterBy("subnet-id", l.subnet)})
	if err != nil || len(nic.NetworkInterfaces) != 1 || *nic.NetworkInterfaces[0].NetworkInterfaceId != old || nic.NetworkInterfaces[0].Status != "available" {
		t.Errorf("interfaces %+v, %v", nic, err)
	}
}

// wantBytes compares a block of a volume.
func (l *lot) wantBytes(volumeID string, block int64, want []byte, same bool) {
	l.Helper()
	d, err := l.e.Volume(volumeID)
	if err != nil {
		l.Fatal(err)
	}
	got := make([]byte, blockSize)
	if _, err := d.ReadAt(got, block*blockSize); err != nil {
		l.Fatal(err)
	}
	if bytes.Equal(got, want) != same {
		l.Errorf("block %d of %s: equal is %v, want %v", block, volumeID, !same, same)
	}
}

func TestClientTokenOfALaunch(t *testing.T) {
	set := fault.New(1)
	l := newLot(t, aws.Options{Faults: set}).withImage()
	in := l.runInput()
	in.ClientToken = awssdk.String("job-1/launch")
	set.Add(fault.Rule{Op: "RunInstances", Kind: fault.LostAnswer})
	if err := l.tryRun(in); err == nil {
		t.Fatal("the answer was not lost")
	}
	first := l.run(in)
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1, "instance": 1, "volume": 1, "network-interface": 1})
	other := *in
	other.InstanceType = "t3.small"
	l.rejected(rejection{name: "other parameters", code: "IdempotentParameterMismatch", err: l.tryRun(&other)})
	if _, err := l.ec2.TerminateInstances(l.ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{*first.InstanceId}}); err != nil {
		t.Fatal(err)
	}
	// The token of an ended instance answers with that instance.
	if again := l.run(in); *again.InstanceId != *first.InstanceId || again.State.Name != "terminated" {
		t.Errorf("after the end the token gives %s, %s", *again.InstanceId, again.State.Name)
	}
}

func TestDryRunAndPermissions(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	l.e.AddInstanceProfile("app")
	in := l.runInput()
	in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: awssdk.String("app")}
	in.TagSpecifications = specs(types.ResourceTypeInstance, "a", "b")
	in.DryRun = awssdk.Bool(true)
	l.rejected(rejection{name: "dry run", code: "DryRunOperation", status: 412, err: l.tryRun(in)})
	for _, action := range []string{"ec2:RunInstances", "iam:PassRole", "ec2:CreateTags"} {
		l.e.Deny(func(a string) bool { return a == action })
		l.rejected(rejection{name: action, code: "UnauthorizedOperation", status: 403, err: l.tryRun(in)})
	}
	l.e.Deny(nil)
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1})
	in.DryRun = nil
	l.e.Deny(func(a string) bool { return a == "kms:CreateGrant" })
	in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: awssdk.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{Encrypted: awssdk.Bool(true)}}}
	i := l.instance(*l.run(in).InstanceId)
	if i.State.Name != "terminated" || *i.StateReason.Code != "Client.InternalError" {
		t.Errorf("a launch without the key: %s, %+v", i.State.Name, i.StateReason)
	}
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1})
}

func TestCapacityAndQuota(t *testing.T) {
	set := fault.New(1)
	l := newLot(t, aws.Options{Faults: set, MaxVCPUs: 5}).withImage()
	set.Add(fault.Rule{Op: "RunInstances", Kind: fault.Error, Detail: "InsufficientInstanceCapacity"})
	l.rejected(rejection{name: "capacity", code: "InsufficientInstanceCapacity", status: 500, err: l.tryRun(l.runInput())})
	first := l.run(l.runInput())
	l.run(l.runInput())
	l.rejected(rejection{name: "quota", code: "VcpuLimitExceeded", err: l.tryRun(l.runInput())})
	if _, err := l.ec2.StopInstances(l.ctx, &ec2.StopInstancesInput{InstanceIds: []string{*first.InstanceId}}); err != nil {
		t.Fatal(err)
	}
	l.run(l.runInput())
}

func TestLaunchTemplates(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	made, err := l.ec2.CreateLaunchTemplate(l.ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: awssdk.String("web"), TagSpecifications: specs(types.ResourceTypeLaunchTemplate, "a", "b"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{
			InstanceType: "m5.large", ImageId: &l.ami, SecurityGroupIds: []string{l.group},
			BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{{DeviceName: awssdk.String("/dev/sda1"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{VolumeType: "gp3", VolumeSize: awssdk.Int32(12)}}},
			TagSpecifications:   []types.LaunchTemplateTagSpecificationRequest{{ResourceType: "instance", Tags: []types.Tag{{Key: awssdk.String("from"), Value: awssdk.String("template")}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := &ec2.RunInstancesInput{
		MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), SubnetId: &l.subnet, InstanceType: "t3.small",
		LaunchTemplate:      &types.LaunchTemplateSpecification{LaunchTemplateId: made.LaunchTemplate.LaunchTemplateId, Version: awssdk.String("$Latest")},
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: awssdk.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{VolumeSize: awssdk.Int32(15)}}},
		TagSpecifications:   specs(types.ResourceTypeInstance, "by", "request"),
	}
	i := l.instance(*l.run(in).InstanceId)
	root := l.volume(*i.BlockDeviceMappings[0].Ebs.VolumeId)
	if i.InstanceType != "t3.small" || *i.ImageId != l.ami || len(i.Tags) != 2 || root.VolumeType != "gp3" || *root.Size != 15 || *i.SecurityGroups[0].GroupId != l.group {
		t.Errorf("launched %+v with %+v", i, root)
	}
	in.LaunchTemplate.Version = awssdk.String("7")
	l.rejected(rejection{name: "no such version", code: "InvalidLaunchTemplateId.VersionNotFound", err: l.tryRun(in)})
	v, err := l.ec2.DescribeLaunchTemplateVersions(l.ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: awssdk.String("web")})
	if err != nil || len(v.LaunchTemplateVersions) != 1 || *v.LaunchTemplateVersions[0].LaunchTemplateData.ImageId != l.ami {
		t.Errorf("versions %+v, %v", v, err)
	}
}
