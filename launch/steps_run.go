package launch

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// maxUserData is EC2's limit, before base64.
const maxUserData = 16 << 10

func (r *run) userData() (*string, error) {
	name := r.job.Request.Settings.UserDataFile
	if name == "" {
		return nil, nil
	}
	b, err := r.readFile(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the user data: %w", err)
	case len(b) > maxUserData:
		return nil, refuse("read the user data", "", "%s has %d bytes and EC2 takes %d", name, len(b), maxUserData)
	}
	return aws.String(base64.StdEncoding.EncodeToString(b)), nil
}

// runInput is the same for every repeat of the job, for its client token.
func (r *run) runInput() (*ec2.RunInstancesInput, error) {
	s, kind := r.job.Request.Settings, r.wantedType()
	data, err := r.userData()
	if err != nil {
		return nil, err
	}
	in := &ec2.RunInstancesInput{
		ClientToken: aws.String(r.job.ID.token(StepRun, kind)), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		ImageId: aws.String(r.world.Image.ID), InstanceType: types.InstanceType(kind), UserData: data,
		NetworkInterfaces: r.interfaces(), Placement: placement(s),
		TagSpecifications: specify(r.job.tags(nil), types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface),
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpTokens: types.HttpTokensState(s.Metadata.Tokens), HttpEndpoint: types.InstanceMetadataEndpointState(s.Metadata.Endpoint),
			HttpPutResponseHopLimit: orNil(s.Metadata.HopLimit),
		},
	}
	if s.Metadata.Tags {
		in.MetadataOptions.InstanceMetadataTags = types.InstanceMetadataTagsStateEnabled
	}
	if s.KeyName != "" {
		in.KeyName = aws.String(s.KeyName)
	}
	if strings.HasPrefix(s.IAMProfile, "arn:") {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: aws.String(s.IAMProfile)}
	} else if s.IAMProfile != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String(s.IAMProfile)}
	}
	in.LaunchTemplate = template(s)
	if s.Licence != LicenceAWS {
		in.BlockDeviceMappings = r.mappings()
	}
	return in, nil
}

func template(s Settings) *types.LaunchTemplateSpecification {
	if s.LaunchTemplate == "" {
		return nil
	}
	t := &types.LaunchTemplateSpecification{}
	if strings.HasPrefix(s.LaunchTemplate, "lt-") {
		t.LaunchTemplateId = aws.String(s.LaunchTemplate)
	} else {
		t.LaunchTemplateName = aws.String(s.LaunchTemplate)
	}
	if s.TemplateVersion != "" {
		t.Version = aws.String(s.TemplateVersion)
	}
	return t
}

func placement(s Settings) *types.Placement {
	if s.Tenancy == "" && s.Group == "" && s.Host == "" {
		return nil
	}
	p := &types.Placement{Tenancy: types.Tenancy(s.Tenancy)}
	if s.Group != "" {
		p.GroupName = aws.String(s.Group)
	}
	if s.Host != "" {
		p.HostId = aws.String(s.Host)
	}
	return p
}

func (r *run) interfaces() []types.InstanceNetworkInterfaceSpecification {
	nics := r.job.Request.Settings.network(r.job.Request.Force)
	var out []types.InstanceNetworkInterfaceSpecification
	for i, n := range nics {
		nic := types.InstanceNetworkInterfaceSpecification{
			DeviceIndex: aws.Int32(int32(i)), SubnetId: aws.String(subnetOf(nics, i)), Groups: n.SecurityGroups, DeleteOnTermination: aws.Bool(true),
		}
		if len(nic.Groups) == 0 {
			nic.Groups = nics[0].SecurityGroups
		}
		if ip, ok := n.address(i, r.job.Request.SourceIPs); ok && ip != "" {
			nic.PrivateIpAddress = aws.String(ip)
		}
		if n.PublicIP != "" {
			nic.AssociatePublicIpAddress = aws.Bool(n.PublicIP == "yes")
		}
		out = append(out, nic)
	}
	return out
}

// mappings lay the settings of volumes over those of the image.
func (r *run) mappings() []types.BlockDeviceMapping {
	s := r.job.Request.Settings
	var out []types.BlockDeviceMapping
	for i, device := range r.world.Image.Devices {
		v := s.volumeOf(i + 1)
		ebs := &types.EbsBlockDevice{
			VolumeType: types.VolumeType(v.Type), Iops: orNil(v.IOPS), Throughput: orNil(v.Throughput),
			VolumeInitializationRate: orNil(v.InitRate), DeleteOnTermination: aws.Bool(!s.keeps(i + 1)),
		}
		if v.Encrypts() {
			ebs.Encrypted = aws.Bool(true)
		}
		if v.KMSKey != "" {
			ebs.KmsKeyId = aws.String(v.KMSKey)
		}
		out = append(out, types.BlockDeviceMapping{DeviceName: aws.String(device), Ebs: ebs})
	}
	return out
}

// maxTypes bounds how many types are tried where EC2 has no room.
const maxTypes = 5

