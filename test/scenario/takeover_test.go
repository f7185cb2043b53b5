package scenario_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// The moments at which an appliance freezes.
const (
	whileReading  = "a frozen disk is attached and nothing was put"
	whilePutting  = "a draft holds some blocks"
	betweenSeals  = "one disk is sealed and the other is not"
	beforeSealing = "no disk is sealed and all is put"
)

// TestTakeover: appliance A freezes in mid-cycle. B, another VM with a state of
// its own, ends what A left on that VM and on no other, and replicates it. A
// thaws while B reads, and can spoil nothing.
func TestTakeover(t *testing.T) {
	moments := []string{whileReading, whilePutting, betweenSeals}
	if long {
		moments = append(moments, beforeSealing)
	}
	for _, moment := range moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			newTakeover(t, moment).tell()
		})
	}
}

type takeover struct {
	*rig
	moment string
	a      chan result // of A's cycle

	gate   sync.Cond // over what follows: what A does outside goes through it
	frozen bool      // A stands still, but for calls that are under way
	thawed bool
	calls  int // under way

	sealing sync.Mutex
	sealed  bool

	other *vcenter.VM // a second VM of A, under way too
	b     *hotadd.Appliance
	bVM   *vcenter.VM
}

func newTakeover(t *testing.T, moment string) *takeover {
	// How long AWS may call a snapshot unknown that is gone, and A believes it.
	hasty := func(o *scenario.LabOptions) { o.EBS.NotYet = 2 * time.Second }
	x := &takeover{rig: newRig(t, vcenter.VMSpec{CBT: true}, hasty), moment: moment, a: make(chan result, 1)}
	x.gate.L = &sync.Mutex{}
	x.Sync(transfer.Options{})
	x.Write(0, 5, mib/2, 2*mib)
	x.Write(1, 6, 0, mib)
	x.leaveOther()
	var err error
	x.bVM, err = x.w.Lab.VCenter.AddApplianceVM(vcenter.VMSpec{Name: "appliance-b", Host: 1})
	must(t, err)
	sysfs, dev := x.w.Lab.VCenter.GuestDirs(x.bVM)
	x.b, err = hotadd.New(t.Context(), x.w.VSphere, hotadd.Config{Appliance: x.bVM.Moref(), SysfsDir: sysfs, DevDir: dev,
		Timing: hotadd.Timing{RetryFirst: 20 * time.Millisecond, Poll: 5 * time.Millisecond, Rescan: 100 * time.Millisecond}})
	must(t, err)
	return x
}

// leaveOther has A in the middle of another VM's cycle: VM snapshot, attached
// disk, draft.
func (x *takeover) leaveOther() {
	vm, v := x.w.Make(x.t, vcenter.VMSpec{Name: "other", CBT: true, Disks: []vcenter.DiskSpec{{Size: mib}}})
	x.other = vm
	f, err := v.Source.Freeze(x.t.Context(), transfer.FreezeSpec{Cycle: transfer.NewCycleID(time.Now()), Appliance: "appliance-1", Quiesce: transfer.QuiesceOff})
	must(x.t, err)
	_, err = f.Open(x.t.Context(), v.Disks[0])
	must(x.t, err)
	_, err = x.w.Store.Start(x.t.Context(), transfer.DraftSpec{Token: "other", VolumeGiB: 1, Label: transfer.Label{
		Appliance: "appliance-1", VM: v.ID, VMName: "other", Cycle: transfer.CycleID(strings.TrimPrefix(f.State().SnapshotName, vsphere.SnapshotPrefix)), Frozen: time.Now(),
		Disk: v.Disks[0], DiskLabel: "Hard disk 1", DiskSize: mib, Ordinal: 1, Of: 1, Kind: transfer.Seed, Blocks: -1}})
	must(x.t, err)
}

// enter is before every call of A, and stops it while A is frozen. here: it is
// the moment to freeze.
func (x *takeover) enter(here bool) (leave func()) {
	x.gate.L.Lock()
	defer x.gate.L.Unlock()
	if here && !x.frozen {
		x.frozen = true
		x.gate.Broadcast()
	}
	for x.frozen && !x.thawed {
		x.gate.Wait()
	}
	x.calls++
	return func() {
		x.gate.L.Lock()
		defer x.gate.L.Unlock()
		x.calls--
		x.gate.Broadcast()
	}
}

func (x *takeover) thaw() {
	x.gate.L.Lock()
	defer x.gate.L.Unlock()
	x.thawed = true
	x.gate.Broadcast()
}

// runA runs A's cycle until it stands still.
func (x *takeover) runA() {
	c := x.Cycle(transfer.Options{})
	c.Source = stoppedSource{x.w.Source(x.vm), x}
	c.Store, c.Puts = stoppedStore{x.w.Store, x}, 1 // one after the other
	go func() {
		rep, err := c.Run(x.t.Context())
		x.a <- result{rep: rep, err: err}
		x.enter(true)() // a cycle that never froze must not leave the test waiting
	}()
	x.gate.L.Lock()
	defer x.gate.L.Unlock()
	for !x.frozen || x.calls > 0 {
		x.gate.Wait()
	}
	if len(x.a) > 0 {
		res := <-x.a
		x.t.Fatalf("A never froze: %v", res.err)
	}
}

