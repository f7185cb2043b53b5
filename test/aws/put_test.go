package aws_test

import (
	"sync"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"snapferry/test/aws"
)

func TestPutRejectsWhatAWSRejects(t *testing.T) {
	r := newRig(t, aws.Options{})
	id, b := r.start(ebs.StartSnapshotInput{}), random()
	sealed := r.snapshot(ebs.StartSnapshotInput{}, nil)
	for name, c := range map[string]struct {
		change func(*ebs.PutSnapshotBlockInput)
		code   string
		status int
		reason ebstypes.ValidationExceptionReason
	}{
		"beyond the volume": {func(in *ebs.PutSnapshotBlockInput) { in.BlockIndex = awssdk.Int32(2048) }, "ValidationException", 400, "INVALID_BLOCK"},
		"negative index":    {func(in *ebs.PutSnapshotBlockInput) { in.BlockIndex = awssdk.Int32(-1) }, "ValidationException", 400, ""},
		"short body":        {func(in *ebs.PutSnapshotBlockInput) { in.BlockData = body(b[:5]) }, "ValidationException", 400, "INVALID_PARAMETER_VALUE"},
		"long body":         {func(in *ebs.PutSnapshotBlockInput) { in.BlockData = body(append(b, 0)) }, "ValidationException", 400, "INVALID_PARAMETER_VALUE"},
		"wrong length":      {func(in *ebs.PutSnapshotBlockInput) { in.DataLength = awssdk.Int32(1) }, "ValidationException", 400, "INVALID_BLOCK"},
		"wrong algorithm":   {func(in *ebs.PutSnapshotBlockInput) { in.ChecksumAlgorithm = "SHA1" }, "ValidationException", 400, "INVALID_PARAMETER_VALUE"},
		"no base64":         {func(in *ebs.PutSnapshotBlockInput) { in.Checksum = awssdk.String("not-base64!") }, "ValidationException", 400, ""},
		"wrong checksum":    {func(in *ebs.PutSnapshotBlockInput) { in.Checksum = awssdk.String(digest(b[:9])) }, "InvalidSignatureException", 403, ""},
		"progress over 100": {func(in *ebs.PutSnapshotBlockInput) { in.Progress = awssdk.Int32(101) }, "ValidationException", 400, ""},
		"unknown snapshot":  {func(in *ebs.PutSnapshotBlockInput) { in.SnapshotId = awssdk.String("snap-0abc") }, "ResourceNotFoundException", 404, ""},
		"malformed ID":      {func(in *ebs.PutSnapshotBlockInput) { in.SnapshotId = awssdk.String("snap-xyz") }, "ValidationException", 400, ""},
		"sealed snapshot":   {func(in *ebs.PutSnapshotBlockInput) { in.SnapshotId = &sealed }, "ValidationException", 400, "INVALID_SNAPSHOT_ID"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, ebs: r.ebs, ctx: t.Context()}
			in := putInput(id, 9, b)
			c.change(in)
			_, err := r.ebs.PutSnapshotBlock(r.ctx, in)
			r.wantError(err, c.code, c.status)
			if c.code == "ValidationException" {
				r.wantReason(err, c.reason)
			}
		})
	}
	for _, s := range r.e.Snapshots() {
		if s.Blocks != 0 {
			t.Errorf("snapshot %s has %d blocks after refused puts", s.ID, s.Blocks)
		}
	}
}

func TestPutAgainReplacesAndCountsOnce(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		r := newRig(t, aws.Options{Dir: dir})
		id, a, b := r.start(ebs.StartSnapshotInput{}), random(), random()
		r.put(id, 0, a)
		r.put(id, 0, a)
		r.put(id, 0, b)
		r.put(id, 2047, a)
		r.put(id, 7, make([]byte, blockSize))
		r.complete(id, 3, linear(map[int][]byte{0: b, 7: make([]byte, blockSize), 2047: a}))
		if s, m := r.state(id); s != "completed" {
			t.Fatalf("state %s (%s)", s, m)
		}
		_, tokens := r.list(id)
		for i, want := range map[int][]byte{0: b, 7: make([]byte, blockSize), 2047: a} {
			got, sum, err := r.tryGet(id, i, tokens[i])
			if err != nil || string(got) != string(want) || sum != digest(want) {
				t.Errorf("dir %q: block %d reads back wrong (%v)", dir, i, err)
			}
		}
	}
}

// A put that commits after the draft has ended must neither count nor harm.
func TestPutsInParallelWithCompleteAndDelete(t *testing.T) {
	r := newRig(t, aws.Options{Dir: t.TempDir()})
	for round := range 4 {
		id := r.start(ebs.StartSnapshotInput{})
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 8 {
					if c, _ := code(r.tryPut(id, w*8+i, random())); c != "" && c != "ValidationException" && c != "ResourceNotFoundException" {
						t.Errorf("put: %s", c)
					}
				}
			})
		}
		if round%2 == 0 {
			if _, err := r.ec2.DeleteSnapshot(r.ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id}); err != nil {
				t.Error(err)
			}
		} else {
			wg.Wait()
			if s := r.complete(id, 64, ""); s != "pending" {
				t.Errorf("complete answered %s", s)
			}
			if s, m := r.state(id); s != "completed" {
				t.Errorf("state %s (%s)", s, m)
			}
		}
		wg.Wait()
	}
}
