package launch

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

type opt = func(*ec2.Options)

// EC2 is what a launch asks of EC2; *ec2.Client has it. The launcher retries
// requests itself, so the client should not (aws.NopRetryer).
type EC2 interface {
	readsEC2
	changesEC2
}

type readsEC2 interface {
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...opt) (*ec2.DescribeSubnetsOutput, error)
	GetInstanceTypesFromInstanceRequirements(context.Context, *ec2.GetInstanceTypesFromInstanceRequirementsInput, ...opt) (*ec2.GetInstanceTypesFromInstanceRequirementsOutput, error)
	DescribeInstanceTypes(context.Context, *ec2.DescribeInstanceTypesInput, ...opt) (*ec2.DescribeInstanceTypesOutput, error)
	DescribeInstanceTypeOfferings(context.Context, *ec2.DescribeInstanceTypeOfferingsInput, ...opt) (*ec2.DescribeInstanceTypeOfferingsOutput, error)
	GetEbsEncryptionByDefault(context.Context, *ec2.GetEbsEncryptionByDefaultInput, ...opt) (*ec2.GetEbsEncryptionByDefaultOutput, error)
	DescribeImages(context.Context, *ec2.DescribeImagesInput, ...opt) (*ec2.DescribeImagesOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...opt) (*ec2.DescribeInstancesOutput, error)
	DescribeInstanceStatus(context.Context, *ec2.DescribeInstanceStatusInput, ...opt) (*ec2.DescribeInstanceStatusOutput, error)
	DescribeVolumes(context.Context, *ec2.DescribeVolumesInput, ...opt) (*ec2.DescribeVolumesOutput, error)
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...opt) (*ec2.DescribeSnapshotsOutput, error)
	DescribeReplaceRootVolumeTasks(context.Context, *ec2.DescribeReplaceRootVolumeTasksInput, ...opt) (*ec2.DescribeReplaceRootVolumeTasksOutput, error)
	DescribeImportImageTasks(context.Context, *ec2.DescribeImportImageTasksInput, ...opt) (*ec2.DescribeImportImageTasksOutput, error)
	GetConsoleOutput(context.Context, *ec2.GetConsoleOutputInput, ...opt) (*ec2.GetConsoleOutputOutput, error)
	GetConsoleScreenshot(context.Context, *ec2.GetConsoleScreenshotInput, ...opt) (*ec2.GetConsoleScreenshotOutput, error)
}

type changesEC2 interface {
	RegisterImage(context.Context, *ec2.RegisterImageInput, ...opt) (*ec2.RegisterImageOutput, error)
	DeregisterImage(context.Context, *ec2.DeregisterImageInput, ...opt) (*ec2.DeregisterImageOutput, error)
	ImportImage(context.Context, *ec2.ImportImageInput, ...opt) (*ec2.ImportImageOutput, error)
	CancelImportTask(context.Context, *ec2.CancelImportTaskInput, ...opt) (*ec2.CancelImportTaskOutput, error)
	RunInstances(context.Context, *ec2.RunInstancesInput, ...opt) (*ec2.RunInstancesOutput, error)
	StartInstances(context.Context, *ec2.StartInstancesInput, ...opt) (*ec2.StartInstancesOutput, error)
	StopInstances(context.Context, *ec2.StopInstancesInput, ...opt) (*ec2.StopInstancesOutput, error)
	TerminateInstances(context.Context, *ec2.TerminateInstancesInput, ...opt) (*ec2.TerminateInstancesOutput, error)
	ModifyInstanceAttribute(context.Context, *ec2.ModifyInstanceAttributeInput, ...opt) (*ec2.ModifyInstanceAttributeOutput, error)
	CreateVolume(context.Context, *ec2.CreateVolumeInput, ...opt) (*ec2.CreateVolumeOutput, error)
	AttachVolume(context.Context, *ec2.AttachVolumeInput, ...opt) (*ec2.AttachVolumeOutput, error)
	DeleteVolume(context.Context, *ec2.DeleteVolumeInput, ...opt) (*ec2.DeleteVolumeOutput, error)
	CreateReplaceRootVolumeTask(context.Context, *ec2.CreateReplaceRootVolumeTaskInput, ...opt) (*ec2.CreateReplaceRootVolumeTaskOutput, error)
	DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...opt) (*ec2.DeleteSnapshotOutput, error)
	CreateTags(context.Context, *ec2.CreateTagsInput, ...opt) (*ec2.CreateTagsOutput, error)
	DeleteTags(context.Context, *ec2.DeleteTagsInput, ...opt) (*ec2.DeleteTagsOutput, error)
}

var _ EC2 = (*ec2.Client)(nil)