func (x *takeover) tell() {
	t := x.t
	x.runA()
	before := x.others()
	if len(before) != 3 {
		t.Fatalf("A's other VM has %v", before)
	}
	reaper := &transfer.Reaper{
		Source: hotadd.Leftovers{Client: x.w.VSphere, Appliance: x.b}, Store: x.w.Store, State: stateOf(t),
		Appliance: "appliance-2", Dead: []transfer.ApplianceID{"appliance-1"}, VMs: []transfer.VMID{x.VM.ID}, Now: time.Now, Cleanup: time.Minute,
	}
	rep, err := reaper.Run(t.Context(), false)
	must(t, err)
	x.reaped(rep)

	// B's own cycle; in the middle of it A goes on, and comes to its end.
	var res result
	b := &scenario.Story{T: t, World: x.w.World, VM: x.VM, State: reaper.State}
	c := b.Cycle(transfer.Options{})
	c.Appliance = "appliance-2"
	source := x.w.VSphere.Source(x.VM.ID, vsphere.Options{Reader: x.b})
	var once sync.Once
	during := &rig{Story: b, t: t, w: x.w, vm: x.vm, onRead: func(transfer.DiskID) {
		once.Do(func() {
			x.thaw()
			res = <-x.a
		})
	}}
	c.Source = hookedSource{source, during}
	b.Last, err = c.Run(t.Context())
	must(t, err)
	if len(b.Last.Alarms) > 0 || b.Last.Outcome != transfer.OutcomePoint {
		t.Errorf("B: %s, alarms %v", b.Last.Outcome, b.Last.Alarms)
	}
	x.row("A thawed, having frozen when "+x.moment, res.rep.Step, short(errOf(res)))
	if res.err == nil {
		t.Errorf("A's cycle ended well: %+v", res.rep)
	}
	for _, p := range b.Points() {
		if p.Cycle == res.rep.Cycle && p.Complete {
			t.Errorf("A made a point of %s after it was taken over", p.Cycle)
		}
	}
	b.Same()
	b.Right()
	if after := x.others(); !slices.Equal(before, after) {
		t.Errorf("A's other VM had %v and has %v", before, after)
	}
	x.unharmed()
	x.again(b, reaper)
}

// again: the next cycle of B is plain, and afterwards nothing is left of A
// on this VM.
func (x *takeover) again(b *scenario.Story, reaper *transfer.Reaper) {
	t := x.t
	x.change()
	c := b.Cycle(transfer.Options{})
	c.Appliance, c.Source = "appliance-2", x.w.VSphere.Source(x.VM.ID, vsphere.Options{Reader: x.b})
	var err error
	b.Last, err = c.Run(t.Context())
	must(t, err)
	b.Same()
	b.Right()
	for _, d := range b.Last.Disks {
		if d.Kind != transfer.Delta {
			t.Errorf("%s: a %s because %s", d.Label, d.Kind, d.Reason)
		}
	}
	rep, err := reaper.Run(t.Context(), false)
	must(t, err)
	for _, a := range rep.Things {
		if a.Kind != transfer.LeftHalf {
			t.Errorf("left: %+v", a)
		}
	}
	x.unharmed()
}

// reaped checks what B ended: all of this VM's, in order, and nothing else.
func (x *takeover) reaped(rep transfer.ReapReport) {
	x.t.Helper()
	n := map[transfer.Deed]int{}
	for _, a := range rep.Things {
		if a.VM != x.VM.ID || a.Do != transfer.DeedLeave && !a.Done {
			x.t.Errorf("%+v", a)
		}
		n[a.Do]++
	}
	drafts := map[string]int{whileReading: 0, whilePutting: 1, betweenSeals: 1, beforeSealing: 2}[x.moment]
	if n[transfer.DeedRemove] > 1 || n[transfer.DeedAbort] < min(drafts, 1) || n[transfer.DeedAbort] > 2 {
		x.t.Errorf("deeds %v", n)
	}
	if reading := x.moment == whileReading || x.moment == whilePutting; reading && (n[transfer.DeedDetach] == 0 || n[transfer.DeedRemove] != 1) {
		x.t.Errorf("deeds %v", n)
	}
	s := x.w.Lab.VCenter.State()
	for _, a := range s.Attached {
		if a.Source == x.VM.ID.Moref {
			x.t.Errorf("%s is attached still", a.File)
		}
	}
	if vm, _ := s.VM(x.VM.ID.Moref); len(vm.Snapshots) > 0 || vm.ConsolidationNeeded {
		x.t.Errorf("the VM has snapshots %v, consolidation needed: %v", vm.Snapshots, vm.ConsolidationNeeded)
	}
	all, err := x.w.Store.Snapshots(x.t.Context(), x.VM.ID)
	must(x.t, err)
	for _, d := range all {
		if d.State == transfer.Pending {
			x.t.Errorf("draft %s of %s is left", d.ID, d.Label.Disk)
		}
	}
}

