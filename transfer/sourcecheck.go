package transfer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer/manifest"
)

// SourceCheck holds a recovery point against the VM, frozen anew: every block
// that change tracking calls unchanged since the point must be in AWS as it is
// on the frozen disk. One that differs is proof of a change that was lost;
// what may lack it too is marked as suspect. Nothing else is written. Make one
// for each run.
type SourceCheck struct {
	Env
	Source Source
	Point  Point
	Gets   int
	// Sample, when set, chooses among the unchanged blocks.
	Sample *Sample
	// Progress, when set, is told how many blocks of a disk (by its place in
	// the point) were compared, of how many; many at once.
	Progress func(disk int, done, of int64)

	mu     sync.Mutex
	frozen *FrozenVM // while it exists
	open   DiskReader
	label  string // of open
}

// SourceProof is the outcome of a SourceCheck.
type SourceProof struct {
	Point     CycleID       `json:"point"`
	VMName    string        `json:"vmName"`
	Frozen    time.Time     `json:"frozen"`           // the point's instant
	Source    time.Time     `json:"source"`           // when the VM was frozen to compare; zero where it was not
	OK        bool          `json:"ok"`               // all disks were compared and no block differs
	Disks     []SourceDisk  `json:"disks"`            // that were compared to the end
	Alarms    []string      `json:"alarms,omitempty"` // what could not be cleaned up
	Gets      int64         `json:"gets"`             // blocks read from AWS
	Took      time.Duration `json:"tookNs"`
	FrozenFor time.Duration `json:"frozenForNs"` // how long the VM snapshot existed
}

// SourceDisk is one disk of a SourceProof. Blocks are of 512 KiB.
type SourceDisk struct {
	Snapshot SnapshotID  `json:"snapshot"`
	Label    string      `json:"label"`
	Ordinal  int         `json:"ordinal"`
	Size     int64       `json:"size"`
	OK       bool        `json:"ok"`
	Compared int64       `json:"compared"`
	Of       int64       `json:"of"`      // that CBT calls unchanged
	Changed  int64       `json:"changed"` // left out: CBT says that they changed since the point
	Unknown  int64       `json:"unknown"` // left out: absent on purpose from an encrypted snapshot, they read as garbage
	Gets     int64       `json:"gets"`
	Wrong    int64       `json:"wrong"`
	First    []int64     `json:"firstWrong,omitempty"` // the lowest of them, at most 16
	Odds     *SampleOdds `json:"odds,omitempty"`       // where a sample was compared
	Why      string      `json:"why,omitempty"`
}

// Run compares. Whatever happens, the frozen disks are detached and the VM
// snapshot is removed, under a context of their own, before it returns.
func (c *SourceCheck) Run(ctx context.Context) (SourceProof, error) {
	began := c.Now()
	p := SourceProof{Point: c.Point.Cycle, VMName: c.Point.VMName, Frozen: c.Point.Frozen, Disks: []SourceDisk{}}
	err := c.run(ctx, &p)
	p.OK = err == nil && !slices.ContainsFunc(p.Disks, func(d SourceDisk) bool { return !d.OK })
	p.Took = c.Now().Sub(began)
	if err != nil && ctx.Err() != nil {
		err = &Error{Kind: Canceled, Op: "compare with the source", Err: err}
	}
	return p, err
}

