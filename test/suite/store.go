package suite

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"snapferry/transfer"
)

// StoreWorld is a fresh store and the hands that reach behind it.
type StoreWorld struct {
	Store transfer.Store
	// Image reads a completed snapshot as a volume made from it would.
	Image func(transfer.SnapshotID) (io.ReaderAt, int64)
	// Remove deletes a snapshot behind the store's back.
	Remove func(transfer.SnapshotID)
	// EncryptByDefault switches the account's setting.
	EncryptByDefault func(bool)
}

// Store runs the contract of transfer.Store. Each test gets a world of its own.
func Store(t *testing.T, fresh func(*testing.T) StoreWorld) {
	for name, test := range map[string]func(*storeTest){
		"written blocks are read back":       (*storeTest).roundTrip,
		"a pending draft cannot be read":     (*storeTest).pending,
		"the same token is the same draft":   (*storeTest).token,
		"a child inherits":                   (*storeTest).child,
		"unusable parents":                   (*storeTest).parents,
		"a block put twice counts once":      (*storeTest).twice,
		"an empty draft seals":               (*storeTest).empty,
		"a wrong seal never completes":       (*storeTest).wrongSeal,
		"wrong blocks are refused":           (*storeTest).wrongBlock,
		"abort deletes drafts only":          (*storeTest).abort,
		"labels survive":                     (*storeTest).labels,
		"a conversion is told from a delta":  (*storeTest).conversion,
		"snapshots of other VMs stay out":    (*storeTest).others,
		"confirm moves instant and position": (*storeTest).confirm,
		"suspects are marked":                (*storeTest).suspect,
		"another cycle may seal":             (*storeTest).sealedByAnotherCycle,
		"encryption is inherited":            (*storeTest).encrypted,
		"many puts at once":                  (*storeTest).parallel,
		"a cancelled context ends calls":     (*storeTest).canceled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&storeTest{T: t, w: fresh(t)})
		})
	}
}

// storeTest is one test of the contract with its world.
type storeTest struct {
	*testing.T
	w StoreWorld
	n int // drafts so far
}

var suiteVM = transfer.VMID{VCenter: "b2e1f0a4-0000-4000-8000-000000000001", Moref: "vm-42"}

// spec is a draft of one GiB with a label of its own.
func (s *storeTest) spec(edit ...func(*transfer.DraftSpec)) transfer.DraftSpec {
	s.n++
	d := transfer.DraftSpec{
		Token: fmt.Sprintf("token-%s-%d", transfer.NewCycleID(time.Now()), s.n), VolumeGiB: 1,
		Label: transfer.Label{
			Appliance: "appliance-1", VM: suiteVM, VMName: "app01", VMUUID: "5012-aa",
			Cycle: transfer.NewCycleID(time.Now()), Frozen: time.Date(2026, 3, 4, 5, 6, s.n, 0, time.UTC),
			Disk: transfer.DiskID{Key: 2000, UUID: "6000c290-0000-1111-2222-333344445555"}, DiskLabel: "Hard disk 1", DiskSize: transfer.GiB,
			Ordinal: 1, Of: 1, ChangeID: "52 aa bb/4", Kind: transfer.Seed, Reason: "first time", Blocks: -1,
		},
	}
	for _, f := range edit {
		f(&d)
	}
	return d
}

func onParent(id transfer.SnapshotID) func(*transfer.DraftSpec) {
	return func(d *transfer.DraftSpec) { d.Label.Parent, d.Label.Kind = id, transfer.Delta }
}

func (s *storeTest) start(spec transfer.DraftSpec) transfer.Draft {
	s.Helper()
	d, err := s.w.Store.Start(s.Context(), spec)
	if err != nil {
		s.Fatalf("start: %v", err)
	}
	return d
}

// content is a block that depends on its seed alone.
func content(seed uint64) []byte {
	b := make([]byte, transfer.BlockSize)
	_, _ = rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed))).Read(b)
	return b
}

func (s *storeTest) put(d transfer.Draft, index int64, block []byte) {
	s.Helper()
	if err := d.Put(s.Context(), index, block, sha256.Sum256(block)); err != nil {
		s.Fatalf("put block %d: %v", index, err)
	}
}

// sealOf computes an honest seal over the last content of each block.
func sealOf(blocks map[int64][]byte) transfer.Seal {
	sum := sha256.New()
	indexes := make([]int64, 0, len(blocks))
	for i := range blocks {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	for _, i := range indexes {
		digest := sha256.Sum256(blocks[i])
		sum.Write(digest[:])
	}
	return transfer.Seal{Blocks: int64(len(blocks)), Checksum: transfer.Digest(sum.Sum(nil))}
}

// make starts, fills and seals a snapshot.
func (s *storeTest) make(spec transfer.DraftSpec, blocks map[int64][]byte) transfer.SnapshotID {
	s.Helper()
	d := s.start(spec)
	for i, b := range blocks {
		s.put(d, i, b)
	}
	if err := d.Seal(s.Context(), sealOf(blocks)); err != nil {
		s.Fatalf("seal: %v", err)
	}
	return d.ID()
}

func (s *storeTest) list(vm transfer.VMID) map[transfer.SnapshotID]transfer.Snapshot {
	s.Helper()
	all, err := s.w.Store.Snapshots(s.Context(), vm)
	if err != nil {
		s.Fatalf("list snapshots: %v", err)
	}
	m := map[transfer.SnapshotID]transfer.Snapshot{}
	for _, n := range all {
		m[n.ID] = n
	}
	return m
}

// holds reads every block of a snapshot back and compares.
func (s *storeTest) holds(id transfer.SnapshotID, want map[int64][]byte) {
	s.Helper()
	r, err := s.w.Store.Read(s.Context(), id)
	if err != nil {
		s.Fatalf("read %s: %v", id, err)
	}
	seen, last := 0, int64(-1)
	err = r.Blocks(s.Context(), func(i int64, token string) error {
		if i <= last {
			s.Errorf("block %d listed after %d", i, last)
		}
		seen, last = seen+1, i
		buf := make([]byte, transfer.BlockSize)
		digest, err := r.Get(s.Context(), i, token, buf)
		if err != nil {
			return err
		}
		if !slices.Equal(buf, want[i]) || digest != transfer.Digest(sha256.Sum256(buf)) {
			s.Errorf("block %d differs", i)
		}
		return nil
	})
	if err != nil || seen != len(want) {
		s.Errorf("read %s: %d blocks of %d, %v", id, seen, len(want), err)
	}
}

func (s *storeTest) kind(err error, want transfer.Kind, doing string) {
	s.Helper()
	if err == nil || transfer.KindOf(err) != want {
		s.Errorf("%s: got error %v of kind %s, want %s", doing, err, transfer.KindOf(err), want)
	}
}
