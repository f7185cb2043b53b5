package scenario_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// crashed is a lab in which cycles of several appliances were dropped at some
// step: nobody closes what they opened.
type crashed struct {
	*scenario.LabWorld
	*testing.T
	state manifest.Dir
	now   time.Time
}

func newCrashed(t *testing.T) *crashed {
	t.Parallel()
	return &crashed{LabWorld: scenario.NewLab(t), T: t, state: stateOf(t), now: time.Now()}
}

func (c *crashed) vm(name string) (*vcenter.VM, *scenario.VM) {
	return c.Make(c.T, vcenter.VMSpec{Name: name, CBT: true, Disks: []vcenter.DiskSpec{{Size: 2 * mib}, {Size: mib}}})
}

// reaper is one of an appliance; after a crash its process is another one, and
// so is its idea of which disks are open.
func (c *crashed) reaper(id transfer.ApplianceID, dead ...transfer.ApplianceID) *transfer.Reaper {
	c.Helper()
	here, err := hotadd.New(c.Context(), c.VSphere, hotadd.Config{
		Appliance: c.Lab.Appliance.Moref(), SysfsDir: c.Lab.VCenter.SysfsDir(), DevDir: c.Lab.VCenter.DevDir(),
		Timing: hotadd.Timing{RetryFirst: time.Millisecond}})
	must(c.T, err)
	return &transfer.Reaper{
		Source: hotadd.Leftovers{Client: c.VSphere, Appliance: here}, Store: c.Store, State: c.state, Appliance: id, Dead: dead,
		Now: func() time.Time { return c.now }, Cleanup: time.Minute,
	}
}

// crash freezes a VM as an appliance, attaches its first disk, and goes.
func (c *crashed) crash(v *scenario.VM, id transfer.ApplianceID, attach bool) transfer.FrozenVM {
	c.Helper()
	f, err := v.Source.Freeze(c.Context(), transfer.FreezeSpec{Cycle: transfer.NewCycleID(time.Now()), Appliance: id, Quiesce: transfer.QuiesceOff})
	must(c.T, err)
	if attach {
		_, err = f.Open(c.Context(), v.Disks[0])
		must(c.T, err)
	}
	return f.State()
}

// draft starts one as an appliance and seals it only if asked to.
func (c *crashed) draft(v *scenario.VM, id transfer.ApplianceID, cycle transfer.CycleID, disk, of int, seal bool) transfer.SnapshotID {
	c.Helper()
	d, err := c.Store.Start(c.Context(), transfer.DraftSpec{Token: string(cycle) + v.Disks[disk].String(), VolumeGiB: 1, Label: transfer.Label{
		Appliance: id, VM: v.ID, VMName: "vm", Cycle: cycle, Frozen: c.now, Disk: v.Disks[disk], DiskLabel: "Hard disk 1", DiskSize: mib,
		Ordinal: disk + 1, Of: of, Kind: transfer.Seed, ZerosAbsent: true, Blocks: -1}})
	must(c.T, err)
	if seal {
		must(c.T, d.Seal(c.Context(), transfer.Seal{Checksum: transfer.Digest(emptySum)}))
	}
	return d.ID()
}

// emptySum is SHA-256 of nothing.
var emptySum = [32]byte{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}

func (c *crashed) run(r *transfer.Reaper, dry bool) transfer.ReapReport {
	c.Helper()
	rep, err := r.Run(c.Context(), dry)
	must(c.T, err)
	return rep
}

// inAWS are the snapshots that there are, with their states.
func (c *crashed) inAWS() map[transfer.SnapshotID]string {
	all := map[transfer.SnapshotID]string{}
	for _, s := range c.Lab.AWS.Snapshots() {
		all[transfer.SnapshotID(s.ID)] = s.State
	}
	return all
}

