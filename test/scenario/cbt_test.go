package scenario_test

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// trackingRow is a row of the CBT table, played between a good cycle and the
// one that is looked at.
type trackingRow struct {
	name   string
	row    int // of the CBT table in the vSphere facts
	spec   vcenter.VMSpec
	first  func(*testing.T, *rig) // before the first cycle
	play   func(*testing.T, *rig) // before the second; the guest has written
	rules  []fault.Rule           // for the second
	o      transfer.Options
	kind   transfer.PlanKind // of the first disk
	reason string
	// refused: the first cycle refuses, saying so.
	refused string
}

func query(lie string) []fault.Rule {
	return []fault.Rule{{Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: lie, Times: 2}}
}

func trackingRows() []trackingRow {
	one := func(d vcenter.DiskSpec) vcenter.VMSpec {
		d.Size = 4 * mib
		return vcenter.VMSpec{Disks: []vcenter.DiskSpec{d, {Size: mib}}}
	}
	return []trackingRow{
		{name: "enabled by our first snapshot, running", row: 1, kind: transfer.Delta},
		{name: "enabled by our first snapshot, powered off", row: 1, spec: vcenter.VMSpec{PoweredOff: true}, kind: transfer.Delta},
		{name: "enabled, and one disk has no change ID", row: 2, spec: one(vcenter.DiskSpec{NoCBT: true}), kind: transfer.Compare},
		{name: "a change ID that vCenter does not accept", row: 4, kind: transfer.Compare, reason: "does not accept the change ID",
			rules: []fault.Rule{{Op: "QueryChangedDiskAreas", Kind: fault.Error, Detail: "FileFault:[vmfs1] a.vmdk", Times: 2}}},
		{name: "pages out of order", row: 5, rules: query("unsorted"), kind: transfer.Compare},
		{name: "an area behind the end", row: 5, rules: query("outside"), kind: transfer.Compare},
		{name: "a gap between pages", row: 5, rules: query("gap"), kind: transfer.Compare},
		{name: "an empty page", row: 5, rules: query("empty-page"), kind: transfer.Delta},
		{name: "CBT was reset", row: 6, play: func(_ *testing.T, r *rig) { r.VM.ResetCBT() }, kind: transfer.Compare, reason: "CBT was reset"},
		{name: "the disk has grown", row: 6, play: func(t *testing.T, r *rig) { must(t, r.VM.Grow(0, 6*mib)) }, kind: transfer.Compare, reason: "grew"},
		{name: "the VM was reverted", row: 6, play: func(t *testing.T, r *rig) {
			id, err := r.vm.TakeSnapshot("before the upgrade")
			must(t, err)
			r.change()
			must(t, r.vm.Revert(id))
		}, kind: transfer.Compare},
		{name: "power lost", row: 7, play: func(t *testing.T, r *rig) { must(t, r.vm.PowerLoss()); must(t, r.vm.PowerOn()) }, kind: transfer.Compare, reason: "CBT was reset"},
		{name: "a power-off that resets tracking", row: 7, play: func(t *testing.T, r *rig) {
			task, err := object.NewVirtualMachine(r.w.VSphere.VIM(), r.vm.Ref()).PowerOff(t.Context())
			must(t, err)
			must(t, task.Wait(t.Context()))
		}, rules: []fault.Rule{{Op: "PowerOffVM_Task", Kind: fault.Lie, Detail: "cbt-reset"}}, kind: transfer.Compare, reason: "CBT was reset"},
		{name: "an SE sparse disk", row: 8, spec: one(vcenter.DiskSpec{Backing: vcenter.SESparse, DeltaSESparse: true}), kind: transfer.Delta},
		{name: "allocated areas cannot be listed", row: 9, o: transfer.Options{Zeros: transfer.ZerosAllocated},
			first: func(_ *testing.T, r *rig) { r.vm.Disks()[0].SetAllocation(vcenter.AllocationUnsupported) }, kind: transfer.Delta},
		{name: "allocated areas are the whole disk", row: 9, o: transfer.Options{Zeros: transfer.ZerosAllocated},
			first: func(_ *testing.T, r *rig) { r.vm.Disks()[0].SetAllocation(vcenter.AllocationWholeDisk) }, kind: transfer.Delta},
		{name: "more reported than changed", row: 10, rules: query("over-report"), kind: transfer.Delta},
		{name: "the whole disk reported", row: 10, rules: query("whole-disk"), kind: transfer.Delta},
		{name: "hardware version 4", row: 12, spec: vcenter.VMSpec{HardwareVersion: 4}, refused: "hardware version 4"},
		{name: "an independent disk", row: 12, spec: one(vcenter.DiskSpec{Mode: "independent_persistent"}), refused: "independent"},
		{name: "a physical RDM", row: 12, spec: one(vcenter.DiskSpec{Backing: vcenter.RDMPhysical}), refused: "raw"},
		{name: "bus sharing", row: 12, spec: one(vcenter.DiskSpec{BusSharing: "physicalSharing"}), refused: "shar"},
		{name: "multi-writer", row: 12, spec: one(vcenter.DiskSpec{Sharing: "sharingMultiWriter"}), refused: "multi-writer"},
		{name: "PCI passthrough", row: 12, spec: vcenter.VMSpec{PCIPassthrough: true}, refused: "PCI"},
		{name: "fault tolerance", row: 12, spec: vcenter.VMSpec{FaultTolerant: true}, refused: "ault"},
	}
}

