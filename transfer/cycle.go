package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/transfer/manifest"
)

// Env is what cycles need from outside. One serves all cycles of a process.
type Env struct {
	Store     Store
	State     manifest.Dir
	Appliance ApplianceID
	Buffers   *Buffers // shared: the memory bound of the process
	Reads     int      // reads in flight per disk
	Puts      int      // puts in flight per disk
	Audit     int      // blocks to audit per disk and cycle, see DefaultAudit; 0: none
	Now       func() time.Time
	// MaxFreeze is how long a VM snapshot of ours may live; past it, or when a
	// datastore runs low, the VM is frozen anew and the copy goes on with the
	// same drafts. 0: no limit.
	MaxFreeze time.Duration
	// Watch is how often that is looked at; 0 is DefaultWatch.
	Watch time.Duration
	// Cleanup bounds what still runs after the cycle's context ended:
	// detaching, removing the VM snapshot, aborting drafts.
	Cleanup time.Duration
	// LockWait is how long a cycle waits for the VM's lock, which another cycle
	// or the reaper of this machine has; 0 refuses at once.
	LockWait time.Duration
}

// DefaultCleanup is long because consolidating a VM snapshot is: minutes on a
// busy datastore, and giving up leaves one that grows.
const DefaultCleanup = 15 * time.Minute

// DefaultWatch: a guest that writes 100 MB/s fills 6 GB of redo log in it.
const DefaultWatch = time.Minute

// Options are the user's wishes for one cycle.
type Options struct {
	Quiesce   Quiesce
	Zeros     ZeroPolicy
	Encrypted bool
	KMSKey    string
	Exclude   []string          // disks by label, device key, UUID or datastore path
	Tags      map[string]string // on everything made in AWS
	Reseed    bool
}

// Cycle is one replication run of one VM. Make one for each run.
type Cycle struct {
	Env
	Options
	Source   Source
	Progress *Progress

	id       CycleID
	dir      *manifest.VM
	disks    []*diskCycle
	excluded []string // labels of disks left out
	rounds   int      // freezes so far
	at       time.Time
}

// Run replicates the VM once: it makes a recovery point, or confirms the last
// one where nothing changed. Whatever happens, the frozen disks are detached
// and the VM snapshot is removed, under a context of their own, before it
// returns; what could not be cleaned up is an alarm in the report.
func (c *Cycle) Run(ctx context.Context) (Report, error) {
	err := c.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = &Error{Kind: Canceled, Op: "replicate", Err: err}
	}
	c.Progress.end(err)
	return c.Progress.Report(), err
}

func (c *Cycle) run(ctx context.Context) error {
	vm, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	if c.dir, err = c.lock(ctx, vm); err != nil {
		return err
	}
	defer c.dir.Unlock()
	snapshots, byDefault, err := c.cloud(ctx, vm.ID)
	if err != nil {
		return err
	}

	strays := c.strays(vm)
	again, err := c.finishSeals(ctx, snapshots, strays)
	if err == nil && again {
		snapshots, byDefault, err = c.cloud(ctx, vm.ID)
	}
	if err != nil {
		return err
	}
	defer c.closeTables()
	c.forgetStrays(ctx, vm, snapshots, strays)
	for {
		err := c.round(ctx, snapshots, byDefault)
		if !errors.As(err, new(*thaw)) {
			return err
		}
		c.Progress.notef("froze the VM anew and went on with the same drafts: %v", err)
	}
}

// lockPause is how often a lock that is waited for is asked for.
const lockPause = 250 * time.Millisecond

