package aws_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
)

func filterBy(name string, values ...string) []types.Filter {
	return []types.Filter{{Name: &name, Values: values}}
}

func TestDescribeSnapshotsFilters(t *testing.T) {
	c := newClock()
	r := newRig(t, aws.Options{Now: c.now})
	tag := func(k, v string) []ebstypes.Tag { return []ebstypes.Tag{{Key: &k, Value: &v}} }
	a := r.snapshot(ebs.StartSnapshotInput{Tags: tag("vm", "web-1"), Description: awssdk.String("x & <y>")}, zeros(0, 1))
	c.advance(time.Second)
	b := r.start(ebs.StartSnapshotInput{Tags: tag("vm", "web-2"), VolumeSize: awssdk.Int64(7), Encrypted: awssdk.Bool(true)})
	c.advance(time.Second)
	d := r.start(ebs.StartSnapshotInput{Tags: tag("other", "web*")})
	foreign := r.e.AddForeign("999999999999", 1, map[string]string{"vm": "web-1"})
	ours := []string{"self"}
	for name, k := range map[string]struct {
		in   ec2.DescribeSnapshotsInput
		want []string
	}{
		"no owner":        {ec2.DescribeSnapshotsInput{}, []string{a, b, d, foreign}},
		"self":            {ec2.DescribeSnapshotsInput{OwnerIds: ours}, []string{a, b, d}},
		"account":         {ec2.DescribeSnapshotsInput{OwnerIds: []string{"999999999999"}}, []string{foreign}},
		"tag value":       {ec2.DescribeSnapshotsInput{OwnerIds: ours, Filters: filterBy("tag:vm", "web-2", "web-3")}, []string{b}},
		"tag wildcard":    {ec2.DescribeSnapshotsInput{OwnerIds: ours, Filters: filterBy("tag:vm", "web-?")}, []string{a, b}},
		"literal star":    {ec2.DescribeSnapshotsInput{OwnerIds: ours, Filters: filterBy("tag:other", `web\*`)}, []string{d}},
		"case":            {ec2.DescribeSnapshotsInput{OwnerIds: ours, Filters: filterBy("tag:vm", "WEB-1")}, nil},
		"tag key":         {ec2.DescribeSnapshotsInput{OwnerIds: ours, Filters: filterBy("tag-key", "oth*")}, []string{d}},
		"status":          {ec2.DescribeSnapshotsInput{OwnerIds: ours, Filters: filterBy("status", "completed")}, []string{a}},
		"size":            {ec2.DescribeSnapshotsInput{Filters: filterBy("volume-size", "7")}, []string{b}},
		"encrypted":       {ec2.DescribeSnapshotsInput{Filters: filterBy("encrypted", "true")}, []string{b}},
		"id":              {ec2.DescribeSnapshotsInput{Filters: filterBy("snapshot-id", d, a)}, []string{a, d}},
		"owner filter":    {ec2.DescribeSnapshotsInput{Filters: filterBy("owner-id", "123456789012")}, []string{a, b, d}},
		"all must match":  {ec2.DescribeSnapshotsInput{Filters: append(filterBy("tag:vm", "*"), filterBy("status", "pending")...)}, []string{b}},
		"by ID":           {ec2.DescribeSnapshotsInput{SnapshotIds: []string{b, a, b}}, []string{b, a}},
		"by ID, filtered": {ec2.DescribeSnapshotsInput{SnapshotIds: []string{b, a}, Filters: filterBy("status", "completed")}, []string{a}},
	} {
		out, err := r.ec2.DescribeSnapshots(r.ctx, &k.in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, s := range out.Snapshots {
			got = append(got, *s.SnapshotId)
		}
		slices.Sort(got)
		slices.Sort(k.want)
		if !slices.Equal(got, k.want) {
			t.Errorf("%s: got %v, want %v", name, got, k.want)
		}
	}
	out, err := r.ec2.DescribeSnapshots(r.ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	s := out.Snapshots[0]
	if *s.VolumeId != "vol-ffffffff" || *s.Progress != "100%" || *s.Description != "x & <y>" || *s.FullSnapshotSizeInBytes != 2*blockSize ||
		*s.OwnerId != "123456789012" || s.CompletionTime == nil || len(s.Tags) != 1 || *s.Encrypted || s.KmsKeyId != nil {
		t.Errorf("completed snapshot %+v", s)
	}
	if p := out.Snapshots[1]; *p.Progress != "0%" || p.CompletionTime != nil || *p.VolumeSize != 7 || !*p.Encrypted || p.KmsKeyId == nil {
		t.Errorf("pending snapshot %+v", p)
	}
}

func TestDescribeSnapshotsPages(t *testing.T) {
	r := newRig(t, aws.Options{})
	want := map[string]bool{}
	for range 12 {
		want[r.start(ebs.StartSnapshotInput{})] = true
	}
	pages := 0
	p := ec2.NewDescribeSnapshotsPaginator(r.ec2, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: awssdk.Int32(5)})
	for p.HasMorePages() {
		out, err := p.NextPage(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, s := range out.Snapshots {
			delete(want, *s.SnapshotId)
		}
	}
	if pages != 3 || len(want) != 0 {
		t.Errorf("%d pages, %d snapshots missed", pages, len(want))
	}
}

func TestEC2Errors(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.start(ebs.StartSnapshotInput{})
	describe := func(in ec2.DescribeSnapshotsInput) error { _, err := r.ec2.DescribeSnapshots(r.ctx, &in); return err }
	create := func(id string, tags ...types.Tag) error {
		_, err := r.ec2.CreateTags(r.ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: tags})
		return err
	}
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	remove := func(in ec2.DeleteSnapshotInput) error { _, err := r.ec2.DeleteSnapshot(r.ctx, &in); return err }
	many := make([]string, 1001)
	for i := range many {
		many[i] = id
	}
	_, tooMany := r.ec2.CreateTags(r.ctx, &ec2.CreateTagsInput{Resources: many, Tags: []types.Tag{tag("k", "v")}})
	_, unknown := r.ec2.DescribeAccountAttributes(r.ctx, &ec2.DescribeAccountAttributesInput{})
	for name, k := range map[string]struct {
		err    error
		code   string
		status int
	}{
		"unknown ID":        {describe(ec2.DescribeSnapshotsInput{SnapshotIds: []string{"snap-0123"}}), "InvalidSnapshot.NotFound", 400},
		"malformed ID":      {describe(ec2.DescribeSnapshotsInput{SnapshotIds: []string{"foo"}}), "InvalidParameterValue", 400},
		"unknown filter":    {describe(ec2.DescribeSnapshotsInput{Filters: filterBy("colour", "red")}), "InvalidParameterValue", 400},
		"small page":        {describe(ec2.DescribeSnapshotsInput{MaxResults: awssdk.Int32(4)}), "InvalidParameterValue", 400},
		"large page":        {describe(ec2.DescribeSnapshotsInput{MaxResults: awssdk.Int32(1001)}), "InvalidParameterValue", 400},
		"page and IDs":      {describe(ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}, MaxResults: awssdk.Int32(5)}), "InvalidParameterCombination", 400},
		"bad token":         {describe(ec2.DescribeSnapshotsInput{NextToken: awssdk.String("x")}), "InvalidNextToken", 400},
		"dry run":           {describe(ec2.DescribeSnapshotsInput{DryRun: awssdk.Bool(true)}), "DryRunOperation", 412},
		"dry delete":        {remove(ec2.DeleteSnapshotInput{SnapshotId: &id, DryRun: awssdk.Bool(true)}), "DryRunOperation", 412},
		"delete unknown":    {remove(ec2.DeleteSnapshotInput{SnapshotId: awssdk.String("snap-0123")}), "InvalidSnapshot.NotFound", 400},
		"tag unknown":       {create("snap-0123", tag("k", "v")), "InvalidSnapshot.NotFound", 400},
		"tag nothing known": {create("thing-1", tag("k", "v")), "InvalidID", 400},
		"aws: tag":          {create(id, tag("aws:x", "v")), "InvalidParameterValue", 400},
		"long key":          {create(id, tag(strings.Repeat("k", 128), "v")), "InvalidParameterValue", 400},
		"long value":        {create(id, tag("k", strings.Repeat("v", 257))), "InvalidParameterValue", 400},
		"duplicate":         {create(id, tag("k", "1"), tag("k", "2")), "InvalidParameterValue", 400},
		"1001 resources":    {tooMany, "InvalidParameterValue", 400},
		"unknown action":    {unknown, "InvalidAction", 400},
	} {
		t.Run(name, func(t *testing.T) { (&rig{T: t}).wantError(k.err, k.code, k.status) })
	}
	resp := r.send("ec2", "POST", "/", "", nil, []byte("Action=DescribeSnapshots&Version=2016-11-15&Bogus=1"))
	if got := statusOf(t, resp); !strings.Contains(got, "UnknownParameter") {
		t.Errorf("unknown parameter: %s", got)
	}
	if s := r.e.Snapshots(); len(s) != 1 || len(s[0].Tags) != 0 {
		t.Errorf("refused calls left %+v", s)
	}
}