// TestChangeTrackingTable plays what is known of CBT. A delta that can be
// trusted stays a delta; any other becomes a compare that uploads what differs
// and no more.
func TestChangeTrackingTable(t *testing.T) {
	for _, c := range trackingRows() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.spec)
			r.audit = 1000 // all blocks: no rule here loses a write, so none may be found
			if c.first != nil {
				c.first(t, r)
			}
			if res := r.run(c.o, nil, nil); c.refused != "" {
				if res.err == nil || !strings.Contains(res.err.Error(), c.refused) || transfer.KindOf(res.err) != transfer.Permanent {
					t.Errorf("not refused for %q: %v", c.refused, res.err)
				}
				r.row(c.name, "inspect", r.outcome(res))
				return
			} else if res.err != nil {
				t.Fatal(res.err)
			}
			r.Write(0, 5, mib+100, 5000) // one block, and another: two areas
			r.Write(0, 6, 3*mib+100, 5000)
			r.w.VCenterFaults.Add(c.rules...)
			if c.play != nil {
				c.play(t, r)
			}
			res := r.run(c.o, firedOf(r.w.VCenterFaults), nil)
			r.allFired(r.w.VCenterFaults)
			r.w.VCenterFaults.Clear()
			if res.err != nil {
				t.Fatal(res.err)
			}
			d := res.rep.Disks[0]
			r.row(c.name, transfer.StepPlan, string(d.Kind)+", "+cutText(d.Reason)+", "+r.outcome(res))
			if d.Kind != c.kind || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("%s because %q, want %s because …%s…", d.Kind, d.Reason, c.kind, c.reason)
			}
			if d.Put > 4 { // the blocks, and those that a revert undid
				t.Errorf("%d puts for two changed blocks", d.Put)
			}
			if len(res.rep.Alarms) > 0 {
				t.Errorf("alarms: %v", res.rep.Alarms)
			}
			r.Same()
			if long || c.row == 7 { // the delta after a compare: of one row, or of all
				r.recover(c.o)
			}
		})
	}
}

// scatter writes to many blocks, a grain in each, so that tracking which loses
// every second grain loses some.
func (r *rig) scatter(seed uint64) {
	for i := range int64(6) {
		r.Write(0, seed+uint64(i), i*block+1000, 100)
	}
}

