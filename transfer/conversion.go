package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"snapferry/transfer/manifest"
)

// Convert is the pipeline once more, for the disk of a recovery point on which
// a guest was made ready for EC2: what differs from the point's snapshot
// becomes a child of it, labelled as its conversion. The chain that is
// replicated is not touched.
type Convert struct {
	Env
	Base   Snapshot   // of the converted disk, completed, of kind Seed, Delta or Compare
	Reader DiskReader // the disk with the changes on top; the caller closes it
	// Changed calls yield for the areas that may have changed, as Frozen.Areas
	// does.
	Changed func(ctx context.Context, yield func(Extent) error) error
	// Known is the digest that block index has in Base. ok is false where the
	// block is absent from Base: it counts as zeros then, unless Base is
	// encrypted, where absent blocks read as garbage.
	Known   func(ctx context.Context, index int64) (d Digest, ok bool, err error)
	Reason  string            // for a person, one line
	Tags    map[string]string // the user's own
	Scratch string            // folder for the journal; "" is the system's
}

// Converted is what came of it.
type Converted struct {
	Cycle    CycleID    `json:"cycle"`
	Snapshot SnapshotID `json:"snapshot,omitempty"` // "" where nothing differs: there is none then
	Report   DiskReport `json:"report"`
}

// Run puts the blocks that differ and seals them. Where none does it starts no
// draft. On an error the draft is aborted, under a context of its own, or the
// error says that it is left: another conversion of the same disk changes other
// bytes, so that nothing could go on with it. One whose seal has begun is left
// to complete.
func (c *Convert) Run(ctx context.Context) (Converted, error) {
	label, err := c.label()
	if err != nil {
		return Converted{}, err
	}
	run := converting{Convert: c, label: label}
	run.result.Cycle = label.Cycle
	run.result.Report = DiskReport{Disk: label.Disk, Label: label.DiskLabel, Size: label.DiskSize, Kind: Conversion, Reason: label.Reason, Parent: label.Parent}
	dir, err := os.MkdirTemp(c.Scratch, "snapferry-conversion-")
	if err != nil {
		return run.result, fmt.Errorf("make scratch folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := run.do(ctx, dir); err != nil {
		if ctx.Err() != nil {
			err = &Error{Kind: Canceled, Op: "put the conversion", Err: err}
		}
		return run.result, fmt.Errorf("convert %s of %s: %w", label.DiskLabel, label.VMName, err)
	}
	return run.result, nil
}

func (c *Convert) label() (Label, error) {
	l := c.Base.Label
	if c.Base.State != Completed || l.Kind == Conversion {
		return l, Fail(Permanent, fmt.Sprintf("convert %s", c.Base.ID), fmt.Errorf("it is %s, of kind %q, and not a disk of a recovery point", c.Base.State, l.Kind), "")
	}
	l.Appliance, l.Converts, l.Cycle = c.Appliance, l.Cycle, NewCycleID(c.Now())
	l.Parent, l.Kind, l.Reason = c.Base.ID, Conversion, c.Reason
	l.Ordinal, l.Of, l.Excluded = 1, 1, nil
	l.Confirmed, l.ChangeID, l.Root, l.Blocks = time.Time{}, "", nil, -1
	return l, nil
}

// converting is one run. Only the copier's goroutines run beside it, and they
// have ended when do looks at what they left.
type converting struct {
	*Convert
	label   Label
	draft   lazyDraft
	meters  chan struct{} // one token: whoever holds it writes the report
	result  Converted
	journal *manifest.Table
}

func (c *converting) do(ctx context.Context, dir string) error {
	c.meters = make(chan struct{}, 1)
	blocks := VolumeBlocks(c.label.DiskSize)
	var err error
	if c.journal, err = manifest.Create(filepath.Join(dir, "journal"), manifest.Header{Blocks: blocks}); err != nil {
		return err
	}
	defer c.journal.Close()
	base, err := manifest.Create(filepath.Join(dir, "base"), manifest.Header{Blocks: blocks})
	if err != nil {
		return err
	}
	defer base.Close()
	read, err := c.choose(ctx, base, blocks)
	if err != nil {
		return err
	}
	c.result.Report.Blocks, c.result.Report.CopyStarted = read.Len(), c.Now()
	p := copier{
		size: c.label.DiskSize, plan: Plan{Kind: Conversion}, read: read, base: base, reader: c.Reader,
		draft: c.open, buffers: c.Buffers, reads: c.Reads, puts: c.Puts, meter: c.meter,
	}
	err = p.run(ctx)
	c.result.Report.CopyEnded = c.Now()
	if err == nil && c.draft.asked {
		err = c.seal(ctx)
	}
	if err != nil {
		return errors.Join(err, c.abort(ctx))
	}
	return nil
}

// choose finds the blocks to look at, and what Base has there.
func (c *converting) choose(ctx context.Context, base *manifest.Table, blocks int64) (*BlockSet, error) {
	read := NewBlockSet(blocks)
	err := c.Changed(ctx, CheckAreas(c.label.DiskSize, func(e Extent) error {
		read.AddExtent(e)
		c.result.Report.Areas++
		c.result.Report.AreaBytes += e.Length
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("find the changed areas: %w", err)
	}
	for i := range read.All() {
		d, ok, err := c.Known(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("read block %d of %s: %w", i, c.Base.ID, err)
		}
		if !ok && c.Base.Encrypted {
			continue
		}
		if !ok {
			d = ZeroDigest
		}
		if err := base.Set(i, d); err != nil {
			return nil, err
		}
	}
	return read, nil
}

func (c *converting) meter(f func(*DiskReport)) {
	c.meters <- struct{}{}
	f(&c.result.Report)
	<-c.meters
}

func (c *converting) open(ctx context.Context) (Draft, *manifest.Table, error) {
	return c.draft.open(func() error {
		c.draft.journal = c.journal
		c.draft.spec = DraftSpec{Token: string(c.label.Cycle) + "-conversion", Label: c.label, VolumeGiB: c.Base.VolumeGiB, Tags: c.Tags}
		c.draft.asked = true
		var err error
		if c.draft.draft, err = c.Store.Start(ctx, c.draft.spec); KindOf(err) == BaselineLost {
			return Fail(Permanent, "start draft", err, "The point's snapshot can have no children any more: replicate the VM anew and convert the new point.")
		} else if err != nil {
			return err
		}
		c.result.Snapshot = c.draft.draft.ID()
		c.meter(func(r *DiskReport) { r.Snapshot = c.result.Snapshot })
		return nil
	})
}

func (c *converting) seal(ctx context.Context) error {
	n, sum, err := c.journal.Linear()
	if err != nil {
		return err
	}
	c.draft.sealing = true
	if err := c.draft.draft.Seal(ctx, Seal{Blocks: n, Checksum: Digest(sum)}); err != nil {
		c.draft.spoiled = errors.Is(err, ErrDraftFailed)
		return err
	}
	c.draft.sealed, c.result.Report.Sealed = true, true
	return nil
}

// abort ends a draft that did not seal.
func (c *converting) abort(ctx context.Context) error {
	l := &c.draft
	if !l.asked || (l.sealing && !l.spoiled) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Cleanup)
	defer cancel()
	var err error
	if l.draft == nil { // no answer to the start: the token tells whether there is a draft
		if l.draft, err = c.Store.Start(ctx, l.spec); err != nil {
			if kind := KindOf(err); kind == Permanent || kind == BaselineLost {
				return nil // there is none
			}
		}
	}
	if err == nil {
		err = l.draft.Abort(ctx)
	}
	if err != nil {
		return fmt.Errorf("the draft of the conversion is left in AWS: %w", err)
	}
	c.result.Snapshot, c.result.Report.Snapshot = "", ""
	return nil
}

// ConversionOf returns the newest completed conversion of one snapshot of a
// point that nothing calls suspect, or nil.
func (p Point) ConversionOf(disk SnapshotID) *Snapshot {
	for i := range p.Conversions {
		if s := &p.Conversions[i]; s.Label.Parent == disk && s.State == Completed && s.Label.Suspect == "" {
			return s
		}
	}
	return nil
}

// OrphanedConversions are the conversions of whose point nothing is left.
func OrphanedConversions(snapshots []Snapshot) (orphans []Snapshot) {
	points := map[pointKey]bool{}
	for _, s := range snapshots {
		if s.Label.Kind != Conversion {
			points[pointKey{s.Label.VM, s.Label.Cycle}] = true
		}
	}
	for _, s := range snapshots {
		if s.Label.Kind == Conversion && !points[pointKey{s.Label.VM, s.Label.Converts}] {
			orphans = append(orphans, s)
		}
	}
	return newestStarted(orphans)
}

// sealed is what a deletion of the point deletes, in its order. Conversions
// that are not completed are the reaper's.
func (p Point) sealed() []Snapshot {
	var all []Snapshot
	for _, s := range p.Conversions {
		if s.State == Completed {
			all = append(all, s)
		}
	}
	return append(all, p.Disks...)
}

func newestStarted(all []Snapshot) []Snapshot {
	slices.SortFunc(all, func(a, b Snapshot) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})
	return all
}

// orphanedConversion judges a conversion of no point: nothing can be launched
// from it any more.
func (r *reap) orphanedConversion(s Snapshot) []Action {
	if s.State != Completed || (s.Label.Appliance != r.Appliance && !r.dead(s.Label.Appliance)) {
		return nil
	}
	a := r.ebs(s, LeftConversion)
	switch why := r.hands(s.Label.VM, s.Label.Appliance, s.Label.Cycle); {
	case why != "":
		a.Reason = why
	case r.NoEBS != "":
		a.Reason = "its point may be among what cannot be read: " + r.NoEBS
	default:
		a.Do, a.Reason = DeedDelete, fmt.Sprintf("nothing is left of point %s, of which it is the conversion", s.Label.Converts)
	}
	return []Action{a}
}
