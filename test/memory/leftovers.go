package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"snapferry/transfer"
)

// Leftovers are VM snapshots and attached disks with our mark: a
// transfer.ReapSource. Removing a snapshot while a disk of its VM is attached
// fails, as it would harm the VM.
type Leftovers struct {
	// Hook, when set, runs before each deed, with the ID that its action has, and
	// can make it fail.
	Hook func(id string) error
	// ListErr makes all lists fail.
	ListErr error

	mu        sync.Mutex
	snapshots []transfer.MarkedSnapshot
	disks     []transfer.MarkedDisk
	here      string // moref of the appliance
	log       []string
}

// NewLeftovers returns none of them, seen from the appliance with this moref.
func NewLeftovers(here string) *Leftovers { return &Leftovers{here: here} }

// Add adds what a crash left.
func (l *Leftovers) Add(snapshots []transfer.MarkedSnapshot, disks []transfer.MarkedDisk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.snapshots, l.disks = append(l.snapshots, snapshots...), append(l.disks, disks...)
}

// Log is what was done, in order: "detach SLOT", "remove MOREF".
func (l *Leftovers) Log() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.log)
}

// Snapshots implements transfer.ReapSource.
func (l *Leftovers) Snapshots(ctx context.Context, vms []transfer.VMID) ([]transfer.MarkedSnapshot, error) {
	if err := errors.Join(ctx.Err(), l.ListErr); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.snapshots), func(s transfer.MarkedSnapshot) bool {
		return vms != nil && !slices.Contains(vms, s.VM)
	}), nil
}

// Disks implements transfer.ReapSource.
func (l *Leftovers) Disks(ctx context.Context, everywhere bool) ([]transfer.MarkedDisk, error) {
	if err := errors.Join(ctx.Err(), l.ListErr); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.disks), func(d transfer.MarkedDisk) bool { return !everywhere && d.Holder != l.here }), nil
}

// Detach implements transfer.ReapSource.
func (l *Leftovers) Detach(ctx context.Context, d transfer.MarkedDisk) error {
	if err := l.begin(ctx, d.Slot); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disks = slices.DeleteFunc(l.disks, func(x transfer.MarkedDisk) bool { return x == d })
	l.log = append(l.log, "detach "+d.Slot)
	return nil
}

// Remove implements transfer.ReapSource.
func (l *Leftovers) Remove(ctx context.Context, s transfer.MarkedSnapshot) error {
	if err := l.begin(ctx, s.Snapshot); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.disks {
		if d.VM == s.VM {
			return fmt.Errorf("remove VM snapshot %s: %s is attached", s.Snapshot, d.File)
		}
	}
	l.snapshots = slices.DeleteFunc(l.snapshots, func(x transfer.MarkedSnapshot) bool { return x == s })
	l.log = append(l.log, "remove "+s.Snapshot)
	return nil
}

// begin fails where ctx has ended, also when it did so meanwhile.
func (l *Leftovers) begin(ctx context.Context, id string) error {
	if l.Hook != nil && ctx.Err() == nil {
		if err := l.Hook(id); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ReapStore is a Store with what the reaper needs besides: a
// transfer.ReapStore.
type ReapStore struct {
	*Store
	// InUse are completed snapshots that something uses.
	InUse map[transfer.SnapshotID]bool
	// AllErr comes beside the result of AllSnapshots.
	AllErr error
}

// Put adds a snapshot as it is, or puts it in the place of another.
func (s *Store) Put(n transfer.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snaps[n.ID] = &snapshot{Snapshot: n, blocks: map[int64][]byte{}, sums: map[int64]transfer.Digest{}}
}

// AllSnapshots implements transfer.ReapStore.
func (s *ReapStore) AllSnapshots(ctx context.Context) ([]transfer.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []transfer.Snapshot
	for _, n := range s.snaps {
		all = append(all, n.Snapshot)
	}
	slices.SortFunc(all, func(a, b transfer.Snapshot) int { return a.Started.Compare(b.Started) })
	return all, s.AllErr
}

// Abandon implements transfer.ReapStore.
func (s *ReapStore) Abandon(ctx context.Context, id transfer.SnapshotID) error {
	return s.remove(ctx, id, transfer.Pending, transfer.Failed)
}

// Expire implements transfer.Expirer.
func (s *ReapStore) Expire(ctx context.Context, id transfer.SnapshotID) error {
	if s.InUse[id] {
		return transfer.Fail(transfer.Permanent, "delete snapshot "+string(id), fmt.Errorf("%w: an image", transfer.ErrInUse), "")
	}
	return s.remove(ctx, id, transfer.Completed)
}

func (s *ReapStore) remove(ctx context.Context, id transfer.SnapshotID, states ...transfer.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.snaps[id]
	switch {
	case n == nil:
		return nil
	case !slices.Contains(states, n.State):
		return transfer.Fail(transfer.Permanent, "delete snapshot "+string(id), fmt.Errorf("it is %s", n.State), "")
	}
	delete(s.snaps, id)
	return nil
}
