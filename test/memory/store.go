package memory

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"snapferry/transfer"
)

// Store keeps EBS snapshots in memory: a transfer.Store.
type Store struct {
	// DefaultEncryption is the account's setting. Set between cycles.
	DefaultEncryption bool
	// PutHook, when set, runs before each put and can make it fail.
	PutHook func(ctx context.Context, id transfer.SnapshotID, index int64) error
	// SealLost, when set and true, makes a seal's end unheard of: it is accepted
	// and the draft stays pending, taking no more blocks, until it is sealed
	// again.
	SealLost func(id transfer.SnapshotID) bool
	// SealHook, when set, runs before each seal and can make it fail.
	SealHook func(id transfer.SnapshotID) error

	mu     sync.Mutex
	snaps  map[transfer.SnapshotID]*snapshot
	tokens map[string]transfer.SnapshotID
	puts   int64
	starts int64
	clock  time.Time
}

type snapshot struct {
	transfer.Snapshot
	parent *snapshot
	spec   transfer.DraftSpec
	begun  bool // its seal: it takes no more blocks
	blocks map[int64][]byte
	sums   map[int64]transfer.Digest // of blocks
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{snaps: map[transfer.SnapshotID]*snapshot{}, tokens: map[string]transfer.SnapshotID{}, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Counts returns the puts and the started drafts so far.
func (s *Store) Counts() (puts, starts int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts, s.starts
}

// Remove deletes a snapshot behind everybody's back.
func (s *Store) Remove(id transfer.SnapshotID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snaps, id)
}

// Corrupt flips a byte of a block that a snapshot holds itself.
func (s *Store) Corrupt(id transfer.SnapshotID, index int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.snaps[id].blocks[index]
	if b == nil {
		return fmt.Errorf("%s does not hold block %d", id, index)
	}
	c := slices.Clone(b)
	c[17] ^= 0x40
	s.snaps[id].blocks[index] = c
	return nil
}

// Snapshots implements transfer.Store.
func (s *Store) Snapshots(ctx context.Context, vm transfer.VMID) ([]transfer.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []transfer.Snapshot
	for _, id := range slices.Sorted(maps.Keys(s.snaps)) {
		if n := s.snaps[id]; n.Label.VM == vm {
			out = append(out, n.Snapshot)
		}
	}
	return out, nil
}

// EncryptsByDefault implements transfer.Store.
func (s *Store) EncryptsByDefault(context.Context) (bool, error) { return s.DefaultEncryption, nil }

// Start implements transfer.Store.
func (s *Store) Start(ctx context.Context, spec transfer.DraftSpec) (transfer.Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	op := "start draft of " + spec.Label.DiskLabel
	if id, ok := s.tokens[spec.Token]; ok {
		if n := s.snaps[id]; n != nil && n.spec.VolumeGiB == spec.VolumeGiB && n.spec.Label.Parent == spec.Label.Parent {
			return &draft{s: s, n: n}, nil
		}
		return nil, transfer.Fail(transfer.Permanent, op, errors.New("the token was used with other parameters"), "")
	}
	n := &snapshot{spec: spec, blocks: map[int64][]byte{}, sums: map[int64]transfer.Digest{}}
	n.VolumeGiB, n.Label, n.State = spec.VolumeGiB, spec.Label, transfer.Pending
	n.Encrypted = spec.Encrypted || spec.KMSKey != "" || s.DefaultEncryption
	if p := spec.Label.Parent; p != "" {
		if err := s.adopt(n, p); err != nil {
			return nil, err
		}
	}
	if spec.VolumeGiB < 1 || spec.VolumeGiB > transfer.MaxVolumeGiB {
		return nil, transfer.Fail(transfer.Permanent, op, fmt.Errorf("%d GiB", spec.VolumeGiB), "")
	}
	s.starts++
	s.clock = s.clock.Add(time.Second)
	n.ID, n.Started = transfer.SnapshotID(fmt.Sprintf("snap-%04d", s.starts)), s.clock
	s.snaps[n.ID], s.tokens[spec.Token] = n, n.ID
	return &draft{s: s, n: n}, nil
}

func (s *Store) adopt(n *snapshot, id transfer.SnapshotID) error {
	parent := s.snaps[id]
	fail := func(format string, args ...any) error {
		return transfer.Fail(transfer.BaselineLost, "start draft on "+string(id), fmt.Errorf(format, args...), "")
	}
	switch {
	case n.spec.Encrypted || n.spec.KMSKey != "":
		return transfer.Fail(transfer.Permanent, "start draft on "+string(id), errors.New("encryption cannot be asked for together with a parent"), "")
	case parent == nil:
		return fail("there is no such snapshot")
	case parent.State != transfer.Completed:
		return fail("it is %s", parent.State)
	case n.VolumeGiB < parent.VolumeGiB:
		return fail("it has %d GiB, the draft %d", parent.VolumeGiB, n.VolumeGiB)
	case s.DefaultEncryption && !parent.Encrypted:
		return fail("it is unencrypted and the account encrypts by default")
	}
	n.parent, n.Encrypted, n.KMSKey = parent, parent.Encrypted, parent.KMSKey
	return nil
}

// Confirm implements transfer.Store.
func (s *Store) Confirm(ctx context.Context, at time.Time, ids map[transfer.SnapshotID]transfer.ChangeID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, change := range ids {
		n := s.snaps[id]
		if n == nil {
			return transfer.Fail(transfer.Retry, "confirm "+string(id), errors.New("there is no such snapshot"), "")
		}
		n.Label.Confirmed, n.Label.ChangeID = at, change
	}
	return nil
}

// Suspect implements transfer.Store.
func (s *Store) Suspect(ctx context.Context, ids []transfer.SnapshotID, why string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if n := s.snaps[id]; n != nil {
			n.Label.Suspect = why
		}
	}
	return nil
}

