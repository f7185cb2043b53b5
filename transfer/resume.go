package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"snapferry/transfer/manifest"
)

// takeUp goes on with a draft that an earlier cycle left, or an earlier freeze
// of this one: blocks that it holds and that did not change since its freeze
// are not read again. A draft that does not fit the plan is aborted.
func (d *diskCycle) takeUp(ctx context.Context, frozen Frozen, snapshots []Snapshot) error {
	if d.draft.asked && d.draft.draft == nil { // the last freeze ended while it was started
		d.closeJournal()
		d.draft = lazyDraft{}
	}
	if !d.draft.asked {
		if err := d.findDraft(ctx, snapshots); err != nil {
			return err
		}
	}
	if !d.draft.asked {
		return nil
	}
	d.draft.resumed = true
	held, err := heldBlocks(d.draft.journal)
	if err != nil {
		return err
	}
	changed, err := d.changedSince(ctx, frozen, d.draft.spec.Label.ChangeID)
	if err != nil {
		return err
	}
	resumed := int64(0)
	for i := range held.All() {
		switch {
		case i >= DiskBlocks(d.frozen.Size): // zeros behind the end: the copier knows them
		case changed == nil || changed.Has(i):
			d.read.Add(i) // the digest tells whether it must be put anew
		default:
			d.read.Remove(i)
			resumed++
		}
	}
	d.decided.Reason += fmt.Sprintf("; going on with draft %s, which holds %d blocks", d.draft.draft.ID(), held.Len())
	d.meter(func(r *DiskReport) { r.Resumed, r.Snapshot = resumed, d.draft.draft.ID() })
	return nil
}

func heldBlocks(journal *manifest.Table) (*BlockSet, error) {
	held := NewBlockSet(journal.Header().Blocks)
	err := journal.Each(func(i int64, _ manifest.Digest, set bool) error {
		if set {
			held.Add(i)
		}
		return nil
	})
	return held, err
}

// changedSince is the set of blocks that changed since a change ID; nil where
// vSphere cannot tell, so that every block must be looked at.
func (d *diskCycle) changedSince(ctx context.Context, frozen Frozen, since ChangeID) (*BlockSet, error) {
	if since == "" || since.Epoch() != d.frozen.ChangeID.Epoch() {
		return nil, nil
	}
	changed := NewBlockSet(VolumeBlocks(d.frozen.Size))
	err := frozen.Areas(ctx, d.frozen.ID, since, CheckAreas(d.frozen.Size, func(e Extent) error {
		changed.AddExtent(e)
		return nil
	}))
	if KindOf(err) == BaselineLost {
		return nil, nil
	}
	return changed, err
}

// findDraft opens the draft that the journal names, if it still is one and
// fits the plan; otherwise it is aborted and forgotten.
func (d *diskCycle) findDraft(ctx context.Context, snapshots []Snapshot) error {
	journal, err := d.dir.OpenJournal()
	if err != nil || journal == nil {
		return err
	}
	var spec DraftSpec
	if json.Unmarshal(journal.Header().Spec, &spec) != nil {
		_ = journal.Close()
		return d.dir.DropJournal() // not ours to read: as good as none
	}
	id := SnapshotID(journal.Header().Snapshot)
	why := d.unfit(spec, id, stateOf(snapshots, id))
	if why == "" {
		draft, err := d.c.Store.Start(ctx, spec) // the same token finds it again
		if err == nil && draft.ID() == id {
			d.draft.takeUp(draft, journal, spec)
			return nil
		}
		if err != nil && KindOf(err) != Permanent && KindOf(err) != BaselineLost {
			_ = journal.Close()
			return err
		}
		why = fmt.Sprintf("it is not found again: %v", err)
	}
	_ = journal.Close()
	d.decided.Reason += fmt.Sprintf("; draft %s of cycle %s could not be gone on with: %s", id, spec.Label.Cycle, why)
	return d.forget(ctx, spec, stateOf(snapshots, id))
}

