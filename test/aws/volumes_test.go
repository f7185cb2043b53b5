package aws_test

import (
	"bytes"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
	"snapferry/test/fault"
)

// volumeOf makes a volume of the lot's snapshot in the first zone.
func (l *lot) volumeOf(change func(*ec2.CreateVolumeInput)) (string, error) {
	in := &ec2.CreateVolumeInput{AvailabilityZone: awssdk.String(l.zone("a")), SnapshotId: &l.snap}
	if change != nil {
		change(in)
	}
	out, err := l.ec2.CreateVolume(l.ctx, in)
	if err != nil {
		return "", err
	}
	return *out.VolumeId, nil
}

func (l *lot) attach(volume, instance, device string) error {
	_, err := l.ec2.AttachVolume(l.ctx, &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: &instance, Device: &device})
	return err
}

func (l *lot) detach(volume string, force bool) error {
	_, err := l.ec2.DetachVolume(l.ctx, &ec2.DetachVolumeInput{VolumeId: &volume, Force: &force})
	return err
}

func (l *lot) deleteVolume(id string) error {
	_, err := l.ec2.DeleteVolume(l.ctx, &ec2.DeleteVolumeInput{VolumeId: &id})
	return err
}

func TestCreateVolumeRefuses(t *testing.T) {
	l := newLot(t, aws.Options{})
	crypt := l.snapshot(ebs.StartSnapshotInput{Encrypted: awssdk.Bool(true)}, nil)
	for name, k := range map[string]struct {
		code   string
		change func(*ec2.CreateVolumeInput)
	}{
		"zone":      {"InvalidZone.NotFound", func(in *ec2.CreateVolumeInput) { in.AvailabilityZone = awssdk.String("xx-west-1a") }},
		"no zone":   {"MissingParameter", func(in *ec2.CreateVolumeInput) { in.AvailabilityZone = nil }},
		"small":     {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.Size = awssdk.Int32(7) }},
		"neither":   {"MissingParameter", func(in *ec2.CreateVolumeInput) { in.SnapshotId = nil }},
		"type":      {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.VolumeType = "gp9" }},
		"key alone": {"InvalidParameterDependency", func(in *ec2.CreateVolumeInput) { in.KmsKeyId = awssdk.String("alias/x") }},
		"decrypt":   {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.SnapshotId, in.Encrypted = &crypt, awssdk.Bool(false) }},
		"io1 ratio": {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.VolumeType, in.Iops = "io1", awssdk.Int32(401) }},
		"io2 low":   {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.VolumeType, in.Iops = "io2", awssdk.Int32(99) }},
		"gp3 high": {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) {
			in.VolumeType, in.Iops, in.Size = "gp3", awssdk.Int32(80001), awssdk.Int32(1000)
		}},
		"throughput high": {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) {
			in.VolumeType, in.Iops, in.Size, in.Throughput = "gp3", awssdk.Int32(9000), awssdk.Int32(100), awssdk.Int32(2001)
		}},
		"rate high": {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.VolumeInitializationRate = awssdk.Int32(301) }},
		"rate of nothing": {"InvalidParameterCombination", func(in *ec2.CreateVolumeInput) {
			in.SnapshotId, in.Size, in.VolumeInitializationRate = nil, awssdk.Int32(1), awssdk.Int32(100)
		}},
		"sc1 small":            {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.VolumeType = "sc1" }},
		"tags of another kind": {"InvalidParameterValue", func(in *ec2.CreateVolumeInput) { in.TagSpecifications = specs(types.ResourceTypeImage, "a", "b") }},
	} {
		_, err := l.volumeOf(k.change)
		l.rejected(rejection{name: name, code: k.code, err: err})
	}
	l.wantKinds(map[string]int{"snapshot": 2})
	one := func(in *ec2.CreateVolumeInput) { in.ClientToken, in.VolumeType = awssdk.String("one"), "gp3" }
	first, err := l.volumeOf(one)
	l.must(err)
	if again, err := l.volumeOf(one); err != nil || again != first {
		t.Errorf("again %s, %v, want %s", again, err, first)
	}
	_, other := l.volumeOf(func(in *ec2.CreateVolumeInput) { in.ClientToken = awssdk.String("one") })
	l.rejected(rejection{name: "token with other parameters", code: "IdempotentParameterMismatch", err: other})
}