func (c *SourceCheck) run(ctx context.Context, p *SourceProof) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	dir, err := c.State.Lock(c.Point.VM.VCenter, c.Point.VM.Moref)
	if errors.Is(err, manifest.ErrBusy) {
		return Fail(Retry, "compare with "+c.Point.VMName, err, "Wait for it to end.")
	} else if err != nil {
		return err
	}
	defer dir.Unlock()
	frozen, err := c.Source.Freeze(ctx, FreezeSpec{Cycle: NewCycleID(c.Now()), Appliance: c.Appliance, Quiesce: QuiesceOff})
	if err != nil {
		return err
	}
	state := frozen.State()
	p.Source = state.At
	c.set(func() { c.frozen = &state })
	since := c.Now()
	defer func() {
		c.release(ctx, frozen, p)
		p.FrozenFor = c.Now().Sub(since)
	}()
	// The same reasons end a cycle's freeze: its age, and a datastore that runs low.
	watched, stop := (&Cycle{Env: c.Env}).watch(ctx, frozen)
	defer stop()
	for i := range c.Point.Disks {
		d, err := c.disk(watched, frozen, i)
		p.Gets += d.Gets
		var pressed *thaw
		if errors.As(context.Cause(watched), &pressed) {
			return Fail(Retry, "compare with the source", pressed, "--sample compares less and needs the VM snapshot for less time.")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Label, err)
		}
		p.Disks = append(p.Disks, d)
		if err := c.distrust(ctx, c.Point.Disks[i], d); err != nil {
			p.Alarms = append(p.Alarms, fmt.Sprintf("recovery points that hold %s could not be marked as suspect: %v", d.Label, err))
		}
	}
	return nil
}

// distrust marks, where a disk differs from the source, what may lack the same
// changes: its snapshots until this one, since nobody knows since when writes
// were lost, and those after it until one that was read as a whole.
func (c *SourceCheck) distrust(ctx context.Context, wrong Snapshot, d SourceDisk) error {
	if d.OK {
		return nil
	}
	all, err := c.Store.Snapshots(ctx, c.Point.VM)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s Snapshot) bool { return s.State != Completed || s.Label.Disk != wrong.Label.Disk })
	slices.SortFunc(all, func(a, b Snapshot) int { return a.Label.Frozen.Compare(b.Label.Frozen) })
	var ids []SnapshotID
	for _, s := range all {
		if s.Label.Frozen.After(wrong.Label.Frozen) && s.Label.Kind != Delta {
			break
		}
		if s.Label.Suspect == "" {
			ids = append(ids, s.ID)
		}
	}
	why := fmt.Sprintf("%s verify found %d blocks of %s that CBT called unchanged and that differ from the source",
		c.Now().UTC().Format(time.RFC3339), d.Wrong, wrong.ID)
	newest := max(0, len(ids)-1) // before the others, see diskCycle.tell
	if err := c.Store.Suspect(ctx, ids[newest:], why); err != nil {
		return err
	}
	return c.Store.Suspect(ctx, ids[:newest], why)
}

// ready refuses before the freeze what could only fail after it; above all,
// freezing a VM without CBT would enable it.
func (c *SourceCheck) ready(ctx context.Context) error {
	op := "compare with " + c.Point.VMName
	vm, err := c.Source.Inspect(ctx)
	if err != nil {
		return err
	}
	if vm.ID != c.Point.VM {
		return Fail(Permanent, op, fmt.Errorf("%s is not the VM %s of the recovery point", vm.ID, c.Point.VM), "")
	}
	if !vm.CBT {
		return Fail(Permanent, op, errors.New("CBT is off: nothing says what has changed since the point"), "snapferry sync enables it; the point after that can be compared.")
	}
	for _, s := range c.Point.Disks {
		live, ok := FrozenVM{VM: vm}.Disk(s.Label.Disk)
		switch {
		case !ok:
			return Fail(Permanent, op, fmt.Errorf("it has no disk %s (%s) any more", s.Label.Disk, s.Label.DiskLabel), "Compare the others with --disk.")
		case len(live.Obstacles) > 0:
			return Fail(Permanent, op, fmt.Errorf("%s: %s", live.Label, live.Obstacles[0].Reason), live.Obstacles[0].Remedy)
		}
	}
	return nil
}

// release detaches the open disk and removes the VM snapshot.
func (c *SourceCheck) release(ctx context.Context, frozen Frozen, p *SourceProof) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Cleanup)
	defer cancel()
	state := frozen.State()
	if err := c.close(ctx); err != nil {
		p.Alarms = append(p.Alarms,
			fmt.Sprintf("%s is left attached to the appliance: %v", c.label, err),
			fmt.Sprintf("VM snapshot %q (%s) is left: a disk of it is still attached to the appliance", state.SnapshotName, state.Snapshot))
		return
	}
	if err := frozen.Release(ctx); err != nil {
		p.Alarms = append(p.Alarms, fmt.Sprintf("VM snapshot %q (%s) is left and grows: %v", state.SnapshotName, state.Snapshot, err))
		return
	}
	c.set(func() { c.frozen = nil })
}

