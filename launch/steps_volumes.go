package launch

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// makeVolume makes the volume of a disk in the instance's zone, or finds it, and
// waits until it can be attached or is.
func (r *run) makeVolume(ctx context.Context, ordinal int, from transfer.SnapshotID) (*VolumeSeen, error) {
	id := ""
	if v := r.world.volume(ordinal); v != nil {
		id = v.ID
	} else {
		s := r.job.Request.Settings.volumeOf(ordinal)
		in := &ec2.CreateVolumeInput{
			AvailabilityZone: aws.String(r.world.Instance.Zone), SnapshotId: aws.String(string(from)), VolumeType: types.VolumeType(s.Type),
			Iops: orNil(s.IOPS), Throughput: orNil(s.Throughput), VolumeInitializationRate: orNil(s.InitRate),
			ClientToken:       aws.String(r.job.ID.token(StepData, strconv.Itoa(ordinal))),
			TagSpecifications: specify(r.job.tags(map[string]string{tagDisk: strconv.Itoa(ordinal)}), types.ResourceTypeVolume),
		}
		if s.Encrypts() {
			in.Encrypted = aws.Bool(true)
		}
		if s.KMSKey != "" {
			in.KmsKeyId = aws.String(s.KMSKey)
		}
		if err := r.asking(ctx); err != nil {
			return nil, err
		}
		out, err := call(ctx, r.Launcher, fmt.Sprintf("make the volume of disk %d", ordinal), r.ec2.CreateVolume, in)
		if err != nil {
			return nil, err
		}
		id = aws.ToString(out.VolumeId)
		r.world.Volumes = append(r.world.Volumes, VolumeSeen{ID: id, State: string(out.State), Ordinal: ordinal})
	}
	return r.awaitVolume(ctx, id, ordinal, func(v *VolumeSeen) bool { return v.State == "available" || v.State == "in-use" })
}

// awaitVolume waits until ok is true of a volume.
func (r *run) awaitVolume(ctx context.Context, id string, ordinal int, ok func(*VolumeSeen) bool) (*VolumeSeen, error) {
	what := "wait for volume " + id
	var last *VolumeSeen
	err := r.until(ctx, what, r.timing.Volume, func(ctx context.Context) (bool, string, error) {
		v, err := r.volume(ctx, id)
		if err != nil || v == nil {
			return false, "not known to EC2", err
		}
		v.Ordinal = ordinal // its tag may come later
		last = v
		r.setVolume(*v)
		if v.State == "error" {
			return false, "", refuse(what, "EC2 says no more; most often it may not use the KMS key. End this launch and begin another", "it is in error")
		}
		return ok(v), v.State + " " + v.Attached, nil
	})
	return last, err
}

func (r *run) setVolume(v VolumeSeen) {
	for i := range r.world.Volumes {
		if r.world.Volumes[i].ID == v.ID {
			r.world.Volumes[i] = v
		}
	}
}

// volume looks at one volume; nil while EC2 does not know it, or no longer.
func (l *Launcher) volume(ctx context.Context, id string) (*VolumeSeen, error) {
	out, err := callUntil(ctx, l, "look at volume "+id, l.ec2.DescribeVolumes, &ec2.DescribeVolumesInput{VolumeIds: []string{id}}, nil)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil || len(out.Volumes) == 0 {
		return nil, err
	}
	v := volumeOf(out.Volumes[0])
	return &v, nil
}

// replaceRoot puts the converted disk in the place of the stock image's root.
func (r *run) replaceRoot(ctx context.Context) error {
	if r.job.Boot == "" {
		if err := r.convertBoot(ctx); err != nil {
			return err
		}
	}
	v, err := r.makeVolume(ctx, 1, r.job.Boot)
	if err != nil {
		return err
	}
	i := r.world.Instance
	what := "replace the root volume of " + i.ID
	in := &ec2.CreateReplaceRootVolumeTaskInput{
		InstanceId: aws.String(i.ID), VolumeId: aws.String(v.ID), DeleteReplacedRootVolume: aws.Bool(true),
		ClientToken: aws.String(r.job.ID.token(StepRoot)), TagSpecifications: specify(JobTags(*r.job), types.ResourceTypeReplaceRootVolumeTask),
	}
	if err := r.asking(ctx); err != nil {
		return err
	}
	out, err := callFresh(ctx, r.Launcher, what, r.ec2.CreateReplaceRootVolumeTask, in)
	if err != nil {
		return err
	}
	task := aws.ToString(out.ReplaceRootVolumeTask.ReplaceRootVolumeTaskId)
	err = r.until(ctx, what, r.timing.Volume, func(ctx context.Context) (bool, string, error) {
		out, err := callFresh(ctx, r.Launcher, what, r.ec2.DescribeReplaceRootVolumeTasks, &ec2.DescribeReplaceRootVolumeTasksInput{ReplaceRootVolumeTaskIds: []string{task}})
		if err != nil || len(out.ReplaceRootVolumeTasks) == 0 {
			return false, "not known to EC2", err
		}
		switch s := out.ReplaceRootVolumeTasks[0].TaskState; s {
		case types.ReplaceRootVolumeTaskStateSucceeded:
			return true, "", nil
		case types.ReplaceRootVolumeTaskStatePending, types.ReplaceRootVolumeTaskStateInProgress:
			return false, string(s), nil
		default:
			return false, "", refuse(what, "end this launch and begin another", "task %s is %s", task, s)
		}
	})
	if err != nil {
		return err
	}
	return r.seeInstanceByID(ctx)
}

// attachData makes and attaches the data volumes of a stock image's instance.
func (r *run) attachData(ctx context.Context) error {
	i := r.world.Instance
	for n, d := range r.job.Request.Point.Disks {
		if n == 0 {
			continue
		}
		v, err := r.makeVolume(ctx, n+1, d.ID)
		if err != nil {
			return err
		}
		if v.Instance == "" {
			_, err = callFresh(ctx, r.Launcher, "attach volume "+v.ID, r.ec2.AttachVolume, &ec2.AttachVolumeInput{
				Device: aws.String(deviceOf(n + 1)), InstanceId: aws.String(i.ID), VolumeId: aws.String(v.ID),
			})
			if err != nil && code(err) != "VolumeInUse" { // a lost answer; whose it is the wait below sees
				return err
			}
		}
		v, err = r.awaitVolume(ctx, v.ID, n+1, func(v *VolumeSeen) bool { return v.Attached == "attached" })
		if err != nil {
			return err
		}
		if v.Instance != i.ID {
			return refuse("attach volume "+v.ID, "", "it is attached to %s", v.Instance)
		}
	}
	return nil
}
