package launch

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// imageInput describes the image. EC2's own defaults are those of 2008:
// paravirtual, i386, without ENA.
func (r *run) imageInput(boot transfer.SnapshotID) *ec2.RegisterImageInput {
	s := r.job.Request.Settings
	in := &ec2.RegisterImageInput{
		Name: aws.String(r.job.ID.imageName()), Description: aws.String(printable(r.job.Request.VMName+" "+string(r.job.Request.Point.Cycle), maxTagValue)),
		VirtualizationType: aws.String("hvm"), Architecture: types.ArchitectureValuesX8664, EnaSupport: aws.Bool(true),
		BootMode: types.BootModeValues(bootMode(r.job.Request)), RootDeviceName: aws.String(deviceOf(1)),
		TagSpecifications: specify(r.job.tags(nil), types.ResourceTypeImage),
	}
	if s.TPM {
		in.TpmSupport = types.TpmSupportValuesV20
	}
	if s.Metadata.Tokens == "required" {
		in.ImdsSupport = types.ImdsSupportValuesV20
	}
	for i, d := range r.job.Request.Point.Disks {
		id := d.ID
		if i == 0 {
			id = boot
		}
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.BlockDeviceMapping{
			DeviceName: aws.String(deviceOf(i + 1)),
			Ebs: &types.EbsBlockDevice{
				SnapshotId: aws.String(string(id)), VolumeType: types.VolumeType(s.volumeOf(i + 1).Type),
				DeleteOnTermination: aws.Bool(!s.keeps(i + 1)),
				Iops:                orNil(s.volumeOf(i + 1).IOPS), Throughput: orNil(s.volumeOf(i + 1).Throughput),
			},
		})
	}
	return in
}

// registerImage makes the image, or finds the one of this job: its name is
// unique, so that a second request is refused where the first one's answer was
// lost.
func (r *run) registerImage(ctx context.Context) error {
	if r.world.Image == nil {
		if r.job.Boot == "" { // the step before was skipped, since an image was there that is gone now
			if err := r.convertBoot(ctx); err != nil {
				return err
			}
		}
		if err := r.asking(ctx); err != nil {
			return err
		}
		out, err := callFresh(ctx, r.Launcher, "register the image", r.ec2.RegisterImage, r.imageInput(r.job.Boot))
		switch {
		case code(err) == "InvalidAMIName.Duplicate":
			if err := r.findImage(ctx, filter("name", r.job.ID.imageName())); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			r.job.Image = aws.ToString(out.ImageId)
		}
		if err := r.keep(ctx); err != nil {
			return err
		}
	} else {
		r.job.Image = r.world.Image.ID
	}
	return r.awaitImage(ctx)
}

// findImage looks for an image that is known to be there.
func (r *run) findImage(ctx context.Context, f types.Filter) error {
	what := "find the image of " + string(r.job.ID)
	return r.until(ctx, what, r.timing.Fresh, func(ctx context.Context) (bool, string, error) {
		out, err := call(ctx, r.Launcher, what, r.ec2.DescribeImages, &ec2.DescribeImagesInput{Filters: []types.Filter{f}, Owners: []string{"self"}})
		if err != nil || len(out.Images) == 0 {
			return false, "not shown by EC2", err
		}
		r.job.Image = aws.ToString(out.Images[0].ImageId)
		return true, "", nil
	})
}

func (r *run) awaitImage(ctx context.Context) error {
	what := "wait for image " + r.job.Image
	return r.until(ctx, what, r.timing.Image, func(ctx context.Context) (bool, string, error) {
		i, err := r.image(ctx, r.job.Image)
		if err != nil || i == nil {
			return false, "not known to EC2", err
		}
		switch r.world.Image = i; i.State {
		case "available":
			return true, "", nil
		case "pending":
			return false, i.State, nil
		}
		return false, "", refuse(what, "end this launch and begin another", "it is %s: %s", i.State, i.Why)
	})
}

