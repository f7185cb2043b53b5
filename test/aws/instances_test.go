package aws_test

import (
	"bytes"
	"encoding/base64"
	"image/jpeg"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
	"snapferry/test/fault"
)

func (l *lot) stop(id string, force bool) error {
	_, err := l.ec2.StopInstances(l.ctx, &ec2.StopInstancesInput{InstanceIds: []string{id}, Force: &force})
	return err
}

func (l *lot) startInstance(id string) error {
	_, err := l.ec2.StartInstances(l.ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}})
	return err
}

func (l *lot) terminate(id string) error {
	_, err := l.ec2.TerminateInstances(l.ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	return err
}

func (l *lot) modify(id string, change func(*ec2.ModifyInstanceAttributeInput)) error {
	in := &ec2.ModifyInstanceAttributeInput{InstanceId: &id}
	change(in)
	_, err := l.ec2.ModifyInstanceAttribute(l.ctx, in)
	return err
}

func (l *lot) must(errs ...error) {
	l.Helper()
	for _, err := range errs {
		if err != nil {
			l.Fatal(err)
		}
	}
}

func TestStatesOfAnInstance(t *testing.T) {
	c := newClock()
	l := newLot(t, aws.Options{Now: c.now, BootDelay: tick, StatusDelay: tick, StopDelay: tick, TerminateDelay: tick}).withImage()
	i := l.run(l.runInput())
	id := *i.InstanceId
	if i.State.Name != "pending" || len(i.BlockDeviceMappings) != 1 || i.BlockDeviceMappings[0].Ebs.Status != "attaching" {
		t.Errorf("fresh: %s, %+v", i.State.Name, i.BlockDeviceMappings)
	}
	_, shot := l.ec2.GetConsoleScreenshot(l.ctx, &ec2.GetConsoleScreenshotInput{InstanceId: &id})
	l.rejected(
		rejection{name: "stop while pending", code: "IncorrectInstanceState", err: l.stop(id, false)},
		rejection{name: "screenshot while pending", code: "IncorrectInstanceState", err: shot},
	)
	var got []string
	see := func(d time.Duration) {
		c.advance(d)
		got = append(got, l.health(id))
	}
	see(0)
	see(tick)
	see(tick)
	l.must(l.stop(id, false))
	see(0)
	l.rejected(rejection{name: "start while stopping", code: "IncorrectInstanceState", err: l.startInstance(id)})
	see(tick)
	l.must(l.stop(id, false), l.startInstance(id))
	see(0)
	see(tick)
	l.must(l.terminate(id))
	see(0)
	see(tick)
	const na = " not-applicable not-applicable"
	want := []string{
		"pending" + na, "running initializing initializing", "running ok ok", "stopping" + na, "stopped" + na, "pending" + na,
		"running initializing initializing", "shutting-down" + na, "terminated" + na,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("went through\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	l.must(l.terminate(id))
	l.rejected(
		rejection{name: "start after the end", code: "IncorrectInstanceState", err: l.startInstance(id)},
		rejection{name: "stop after the end", code: "IncorrectInstanceState", err: l.stop(id, false)},
	)
	c.advance(time.Hour)
	_, err := l.ec2.DescribeInstances(l.ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	l.rejected(rejection{name: "an hour later", code: "InvalidInstanceID.NotFound", err: err})
}

func TestAttributesOfAnInstance(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	id := *l.run(l.runInput()).InstanceId
	yes, no := &types.AttributeBooleanValue{Value: awssdk.Bool(true)}, &types.AttributeBooleanValue{Value: awssdk.Bool(false)}
	keep := func(device string) func(*ec2.ModifyInstanceAttributeInput) {
		return func(in *ec2.ModifyInstanceAttributeInput) {
			in.BlockDeviceMappings = []types.InstanceBlockDeviceMappingSpecification{{DeviceName: &device, Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: awssdk.Bool(false)}}}
		}
	}
	kind := func(name string) func(*ec2.ModifyInstanceAttributeInput) {
		return func(in *ec2.ModifyInstanceAttributeInput) { in.InstanceType = &types.AttributeValue{Value: &name} }
	}
	l.must(
		l.modify(id, func(in *ec2.ModifyInstanceAttributeInput) { in.SourceDestCheck = no }),
		l.modify(id, func(in *ec2.ModifyInstanceAttributeInput) { in.DisableApiTermination = yes }),
		l.modify(id, func(in *ec2.ModifyInstanceAttributeInput) { in.DisableApiStop = yes }),
		l.modify(id, keep("/dev/sda1")),
	)
	l.rejected(
		rejection{name: "terminate protected", code: "OperationNotPermitted", err: l.terminate(id)},
		rejection{name: "stop protected", code: "OperationNotPermitted", err: l.stop(id, false)},
		rejection{name: "no such device", code: "InvalidInstanceAttributeValue", err: l.modify(id, keep("/dev/sdz"))},
		rejection{name: "type while running", code: "IncorrectInstanceState", err: l.modify(id, kind("t3.small"))},
		rejection{name: "nothing", code: "InvalidParameterCombination", err: l.modify(id, func(*ec2.ModifyInstanceAttributeInput) {})},
		rejection{name: "two at once", code: "InvalidParameterCombination", err: l.modify(id, func(in *ec2.ModifyInstanceAttributeInput) { in.SourceDestCheck, in.DisableApiStop = no, no })},
		rejection{name: "no such instance", code: "InvalidInstanceID.NotFound", err: l.terminate("i-0123456789abcdef0")},
		rejection{name: "malformed", code: "InvalidInstanceID.Malformed", err: l.terminate("i-xyz")},
	)
	l.must(l.modify(id, func(in *ec2.ModifyInstanceAttributeInput) { in.DisableApiStop = no }), l.stop(id, false))
	if s := l.health(id); !strings.HasPrefix(s, "stopped") {
		t.Errorf("after the stop: %s", s)
	}
	l.rejected(rejection{name: "type of another architecture", code: "InvalidParameterValue", err: l.modify(id, kind("m7g.medium"))})
	l.must(l.modify(id, kind("m5.large")))
	if i := l.instance(id); i.InstanceType != "m5.large" || *i.SourceDestCheck {
		t.Errorf("instance %s, check %v", i.InstanceType, *i.SourceDestCheck)
	}
	out, err := l.ec2.DescribeInstanceAttribute(l.ctx, &ec2.DescribeInstanceAttributeInput{InstanceId: &id, Attribute: "disableApiTermination"})
	if err != nil || !*out.DisableApiTermination.Value {
		t.Errorf("attribute %+v, %v", out, err)
	}
	l.must(l.modify(id, func(in *ec2.ModifyInstanceAttributeInput) { in.DisableApiTermination = no }), l.terminate(id))
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1, "volume": 1}) // the root volume was to be kept
}

func TestAGuestThatDoesNotBoot(t *testing.T) {
	set := fault.New(1)
	l := newLot(t, aws.Options{Faults: set}).withImage()
	set.Add(fault.Rule{Op: "RunInstances", Kind: fault.Lie, Detail: aws.LieNoBoot})
	ill, well := *l.run(l.runInput()).InstanceId, *l.run(l.runInput()).InstanceId
	console := func(id string) string {
		out, err := l.ec2.GetConsoleOutput(l.ctx, &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: awssdk.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(*out.Output)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if h := l.health(ill) + " " + l.health(well); h != "running ok impaired running ok ok" {
		t.Errorf("health %s", h)
	}
	if a, b := console(ill), console(well); !strings.Contains(a, "Unable to mount root") || !strings.Contains(b, "login:") {
		t.Errorf("consoles %q and %q", a, b)
	}
	l.must(l.e.SetConsole(well, "hello"), l.e.SetHealth(well, false, false))
	if got := console(well) + " " + l.health(well); got != "hello running impaired impaired" {
		t.Errorf("as set: %s", got)
	}
	shot, err := l.ec2.GetConsoleScreenshot(l.ctx, &ec2.GetConsoleScreenshotInput{InstanceId: &ill})
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(*shot.ImageData)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jpeg.Decode(bytes.NewReader(b)); err != nil {
		t.Errorf("screenshot: %v", err)
	}
	set.Add(fault.Rule{Op: "RunInstances", Name: "task", Kind: fault.TaskFault})
	if i := l.instance(*l.run(l.runInput()).InstanceId); i.State.Name != "terminated" || *i.StateReason.Code != "Server.InternalError" {
		t.Errorf("failed launch: %s, %+v", i.State.Name, i.StateReason)
	}
	set.Add(fault.Rule{Op: "StopInstances", Kind: fault.Lie, Detail: aws.LieStuck})
	l.must(l.stop(ill, false))
	if h := l.health(ill); !strings.HasPrefix(h, "stopping") {
		t.Errorf("stuck: %s", h)
	}
	l.must(l.stop(ill, true))
	if h := l.health(ill); !strings.HasPrefix(h, "stopped") {
		t.Errorf("by force: %s", h)
	}
	if m := l.e.Misuse(); len(m) > 0 {
		t.Errorf("misuse %v", m)
	}
}

func TestWhatIsFreshIsNotSeen(t *testing.T) {
	c := newClock()
	l := newLot(t, aws.Options{Now: c.now, VisibleDelay: tick, TagDelay: 2 * tick})
	l.ami = l.register(l.imageInput("usual"))
	l.rejected(rejection{name: "launch a fresh image", code: "InvalidAMIID.NotFound", err: l.tryRun(l.runInput())})
	c.advance(tick)
	in := l.runInput()
	in.TagSpecifications = specs(types.ResourceTypeInstance, "a", "b")
	id := *l.run(in).InstanceId
	list := func(filters []types.Filter) (n int) {
		out, err := l.ec2.DescribeInstances(l.ctx, &ec2.DescribeInstancesInput{Filters: filters})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Reservations {
			n += len(r.Instances)
		}
		return n
	}
	_, tag := l.ec2.CreateTags(l.ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: awssdk.String("c"), Value: awssdk.String("d")}}})
	l.rejected(rejection{name: "tag", code: "InvalidInstanceID.NotFound", err: tag}, rejection{name: "terminate", code: "InvalidInstanceID.NotFound", err: l.terminate(id)})
	if n := list(nil); n != 0 {
		t.Errorf("%d instances are listed at once", n)
	}
	if got := l.kinds()["instance"]; got != 1 {
		t.Errorf("the inventory has %d instances", got)
	}
	c.advance(tick)
	if all, tagged := list(nil), list(filterBy("tag:a", "b")); all != 1 || tagged != 0 {
		t.Errorf("then %d are listed and %d by tag", all, tagged)
	}
	c.advance(tick)
	if n := list(filterBy("tag:a", "b")); n != 1 {
		t.Errorf("in the end %d are listed by tag", n)
	}
}

