package launch

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (c *cloud) DescribeVolumes(ctx context.Context, in *ec2.DescribeVolumesInput, _ ...opt) (*ec2.DescribeVolumesOutput, error) {
	return serve(c, ctx, "DescribeVolumes", in.DryRun, func() (*ec2.DescribeVolumesOutput, error) {
		found, err := pick(c, c.vols, func(v *vol) thing { return v.thing }, in.VolumeIds, in.Filters, nil, "InvalidVolume.NotFound")
		out := &ec2.DescribeVolumesOutput{}
		for _, v := range found {
			o := types.Volume{VolumeId: aws.String(v.id), Size: aws.Int32(v.gib), VolumeType: v.kind, State: types.VolumeStateCreating, Tags: toTags(v.tags)}
			if c.passed(v.ready) {
				o.State = types.VolumeStateAvailable
			}
			if v.instance != "" {
				o.State = types.VolumeStateInUse
				o.Attachments = []types.VolumeAttachment{{InstanceId: aws.String(v.instance), State: types.VolumeAttachmentStateAttached, Device: aws.String(v.device)}}
			}
			out.Volumes = append(out.Volumes, o)
		}
		return out, err
	})
}

func (c *cloud) CreateVolume(ctx context.Context, in *ec2.CreateVolumeInput, _ ...opt) (*ec2.CreateVolumeOutput, error) {
	return serve(c, ctx, "CreateVolume", in.DryRun, func() (*ec2.CreateVolumeOutput, error) {
		before, err := c.once("CreateVolume", in.ClientToken, in)
		if err != nil || before != "" {
			return &ec2.CreateVolumeOutput{VolumeId: aws.String(before), State: types.VolumeStateCreating}, err
		}
		if c.snaps[*in.SnapshotId] == nil {
			return nil, fault("InvalidSnapshot.NotFound", "%s", *in.SnapshotId)
		}
		v := &vol{thing: c.newThing("vol", in.TagSpecifications, types.ResourceTypeVolume), gib: 8, ready: c.clock.Add(5 * time.Second), snapshot: *in.SnapshotId, kind: in.VolumeType}
		c.vols[v.id] = v
		c.tokenIs("CreateVolume", in.ClientToken, v.id)
		return &ec2.CreateVolumeOutput{VolumeId: aws.String(v.id), State: types.VolumeStateCreating}, nil
	})
}

func (c *cloud) AttachVolume(ctx context.Context, in *ec2.AttachVolumeInput, _ ...opt) (*ec2.AttachVolumeOutput, error) {
	return serve(c, ctx, "AttachVolume", in.DryRun, func() (*ec2.AttachVolumeOutput, error) {
		v, i := c.vols[*in.VolumeId], c.instances[*in.InstanceId]
		switch {
		case v == nil || i == nil:
			return nil, fault("InvalidVolume.NotFound", "%s", *in.VolumeId)
		case v.instance != "":
			return nil, fault("VolumeInUse", "%s is already attached", v.id)
		case i.vols[*in.Device] != "":
			return nil, fault("InvalidParameterValue", "%s is already in use", *in.Device)
		}
		v.instance, v.device = i.id, *in.Device
		i.vols[*in.Device], i.keep[*in.Device] = v.id, true
		return &ec2.AttachVolumeOutput{}, nil
	})
}

func (c *cloud) DeleteVolume(ctx context.Context, in *ec2.DeleteVolumeInput, _ ...opt) (*ec2.DeleteVolumeOutput, error) {
	return serve(c, ctx, "DeleteVolume", in.DryRun, func() (*ec2.DeleteVolumeOutput, error) {
		v := c.vols[*in.VolumeId]
		if v == nil {
			return nil, fault("InvalidVolume.NotFound", "%s", *in.VolumeId)
		}
		if v.instance != "" {
			return nil, fault("VolumeInUse", "%s", v.id)
		}
		delete(c.vols, v.id)
		return &ec2.DeleteVolumeOutput{}, nil
	})
}

func (c *cloud) CreateReplaceRootVolumeTask(ctx context.Context, in *ec2.CreateReplaceRootVolumeTaskInput, _ ...opt) (*ec2.CreateReplaceRootVolumeTaskOutput, error) {
	return serve(c, ctx, "CreateReplaceRootVolumeTask", in.DryRun, func() (*ec2.CreateReplaceRootVolumeTaskOutput, error) {
		before, err := c.once("CreateReplaceRootVolumeTask", in.ClientToken, in)
		if err == nil && before == "" {
			i, v := c.instances[*in.InstanceId], c.vols[*in.VolumeId]
			if i.state(c.clock) != types.InstanceStateNameRunning || v == nil || v.instance != "" || !c.passed(v.ready) {
				return nil, fault("IncorrectState", "instance or volume")
			}
			t := &task{thing: c.newThing("replacevol", in.TagSpecifications, types.ResourceTypeReplaceRootVolumeTask), instance: i.id, vol: v.id, done: c.clock.Add(30 * time.Second)}
			c.tasks[t.id] = t
			before = t.id
			c.tokenIs("CreateReplaceRootVolumeTask", in.ClientToken, before)
		}
		return &ec2.CreateReplaceRootVolumeTaskOutput{ReplaceRootVolumeTask: &types.ReplaceRootVolumeTask{ReplaceRootVolumeTaskId: aws.String(before)}}, err
	})
}

