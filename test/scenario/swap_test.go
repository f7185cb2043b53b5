package scenario_test

import (
	"strings"
	"testing"

	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// replace hangs another disk in the place of the first one, with other bytes.
func (r *rig) replace(size int64) {
	r.t.Helper()
	d, err := r.vm.ReplaceDisk(r.VM.Disks[0].Key, vcenter.DiskSpec{Size: size})
	must(r.t, err)
	r.VM.Disks[0] = transfer.DiskID{Key: d.Key(), UUID: strings.ToLower(d.UUID())}
	r.Write(0, 500, mib+1000, mib/2) // other bytes in the same blocks
}

// isSeeded checks that the new disk begins a chain of its own.
func (r *rig) isSeeded(rep transfer.Report) {
	r.t.Helper()
	d := rep.Disks[0]
	if d.Disk != r.VM.Disks[0] || d.Kind != transfer.Seed || d.Parent != "" || !strings.Contains(d.Reason, "another one now") {
		r.t.Errorf("disk %s: %s on %q because %q", d.Disk, d.Kind, d.Parent, d.Reason)
	}
	if other := rep.Disks[1]; other.Kind != transfer.Delta {
		r.t.Errorf("the disk that stayed: %s because %q", other.Kind, other.Reason)
	}
}

// TestADiskIsReplaced between cycles, by one of the same size, a larger and a
// smaller one: under the same device key it is another disk.
func TestADiskIsReplaced(t *testing.T) {
	for name, size := range map[string]int64{"as large": 4 * mib, "larger": 6 * mib, "smaller": 2*mib + 512} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vcenter.VMSpec{CBT: true})
			r.Sync(transfer.Options{})
			r.change()
			r.cutOff() // its draft is of the old disk
			r.replace(size)
			r.reap()
			rep := r.Sync(transfer.Options{})
			r.row("a disk is replaced between cycles, "+name, "-", string(rep.Disks[0].Kind)+" because "+rep.Disks[0].Reason)
			r.isSeeded(rep)
			r.Same()
			r.Right()
			r.Write(0, 501, 0, 100)
			if d := r.Sync(transfer.Options{}).Disks[0]; d.Kind != transfer.Delta {
				t.Errorf("then: %s because %q", d.Kind, d.Reason)
			}
			r.Same()
		})
	}
}

// TestADiskIsReplacedMeanwhile: in mid-cycle. The point is of the disks as they
// were frozen, or there is none; the next cycle seeds the new disk.
func TestADiskIsReplacedMeanwhile(t *testing.T) {
	for _, step := range cycleSteps(transfer.StepFreeze, transfer.StepPlan, reading) {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vcenter.VMSpec{CBT: true})
			r.Sync(transfer.Options{})
			r.change()
			before := *r.VM
			before.Disks = append([]transfer.DiskID{}, r.VM.Disks...)
			res := r.when(step, transfer.Options{}, func() { r.replace(4 * mib) })
			after := r.VM
			if res.err == nil && res.rep.Disks[0].Disk == before.Disks[0] {
				r.VM = &before // the point is of the disk that was there
			}
			r.row("a disk is replaced in mid-cycle", step, r.outcome(res))
			r.VM = after
			if res.err != nil && transfer.KindOf(res.err) != transfer.Retry {
				t.Errorf("%v: %v", transfer.KindOf(res.err), res.err)
			}
			r.reap()
			rep := r.Sync(transfer.Options{})
			r.isSeeded(rep)
			r.Same()
			r.Right()
			if left := r.World.Drafts(); len(left) > 0 {
				t.Errorf("drafts left: %v", left)
			}
		})
	}
}
