package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	sdkaws "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	sdkebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"snapferry/ebs"
	"snapferry/test/aws"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

const (
	diskBlocks = 512 // 256 MiB: long enough for a steady rate, short enough to repeat
	inFlight   = 32
)

func emulator(b *testing.B) *aws.Emulator {
	b.Helper()
	e, err := aws.New(aws.Options{Dir: b.TempDir(), MaxPending: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	for _, kv := range e.Env() {
		k, v, _ := strings.Cut(kv, "=")
		b.Setenv(k, v)
	}
	return e
}

// fileSource is a VM whose one frozen disk is a file.
type fileSource struct {
	file *os.File
	disk transfer.Disk
	n    int
}

func (s *fileSource) Inspect(context.Context) (transfer.VM, error) {
	return transfer.VM{ID: transfer.VMID{VCenter: "bench", Moref: "vm-1"}, Name: "bench", CBT: true, Disks: []transfer.Disk{s.disk}}, nil
}

func (s *fileSource) Freeze(ctx context.Context, f transfer.FreezeSpec) (transfer.Frozen, error) {
	vm, _ := s.Inspect(ctx)
	s.n++
	return &frozen{s, transfer.FrozenVM{VM: vm, Snapshot: "snapshot-1", SnapshotName: string(f.Cycle), At: time.Now()}}, nil
}

type frozen struct {
	s     *fileSource
	state transfer.FrozenVM
}

func (f *frozen) State() transfer.FrozenVM { return f.state }
func (f *frozen) Areas(context.Context, transfer.DiskID, transfer.ChangeID, func(transfer.Extent) error) error {
	return nil
}
func (f *frozen) Open(context.Context, transfer.DiskID) (transfer.DiskReader, error) {
	return reader{f.s.file}, nil
}
func (f *frozen) Pressed(context.Context) (string, error) { return "", nil }
func (f *frozen) Release(context.Context) error           { return nil }

type reader struct{ io.ReaderAt }

func (reader) Close(context.Context) error { return nil }

// randomFile is a file in the page cache: reading costs a copy, as it does
// from a device that is faster than the network.
func randomFile(b *testing.B, blocks int64) *os.File {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "disk"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if _, err := io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte("bench"))), blocks*transfer.BlockSize); err != nil {
		b.Fatal(err)
	}
	return f
}

func cycle(b *testing.B, store transfer.Store, source transfer.Source, state string, o transfer.Options) transfer.Report {
	b.Helper()
	c := transfer.Cycle{
		Env: transfer.Env{
			Store: store, State: manifest.Dir(state), Appliance: "bench", Buffers: transfer.NewBuffers(8 + inFlight),
			Reads: 8, Puts: inFlight, Now: time.Now, Cleanup: time.Minute,
		},
		Options: o, Source: source, Progress: transfer.NewProgress(time.Now, nil),
	}
	rep, err := c.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return rep
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPipeline runs, in turns, a bare loop that reads, digests and puts
// blocks with the SDK, and a whole seed of the same file through the pipeline,
// sealed. CPU is of the process, so it has the emulator's in it, the same for
// both.
func BenchmarkPipeline(b *testing.B) {
	emulator(b)
	file := randomFile(b, diskBlocks)
	store, err := ebs.Open(b.Context(), ebs.Config{Puts: inFlight, PutsPerSecondPerSnapshot: -1, PutsPerSecondPerAccount: -1,
		Timing: ebs.Timing{PollFirst: time.Millisecond, PollMax: 5 * time.Millisecond}})
	if err != nil {
		b.Fatal(err)
	}
	client := bareClient(b)
	source := &fileSource{file: file, disk: transfer.Disk{ID: transfer.DiskID{Key: 2000, UUID: "u"}, Label: "Hard disk 1", Size: diskBlocks * transfer.BlockSize}}
	cycle(b, store, source, b.TempDir(), transfer.Options{}) // warm: connections, page cache
	bareLoop(b, client, file)
	var bare, ours, raw time.Duration
	var cpuBare, cpuOurs time.Duration
	n := 0
	b.ResetTimer()
	for b.Loop() {
		n++
		c, t := cpu(), time.Now()
		bareLoop(b, client, file)
		bare, cpuBare = bare+time.Since(t), cpuBare+cpu()-c
		c, t = cpu(), time.Now()
		cycle(b, store, source, b.TempDir(), transfer.Options{Reseed: true})
		ours, cpuOurs = ours+time.Since(t), cpuOurs+cpu()-c
		t = time.Now()
		rawRead(b, file)
		raw += time.Since(t)
	}
	mb := float64(n) * diskBlocks * transfer.BlockSize / 1e6
	gib := float64(n) * diskBlocks * transfer.BlockSize / transfer.GiB
	b.ReportMetric(mb/ours.Seconds(), "pipeline-MB/s")
	b.ReportMetric(mb/bare.Seconds(), "bare-put-MB/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio-to-bare-put")
	b.ReportMetric(mb/raw.Seconds(), "raw-read-MB/s")
	b.ReportMetric(raw.Seconds()/ours.Seconds(), "ratio-to-raw-read")
	b.ReportMetric(cpuOurs.Seconds()/gib, "pipeline-cpu-s/GiB")
	b.ReportMetric(cpuBare.Seconds()/gib, "bare-cpu-s/GiB")
}

// bareClient is the SDK as its users set it up for speed: no retry, HTTP/1.1,
// as many idle connections as workers.
func bareClient(b *testing.B) *sdkebs.Client {
	b.Helper()
	hc := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = inFlight
		t.ForceAttemptHTTP2 = false
	})
	c, err := config.LoadDefaultConfig(b.Context(), config.WithHTTPClient(hc), config.WithRetryer(func() sdkaws.Retryer { return sdkaws.NopRetryer{} }))
	if err != nil {
		b.Fatal(err)
	}
	return sdkebs.NewFromConfig(c)
}

