package launch

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// TestRunInput: what the settings say reaches EC2.
func TestRunInput(t *testing.T) {
	g := newRig(t)
	g.user = "#cloud-config"
	j := g.job(ForCutover, map[string]string{
		"privateIP": "keep", "securityGroups": "sg-1", "nic1.subnet": "subnet-two", "nic1.privateIP": "10.2.0.7", "instanceType": "m6i.large",
		"launchTemplate": "lt-1", "launchTemplateVersion": "3", "iamProfile": "arn:aws:iam::1:instance-profile/x", "keyName": "k", "tenancy": "host", "host": "h-1",
		"kmsKey": "alias/app", "disk2.volumeType": "io2", "disk2.iops": "1000", "disk2.keepVolumes": "no", "initializationRate": "300",
		"userDataFile": "/u", "metadata.tokens": "optional", "metadata.tags": "yes",
	})
	j.Request.SourceIPs = []string{"10.1.0.9", ""}
	r := g.launcher().start(&j, Source{})
	g.must(r.look(t.Context()))
	if _, err := j.Request.Check(r.world); err != nil {
		t.Fatal(err)
	}
	r.world.Image = &Image{ID: "ami-1", Root: "/dev/sda1", Devices: []string{"/dev/sda1", "/dev/sdf"}}
	in, err := r.runInput()
	g.must(err)
	first, second := in.NetworkInterfaces[0], in.NetworkInterfaces[1]
	if *first.PrivateIpAddress != "10.1.0.9" || *second.PrivateIpAddress != "10.2.0.7" || *second.SubnetId != "subnet-two" || !slices.Equal(second.Groups, []string{"sg-1"}) {
		t.Errorf("interfaces: %+v %+v", first, second)
	}
	root, data := in.BlockDeviceMappings[0].Ebs, in.BlockDeviceMappings[1].Ebs
	if !*root.Encrypted || *root.KmsKeyId != "alias/app" || *root.DeleteOnTermination || root.VolumeType != "gp3" || *root.VolumeInitializationRate != 300 {
		t.Errorf("root: %+v", root)
	}
	if data.VolumeType != "io2" || *data.Iops != 1000 || !*data.DeleteOnTermination || data.SnapshotId != nil {
		t.Errorf("data: %+v", data)
	}
	if *in.LaunchTemplate.LaunchTemplateId != "lt-1" || *in.LaunchTemplate.Version != "3" || in.IamInstanceProfile.Name != nil || *in.KeyName != "k" ||
		*in.Placement.HostId != "h-1" || in.Placement.Tenancy != "host" || *in.UserData != "I2Nsb3VkLWNvbmZpZw==" || in.MetadataOptions.HttpTokens != "optional" || in.MetadataOptions.InstanceMetadataTags != "enabled" {
		t.Errorf("input: %+v", in)
	}
	if len(*in.ClientToken) != maxToken {
		t.Errorf("a token of %d characters", len(*in.ClientToken))
	}
	j.Request.SourceIPs = nil
	if _, err := j.Request.Check(r.world); err == nil || !strings.Contains(err.Error(), "cannot be kept") {
		t.Errorf("an unknown address is kept: %v", err)
	}
	g.user = strings.Repeat("x", maxUserData+1)
	if _, err := r.userData(); err == nil {
		t.Error("too much user data")
	}
}

func TestImageInput(t *testing.T) {
	g := newRig(t)
	j := g.job(ForTest, map[string]string{"tpm": "yes"})
	for i := range j.Request.Point.Disks {
		j.Request.Point.Disks[i].Label.Guest.Firmware = "efi"
		j.Request.Point.Disks[i].Label.Guest.SecureBoot = true
	}
	in := g.launcher().start(&j, Source{}).imageInput("snap-x")
	if in.BootMode != "uefi" || in.TpmSupport != "v2.0" || in.ImdsSupport != "v2.0" || aws.ToString(in.BlockDeviceMappings[0].Ebs.SnapshotId) != "snap-x" {
		t.Errorf("%+v", in)
	}
	notes, err := j.Request.Check(World{})
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "Secure Boot") {
		t.Errorf("%v %v", notes, err)
	}
}

func TestTagsFit(t *testing.T) {
	g := newRig(t)
	j := g.job(ForTest, map[string]string{"tag.Name": "mine", "tag.env": "test"})
	j.Request.SourceTags = map[string]string{"env": "prod", "aws:x": "no", "long": strings.Repeat("ä", 300)}
	for i := range 60 {
		j.Request.SourceTags["k"+strings.Repeat("x", i+1)] = "v"
	}
	tags := j.tags(map[string]string{tagDisk: "1", tagReverted: "x"})
	if len(tags) > maxTags || tags["Name"] != "mine" || tags["env"] != "test" || tags["aws:x"] != "" || tags[tagVM] != "vm-7" {
		t.Errorf("%d tags: %v", len(tags), tags)
	}
	left := j.leftOut()
	if !slices.Contains(left, "aws:x") || len(left) < 10 {
		t.Errorf("left out: %v", left)
	}
}

func TestDevicesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range devices() {
		if seen[d] {
			t.Errorf("%s twice", d)
		}
		seen[d] = true
	}
	if len(seen) < 100 || deviceOf(1) != "/dev/sda1" || deviceOf(2) != "/dev/sdf" {
		t.Errorf("%d names", len(seen))
	}
}

func TestForcedFinalize(t *testing.T) {
	g := newRig(t)
	g.sick = true
	j := g.job(ForCutover, nil)
	l := g.launcher()
	if err := l.Cutover(t.Context(), &j, g.source()); err == nil {
		t.Fatal("a sick instance passed")
	}
	if err := l.Finalize(t.Context(), &j, Ending{Prune: g.prune}); err == nil {
		t.Fatal("it was finalized")
	}
	g.must(l.Finalize(t.Context(), &j, Ending{Prune: g.prune, Force: true}))
	g.only(j.Instance, "vol-")
}

// TestDueByTagsAlone: a test that crashed before it had an instance ends too.
func TestDueByTagsAlone(t *testing.T) {
	g := newRig(t)
	first := g.job(ForTest, nil)
	for n := 1; len(g.images) < 2 && n < 50; n++ {
		g = newRig(t)
		g.crash(n, true, func(ctx context.Context) {
			j := *clone(t, first)
			_ = g.launcher().Test(ctx, &j)
		})
	}
	g.clock = first.Ends
	ended, err := g.launcher().EndDue(t.Context())
	g.must(err)
	if len(ended) != 1 {
		t.Errorf("ended %d", len(ended))
	}
	g.only("snap-c1-", "snap-conv-c1")
}