func stateOf(snapshots []Snapshot, id SnapshotID) State {
	for _, s := range snapshots {
		if s.ID == id {
			return s.State
		}
	}
	return ""
}

// unfit says why a draft cannot become what the plan wants, or "".
func (d *diskCycle) unfit(spec DraftSpec, id SnapshotID, state State) string {
	p := d.decided
	parent := SnapshotID("")
	if p.Base != nil {
		parent = p.Base.ID
	}
	switch {
	case id == "":
		return "nobody knows whether it was started"
	case state == Completed:
		return "it was completed"
	case state == Failed:
		return "it is in error"
	case state != Pending:
		return "AWS does not have it any more; drafts that nobody writes to time out"
	case d.c.Reseed:
		return "a new seed is asked for"
	case spec.Label.Parent != parent:
		return fmt.Sprintf("its parent is %q, the plan's %q", spec.Label.Parent, parent)
	case spec.VolumeGiB != VolumeGiB(d.frozen.Size) || spec.Label.DiskSize != d.frozen.Size:
		return "the disk has another size now"
	case spec.Encrypted != p.Encrypted || spec.KMSKey != p.KMSKey || spec.Label.ZerosAbsent != p.ZerosAbsent:
		return "other encryption or another zero policy is asked for"
	}
	return ""
}

// forget aborts a draft by what started it, and drops its journal.
func (d *diskCycle) forget(ctx context.Context, spec DraftSpec, state State) error {
	if state != Completed {
		draft, err := d.c.Store.Start(ctx, spec) // also where the answer to the first start was lost
		if err == nil {
			err = draft.Abort(ctx)
		}
		if kind := KindOf(err); err != nil && kind != Permanent && kind != BaselineLost {
			return err
		}
	}
	return d.dir.DropJournal()
}

// strays are the disks that have a journal and are not in the cycle: the VM has
// them no more, or the user leaves them out now.
func (c *Cycle) strays(vm VM) (all []*diskCycle) {
	found, err := c.State.Journals(vm.ID.VCenter, vm.ID.Moref)
	if err != nil {
		c.Progress.notef("could not look for drafts of disks that are gone: %v", err)
	}
	for _, j := range found {
		var spec DraftSpec
		if json.Unmarshal(j.Header.Spec, &spec) != nil {
			continue
		}
		id := spec.Label.Disk
		if !slices.ContainsFunc(c.disks, func(d *diskCycle) bool { return d.disk.ID == id }) {
			all = append(all, &diskCycle{c: c, disk: Disk{ID: id, Label: spec.Label.DiskLabel}})
		}
	}
	return all
}

// forgetStrays aborts the drafts of disks that the VM has no more: nobody goes
// on with them. What cannot be aborted now stays with its journal for the next
// cycle, and so does one whose seal has begun and could not be finished.
func (c *Cycle) forgetStrays(ctx context.Context, vm VM, snapshots []Snapshot, strays []*diskCycle) {
	for _, d := range strays {
		if _, there := (FrozenVM{VM: vm}).Disk(d.disk.ID); there {
			continue
		}
		if err := d.forgetStray(ctx, snapshots); err != nil {
			c.Progress.notef("the draft of %s, which the VM has no more, could not be aborted: %v", d.disk.Label, err)
		}
	}
}

func (d *diskCycle) forgetStray(ctx context.Context, snapshots []Snapshot) error {
	journal, err := d.openJournal()
	if err != nil || journal == nil {
		return err
	}
	var spec DraftSpec
	id := SnapshotID(journal.Header().Snapshot)
	err = errors.Join(json.Unmarshal(journal.Header().Spec, &spec), journal.Close())
	if err != nil {
		return err
	}
	if _, begun := sealBegun(snapshots, id); begun {
		d.c.Progress.notef("the seal of %s of %s, which the VM has no more, is not over", id, d.disk.Label)
		return nil
	}
	state := stateOf(snapshots, id)
	if err := d.forget(ctx, spec, state); err != nil || state == Completed {
		return err
	}
	d.c.Progress.notef("aborted draft %s of %s, which the VM has no more", id, d.disk.Label)
	return nil
}
