package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"snapferry/transfer/manifest"
)

// diskCycle is one disk in one cycle: planned, copied, then sealed or aborted.
type diskCycle struct {
	c       *Cycle
	disk    Disk // as inspected
	ordinal int  // from 1
	meter   func(func(*DiskReport))

	frozen  Disk // as frozen, from plan on
	decided Plan
	label   Label
	dir     *manifest.Disk
	base    *manifest.Table // what decided.Base holds; nil when not known
	read    *BlockSet
	earlier []Snapshot // completed ones of this disk

	reader DiskReader
	copied bool  // every block is put or skipped
	err    error // of the copy
	draft  lazyDraft
}

// plan decides, and asks vSphere for the areas; where it refuses the change
// ID, the decision is taken again with that knowledge.
func (d *diskCycle) plan(ctx context.Context, frozen Frozen, snapshots []Snapshot, byDefault bool) error {
	state := frozen.State()
	d.copied, d.err = false, nil
	var ok bool
	if d.frozen, ok = state.Disk(d.disk.ID); !ok {
		return Fail(Retry, "freeze", fmt.Errorf("disk %s is not in the VM snapshot", d.disk.ID), "The VM's disks changed at this moment; sync again.")
	}
	if gib := VolumeGiB(d.frozen.Size); gib > MaxVolumeGiB || gib < 1 {
		return Fail(Permanent, "plan", fmt.Errorf("%d bytes do not fit an EBS volume of 1 to %d GiB", d.frozen.Size, MaxVolumeGiB), "Leave it out with --exclude-disk.")
	}
	in, err := d.planInput(state, snapshots, byDefault)
	if err != nil {
		return err
	}
	d.decided, err = Decide(in)
	if err != nil {
		return err
	}
	err = d.selectBlocks(ctx, frozen)
	if KindOf(err) == BaselineLost && d.decided.Kind == Delta {
		in.Lost = err.Error()
		if d.decided, err = Decide(in); err == nil {
			err = d.selectBlocks(ctx, frozen)
		}
	}
	if err == nil {
		err = d.takeUp(ctx, frozen, snapshots)
	}
	if err == nil && in.Base != nil && in.Base.Label.Suspect != "" {
		err = d.tell(ctx, in.Base.ID, in.Base.Label.Suspect) // an earlier cycle may have died before it had told all
	}
	if err != nil {
		return err
	}
	d.describe(state)
	return nil
}

func (d *diskCycle) planInput(state FrozenVM, snapshots []Snapshot, byDefault bool) (PlanInput, error) {
	o := d.c.Options
	in := PlanInput{
		Disk: d.frozen, Tracking: state.Tracking,
		Zeros: o.Zeros, Encrypted: o.Encrypted, KMSKey: o.KMSKey, EncryptByDefault: byDefault, Reseed: o.Reseed,
	}
	in.Base, in.NoBase = Baseline(snapshots, d.frozen.ID)
	d.earlier = slices.DeleteFunc(slices.Clone(snapshots), func(s Snapshot) bool {
		return s.Label.Disk != d.frozen.ID || s.State != Completed
	})
	var err error
	if d.dir, err = d.c.dir.Disk(d.frozen.ID.String()); err != nil || in.Base == nil {
		return in, err
	}
	if d.base == nil { // otherwise an earlier freeze of this cycle opened it
		if d.base, err = d.dir.Load(string(in.Base.ID), string(in.Base.Label.Cycle)); err != nil || d.base == nil {
			return in, err
		}
	}
	in.Known = KnownPartly
	if d.base.Header().Whole {
		in.Known = KnownWhole
	}
	return in, nil
}

// selectBlocks fills d.read as the plan says.
func (d *diskCycle) selectBlocks(ctx context.Context, frozen Frozen) error {
	size := d.frozen.Size
	d.read = NewBlockSet(VolumeBlocks(size))
	d.meter(func(r *DiskReport) { r.Areas, r.AreaBytes = 0, 0 })
	since := d.decided.Since
	if d.decided.Allocated {
		since = AllAllocated
	}
	if since == "" {
		d.read.AddRange(0, DiskBlocks(size))
		return nil
	}
	err := frozen.Areas(ctx, d.frozen.ID, since, CheckAreas(size, func(e Extent) error {
		d.read.AddExtent(e)
		d.meter(func(r *DiskReport) { r.Areas++; r.AreaBytes += e.Length })
		return nil
	}))
	if KindOf(err) == BaselineLost && d.decided.Allocated {
		d.decided.Reason += "; read whole, since allocated areas are not to be had: " + err.Error()
		d.decided.Allocated = false
		return d.selectBlocks(ctx, frozen)
	}
	return err
}

