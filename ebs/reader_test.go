package ebs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

// readBack reads all present blocks and checks them against want.
func (r *rig) readBack(id transfer.SnapshotID, want map[int64][]byte) {
	r.Helper()
	reader, err := r.store.Read(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	buf := make([]byte, transfer.BlockSize)
	var order []int64
	err = reader.Blocks(r.Context(), func(i int64, token string) error {
		order = append(order, i)
		digest, err := reader.Get(r.Context(), i, token, buf)
		if err == nil && (digest != sha256.Sum256(want[i]) || !bytes.Equal(buf, want[i])) {
			r.Errorf("block %d is another", i)
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	if !slices.Equal(order, slices.Sorted(maps.Keys(want))) {
		r.Errorf("blocks %v", order)
	}
}

func TestReadBackWithFaults(t *testing.T) {
	rules := map[string][]fault.Rule{
		"none":            nil,
		"list throttled":  {{Op: opList, Kind: fault.Throttle, Times: 2}},
		"list empty page": {{Op: opList, Kind: fault.Lie, Detail: aws.LieEmptyPage}},
		"list cut":        {{Op: opList, Kind: fault.Cut}},
		"get throttled":   {{Op: opGet, Kind: fault.Throttle, Times: 2}},
		"get cut":         {{Op: opGet, Kind: fault.Cut, Skip: 1}},
		"get wrong bytes": {{Op: opGet, Kind: fault.WrongBytes, Skip: 2, Times: 2}},
		"get overload":    {{Op: opGet, Kind: fault.Error, Detail: "overload"}},
	}
	for name, rules := range rules {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, aws.Options{OddPages: true})
			parent := map[int64][]byte{0: block(1), 3: block(2), 200: block(3)}
			id := r.sealed(map[int64][]byte{3: block(4), 2047: block(5)}, child(r.sealed(parent)))
			r.faults.Add(rules...)
			r.readBack(id, map[int64][]byte{0: parent[0], 3: block(4), 200: parent[200], 2047: block(5)})
		})
	}
}

func TestReadRetriesThe404AfterCompletion(t *testing.T) {
	r := newRig(t, aws.Options{PropagationDelay: 100 * time.Millisecond})
	r.readBack(r.sealed(map[int64][]byte{1: block(1)}), map[int64][]byte{1: block(1)})
	if r.store.Calls()[opList] < 2 {
		t.Error("no 404 was met")
	}
}

func TestReadOfWhatCannotBeRead(t *testing.T) {
	r := newRig(t, aws.Options{})
	_, err := r.store.Read(t.Context(), r.start().ID())
	wantKind(t, err, transfer.Permanent, "pending")
	_, err = r.store.Read(t.Context(), "snap-0123456789abcdef0")
	wantKind(t, err, transfer.Permanent, "snap-0123456789abcdef0", "us-east-1")
	_, err = r.store.Read(t.Context(), "nonsense")
	wantKind(t, err, transfer.Permanent, "nonsense")
}

func TestWrongBytesAreAnErrorInTheEnd(t *testing.T) {
	r := newRig(t, aws.Options{})
	reader, err := r.store.Read(t.Context(), r.sealed(map[int64][]byte{0: block(1)}))
	if err != nil {
		t.Fatal(err)
	}
	r.faults.Add(fault.Rule{Op: opGet, Kind: fault.WrongBytes, Times: -1})
	err = reader.Blocks(t.Context(), func(i int64, token string) error {
		_, err := reader.Get(t.Context(), i, token, make([]byte, transfer.BlockSize))
		return err
	})
	wantKind(t, err, transfer.Retry, "get block 0", "damaged", "digest")
	if n := r.store.Calls()[opGet]; n != 1+aFewTimes {
		t.Errorf("%d gets", n)
	}
}

func TestExpiredTokensAreReplaced(t *testing.T) {
	r := newRig(t, aws.Options{})
	blocks := map[int64][]byte{0: block(1), 9: block(2), 30: block(3)}
	reader, err := r.store.Read(t.Context(), r.sealed(blocks))
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[int64]string{}
	err = reader.Blocks(t.Context(), func(i int64, token string) error {
		tokens[i] = token
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.aws.ExpireTokens()
	buf := make([]byte, transfer.BlockSize)
	for i, b := range blocks {
		if digest, err := reader.Get(t.Context(), i, tokens[i], buf); err != nil || digest != sha256.Sum256(b) {
			t.Errorf("block %d: %v", i, err)
		}
	}
	_, err = reader.Get(t.Context(), 10, tokens[9], buf)
	wantKind(t, err, transfer.Permanent, "block 10", "block token")
}

func TestExpiredPageTokenIsNoEnd(t *testing.T) {
	r := newRig(t, aws.Options{OddPages: true})
	blocks := map[int64][]byte{}
	for i := range int64(150) {
		blocks[i*3] = zeros
	}
	reader, err := r.store.Read(t.Context(), r.sealed(blocks))
	if err != nil {
		t.Fatal(err)
	}
	// The emulator's first page is whole, the later ones are odd.
	if err := reader.Blocks(t.Context(), func(int64, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var got []int64
	err = reader.Blocks(t.Context(), func(i int64, _ string) error {
		if got = append(got, i); len(got) == 1 || len(got) == 100 {
			r.aws.ExpireTokens()
		}
		return nil
	})
	if err != nil || !slices.Equal(got, slices.Sorted(maps.Keys(blocks))) {
		t.Errorf("%d blocks, %v", len(got), err)
	}
	if r.store.Calls()[opList] < 5 {
		t.Errorf("%d list calls: no page token was refused", r.store.Calls()[opList])
	}
}

var zeros = make([]byte, transfer.BlockSize)

func TestYieldEndsTheList(t *testing.T) {
	r := newRig(t, aws.Options{})
	reader, err := r.store.Read(t.Context(), r.sealed(map[int64][]byte{0: zeros, 1: zeros}))
	if err != nil {
		t.Fatal(err)
	}
	enough, n := errors.New("enough"), 0
	err = reader.Blocks(t.Context(), func(int64, string) error { n++; return enough })
	if err != enough || n != 1 {
		t.Errorf("%d yields, error %v", n, err)
	}
}

func TestGetsInParallelAndCanceled(t *testing.T) {
	r := newRig(t, aws.Options{})
	reader, err := r.store.Read(t.Context(), r.sealed(map[int64][]byte{0: block(1)}))
	if err != nil {
		t.Fatal(err)
	}
	var token string
	if err := reader.Blocks(t.Context(), func(_ int64, tok string) error { token = tok; return nil }); err != nil {
		t.Fatal(err)
	}
	want := transfer.Digest(sha256.Sum256(block(1)))
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			buf := make([]byte, transfer.BlockSize)
			if digest, err := reader.Get(t.Context(), 0, token, buf); err != nil || digest != want {
				t.Errorf("digest %v, %v", digest, err)
			}
		})
	}
	group.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = reader.Get(ctx, 0, token, make([]byte, transfer.BlockSize))
	wantKind(t, err, transfer.Canceled)
}