// importImage has AWS convert the guest and make the image, with its licence.
func (r *run) importImage(ctx context.Context) error {
	if r.world.Import == nil {
		if err := r.startImport(ctx); err != nil {
			return err
		}
	}
	what := "import " + r.job.Request.VMName
	told := ""
	err := r.until(ctx, what, r.timing.Import, func(ctx context.Context) (bool, string, error) {
		task, err := r.importTask(ctx, r.job.Import)
		if err != nil || task == nil {
			return false, "not known to EC2", err
		}
		if r.world.Import = task; task.Message != told && task.Message != "" {
			told = task.Message
			r.log(EventStepStart, StepImport, "%s %s%%", told, task.Progress)
		}
		switch task.Status {
		case "completed":
			r.job.Image = task.Image
			return task.Image != "", "without an image", nil
		case "deleted", "deleting", "cancelled", "canceled":
			return false, "", refuse(what, "read what VM Import supports", "AWS has given it up: %s", task.Message)
		}
		return false, task.Status, nil
	})
	if err != nil {
		return err
	}
	if err := r.awaitImage(ctx); err != nil {
		return err
	}
	return r.adoptImport(ctx)
}

func (r *run) startImport(ctx context.Context) error {
	s := r.job.Request.Settings
	in := &ec2.ImportImageInput{
		ClientToken: aws.String(r.job.ID.token(StepImport)), Description: aws.String(r.job.ID.imageName()),
		Architecture: aws.String("x86_64"), Platform: aws.String(s.Platform), LicenseType: aws.String("AWS"),
		BootMode: types.BootModeValues(bootMode(r.job.Request)), TagSpecifications: specify(JobTags(*r.job), types.ResourceTypeImportImageTask),
	}
	if s.ImportRole != "" {
		in.RoleName = aws.String(s.ImportRole)
	}
	for i, d := range r.job.Request.Point.Disks {
		in.DiskContainers = append(in.DiskContainers, types.ImageDiskContainer{DeviceName: aws.String(deviceOf(i + 1)), SnapshotId: aws.String(string(d.ID))})
	}
	if err := r.asking(ctx); err != nil {
		return err
	}
	out, err := call(ctx, r.Launcher, "ask AWS to import "+r.job.Request.VMName, r.ec2.ImportImage, in)
	if err != nil {
		return err
	}
	r.job.Import = aws.ToString(out.ImportTaskId)
	return r.keep(ctx)
}

func (r *run) importTask(ctx context.Context, id string) (*ImportTask, error) {
	out, err := callUntil(ctx, r.Launcher, "look at import "+id, r.ec2.DescribeImportImageTasks, &ec2.DescribeImportImageTasksInput{ImportTaskIds: []string{id}}, nil)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil || len(out.ImportImageTasks) == 0 {
		return nil, err
	}
	t := out.ImportImageTasks[0]
	return &ImportTask{ID: id, Status: aws.ToString(t.Status), Message: aws.ToString(t.StatusMessage), Progress: aws.ToString(t.Progress), Image: aws.ToString(t.ImageId)}, nil
}

// adoptImport tags what AWS made, so that it is found again: the image, and its
// snapshots, which have no version tag, since ebs did not make them.
func (r *run) adoptImport(ctx context.Context) error {
	if err := r.tag(ctx, []string{r.job.Image}, r.job.tags(nil)); err != nil {
		return err
	}
	tags := JobTags(*r.job)
	delete(tags, tagVersion)
	var ids []string
	for _, s := range r.world.Image.Snapshots {
		ids = append(ids, string(s))
	}
	return r.tag(ctx, ids, tags)
}

// tag writes tags on what was made just now.
func (l *Launcher) tag(ctx context.Context, ids []string, tags map[string]string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := callFresh(ctx, l, fmt.Sprintf("tag %v", ids), l.ec2.CreateTags, &ec2.CreateTagsInput{Resources: ids, Tags: toTags(tags)})
	return err
}

func toTags(m map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(m))
	for _, k := range sortedKeys(m) { // the same request each time, for its token
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(m[k])})
	}
	return out
}

func specify(tags map[string]string, kinds ...types.ResourceType) []types.TagSpecification {
	var out []types.TagSpecification
	for _, k := range kinds {
		out = append(out, types.TagSpecification{ResourceType: k, Tags: toTags(tags)})
	}
	return out
}

func orNil(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return &n
}

// stamp is an instant as a tag has it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