// close detaches the open disk, if one is.
func (c *SourceCheck) close(ctx context.Context) error {
	if c.open == nil {
		return nil
	}
	if err := c.open.Close(ctx); err != nil {
		return err
	}
	c.set(func() { c.open = nil })
	return nil
}

func (c *SourceCheck) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// Left names what exists now and would stay behind if the process ended: the
// disk that is attached, and the VM snapshot. It may be called at any time.
func (c *SourceCheck) Left() (disk string, frozen *FrozenVM) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != nil {
		disk = c.label
	}
	return disk, c.frozen
}

// disk compares one disk.
func (c *SourceCheck) disk(ctx context.Context, frozen Frozen, i int) (SourceDisk, error) {
	snap := c.Point.Disks[i]
	d := SourceDisk{Snapshot: snap.ID, Label: snap.Label.DiskLabel, Ordinal: snap.Label.Ordinal, Size: snap.Label.DiskSize}
	look, err := c.unchanged(ctx, frozen, snap)
	if err != nil {
		return d, err
	}
	d.Of = look.Len()
	d.Changed = DiskBlocks(d.Size) - d.Of
	if c.Sample != nil {
		look = c.Sample.Choose(look, uint64(snap.Label.Ordinal))
		odds := NewSampleOdds(*c.Sample, d.Of, look.Len())
		d.Odds = &odds
	}
	reader, err := c.Store.Read(ctx, snap.ID)
	if err != nil {
		return d, err
	}
	if look.Len() > 0 { // otherwise there is nothing to attach for
		open, err := frozen.Open(ctx, snap.Label.Disk)
		if err != nil {
			return d, err
		}
		c.set(func() { c.open, c.label = open, snap.Label.DiskLabel })
	}
	m := comparison{c: c, disk: i, snap: snap, look: look, reader: reader, source: c.open, reading: make(chan struct{}, c.Reads), result: &d}
	if err := m.run(ctx); err != nil {
		return d, err
	}
	if d.OK = d.Wrong == 0; !d.OK {
		d.Why = fmt.Sprintf("%d blocks differ from the source, which CBT calls unchanged since the point, the first at index %d", d.Wrong, d.First[0])
	}
	return d, c.close(ctx)
}

// unchanged is the set of the disk's blocks that CBT says nothing was written
// to between the point's instant and this freeze.
func (c *SourceCheck) unchanged(ctx context.Context, frozen Frozen, snap Snapshot) (*BlockSet, error) {
	const hint = "snapferry sync makes a point that can be compared."
	state := frozen.State()
	disk, ok := state.Disk(snap.Label.Disk)
	if !ok {
		return nil, Fail(Retry, "freeze", fmt.Errorf("disk %s is not in the VM snapshot", snap.Label.Disk), "The VM's disks changed at this moment; try again.")
	}
	if lost := baselineLost(PlanInput{Disk: disk, Tracking: state.Tracking, Base: &snap}); lost != "" {
		return nil, Fail(Permanent, "find what changed since the point", errors.New(lost), hint)
	}
	changed := NewBlockSet(VolumeBlocks(disk.Size))
	err := frozen.Areas(ctx, disk.ID, snap.Label.ChangeID, CheckAreas(disk.Size, func(e Extent) error {
		changed.AddExtent(e)
		return nil
	}))
	if KindOf(err) == BaselineLost {
		return nil, Fail(Permanent, "find what changed since the point", err, hint)
	} else if err != nil {
		return nil, err
	}
	look := NewBlockSet(VolumeBlocks(disk.Size))
	look.AddRange(0, DiskBlocks(disk.Size))
	for i := range changed.All() {
		look.Remove(i)
	}
	return look, nil
}