func (c *cloud) DescribeReplaceRootVolumeTasks(ctx context.Context, in *ec2.DescribeReplaceRootVolumeTasksInput, _ ...opt) (*ec2.DescribeReplaceRootVolumeTasksOutput, error) {
	return serve(c, ctx, "DescribeReplaceRootVolumeTasks", in.DryRun, func() (*ec2.DescribeReplaceRootVolumeTasksOutput, error) {
		found, err := pick(c, c.tasks, func(t *task) thing { return t.thing }, in.ReplaceRootVolumeTaskIds, in.Filters, nil, "InvalidReplaceRootVolumeTaskId.NotFound")
		out := &ec2.DescribeReplaceRootVolumeTasksOutput{}
		for _, t := range found {
			o := types.ReplaceRootVolumeTask{ReplaceRootVolumeTaskId: aws.String(t.id), TaskState: types.ReplaceRootVolumeTaskStateInProgress}
			if t.applied {
				o.TaskState = types.ReplaceRootVolumeTaskStateSucceeded
			}
			out.ReplaceRootVolumeTasks = append(out.ReplaceRootVolumeTasks, o)
		}
		return out, err
	})
}

func (c *cloud) DescribeSnapshots(ctx context.Context, in *ec2.DescribeSnapshotsInput, _ ...opt) (*ec2.DescribeSnapshotsOutput, error) {
	return serve(c, ctx, "DescribeSnapshots", in.DryRun, func() (*ec2.DescribeSnapshotsOutput, error) {
		found, err := pick(c, c.snaps, func(s *snap) thing { return s.thing }, in.SnapshotIds, in.Filters, nil, "InvalidSnapshot.NotFound")
		out := &ec2.DescribeSnapshotsOutput{}
		for _, s := range found {
			out.Snapshots = append(out.Snapshots, types.Snapshot{SnapshotId: aws.String(s.id), State: s.state, VolumeSize: aws.Int32(s.gib), Tags: toTags(s.tags)})
		}
		return out, err
	})
}

func (c *cloud) DeleteSnapshot(ctx context.Context, in *ec2.DeleteSnapshotInput, _ ...opt) (*ec2.DeleteSnapshotOutput, error) {
	return serve(c, ctx, "DeleteSnapshot", in.DryRun, func() (*ec2.DeleteSnapshotOutput, error) {
		s := c.snaps[*in.SnapshotId]
		if s == nil {
			return nil, fault("InvalidSnapshot.NotFound", "%s", *in.SnapshotId)
		}
		for _, i := range c.images {
			for _, m := range i.mappings {
				if !i.gone && aws.ToString(m.SnapshotId) == s.id {
					return nil, fault("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", s.id, i.id)
				}
			}
		}
		if s.tags[tagVersion] != "" && s.tags[tagKind] != "conversion" {
			c.t.Errorf("a launch deleted %s, a disk of a recovery point", s.id)
		}
		delete(c.snaps, s.id)
		return &ec2.DeleteSnapshotOutput{}, nil
	})
}

func (c *cloud) CreateTags(ctx context.Context, in *ec2.CreateTagsInput, _ ...opt) (*ec2.CreateTagsOutput, error) {
	return serve(c, ctx, "CreateTags", in.DryRun, func() (*ec2.CreateTagsOutput, error) {
		for _, id := range in.Resources {
			tags := c.tagsOf(id)
			if tags == nil {
				return nil, fault("InvalidID.NotFound", "The ID '%s' is not valid", id)
			}
			for k, v := range tagMap(in.Tags) {
				if len(k) > 127 || len(v) > 256 || strings.TrimSpace(v) != v {
					return nil, fault("InvalidParameterValue", "tag %s=%s", k, v)
				}
				tags[k] = v
			}
		}
		return &ec2.CreateTagsOutput{}, nil
	})
}

func (c *cloud) DeleteTags(ctx context.Context, in *ec2.DeleteTagsInput, _ ...opt) (*ec2.DeleteTagsOutput, error) {
	return serve(c, ctx, "DeleteTags", in.DryRun, func() (*ec2.DeleteTagsOutput, error) {
		for _, id := range in.Resources {
			for _, t := range in.Tags {
				delete(c.tagsOf(id), *t.Key)
			}
		}
		return &ec2.DeleteTagsOutput{}, nil
	})
}