func TestInventoryAndTags(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	stock, err := l.e.AddStockImage(aws.StockImage{Name: "Windows_Server-2022", Windows: true})
	l.must(err)
	in := l.runInput()
	in.ImageId = &stock
	in.TagSpecifications = append(specs(types.ResourceTypeInstance, "own:job", "7"), specs(types.ResourceTypeNetworkInterface, "own:job", "7")...)
	i := l.instance(*l.run(in).InstanceId)
	if i.Platform != "windows" || *i.UsageOperation != "RunInstances:0002" {
		t.Errorf("stock instance %q %q", i.Platform, *i.UsageOperation)
	}
	vol, nic := *i.BlockDeviceMappings[0].Ebs.VolumeId, *i.NetworkInterfaces[0].NetworkInterfaceId
	ids := []string{l.snap, l.ami, *i.InstanceId, vol, nic, l.vpc, l.subnet, l.group}
	_, err = l.ec2.CreateTags(l.ctx, &ec2.CreateTagsInput{Resources: ids, Tags: []types.Tag{{Key: awssdk.String("all"), Value: awssdk.String("1")}}})
	l.must(err)
	out, err := l.ec2.DescribeTags(l.ctx, &ec2.DescribeTagsInput{Filters: filterBy("key", "all")})
	if err != nil || len(out.Tags) != len(ids) {
		t.Errorf("%d tags, %v, want %d", len(out.Tags), err, len(ids))
	}
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1, "instance": 1, "volume": 1, "network-interface": 1})
	var ours []string
	for _, r := range l.e.Inventory() {
		if r.Tagged("own:") {
			ours = append(ours, r.Kind+" "+r.MadeBy+" "+r.Tags["own:job"])
		}
	}
	if got := strings.Join(ours, ", "); got != "instance RunInstances 7, network-interface RunInstances 7" {
		t.Errorf("ours are %s", got)
	}
	_, err = l.ec2.DeleteTags(l.ctx, &ec2.DeleteTagsInput{Resources: []string{vol}})
	l.must(err)
	if v := l.volume(vol); len(v.Tags) != 0 {
		t.Errorf("tags %v are left", v.Tags)
	}
	_, deregister := l.ec2.DeregisterImage(l.ctx, &ec2.DeregisterImageInput{ImageId: &stock})
	l.rejected(rejection{name: "deregister a stock image", code: "AuthFailure", status: 401, err: deregister})
}

