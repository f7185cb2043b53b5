package aws_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"snapferry/test/aws"
)

func small(rng *rand.Rand, b []byte) {
	for i := range 8 {
		b[rng.IntN(blockSize-i)] ^= byte(1 + rng.IntN(255))
	}
}

// dataSize is the size of the one data file.
func dataSize(t *testing.T, dir string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("data files %v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestRewrittenBlocksReuseTheirRoom(t *testing.T) {
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(1, 2))
	r := newRig(t, aws.Options{Dir: dir})
	id, b, want := r.start(ebs.StartSnapshotInput{}), random(), map[int][]byte{}
	for range 60 {
		i := rng.IntN(6)
		small(rng, b)
		r.put(id, i, b)
		want[i] = bytes.Clone(b)
	}
	if size := dataSize(t, dir); size > 7*blockSize {
		t.Errorf("%d bytes hold %d blocks", size, len(want))
	}
	r.complete(id, len(want), linear(want))
	r.wantBlocks(id, want)
}

func (r *rig) wantBlocks(id string, want map[int][]byte) {
	r.Helper()
	_, tokens := r.list(id)
	if len(tokens) != len(want) {
		r.Errorf("%d blocks, want %d", len(tokens), len(want))
	}
	for i, b := range want {
		if got, _, err := r.tryGet(id, i, tokens[i]); err != nil || !bytes.Equal(got, b) {
			r.Errorf("block %d of %s reads back wrong (%v)", i, id, err)
		}
	}
}

// Deleted snapshots give their room back to the collector; nothing that a child
// inherits may go with them.
func TestRoomOfDeletedSnapshotsIsReusedSafely(t *testing.T) {
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(3, 4))
	r := newRig(t, aws.Options{Dir: dir})
	b, want := random(), map[int][]byte{}
	last := ""
	for range 30 {
		in := ebs.StartSnapshotInput{}
		if last != "" {
			in.ParentSnapshotId = &last
		}
		delta := map[int][]byte{}
		for range 2 {
			i := rng.IntN(12)
			small(rng, b)
			delta[i] = bytes.Clone(b)
			want[i] = delta[i]
		}
		id := r.snapshot(in, delta)
		abandoned := r.start(ebs.StartSnapshotInput{})
		r.put(abandoned, 0, b)
		small(rng, b)
		r.put(abandoned, 0, b)
		for _, gone := range []string{last, abandoned} {
			if gone != "" {
				if err := r.e.DeleteOutOfBand(gone); err != nil {
					t.Fatal(err)
				}
			}
		}
		runtime.GC()
		runtime.GC()
		last = id
	}
	r.wantBlocks(last, want)
	// The chain keeps up to 60 blocks; the drafts had 60 more.
	if size := dataSize(t, dir); size > 80*blockSize {
		t.Errorf("%d bytes: no room was ever reused", size)
	}
}
