package aws_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"snapferry/test/aws"
)

func asError[T error](err error, target *T) bool { return errors.As(err, target) }

// zeros makes a set of blocks that cost no memory.
func zeros(indexes ...int) map[int][]byte {
	z := make([]byte, blockSize)
	out := map[int][]byte{}
	for _, i := range indexes {
		out[i] = z
	}
	return out
}

func span(from, to int) []int {
	var out []int
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func TestListPages(t *testing.T) {
	for _, odd := range []bool{false, true} {
		r := newRig(t, aws.Options{OddPages: odd})
		want := append(span(0, 250), 2047)
		id := r.snapshot(ebs.StartSnapshotInput{}, zeros(want...))
		if got, _ := r.list(id); !slices.Equal(got, want) {
			t.Errorf("odd pages %v: listed %v", odd, got)
		}
		if pages := r.e.Calls()["ListSnapshotBlocks"]; odd && pages <= 3 {
			t.Errorf("odd pages took only %d calls", pages)
		}
	}
}

func TestListParameters(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.snapshot(ebs.StartSnapshotInput{}, zeros(0, 3, 7, 2047))
	for name, c := range map[string]struct {
		in     ebs.ListSnapshotBlocksInput
		want   []int32
		reject string
	}{
		"inclusive start":    {ebs.ListSnapshotBlocksInput{StartingBlockIndex: awssdk.Int32(3)}, []int32{3, 7, 2047}, ""},
		"start in a gap":     {ebs.ListSnapshotBlocksInput{StartingBlockIndex: awssdk.Int32(8)}, []int32{2047}, ""},
		"start past the end": {ebs.ListSnapshotBlocksInput{StartingBlockIndex: awssdk.Int32(2048)}, nil, ""},
		"99 results":         {ebs.ListSnapshotBlocksInput{MaxResults: awssdk.Int32(99)}, nil, "model"},
		"10001 results":      {ebs.ListSnapshotBlocksInput{MaxResults: awssdk.Int32(10001)}, nil, "model"},
		"negative start":     {ebs.ListSnapshotBlocksInput{StartingBlockIndex: awssdk.Int32(-1)}, nil, "model"},
		"bad page token":     {ebs.ListSnapshotBlocksInput{NextToken: awssdk.String("invalid")}, nil, "INVALID_PAGE_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, ebs: r.ebs, ctx: t.Context()}
			c.in.SnapshotId = &id
			out, err := r.ebs.ListSnapshotBlocks(r.ctx, &c.in)
			switch c.reject {
			case "":
				if err != nil {
					t.Fatal(err)
				}
				var got []int32
				for _, b := range out.Blocks {
					got = append(got, *b.BlockIndex)
				}
				if !slices.Equal(got, c.want) || *out.VolumeSize != 1 || *out.BlockSize != blockSize {
					t.Errorf("listed %v of %d GiB, want %v", got, *out.VolumeSize, c.want)
				}
			case "model":
				r.wantReason(err, "")
			default:
				r.wantReason(err, "INVALID_PAGE_TOKEN")
			}
		})
	}
}

func TestChildrenInheritAndOutliveTheirParents(t *testing.T) {
	r := newRig(t, aws.Options{Dir: t.TempDir()})
	a, b, c := random(), random(), random()
	root := r.snapshot(ebs.StartSnapshotInput{}, map[int][]byte{0: a, 5: b, 9: c})
	child := r.snapshot(ebs.StartSnapshotInput{ParentSnapshotId: &root, VolumeSize: awssdk.Int64(2)}, map[int][]byte{5: b, 0: make([]byte, blockSize), 4000: a})
	grandchild := r.snapshot(ebs.StartSnapshotInput{ParentSnapshotId: &child, VolumeSize: awssdk.Int64(2)}, nil)
	if got, _ := r.list(grandchild); !slices.Equal(got, []int{0, 5, 9, 4000}) {
		t.Errorf("grandchild lists %v", got)
	}
	changed := r.changed(root, child)
	// 5 was rewritten with the same bytes, and counts.
	if got := fmt.Sprint(changed); got != "map[0:both 5:both 4000:second]" {
		t.Errorf("changed blocks %s", got)
	}
	if got := r.changed(child, grandchild); len(got) != 0 {
		t.Errorf("an empty delta changed %v", got)
	}
	for _, id := range []string{root, child} {
		if err := r.e.DeleteOutOfBand(id); err != nil {
			t.Fatal(err)
		}
	}
	_, tokens := r.list(grandchild)
	for i, want := range map[int][]byte{0: make([]byte, blockSize), 5: b, 9: c, 4000: a} {
		if got, _, err := r.tryGet(grandchild, i, tokens[i]); err != nil || string(got) != string(want) {
			t.Errorf("block %d reads back wrong after the parents went (%v)", i, err)
		}
	}
	_, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(2), ParentSnapshotId: &child})
	r.wantError(err, "ResourceNotFoundException", 404)
}