// Read implements transfer.Store.
func (s *Store) Read(_ context.Context, id transfer.SnapshotID) (transfer.SnapshotReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.snaps[id]
	if n == nil || n.State != transfer.Completed {
		return nil, transfer.Fail(transfer.Permanent, "read "+string(id), errors.New("there is no such completed snapshot"), "")
	}
	return &snapshotReader{s: s, n: n}, nil
}

func (n *snapshot) block(i int64) []byte {
	for ; n != nil; n = n.parent {
		if b := n.blocks[i]; b != nil {
			return b
		}
	}
	return nil
}

// Image reads a snapshot as a volume made from it would: absent blocks are
// zeros, or garbage where it is encrypted.
func (s *Store) Image(id transfer.SnapshotID) (io.ReaderAt, int64) {
	n := s.snaps[id]
	size := n.VolumeGiB * transfer.GiB
	read := func(p []byte, off int64) (int, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		done := 0
		for done < len(p) {
			i, in := (off+int64(done))/transfer.BlockSize, (off+int64(done))%transfer.BlockSize
			k := min(len(p)-done, int(transfer.BlockSize-in))
			part := p[done : done+k]
			switch b := n.block(i); {
			case b != nil:
				copy(part, b[in:])
			case n.Encrypted:
				for j := range part {
					part[j] = 0xA5
				}
			default:
				clear(part)
			}
			done += k
		}
		return done, nil
	}
	hole := func(off, length int64) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := off / transfer.BlockSize; i*transfer.BlockSize < off+length; i++ {
			if n.Encrypted || n.block(i) != nil {
				return false
			}
		}
		return true
	}
	return image{read, hole}, size
}

var zeroBlock = make([]byte, transfer.BlockSize)

type draft struct {
	s *Store
	n *snapshot
}

func (d *draft) ID() transfer.SnapshotID { return d.n.ID }