// lock keeps other cycles of the VM, and the reaper, away on this machine.
func (c *Cycle) lock(ctx context.Context, vm VM) (*manifest.VM, error) {
	for began := time.Now(); ; {
		dir, err := c.State.Lock(vm.ID.VCenter, vm.ID.Moref)
		if !errors.Is(err, manifest.ErrBusy) {
			return dir, err
		}
		if time.Since(began) >= c.LockWait {
			return nil, Fail(Retry, "replicate "+vm.Name, err, "Wait for it to end.")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// round freezes the VM and goes as far as it gets. A *thaw asks for another
// round, which goes on with the same drafts.
func (c *Cycle) round(ctx context.Context, snapshots []Snapshot, byDefault bool) error {
	c.Progress.step(StepFreeze)
	c.rounds++
	asked := c.Now()
	frozen, err := c.Source.Freeze(ctx, FreezeSpec{Cycle: c.id, Appliance: c.Appliance, Quiesce: c.Quiesce})
	if err != nil {
		c.settle(ctx)
		return err
	}
	c.Progress.update(func(r *Report) { r.FreezeTook, r.ReleaseTook = c.Now().Sub(asked), 0 })
	release := c.releaser(ctx, frozen)
	defer release() // a second call does nothing
	err = c.plan(ctx, frozen, snapshots, byDefault)
	if err == nil {
		err = c.copyAll(ctx, frozen)
	}
	switch {
	case errors.As(err, new(*thaw)) && ctx.Err() == nil:
		return err
	case err != nil && ctx.Err() != nil:
		c.beside(release, func() { c.settle(ctx) })
		return err
	}
	return errors.Join(err, c.finish(ctx, snapshots, release, err != nil))
}

// inspect looks at the VM, refuses what cannot be replicated, and fixes which
// disks belong to the cycle.
func (c *Cycle) inspect(ctx context.Context) (VM, error) {
	c.id = NewCycleID(c.Now())
	c.Progress.step(StepInspect)
	vm, err := c.Source.Inspect(ctx)
	if err != nil {
		return vm, err
	}
	disks, excluded, err := ChooseDisks(vm, c.Exclude)
	if err != nil {
		return vm, err
	}
	c.excluded = excluded
	for i, d := range disks {
		meter := func(f func(*DiskReport)) { c.Progress.disk(i, f) }
		c.disks = append(c.disks, &diskCycle{c: c, disk: d, ordinal: i + 1, meter: meter})
	}
	c.Progress.update(func(r *Report) {
		r.VM, r.VMName, r.Cycle = vm.ID, vm.Name, c.id
		for _, d := range disks {
			r.Disks = append(r.Disks, DiskReport{Disk: d.ID, Label: d.Label, Size: d.Size})
		}
	})
	return vm, nil
}

// cloud asks AWS where we are.
func (c *Cycle) cloud(ctx context.Context, vm VMID) ([]Snapshot, bool, error) {
	snapshots, err := c.Store.Snapshots(ctx, vm)
	if err != nil {
		return nil, false, err
	}
	byDefault, err := c.Store.EncryptsByDefault(ctx)
	return snapshots, byDefault, err
}

// releaser returns a function that closes every open reader and removes the VM
// snapshot, once, with a context that outlives ctx.
func (c *Cycle) releaser(ctx context.Context, frozen Frozen) func() {
	state := frozen.State()
	c.at = state.At
	started := c.Now()
	c.Progress.update(func(r *Report) {
		r.Frozen, r.Snapshot = state.At, state.Snapshot
		r.Quiesced, r.Tracking = state.Quiesced, state.Tracking
	})
	done := false
	return func() {
		if done {
			return
		}
		done = true
		ctx, cancel := c.cleanup(ctx)
		defer cancel()
		c.Progress.step(StepDetach)
		if !c.closeReaders(ctx) {
			c.Progress.alarmf("VM snapshot %q (%s) is left: a disk of it is still attached to the appliance", state.SnapshotName, state.Snapshot)
			return
		}
		c.Progress.step(StepRelease)
		asked := c.Now()
		if err := frozen.Release(ctx); err != nil {
			c.Progress.alarmf("VM snapshot %q (%s) is left and grows: %v", state.SnapshotName, state.Snapshot, err)
			return
		}
		now := c.Now()
		c.Progress.update(func(r *Report) { r.Snapshot, r.FrozenFor, r.ReleaseTook = "", now.Sub(started), now.Sub(asked) })
	}
}

func (c *Cycle) cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), c.Cleanup)
}

func (c *Cycle) closeReaders(ctx context.Context) bool {
	ok := true
	for _, d := range c.disks {
		if err := d.close(ctx); err != nil {
			c.Progress.alarmf("%s is left attached to the appliance: %v", d.disk.Label, err)
			ok = false
		}
	}
	return ok
}