func bareLoop(b *testing.B, client *sdkebs.Client, file *os.File) {
	b.Helper()
	start, err := client.StartSnapshot(b.Context(), &sdkebs.StartSnapshotInput{VolumeSize: sdkaws.Int64(1)})
	if err != nil {
		b.Fatal(err)
	}
	g, ctx := errgroup.WithContext(b.Context())
	work := make(chan int64)
	g.Go(func() error {
		defer close(work)
		for i := range int64(diskBlocks) {
			work <- i
		}
		return nil
	})
	for range inFlight {
		g.Go(func() error {
			buf := make([]byte, transfer.BlockSize)
			for i := range work {
				if err := barePut(ctx, client, *start.SnapshotId, file, i, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

func barePut(ctx context.Context, client *sdkebs.Client, id string, file *os.File, i int64, buf []byte) error {
	if _, err := file.ReadAt(buf, i*transfer.BlockSize); err != nil {
		return err
	}
	sum := sha256.Sum256(buf)
	_, err := client.PutSnapshotBlock(ctx, &sdkebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: sdkaws.Int32(int32(i)), BlockData: struct{ io.ReadSeeker }{bytes.NewReader(buf)},
		DataLength: sdkaws.Int32(transfer.BlockSize), Checksum: sdkaws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	return err
}

func rawRead(b *testing.B, file *os.File) {
	b.Helper()
	buf := make([]byte, transfer.BlockSize)
	for i := range int64(diskBlocks) {
		if _, err := file.ReadAt(buf, i*transfer.BlockSize); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory1TiB seeds a sparse disk of 1 TiB of which every 64th block
// of the first 64 GiB has bytes, and reports the growth of the process's peak
// resident set beside the promised bound. One round takes a minute or more:
// every byte is looked at.
func BenchmarkMemory1TiB(b *testing.B) {
	const size, reads = int64(1) << 40, 8
	store := discard{}
	source := &fileSource{disk: transfer.Disk{ID: transfer.DiskID{Key: 2000, UUID: "u"}, Label: "Hard disk 1", Size: size}}
	runtime.GC()
	debug.FreeOSMemory()
	before := resident(b)
	peak := before
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				peak = max(peak, resident(b))
			}
		}
	}()
	var blocks int64
	for b.Loop() {
		rep := cycle(b, store, sparse{source}, b.TempDir(), transfer.Options{})
		blocks = rep.Disks[0].Put
	}
	close(stop)
	<-done
	bound := (reads+inFlight)*transfer.BlockSize + 64<<20
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(before)/(1<<20), "before-MiB")
	b.ReportMetric(float64(bound)/(1<<20), "bound-MiB")
	b.ReportMetric(float64(blocks), "puts")
}

// resident is the process's resident set in bytes.
func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Error(err)
		return 0
	}
	var total, pages int64
	_, _ = fmt.Sscan(string(text), &total, &pages)
	return pages * int64(os.Getpagesize())
}

// sparse answers reads of a 1 TiB disk without one.
type sparse struct{ *fileSource }

func (s sparse) Freeze(ctx context.Context, f transfer.FreezeSpec) (transfer.Frozen, error) {
	inner, err := s.fileSource.Freeze(ctx, f)
	return sparseFrozen{inner}, err
}

type sparseFrozen struct{ transfer.Frozen }

func (sparseFrozen) Open(context.Context, transfer.DiskID) (transfer.DiskReader, error) {
	return reader{sparseReader{}}, nil
}

type sparseReader struct{}

func (sparseReader) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if i := off / transfer.BlockSize; i%64 == 0 && off < 64<<30 {
		copy(p, fmt.Sprintf("block %d", i))
	}
	return len(p), nil
}

// discard is a store that takes everything: the memory of an emulator in the
// same process would be measured otherwise.
type discard struct{ transfer.Store }

func (discard) Snapshots(context.Context, transfer.VMID) ([]transfer.Snapshot, error) {
	return nil, nil
}
func (discard) EncryptsByDefault(context.Context) (bool, error) { return false, nil }
func (discard) Start(context.Context, transfer.DraftSpec) (transfer.Draft, error) {
	return discardDraft{}, nil
}

type discardDraft struct{}

func (discardDraft) ID() transfer.SnapshotID                                   { return "snap-1" }
func (discardDraft) Put(context.Context, int64, []byte, transfer.Digest) error { return nil }
func (discardDraft) Seal(context.Context, transfer.Seal) error                 { return nil }
func (discardDraft) Abort(context.Context) error                               { return nil }
