package aws_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"snapferry/test/aws"
)

const otherKey = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"

func tags(n int) []ebstypes.Tag {
	var out []ebstypes.Tag
	for i := range n {
		out = append(out, ebstypes.Tag{Key: awssdk.String(fmt.Sprintf("k%02d", i)), Value: awssdk.String("v")})
	}
	return out
}

func TestStartRejectsWhatAWSRejects(t *testing.T) {
	r := newRig(t, aws.Options{KMSKeys: []string{otherKey}})
	parent := r.snapshot(ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(2)}, nil)
	draft := r.start(ebs.StartSnapshotInput{})
	foreign := r.e.AddForeign("999999999999", 1, nil)
	long := func(n int) *string { return awssdk.String(strings.Repeat("x", n)) }
	tag := func(k, v string) []ebstypes.Tag { return []ebstypes.Tag{{Key: &k, Value: &v}} }
	for name, c := range map[string]struct {
		in     ebs.StartSnapshotInput
		code   string
		status int
		reason ebstypes.ValidationExceptionReason
	}{
		"no GiB":            {ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(0)}, "ValidationException", 400, ""},
		"over 64 TiB":       {ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(65537)}, "ValidationException", 400, "INVALID_VOLUME_SIZE"},
		"timeout too short": {ebs.StartSnapshotInput{Timeout: awssdk.Int32(9)}, "ValidationException", 400, ""},
		"timeout too long":  {ebs.StartSnapshotInput{Timeout: awssdk.Int32(4321)}, "ValidationException", 400, ""},
		"long description":  {ebs.StartSnapshotInput{Description: long(256)}, "ValidationException", 400, ""},
		"long token":        {ebs.StartSnapshotInput{ClientToken: long(256)}, "ValidationException", 400, ""},
		"token with spaces": {ebs.StartSnapshotInput{ClientToken: awssdk.String("a b")}, "ValidationException", 400, ""},
		"51 tags":           {ebs.StartSnapshotInput{Tags: tags(51)}, "ValidationException", 400, "INVALID_TAG"},
		"duplicate tag":     {ebs.StartSnapshotInput{Tags: append(tags(1), tags(1)...)}, "ValidationException", 400, "INVALID_TAG"},
		"aws: tag":          {ebs.StartSnapshotInput{Tags: tag("AWS:x", "v")}, "ValidationException", 400, "INVALID_TAG"},
		"long tag key":      {ebs.StartSnapshotInput{Tags: tag(*long(128), "v")}, "ValidationException", 400, ""},
		"long tag value":    {ebs.StartSnapshotInput{Tags: tag("k", *long(256))}, "ValidationException", 400, ""},
		"bad parent ID":     {ebs.StartSnapshotInput{ParentSnapshotId: awssdk.String("vol-1")}, "ValidationException", 400, ""},
		"unknown parent":    {ebs.StartSnapshotInput{ParentSnapshotId: awssdk.String("snap-0123")}, "ResourceNotFoundException", 404, ""},
		"foreign parent":    {ebs.StartSnapshotInput{ParentSnapshotId: &foreign}, "ResourceNotFoundException", 404, ""},
		"pending parent":    {ebs.StartSnapshotInput{ParentSnapshotId: &draft}, "ValidationException", 400, "INVALID_SNAPSHOT_ID"},
		"smaller child":     {ebs.StartSnapshotInput{ParentSnapshotId: &parent, VolumeSize: awssdk.Int64(1)}, "ValidationException", 400, "INVALID_VOLUME_SIZE"},
		"parent, encrypted": {ebs.StartSnapshotInput{ParentSnapshotId: &parent, VolumeSize: awssdk.Int64(2), Encrypted: awssdk.Bool(false)}, "ValidationException", 400, "INVALID_PARAMETER_VALUE"},
		"parent and key":    {ebs.StartSnapshotInput{ParentSnapshotId: &parent, VolumeSize: awssdk.Int64(2), KmsKeyArn: awssdk.String(otherKey)}, "ValidationException", 400, "INVALID_PARAMETER_VALUE"},
		"key, unencrypted":  {ebs.StartSnapshotInput{Encrypted: awssdk.Bool(false), KmsKeyArn: awssdk.String(otherKey)}, "ValidationException", 400, "INVALID_PARAMETER_VALUE"},
		"no key ARN":        {ebs.StartSnapshotInput{KmsKeyArn: awssdk.String("alias/x")}, "ValidationException", 400, ""},
		"unknown key":       {ebs.StartSnapshotInput{KmsKeyArn: awssdk.String(otherKey + "6")}, "ValidationException", 400, "INVALID_CUSTOMER_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, e: r.e, ebs: r.ebs, ctx: t.Context()}
			if c.in.VolumeSize == nil {
				c.in.VolumeSize = awssdk.Int64(1)
			}
			_, err := r.ebs.StartSnapshot(r.ctx, &c.in)
			r.wantError(err, c.code, c.status)
			if c.code == "ValidationException" {
				r.wantReason(err, c.reason)
			}
		})
	}
	if n := len(r.e.Snapshots()); n != 3 {
		t.Errorf("%d snapshots exist, want 3: a refused start must leave none", n)
	}
}