// describe fixes what the snapshot's tags and the report will say.
func (d *diskCycle) describe(state FrozenVM) {
	p := d.decided
	if p.Kind == Seed && d.base != nil {
		_ = d.base.Close() // read only: nothing to lose
		d.base = nil
	}
	d.label = Label{
		Appliance: d.c.Appliance, VM: state.VM.ID, VMName: state.VM.Name, VMUUID: state.VM.InstanceUUID, Guest: state.VM.Guest,
		Cycle: d.c.id, Frozen: state.At, Quiesced: state.Quiesced,
		Disk: d.frozen.ID, DiskLabel: d.frozen.Label, DiskSize: d.frozen.Size,
		Ordinal: d.ordinal, Of: len(d.c.disks), Excluded: d.c.excluded,
		ChangeID: d.frozen.ChangeID, Kind: p.Kind, Reason: p.Reason, ZerosAbsent: p.ZerosAbsent, Blocks: -1,
	}
	if p.Base != nil {
		d.label.Parent = p.Base.ID
	}
	d.meter(func(r *DiskReport) {
		r.Size, r.Kind, r.Reason, r.Parent = d.frozen.Size, p.Kind, p.Reason, d.label.Parent
		r.Blocks = d.read.Len() + p.FillEnd - p.FillFirst
	})
}