func TestTypes(t *testing.T) {
	l := newLot(t, aws.Options{})
	out, err := l.ec2.DescribeInstanceTypes(l.ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"m7i.large", "t2.micro", "m7g.large"}})
	if err != nil || len(out.InstanceTypes) != 3 {
		t.Fatalf("types %+v, %v", out, err)
	}
	for _, k := range out.InstanceTypes {
		got := []any{*k.VCpuInfo.DefaultVCpus, *k.MemoryInfo.SizeInMiB, len(k.SupportedBootModes), k.Hypervisor, k.NetworkInfo.EnaSupport, k.EbsInfo.AttachmentLimitType, k.ProcessorInfo.SupportedArchitectures[0]}
		want := map[types.InstanceType][]any{
			"m7i.large": {int32(2), int64(8192), 2, types.InstanceTypeHypervisorNitro, types.EnaSupportRequired, types.AttachmentLimitTypeDedicated, types.ArchitectureTypeX8664},
			"t2.micro":  {int32(1), int64(1024), 1, types.InstanceTypeHypervisorXen, types.EnaSupportUnsupported, types.AttachmentLimitTypeShared, types.ArchitectureTypeI386},
			"m7g.large": {int32(2), int64(8192), 1, types.InstanceTypeHypervisorNitro, types.EnaSupportRequired, types.AttachmentLimitTypeShared, types.ArchitectureTypeArm64},
		}[k.InstanceType]
		for n := range got {
			if got[n] != want[n] {
				t.Errorf("%s: figure %d is %v, want %v", k.InstanceType, n, got[n], want[n])
			}
		}
	}
	names := func(p *types.InstanceRequirementsRequest) (s []string) {
		out, err := l.ec2.GetInstanceTypesFromInstanceRequirements(l.ctx, &ec2.GetInstanceTypesFromInstanceRequirementsInput{
			ArchitectureTypes: []types.ArchitectureType{"x86_64"}, VirtualizationTypes: []types.VirtualizationType{"hvm"}, InstanceRequirements: p,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range out.InstanceTypes {
			s = append(s, *k.InstanceType)
		}
		return s
	}
	need := &types.InstanceRequirementsRequest{
		VCpuCount: &types.VCpuCountRangeRequest{Min: awssdk.Int32(2), Max: awssdk.Int32(2)},
		MemoryMiB: &types.MemoryMiBRequest{Min: awssdk.Int32(8000), Max: awssdk.Int32(9000)}, InstanceGenerations: []types.InstanceGeneration{"current"}, LocalStorage: "excluded",
	}
	if got := strings.Join(names(need), " "); got != "m7a.large m7i.large" {
		t.Errorf("types %s", got)
	}
	need.BurstablePerformance = "required"
	if got := strings.Join(names(need), " "); got != "t2.large t3.large t3a.large" {
		t.Errorf("burstable types %s", got)
	}
	offered := func() int {
		out, err := l.ec2.DescribeInstanceTypeOfferings(l.ctx, &ec2.DescribeInstanceTypeOfferingsInput{LocationType: "availability-zone", Filters: filterBy("instance-type", "m7i.*")})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.InstanceTypeOfferings)
	}
	before := offered()
	l.must(l.e.Offer("m7i.large"))
	if after := offered(); before != 10 || after != 8 {
		t.Errorf("%d offerings, then %d", before, after)
	}
	_, unknown := l.ec2.DescribeInstanceTypes(l.ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"m9.large"}})
	l.rejected(rejection{name: "unknown type", code: "InvalidInstanceType", err: unknown})
	p := ec2.NewDescribeInstanceTypesPaginator(l.ec2, &ec2.DescribeInstanceTypesInput{MaxResults: awssdk.Int32(20)})
	n, pages := 0, 0
	for p.HasMorePages() {
		out, err := p.NextPage(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		n, pages = n+len(out.InstanceTypes), pages+1
	}
	if n < 40 || pages < 3 {
		t.Errorf("%d types on %d pages", n, pages)
	}
}

