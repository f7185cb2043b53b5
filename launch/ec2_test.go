package launch

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

var _ EC2 = (*cloud)(nil)

const (
	pendingFor  = 15 * time.Second
	stoppingFor = 20 * time.Second
	statusAfter = time.Minute
)

func (c *cloud) DescribeSubnets(ctx context.Context, in *ec2.DescribeSubnetsInput, _ ...opt) (*ec2.DescribeSubnetsOutput, error) {
	return serve(c, ctx, "DescribeSubnets", in.DryRun, func() (*ec2.DescribeSubnetsOutput, error) {
		out := &ec2.DescribeSubnetsOutput{}
		for _, id := range in.SubnetIds {
			cidr, ok := map[string]string{"subnet-test": "10.9.0.0/24", "subnet-cut": "10.1.0.0/24", "subnet-two": "10.2.0.0/24"}[id]
			if !ok {
				return nil, fault("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
			}
			out.Subnets = append(out.Subnets, types.Subnet{SubnetId: aws.String(id), VpcId: aws.String("vpc-1"), AvailabilityZone: aws.String("eu-central-1a"), CidrBlock: aws.String(cidr)})
		}
		return out, nil
	})
}

// catalogue: name, vCPUs, MiB, modes, offered.
var catalogue = map[string]types.InstanceTypeInfo{
	"t3.medium":  kind("t3.medium", 2, 4096, true),
	"m6i.large":  kind("m6i.large", 2, 8192, false),
	"c6i.large":  kind("c6i.large", 2, 4096, false),
	"c6i.xlarge": kind("c6i.xlarge", 4, 8192, false),
}

func kind(name types.InstanceType, cpus int32, mib int64, burst bool) types.InstanceTypeInfo {
	return types.InstanceTypeInfo{
		InstanceType: name, CurrentGeneration: aws.Bool(true), BurstablePerformanceSupported: aws.Bool(burst), BareMetal: aws.Bool(false),
		VCpuInfo: &types.VCpuInfo{DefaultVCpus: aws.Int32(cpus)}, MemoryInfo: &types.MemoryInfo{SizeInMiB: aws.Int64(mib)},
		ProcessorInfo:      &types.ProcessorInfo{SupportedArchitectures: []types.ArchitectureType{types.ArchitectureTypeX8664}},
		SupportedBootModes: []types.BootModeType{types.BootModeTypeLegacyBios, types.BootModeTypeUefi},
		NetworkInfo:        &types.NetworkInfo{MaximumNetworkInterfaces: aws.Int32(3), EnaSupport: types.EnaSupportRequired},
		EbsInfo:            &types.EbsInfo{NvmeSupport: types.EbsNvmeSupportRequired, MaximumEbsAttachments: aws.Int32(28), AttachmentLimitType: types.AttachmentLimitTypeShared},
		NitroTpmSupport:    types.NitroTpmSupportSupported,
	}
}

func (c *cloud) GetInstanceTypesFromInstanceRequirements(ctx context.Context, in *ec2.GetInstanceTypesFromInstanceRequirementsInput, _ ...opt) (*ec2.GetInstanceTypesFromInstanceRequirementsOutput, error) {
	return serve(c, ctx, "GetInstanceTypesFromInstanceRequirements", in.DryRun, func() (*ec2.GetInstanceTypesFromInstanceRequirementsOutput, error) {
		out := &ec2.GetInstanceTypesFromInstanceRequirementsOutput{}
		want := in.InstanceRequirements
		for name, t := range catalogue {
			if *t.VCpuInfo.DefaultVCpus < *want.VCpuCount.Min || *t.MemoryInfo.SizeInMiB < int64(*want.MemoryMiB.Min) {
				continue
			}
			if *t.BurstablePerformanceSupported && want.BurstablePerformance == types.BurstablePerformanceExcluded {
				continue
			}
			out.InstanceTypes = append(out.InstanceTypes, types.InstanceTypeInfoFromInstanceRequirements{InstanceType: aws.String(name)})
		}
		return out, nil
	})
}

func (c *cloud) DescribeInstanceTypes(ctx context.Context, in *ec2.DescribeInstanceTypesInput, _ ...opt) (*ec2.DescribeInstanceTypesOutput, error) {
	return serve(c, ctx, "DescribeInstanceTypes", in.DryRun, func() (*ec2.DescribeInstanceTypesOutput, error) {
		out := &ec2.DescribeInstanceTypesOutput{}
		for _, n := range in.InstanceTypes {
			t, ok := catalogue[string(n)]
			if !ok {
				return nil, fault("InvalidInstanceType", "%s", n)
			}
			out.InstanceTypes = append(out.InstanceTypes, t)
		}
		return out, nil
	})
}

func (c *cloud) DescribeInstanceTypeOfferings(ctx context.Context, in *ec2.DescribeInstanceTypeOfferingsInput, _ ...opt) (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
	return serve(c, ctx, "DescribeInstanceTypeOfferings", in.DryRun, func() (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
		out := &ec2.DescribeInstanceTypeOfferingsOutput{}
		for n := range catalogue {
			out.InstanceTypeOfferings = append(out.InstanceTypeOfferings, types.InstanceTypeOffering{InstanceType: types.InstanceType(n), Location: aws.String("eu-central-1a")})
		}
		return out, nil
	})
}

func (c *cloud) GetEbsEncryptionByDefault(ctx context.Context, in *ec2.GetEbsEncryptionByDefaultInput, _ ...opt) (*ec2.GetEbsEncryptionByDefaultOutput, error) {
	return serve(c, ctx, "GetEbsEncryptionByDefault", in.DryRun, func() (*ec2.GetEbsEncryptionByDefaultOutput, error) {
		return &ec2.GetEbsEncryptionByDefaultOutput{EbsEncryptionByDefault: aws.Bool(c.encrypt)}, nil
	})
}

func (c *cloud) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, _ ...opt) (*ec2.DescribeImagesOutput, error) {
	return serve(c, ctx, "DescribeImages", in.DryRun, func() (*ec2.DescribeImagesOutput, error) {
		found, err := pick(c, c.images, func(i *image) thing { return i.thing }, in.ImageIds, in.Filters, func(i *image) map[string]string { return map[string]string{"name": i.name} }, "InvalidAMIID.NotFound")
		out := &ec2.DescribeImagesOutput{}
		for _, i := range found {
			if i.gone || i.stock && slices.Contains(in.Owners, "self") {
				continue
			}
			o := types.Image{ImageId: aws.String(i.id), State: types.ImageStatePending, RootDeviceName: aws.String(i.root), BootMode: types.BootModeValues(i.mode), Tags: toTags(i.tags)}
			if !c.clock.Before(i.ready) {
				o.State = types.ImageStateAvailable
			}
			for _, d := range i.devices {
				m := i.mappings[d]
				o.BlockDeviceMappings = append(o.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: aws.String(d), Ebs: &m})
			}
			out.Images = append(out.Images, o)
		}
		return out, err
	})
}