func (c *crashed) is(rep transfer.ReapReport, id string, do transfer.Deed, done bool, reason string) {
	c.Helper()
	i := slices.IndexFunc(rep.Things, func(a transfer.Reaped) bool { return a.ID == id })
	if i < 0 {
		c.Errorf("nothing about %s in %+v", id, rep.Things)
		return
	}
	if a := rep.Things[i]; a.Do != do || a.Done != done || !strings.Contains(a.Reason, reason) {
		c.Errorf("%s: %s, done %v, because %q; want %s, %v, …%s…", id, a.Do, a.Done, a.Reason, do, done, reason)
	}
}

// TestReapOurCrash: disk and VM snapshot of a dropped cycle go, in this order,
// what belongs to another appliance stays, and the next cycle is right.
func TestReapOurCrash(t *testing.T) {
	c := newCrashed(t)
	_, v := c.vm("ours")
	_, w := c.vm("theirs")
	byHand, _ := c.vm("hand")
	s := &scenario.Story{T: t, World: c.World, VM: v, State: c.state}
	s.Write(0, 1, 0, mib)
	s.Sync(transfer.Options{})
	s.Write(0, 2, 100, mib)
	_, err := byHand.TakeSnapshot("snapferry-looks-like-ours")
	must(t, err)
	ours := c.crash(v, "appliance-1", true)
	theirs := c.crash(w, "appliance-2", false)

	before := c.VSphere.Calls()
	dry := c.run(c.reaper("appliance-1"), true)
	t.Logf("a look takes %d calls to vCenter, finding the appliance included", c.VSphere.Calls()-before)
	c.is(dry, ours.Snapshot, transfer.DeedRemove, false, "does not run any more")
	if left := c.Left(); len(left) != 4 { // two of ours, theirs, the one by hand
		t.Errorf("after a dry run: %v", left)
	}
	rep := c.run(c.reaper("appliance-1"), false)
	c.is(rep, ours.Snapshot, transfer.DeedRemove, true, "does not run any more")
	c.is(rep, theirs.Snapshot, transfer.DeedLeave, false, "belongs to appliance appliance-2")
	if len(rep.Things) != 3 || rep.Things[0].Do != transfer.DeedDetach || !rep.Things[0].Done {
		t.Errorf("%+v", rep.Things)
	}
	// Neither the disks' files nor the other snapshots were touched.
	left := c.Left()
	if text := strings.Join(left, ", "); len(left) != 2 || !strings.Contains(text, theirs.SnapshotName) || !strings.Contains(text, "snapferry-looks-like-ours") {
		t.Errorf("left: %v", left)
	}
	if rep := c.run(c.reaper("appliance-1"), false); len(rep.Things) != 1 {
		t.Errorf("second run: %+v", rep.Things)
	}
	last, err := s.Cycle(transfer.Options{}).Run(t.Context())
	must(t, err)
	s.Last = last
	s.Same()
}

// TestReapADeadAppliance: its disk hangs on its own VM, of which the guest is
// gone; declared dead, all of its leftovers go.
func TestReapADeadAppliance(t *testing.T) {
	c := newCrashed(t)
	_, v := c.vm("orphan")
	_, w := c.vm("other")
	state := c.crash(v, "dead-1", true)
	kept := c.crash(w, "living-2", false)
	draft := c.draft(v, "dead-1", transfer.CycleID(strings.TrimPrefix(state.SnapshotName, vsphere.SnapshotPrefix)), 0, 2, false)
	theirs := c.draft(w, "living-2", "20260101T000000Z-00000002", 0, 1, false)

	rep := c.run(c.reaper("appliance-1"), false)
	c.is(rep, state.Snapshot, transfer.DeedLeave, false, "--appliance dead-1 --dead")
	c.is(rep, string(draft), transfer.DeedLeave, false, "dead-1")

	// The new appliance is another VM: seen from there the disk hangs elsewhere.
	r := c.reaper("appliance-1", "dead-1")
	r.Source = hotadd.Leftovers{Client: c.VSphere}
	rep = c.run(r, false)
	c.is(rep, state.Snapshot, transfer.DeedRemove, true, "dead-1 is declared dead")
	c.is(rep, string(draft), transfer.DeedAbort, true, "dead-1 is declared dead")
	c.is(rep, kept.Snapshot, transfer.DeedLeave, false, "living-2")
	s := c.Lab.VCenter.State()
	if len(s.Attached) > 0 || len(s.Deleted) > 0 {
		t.Errorf("attached %v, deleted %v", s.Attached, s.Deleted)
	}
	if vm, _ := s.VM(v.ID.Moref); len(vm.Snapshots) > 0 || vm.ConsolidationNeeded || len(vm.Missing) > 0 {
		t.Errorf("%+v", vm)
	}
	appliance, _ := s.VM(c.Lab.Appliance.Moref())
	for key := range appliance.ExtraConfig {
		if strings.HasPrefix(key, "snapferry.") {
			t.Errorf("its mark is left: %s", key)
		}
	}
	if got := c.inAWS(); got[draft] != "" || got[theirs] != "pending" {
		t.Errorf("in AWS: %v", got)
	}
}

