package aws_test

import (
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"snapferry/test/aws"
)

// The linear checksum of no blocks, as documented by the facts.
const emptyLinear = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

func TestCompleteAnswersFirstAndFailsLater(t *testing.T) {
	c := newClock()
	r := newRig(t, aws.Options{Now: c.now, CompletionDelay: 10 * time.Second, LateErrorDelay: time.Minute})
	b := random()
	for name, k := range map[string]struct {
		blocks  int
		count   int
		sum     string
		state   string
		message string
	}{
		"right":             {2, 2, linear(map[int][]byte{0: b, 1: b}), "completed", ""},
		"right, no sum":     {2, 2, "", "completed", ""},
		"empty":             {0, 0, emptyLinear, "completed", ""},
		"count too high":    {1, 2, "", "error", "Changed blocks count mismatch for snapshot"},
		"count too low":     {2, 1, "", "error", "Changed blocks count mismatch for snapshot"},
		"wrong sum":         {1, 1, emptyLinear, "error", "Checksum mismatch for snapshot"},
		"digest, no linear": {1, 1, digest(b), "error", "Checksum mismatch for snapshot"},
	} {
		id := r.start(ebs.StartSnapshotInput{})
		for i := range k.blocks {
			r.put(id, i, b)
		}
		if s := r.complete(id, k.count, k.sum); s != "pending" {
			t.Errorf("%s: complete answered %s", name, s)
		}
		c.advance(9 * time.Second)
		if s, _ := r.state(id); s != "pending" {
			t.Errorf("%s: state %s before the delay", name, s)
		}
		c.advance(time.Minute)
		if s, m := r.state(id); s != k.state || m != k.message {
			t.Errorf("%s: state %s (%q), want %s (%q)", name, s, m, k.state, k.message)
		}
		// Idempotent, whatever the count now says.
		if s := r.complete(id, 77, ""); string(s) != k.state {
			t.Errorf("%s: complete again answered %s", name, s)
		}
	}
}

func TestCompleteRejectsHalfAChecksum(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.start(ebs.StartSnapshotInput{})
	sum := awssdk.String(emptyLinear)
	for name, in := range map[string]ebs.CompleteSnapshotInput{
		"sum alone":      {Checksum: sum},
		"no method":      {Checksum: sum, ChecksumAlgorithm: "SHA256"},
		"no algorithm":   {Checksum: sum, ChecksumAggregationMethod: "LINEAR"},
		"no sum":         {ChecksumAlgorithm: "SHA256", ChecksumAggregationMethod: "LINEAR"},
		"bad method":     {Checksum: sum, ChecksumAlgorithm: "SHA256", ChecksumAggregationMethod: "TREE"},
		"bad algorithm":  {Checksum: sum, ChecksumAlgorithm: "MD5", ChecksumAggregationMethod: "LINEAR"},
		"negative count": {ChangedBlocksCount: awssdk.Int32(-1)},
	} {
		in.SnapshotId = &id
		if in.ChangedBlocksCount == nil {
			in.ChangedBlocksCount = awssdk.Int32(0)
		}
		_, err := r.ebs.CompleteSnapshot(r.ctx, &in)
		if c, s := code(err); c != "ValidationException" || s != 400 {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if s, _ := r.state(id); s != "pending" {
		t.Errorf("state %s after refused completes", s)
	}
	gone := "snap-0dead"
	_, err := r.ebs.CompleteSnapshot(r.ctx, &ebs.CompleteSnapshotInput{SnapshotId: &gone, ChangedBlocksCount: awssdk.Int32(0)})
	r.wantError(err, "ResourceNotFoundException", 404)
}

func TestPendingCannotBeRead(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.start(ebs.StartSnapshotInput{})
	r.put(id, 0, random())
	_, err := r.ebs.ListSnapshotBlocks(r.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	r.wantError(err, "ResourceNotFoundException", 404)
	var nf *ebstypes.ResourceNotFoundException
	if !asError(err, &nf) || nf.Reason != "SNAPSHOT_NOT_FOUND" {
		t.Errorf("got %v", err)
	}
	_, _, err = r.tryGet(id, 0, "invalid")
	r.wantError(err, "ResourceNotFoundException", 404)
	if _, _, err := r.e.Image(id); err == nil {
		t.Error("Image of a pending snapshot")
	}
}
