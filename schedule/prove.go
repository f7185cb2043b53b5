package schedule

import (
	"fmt"
	"slices"
	"time"

	"snapferry/transfer"
)

// Proving is the newest launch run that was to prove a point of a VM.
type Proving struct {
	VM    transfer.VMID
	At    time.Time        // when it was queued
	State RunState         // not ended: it is under way
	Point transfer.CycleID // that it launched; "" if it did not come so far
}

// proveAgain is how long after a proof that failed the next is tried: what was
// wrong is most often with AWS or a quota, and each try costs an instance.
const proveAgain = day

// ProveDue says whether the newest point of a VM is to be proved now, by a test
// that is launched, checked and torn down, and why or why not. last is the
// VM's newest proving, the zero value when there was none.
//
// Slots lie Prove.Every apart, the same for all time, shifted by the VM's own
// share of it, so that the VMs of a policy are spread over the whole interval.
// The VM is due at the first slot that is half an interval or more after its
// last proof. One that was never proved is due at once: how many are proved
// side by side bounds those. A proof that failed or was cancelled is tried
// again a day later.
//
// Only what is newer than the last proof is proved; a point that is suspect
// is not, since a test of it has to be forced by a person. Neither is a VM
// that is paused, or where a test would not be allowed. ProveDue is pure.
func ProveDue(p *Policy, vm *VM, last Proving, now time.Time) (due bool, why string) {
	switch {
	case p == nil || p.Prove == nil || p.Prove.Every <= 0:
		return false, "its policy asks for no proofs"
	case vm.Gone:
		return false, "it is not in vCenter any more"
	case vm.Paused:
		return false, "it is paused"
	case vm.Point.Cycle == "":
		return false, "it has no complete recovery point"
	case vm.Point.Suspect != "":
		return false, "its newest recovery point is suspect: " + vm.Point.Suspect
	case !slices.Contains(moves["test"].from, vm.Lifecycle.orFirst()):
		return false, fmt.Sprintf("it is %s", vm.Lifecycle.orFirst())
	case last.At.IsZero():
		return true, "it was never proved"
	case !last.State.Ended():
		return false, "it is being proved"
	case last.State == RunDone && last.Point == vm.Point.Cycle, !vm.Point.Instant.After(last.At):
		return false, "there is no newer point than the one that was proved last"
	}
	at := last.At.Add(proveAgain)
	if last.State == RunDone {
		every := p.Prove.Every.Std()
		phase := time.Duration(shareOf(vm.ID) * float64(every)).Truncate(time.Second)
		at = slotAfter(last.At.Add(every/2), every, phase)
	}
	if when := clock(at, now, p.Location()); at.After(now) {
		return false, "it is proved next at " + when
	} else {
		return true, "every " + inWords(p.Prove.Every.Std()) + ", since " + when
	}
}