func TestStatesOfAVolume(t *testing.T) {
	c := newClock()
	l := newLot(t, aws.Options{Now: c.now, VolumeDelay: tick, KMSKeys: []string{"arn:aws:kms:us-east-1:123456789012:key/known"}}).withImage()
	i := *l.run(l.runInput()).InstanceId
	id, err := l.volumeOf(nil)
	l.must(err)
	lost, err := l.volumeOf(func(in *ec2.CreateVolumeInput) {
		in.Encrypted, in.KmsKeyId = awssdk.Bool(true), awssdk.String("unknown")
	})
	l.must(err)
	b, err := l.volumeOf(func(in *ec2.CreateVolumeInput) { in.AvailabilityZone = awssdk.String(l.zone("b")) })
	l.must(err)
	state := func(d time.Duration) (s string) {
		c.advance(d)
		v := l.volume(id)
		s = string(v.State)
		for _, a := range v.Attachments {
			s += " " + string(a.State)
		}
		return s
	}
	l.rejected(rejection{name: "attach while creating", code: "IncorrectState", err: l.attach(id, i, "/dev/sdf")})
	got := []string{state(0), state(tick)}
	_, vanished := l.ec2.DescribeVolumes(l.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{lost}})
	l.rejected(
		rejection{name: "with an unknown key", code: "InvalidVolume.NotFound", err: vanished},
		rejection{name: "other zone", code: "InvalidVolume.ZoneMismatch", err: l.attach(b, i, "/dev/sdf")},
		rejection{name: "device in use", code: "InvalidParameterValue", err: l.attach(id, i, "/dev/sda1")},
		rejection{name: "bad device", code: "InvalidParameterValue", err: l.attach(id, i, "/dev/nvme1n1")},
		rejection{name: "no such instance", code: "InvalidInstanceID.NotFound", err: l.attach(id, "i-0123456789abcdef0", "/dev/sdf")},
		rejection{name: "detach what is not attached", code: "IncorrectState", err: l.detach(id, false)},
	)
	l.must(l.attach(id, i, "/dev/sdf"))
	got = append(got, state(0), state(tick))
	l.rejected(
		rejection{name: "attach twice", code: "VolumeInUse", err: l.attach(id, i, "/dev/sdg")},
		rejection{name: "delete in use", code: "VolumeInUse", err: l.deleteVolume(id)},
		rejection{name: "detach the root", code: "OperationNotPermitted", err: l.detach(l.e.Instances()[0].Root, false)},
	)
	if v := l.volume(id); *v.Attachments[0].DeleteOnTermination {
		t.Error("a volume attached later goes with the instance")
	}
	l.must(l.detach(id, false))
	got = append(got, state(0), state(tick))
	l.must(l.deleteVolume(id))
	got = append(got, state(0))
	c.advance(tick)
	l.rejected(rejection{name: "in the end", code: "InvalidVolume.NotFound", err: l.deleteVolume(id)})
	want := []string{"creating", "available", "in-use attaching", "in-use attached", "in-use detaching", "available", "deleting"}
	for n := range want {
		if got[n] != want[n] {
			t.Errorf("state %d is %q, want %q", n, got[n], want[n])
		}
	}
}

func TestAttachmentLimit(t *testing.T) {
	set := fault.New(1)
	l := newLot(t, aws.Options{Faults: set}).withImage()
	in := l.runInput()
	i := *l.run(in).InstanceId
	var last string
	attach := func(n int) error {
		v, err := l.volumeOf(func(in *ec2.CreateVolumeInput) { in.SnapshotId, in.Size = nil, awssdk.Int32(1) })
		l.must(err)
		last = v
		return l.attach(v, i, "/dev/xvd"+string(rune('b'+n/26))+string(rune('a'+n%26)))
	}
	l.health(i) // it runs by now
	for n := range 26 {
		l.must(attach(n)) // with the root volume and one interface 28 are full
	}
	full := last
	l.rejected(rejection{name: "one too many", code: "AttachmentLimitExceeded", err: attach(26)})
	set.Add(fault.Rule{Op: "DetachVolume", Kind: fault.Lie, Detail: aws.LieStuck})
	l.must(l.detach(full, false))
	if v := l.volume(full); v.State != "in-use" || v.Attachments[0].State != "busy" {
		t.Errorf("stuck volume %s %v", v.State, v.Attachments)
	}
	l.must(l.detach(full, true))
	if v := l.volume(full); v.State != "available" {
		t.Errorf("by force: %s", v.State)
	}
	l.must(l.attach(last, i, "/dev/sdz"))
}

