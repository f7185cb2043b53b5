package launch

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// typesAtOnce is how many names DescribeInstanceTypes takes (its API reference).
const typesAtOnce = 100

// typesFor asks EC2 for the types that may do.
func (l *Launcher) typesFor(ctx context.Context, want Requirements) ([]InstanceType, error) {
	in := &ec2.GetInstanceTypesFromInstanceRequirementsInput{
		ArchitectureTypes:   []types.ArchitectureType{types.ArchitectureTypeX8664},
		VirtualizationTypes: []types.VirtualizationType{types.VirtualizationTypeHvm},
		InstanceRequirements: &types.InstanceRequirementsRequest{
			VCpuCount:            &types.VCpuCountRangeRequest{Min: aws.Int32(int32(want.CPUs))},
			MemoryMiB:            &types.MemoryMiBRequest{Min: aws.Int32(int32(want.MemoryMiB))},
			InstanceGenerations:  []types.InstanceGeneration{types.InstanceGenerationCurrent},
			BareMetal:            types.BareMetalExcluded,
			BurstablePerformance: types.BurstablePerformanceExcluded,
		},
	}
	if want.Burstable {
		in.InstanceRequirements.BurstablePerformance = types.BurstablePerformanceIncluded
	}
	var names []string
	for {
		out, err := call(ctx, l, "ask for instance types", l.ec2.GetInstanceTypesFromInstanceRequirements, in)
		if err != nil {
			return nil, err
		}
		for _, t := range out.InstanceTypes {
			names = append(names, aws.ToString(t.InstanceType))
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	offered, err := l.offered(ctx, want.Zone)
	if err != nil {
		return nil, err
	}
	var all []InstanceType
	for len(names) > 0 {
		n := min(len(names), typesAtOnce)
		some, err := l.describeTypes(ctx, names[:n], offered)
		if err != nil {
			return nil, err
		}
		all, names = append(all, some...), names[n:]
	}
	return all, nil
}

// typeNamed asks EC2 about one type.
func (l *Launcher) typeNamed(ctx context.Context, name, zone string) (InstanceType, error) {
	offered, err := l.offered(ctx, zone)
	if err != nil {
		return InstanceType{}, err
	}
	all, err := l.describeTypes(ctx, []string{name}, offered)
	if err == nil && len(all) != 1 {
		err = refuse("look at instance type "+name, "set instanceType to auto or to another type", "EC2 knows no such type")
	}
	if err != nil {
		return InstanceType{}, err
	}
	return all[0], nil
}

func (l *Launcher) describeTypes(ctx context.Context, names []string, offered map[string]bool) ([]InstanceType, error) {
	in := &ec2.DescribeInstanceTypesInput{}
	for _, n := range names {
		in.InstanceTypes = append(in.InstanceTypes, types.InstanceType(n))
	}
	var all []InstanceType
	for {
		out, err := call(ctx, l, "look at instance types", l.ec2.DescribeInstanceTypes, in)
		if err != nil {
			return nil, err
		}
		for _, info := range out.InstanceTypes {
			t := typeOf(info)
			t.Offered = offered[t.Name]
			all = append(all, t)
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func (l *Launcher) offered(ctx context.Context, zone string) (map[string]bool, error) {
	in := &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone,
		Filters:      []types.Filter{filter("location", zone)},
	}
	offered := map[string]bool{}
	for {
		out, err := call(ctx, l, fmt.Sprintf("ask which types %s offers", zone), l.ec2.DescribeInstanceTypeOfferings, in)
		if err != nil {
			return nil, err
		}
		for _, o := range out.InstanceTypeOfferings {
			offered[string(o.InstanceType)] = true
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return offered, nil
		}
	}
}

// defaultAttachments is what most Nitro types take, shared with interfaces,
// where EC2 names no limit (EBS volume limits, AWS).
const defaultAttachments = 28

func typeOf(i types.InstanceTypeInfo) InstanceType {
	t := InstanceType{
		Name: string(i.InstanceType), Current: aws.ToBool(i.CurrentGeneration), Burstable: aws.ToBool(i.BurstablePerformanceSupported),
		BareMetal: aws.ToBool(i.BareMetal), TPM: i.NitroTpmSupport == types.NitroTpmSupportSupported,
		Volumes: defaultAttachments, Shared: true,
	}
	if i.VCpuInfo != nil {
		t.CPUs = int(aws.ToInt32(i.VCpuInfo.DefaultVCpus))
	}
	if i.MemoryInfo != nil {
		t.MemoryMiB = aws.ToInt64(i.MemoryInfo.SizeInMiB)
	}
	if i.ProcessorInfo != nil {
		for _, a := range i.ProcessorInfo.SupportedArchitectures {
			t.X86 = t.X86 || a == types.ArchitectureTypeX8664
		}
	}
	for _, m := range i.SupportedBootModes {
		t.BootModes = append(t.BootModes, string(m))
	}
	if n := i.NetworkInfo; n != nil {
		t.NICs = int(aws.ToInt32(n.MaximumNetworkInterfaces))
		t.ENA = n.EnaSupport == types.EnaSupportRequired || n.EnaSupport == types.EnaSupportSupported
	}
	if e := i.EbsInfo; e != nil {
		t.NVMe = e.NvmeSupport == types.EbsNvmeSupportRequired || e.NvmeSupport == types.EbsNvmeSupportSupported
		if n := aws.ToInt32(e.MaximumEbsAttachments); n > 0 {
			t.Volumes = int(n)
		}
		t.Shared = e.AttachmentLimitType != types.AttachmentLimitTypeDedicated
	}
	if s := i.InstanceStorageInfo; s != nil {
		for _, d := range s.Disks {
			t.LocalDisks += int(aws.ToInt32(d.Count))
		}
	}
	return t
}
