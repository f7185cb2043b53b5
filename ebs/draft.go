package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// draft is a pending snapshot.
type draft struct {
	s      *Store
	id     transfer.SnapshotID
	blocks int64     // of the volume
	known  time.Time // until then a 404 means "not yet"
	pace   *pacer
	over   atomic.Bool // sealed or aborted: a 404 from now on is no "not yet"
}

var _ transfer.Draft = (*draft)(nil)

func (d *draft) ID() transfer.SnapshotID { return d.id }

// Put writes one block. The digest goes into the request's header as it is: the
// pipeline has hashed the block, and once is enough.
func (d *draft) Put(ctx context.Context, index int64, block []byte, digest transfer.Digest) error {
	what := fmt.Sprintf("put block %d of snapshot %s", index, d.id)
	if len(block) != transfer.BlockSize {
		return refuse(what, "a block has %d bytes, not %d", transfer.BlockSize, len(block))
	}
	if index < 0 || index >= d.blocks {
		return refuse(what, "the volume has blocks 0 to %d", d.blocks-1)
	}
	if d.over.Load() {
		return refuse(what, "the draft is sealed or aborted")
	}
	checksum := wireDigest(digest)
	r := request{
		op: opPut, what: what, known: d.known, own: d.pace, shared: d.s.puts, gate: d.s.gate, bytes: len(block),
		recheck: func() error { return checkMemory(what, block, digest) },
	}
	return d.s.do(ctx, r, func(ctx context.Context) error {
		out, err := d.s.api.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId: aws.String(string(d.id)), BlockIndex: aws.Int32(int32(index)),
			// Without the wrapper net/http would take the reader's WriteTo, and
			// a race in that loses 5-8 % of the connections.
			BlockData:  struct{ io.ReadSeeker }{bytes.NewReader(block)},
			DataLength: aws.Int32(transfer.BlockSize),
			Checksum:   aws.String(checksum), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
			// Blocks go up in order, so that the place is the progress.
			Progress: aws.Int32(int32(index * 100 / d.blocks)),
		})
		if err == nil && out.Checksum != nil && *out.Checksum != checksum {
			return fmt.Errorf("AWS acknowledged other bytes: %w", errCorruptBlock)
		}
		return err
	})
}

// checkMemory tells damage on the way from damage here, in the buffer or in the
// digest: sending those bytes again would only be refused again.
func checkMemory(what string, block []byte, digest transfer.Digest) error {
	if transfer.Digest(sha256.Sum256(block)) == digest {
		return nil
	}
	return transfer.Fail(transfer.Permanent, what, errors.New("the block in memory does not match the digest that was taken of it"),
		"this machine's memory may be faulty: check it before trusting anything that it copied")
}

// Seal tags and completes the draft, then waits until EC2 calls it completed.
// The tags go first: a crash right after completion must lose nothing.
func (d *draft) Seal(ctx context.Context, seal transfer.Seal) error {
	what := sealing(d.id)
	if seal.Blocks < 0 || seal.Blocks > d.blocks {
		return refuse(what, "%d blocks cannot have been written to a volume of %d", seal.Blocks, d.blocks)
	}
	if d.over.Load() {
		return refuse(what, "the draft is sealed or aborted")
	}
	tags, err := newTags(seal)
	if err != nil {
		return refuse(what, "%w", err)
	}
	if err := d.s.tag(ctx, what, d.id, d.known, tags); err != nil {
		return err
	}
	r := request{op: opComplete, what: what, known: d.known, shared: d.s.completes}
	err = d.s.do(ctx, r, func(ctx context.Context) error {
		_, err := d.s.api.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
			SnapshotId: aws.String(string(d.id)), ChangedBlocksCount: aws.Int32(int32(seal.Blocks)),
			Checksum:                  aws.String(wireDigest(seal.Checksum)),
			ChecksumAlgorithm:         types.ChecksumAlgorithmChecksumAlgorithmSha256,
			ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear,
		})
		return err
	})
	if err != nil {
		return err
	}
	d.over.Store(true)
	return d.s.watcher.wait(ctx, d.id)
}

// newTags are the tags that a seal writes: what only it knows, and the label of
// the cycle that seals where another one started the draft.
func newTags(seal transfer.Seal) (map[string]string, error) {
	tags := map[string]string{}
	if seal.Label != nil {
		var err error
		if tags, err = encodeLabel(*seal.Label, nil); err != nil {
			return nil, err
		}
	}
	maps.Copy(tags, sealTags(seal))
	return tags, nil
}

// Abort deletes the draft, if EC2 says that it is one still.
func (d *draft) Abort(ctx context.Context) error {
	what := fmt.Sprintf("abort snapshot %s", d.id)
	found, err := d.find(ctx, what)
	if err != nil {
		return err
	}
	d.over.Store(true)
	if found == nil {
		return nil
	}
	switch transfer.State(found.State) {
	case transfer.Pending, transfer.Failed:
		return d.s.deleteOurs(ctx, what, found)
	}
	return refuse(what, "EC2 calls it %s, and only drafts are aborted", found.State)
}

// find describes the draft; nil if it is gone. EC2 hears of a new snapshot some
// seconds after EBS has made it, so that a young one is asked for again.
func (d *draft) find(ctx context.Context, what string) (*ec2types.Snapshot, error) {
	const looks = 3
	for n := 1; ; n++ {
		found, err := d.s.describeOne(ctx, what, d.id)
		if err != nil || found != nil || n == looks || time.Now().After(d.known) {
			return found, err
		}
		if sleep(ctx, d.s.cfg.Timing.PollFirst) != nil {
			return nil, canceled(ctx, what)
		}
	}
}

// failedSnapshot is EC2's late "error": the 202 came long before.
func failedSnapshot(id transfer.SnapshotID, message string) error {
	kind, hint := transfer.Retry, "the next cycle writes the disk's blocks to a new snapshot"
	lower := strings.ToLower(message)
	switch {
	case strings.Contains(lower, "key"), strings.Contains(lower, "kms"):
		kind, hint = transfer.Permanent, hintKMS
	case strings.Contains(lower, "timed out"), strings.Contains(lower, "timeout"):
		hint = "nothing was written for too long; the next cycle starts anew"
	case strings.Contains(lower, "checksum"), strings.Contains(lower, "mismatch"):
		hint = "what AWS holds is not what was sent (or another process wrote to the draft); the next cycle starts anew"
	}
	if message == "" {
		message = "no reason given"
	}
	return transfer.Fail(kind, sealing(id), fmt.Errorf("%w: %s", transfer.ErrDraftFailed, cut(printable(message), maxValue)), hint)
}