func TestModifyVolume(t *testing.T) {
	c := newClock()
	l := newLot(t, aws.Options{Now: c.now, VolumeDelay: tick})
	id, err := l.volumeOf(func(in *ec2.CreateVolumeInput) { in.VolumeType = "gp3" })
	l.must(err)
	modify := func(change func(*ec2.ModifyVolumeInput)) error {
		in := &ec2.ModifyVolumeInput{VolumeId: &id}
		change(in)
		_, err := l.ec2.ModifyVolume(l.ctx, in)
		return err
	}
	grow := func(in *ec2.ModifyVolumeInput) { in.Size, in.Iops = awssdk.Int32(20), awssdk.Int32(5000) }
	l.rejected(rejection{name: "while creating", code: "IncorrectState", err: modify(grow)})
	c.advance(tick)
	l.rejected(
		rejection{name: "shrink", code: "InvalidParameterValue", err: modify(func(in *ec2.ModifyVolumeInput) { in.Size = awssdk.Int32(7) })},
		rejection{name: "IOPS", code: "InvalidParameterValue", err: modify(func(in *ec2.ModifyVolumeInput) { in.Iops = awssdk.Int32(5000) })},
	)
	l.must(modify(grow))
	state := func() string {
		out, err := l.ec2.DescribeVolumesModifications(l.ctx, &ec2.DescribeVolumesModificationsInput{VolumeIds: []string{id}})
		l.must(err)
		return string(out.VolumesModifications[0].ModificationState)
	}
	got := state()
	c.advance(tick)
	got += " " + state()
	c.advance(tick)
	if got += " " + state(); got != "modifying optimizing completed" {
		t.Errorf("states %s", got)
	}
	if v := l.volume(id); *v.Size != 20 || *v.Iops != 5000 {
		t.Errorf("volume %+v", v)
	}
	l.rejected(rejection{name: "too soon", code: "VolumeModificationRateExceeded", err: modify(func(in *ec2.ModifyVolumeInput) { in.Size = awssdk.Int32(21) })})
	c.advance(6 * time.Hour)
	l.must(modify(func(in *ec2.ModifyVolumeInput) { in.VolumeType = "gp2" }))
	l.wantBytes(id, 8<<30/blockSize, make([]byte, blockSize), true)
}

func TestVolumesCanBeWritten(t *testing.T) {
	l := newLot(t, aws.Options{})
	a, err := l.volumeOf(nil)
	l.must(err)
	b, err := l.volumeOf(nil)
	l.must(err)
	d, err := l.e.Volume(a)
	l.must(err)
	patch := random()[:10000]
	at := int64(blockSize - 5000)
	if n, err := d.WriteAt(patch, at); n != len(patch) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	want := append(bytes.Clone(l.block), make([]byte, blockSize)...)
	copy(want[at:], patch)
	got := make([]byte, len(want)-3)
	if _, err := d.ReadAt(got, 1); err != nil || !bytes.Equal(got, want[1:len(want)-2]) {
		t.Errorf("the volume reads back wrong, %v", err)
	}
	l.wantBytes(b, 0, l.block, true)
	if _, err := d.WriteAt(patch, d.Size()-9999); err == nil {
		t.Error("a write past the end was taken")
	}
	if n, err := d.ReadAt(got, d.Size()-10); n != 10 || err == nil {
		t.Errorf("read %d at the end, %v", n, err)
	}
}

