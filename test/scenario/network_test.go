package scenario_test

import (
	"fmt"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// calls is how many calls vCenter has had.
func (r *rig) calls() (n int) {
	for _, c := range r.w.Lab.VCenter.Calls() {
		n += c
	}
	return n
}

// positions are the calls of a cycle at which something happens: all of them,
// or a sample that is another one for each kind.
func positions(n, phase int) (ks []int) {
	every := 1
	if !long {
		every = max(1, n/3)
		phase %= every
	} else {
		phase = 0
	}
	for k := phase; k < n; k += every {
		ks = append(ks, k)
	}
	return ks
}

// TestEveryCallToVCenter spoils each single call of a whole cycle in each way
// that a network and a vCenter have. The cycle rides it out, or fails with an
// error that says so; the next one is right in any case.
func TestEveryCallToVCenter(t *testing.T) {
	for n, c := range []struct {
		kind  fault.Kind
		delay time.Duration
		rides bool // no such fault may fail a cycle
	}{
		{kind: fault.DeadSession, rides: true},
		{kind: fault.Cut},
		{kind: fault.LostAnswer},
		{kind: fault.Stall, delay: 50 * time.Millisecond, rides: true},
		{kind: fault.Throttle},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vcenter.VMSpec{})
			r.Sync(transfer.Options{})
			r.change()
			before := r.calls()
			r.Sync(transfer.Options{})
			for _, k := range positions(r.calls()-before, 2*n+1) {
				r.w.VCenterFaults.Clear()
				r.w.VCenterFaults.Add(fault.Rule{Op: "*", Kind: c.kind, Skip: k, Delay: c.delay})
				r.spoiledCycle(fmt.Sprintf("%s, call %d", c.kind, k), r.w.VCenterFaults, c.rides)
			}
		})
	}
}

// spoiledCycle runs one cycle under rules that were set, then one without.
func (r *rig) spoiledCycle(name string, rules *fault.Set, rides bool) {
	r.t.Helper()
	r.change()
	res := r.run(transfer.Options{}, firedOf(rules), nil)
	rules.Clear()
	if !res.fired { // the cycle had one call less than the one that was counted
		r.row(name, "-", "did not fire: "+r.outcome(res))
		return
	}
	r.row(name, res.step, r.outcome(res))
	switch {
	case res.err != nil && rides:
		r.t.Errorf("%s: %v", name, res.err)
	case res.err != nil && transfer.KindOf(res.err) != transfer.Retry:
		r.t.Errorf("%s: the next cycle would do, and yet the error is %v: %v", name, transfer.KindOf(res.err), res.err)
	}
	r.recover(transfer.Options{})
}

// TestNoAnswerFromVCenter is a half-open connection: the call's own time ends
// it.
func TestNoAnswerFromVCenter(t *testing.T) {
	ops := []string{"CreateSnapshot_Task", "ReconfigVM_Task"}
	if long {
		ops = append(ops, "RemoveSnapshot_Task", "QueryChangedDiskAreas", "RetrievePropertiesEx", "WaitForUpdatesEx", "CreateFilter", "CreatePropertyCollector")
	}
	for _, op := range ops {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vcenter.VMSpec{}, func(o *scenario.LabOptions) { o.VSphere.Call = 2 * time.Second })
			r.Sync(transfer.Options{})
			r.w.VCenterFaults.Add(fault.Rule{Op: op, Kind: fault.Stall})
			r.spoiledCycle("no answer to "+op, r.w.VCenterFaults, false)
		})
	}
}

// TestTasksThatFail: accepted, and failed later.
func TestTasksThatFail(t *testing.T) {
	for _, c := range []struct {
		op, detail string
		times      int
	}{
		{"CreateSnapshot_Task", "FileFault:[vmfs1] x.vmdk", 1},
		{"CreateSnapshot_Task", "TaskInProgress", 3},
		{"ReconfigVM_Task", "HostNotConnected", 1},
		{"ReconfigVM_Task", "TaskInProgress", 3},
		{"RemoveSnapshot_Task", "FileLocked:[vmfs1] x.vmdk", 1},
		{"RemoveSnapshot_Task", "RequestCanceled", 1},
		{"RemoveSnapshot_Task", "TaskInProgress", 3},
	} {
		t.Run(c.op+","+c.detail, func(t *testing.T) {
			t.Parallel()
			if !long && (c.detail == "RequestCanceled" || c.detail == "TaskInProgress" && c.op != "ReconfigVM_Task") {
				t.Skip("the sample has another one in its place; set SNAPFERRY_LONG")
			}
			r := newRig(t, vcenter.VMSpec{CBT: true})
			r.Sync(transfer.Options{})
			r.w.VCenterFaults.Add(fault.Rule{Op: c.op, Kind: fault.TaskFault, Detail: c.detail, Times: c.times})
			r.spoiledCycle(fmt.Sprintf("task %s fails: %s ×%d", c.op, c.detail, c.times), r.w.VCenterFaults, c.detail == "TaskInProgress")
		})
	}
}

// TestVCenterIsAwayForAWhile: every call fails for a while in mid-cycle, then
// the sessions are gone: a restart of vCenter.
func TestVCenterIsAwayForAWhile(t *testing.T) {
	steps := []transfer.Step{transfer.StepCopy, transfer.StepRelease}
	if long {
		steps = append(steps, transfer.StepPlan, transfer.StepDetach)
	}
	for _, step := range steps {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vcenter.VMSpec{})
			r.Sync(transfer.Options{})
			r.change()
			res := r.run(transfer.Options{}, firedOf(r.w.VCenterFaults), func(at transfer.Step) {
				if at == step {
					r.w.VCenterFaults.Add(fault.Rule{Op: "*", Kind: fault.Throttle, Times: 12})
					r.w.Lab.VCenter.KillSessions()
				}
			})
			r.allFired(r.w.VCenterFaults)
			r.w.VCenterFaults.Clear()
			r.row("vCenter restarts: 12 calls fail, sessions are gone", step, r.outcome(res))
			if res.err != nil && transfer.KindOf(res.err) != transfer.Retry {
				t.Errorf("%v: %v", transfer.KindOf(res.err), res.err)
			}
			r.recover(transfer.Options{})
		})
	}
}
