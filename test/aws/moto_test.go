package aws_test

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
)

// newMoto starts the foreign emulator and returns a rig of clients of it.
func newMoto(t *testing.T) *rig {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("no moto_server on PATH: the emulator is not compared with a foreign one")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(t.Context(), path, "-H", "127.0.0.1", "-p", port)
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Skipf("moto_server does not start (%v): the emulator is not compared with a foreign one", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	url := "http://" + addr
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(url + "/moto-api/"); err == nil {
			_ = resp.Body.Close()
			break
		}
		select {
		case err := <-done:
			done <- err
			t.Skipf("moto_server does not run (%v: %s): the emulator is not compared with a foreign one", err, out.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatal("moto_server did not answer within a minute")
		}
	}
	cfg := awssdk.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
		Retryer: func() awssdk.Retryer { return awssdk.NopRetryer{} }, HTTPClient: awshttp.NewBuildableClient(),
	}
	return &rig{
		T: t, ctx: t.Context(), cfg: cfg,
		ebs: ebs.NewFromConfig(cfg, func(o *ebs.Options) { o.BaseEndpoint = &url }),
		ec2: ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.BaseEndpoint = &url }),
	}
}

// tale makes the calls of a launch and notes what it sees, without IDs.
type tale struct {
	*rig
	seen []string
}

func (s *tale) note(format string, args ...any) {
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
}

func (s *tale) tell() []string {
	snap := s.snapshot(ebs.StartSnapshotInput{}, map[int][]byte{0: random()})
	zones, err := s.ec2.DescribeAvailabilityZones(s.ctx, &ec2.DescribeAvailabilityZonesInput{})
	s.must(err)
	subnets, err := s.ec2.DescribeSubnets(s.ctx, &ec2.DescribeSubnetsInput{Filters: slices.Concat(filterBy("default-for-az", "true"), filterBy("availability-zone", *zones.AvailabilityZones[0].ZoneName))})
	s.must(err)
	s.note("%d default subnets in the zone, %s", len(subnets.Subnets), *subnets.Subnets[0].CidrBlock)
	image, err := s.ec2.RegisterImage(s.ctx, &ec2.RegisterImageInput{
		Name: awssdk.String("tale"), Architecture: "x86_64", VirtualizationType: awssdk.String("hvm"), RootDeviceName: awssdk.String("/dev/sda1"), EnaSupport: awssdk.Bool(true),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: awssdk.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: &snap}}},
	})
	s.must(err)
	images, err := s.ec2.DescribeImages(s.ctx, &ec2.DescribeImagesInput{ImageIds: []string{*image.ImageId}})
	s.must(err)
	i := images.Images[0]
	s.note("image %s %s %s", *i.Name, i.State, *i.RootDeviceName) // the foreign one forgets the rest
	run, err := s.ec2.RunInstances(s.ctx, &ec2.RunInstancesInput{
		ImageId: image.ImageId, InstanceType: "t3.micro", MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), SubnetId: subnets.Subnets[0].SubnetId,
		TagSpecifications: specs(types.ResourceTypeInstance, "vm", "web"),
	})
	s.must(err)
	id := *run.Instances[0].InstanceId
	s.note("launched as %s", run.Instances[0].State.Name)
	s.look(id)
	s.storage(id, *zones.AvailabilityZones[0].ZoneName)
	s.states(id)
	s.mistakes()
	_, err = s.ec2.DeregisterImage(s.ctx, &ec2.DeregisterImageInput{ImageId: image.ImageId})
	s.must(err)
	_, err = s.ec2.DescribeImages(s.ctx, &ec2.DescribeImagesInput{ImageIds: []string{"ami-0123456789abcdef0"}})
	s.note("no such image: %s", codeOf(err))
	return s.seen
}

func (s *tale) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *tale) look(id string) {
	out, err := s.ec2.DescribeInstances(s.ctx, &ec2.DescribeInstancesInput{Filters: slices.Concat(filterBy("tag:vm", "w*"), filterBy("instance-id", id))})
	s.must(err)
	if len(out.Reservations) != 1 {
		s.note("%d reservations", len(out.Reservations))
		return
	}
	i := out.Reservations[0].Instances[0]
	root := ""
	if len(i.BlockDeviceMappings) > 0 {
		root = *i.BlockDeviceMappings[0].DeviceName
	}
	s.note("%s %s, root %s, %d interfaces, %d tags", i.State.Name, i.InstanceType, root, len(i.NetworkInterfaces), len(i.Tags))
}

