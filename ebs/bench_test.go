package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"snapferry/test/aws"
	"snapferry/transfer"
)

// BenchmarkPut compares Draft.Put with a bare loop over the same SDK client, 64
// at once against the emulator in this process, by turns, so that what else the
// machine does meets both. The goal is a ratio of 0.90.
//
//	go test ./ebs -run '^$' -bench Put
func BenchmarkPut(b *testing.B) {
	s, d := benchDraft(b)
	data := block(1)
	digest := transfer.Digest(sha256.Sum256(data))
	checksum := wireDigest(digest)
	draft := func(ctx context.Context, index int64) error { return d.Put(ctx, index, data, digest) }
	bare := func(ctx context.Context, index int64) error {
		_, err := s.api.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId: sdk.String(string(d.ID())), BlockIndex: sdk.Int32(int32(index)),
			BlockData: struct{ io.ReadSeeker }{bytes.NewReader(data)}, DataLength: sdk.Int32(transfer.BlockSize),
			Checksum: sdk.String(checksum), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		return err
	}
	const turn = 1024
	putAll(b, turn, draft) // connections and memory are there from now on
	var byDraft, byBare time.Duration
	for n := 0; b.Loop(); n++ {
		if n%2 == 0 { // who goes first alternates too
			byDraft += putAll(b, turn, draft)
			byBare += putAll(b, turn, bare)
		} else {
			byBare += putAll(b, turn, bare)
			byDraft += putAll(b, turn, draft)
		}
	}
	rate := func(d time.Duration) float64 { return float64(b.N) * turn * transfer.BlockSize / 1e6 / d.Seconds() }
	b.ReportMetric(rate(byDraft), "draft-MB/s")
	b.ReportMetric(rate(byBare), "bare-MB/s")
	b.ReportMetric(byBare.Seconds()/byDraft.Seconds(), "ratio")
}

func benchDraft(b *testing.B) (*Store, transfer.Draft) {
	e, err := aws.New(aws.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	for _, kv := range e.Env() {
		k, v, _ := strings.Cut(kv, "=")
		b.Setenv(k, v)
	}
	s, err := Open(b.Context(), Config{PutsPerSecondPerSnapshot: -1, PutsPerSecondPerAccount: -1})
	if err != nil {
		b.Fatal(err)
	}
	d, err := s.Start(b.Context(), transfer.DraftSpec{Token: "bench", Label: label(), VolumeGiB: 1})
	if err != nil {
		b.Fatal(err)
	}
	return s, d
}

// putAll puts blocks 0 to n-1, 64 at once, and says how long it took.
func putAll(b *testing.B, n int64, put func(context.Context, int64) error) time.Duration {
	began := time.Now()
	var next atomic.Int64
	var group sync.WaitGroup
	for range defaultInFlight {
		group.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				if err := put(b.Context(), i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(began)
}