// TestReapBesideALiveCycle runs the reaper at every step of a cycle that goes
// on all the while.
func TestReapBesideALiveCycle(t *testing.T) {
	c := newCrashed(t)
	_, v := c.vm("live")
	s := &scenario.Story{T: t, World: c.World, VM: v, State: c.state}
	s.Write(0, 1, 0, mib)
	s.Write(1, 2, 0, mib)
	c.now = time.Now().Add(time.Hour) // young drafts would be left anyway
	cycle := s.Cycle(transfer.Options{})
	var seen atomic.Int64
	cycle.Progress.OnStep(func(step transfer.Step) {
		rep, err := c.reaper("appliance-1").Run(t.Context(), false)
		if err != nil {
			t.Errorf("at %s: %v", step, err)
		}
		for _, a := range rep.Things {
			seen.Add(1)
			if a.Do != transfer.DeedLeave {
				t.Errorf("at %s: %s of %s because %q", step, a.Do, a.ID, a.Reason)
			}
		}
	})
	rep, err := cycle.Run(t.Context())
	must(t, err)
	s.Last = rep
	if seen.Load() == 0 {
		t.Error("the reaper never saw anything of the cycle")
	}
	s.NothingLeft()
	s.Same()
}

// TestReapDrafts: forgotten ones go, those that a journal names stay and are
// gone on with, whatever else the crash left.
func TestReapDrafts(t *testing.T) {
	c := newCrashed(t)
	_, v := c.vm("drafts")
	s := &scenario.Story{T: t, World: c.World, VM: v, State: c.state}
	s.Write(0, 1, 0, 2*mib)
	if err := cancelInCopy(t, c, s); transfer.KindOf(err) != transfer.Canceled {
		t.Fatalf("cancelled cycle: %v", err)
	}
	named := c.Drafts()
	if len(named) != 1 {
		t.Fatalf("drafts that the cycle keeps: %v", named)
	}
	forgotten := c.draft(v, "appliance-1", "20260101T000000Z-00000001", 1, 2, false)
	broken := c.draft(v, "appliance-1", "20260101T000000Z-00000002", 1, 2, false)
	must(t, c.Lab.AWS.FailSnapshot(string(broken), "an error of AWS's own"))
	rep := c.run(c.reaper("appliance-1"), false)
	c.is(rep, string(forgotten), transfer.DeedLeave, false, "younger")
	c.is(rep, string(broken), transfer.DeedAbort, true, "an error of AWS's own")
	c.now = c.now.Add(time.Hour)
	rep = c.run(c.reaper("appliance-1"), false)
	c.is(rep, string(forgotten), transfer.DeedAbort, true, "no journal")
	c.is(rep, string(named[0]), transfer.DeedLeave, false, "goes on with it")
	if got := c.inAWS(); len(got) != 1 || got[named[0]] != "pending" {
		t.Errorf("in AWS: %v", got)
	}
	last := s.Sync(transfer.Options{})
	if d := last.Disks[0]; d.Snapshot != named[0] || d.Resumed == 0 {
		t.Errorf("not gone on with %s: %+v", named[0], d)
	}
	s.Same()
	if rep := c.run(c.reaper("appliance-1"), false); len(rep.Things) > 0 {
		t.Errorf("%+v", rep.Things)
	}
}