func (d *draft) Put(ctx context.Context, index int64, data []byte, digest transfer.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if hook := d.s.PutHook; hook != nil {
		if err := hook(ctx, d.n.ID, index); err != nil {
			return err
		}
	}
	op := fmt.Sprintf("put block %d of %s", index, d.n.ID)
	isZero := digest == transfer.ZeroDigest && bytes.Equal(data, zeroBlock)
	if len(data) != transfer.BlockSize || (!isZero && transfer.Digest(sha256.Sum256(data)) != digest) || index < 0 || index >= d.n.VolumeGiB*transfer.BlocksPerGiB {
		return transfer.Fail(transfer.Permanent, op, errors.New("wrong length, digest or index"), "")
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.snaps[d.n.ID] == nil || d.n.State != transfer.Pending || d.n.begun {
		return transfer.Fail(transfer.Permanent, op, errors.New("the draft is gone, or being sealed"), "")
	}
	kept := zeroBlock // shared: an encrypted seed is full of them
	if !isZero {
		kept = slices.Clone(data)
	}
	d.n.blocks[index], d.n.sums[index] = kept, digest
	d.s.puts++
	return nil
}

func (d *draft) Seal(ctx context.Context, seal transfer.Seal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := "seal " + string(d.n.ID)
	if hook := d.s.SealHook; hook != nil {
		if err := hook(d.n.ID); err != nil {
			return err
		}
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.snaps[d.n.ID] == nil {
		return transfer.Fail(transfer.Permanent, op, errors.New("the draft is gone"), "")
	}
	sum := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(d.n.sums)) {
		digest := d.n.sums[i]
		sum.Write(digest[:])
	}
	if seal.Label != nil {
		d.n.Label = *seal.Label
	}
	d.n.Label.Blocks, d.n.Label.Root = seal.Blocks, seal.Root
	if d.s.SealLost != nil && d.s.SealLost(d.n.ID) {
		d.n.begun = true
		return transfer.Fail(transfer.Retry, op, errors.New("EC2 still calls it pending"), "")
	}
	switch {
	case seal.Blocks != int64(len(d.n.blocks)):
		d.n.State, d.n.Message = transfer.Failed, "Changed blocks count mismatch"
	case transfer.Digest(sum.Sum(nil)) != seal.Checksum:
		d.n.State, d.n.Message = transfer.Failed, "Checksum mismatch for snapshot"
	default:
		d.n.State = transfer.Completed
		return nil
	}
	return transfer.Fail(transfer.Retry, op, fmt.Errorf("%w: %s", transfer.ErrDraftFailed, d.n.Message), "")
}

func (d *draft) Abort(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.n.State != transfer.Completed {
		delete(d.s.snaps, d.n.ID)
	}
	return nil
}

type snapshotReader struct {
	s *Store
	n *snapshot
}

func (r *snapshotReader) Blocks(ctx context.Context, yield func(int64, string) error) error {
	r.s.mu.Lock()
	present := map[int64]bool{}
	for n := r.n; n != nil; n = n.parent {
		for i := range n.blocks {
			present[i] = true
		}
	}
	r.s.mu.Unlock()
	for _, i := range slices.SortedFunc(maps.Keys(present), cmp.Compare[int64]) {
		if err := cmp.Or(ctx.Err(), yield(i, fmt.Sprint("token-", i))); err != nil {
			return err
		}
	}
	return nil
}

func (r *snapshotReader) Get(ctx context.Context, index int64, token string, buf []byte) (transfer.Digest, error) {
	if err := ctx.Err(); err != nil {
		return transfer.Digest{}, err
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	b := r.n.block(index)
	if b == nil || token != fmt.Sprint("token-", index) {
		return transfer.Digest{}, transfer.Fail(transfer.Permanent, fmt.Sprintf("get block %d of %s", index, r.n.ID), errors.New("not there, or a wrong token"), "")
	}
	copy(buf, b)
	return sha256.Sum256(b), nil
}

// Pending lists the drafts that are neither sealed nor aborted, and failed
// ones.
func (s *Store) Pending() (ids []transfer.SnapshotID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.snaps)) {
		if s.snaps[id].State != transfer.Completed {
			ids = append(ids, id)
		}
	}
	return ids
}