func (s *tale) storage(id, zone string) {
	vol, err := s.ec2.CreateVolume(s.ctx, &ec2.CreateVolumeInput{AvailabilityZone: &zone, Size: awssdk.Int32(2), VolumeType: "gp3"})
	s.must(err)
	see := func() {
		out, err := s.ec2.DescribeVolumes(s.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*vol.VolumeId}})
		s.must(err)
		s.note("volume %s of %d GiB, %s, %d attachments", out.Volumes[0].State, *out.Volumes[0].Size, out.Volumes[0].VolumeType, len(out.Volumes[0].Attachments))
	}
	see()
	_, err = s.ec2.AttachVolume(s.ctx, &ec2.AttachVolumeInput{VolumeId: vol.VolumeId, InstanceId: &id, Device: awssdk.String("/dev/sdf")})
	s.must(err)
	see()
	_, err = s.ec2.DeleteVolume(s.ctx, &ec2.DeleteVolumeInput{VolumeId: vol.VolumeId})
	s.note("delete in use: %s", codeOf(err))
	_, err = s.ec2.DetachVolume(s.ctx, &ec2.DetachVolumeInput{VolumeId: vol.VolumeId, InstanceId: &id, Device: awssdk.String("/dev/sdf")})
	s.must(err)
	see()
	_, err = s.ec2.DeleteVolume(s.ctx, &ec2.DeleteVolumeInput{VolumeId: vol.VolumeId})
	s.must(err)
	_, err = s.ec2.DeleteVolume(s.ctx, &ec2.DeleteVolumeInput{VolumeId: vol.VolumeId})
	s.note("delete again: %s", codeOf(err))
}

func (s *tale) states(id string) {
	ids := []string{id}
	_, err := s.ec2.StopInstances(s.ctx, &ec2.StopInstancesInput{InstanceIds: ids})
	s.must(err)
	s.look(id)
	_, err = s.ec2.StartInstances(s.ctx, &ec2.StartInstancesInput{InstanceIds: ids})
	s.must(err)
	s.look(id)
	_, err = s.ec2.ModifyInstanceAttribute(s.ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, DisableApiTermination: &types.AttributeBooleanValue{Value: awssdk.Bool(true)}})
	s.must(err)
	_, err = s.ec2.TerminateInstances(s.ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
	s.note("terminate protected: %s", codeOf(err))
	_, err = s.ec2.ModifyInstanceAttribute(s.ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, DisableApiTermination: &types.AttributeBooleanValue{Value: awssdk.Bool(false)}})
	s.must(err)
	_, err = s.ec2.TerminateInstances(s.ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
	s.must(err)
	out, err := s.ec2.DescribeInstances(s.ctx, &ec2.DescribeInstancesInput{InstanceIds: ids})
	s.must(err)
	s.note("in the end %s", out.Reservations[0].Instances[0].State.Name)
}

func (s *tale) mistakes() {
	_, err := s.ec2.DescribeInstances(s.ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
	s.note("no such instance: %s", codeOf(err))
	_, err = s.ec2.DescribeSubnets(s.ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-0123456789abcdef0"}})
	s.note("no such subnet: %s", codeOf(err))
	_, err = s.ec2.DescribeVolumes(s.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{"vol-0123456789abcdef0"}})
	s.note("no such volume: %s", codeOf(err))
}

// catalogue notes the figures of the types, which the foreign emulator has from
// the service itself.
func (s *tale) catalogue(names []types.InstanceType) (seen []string) {
	out, err := s.ec2.DescribeInstanceTypes(s.ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: names})
	s.must(err)
	for _, k := range out.InstanceTypes {
		seen = append(seen, fmt.Sprintf("%s: %d vCPUs, %d cores, %d MiB, %v %v, ENA %s, %d interfaces of %d addresses, hypervisor %s, NVMe %s, burst %t, store %t, %s, %d %s volumes, current %t, TPM %s, hosts %t, recovery %t",
			k.InstanceType, *k.VCpuInfo.DefaultVCpus, *k.VCpuInfo.DefaultCores, *k.MemoryInfo.SizeInMiB, k.SupportedBootModes, k.ProcessorInfo.SupportedArchitectures,
			k.NetworkInfo.EnaSupport, *k.NetworkInfo.MaximumNetworkInterfaces, *k.NetworkInfo.Ipv4AddressesPerInterface, k.Hypervisor,
			k.EbsInfo.NvmeSupport, *k.BurstablePerformanceSupported, *k.InstanceStorageSupported, k.EbsInfo.EbsOptimizedSupport,
			*k.EbsInfo.MaximumEbsAttachments, k.EbsInfo.AttachmentLimitType, *k.CurrentGeneration, k.NitroTpmSupport, *k.DedicatedHostsSupported, *k.AutoRecoverySupported))
	}
	slices.Sort(seen)
	return seen
}

// The same calls to both emulators give the same essential answers.
func TestAgainstMoto(t *testing.T) {
	if testing.Short() {
		t.Skip("moto_server takes seconds to start")
	}
	theirs := &tale{rig: newMoto(t)}
	ours := &tale{rig: newRig(t, aws.Options{})}
	want, got := theirs.tell(), ours.tell()
	all, err := ours.ec2.DescribeInstanceTypes(ours.ctx, &ec2.DescribeInstanceTypesInput{})
	ours.must(err)
	var names []types.InstanceType
	for _, k := range all.InstanceTypes {
		names = append(names, k.InstanceType)
	}
	want, got = append(want, theirs.catalogue(names)...), append(got, ours.catalogue(names)...)
	for n := range max(len(want), len(got)) {
		if n >= len(want) || n >= len(got) || want[n] != got[n] {
			t.Errorf("step %d:\n ours   %q\n theirs %q", n, got[n:min(n+1, len(got))], want[n:min(n+1, len(want))])
		}
	}
}