// comparison is one disk being compared.
type comparison struct {
	c       *SourceCheck
	disk    int
	snap    Snapshot
	look    *BlockSet
	reader  SnapshotReader
	source  DiskReader
	reading chan struct{} // bounds reads of the source
	result  *SourceDisk
	mu      sync.Mutex
	wrong   []int64 // the lowest met so far
}

// absent is the token of a block that the snapshot does not have.
const absent = ""

func (m *comparison) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan listed)
	g.Go(func() error {
		defer close(work)
		return m.list(ctx, work)
	})
	for range m.c.Gets {
		g.Go(func() error {
			for l := range work {
				if err := m.block(ctx, l); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	m.result.First = m.wrong
	return err
}

// list sends every block to look at, with the snapshot's token where it has it.
func (m *comparison) list(ctx context.Context, work chan<- listed) error {
	send := func(l listed) error {
		select {
		case work <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	next := int64(0)
	upTo := func(end int64) error { // blocks that the listing passed over
		for ; next < end; next++ {
			if m.look.Has(next) {
				if err := send(listed{next, absent}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := m.reader.Blocks(ctx, func(index int64, token string) error {
		if err := upTo(index); err != nil {
			return err
		}
		next = index + 1
		if !m.look.Has(index) {
			return nil
		}
		return send(listed{index, token})
	})
	return cmp.Or(err, upTo(m.look.n))
}

// block compares one block. One buffer serves both sides in turn: two for each
// worker could leave all of them waiting for the second.
func (m *comparison) block(ctx context.Context, l listed) error {
	if l.token == absent && m.snap.Encrypted && m.snap.Label.ZerosAbsent {
		m.count(l.index, false, func(d *SourceDisk) { d.Unknown++ })
		return nil
	}
	buf, err := m.c.Buffers.get(ctx)
	if err != nil {
		return err
	}
	defer m.c.Buffers.put(buf)
	want, err := m.read(ctx, l.index, buf)
	if err != nil {
		return err
	}
	got, gets := ZeroDigest, int64(0)
	if l.token != absent {
		if got, err = m.reader.Get(ctx, l.index, l.token, buf); err != nil {
			return err
		}
		gets = 1
	}
	// Absent from an encrypted snapshot that should have every block: garbage.
	wrong := got != want || (l.token == absent && m.snap.Encrypted)
	m.count(l.index, wrong, func(d *SourceDisk) { d.Compared++; d.Gets += gets })
	return nil
}

// read is the digest of one block of the frozen disk, padded with zeros.
func (m *comparison) read(ctx context.Context, index int64, buf []byte) (Digest, error) {
	select {
	case m.reading <- struct{}{}:
		defer func() { <-m.reading }()
	case <-ctx.Done():
		return Digest{}, ctx.Err()
	}
	offset := index * BlockSize
	n := min(BlockSize, m.snap.Label.DiskSize-offset)
	if _, err := m.source.ReadAt(buf[:n], offset); err != nil {
		return Digest{}, fmt.Errorf("read block %d of the frozen disk: %w", index, err)
	}
	clear(buf[n:])
	if isZero(buf) {
		return ZeroDigest, nil
	}
	return sha256.Sum256(buf), nil
}

func (m *comparison) count(index int64, wrong bool, f func(*SourceDisk)) {
	m.mu.Lock()
	f(m.result)
	if wrong {
		m.result.Wrong++
		at, _ := slices.BinarySearch(m.wrong, index)
		m.wrong = slices.Insert(m.wrong, at, index)
		m.wrong = m.wrong[:min(len(m.wrong), maxWrong)]
	}
	done := m.result.Compared + m.result.Unknown
	m.mu.Unlock()
	if m.c.Progress != nil {
		m.c.Progress(m.disk, done, m.look.Len())
	}
}

// Verification is the result to store with the disk's snapshot.
func (d SourceDisk) Verification(at time.Time) Verification {
	return Verification{At: at, Kind: VerifySource, OK: d.OK, Blocks: d.Compared, Of: d.Of, Wrong: d.Wrong}
}
