package ebs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	smithy "github.com/aws/smithy-go"

	"snapferry/transfer"
)

const (
	// listPage is the largest page: 5 GiB of a full volume a call.
	listPage = 10_000
	// smallPage is the smallest that AWS takes, for one block's new token.
	smallPage = 100
	// maxEmptyPages in a row: AWS may answer pages without blocks, but an
	// endless row of them is a fault and would never end.
	maxEmptyPages = 1000
)

// snapshotReader reads one completed snapshot.
type snapshotReader struct {
	s      *Store
	id     transfer.SnapshotID
	blocks int64
	known  time.Time // until then a 404 means "not yet"
	pace   *pacer
}

var _ transfer.SnapshotReader = (*snapshotReader)(nil)

// Read opens a completed snapshot for reading back.
func (s *Store) Read(ctx context.Context, id transfer.SnapshotID) (transfer.SnapshotReader, error) {
	what := fmt.Sprintf("read snapshot %s", id)
	found, err := s.describeOne(ctx, what, id)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, transfer.Fail(transfer.Permanent, what, fmt.Errorf("it is not among this account's snapshots of region %s", s.api.region),
			"check account and region; `snapferry points` lists what there is")
	case transfer.State(found.State) != transfer.Completed:
		return nil, refuse(what, "EC2 calls it %s; only completed snapshots can be read", found.State)
	}
	return &snapshotReader{
		s: s, id: id, blocks: int64(aws.ToInt32(found.VolumeSize)) * transfer.BlocksPerGiB,
		// EC2 has just listed it: a 404 now is EBS that has not heard yet.
		known: time.Now().Add(s.cfg.Timing.NotYet), pace: newPacer(s.cfg.GetsPerSecondPerSnapshot),
	}, nil
}

// Blocks yields every present block, ascending.
func (r *snapshotReader) Blocks(ctx context.Context, yield func(index int64, token string) error) error {
	what := fmt.Sprintf("list the blocks of snapshot %s", r.id)
	in := &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(string(r.id)), MaxResults: aws.Int32(listPage)}
	last, empty := int64(-1), 0
	for {
		out, err := r.page(ctx, what, in)
		if isTokenError(err, types.ValidationExceptionReasonInvalidPageToken) && in.NextToken != nil {
			// Page tokens live an hour, and yield may take longer.
			in.NextToken, in.StartingBlockIndex = nil, aws.Int32(int32(last+1))
			continue
		}
		if err != nil {
			return err
		}
		for _, b := range out.Blocks {
			index := int64(aws.ToInt32(b.BlockIndex))
			if index <= last || index >= r.blocks || b.BlockIndex == nil || aws.ToString(b.BlockToken) == "" {
				return refuse(what, "AWS listed block %d after %d of %d, which cannot be", index, last, r.blocks)
			}
			last = index
			if err := yield(index, *b.BlockToken); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		if empty++; len(out.Blocks) > 0 {
			empty = 0
		}
		if empty >= maxEmptyPages {
			return refuse(what, "AWS answered %d pages without a block", empty)
		}
		in.NextToken, in.StartingBlockIndex = out.NextToken, nil
	}
}

