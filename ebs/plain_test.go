package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"snapferry/transfer"
)

func TestChecksumsOfTheFacts(t *testing.T) {
	empty := linearChecksum(slices.Values([]transfer.Digest(nil)))
	if got := wireDigest(empty); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("checksum of no blocks %s", got)
	}
	if got := wireDigest(transfer.ZeroDigest); got != "B4VNL+8pega6gWheZgwzLeNtXRjVRpJ9MNqtbX/aFUE=" {
		t.Errorf("digest of a zero block %s", got)
	}
	one := linearChecksum(slices.Values([]transfer.Digest{{1}, {2}}))
	if two := linearChecksum(slices.Values([]transfer.Digest{{2}, {1}})); one == two {
		t.Error("the order makes no difference")
	}
	if d, err := parseWireDigest(wireDigest(one)); err != nil || d != one {
		t.Errorf("%v, %v", d, err)
	}
	for _, bad := range []string{"", "x", base64.StdEncoding.EncodeToString([]byte("short"))} {
		if _, err := parseWireDigest(bad); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}

func TestCosts(t *testing.T) {
	const tib = 1 << 40 / transfer.BlockSize
	for got, want := range map[string]string{
		PutCost(tib).String(): "$12.58", GetCost(tib).String(): "$6.29", PutCost(0).String(): "$0.00",
		PutCost(1).String(): "< $0.01", PutCost(1_000_000).String(): "$6.00", GetCost(2000).String(): "< $0.01",
		PutCost(tib * 64).String(): "$805.31",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestRatesFollowTheRegion(t *testing.T) {
	for region, want := range map[string]float64{"us-east-1": 4750, "eu-west-1": 4750, "eu-central-1": 950} {
		c := Config{}.withDefaults(region)
		if c.PutsPerSecondPerAccount != want || c.GetsPerSecondPerAccount != want || c.PutsPerSecondPerSnapshot != 950 {
			t.Errorf("%s: %+v", region, c)
		}
	}
	c := Config{PutsPerSecondPerAccount: 300, GetsPerSecondPerSnapshot: -1, Puts: 7}.withDefaults("us-east-1")
	if c.PutsPerSecondPerAccount != 300 || c.GetsPerSecondPerSnapshot != -1 || c.Puts != 7 || c.Gets != 64 {
		t.Errorf("%+v", c)
	}
	if c.Timing.Attempt != 20*time.Second || c.Timing.Operation != 2*time.Minute || c.Timing.Headers != 12*time.Second {
		t.Errorf("%+v", c.Timing)
	}
}

func TestFiltersAreLiteral(t *testing.T) {
	if got := literal(`a*b?c\d`); got != `a\*b\?c\\d` {
		t.Errorf("%s", got)
	}
}

func TestGateServesWaitersInOrderAndWithinBounds(t *testing.T) {
	g := newGate(1, time.Hour)
	_ = g.enter(t.Context())
	entered := make(chan int, 3)
	for i := range 3 {
		go func() {
			if g.enter(t.Context()) == nil {
				entered <- i
			}
		}()
		for waiting := 0; waiting <= i; { // until this one is in the queue
			g.mu.Lock()
			waiting = len(g.waiting)
			g.mu.Unlock()
			runtime.Gosched()
		}
	}
	for i := range 3 {
		g.leave(g.begin(time.Now()), time.Now(), quick)
		if got := <-entered; got != i {
			t.Errorf("%d came in turn %d", got, i)
		}
	}
}

func TestCanceledWaiterPassesItsPlaceOn(t *testing.T) {
	g := newGate(1, time.Hour)
	_ = g.enter(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- g.enter(ctx) }()
	for n := 0; n == 0; {
		g.mu.Lock()
		n = len(g.waiting)
		g.mu.Unlock()
		runtime.Gosched()
	}
	cancel()
	if err := <-gone; err == nil {
		t.Error("a cancelled waiter got in")
	}
	g.leave(g.begin(time.Now()), time.Now(), quick)
	if err := g.enter(t.Context()); err != nil || g.held != 1 {
		t.Errorf("%v, %d held", err, g.held)
	}
}

func TestFailedSnapshotKinds(t *testing.T) {
	for message, kind := range map[string]transfer.Kind{
		"Checksum mismatch for snapshot": transfer.Retry, "Changed blocks count mismatch for snapshot": transfer.Retry,
		"Snapshot timed out": transfer.Retry, "": transfer.Retry, "Given key ID is not accessible": transfer.Permanent,
	} {
		err := failedSnapshot("snap-1", message)
		wantKind(t, err, kind, "snap-1", message)
		if transfer.HintOf(err) == "" {
			t.Errorf("%q has no hint", message)
		}
	}
}

// What the service would have to answer wrongly, and the emulator does not.
func TestStartedAsTheSpecMeans(t *testing.T) {
	id, key := "snap-1", "arn:aws:kms:x:1:key/y"
	spec := func(change func(*transfer.DraftSpec)) transfer.DraftSpec {
		s := transfer.DraftSpec{VolumeGiB: 1}
		change(&s)
		return s
	}
	size, wrong, gib, two := int32(transfer.BlockSize), int32(4096), int64(1), int64(2)
	cases := []struct {
		text string
		spec func(*transfer.DraftSpec)
		out  ebs.StartSnapshotOutput
	}{
		{"", func(*transfer.DraftSpec) {}, ebs.StartSnapshotOutput{SnapshotId: &id, BlockSize: &size, VolumeSize: &gib}},
		{"", func(*transfer.DraftSpec) {}, ebs.StartSnapshotOutput{SnapshotId: &id, KmsKeyArn: &key}},
		{"named no snapshot", func(*transfer.DraftSpec) {}, ebs.StartSnapshotOutput{}},
		{"4096", func(*transfer.DraftSpec) {}, ebs.StartSnapshotOutput{SnapshotId: &id, BlockSize: &wrong}},
		{"2 GiB", func(*transfer.DraftSpec) {}, ebs.StartSnapshotOutput{SnapshotId: &id, VolumeSize: &two}},
		{"not encrypted", func(s *transfer.DraftSpec) { s.Encrypted = true }, ebs.StartSnapshotOutput{SnapshotId: &id}},
		{"is encrypted", func(s *transfer.DraftSpec) { s.Label.ZerosAbsent = true }, ebs.StartSnapshotOutput{SnapshotId: &id, KmsKeyArn: &key}},
	}
	for _, c := range cases {
		err := checkStarted(spec(c.spec), &c.out)
		if (err == nil) != (c.text == "") || (err != nil && !strings.Contains(err.Error(), c.text)) {
			t.Errorf("want %q: %v", c.text, err)
		}
	}
}

func TestBlocksThatAreNotWhatTheySay(t *testing.T) {
	data := block(1)
	sum, other, short := wireDigest(sha256.Sum256(data)), wireDigest(transfer.ZeroDigest), int32(4096)
	size := int32(transfer.BlockSize)
	good := func() *ebs.GetSnapshotBlockOutput {
		return &ebs.GetSnapshotBlockOutput{BlockData: io.NopCloser(bytes.NewReader(data)), Checksum: &sum, ChecksumAlgorithm: "SHA256", DataLength: &size}
	}
	cases := map[string]struct {
		change func(*ebs.GetSnapshotBlockOutput)
		is     error
	}{
		"length":    {func(o *ebs.GetSnapshotBlockOutput) { o.DataLength = &short }, errTruncatedBlock},
		"cut":       {func(o *ebs.GetSnapshotBlockOutput) { o.BlockData = io.NopCloser(bytes.NewReader(data[:9])) }, io.ErrUnexpectedEOF},
		"more":      {func(o *ebs.GetSnapshotBlockOutput) { o.BlockData = io.NopCloser(bytes.NewReader(append(data, 1))) }, errTruncatedBlock},
		"checksum":  {func(o *ebs.GetSnapshotBlockOutput) { o.Checksum = &other }, errCorruptBlock},
		"none":      {func(o *ebs.GetSnapshotBlockOutput) { o.Checksum = nil }, nil},
		"algorithm": {func(o *ebs.GetSnapshotBlockOutput) { o.ChecksumAlgorithm = "MD5" }, nil},
	}
	buf := make([]byte, transfer.BlockSize)
	if d, err := readBlock(good(), buf); err != nil || d != sha256.Sum256(data) {
		t.Fatalf("%v, %v", d, err)
	}
	for name, c := range cases {
		out := good()
		c.change(out)
		if _, err := readBlock(out, buf); err == nil || (c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