// plan decides for every disk how it is copied and which blocks that means.
func (c *Cycle) plan(ctx context.Context, frozen Frozen, snapshots []Snapshot, byDefault bool) error {
	c.Progress.step(StepPlan)
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range c.disks {
		g.Go(func() error {
			if err := d.plan(ctx, frozen, snapshots, byDefault); err != nil {
				return fmt.Errorf("%s: %w", d.disk.Label, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// copyAll copies the disks side by side. One that fails does not stop its
// siblings: what they seal serves as their next parent.
func (c *Cycle) copyAll(ctx context.Context, frozen Frozen) error {
	c.Progress.step(StepCopy)
	ctx, stop := c.watch(ctx, frozen)
	defer stop()
	err := c.eachDisk(func(d *diskCycle) error {
		d.err = d.copy(ctx, frozen)
		return d.err
	})
	if why, ok := context.Cause(ctx).(*thaw); ok {
		return why
	}
	return err
}

// eachDisk runs f for all disks side by side, to the end of each, and joins
// what failed under the disks' labels.
func (c *Cycle) eachDisk(f func(*diskCycle) error) error {
	errs := make([]error, len(c.disks))
	var g errgroup.Group
	for i, d := range c.disks {
		g.Go(func() error {
			if err := f(d); err != nil {
				errs[i] = fmt.Errorf("%s: %w", d.disk.Label, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	return errors.Join(errs...)
}

// finish makes the recovery point of what was copied. release runs beside the
// seal: once every put is acknowledged nothing needs the frozen disks any
// more, and EC2 may take minutes to complete a snapshot.
func (c *Cycle) finish(ctx context.Context, snapshots []Snapshot, release func(), partly bool) error {
	if point, ok := c.unchanged(snapshots); ok && !partly {
		release()
		return c.confirm(ctx, point)
	}
	var err error
	var took time.Duration
	c.beside(release, func() {
		asked := c.Now()
		err = c.sealAll(ctx, partly)
		took = c.Now().Sub(asked)
	})
	c.settle(ctx)
	if err != nil || partly {
		return err
	}
	c.Progress.update(func(r *Report) { r.Outcome, r.Point, r.SealTook = OutcomePoint, c.id, took })
	return nil
}

// beside runs release and f at the same time: neither the source waits for
// AWS nor the other way round.
func (c *Cycle) beside(release, f func()) {
	done := make(chan struct{})
	go func() { defer close(done); release() }()
	f()
	<-done
}

// unchanged reports the point that still holds: no disk has a draft, and the
// bases of all disks are exactly the disks of one complete point.
func (c *Cycle) unchanged(snapshots []Snapshot) (Point, bool) {
	var cycle CycleID
	for _, d := range c.disks {
		if d.draft.asked || d.decided.Base == nil || d.frozen.Size != d.decided.Base.Label.DiskSize {
			return Point{}, false
		}
		cycle = d.decided.Base.Label.Cycle
	}
	for _, p := range Points(slices.Clone(snapshots)) {
		if p.Cycle != cycle || !p.Complete || len(p.Disks) != len(c.disks) {
			continue
		}
		if !slices.ContainsFunc(c.disks, func(d *diskCycle) bool { return !d.isIn(p) }) {
			return p, true
		}
	}
	return Point{}, false
}

func (c *Cycle) confirm(ctx context.Context, point Point) error {
	c.Progress.step(StepCommit)
	ids := map[SnapshotID]ChangeID{}
	for _, d := range c.disks {
		ids[d.decided.Base.ID] = d.frozen.ChangeID
	}
	if err := c.Store.Confirm(ctx, c.at, ids); err != nil {
		return err
	}
	c.Progress.update(func(r *Report) { r.Outcome, r.Point = OutcomeConfirmed, point.Cycle })
	return nil
}

// sealAll seals every draft, opening empty ones for disks without changes,
// except where the cycle has failed already: then only what was copied whole
// is worth sealing.
func (c *Cycle) sealAll(ctx context.Context, partly bool) error {
	return c.eachDisk(func(d *diskCycle) error {
		if !d.copied || (partly && !d.draft.asked) {
			return nil
		}
		return d.seal(ctx)
	})
}

// settle ends what did not seal: a draft with blocks in it stays for the next
// cycle to go on with, any other is aborted.
func (c *Cycle) settle(ctx context.Context) {
	ctx, cancel := c.cleanup(ctx)
	defer cancel()
	var g errgroup.Group
	for _, d := range c.disks {
		g.Go(func() error {
			if err := d.settle(ctx); err != nil {
				c.Progress.alarmf("draft of %s is left in AWS: %v", d.disk.Label, err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

func (c *Cycle) closeTables() {
	for _, d := range c.disks {
		d.closeTables()
	}
}

// ChooseDisks returns the disks to replicate in order of their keys, and the
// labels of those left out at the user's wish. A disk that cannot be
// replicated and was not left out is an error that names it.
func ChooseDisks(vm VM, exclude []string) (disks []Disk, excluded []string, err error) {
	if len(vm.Obstacles) > 0 {
		return nil, nil, Fail(Permanent, "replicate "+vm.Name, errors.New(vm.Obstacles[0].Reason), vm.Obstacles[0].Remedy)
	}
	used := map[string]bool{}
	for _, d := range vm.Disks {
		if i := slices.IndexFunc(exclude, d.isCalled); i >= 0 {
			used[exclude[i]] = true
			excluded = append(excluded, d.Label)
			continue
		}
		if len(d.Obstacles) > 0 {
			return nil, nil, Fail(Permanent, fmt.Sprintf("replicate %s: %s (%s)", vm.Name, d.Label, d.File), errors.New(d.Obstacles[0].Reason),
				strings.TrimSpace(fmt.Sprintf("%s To replicate the VM without this disk: --exclude-disk %q", d.Obstacles[0].Remedy, d.Label)))
		}
		disks = append(disks, d)
	}
	for _, name := range exclude {
		if !used[name] {
			return nil, nil, Fail(Permanent, "exclude disk "+name, fmt.Errorf("%s has no such disk", vm.Name), "It has "+diskNames(vm.Disks)+".")
		}
	}
	if len(disks) == 0 {
		return nil, nil, Fail(Permanent, "replicate "+vm.Name, errors.New("it has no disk to replicate"), "")
	}
	slices.SortFunc(disks, func(a, b Disk) int { return int(a.ID.Key - b.ID.Key) })
	return disks, excluded, nil
}

// isCalled reports whether a user means this disk by name.
func (d Disk) isCalled(name string) bool {
	return strings.EqualFold(name, d.Label) || name == fmt.Sprint(d.ID.Key) || strings.EqualFold(name, d.ID.UUID) || name == d.File
}

func diskNames(disks []Disk) string {
	names := make([]string, len(disks))
	for i, d := range disks {
		names[i] = fmt.Sprintf("%q (%d)", d.Label, d.ID.Key)
	}
	return strings.Join(names, ", ")
}