func TestTags(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.start(ebs.StartSnapshotInput{Tags: tags(49)})
	tag := func(k string, v *string) types.Tag { return types.Tag{Key: &k, Value: v} }
	set := func(tags ...types.Tag) error {
		_, err := r.ec2.CreateTags(r.ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: tags})
		return err
	}
	one := awssdk.String("1")
	if err := set(tag("a", one), tag("b", one)); err == nil {
		t.Error("51 tags were accepted")
	}
	if err := set(tag("a", one), tag("k00", one)); err != nil {
		t.Errorf("50 tags: %v", err)
	}
	got := r.e.Snapshots()[0].Tags
	if len(got) != 50 || got["a"] != "1" || got["k00"] != "1" {
		t.Errorf("tags %v", got)
	}
	if _, err := r.ec2.DeleteTags(r.ctx, &ec2.DeleteTagsInput{Resources: []string{id}, Tags: []types.Tag{tag("a", awssdk.String("2")), tag("k00", one), tag("k01", nil)}}); err != nil {
		t.Fatal(err)
	}
	got = r.e.Snapshots()[0].Tags
	if _, a := got["a"]; len(got) != 48 || !a {
		t.Errorf("%d tags are left, a %v: a delete with another value must not delete", len(got), a)
	}
	out, err := r.ec2.DescribeTags(r.ctx, &ec2.DescribeTagsInput{Filters: append(filterBy("resource-id", id), filterBy("key", "a", "k02")...)})
	if err != nil || len(out.Tags) != 2 || out.Tags[0].ResourceType != "snapshot" {
		t.Errorf("described %v, %v", out, err)
	}
	if _, err := r.ec2.DeleteTags(r.ctx, &ec2.DeleteTagsInput{Resources: []string{id}}); err != nil || len(r.e.Snapshots()[0].Tags) != 0 {
		t.Errorf("delete all: %v", err)
	}
}