func TestStartAcceptsTheBounds(t *testing.T) {
	r := newRig(t, aws.Options{})
	value := strings.Repeat("é", 255)
	in := ebs.StartSnapshotInput{
		VolumeSize: awssdk.Int64(65536), Timeout: awssdk.Int32(4320), Description: awssdk.String(strings.Repeat("d", 255)),
		Tags: append(tags(49), ebstypes.Tag{Key: awssdk.String(strings.Repeat("k", 127)), Value: &value}),
	}
	out, err := r.ebs.StartSnapshot(r.ctx, &in)
	if err != nil {
		t.Fatal(err)
	}
	if out.Status != "pending" || *out.BlockSize != blockSize || *out.VolumeSize != 65536 || len(out.Tags) != 50 || *out.OwnerId != "123456789012" || out.KmsKeyArn != nil {
		t.Errorf("unexpected answer %+v", out)
	}
	if d := time.Since(*out.StartTime); d < -time.Minute || d > time.Minute {
		t.Errorf("start time is %v away", d)
	}
	info := r.e.Snapshots()[0]
	if info.Tags[strings.Repeat("k", 127)] != value || info.Timeout != 72*time.Hour {
		t.Errorf("unexpected snapshot %+v", info)
	}
}

func TestClientTokenReturnsTheFirstAnswer(t *testing.T) {
	r := newRig(t, aws.Options{})
	in := func(description string) *ebs.StartSnapshotInput {
		return &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1), ClientToken: awssdk.String("cycle-7"), Description: &description, Tags: tags(2)}
	}
	first, err := r.ebs.StartSnapshot(r.ctx, in("a"))
	if err != nil {
		t.Fatal(err)
	}
	r.complete(*first.SnapshotId, 0, "")
	again, err := r.ebs.StartSnapshot(r.ctx, in("a"))
	if err != nil {
		t.Fatal(err)
	}
	if *again.SnapshotId != *first.SnapshotId || again.Status != "pending" || !again.StartTime.Equal(*first.StartTime) {
		t.Errorf("replay answered %+v, want the first answer %+v", again, first)
	}
	_, err = r.ebs.StartSnapshot(r.ctx, in("b"))
	r.wantError(err, "ConflictException", 409)
	if n := len(r.e.Snapshots()); n != 1 {
		t.Errorf("%d snapshots, want 1", n)
	}
}