// silent losses: what vCenter says is in order, and wrong.
var silentLosses = []struct {
	name  string
	spec  vcenter.VMSpec
	first func(*testing.T, *rig) // before the first cycle
	play  func(*testing.T, *rig) // instead of scatter
	rules []fault.Rule
}{
	{name: "areas are missing", rules: []fault.Rule{{Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: "under-report", Times: 2}}},
	{name: "CBT was enabled beside a snapshot", first: func(t *testing.T, r *rig) {
		_, err := r.vm.TakeSnapshot("before the upgrade")
		must(t, err)
		enableCBT(t, r)
	}},
	{name: "a revert that keeps the change IDs", play: func(t *testing.T, r *rig) {
		id, err := r.vm.TakeSnapshot("before the upgrade")
		must(t, err)
		r.scatter(100)
		r.audit = 0
		r.Sync(transfer.Options{})
		snap := r.vm.Snapshots()[0].Moref
		if snap != id {
			t.Fatalf("snapshot %s, not %s", snap, id)
		}
		revert(t, r, id)
		for range 3 { // what overtakes the sequence number
			_, err := r.vm.TakeSnapshot("later")
			must(t, err)
		}
		// Without it the cycle would see no change at all, and those are audited
		// once a day.
		r.Write(0, 9, 3*mib, 10)
	}, rules: []fault.Rule{{Op: "RevertToSnapshot_Task", Kind: fault.Lie, Detail: "keep-change-ids"}}},
}

func enableCBT(t *testing.T, r *rig) {
	t.Helper()
	reconfigureCBT(t, r)
	must(t, r.vm.Migrate(r.w.Lab.VCenter.Hosts()[1])) // the stun with which it begins
}

// TestSilentLossIsFound: the audit, with a budget of all blocks, finds what
// tracking lost, in the very cycle; it repairs the point and tells on the
// earlier ones.
func TestSilentLossIsFound(t *testing.T) {
	for _, c := range silentLosses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.spec)
			if c.first != nil {
				c.first(t, r)
			}
			if res := r.run(transfer.Options{}, nil, nil); res.err != nil {
				t.Fatal(res.err)
			}
			earlier := len(r.Points())
			r.w.VCenterFaults.Add(c.rules...)
			if c.play != nil {
				c.play(t, r)
				earlier = len(r.Points())
			} else {
				r.scatter(100)
			}
			r.audit = 1000
			res := r.run(transfer.Options{}, nil, nil)
			r.allFired(r.w.VCenterFaults)
			r.w.VCenterFaults.Clear()
			d := res.rep.Disks[0]
			r.row("silent loss: "+c.name, transfer.StepCopy, string(d.Kind)+", "+r.outcome(res))
			if res.err != nil || d.Kind != transfer.Compare || d.Audit == nil || d.Audit.Wrong == 0 || d.Audit.Odds != 1 {
				t.Fatalf("not found: %s because %q, audit %+v: %v", d.Kind, d.Reason, d.Audit, res.err)
			}
			if len(res.rep.Alarms) == 0 || !strings.Contains(res.rep.Alarms[0], "cannot be trusted") {
				t.Errorf("not said loudly: %v", res.rep.Alarms)
			}
			points := r.Points()
			r.Same()
			if len(points) != earlier+1 || points[0].Suspect != "" {
				t.Errorf("%d points, %d before; the repaired one is suspect: %q", len(points), earlier, points[0].Suspect)
			}
			for _, p := range points[1:] {
				if p.Suspect == "" {
					t.Errorf("the earlier point %s is not suspect", p.Cycle)
				}
			}
			r.recover(transfer.Options{})
		})
	}
}

// TestALossFromBefore: tracking lost writes while nothing audited. The points
// since are wrong; the first audit that runs finds it and marks them.
func TestALossFromBefore(t *testing.T) {
	t.Parallel()
	r := newRig(t, vcenter.VMSpec{})
	r.Sync(transfer.Options{})
	r.scatter(100)
	r.w.VCenterFaults.Add(fault.Rule{Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: "under-report", Times: 2})
	r.Sync(transfer.Options{})
	r.allFired(r.w.VCenterFaults)
	r.audit = 1000
	r.Write(0, 9, 3*mib, 10)
	res := r.run(transfer.Options{}, nil, nil)
	d := res.rep.Disks[0]
	if res.err != nil || d.Kind != transfer.Compare || d.Audit == nil || d.Audit.Wrong == 0 {
		t.Fatalf("not found: %s, audit %+v: %v", d.Kind, d.Audit, res.err)
	}
	points := r.Points()
	if len(points) != 3 || points[1].Suspect == "" || points[2].Suspect == "" || points[0].Suspect != "" {
		t.Errorf("suspect: %+v", points)
	}
	r.row("silent loss two cycles ago, without audit", transfer.StepCopy, string(d.Kind)+", "+r.outcome(res))
	r.Same()
	r.recover(transfer.Options{})
}
