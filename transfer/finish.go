package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer/manifest"
)

// finishSeals ends what an earlier cycle began: a seal that was cut off, by a
// crash or by the network, somewhere between its tags and EC2's "completed". A
// draft takes no more blocks then, and deleting it would throw a finished
// upload away. The journal has what the seal needs, and completing twice is
// completing once. again says that the list of snapshots is out of date.
//
// So it is with the disks that the VM has no more: the point of their cycle may
// wait for nothing else. One of those that fails does not keep the others.
func (c *Cycle) finishSeals(ctx context.Context, snapshots []Snapshot, strays []*diskCycle) (again bool, err error) {
	var g errgroup.Group
	disks := slices.Concat(c.disks, strays)
	errs := make([]error, len(disks))
	for i, d := range disks {
		s, journal, err := d.begunSeal(snapshots)
		if journal == nil {
			errs[i] = err
			continue
		}
		again = true
		g.Go(func() error {
			defer journal.Close()
			if err := d.finishSeal(ctx, s, journal); err != nil {
				errs[i] = fmt.Errorf("%s: finish the seal of %s: %w", d.disk.Label, s.ID, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	for _, err := range errs[len(c.disks):] {
		if err != nil {
			c.Progress.notef("of a disk that is not replicated any more: %v", err)
		}
	}
	return again, errors.Join(errs[:len(c.disks)]...)
}

// begunSeal returns the disk's journalled draft if its seal has begun and is
// not over: the tags have the count that only a seal writes.
func (d *diskCycle) begunSeal(snapshots []Snapshot) (s Snapshot, journal *manifest.Table, err error) {
	journal, err = d.openJournal()
	if err != nil || journal == nil {
		return s, nil, err
	}
	if s, begun := sealBegun(snapshots, SnapshotID(journal.Header().Snapshot)); begun {
		return s, journal, nil
	}
	return s, nil, journal.Close()
}

// openJournal returns the journal that an earlier cycle left of the disk, or nil.
func (d *diskCycle) openJournal() (journal *manifest.Table, err error) {
	if d.dir, err = d.c.dir.Disk(d.disk.ID.String()); err != nil {
		return nil, err
	}
	return d.dir.OpenJournal()
}

// sealBegun finds a draft whose seal has begun and is not over.
func sealBegun(snapshots []Snapshot, id SnapshotID) (Snapshot, bool) {
	i := slices.IndexFunc(snapshots, func(s Snapshot) bool { return s.ID == id && s.State == Pending && s.Label.Blocks >= 0 })
	if i < 0 {
		return Snapshot{}, false
	}
	return snapshots[i], true
}

func (d *diskCycle) finishSeal(ctx context.Context, s Snapshot, journal *manifest.Table) error {
	var spec DraftSpec
	if err := json.Unmarshal(journal.Header().Spec, &spec); err != nil {
		return fmt.Errorf("read its journal: %w", err)
	}
	n, sum, err := journal.Linear()
	if err != nil {
		return err
	}
	if n != s.Label.Blocks {
		// An older copy of the journal: what to seal nobody knows any more.
		d.c.Progress.notef("gave up draft %s of %s: the journal is not that of its seal", s.ID, d.disk.Label)
		return d.forget(ctx, spec, s.State)
	}
	draft, err := d.c.Store.Start(ctx, spec) // the same token finds it again
	if err != nil {
		return err
	}
	err = draft.Seal(ctx, Seal{Blocks: n, Checksum: Digest(sum), Root: s.Label.Root})
	if errors.Is(err, ErrDraftFailed) {
		return nil // the plan finds it in error and gives it up
	}
	if err == nil {
		d.c.Progress.notef("finished the seal of %s (%s) that cycle %s had begun", s.ID, d.disk.Label, s.Label.Cycle)
	}
	return err
}