func (c *cloud) RegisterImage(ctx context.Context, in *ec2.RegisterImageInput, _ ...opt) (*ec2.RegisterImageOutput, error) {
	return serve(c, ctx, "RegisterImage", in.DryRun, func() (*ec2.RegisterImageOutput, error) {
		if aws.ToString(in.VirtualizationType) != "hvm" || in.Architecture != types.ArchitectureValuesX8664 || !aws.ToBool(in.EnaSupport) {
			c.t.Errorf("an image that does not boot: %s %s", aws.ToString(in.VirtualizationType), in.Architecture)
		}
		for _, i := range c.images {
			if i.name == *in.Name && !i.gone {
				return nil, fault("InvalidAMIName.Duplicate", "AMI name %s is already in use", *in.Name)
			}
		}
		img := &image{thing: c.newThing("ami", in.TagSpecifications, types.ResourceTypeImage), name: *in.Name, ready: c.clock.Add(pendingFor), root: *in.RootDeviceName, mode: string(in.BootMode), mappings: map[string]types.EbsBlockDevice{}}
		for _, m := range in.BlockDeviceMappings {
			s := c.snaps[aws.ToString(m.Ebs.SnapshotId)]
			if s == nil || s.state != types.SnapshotStateCompleted {
				return nil, fault("InvalidSnapshot.NotFound", "%s", aws.ToString(m.Ebs.SnapshotId))
			}
			if m.Ebs.Encrypted != nil || m.Ebs.KmsKeyId != nil {
				return nil, fault("InvalidBlockDeviceMapping", "encrypted")
			}
			img.devices = append(img.devices, *m.DeviceName)
			img.mappings[*m.DeviceName] = *m.Ebs
		}
		if _, ok := img.mappings[img.root]; !ok {
			return nil, fault("InvalidBlockDeviceMapping", "No root snapshot")
		}
		c.images[img.id] = img
		return &ec2.RegisterImageOutput{ImageId: aws.String(img.id)}, nil
	})
}