// copy brings the disk's blocks into its draft. With nothing to look at it
// attaches nothing and opens no draft.
func (d *diskCycle) copy(ctx context.Context, frozen Frozen) error {
	sample := d.auditSample()
	if d.read.Len() == 0 && d.decided.FillEnd == d.decided.FillFirst && len(sample) == 0 {
		d.copied = true
		return nil
	}
	d.meter(func(r *DiskReport) { r.CopyStarted = d.c.Now() })
	defer d.meter(func(r *DiskReport) { r.CopyEnded = d.c.Now() })
	var err error
	if d.reader, err = frozen.Open(ctx, d.frozen.ID); err != nil {
		return err
	}
	d.meter(func(r *DiskReport) { r.Attached = true })
	c := copier{
		size: d.frozen.Size, read: d.read, base: d.base, held: d.held(), reader: d.reader,
		draft: d.open, buffers: d.c.Buffers, reads: d.c.Reads, puts: d.c.Puts, meter: d.meter,
	}
	if len(sample) > 0 {
		wrong, err := d.audit(ctx, &c, sample)
		if err == nil && wrong > 0 {
			err = d.distrust(ctx, wrong)
		}
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	c.plan = d.decided
	if err := c.run(ctx); err != nil {
		return err
	}
	d.copied = true
	return nil
}

// held is what the draft held when this freeze began.
func (d *diskCycle) held() *manifest.Table {
	if d.draft.resumed {
		return d.draft.journal
	}
	return nil
}

// close detaches the frozen disk; again after an error.
func (d *diskCycle) close(ctx context.Context) error {
	if d.reader == nil {
		return nil
	}
	if err := d.reader.Close(ctx); err != nil {
		return err
	}
	d.reader = nil
	d.meter(func(r *DiskReport) { r.Attached = false })
	return nil
}

// seal completes the draft, and commits its manifest once EC2 says completed.
func (d *diskCycle) seal(ctx context.Context) error {
	draft, journal, err := d.open(ctx)
	if err != nil {
		return err
	}
	d.c.Progress.step(StepSeal)
	var seal Seal
	var sum manifest.Digest
	if seal.Blocks, sum, err = journal.Linear(); err != nil {
		return err
	}
	seal.Checksum = Digest(sum)
	next, err := d.dir.Prepare(manifest.Header{Snapshot: string(draft.ID()), Cycle: string(d.c.id), Blocks: journal.Header().Blocks, Whole: d.decided.Whole}, d.base, journal)
	if err != nil {
		return err
	}
	defer next.Close()
	root, ok, err := next.Root(ZeroDigest)
	if err != nil {
		return err
	}
	if ok {
		r := Digest(root)
		seal.Root = &r
	}
	if d.draft.resumed {
		seal.Label = &d.label
	}
	d.draft.sealing = true
	if err := draft.Seal(ctx, seal); err != nil {
		d.draft.spoiled = errors.Is(err, ErrDraftFailed)
		return err
	}
	d.draft.sealed = true
	if d.decided.Kind != Delta { // every block was looked at
		if err := d.dir.SetAudited(d.c.Now()); err != nil {
			return err
		}
	}
	d.meter(func(r *DiskReport) { r.Sealed = true })
	d.c.Progress.step(StepCommit)
	return d.dir.Commit()
}

// open returns the draft, started with the first call.
func (d *diskCycle) open(ctx context.Context) (Draft, *manifest.Table, error) {
	return d.draft.open(func() error { return d.start(ctx) })
}

// start writes down how the draft is started, then starts it: after a lost
// answer or a crash the same token finds it again.
func (d *diskCycle) start(ctx context.Context) error {
	l := &d.draft
	l.spec = DraftSpec{
		// A later freeze of the same cycle may start the draft anew, with another
		// label: AWS refuses a token that it has seen with other parameters.
		Token: fmt.Sprintf("%s-%d-%d", d.c.id, d.frozen.ID.Key, d.c.rounds), Label: d.label, VolumeGiB: VolumeGiB(d.frozen.Size),
		Encrypted: d.decided.Encrypted, KMSKey: d.decided.KMSKey, Tags: d.c.Tags,
	}
	text, err := json.Marshal(l.spec)
	if err != nil {
		return fmt.Errorf("encode draft: %w", err)
	}
	header := manifest.Header{Blocks: VolumeBlocks(d.frozen.Size), Spec: text}
	if l.journal, err = d.dir.StartJournal(header); err != nil {
		return err
	}
	l.asked = true
	if l.draft, err = d.c.Store.Start(ctx, l.spec); err != nil {
		return d.parentGone(err)
	}
	d.meter(func(r *DiskReport) { r.Snapshot = l.draft.ID() })
	header.Snapshot = string(l.draft.ID())
	return l.journal.SetHeader(header)
}

// parentGone turns a parent that became unusable since the plan into what it
// means for the cycle: the next one plans without it.
func (d *diskCycle) parentGone(err error) error {
	if KindOf(err) != BaselineLost {
		return err
	}
	return Fail(Retry, "start draft", err, "The parent snapshot became unusable during the cycle; sync again, the next plan takes another.")
}

// settle ends a draft that did not seal. One that holds blocks and may yet be
// sealed stays, and its journal with it: the next cycle goes on with it. So does
// one whose seal has begun, unless EC2 says that it failed: it may complete yet.
func (d *diskCycle) settle(ctx context.Context) error {
	l := &d.draft
	if !l.asked || l.sealed {
		return nil
	}
	if l.sealing && !l.spoiled {
		d.meter(func(r *DiskReport) { r.Kept = true })
		return nil
	}
	if l.draft != nil && l.err == nil && !l.spoiled && (d.err == nil || KindOf(d.err) != Permanent) {
		if n, _, err := l.journal.Linear(); err == nil && n > 0 {
			d.meter(func(r *DiskReport) { r.Kept = true })
			return nil
		}
	}
	return d.abort(ctx)
}

func (d *diskCycle) abort(ctx context.Context) error {
	l := &d.draft
	if l.draft == nil { // no answer to the start: the token tells whether there is a draft
		return d.forget(ctx, l.spec, "")
	}
	if err := l.draft.Abort(ctx); err != nil {
		return err
	}
	l.asked = false
	return d.dir.DropJournal()
}

func (d *diskCycle) closeTables() {
	if d.base != nil {
		_ = d.base.Close() // read only
	}
	d.closeJournal()
}

func (d *diskCycle) closeJournal() {
	if d.draft.journal != nil {
		_ = d.draft.journal.Close() // every write was checked when it was made
	}
}

// isIn reports whether the disk's base is part of a point.
func (d *diskCycle) isIn(p Point) bool {
	for _, s := range p.Disks {
		if s.ID == d.decided.Base.ID {
			return true
		}
	}
	return false
}