func TestReplaceRootVolume(t *testing.T) {
	c, set := newClock(), fault.New(1)
	l := newLot(t, aws.Options{Now: c.now, TaskDelay: 2 * tick, Faults: set}).withImage()
	stock, err := l.e.AddStockImage(aws.StockImage{Name: "Windows", Windows: true})
	l.must(err)
	run := l.runInput()
	run.ImageId = &stock
	i := *l.run(run).InstanceId
	create := func(change func(*ec2.CreateReplaceRootVolumeTaskInput)) (string, error) {
		in := &ec2.CreateReplaceRootVolumeTaskInput{InstanceId: &i, DeleteReplacedRootVolume: awssdk.Bool(true)}
		change(in)
		out, err := l.ec2.CreateReplaceRootVolumeTask(l.ctx, in)
		if err != nil {
			return "", err
		}
		return *out.ReplaceRootVolumeTask.ReplaceRootVolumeTaskId, nil
	}
	try := func(change func(*ec2.CreateReplaceRootVolumeTaskInput)) error { _, err := create(change); return err }
	mine, err := l.volumeOf(nil)
	l.must(err)
	far, err := l.volumeOf(func(in *ec2.CreateVolumeInput) { in.AvailabilityZone = awssdk.String(l.zone("b")) })
	l.must(err)
	use := func(id string) func(*ec2.CreateReplaceRootVolumeTaskInput) {
		return func(in *ec2.CreateReplaceRootVolumeTaskInput) {
			in.VolumeId, in.ClientToken = &id, awssdk.String("root "+id)
		}
	}
	old := l.e.Instances()[0].Root
	l.rejected(
		rejection{name: "a snapshot of another lineage", code: "InvalidParameterValue", err: try(func(in *ec2.CreateReplaceRootVolumeTaskInput) { in.SnapshotId = &l.snap })},
		rejection{name: "an image billed otherwise", code: "InvalidParameterValue", err: try(func(in *ec2.CreateReplaceRootVolumeTaskInput) { in.ImageId = &l.ami })},
		rejection{name: "two sources", code: "InvalidParameterCombination", err: try(func(in *ec2.CreateReplaceRootVolumeTaskInput) { in.ImageId, in.VolumeId = &l.ami, &mine })},
		rejection{name: "other zone", code: "InvalidVolume.ZoneMismatch", err: try(use(far))},
		rejection{name: "in use", code: "VolumeInUse", err: try(use(old))},
	)
	set.Add(fault.Rule{Op: "CreateReplaceRootVolumeTask", Kind: fault.TaskFault})
	bad, err := create(use(mine))
	l.must(err)
	l.rejected(rejection{name: "a second task", code: "IncorrectState", err: try(use(far))})
	state := func(id string, d time.Duration) string {
		c.advance(d)
		out, err := l.ec2.DescribeReplaceRootVolumeTasks(l.ctx, &ec2.DescribeReplaceRootVolumeTasksInput{ReplaceRootVolumeTaskIds: []string{id}})
		l.must(err)
		return string(out.ReplaceRootVolumeTasks[0].TaskState)
	}
	if s := state(bad, 4*tick); s != "failed" || l.e.Instances()[0].Root != old {
		t.Errorf("failed task: %s", s)
	}
	good, err := create(func(in *ec2.CreateReplaceRootVolumeTaskInput) {
		in.VolumeId, in.ClientToken, in.DeleteReplacedRootVolume = &mine, awssdk.String("again"), awssdk.Bool(true)
	})
	l.must(err)
	if s := state(good, 0) + " " + state(good, tick) + " " + state(good, tick); s != "pending in-progress succeeded" {
		t.Errorf("states %s", s)
	}
	x := l.instance(i)
	if got := l.e.Instances()[0].Root; got != mine || *x.BlockDeviceMappings[0].Ebs.VolumeId != mine || x.Platform != "windows" || *x.UsageOperation != "RunInstances:0002" {
		t.Errorf("root volume %s of %+v", got, x)
	}
	_, gone := l.ec2.DescribeVolumes(l.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{old}})
	l.rejected(rejection{name: "the old volume", code: "InvalidVolume.NotFound", err: gone})
	l.must(l.stop(i, false))
	l.rejected(rejection{name: "while stopped", code: "IncorrectInstanceState", err: try(use(far))})
}

func TestSwapOfAStoppedRoot(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	i := *l.run(l.runInput()).InstanceId
	l.health(i)
	l.must(l.stop(i, false))
	root := l.e.Instances()[0].Root
	mine, err := l.volumeOf(nil)
	l.must(err)
	l.must(l.detach(root, false))
	l.rejected(rejection{name: "start without a root", code: "IncorrectState", err: l.startInstance(i)})
	l.must(l.attach(mine, i, "/dev/sda1"), l.startInstance(i))
	if x := l.e.Instances()[0]; x.Root != mine || x.State != "running" {
		t.Errorf("instance %+v", x)
	}
}
