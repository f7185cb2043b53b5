package ebs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

// fast waits as long as a loaded machine under -race needs, and no longer.
var fast = Timing{
	Headers: 4 * time.Second, Attempt: 5 * time.Second, Operation: 20 * time.Second, NotYet: 10 * time.Second,
	RetryFirst: time.Millisecond, RetryMax: 20 * time.Millisecond, PollFirst: time.Millisecond,
	PollMax: 20 * time.Millisecond, SealLimit: 10 * time.Second, Settings: time.Hour,
}

// rig is a store in front of an emulator that plays faults.
type rig struct {
	*testing.T
	aws    *aws.Emulator
	faults *fault.Set
	store  *Store
	n      int // drafts started
}

// useEnv makes the SDK see exactly these variables of its own.
func useEnv(t *testing.T, env ...string) {
	t.Helper()
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "AWS_") {
			t.Setenv(k, "") // the SDK takes an empty variable for none
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
}

func newEmulator(t *testing.T, opt aws.Options) *aws.Emulator {
	t.Helper()
	e, err := aws.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if bad := e.Misuse(); len(bad) > 0 {
			t.Errorf("faults that could not be played: %v", bad)
		}
		if err := e.Close(); err != nil {
			t.Errorf("close the emulator: %v", err)
		}
	})
	return e
}

func newRig(t *testing.T, opt aws.Options, set ...func(*Config)) *rig {
	t.Helper()
	faults := fault.New(1)
	opt.Faults = faults
	r := &rig{T: t, faults: faults, aws: newEmulator(t, opt)}
	useEnv(t, r.aws.Env()...)
	r.store = r.open(set...)
	t.Cleanup(func() {
		if names := faults.Unfired(); len(names) > 0 {
			t.Errorf("faults that never happened: %v", names)
		}
	})
	return r
}

func (r *rig) open(set ...func(*Config)) *Store {
	r.Helper()
	c := Config{Timing: fast, PutsPerSecondPerSnapshot: -1, PutsPerSecondPerAccount: -1}
	for _, f := range set {
		f(&c)
	}
	s, err := Open(r.Context(), c)
	if err != nil {
		r.Fatal(err)
	}
	// The real rates of starts and the like would only slow the tests.
	s.starts, s.completes, s.lists = nil, nil, nil
	return s
}

// label is a label as a cycle would write it.
func label() transfer.Label {
	return transfer.Label{
		Appliance: "appliance-1", VM: transfer.VMID{VCenter: "0f4b7b4e-0000-4000-8000-3c5a1d2e9f00", Moref: "vm-1042"},
		VMName: "app01", VMUUID: "503c6f1b-0000-4000-8000-7a1c2f3b4d5e",
		Guest: transfer.Guest{ID: "debian12_64Guest", Firmware: "efi", CPUs: 2, MemoryMiB: 4096},
		Cycle: "20260102T030405Z-00c0ffee", Frozen: time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC),
		Disk:      transfer.DiskID{Key: 2000, UUID: "6000c29a-0000-4000-8000-1f2e3d4c5b6a"},
		DiskLabel: "Hard disk 1", DiskSize: transfer.GiB, Ordinal: 1, Of: 2,
		ChangeID: "52 de c0 d9 b4 1f/4", Kind: transfer.Seed, Reason: "no recovery point yet", Blocks: -1,
	}
}

func (r *rig) spec(change ...func(*transfer.DraftSpec)) transfer.DraftSpec {
	r.n++
	spec := transfer.DraftSpec{Token: fmt.Sprintf("token-%d", r.n), Label: label(), VolumeGiB: 1}
	for _, f := range change {
		f(&spec)
	}
	return spec
}

func (r *rig) start(change ...func(*transfer.DraftSpec)) transfer.Draft {
	r.Helper()
	d, err := r.store.Start(r.Context(), r.spec(change...))
	if err != nil {
		r.Fatal(err)
	}
	return d
}

func child(parent transfer.SnapshotID) func(*transfer.DraftSpec) {
	return func(s *transfer.DraftSpec) { s.Label.Parent, s.Label.Kind = parent, transfer.Delta }
}

// block is one block of random bytes that its seed decides.
func block(seed uint64) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	b := make([]byte, transfer.BlockSize)
	_, _ = src.Read(b) // never fails
	return b
}

// put puts blocks and returns what seals them.
func (r *rig) put(d transfer.Draft, blocks map[int64][]byte) transfer.Seal {
	r.Helper()
	digests := map[int64]transfer.Digest{}
	for i, b := range blocks {
		digests[i] = sha256.Sum256(b)
		if err := d.Put(r.Context(), i, b, digests[i]); err != nil {
			r.Fatal(err)
		}
	}
	return sealOf(digests)
}

func sealOf(digests map[int64]transfer.Digest) transfer.Seal {
	sum := linearChecksum(func(yield func(transfer.Digest) bool) {
		for _, i := range slices.Sorted(maps.Keys(digests)) {
			if !yield(digests[i]) {
				return
			}
		}
	})
	return transfer.Seal{Blocks: int64(len(digests)), Checksum: sum}
}

// sealed makes a completed snapshot of blocks.
func (r *rig) sealed(blocks map[int64][]byte, change ...func(*transfer.DraftSpec)) transfer.SnapshotID {
	r.Helper()
	d := r.start(change...)
	if err := d.Seal(r.Context(), r.put(d, blocks)); err != nil {
		r.Fatal(err)
	}
	return d.ID()
}

// info is a snapshot as the emulator has it, and whether there is one.
func (r *rig) info(id transfer.SnapshotID) (aws.SnapshotInfo, bool) {
	for _, s := range r.aws.Snapshots() {
		if s.ID == string(id) {
			return s, true
		}
	}
	return aws.SnapshotInfo{}, false
}

// wantKind checks kind and text of an error; the hint must not be missing
// where the error is one that a person has to act on.
func wantKind(t *testing.T, err error, kind transfer.Kind, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v: %q", kind, texts)
	}
	if got := transfer.KindOf(err); got != kind {
		t.Errorf("kind %v, want %v: %v", got, kind, err)
	}
	var e *transfer.Error
	if !errors.As(err, &e) || e.Op == "" {
		t.Errorf("the error does not say what was attempted: %v", err)
	}
	all := err.Error() + "\n" + transfer.HintOf(err)
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%q is not in: %s", text, all)
		}
	}
}

// linearChecksum is what CompleteSnapshot calls LINEAR: SHA-256 over the raw
// digests of every block written to the snapshot itself, ascending by index.
func linearChecksum(digests iter.Seq[transfer.Digest]) transfer.Digest {
	h := sha256.New()
	for d := range digests {
		h.Write(d[:])
	}
	return transfer.Digest(h.Sum(nil))
}
