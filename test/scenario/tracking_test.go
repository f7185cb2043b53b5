package scenario_test

import (
	"strings"
	"testing"

	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// These stories are about vSphere's own ways, which the memory world does not
// have.

func TestMoreAreasThanAPageHolds(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	vm, v := w.Make(t, vcenter.VMSpec{Name: "scattered", Disks: []vcenter.DiskSpec{{Size: 300 * mib}}})
	s := &scenario.Story{T: t, World: w.World, VM: v, State: stateOf(t)}
	s.Sync(transfer.Options{Zeros: transfer.ZerosAllocated})
	const areas = 2101
	for i := range int64(areas) {
		s.Write(0, uint64(i), i*128*kib+5, 7) // every other grain
	}
	vm.Disks()[0].SetEmptyPages(2)
	before := w.Lab.VCenter.Calls()["QueryChangedDiskAreas"]
	rep := s.Sync(transfer.Options{})
	pages := w.Lab.VCenter.Calls()["QueryChangedDiskAreas"] - before
	if d := rep.Disks[0]; d.Areas != areas || pages < 3 || d.Kind != transfer.Delta || d.Put != (areas*128*kib+block-1)/block {
		t.Errorf("%d areas in %d pages, %d puts: %s", d.Areas, pages, d.Put, d.Reason)
	}
	s.Same()
}

func TestChangeIDsThatDoNotServe(t *testing.T) {
	for name, c := range map[string]struct {
		spec   vcenter.VMSpec
		before func(*testing.T, *scenario.LabWorld, *vcenter.VM) // after the first cycle
		kind   transfer.PlanKind
		reason string
	}{
		"power lost": {before: func(t *testing.T, _ *scenario.LabWorld, vm *vcenter.VM) {
			must(t, vm.PowerLoss())
			must(t, vm.PowerOn())
		},
			kind: transfer.Compare, reason: "CBT was reset"},
		"a foreign change ID of the right epoch": {before: func(_ *testing.T, w *scenario.LabWorld, _ *vcenter.VM) {
			w.VCenterFaults.Add(fault.Rule{Op: "QueryChangedDiskAreas", Kind: fault.Error, Detail: "FileFault"})
		}, kind: transfer.Compare, reason: "does not accept the change ID"},
		"reverted": {before: func(t *testing.T, _ *scenario.LabWorld, vm *vcenter.VM) {
			snap, err := vm.TakeSnapshot("before the upgrade")
			must(t, err)
			_, err = vm.Disks()[0].WriteAt([]byte("undone by the revert"), 5*mib)
			must(t, err)
			must(t, vm.Revert(snap))
		}, kind: transfer.Compare},
		"grown": {before: func(t *testing.T, _ *scenario.LabWorld, vm *vcenter.VM) { must(t, vm.Disks()[0].Grow(10*mib)) },
			kind: transfer.Compare, reason: "grew from"},
		"not tracked on this disk": {spec: vcenter.VMSpec{Disks: []vcenter.DiskSpec{{Size: 8 * mib, NoCBT: true}}},
			kind: transfer.Compare, reason: ""},
		"storage moved": {before: func(t *testing.T, _ *scenario.LabWorld, vm *vcenter.VM) { must(t, vm.MoveTo("vmfs2")) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !long && c.kind != "" {
				t.Skip("TestChangeTrackingTable has it; set SNAPFERRY_LONG")
			}
			w := scenario.NewLab(t)
			spec := c.spec
			spec.Name = "tracked"
			if spec.Disks == nil {
				spec.Disks = []vcenter.DiskSpec{{Size: 8 * mib}}
			}
			vm, v := w.Make(t, spec)
			s := &scenario.Story{T: t, World: w.World, VM: v, State: stateOf(t)}
			s.Write(0, 1, 0, 8*mib)
			s.Sync(transfer.Options{})
			if c.before != nil {
				c.before(t, w, vm)
			}
			s.Write(0, 2, mib+3, 100)
			rep := s.Sync(transfer.Options{})
			d := rep.Disks[0]
			if c.kind != "" && (d.Kind != c.kind || !strings.Contains(d.Reason, c.reason)) {
				t.Errorf("%s because %q, want %s because …%s…", d.Kind, d.Reason, c.kind, c.reason)
			}
			t.Logf("%s because %q: %d puts", d.Kind, d.Reason, d.Put)
			s.Same()
			s.Write(0, 3, 2*mib, 100)
			s.Sync(transfer.Options{})
			s.Same()
			if names := w.VCenterFaults.Unfired(); len(names) > 0 {
				t.Errorf("faults that never fired: %v", names)
			}
		})
	}
}

// TestSnapshotsOfOthersStand: below ours and above ours, taken by other hands.
func TestSnapshotsOfOthersStand(t *testing.T) {
	for _, tracked := range []bool{true, false} {
		t.Run(map[bool]string{true: "CBT on", false: "CBT off"}[tracked], func(t *testing.T) {
			t.Parallel()
			w := scenario.NewLab(t)
			vm, v := w.Make(t, vcenter.VMSpec{Name: "shared", CBT: tracked, Disks: []vcenter.DiskSpec{{Size: 8 * mib}, {Size: mib}}})
			s := &scenario.Story{T: t, World: w.World, VM: v, State: stateOf(t)}
			s.Write(0, 1, 0, 3*mib)
			_, err := vm.TakeSnapshot("before the upgrade")
			must(t, err)
			s.Write(0, 2, mib, 3*mib)
			_, err = vm.TakeSnapshot("after the upgrade")
			must(t, err)
			s.Write(0, 3, 2*mib, 3*mib)
			for n := range 3 {
				rep := s.Sync(transfer.Options{})
				s.Same()
				if d := rep.Disks[0]; n > 0 && !tracked && (d.Kind != transfer.Compare || !strings.Contains(d.Reason, "snapshot")) {
					t.Errorf("CBT is off and snapshots are there: %s because %q", d.Kind, d.Reason)
				} else if n > 0 && tracked && d.Kind != transfer.Delta {
					t.Errorf("CBT is on: %s because %q", d.Kind, d.Reason)
				}
				s.Write(0, uint64(10+n), 5*mib, 5000)
			}
			var names []string
			for _, snap := range vm.Snapshots() {
				names = append(names, snap.Name)
			}
			if strings.Join(names, ", ") != "before the upgrade, after the upgrade" {
				t.Errorf("snapshots of others: %v", names)
			}
			if state, _ := w.Lab.VCenter.State().VM("shared"); len(state.Missing) > 0 {
				t.Errorf("files are gone: %v", state.Missing)
			}
		})
	}
}

// TestPoweredOffVM replicates as a running one does.
func TestPoweredOffVM(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	_, v := w.Make(t, vcenter.VMSpec{Name: "off", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: 2 * mib}}})
	s := &scenario.Story{T: t, World: w.World, VM: v, State: stateOf(t)}
	s.Sync(transfer.Options{})
	rep := s.Sync(transfer.Options{})
	if rep.Outcome != transfer.OutcomeConfirmed {
		t.Errorf("%s: %+v", rep.Outcome, rep.Disks)
	}
	s.Same()
}

// TestAllBackings: every kind of disk whose base can carry a change ID and be
// attached.
func TestAllBackings(t *testing.T) {
	t.Parallel()
	w := scenario.NewLab(t)
	spec := vcenter.VMSpec{Name: "backings"}
	for _, b := range []vcenter.Backing{vcenter.Flat, vcenter.Sparse2, vcenter.SESparse} {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: 2 * mib, Backing: b}, vcenter.DiskSpec{Size: mib, Backing: b, DeltaSESparse: true, Controller: vcenter.NVMe})
	}
	_, v := w.Make(t, spec)
	s := &scenario.Story{T: t, World: w.World, VM: v, State: stateOf(t)}
	for n := range 2 {
		for i := range spec.Disks {
			s.Write(i, uint64(100*n+i), int64(i)*1000, 300_000)
		}
		rep := s.Sync(transfer.Options{})
		for _, d := range rep.Disks {
			if n == 1 && d.Kind != transfer.Delta {
				t.Errorf("%s: %s because %q", d.Label, d.Kind, d.Reason)
			}
		}
		s.Same()
	}
}