func (c *cloud) DeregisterImage(ctx context.Context, in *ec2.DeregisterImageInput, _ ...opt) (*ec2.DeregisterImageOutput, error) {
	return serve(c, ctx, "DeregisterImage", in.DryRun, func() (*ec2.DeregisterImageOutput, error) {
		i := c.images[*in.ImageId]
		if i == nil || i.gone {
			return nil, fault("InvalidAMIID.Unavailable", "%s", *in.ImageId)
		}
		if i.stock {
			c.t.Error("the stock image was deregistered")
		}
		i.gone = true
		return &ec2.DeregisterImageOutput{}, nil
	})
}

func (c *cloud) ImportImage(ctx context.Context, in *ec2.ImportImageInput, _ ...opt) (*ec2.ImportImageOutput, error) {
	return serve(c, ctx, "ImportImage", in.DryRun, func() (*ec2.ImportImageOutput, error) {
		before, err := c.once("ImportImage", in.ClientToken, in)
		if err != nil || before != "" {
			return &ec2.ImportImageOutput{ImportTaskId: aws.String(before)}, err
		}
		m := &imported{thing: c.newThing("import-ami", in.TagSpecifications, types.ResourceTypeImportImageTask), done: c.clock.Add(10 * time.Minute)}
		for _, d := range in.DiskContainers {
			m.snaps = append(m.snaps, *d.SnapshotId)
		}
		c.imports[m.id] = m
		c.tokenIs("ImportImage", in.ClientToken, m.id)
		return &ec2.ImportImageOutput{ImportTaskId: aws.String(m.id)}, nil
	})
}

func (c *cloud) CancelImportTask(ctx context.Context, in *ec2.CancelImportTaskInput, _ ...opt) (*ec2.CancelImportTaskOutput, error) {
	return serve(c, ctx, "CancelImportTask", in.DryRun, func() (*ec2.CancelImportTaskOutput, error) {
		m := c.imports[*in.ImportTaskId]
		if m == nil || m.image != "" {
			return nil, fault("IncorrectState", "completed")
		}
		m.off = true
		return &ec2.CancelImportTaskOutput{}, nil
	})
}

func (c *cloud) DescribeImportImageTasks(ctx context.Context, in *ec2.DescribeImportImageTasksInput, _ ...opt) (*ec2.DescribeImportImageTasksOutput, error) {
	return serve(c, ctx, "DescribeImportImageTasks", in.DryRun, func() (*ec2.DescribeImportImageTasksOutput, error) {
		found, err := pick(c, c.imports, func(m *imported) thing { return m.thing }, in.ImportTaskIds, in.Filters, nil, "InvalidConversionTaskId.NotFound")
		out := &ec2.DescribeImportImageTasksOutput{}
		for _, m := range found {
			o := types.ImportImageTask{ImportTaskId: aws.String(m.id), Status: aws.String("active"), Progress: aws.String("30"), StatusMessage: aws.String("converting"), Tags: toTags(m.tags)}
			switch {
			case m.off:
				o.Status = aws.String("deleted")
			case m.image != "":
				o.Status, o.ImageId = aws.String("completed"), aws.String(m.image)
			}
			out.ImportImageTasks = append(out.ImportImageTasks, o)
		}
		return out, err
	})
}

