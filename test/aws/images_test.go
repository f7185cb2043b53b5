package aws_test

import (
	"encoding/base64"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
	"snapferry/test/fault"
)

func TestRegisterImageDefaultsBite(t *testing.T) {
	l := newLot(t, aws.Options{})
	in := l.imageInput("bare")
	in.Architecture, in.VirtualizationType, in.EnaSupport, in.BootMode, in.RootDeviceName = "", nil, nil, "", nil
	l.ami = l.register(in)
	out, err := l.ec2.DescribeImages(l.ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil || len(out.Images) != 1 {
		t.Fatalf("described %v, %v", out, err)
	}
	img := out.Images[0]
	if img.VirtualizationType != "paravirtual" || img.Architecture != "i386" || img.EnaSupport != nil || img.BootMode != "" || *img.RootDeviceName != "/dev/sda1" {
		t.Errorf("defaults are %s %s %v %q %s", img.VirtualizationType, img.Architecture, img.EnaSupport, img.BootMode, *img.RootDeviceName)
	}
	m := img.BlockDeviceMappings[0].Ebs
	if *m.VolumeSize != 8 || m.VolumeType != "gp2" || !*m.DeleteOnTermination || *m.Encrypted || *m.SnapshotId != l.snap {
		t.Errorf("mapping %+v", m)
	}
	l.rejected(rejection{name: "launch of it", code: "InvalidParameterCombination", err: l.tryRun(l.runInput())})
	in = l.imageInput("no ENA")
	in.EnaSupport = nil
	l.ami = l.register(in)
	l.rejected(rejection{name: "no ENA on Nitro", code: "InvalidParameterCombination", err: l.tryRun(l.runInput())})
	run := l.runInput()
	run.InstanceType = "t2.micro"
	l.run(run)
}

func TestRegisterImageRefuses(t *testing.T) {
	l := newLot(t, aws.Options{})
	draft := l.start(ebs.StartSnapshotInput{})
	foreign := l.e.AddForeign("999999999999", 1, nil)
	l.register(l.imageInput("taken"))
	ebsOf := func(in *ec2.RegisterImageInput) *types.EbsBlockDevice { return in.BlockDeviceMappings[0].Ebs }
	some := base64.StdEncoding.EncodeToString([]byte("AMZNUEFI"))
	for name, k := range map[string]struct {
		code   string
		change func(*ec2.RegisterImageInput)
	}{
		"name taken":           {"InvalidAMIName.Duplicate", func(in *ec2.RegisterImageInput) { in.Name = awssdk.String("taken") }},
		"short name":           {"InvalidAMIName.Malformed", func(in *ec2.RegisterImageInput) { in.Name = awssdk.String("ab") }},
		"colon in name":        {"InvalidAMIName.Malformed", func(in *ec2.RegisterImageInput) { in.Name = awssdk.String("a:bc") }},
		"root not mapped":      {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) { in.RootDeviceName = awssdk.String("/dev/xvda") }},
		"no mappings":          {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings = nil }},
		"encrypted mapping":    {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) { ebsOf(in).Encrypted = awssdk.Bool(true) }},
		"unencrypted, said so": {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) { ebsOf(in).Encrypted = awssdk.Bool(false) }},
		"key":                  {"InvalidParameter", func(in *ec2.RegisterImageInput) { ebsOf(in).KmsKeyId = awssdk.String("alias/x") }},
		"too small":            {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) { ebsOf(in).VolumeSize = awssdk.Int32(7) }},
		"pending snapshot":     {"InvalidSnapshot.NotCompleted", func(in *ec2.RegisterImageInput) { ebsOf(in).SnapshotId = &draft }},
		"foreign snapshot":     {"InvalidSnapshot.NotFound", func(in *ec2.RegisterImageInput) { ebsOf(in).SnapshotId = &foreign }},
		"bad device":           {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].DeviceName = awssdk.String("/dev/hda") }},
		"device twice": {"InvalidBlockDeviceMapping", func(in *ec2.RegisterImageInput) {
			in.BlockDeviceMappings = append(in.BlockDeviceMappings, in.BlockDeviceMappings[0])
		}},
		"TPM on BIOS": {"InvalidParameterCombination", func(in *ec2.RegisterImageInput) { in.TpmSupport = "v2.0" }},
		"TPM on uefi-preferred": {"InvalidParameterCombination", func(in *ec2.RegisterImageInput) {
			in.TpmSupport, in.BootMode = "v2.0", types.BootModeValuesUefiPreferred
		}},
		"UEFI data on BIOS": {"InvalidParameterCombination", func(in *ec2.RegisterImageInput) { in.UefiData = &some }},
		"UEFI data garbled": {"InvalidParameterValue", func(in *ec2.RegisterImageInput) { in.UefiData, in.BootMode = awssdk.String("***"), "uefi" }},
		"UEFI without HVM":  {"InvalidParameterCombination", func(in *ec2.RegisterImageInput) { in.VirtualizationType, in.BootMode = nil, "uefi" }},
		"ENA without HVM":   {"InvalidParameterCombination", func(in *ec2.RegisterImageInput) { in.VirtualizationType = nil }},
		"arm64 on BIOS":     {"InvalidParameterCombination", func(in *ec2.RegisterImageInput) { in.Architecture = types.ArchitectureValuesArm64 }},
		"billing product":   {"OperationNotPermitted", func(in *ec2.RegisterImageInput) { in.BillingProducts = []string{"bp-6fa54006"} }},
		"boot mode":         {"InvalidParameterValue", func(in *ec2.RegisterImageInput) { in.BootMode = "bios" }},
		"tag of another kind": {"InvalidParameterValue", func(in *ec2.RegisterImageInput) {
			in.TagSpecifications = specs(types.ResourceTypeSnapshot, "a", "b")
		}},
	} {
		in := l.imageInput("good")
		k.change(in)
		_, err := l.ec2.RegisterImage(l.ctx, in)
		l.rejected(rejection{name: name, code: k.code, err: err})
	}
	in := l.imageInput("with everything")
	in.BootMode, in.TpmSupport, in.UefiData, in.ImdsSupport = "uefi", "v2.0", &some, "v2.0"
	in.TagSpecifications = specs(types.ResourceTypeImage, "a", "b")
	dry := *in
	dry.DryRun = awssdk.Bool(true)
	_, err := l.ec2.RegisterImage(l.ctx, &dry)
	l.rejected(rejection{name: "dry run", code: "DryRunOperation", status: 412, err: err})
	id := l.register(in)
	out, err := l.ec2.DescribeImages(l.ctx, &ec2.DescribeImagesInput{Filters: filterBy("tag:a", "b")})
	if err != nil || len(out.Images) != 1 || *out.Images[0].ImageId != id || out.Images[0].TpmSupport != "v2.0" || out.Images[0].ImdsSupport != "v2.0" {
		t.Errorf("described %+v, %v", out, err)
	}
	attr, err := l.ec2.DescribeImageAttribute(l.ctx, &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameUefiData})
	if err != nil || *attr.UefiData.Value != some {
		t.Errorf("UEFI data %v, %v", attr, err)
	}
}