func TestDeleteSnapshot(t *testing.T) {
	r := newRig(t, aws.Options{})
	id, draft := r.snapshot(ebs.StartSnapshotInput{}, zeros(1)), r.start(ebs.StartSnapshotInput{})
	if err := r.e.UseInImage(id, "ami-1"); err != nil {
		t.Fatal(err)
	}
	remove := func(id string) error {
		_, err := r.ec2.DeleteSnapshot(r.ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		return err
	}
	r.wantError(remove(id), "InvalidSnapshot.InUse", 400)
	r.e.DeregisterImage("ami-1")
	for _, s := range []string{id, draft} {
		if err := remove(s); err != nil {
			t.Error(err)
		}
		r.wantError(remove(s), "InvalidSnapshot.NotFound", 400)
	}
	r.wantError(r.tryPut(draft, 0, random()), "ResourceNotFoundException", 404)
	if n := len(r.e.Snapshots()); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
}

func TestAccountSettings(t *testing.T) {
	r := newRig(t, aws.Options{Region: "eu-west-1"})
	get := func() bool {
		out, err := r.ec2.GetEbsEncryptionByDefault(r.ctx, &ec2.GetEbsEncryptionByDefaultInput{})
		if err != nil {
			t.Fatal(err)
		}
		return *out.EbsEncryptionByDefault
	}
	saw := []bool{get()}
	if _, err := r.ec2.EnableEbsEncryptionByDefault(r.ctx, &ec2.EnableEbsEncryptionByDefaultInput{}); err != nil {
		t.Fatal(err)
	}
	saw = append(saw, get())
	if _, err := r.ec2.DisableEbsEncryptionByDefault(r.ctx, &ec2.DisableEbsEncryptionByDefaultInput{}); err != nil {
		t.Fatal(err)
	}
	if saw = append(saw, get()); fmt.Sprint(saw) != "[false true false]" {
		t.Errorf("encryption by default went %v", saw)
	}
	regions, err := r.ec2.DescribeRegions(r.ctx, &ec2.DescribeRegionsInput{})
	if err != nil || len(regions.Regions) != 1 || *regions.Regions[0].RegionName != "eu-west-1" {
		t.Errorf("regions %v, %v", regions, err)
	}
	zones, err := r.ec2.DescribeAvailabilityZones(r.ctx, &ec2.DescribeAvailabilityZonesInput{Filters: filterBy("state", "available")})
	if err != nil || len(zones.AvailabilityZones) != 3 || *zones.AvailabilityZones[0].ZoneName != "eu-west-1a" {
		t.Errorf("zones %v, %v", zones, err)
	}
}
