package aws_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"snapferry/test/aws"
)

const blockSize = 524288

// clock is the emulator's clock in tests that need to move it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is an emulator with SDK clients that never retry.
type rig struct {
	*testing.T
	e   *aws.Emulator
	ebs *ebs.Client
	ec2 *ec2.Client
	cfg awssdk.Config
	ctx context.Context
}

func newRig(t *testing.T, opt aws.Options) *rig {
	t.Helper()
	e, err := aws.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close the emulator: %v", err)
		}
	})
	r := &rig{T: t, e: e, ctx: t.Context()}
	env := map[string]string{}
	for _, kv := range e.Env() {
		if i := bytes.IndexByte([]byte(kv), '='); i > 0 {
			env[kv[:i]] = kv[i+1:]
		}
	}
	r.configure(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"], env["AWS_REGION"])
	return r
}

func (r *rig) configure(key, secret, session, region string) {
	r.cfg = awssdk.Config{
		Region:      region,
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, session),
		Retryer:     func() awssdk.Retryer { return awssdk.NopRetryer{} },
		HTTPClient:  plainBodies{awshttp.NewBuildableClient()},
	}
	r.ebs = ebs.NewFromConfig(r.cfg, func(o *ebs.Options) { o.BaseEndpoint = awssdk.String(r.e.EBSEndpoint()) })
	r.ec2 = ec2.NewFromConfig(r.cfg, func(o *ec2.Options) { o.BaseEndpoint = awssdk.String(r.e.EC2Endpoint()) })
}

// body wraps bytes so that the SDK does not use WriteTo.
func body(b []byte) io.Reader { return struct{ io.ReadSeeker }{bytes.NewReader(b)} }

func random() []byte {
	b := make([]byte, blockSize)
	_, _ = rand.Read(b)
	return b
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(s[:])
}

func (r *rig) start(in ebs.StartSnapshotInput) string {
	r.Helper()
	if in.VolumeSize == nil {
		in.VolumeSize = awssdk.Int64(1)
	}
	out, err := r.ebs.StartSnapshot(r.ctx, &in)
	if err != nil {
		r.Fatalf("start: %v", err)
	}
	return *out.SnapshotId
}

func putInput(id string, index int, data []byte) *ebs.PutSnapshotBlockInput {
	return &ebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: awssdk.Int32(int32(index)), BlockData: body(data), DataLength: awssdk.Int32(blockSize),
		Checksum: awssdk.String(digest(data)), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
}

func (r *rig) tryPut(id string, index int, data []byte) error {
	_, err := r.ebs.PutSnapshotBlock(r.ctx, putInput(id, index, data))
	return err
}

func (r *rig) put(id string, index int, data []byte) {
	r.Helper()
	if err := r.tryPut(id, index, data); err != nil {
		r.Fatalf("put block %d: %v", index, err)
	}
}

// linear is the checksum of CompleteSnapshot over the blocks by index.
func linear(blocks map[int][]byte) string {
	h := sha256.New()
	var keys []int
	for i := range blocks {
		keys = append(keys, i)
	}
	slices.Sort(keys)
	for _, i := range keys {
		s := sha256.Sum256(blocks[i])
		h.Write(s[:])
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func (r *rig) complete(id string, count int, sum string) ebstypes.Status {
	r.Helper()
	in := &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: awssdk.Int32(int32(count))}
	if sum != "" {
		in.Checksum, in.ChecksumAlgorithm, in.ChecksumAggregationMethod = &sum, "SHA256", "LINEAR"
	}
	out, err := r.ebs.CompleteSnapshot(r.ctx, in)
	if err != nil {
		r.Fatalf("complete: %v", err)
	}
	return out.Status
}

// snapshot starts, fills and completes one.
func (r *rig) snapshot(in ebs.StartSnapshotInput, blocks map[int][]byte) string {
	r.Helper()
	id := r.start(in)
	for i, b := range blocks {
		r.put(id, i, b)
	}
	r.complete(id, len(blocks), linear(blocks))
	return id
}

// list returns all blocks of a snapshot with their tokens.
func (r *rig) list(id string) (indexes []int, tokens map[int]string) {
	r.Helper()
	tokens = map[int]string{}
	in := &ebs.ListSnapshotBlocksInput{SnapshotId: &id, MaxResults: awssdk.Int32(100)}
	for {
		out, err := r.ebs.ListSnapshotBlocks(r.ctx, in)
		if err != nil {
			r.Fatalf("list: %v", err)
		}
		for _, b := range out.Blocks {
			indexes = append(indexes, int(*b.BlockIndex))
			tokens[int(*b.BlockIndex)] = *b.BlockToken
		}
		if out.NextToken == nil {
			return indexes, tokens
		}
		in.NextToken = out.NextToken
	}
}

func (r *rig) tryGet(id string, index int, token string) ([]byte, string, error) {
	out, err := r.ebs.GetSnapshotBlock(r.ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: awssdk.Int32(int32(index)), BlockToken: &token})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = out.BlockData.Close() }()
	b, err := io.ReadAll(out.BlockData)
	return b, *out.Checksum, err
}

// state is what EC2 says of a snapshot.
func (r *rig) state(id string) (state, message string) {
	r.Helper()
	out, err := r.ec2.DescribeSnapshots(r.ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		r.Fatalf("describe: %v", err)
	}
	s := out.Snapshots[0]
	return string(s.State), awssdk.ToString(s.StateMessage)
}

// code is the error code that the SDK decoded, and the HTTP status.
func code(err error) (string, int) {
	var api smithy.APIError
	var res *awshttp.ResponseError
	c, status := "", 0
	if errors.As(err, &api) {
		c = api.ErrorCode()
	}
	if errors.As(err, &res) {
		status = res.HTTPStatusCode()
	}
	return c, status
}

// wantError fails unless err has the code and status.
func (r *rig) wantError(err error, wantCode string, wantStatus int) {
	r.Helper()
	if c, s := code(err); c != wantCode || s != wantStatus {
		r.Errorf("got %q (status %d): %v; want %q (%d)", c, s, err, wantCode, wantStatus)
	}
}

// wantReason fails unless err is a ValidationException with the reason.
func (r *rig) wantReason(err error, reason ebstypes.ValidationExceptionReason) {
	r.Helper()
	var v *ebstypes.ValidationException
	if !errors.As(err, &v) || v.Reason != reason {
		r.Errorf("got %v, want a ValidationException with reason %q", err, reason)
	}
}

func statusOf(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return string(b)
}

// plainBodies hides that a request's body can write itself: with WriteTo net/http
// loses a connection now and then, while the answer is being read, and these
// clients do not retry.
type plainBodies struct{ *awshttp.BuildableClient }

// Do implements the SDK's HTTPClient.
func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.BuildableClient.Do(r)
}