// others is what exists of A's other VM.
func (x *takeover) others() (things []string) {
	s := x.w.Lab.VCenter.State()
	vm, _ := s.VM(x.other.Moref())
	for _, snap := range vm.Snapshots {
		things = append(things, snap.Name)
	}
	for _, a := range s.Attached {
		if a.Source == x.other.Moref() {
			things = append(things, a.VM+" has "+a.File)
		}
	}
	all, err := x.w.Store.Snapshots(x.t.Context(), transfer.VMID{VCenter: x.VM.ID.VCenter, Moref: x.other.Moref()})
	must(x.t, err)
	for _, d := range all {
		things = append(things, string(d.ID)+" "+string(d.State))
	}
	return things
}

// unharmed: no VMDK is gone, no VM crashed, nothing was attached writable.
func (x *takeover) unharmed() {
	x.t.Helper()
	s := x.w.Lab.VCenter.State()
	for _, vm := range s.VMs {
		if len(vm.Missing) > 0 || vm.Crashed {
			x.t.Errorf("%s lacks %v, crashed: %v", vm.Name, vm.Missing, vm.Crashed)
		}
	}
	if len(s.Deleted)+len(s.Harms) > 0 {
		x.t.Errorf("deleted %v, harms %v", s.Deleted, s.Harms)
	}
}

func errOf(r result) error {
	if r.err == nil {
		return errors.New("done")
	}
	return r.err
}

// stoppedSource is A's way to the VM.
type stoppedSource struct {
	transfer.Source
	x *takeover
}

type stoppedFrozen struct {
	transfer.Frozen
	x *takeover
}

// stoppedReader fails as a kernel does once its device was pulled: the
// simulated guest shows files, which an open descriptor would outlive.
type stoppedReader struct {
	transfer.DiskReader
	x    *takeover
	disk transfer.DiskID
}

func (s stoppedSource) Freeze(ctx context.Context, spec transfer.FreezeSpec) (transfer.Frozen, error) {
	f, err := s.Source.Freeze(ctx, spec)
	if err != nil {
		return nil, err
	}
	return stoppedFrozen{f, s.x}, nil
}

func (f stoppedFrozen) Open(ctx context.Context, id transfer.DiskID) (transfer.DiskReader, error) {
	defer f.x.enter(false)()
	d, err := f.Frozen.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return stoppedReader{d, f.x, id}, nil
}

func (f stoppedFrozen) Release(ctx context.Context) error {
	defer f.x.enter(false)()
	return f.Frozen.Release(ctx)
}

func (d stoppedReader) ReadAt(p []byte, off int64) (int, error) {
	defer d.x.enter(d.x.moment == whileReading)()
	a := d.x.w.Lab.Appliance.Moref()
	if !slices.ContainsFunc(d.x.w.Lab.VCenter.State().Attached, func(at vcenter.Attachment) bool {
		return at.VM == a && at.Source == d.x.VM.ID.Moref && at.SourceDisk == d.disk.Key
	}) {
		return 0, unix.EIO
	}
	return d.DiskReader.ReadAt(p, off)
}

func (d stoppedReader) Close(ctx context.Context) error {
	defer d.x.enter(false)()
	return d.DiskReader.Close(ctx)
}

// stoppedStore is A's way to AWS.
type stoppedStore struct {
	transfer.Store
	x *takeover
}

type stoppedDraft struct {
	transfer.Draft
	x    *takeover
	puts *atomic.Int64
}

func (s stoppedStore) Start(ctx context.Context, spec transfer.DraftSpec) (transfer.Draft, error) {
	defer s.x.enter(false)()
	d, err := s.Store.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return stoppedDraft{d, s.x, new(atomic.Int64)}, nil
}

func (d stoppedDraft) Put(ctx context.Context, index int64, block []byte, digest transfer.Digest) error {
	defer d.x.enter(d.x.moment == whilePutting && d.puts.Load() > 0)()
	defer d.puts.Add(1)
	return d.Draft.Put(ctx, index, block, digest)
}

func (d stoppedDraft) Seal(ctx context.Context, seal transfer.Seal) error {
	if d.x.moment == betweenSeals {
		d.x.sealing.Lock() // one after the other
		defer d.x.sealing.Unlock()
		defer d.x.enter(d.x.sealed)()
		d.x.sealed = true
		return d.Draft.Seal(ctx, seal)
	}
	defer d.x.enter(d.x.moment == beforeSealing)()
	return d.Draft.Seal(ctx, seal)
}

func (d stoppedDraft) Abort(ctx context.Context) error {
	defer d.x.enter(false)()
	return d.Draft.Abort(ctx)
}
