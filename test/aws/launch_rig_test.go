package aws_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"snapferry/test/aws"
)

// lot is a rig with what a launch needs: a VPC with a subnet in the first zone,
// a security group in it, a completed snapshot and an image of it.
type lot struct {
	*rig
	vpc, subnet, group, snap, ami string
	block                         []byte // block 0 of the snapshot
}

func newLot(t *testing.T, opt aws.Options) *lot {
	t.Helper()
	l := &lot{rig: newRig(t, opt), block: random()}
	var err [3]error
	l.vpc, err[0] = l.e.AddVPC("10.1.0.0/16")
	l.subnet, err[1] = l.e.AddSubnet(l.vpc, "10.1.1.0/28", l.zone("a"))
	l.group, err[2] = l.e.AddSecurityGroup(l.vpc, "web")
	if e := errors.Join(err[:]...); e != nil {
		t.Fatal(e)
	}
	l.snap = l.snapshot(ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(8)}, map[int][]byte{0: l.block})
	return l
}

// withImage registers the usual image.
func (l *lot) withImage() *lot {
	l.Helper()
	l.ami = l.register(l.imageInput("usual"))
	return l
}

func (l *lot) zone(letter string) string { return l.cfg.Region + letter }

// imageInput is a good registration of the lot's snapshot.
func (l *lot) imageInput(name string) *ec2.RegisterImageInput {
	return &ec2.RegisterImageInput{
		Name: &name, Architecture: types.ArchitectureValuesX8664, VirtualizationType: awssdk.String("hvm"), EnaSupport: awssdk.Bool(true),
		BootMode: types.BootModeValuesLegacyBios, RootDeviceName: awssdk.String("/dev/sda1"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: awssdk.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: &l.snap}}},
	}
}

func (l *lot) register(in *ec2.RegisterImageInput) string {
	l.Helper()
	out, err := l.ec2.RegisterImage(l.ctx, in)
	if err != nil {
		l.Fatalf("register: %v", err)
	}
	return *out.ImageId
}

// runInput is a good launch of the lot's image.
func (l *lot) runInput() *ec2.RunInstancesInput {
	return &ec2.RunInstancesInput{
		ImageId: &l.ami, InstanceType: "t3.micro", MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
		SubnetId: &l.subnet, SecurityGroupIds: []string{l.group},
	}
}

func (l *lot) run(in *ec2.RunInstancesInput) types.Instance {
	l.Helper()
	out, err := l.ec2.RunInstances(l.ctx, in)
	if err != nil {
		l.Fatalf("run: %v", err)
	}
	return out.Instances[0]
}

func (l *lot) tryRun(in *ec2.RunInstancesInput) error {
	_, err := l.ec2.RunInstances(l.ctx, in)
	return err
}

func (l *lot) instance(id string) types.Instance {
	l.Helper()
	out, err := l.ec2.DescribeInstances(l.ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		l.Fatalf("describe %s: %v", id, err)
	}
	return out.Reservations[0].Instances[0]
}

func (l *lot) volume(id string) types.Volume {
	l.Helper()
	out, err := l.ec2.DescribeVolumes(l.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if err != nil {
		l.Fatalf("describe %s: %v", id, err)
	}
	return out.Volumes[0]
}

// health is what the two status checks say.
func (l *lot) health(id string) string {
	l.Helper()
	out, err := l.ec2.DescribeInstanceStatus(l.ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}, IncludeAllInstances: awssdk.Bool(true)})
	if err != nil {
		l.Fatalf("status of %s: %v", id, err)
	}
	s := out.InstanceStatuses[0]
	return string(s.InstanceState.Name) + " " + string(s.SystemStatus.Status) + " " + string(s.InstanceStatus.Status)
}

// rejection is one call that must fail with a code.
type rejection struct {
	name, code string
	status     int
	err        error
}

func (l *lot) rejected(cases ...rejection) {
	l.Helper()
	for _, c := range cases {
		status := c.status
		if status == 0 {
			status = 400
		}
		if got, s := code(c.err); got != c.code || s != status {
			l.Errorf("%s: got %q (%d): %v; want %q (%d)", c.name, got, s, c.err, c.code, status)
		}
	}
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// kinds counts the inventory by kind.
func (l *lot) kinds() map[string]int {
	n := map[string]int{}
	for _, r := range l.e.Inventory() {
		n[r.Kind]++
	}
	return n
}

func (l *lot) wantKinds(want map[string]int) {
	l.Helper()
	if got := l.kinds(); !maps.Equal(got, want) {
		l.Errorf("the account holds %v, want %v", got, want)
	}
}

func specs(kind types.ResourceType, kv ...string) []types.TagSpecification {
	s := types.TagSpecification{ResourceType: kind}
	for pair := range slices.Chunk(kv, 2) {
		s.Tags = append(s.Tags, types.Tag{Key: &pair[0], Value: &pair[1]})
	}
	return []types.TagSpecification{s}
}

const tick = time.Second