func TestDescribeTheNetwork(t *testing.T) {
	l := newLot(t, aws.Options{})
	l.e.AddKeyPair("ops")
	vpcs, err := l.ec2.DescribeVpcs(l.ctx, &ec2.DescribeVpcsInput{Filters: filterBy("is-default", "false")})
	if err != nil || len(vpcs.Vpcs) != 1 || *vpcs.Vpcs[0].CidrBlock != "10.1.0.0/16" {
		t.Errorf("VPCs %+v, %v", vpcs, err)
	}
	subnets, err := l.ec2.DescribeSubnets(l.ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{l.subnet}})
	if err != nil || *subnets.Subnets[0].AvailableIpAddressCount != 11 || *subnets.Subnets[0].AvailabilityZone != l.zone("a") {
		t.Errorf("subnets %+v, %v", subnets, err)
	}
	groups, err := l.ec2.DescribeSecurityGroups(l.ctx, &ec2.DescribeSecurityGroupsInput{Filters: filterBy("vpc-id", l.vpc)})
	if err != nil || len(groups.SecurityGroups) != 2 {
		t.Errorf("groups %+v, %v", groups, err)
	}
	keys, err := l.ec2.DescribeKeyPairs(l.ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"ops"}})
	if err != nil || len(keys.KeyPairs) != 1 {
		t.Errorf("keys %+v, %v", keys, err)
	}
	_, noKey := l.ec2.DescribeKeyPairs(l.ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"none"}})
	_, noSubnet := l.ec2.DescribeSubnets(l.ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-1"}})
	_, noGroup := l.ec2.DescribeSecurityGroups(l.ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{"sg-1"}})
	_, noVPC := l.ec2.DescribeVpcs(l.ctx, &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-1"}})
	l.rejected(
		rejection{name: "key", code: "InvalidKeyPair.NotFound", err: noKey}, rejection{name: "subnet", code: "InvalidSubnetID.NotFound", err: noSubnet},
		rejection{name: "group", code: "InvalidGroup.NotFound", err: noGroup}, rejection{name: "VPC", code: "InvalidVpcID.NotFound", err: noVPC},
	)
	bare := newLot(t, aws.Options{NoDefaultVPC: true}).withImage()
	in := bare.runInput()
	in.SubnetId, in.SecurityGroupIds = nil, nil
	bare.rejected(rejection{name: "no default VPC", code: "VPCIdNotSpecified", err: bare.tryRun(in)})
	l.withImage()
	in.ImageId = &l.ami
	if i := l.run(in); *i.VpcId == l.vpc || i.PrivateIpAddress == nil {
		t.Errorf("launched into %s", *i.VpcId)
	}
}
