package convert_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"snapferry/launch/convert"
	"snapferry/nbd"
	"snapferry/transfer"
)

// snapshot is some blocks; others are absent.
type snapshot struct {
	blocks map[int64][]byte

	mu   sync.Mutex
	gets map[int64]int
	fail map[int64]error
	hold chan struct{} // when set, gets wait for it to close
}

func newSnapshot(blocks ...int64) *snapshot {
	s := &snapshot{blocks: map[int64][]byte{}, gets: map[int64]int{}, fail: map[int64]error{}}
	for _, i := range blocks {
		b := make([]byte, transfer.BlockSize)
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		s.blocks[i] = b
	}
	return s
}

func (s *snapshot) Blocks(_ context.Context, yield func(int64, string) error) error {
	for i := range int64(1000) {
		if s.blocks[i] == nil {
			continue
		}
		if err := yield(i, fmt.Sprint("token-", i)); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshot) Get(ctx context.Context, i int64, token string, buf []byte) (transfer.Digest, error) {
	s.mu.Lock()
	s.gets[i]++
	err, hold := s.fail[i], s.hold
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return transfer.Digest{}, ctx.Err()
		}
	}
	if err != nil {
		return transfer.Digest{}, err
	}
	if token != fmt.Sprint("token-", i) {
		return transfer.Digest{}, fmt.Errorf("block %d with %s", i, token)
	}
	copy(buf, s.blocks[i])
	return sha256.Sum256(buf), nil
}

// bytes is the disk as it should read.
func (s *snapshot) bytes(size int64) []byte {
	disk := make([]byte, size)
	for i, b := range s.blocks {
		if off := i * transfer.BlockSize; off < size {
			copy(disk[off:], b)
		}
	}
	return disk
}

func open(t *testing.T, s *snapshot, size int64) *convert.Base {
	t.Helper()
	b, err := convert.NewBase(t.Context(), s, size, filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestBaseReadsWhatTheSnapshotHolds(t *testing.T) {
	var present []int64
	for i := range int64(60) {
		if i%3 != 1 {
			present = append(present, i)
		}
	}
	s := newSnapshot(append(present, 70)...) // one behind the disk
	const size = 60*transfer.BlockSize - 512
	b, want := open(t, s, size), s.bytes(size)
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for range 40 {
				off := rng.Int64N(size)
				n := min(1+rng.Int64N(2*transfer.BlockSize), size-off)
				got := make([]byte, n)
				if k, err := b.ReadAt(got, off); err != nil || int64(k) != n || !bytes.Equal(got, want[off:off+n]) {
					t.Errorf("read %d at %d: %d, %v", n, off, k, err)
				}
			}
		})
	}
	wg.Wait()
	for i, n := range s.gets {
		if n != 1 || i >= 60 {
			t.Errorf("block %d was fetched %d times", i, n)
		}
	}
	if st := b.Stats(); st.Requests != 8*40 || st.Blocks != int64(len(s.gets)) || st.Bytes != st.Blocks*transfer.BlockSize {
		t.Errorf("stats %+v, %d fetched", st, len(s.gets))
	}
	for _, off := range []int64{-1, size} {
		if _, err := b.ReadAt(make([]byte, 512), off); err == nil {
			t.Errorf("a read at %d went well", off)
		}
	}
}

func TestBaseFetchesOnceAndReadsAhead(t *testing.T) {
	s := newSnapshot(0, 1, 2, 3, 4, 5, 6, 7, 8, 20)
	s.hold = make(chan struct{})
	b := open(t, s, 30*transfer.BlockSize)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := b.ReadAt(make([]byte, 4096), 20*transfer.BlockSize); err != nil {
				t.Error(err)
			}
		})
	}
	close(s.hold)
	wg.Wait()
	if s.gets[20] != 1 {
		t.Errorf("fetched %d times", s.gets[20])
	}
	for i := range int64(4) {
		if _, err := b.ReadAt(make([]byte, 512), i*transfer.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	b.Close() // what was begun ends
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gets[5] == 0 || s.gets[6] > 0 {
		t.Errorf("read ahead of blocks 0 to 3: %v", s.gets)
	}
}

func TestBaseTriesAgainAfterAFailure(t *testing.T) {
	s := newSnapshot(0, 5)
	s.fail[5] = errors.New("throttled")
	b := open(t, s, 8*transfer.BlockSize)
	buf := make([]byte, 512)
	if _, err := b.ReadAt(buf, 5*transfer.BlockSize); err == nil || !strings.Contains(err.Error(), "block 5") || !strings.Contains(err.Error(), "throttled") {
		t.Errorf("error %v", err)
	}
	delete(s.fail, 5)
	if _, err := b.ReadAt(buf, 5*transfer.BlockSize); err != nil || !bytes.Equal(buf, s.blocks[5][:512]) {
		t.Errorf("the second time: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.hold = make(chan struct{})
	defer close(s.hold)
	if _, err := b.ReadAtContext(ctx, buf, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled read: %v", err)
	}
}

func TestBaseKnowsDigestsAndHoles(t *testing.T) {
	s := newSnapshot(1, 2)
	b := open(t, s, 4*transfer.BlockSize)
	if d, ok, err := b.Digest(t.Context(), 1); err != nil || !ok || d != sha256.Sum256(s.blocks[1]) {
		t.Errorf("block 1: %v %v %v", d, ok, err)
	}
	if _, ok, err := b.Digest(t.Context(), 3); ok || err != nil {
		t.Errorf("block 3: %v %v", ok, err)
	}
	got, err := b.Extents(t.Context(), 512, 3*transfer.BlockSize)
	hole := uint32(nbd.StateHole | nbd.StateZero)
	want := []nbd.Extent{{Offset: 512, Length: transfer.BlockSize - 512, Flags: hole}, {Offset: transfer.BlockSize, Length: 2 * transfer.BlockSize}, {Offset: 3 * transfer.BlockSize, Length: 512, Flags: hole}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("extents %v, %v", got, err)
	}
}