func TestDeregisterImage(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	remove := func() error {
		_, err := l.ec2.DeleteSnapshot(l.ctx, &ec2.DeleteSnapshotInput{SnapshotId: &l.snap})
		return err
	}
	deregister := func(also bool) (*ec2.DeregisterImageOutput, error) {
		return l.ec2.DeregisterImage(l.ctx, &ec2.DeregisterImageInput{ImageId: &l.ami, DeleteAssociatedSnapshots: &also})
	}
	l.wantError(remove(), "InvalidSnapshot.InUse", 400)
	if _, err := deregister(false); err != nil {
		t.Fatal(err)
	}
	_, again := deregister(false)
	_, described := l.ec2.DescribeImages(l.ctx, &ec2.DescribeImagesInput{ImageIds: []string{l.ami}})
	l.rejected(
		rejection{name: "again", code: "InvalidAMIID.Unavailable", err: again},
		rejection{name: "describe", code: "InvalidAMIID.NotFound", err: described},
		rejection{name: "launch", code: "InvalidAMIID.Unavailable", err: l.tryRun(l.runInput())},
	)
	l.withImage() // the name is free again
	out, err := deregister(true)
	if err != nil || len(out.DeleteSnapshotResults) != 1 || out.DeleteSnapshotResults[0].ReturnCode != "success" {
		t.Errorf("deregistered %+v, %v", out, err)
	}
	l.wantKinds(map[string]int{})
}