// runInstance launches, once: the client token finds what a lost answer made.
func (r *run) runInstance(ctx context.Context) error {
	if i := r.world.Instance; i != nil {
		return refuse("run the instance", "end this launch and begin another", "instance %s of this launch is %s: %s", i.ID, i.State, i.Why)
	}
	for {
		err := r.tryRun(ctx)
		if !isCapacity(err) || r.job.Request.Settings.InstanceType != "" || len(r.job.Without) >= maxTypes {
			return err
		}
		r.log(EventStepFail, StepRun, "%v", err)
		r.job.Without, r.job.Type = append(r.job.Without, r.job.Type), ""
		if next := r.chooseType(ctx); next != nil {
			return errors.Join(err, next)
		}
	}
}

func (r *run) tryRun(ctx context.Context) error {
	in, err := r.runInput()
	if err != nil {
		return err
	}
	if err := r.asking(ctx); err != nil { // and with it the type is saved
		return err
	}
	what := "run the instance of " + r.job.Request.VMName
	out, err := callFresh(ctx, r.Launcher, what, r.ec2.RunInstances, in)
	if code(err) == "IdempotentParameterMismatch" {
		// This job ran one, with settings or user data that have changed since.
		return r.findInstance(ctx, aws.ToString(in.ClientToken), err)
	}
	if err != nil {
		return err
	}
	if len(out.Instances) != 1 {
		return refuse(what, "", "EC2 answered with %d instances", len(out.Instances))
	}
	seen := instanceOf(out.Instances[0])
	if seen.State == "terminated" || seen.State == "shutting-down" {
		return refuse(what, "end this launch and begin another", "instance %s of this launch is %s: %s", seen.ID, seen.State, seen.Why)
	}
	r.world.Instance, r.job.Instance = &seen, seen.ID
	return r.keep(ctx)
}

func (r *run) findInstance(ctx context.Context, token string, cause error) error {
	what := "find the instance of " + string(r.job.ID)
	return r.until(ctx, what, r.timing.Fresh, func(ctx context.Context) (bool, string, error) {
		found, err := r.instances(ctx, filter("client-token", token))
		if err != nil || len(found) == 0 {
			return false, fmt.Sprintf("not shown by EC2, which says %v", cause), err
		}
		r.world.Instance, r.job.Instance = &found[0], found[0].ID
		r.job.note("the instance was launched with settings or user data as they were before they were changed")
		return true, "", nil
	})
}

func (r *run) awaitRunning(ctx context.Context) error {
	id := r.world.Instance.ID
	what := "wait for instance " + id
	return r.until(ctx, what, r.timing.Running, func(ctx context.Context) (bool, string, error) {
		i, err := r.instance(ctx, id)
		if err != nil || i == nil {
			return false, "not known to EC2", err
		}
		r.world.Instance = i
		r.keepAddresses()
		switch i.State {
		case "running":
			return true, "", nil
		case "stopped": // somebody stopped it, or it stopped at once
			_, err := call(ctx, r.Launcher, "start instance "+id, r.ec2.StartInstances, &ec2.StartInstancesInput{InstanceIds: []string{id}})
			return false, i.State, err
		case "pending", "stopping":
			return false, i.State, nil
		}
		return false, "", refuse(what, launchFailedHint(i.Why), "it is %s: %s", i.State, i.Why)
	})
}

func launchFailedHint(why string) string {
	if strings.Contains(why, "InvalidKMSKey") || strings.Contains(why, "KMS") || strings.Contains(why, "InternalError") {
		return "EC2 says little about it; most often it may not use the volume's KMS key"
	}
	return "end this launch and begin another"
}

// tagVolumes tells every volume which disk it is, and whether it outlives the
// instance. At the launch EC2 gives all volumes the same tags.
func (r *run) tagVolumes(ctx context.Context) error {
	if err := r.seeInstanceByID(ctx); err != nil {
		return err
	}
	i, s := r.world.Instance, r.job.Request.Settings
	in := &ec2.ModifyInstanceAttributeInput{InstanceId: aws.String(i.ID)}
	for n, device := range r.deviceOrder() {
		id := i.Volumes[device]
		if id == "" {
			return transfer.Fail(transfer.Retry, "tag the volumes of "+i.ID, fmt.Errorf("there is none at %s", device), "")
		}
		tags := r.job.tags(map[string]string{tagDisk: strconv.Itoa(n + 1)})
		if disks := r.job.Request.Point.Disks; n < len(disks) {
			tags[tagName] = printable(tags[tagName]+" "+disks[n].Label.DiskLabel, maxTagValue)
		}
		if err := r.tag(ctx, []string{id}, tags); err != nil {
			return err
		}
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.InstanceBlockDeviceMappingSpecification{
			DeviceName: aws.String(device), Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: aws.Bool(!s.keeps(n + 1)), VolumeId: aws.String(id)},
		})
	}
	_, err := callFresh(ctx, r.Launcher, "set what becomes of the volumes of "+i.ID, r.ec2.ModifyInstanceAttribute, in)
	return err
}

// deviceOrder are the instance's devices by the disks that they hold.
func (r *run) deviceOrder() []string {
	if r.job.Request.Settings.Licence != LicenceAWS && r.world.Image != nil {
		return r.world.Image.Devices
	}
	order := []string{r.world.Instance.Root}
	for n := 2; n <= len(r.job.Request.Point.Disks); n++ {
		order = append(order, deviceOf(n))
	}
	return order
}

func (r *run) seeInstanceByID(ctx context.Context) error {
	i, err := r.instance(ctx, r.world.Instance.ID)
	if err == nil && i != nil {
		r.world.Instance = i
		r.keepAddresses()
	}
	return err
}