func TestEncryptionOfDrafts(t *testing.T) {
	r := newRig(t, aws.Options{})
	plain := r.snapshot(ebs.StartSnapshotInput{}, nil)
	locked := r.snapshot(ebs.StartSnapshotInput{KmsKeyArn: awssdk.String(otherKey)}, nil)
	child := r.start(ebs.StartSnapshotInput{ParentSnapshotId: &locked})
	r.e.SetEncryptionByDefault(true)
	byDefault := r.start(ebs.StartSnapshotInput{})
	explicit := r.start(ebs.StartSnapshotInput{Encrypted: awssdk.Bool(false)})
	_, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1), ParentSnapshotId: &plain})
	r.wantReason(err, "INVALID_PARAMETER_VALUE")
	got := map[string]string{}
	for _, s := range r.e.Snapshots() {
		got[s.ID] = fmt.Sprint(s.Encrypted, " ", s.KMSKey)
	}
	key, err := r.ec2.GetEbsDefaultKmsKeyId(r.ctx, &ec2.GetEbsDefaultKmsKeyIdInput{})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		plain: "false ", locked: "true " + otherKey, child: "true " + otherKey,
		byDefault: "true " + *key.KmsKeyId, explicit: "true " + *key.KmsKeyId,
	} {
		if got[id] != want {
			t.Errorf("snapshot %s is %q, want %q", id, got[id], want)
		}
	}
}

func TestPendingLimit(t *testing.T) {
	r := newRig(t, aws.Options{MaxPending: 2})
	first := r.start(ebs.StartSnapshotInput{})
	r.start(ebs.StartSnapshotInput{})
	start := func() error {
		_, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1)})
		return err
	}
	err := start()
	r.wantError(err, "ServiceQuotaExceededException", 402)
	var q *ebstypes.ServiceQuotaExceededException
	if !errors.As(err, &q) || q.Reason != "DEPENDENCY_SERVICE_QUOTA_EXCEEDED" {
		t.Errorf("got %v", err)
	}
	r.complete(first, 0, "")
	if err := start(); err != nil {
		t.Errorf("start after one completed: %v", err)
	}
}

func TestDraftTimesOutUnlessPut(t *testing.T) {
	c := newClock()
	r := newRig(t, aws.Options{Now: c.now})
	id := r.start(ebs.StartSnapshotInput{Timeout: awssdk.Int32(10)})
	b := random()
	for range 3 {
		c.advance(9 * time.Minute)
		r.put(id, 0, b)
	}
	if s, _ := r.state(id); s != "pending" {
		t.Fatalf("state %s while puts re-arm the timer", s)
	}
	c.advance(10 * time.Minute)
	if s, m := r.state(id); s != "error" || m != "Snapshot timed out" {
		t.Errorf("state %s (%q) after the timeout", s, m)
	}
	r.wantError(r.tryPut(id, 1, b), "ResourceNotFoundException", 404)
	if s := r.complete(id, 1, ""); s != "error" {
		t.Errorf("complete answers %q after the timeout", s)
	}
	_, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1), ParentSnapshotId: &id})
	r.wantError(err, "ResourceNotFoundException", 404)
	if n := r.e.Snapshots()[0].Blocks; n != 0 {
		t.Errorf("%d blocks survived the timeout", n)
	}
}

func TestPropagationWindow(t *testing.T) {
	c := newClock()
	r := newRig(t, aws.Options{Now: c.now, PropagationDelay: 2 * time.Minute})
	id := r.start(ebs.StartSnapshotInput{})
	var saw []bool
	for range 6 {
		err := r.tryPut(id, 0, random())
		saw = append(saw, err == nil)
		if err != nil {
			r.wantError(err, "ResourceNotFoundException", 404)
		}
	}
	if got := fmt.Sprint(saw); got != "[false false true false false true]" {
		t.Errorf("puts succeeded %s", got)
	}
	c.advance(2 * time.Minute)
	r.put(id, 1, random())
	r.put(id, 2, random())
	r.complete(id, 3, "")
	if s, _ := r.state(id); s != "completed" {
		t.Fatalf("state %s", s)
	}
	_, err := r.ebs.ListSnapshotBlocks(r.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	r.wantError(err, "ResourceNotFoundException", 404)
	c.advance(2 * time.Minute)
	if got, _ := r.list(id); len(got) != 3 {
		t.Errorf("listed %v", got)
	}
}