// page is one page of blocks, its sizes checked.
func (r *snapshotReader) page(ctx context.Context, what string, in *ebs.ListSnapshotBlocksInput) (*ebs.ListSnapshotBlocksOutput, error) {
	var out *ebs.ListSnapshotBlocksOutput
	req := request{op: opList, what: what, known: r.known, shared: r.s.lists}
	err := r.s.do(ctx, req, func(ctx context.Context) (err error) {
		out, err = r.s.api.ebs.ListSnapshotBlocks(ctx, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	if n := aws.ToInt32(out.BlockSize); n != transfer.BlockSize {
		return nil, refuse(what, "AWS has blocks of %d bytes, not %d", n, transfer.BlockSize)
	}
	if n := aws.ToInt64(out.VolumeSize) * transfer.BlocksPerGiB; n != r.blocks {
		return nil, refuse(what, "AWS lists a volume of %d blocks, EC2 one of %d", n, r.blocks)
	}
	return out, nil
}

// Get fills buf with one block and returns its digest, checked against AWS's.
// A block token that has expired is replaced once.
func (r *snapshotReader) Get(ctx context.Context, index int64, token string, buf []byte) (transfer.Digest, error) {
	what := fmt.Sprintf("get block %d of snapshot %s", index, r.id)
	if len(buf) != transfer.BlockSize {
		return transfer.Digest{}, refuse(what, "the buffer has %d bytes, not %d", len(buf), transfer.BlockSize)
	}
	if index < 0 || index >= r.blocks {
		return transfer.Digest{}, refuse(what, "the volume has blocks 0 to %d", r.blocks-1)
	}
	digest, err := r.get(ctx, what, index, token, buf)
	if !isTokenError(err, types.ValidationExceptionReasonInvalidBlockToken) {
		return digest, err
	}
	fresh, ferr := r.freshToken(ctx, what, index)
	if ferr != nil {
		return transfer.Digest{}, errors.Join(err, ferr)
	}
	return r.get(ctx, what, index, fresh, buf)
}

func (r *snapshotReader) get(ctx context.Context, what string, index int64, token string, buf []byte) (transfer.Digest, error) {
	var digest transfer.Digest
	req := request{op: opGet, what: what, known: r.known, own: r.pace, shared: r.s.gets, bytes: len(buf)}
	err := r.s.do(ctx, req, func(ctx context.Context) error {
		out, err := r.s.api.ebs.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
			SnapshotId: aws.String(string(r.id)), BlockIndex: aws.Int32(int32(index)), BlockToken: aws.String(token),
		})
		if err != nil {
			return err
		}
		digest, err = readBlock(out, buf)
		return err
	})
	return digest, err
}

// readBlock takes the body of an answer and proves it.
func readBlock(out *ebs.GetSnapshotBlockOutput, buf []byte) (digest transfer.Digest, err error) {
	defer func() { err = errors.Join(err, out.BlockData.Close()) }()
	if n := aws.ToInt32(out.DataLength); n != transfer.BlockSize {
		return digest, fmt.Errorf("AWS says %d bytes: %w", n, errTruncatedBlock)
	}
	if _, err := io.ReadFull(out.BlockData, buf); err != nil {
		return digest, fmt.Errorf("read the block: %w", err)
	}
	var more [1]byte
	if n, err := io.ReadFull(out.BlockData, more[:]); n != 0 || !errors.Is(err, io.EOF) {
		return digest, fmt.Errorf("bytes follow the block: %w", errTruncatedBlock)
	}
	if out.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 {
		return digest, fmt.Errorf("AWS sent a %q checksum, not SHA256", out.ChecksumAlgorithm)
	}
	want, err := parseWireDigest(aws.ToString(out.Checksum))
	if err != nil {
		return digest, fmt.Errorf("read the block's checksum: %w", err)
	}
	digest = sha256.Sum256(buf)
	if digest != want {
		return digest, fmt.Errorf("digest %s instead of %s: %w", digest, want, errCorruptBlock)
	}
	return digest, nil
}

// freshToken lists one block again for a new token: they live seven days.
func (r *snapshotReader) freshToken(ctx context.Context, what string, index int64) (string, error) {
	in := &ebs.ListSnapshotBlocksInput{
		SnapshotId: aws.String(string(r.id)), MaxResults: aws.Int32(smallPage), StartingBlockIndex: aws.Int32(int32(index)),
	}
	for range maxEmptyPages {
		out, err := r.page(ctx, what, in)
		if err != nil {
			return "", err
		}
		if len(out.Blocks) > 0 {
			if b := out.Blocks[0]; int64(aws.ToInt32(b.BlockIndex)) == index {
				return aws.ToString(b.BlockToken), nil
			}
			break
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		in.NextToken, in.StartingBlockIndex = out.NextToken, nil
	}
	return "", refuse(what, "the snapshot does not list the block any more")
}

func isTokenError(err error, reason types.ValidationExceptionReason) bool {
	return err != nil && types.ValidationExceptionReason(reasonOf(err)) == reason
}

// isMissing: EC2 does not know the snapshot.
func isMissing(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && codeClasses[api.ErrorCode()] == missingCode
}