func (c *cloud) RunInstances(ctx context.Context, in *ec2.RunInstancesInput, _ ...opt) (*ec2.RunInstancesOutput, error) {
	return serve(c, ctx, "RunInstances", in.DryRun, func() (*ec2.RunInstancesOutput, error) {
		before, err := c.once("RunInstances", in.ClientToken, in)
		if err != nil {
			return nil, err
		}
		if before != "" {
			return &ec2.RunInstancesOutput{Instances: []types.Instance{c.instanceOut(c.instances[before])}}, nil
		}
		img := c.images[*in.ImageId]
		if img == nil || img.gone || c.clock.Before(img.ready) || c.clock.Before(img.shown) {
			return nil, fault("InvalidAMIID.NotFound", "%s", *in.ImageId)
		}
		if c.noRoom[string(in.InstanceType)] {
			return nil, fault("InsufficientInstanceCapacity", "no room for %s", in.InstanceType)
		}
		nic := in.NetworkInterfaces[0]
		i := &instance{
			thing: c.newThing("i", in.TagSpecifications, types.ResourceTypeInstance), kind: string(in.InstanceType), root: img.root, zone: "eu-central-1a",
			token: *in.ClientToken, running: c.clock.Add(pendingFor), vols: map[string]string{}, keep: map[string]bool{}, subnet: *nic.SubnetId, ip: aws.ToString(nic.PrivateIpAddress),
		}
		if i.ip == "" {
			i.ip = fmt.Sprintf("10.9.0.%d", 10+c.id%200)
		}
		for _, d := range img.devices {
			m := img.mappings[d]
			for _, o := range in.BlockDeviceMappings {
				if *o.DeviceName == d {
					o.Ebs.SnapshotId = nil
					m.VolumeType, m.DeleteOnTermination = o.Ebs.VolumeType, o.Ebs.DeleteOnTermination
				}
			}
			v := &vol{thing: c.newThing("vol", in.TagSpecifications, types.ResourceTypeVolume), gib: 8, ready: c.clock, instance: i.id, device: d, snapshot: aws.ToString(m.SnapshotId), kind: m.VolumeType}
			c.vols[v.id], i.vols[d], i.keep[d] = v, v.id, !aws.ToBool(m.DeleteOnTermination)
		}
		c.instances[i.id] = i
		c.tokenIs("RunInstances", in.ClientToken, i.id)
		return &ec2.RunInstancesOutput{Instances: []types.Instance{c.instanceOut(i)}}, nil
	})
}

func (c *cloud) instanceOut(i *instance) types.Instance {
	o := types.Instance{
		InstanceId: aws.String(i.id), InstanceType: types.InstanceType(i.kind), RootDeviceName: aws.String(i.root), PrivateIpAddress: aws.String(i.ip),
		State: &types.InstanceState{Name: i.state(c.clock)}, Placement: &types.Placement{AvailabilityZone: aws.String(i.zone)}, Tags: toTags(i.tags),
	}
	if o.State.Name == types.InstanceStateNameTerminated {
		return o
	}
	for d, id := range i.vols {
		o.BlockDeviceMappings = append(o.BlockDeviceMappings, types.InstanceBlockDeviceMapping{DeviceName: aws.String(d), Ebs: &types.EbsInstanceBlockDevice{VolumeId: aws.String(id)}})
	}
	return o
}

func (c *cloud) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, _ ...opt) (*ec2.DescribeInstancesOutput, error) {
	return serve(c, ctx, "DescribeInstances", in.DryRun, func() (*ec2.DescribeInstancesOutput, error) {
		found, err := pick(c, c.instances, func(i *instance) thing { return i.thing }, in.InstanceIds, in.Filters, func(i *instance) map[string]string { return map[string]string{"client-token": i.token} }, "InvalidInstanceID.NotFound")
		out := &ec2.DescribeInstancesOutput{}
		for _, i := range found {
			out.Reservations = append(out.Reservations, types.Reservation{Instances: []types.Instance{c.instanceOut(i)}})
		}
		return out, err
	})
}

func (c *cloud) DescribeInstanceStatus(ctx context.Context, in *ec2.DescribeInstanceStatusInput, _ ...opt) (*ec2.DescribeInstanceStatusOutput, error) {
	return serve(c, ctx, "DescribeInstanceStatus", in.DryRun, func() (*ec2.DescribeInstanceStatusOutput, error) {
		out := &ec2.DescribeInstanceStatusOutput{}
		for _, id := range in.InstanceIds {
			i := c.instances[id]
			if i == nil || c.clock.Before(i.shown) {
				return nil, fault("InvalidInstanceID.NotFound", "%s", id)
			}
			s := types.SummaryStatusInitializing
			if c.passed(i.running.Add(statusAfter)) {
				s = types.SummaryStatusOk
				if c.sick {
					s = types.SummaryStatusImpaired
				}
			}
			out.InstanceStatuses = append(out.InstanceStatuses, types.InstanceStatus{
				InstanceId: aws.String(id), InstanceState: &types.InstanceState{Name: i.state(c.clock)},
				InstanceStatus: &types.InstanceStatusSummary{Status: s}, SystemStatus: &types.InstanceStatusSummary{Status: types.SummaryStatusOk},
			})
		}
		return out, nil
	})
}