func TestStatesOfImages(t *testing.T) {
	c, set := newClock(), fault.New(1)
	l := newLot(t, aws.Options{Now: c.now, ImageDelay: tick, VisibleDelay: 0, Faults: set})
	set.Add(fault.Rule{Op: "RegisterImage", Kind: fault.TaskFault, Skip: 1})
	good, bad := l.register(l.imageInput("good")), l.register(l.imageInput("bad"))
	states := func() (s string) {
		for _, id := range []string{good, bad} {
			out, err := l.ec2.DescribeImages(l.ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
			if err != nil {
				t.Fatal(err)
			}
			s += string(out.Images[0].State) + " "
		}
		return s
	}
	l.ami = good
	l.rejected(rejection{name: "launch while pending", code: "InvalidAMIID.Unavailable", err: l.tryRun(l.runInput())})
	before := states()
	c.advance(tick)
	if after := states(); before != "pending pending " || after != "available failed " {
		t.Errorf("states %q then %q", before, after)
	}
	l.run(l.runInput())
}

func TestImportImage(t *testing.T) {
	c, set := newClock(), fault.New(1)
	l := newLot(t, aws.Options{Now: c.now, TaskDelay: tick, Faults: set})
	in := func() *ec2.ImportImageInput {
		return &ec2.ImportImageInput{
			DiskContainers: []types.ImageDiskContainer{{SnapshotId: &l.snap}}, Platform: awssdk.String("Windows"), LicenseType: awssdk.String("AWS"),
			BootMode: "uefi", TagSpecifications: specs(types.ResourceTypeImportImageTask, "job", "7"), ClientToken: awssdk.String("one"),
		}
	}
	try := func(change func(*ec2.ImportImageInput)) error {
		k := in()
		k.ClientToken = nil
		change(k)
		_, err := l.ec2.ImportImage(l.ctx, k)
		return err
	}
	l.rejected(rejection{name: "no role", code: "InvalidParameter", err: try(func(*ec2.ImportImageInput) {})})
	l.e.AddRole("vmimport")
	l.rejected(
		rejection{name: "UEFI without platform", code: "MissingParameter", err: try(func(i *ec2.ImportImageInput) { i.Platform = nil })},
		rejection{name: "no disks", code: "MissingParameter", err: try(func(i *ec2.ImportImageInput) { i.DiskContainers = nil })},
		rejection{name: "license twice", code: "InvalidParameterCombination", err: try(func(i *ec2.ImportImageInput) { i.UsageOperation = awssdk.String("x") })},
		rejection{name: "no such snapshot", code: "InvalidSnapshot.NotFound", err: try(func(i *ec2.ImportImageInput) {
			i.DiskContainers[0].SnapshotId = awssdk.String("snap-0123456789abcdef0")
		})},
		rejection{name: "key without encryption", code: "InvalidParameterDependency", err: try(func(i *ec2.ImportImageInput) { i.KmsKeyId = awssdk.String("x") })},
	)
	first, err := l.ec2.ImportImage(l.ctx, in())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.ec2.ImportImage(l.ctx, in()); err != nil || *again.ImportTaskId != *first.ImportTaskId {
		t.Errorf("again: %v, %v", again, err)
	}
	task := func(id *string) types.ImportImageTask {
		out, err := l.ec2.DescribeImportImageTasks(l.ctx, &ec2.DescribeImportImageTasksInput{ImportTaskIds: []string{*id}})
		if err != nil {
			t.Fatal(err)
		}
		return out.ImportImageTasks[0]
	}
	if k := task(first.ImportTaskId); *k.Status != "active" || k.ImageId != nil {
		t.Errorf("at first %+v", k)
	}
	c.advance(tick)
	k := task(first.ImportTaskId)
	if *k.Status != "completed" || k.ImageId == nil || len(k.SnapshotDetails) != 1 || *k.SnapshotDetails[0].SnapshotId == l.snap {
		t.Fatalf("in the end %+v", k)
	}
	img, err := l.ec2.DescribeImages(l.ctx, &ec2.DescribeImagesInput{ImageIds: []string{*k.ImageId}})
	if err != nil || *img.Images[0].UsageOperation != "RunInstances:0002" || img.Images[0].Platform != "windows" || img.Images[0].BootMode != "uefi" {
		t.Errorf("image %+v, %v", img, err)
	}
	l.wantKinds(map[string]int{"image": 1, "snapshot": 2})
	set.Add(fault.Rule{Op: "ImportImage", Kind: fault.TaskFault})
	other := in()
	other.ClientToken = awssdk.String("two")
	second, err := l.ec2.ImportImage(l.ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	c.advance(tick)
	if k := task(second.ImportTaskId); *k.Status != "deleted" || k.ImageId != nil {
		t.Errorf("failed import %+v", k)
	}
}
