package launch

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// look fills in the world: what the job's tags find in AWS.
func (r *run) look(ctx context.Context) error {
	r.world = World{Job: r.job.ID, Type: r.wantedType(), Did: map[StepName]bool{}}
	for _, rec := range r.job.Records {
		r.world.Did[rec.Step] = !rec.Ended.IsZero()
	}
	for _, see := range []func(context.Context) error{r.seeSubnet, r.seeEncryption, r.seeImage, r.seeImport, r.seeInstance, r.seeVolumes, r.seeMarks, r.seePrevious} {
		if err := see(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) wantedType() string {
	if t := r.job.Request.Settings.InstanceType; t != "" {
		return t
	}
	return r.job.Type
}

func (r *run) seeSubnet(ctx context.Context) error {
	nics := r.job.Request.Settings.network(r.job.Request.Force)
	if len(nics) == 0 || nics[0].Subnet == "" {
		return nil // Check says so
	}
	id := nics[0].Subnet
	out, err := call(ctx, r.Launcher, "look at "+id, r.ec2.DescribeSubnets, &ec2.DescribeSubnetsInput{SubnetIds: []string{id}})
	if err != nil {
		return err
	}
	for _, s := range out.Subnets {
		r.world.Subnet = Subnet{ID: id, VPC: aws.ToString(s.VpcId), Zone: aws.ToString(s.AvailabilityZone), CIDR: aws.ToString(s.CidrBlock)}
	}
	return nil
}

func (r *run) seeEncryption(ctx context.Context) error {
	out, err := call(ctx, r.Launcher, "ask whether the account encrypts volumes", r.ec2.GetEbsEncryptionByDefault, &ec2.GetEbsEncryptionByDefaultInput{})
	if err == nil {
		r.world.EncryptsByDefault = aws.ToBool(out.EbsEncryptionByDefault)
	}
	return err
}

// ofJob are filters for what carries the job's tag.
func ofJob(id JobID) []types.Filter { return []types.Filter{filter("tag:"+tagJob, string(id))} }

func (r *run) seeImage(ctx context.Context) error {
	in := &ec2.DescribeImagesInput{Filters: ofJob(r.job.ID), Owners: []string{"self"}}
	if r.job.Request.Settings.Licence == LicenceAWS {
		in = &ec2.DescribeImagesInput{ImageIds: []string{r.job.Request.Settings.StockImage}}
	}
	out, err := call(ctx, r.Launcher, "look for the image", r.ec2.DescribeImages, in)
	if err != nil {
		return err
	}
	for _, i := range out.Images {
		if seen := imageOf(i); seen.State != "deregistered" {
			r.world.Image, r.job.Image = seen, seen.ID
		}
	}
	return nil
}

// image looks at one image by its ID; nil while EC2 does not know it.
func (r *run) image(ctx context.Context, id string) (*Image, error) {
	out, err := callUntil(ctx, r.Launcher, "look at image "+id, r.ec2.DescribeImages, &ec2.DescribeImagesInput{ImageIds: []string{id}}, nil)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil || len(out.Images) == 0 {
		return nil, err
	}
	return imageOf(out.Images[0]), nil
}

func imageOf(i types.Image) *Image {
	seen := &Image{ID: aws.ToString(i.ImageId), State: string(i.State), Root: aws.ToString(i.RootDeviceName), BootMode: string(i.BootMode)}
	if i.StateReason != nil {
		seen.Why = aws.ToString(i.StateReason.Message)
	}
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		device, snap := aws.ToString(m.DeviceName), transfer.SnapshotID(aws.ToString(m.Ebs.SnapshotId))
		at := len(seen.Devices)
		if device == seen.Root {
			at = 0
		}
		seen.Devices = slices.Insert(seen.Devices, at, device)
		seen.Snapshots = slices.Insert(seen.Snapshots, at, snap)
	}
	return seen
}

func (r *run) seeImport(ctx context.Context) error {
	if r.job.Request.Settings.Licence != LicenceImport {
		return nil
	}
	tasks, err := r.importTasks(ctx, r.job.ID)
	for i := range tasks {
		r.world.Import, r.job.Import = &tasks[i], tasks[i].ID
	}
	return err
}

func (l *Launcher) importTasks(ctx context.Context, id JobID) ([]ImportTask, error) {
	in := &ec2.DescribeImportImageTasksInput{Filters: ofJob(id)}
	var tasks []ImportTask
	for {
		out, err := call(ctx, l, "look for imports", l.ec2.DescribeImportImageTasks, in)
		if err != nil {
			return nil, err
		}
		for _, t := range out.ImportImageTasks {
			tasks = append(tasks, ImportTask{
				ID: aws.ToString(t.ImportTaskId), Status: aws.ToString(t.Status), Message: aws.ToString(t.StatusMessage),
				Progress: aws.ToString(t.Progress), Image: aws.ToString(t.ImageId),
			})
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return tasks, nil
		}
	}
}

func (r *run) seeInstance(ctx context.Context) error {
	found, err := r.instances(ctx, ofJob(r.job.ID)...)
	if err != nil {
		return err
	}
	r.world.Instance = nil
	for i := range found {
		if found[i].alive() || r.world.Instance == nil {
			r.world.Instance = &found[i]
		}
	}
	if r.world.Instance == nil && r.job.Instance != "" { // its tag may not be known yet
		r.world.Instance, err = r.instance(ctx, r.job.Instance)
	}
	r.keepAddresses()
	return err
}

func (r *run) keepAddresses() {
	if i := r.world.Instance; i.alive() {
		r.job.Instance, r.job.PrivateIP, r.job.PublicIP = i.ID, i.PrivateIP, i.PublicIP
	}
}

// instances that pass the filters, terminated ones among them.
func (l *Launcher) instances(ctx context.Context, filters ...types.Filter) ([]Instance, error) {
	in := &ec2.DescribeInstancesInput{Filters: filters}
	var all []Instance
	for {
		out, err := call(ctx, l, "look for instances", l.ec2.DescribeInstances, in)
		if err != nil {
			return nil, err
		}
		for _, res := range out.Reservations {
			for _, i := range res.Instances {
				all = append(all, instanceOf(i))
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// instance looks at one instance by its ID; nil while EC2 does not know it, or
// no longer.
func (l *Launcher) instance(ctx context.Context, id string) (*Instance, error) {
	out, err := callUntil(ctx, l, "look at instance "+id, l.ec2.DescribeInstances, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, nil)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, res := range out.Reservations {
		for _, i := range res.Instances {
			seen := instanceOf(i)
			return &seen, nil
		}
	}
	return nil, nil
}

func instanceOf(i types.Instance) Instance {
	seen := Instance{
		ID: aws.ToString(i.InstanceId), Type: string(i.InstanceType), Root: aws.ToString(i.RootDeviceName),
		PrivateIP: aws.ToString(i.PrivateIpAddress), PublicIP: aws.ToString(i.PublicIpAddress), Volumes: map[string]string{},
	}
	if i.State != nil {
		seen.State = string(i.State.Name)
	}
	if i.StateReason != nil {
		seen.Why = aws.ToString(i.StateReason.Message)
	}
	if i.Placement != nil {
		seen.Zone = aws.ToString(i.Placement.AvailabilityZone)
	}
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil {
			seen.Volumes[aws.ToString(m.DeviceName)] = aws.ToString(m.Ebs.VolumeId)
		}
	}
	return seen
}

func (r *run) seeVolumes(ctx context.Context) error {
	var err error
	r.world.Volumes, err = r.volumes(ctx, ofJob(r.job.ID)...)
	return err
}

func (l *Launcher) volumes(ctx context.Context, filters ...types.Filter) ([]VolumeSeen, error) {
	in := &ec2.DescribeVolumesInput{Filters: filters}
	var all []VolumeSeen
	for {
		out, err := call(ctx, l, "look for volumes", l.ec2.DescribeVolumes, in)
		if err != nil {
			return nil, err
		}
		for _, v := range out.Volumes {
			all = append(all, volumeOf(v))
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func volumeOf(v types.Volume) VolumeSeen {
	seen := VolumeSeen{ID: aws.ToString(v.VolumeId), State: string(v.State)}
	for _, t := range v.Tags {
		if aws.ToString(t.Key) == tagDisk {
			seen.Ordinal, _ = strconv.Atoi(aws.ToString(t.Value))
		}
	}
	for _, a := range v.Attachments {
		seen.Instance, seen.Attached = aws.ToString(a.InstanceId), string(a.State)
	}
	return seen
}

// seeMarks reads who uses the point's snapshots.
func (r *run) seeMarks(ctx context.Context) error {
	ids := r.used()
	r.world.Marks = map[transfer.SnapshotID][]string{}
	if len(ids) == 0 {
		return nil
	}
	in := &ec2.DescribeSnapshotsInput{SnapshotIds: ids}
	out, err := call(ctx, r.Launcher, "look at the point's snapshots", r.ec2.DescribeSnapshots, in)
	if err != nil {
		return err
	}
	for _, s := range out.Snapshots {
		r.world.Marks[transfer.SnapshotID(aws.ToString(s.SnapshotId))] = strings.Fields(tagMap(s.Tags)[tagInUse])
	}
	return nil
}

// used are the snapshots that the launch needs.
func (r *run) used() []string {
	var ids []string
	for _, d := range r.job.Request.Point.Disks {
		ids = append(ids, string(d.ID))
	}
	if b := string(r.job.Boot); b != "" && !slices.Contains(ids, b) {
		ids = append(ids, b)
	}
	return ids
}

// seePrevious finds other launches for the same purpose. A finalized one is the
// user's machine: the VM may be migrated once more beside it.
func (r *run) seePrevious(ctx context.Context) error {
	all, err := r.Inventory(ctx, r.job.Request.VM)
	r.world.Previous = nil
	for _, res := range all {
		if res.Job != "" && res.Job != r.job.ID && res.Launch == r.job.Request.Purpose && !res.Final {
			r.world.Previous = append(r.world.Previous, res)
		}
	}
	return err
}

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}