// changed lists what differs, with the sides that have a token.
func (r *rig) changed(first, second string) map[int]string {
	r.Helper()
	out := map[int]string{}
	in := &ebs.ListChangedBlocksInput{FirstSnapshotId: &first, SecondSnapshotId: &second}
	for {
		page, err := r.ebs.ListChangedBlocks(r.ctx, in)
		if err != nil {
			r.Fatal(err)
		}
		for _, b := range page.ChangedBlocks {
			side := "both"
			switch {
			case b.FirstBlockToken == nil:
				side = "second"
			case b.SecondBlockToken == nil:
				side = "first"
			}
			out[int(*b.BlockIndex)] = side
		}
		if page.NextToken == nil {
			return out
		}
		in.NextToken = page.NextToken
	}
}

func TestChangedBlocksWantsRelatives(t *testing.T) {
	r := newRig(t, aws.Options{})
	a, b := r.snapshot(ebs.StartSnapshotInput{}, nil), r.snapshot(ebs.StartSnapshotInput{}, nil)
	_, err := r.ebs.ListChangedBlocks(r.ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: &a, SecondSnapshotId: &b})
	r.wantReason(err, "UNRELATED_SNAPSHOTS")
	_, err = r.ebs.ListChangedBlocks(r.ctx, &ebs.ListChangedBlocksInput{SecondSnapshotId: &b})
	r.wantReason(err, "INVALID_SNAPSHOT_ID")
}

// Captured: nothing changed takes two pages, and the second has no sizes.
func TestNothingChangedTakesTwoPages(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.snapshot(ebs.StartSnapshotInput{}, zeros(1))
	first, err := r.ebs.ListChangedBlocks(r.ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: &id, SecondSnapshotId: &id})
	if err != nil || len(first.ChangedBlocks) != 0 || first.NextToken == nil || *first.VolumeSize != 1 {
		t.Fatalf("first page %+v, %v", first, err)
	}
	second, err := r.ebs.ListChangedBlocks(r.ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: &id, SecondSnapshotId: &id, NextToken: first.NextToken})
	if err != nil || len(second.ChangedBlocks) != 0 || second.NextToken != nil || second.VolumeSize != nil || second.BlockSize != nil || second.ExpiryTime != nil {
		t.Errorf("second page %+v, %v", second, err)
	}
}

func TestTokensAreGoodForOneThing(t *testing.T) {
	c := newClock()
	r := newRig(t, aws.Options{Now: c.now})
	blocks := zeros(span(0, 150)...)
	id, other := r.snapshot(ebs.StartSnapshotInput{}, blocks), r.snapshot(ebs.StartSnapshotInput{}, blocks)
	_, tokens := r.list(id)
	_, _, err := r.tryGet(id, 1, tokens[0])
	r.wantReason(err, "INVALID_BLOCK_TOKEN")
	_, _, err = r.tryGet(other, 0, tokens[0])
	r.wantReason(err, "INVALID_BLOCK_TOKEN")
	_, _, err = r.tryGet(id, 0, "")
	r.wantReason(err, "")

	page, err := r.ebs.ListSnapshotBlocks(r.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id, MaxResults: awssdk.Int32(100)})
	if err != nil || page.NextToken == nil {
		t.Fatalf("first page: %v, %v", page, err)
	}
	next := func(of string) error {
		_, err := r.ebs.ListSnapshotBlocks(r.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &of, NextToken: page.NextToken})
		return err
	}
	r.wantReason(next(other), "INVALID_PAGE_TOKEN")
	c.advance(61 * time.Minute)
	r.wantReason(next(id), "INVALID_PAGE_TOKEN")
	if _, _, err := r.tryGet(id, 0, tokens[0]); err != nil {
		t.Errorf("block token after an hour: %v", err)
	}
	c.advance(7 * 24 * time.Hour)
	_, _, err = r.tryGet(id, 0, tokens[0])
	r.wantReason(err, "INVALID_BLOCK_TOKEN")
}