// each applies a change to instances in one of the states.
func (c *cloud) each(ids []string, states []types.InstanceStateName, change func(*instance)) error {
	for _, id := range ids {
		i := c.instances[id]
		if i == nil || c.clock.Before(i.shown) {
			return fault("InvalidInstanceID.NotFound", "%s", id)
		}
		if !slices.Contains(states, i.state(c.clock)) {
			return fault("IncorrectInstanceState", "%s is %s", id, i.state(c.clock))
		}
		change(i)
	}
	return nil
}

func (c *cloud) StartInstances(ctx context.Context, in *ec2.StartInstancesInput, _ ...opt) (*ec2.StartInstancesOutput, error) {
	return serve(c, ctx, "StartInstances", in.DryRun, func() (*ec2.StartInstancesOutput, error) {
		return &ec2.StartInstancesOutput{}, c.each(in.InstanceIds, []types.InstanceStateName{"stopped"}, func(i *instance) { i.stopped, i.running = time.Time{}, c.clock.Add(pendingFor) })
	})
}

func (c *cloud) StopInstances(ctx context.Context, in *ec2.StopInstancesInput, _ ...opt) (*ec2.StopInstancesOutput, error) {
	return serve(c, ctx, "StopInstances", in.DryRun, func() (*ec2.StopInstancesOutput, error) {
		return &ec2.StopInstancesOutput{}, c.each(in.InstanceIds, []types.InstanceStateName{"running", "stopped", "stopping"}, func(i *instance) {
			if i.stopped.IsZero() {
				i.stopped = c.clock.Add(stoppingFor)
			}
		})
	})
}

func (c *cloud) TerminateInstances(ctx context.Context, in *ec2.TerminateInstancesInput, _ ...opt) (*ec2.TerminateInstancesOutput, error) {
	return serve(c, ctx, "TerminateInstances", in.DryRun, func() (*ec2.TerminateInstancesOutput, error) {
		return &ec2.TerminateInstancesOutput{}, c.each(in.InstanceIds, []types.InstanceStateName{"pending", "running", "stopping", "stopped"}, func(i *instance) { i.over = c.clock.Add(stoppingFor) })
	})
}

func (c *cloud) ModifyInstanceAttribute(ctx context.Context, in *ec2.ModifyInstanceAttributeInput, _ ...opt) (*ec2.ModifyInstanceAttributeOutput, error) {
	return serve(c, ctx, "ModifyInstanceAttribute", in.DryRun, func() (*ec2.ModifyInstanceAttributeOutput, error) {
		i := c.instances[*in.InstanceId]
		for _, m := range in.BlockDeviceMappings {
			if i.vols[*m.DeviceName] == "" || aws.ToString(m.Ebs.VolumeId) != i.vols[*m.DeviceName] {
				return nil, fault("InvalidInstanceAttributeValue", "No device is currently mapped at %s", *m.DeviceName)
			}
			i.keep[*m.DeviceName] = !*m.Ebs.DeleteOnTermination
		}
		return &ec2.ModifyInstanceAttributeOutput{}, nil
	})
}

func (c *cloud) GetConsoleOutput(ctx context.Context, in *ec2.GetConsoleOutputInput, _ ...opt) (*ec2.GetConsoleOutputOutput, error) {
	return serve(c, ctx, "GetConsoleOutput", in.DryRun, func() (*ec2.GetConsoleOutputOutput, error) {
		return &ec2.GetConsoleOutputOutput{Output: aws.String(base64.StdEncoding.EncodeToString([]byte("Kernel panic\x1b - not syncing\n")))}, nil
	})
}

func (c *cloud) GetConsoleScreenshot(ctx context.Context, in *ec2.GetConsoleScreenshotInput, _ ...opt) (*ec2.GetConsoleScreenshotOutput, error) {
	return serve(c, ctx, "GetConsoleScreenshot", in.DryRun, func() (*ec2.GetConsoleScreenshotOutput, error) {
		return &ec2.GetConsoleScreenshotOutput{ImageData: aws.String(base64.StdEncoding.EncodeToString([]byte("jpeg")))}, nil
	})
}