// cancelInCopy ends a cycle when two blocks are put.
func cancelInCopy(t *testing.T, c *crashed, s *scenario.Story) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cycle := s.Cycle(transfer.Options{})
	cycle.Puts = 1
	cycle.Store = &stopStore{Store: c.Store, stop: cancel}
	var err error
	s.Last, err = cycle.Run(ctx)
	return err
}

// stopStore calls stop after the second put.
type stopStore struct {
	transfer.Store
	stop func()
}

func (s *stopStore) Start(ctx context.Context, spec transfer.DraftSpec) (transfer.Draft, error) {
	d, err := s.Store.Start(ctx, spec)
	return &stopDraft{Draft: d, stop: s.stop}, err
}

type stopDraft struct {
	transfer.Draft
	stop func()
	puts atomic.Int64
}

func (d *stopDraft) Put(ctx context.Context, i int64, block []byte, digest transfer.Digest) error {
	err := d.Draft.Put(ctx, i, block, digest)
	if d.puts.Add(1) == 2 {
		d.stop()
	}
	return err
}

// TestReapHalfMadePoints: what sealed while a sibling failed goes once it is no
// baseline any more.
func TestReapHalfMadePoints(t *testing.T) {
	c := newCrashed(t)
	_, v := c.vm("half")
	old := c.draft(v, "appliance-1", "20260101T000000Z-00000001", 0, 2, true)
	rep := c.run(c.reaper("appliance-1"), false)
	c.is(rep, string(old), transfer.DeedLeave, false, "the next delta of this disk builds on it")
	c.now = c.now.Add(time.Second)
	whole := []transfer.SnapshotID{
		c.draft(v, "appliance-1", "20260101T000001Z-00000002", 0, 2, true),
		c.draft(v, "appliance-1", "20260101T000001Z-00000002", 1, 2, true),
	}
	rep = c.run(c.reaper("appliance-2"), false)
	if len(rep.Things) > 0 {
		t.Errorf("another appliance sees to it: %+v", rep.Things)
	}
	rep = c.run(c.reaper("appliance-1"), false)
	c.is(rep, string(old), transfer.DeedDelete, true, "never became a point")
	if got := c.inAWS(); len(got) != 2 || got[whole[0]] != "completed" || got[whole[1]] != "completed" {
		t.Errorf("in AWS: %v", got)
	}
}

// TestReapKeepsTheSnapshotOfAStuckDisk: where vCenter does not detach, the VM
// snapshot stays and another VM's goes.
func TestReapKeepsTheSnapshotOfAStuckDisk(t *testing.T) {
	c := newCrashed(t)
	_, v := c.vm("stuck")
	_, w := c.vm("free")
	stuck, free := c.crash(v, "appliance-1", true), c.crash(w, "appliance-1", false)
	c.Lab.VCenter.Deny("VirtualMachine.Config.RemoveDisk")
	c.now = c.now.Add(30*time.Hour + time.Minute)
	rep, err := c.reaper("appliance-1").Run(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), "VirtualMachine.Config.RemoveDisk") {
		t.Errorf("error: %v", err)
	}
	c.is(rep, stuck.Snapshot, transfer.DeedRemove, false, "")
	c.is(rep, free.Snapshot, transfer.DeedRemove, true, "")
	if text := strings.Join(rep.Alarms, "\n"); !strings.Contains(text, "still attached") || !strings.Contains(text, "30 hours old and grows") {
		t.Errorf("alarms: %s", text)
	}
	c.Lab.VCenter.Allow("VirtualMachine.Config.RemoveDisk")
	rep = c.run(c.reaper("appliance-1"), false)
	c.is(rep, stuck.Snapshot, transfer.DeedRemove, true, "")
	if left := c.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
