package scenario_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

// clock is the appliance's: it can be set.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load())) // a clock that is set has no monotonic reading
}

func (c *clock) step(d time.Duration) { c.ahead.Add(int64(d)) }

// TestTheClockIsSet in mid-cycle, forward and back. The cycle is right, the next
// one is, and what a cycle that was cut off left is gone on with or begun anew.
func TestTheClockIsSet(t *testing.T) {
	steps := []time.Duration{100 * 24 * time.Hour, -6 * time.Hour}
	if long {
		steps = append(steps, 6*time.Hour, -100*24*time.Hour)
	}
	for _, by := range steps {
		for _, step := range cycleSteps(reading) {
			t.Run(fmt.Sprintf("%v/%s", by, step), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, vcenter.VMSpec{CBT: true})
				r.clock, r.audit = &clock{}, 1000
				r.maxFreeze = time.Hour // of which the clock says that it is over
				if res := r.run(transfer.Options{}, nil, nil); res.err != nil {
					t.Fatal(res.err)
				}
				r.change()
				res := r.when(step, transfer.Options{}, func() { r.clock.step(by) })
				r.row(fmt.Sprintf("the appliance's clock is set by %v", by), step, r.outcome(res))
				if res.err != nil || len(res.rep.Alarms) > 0 {
					t.Errorf("%v, alarms %v", res.err, res.rep.Alarms)
				}
				r.NothingLeft()
				r.Same()
				r.cutOff()
				r.clock.step(-by)
				r.recover(transfer.Options{})
				if d := r.recover(transfer.Options{}).Disks[0]; d.Kind != transfer.Delta || d.Audit == nil || d.Audit.Blocks != d.Audit.Of {
					t.Errorf("%s because %s, audit %+v", d.Kind, d.Reason, d.Audit)
				}
			})
		}
	}
}

// TestFrozenAnewWhileADraftStarts: the VM snapshot is given up while the answer
// to StartSnapshot is awaited. The next freeze of the cycle starts a draft with
// another label, and AWS takes no token twice for that.
func TestFrozenAnewWhileADraftStarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, vcenter.VMSpec{CBT: true})
	r.clock, r.maxFreeze = &clock{}, time.Hour
	r.Sync(transfer.Options{})
	r.change()
	r.w.AWSFaults.Add(fault.Rule{Op: "StartSnapshot", Kind: fault.LostAnswer, Times: 2}, fault.Rule{Op: "StartSnapshot", Kind: fault.Stall, Times: 2, Delay: time.Minute})
	starts := r.w.Lab.AWS.Calls()["StartSnapshot"]
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for r.w.Lab.AWS.Calls()["StartSnapshot"] < starts+4 { // both drafts exist, and nobody knows
			select {
			case <-look.C:
			case <-over:
				return
			}
		}
		r.clock.step(2 * time.Hour)
	})
	res := r.run(transfer.Options{}, nil, nil)
	close(over)
	watching.Wait()
	r.allFired(r.w.AWSFaults)
	r.w.AWSFaults.Clear()
	r.row("max-freeze is over while drafts are started", transfer.StepCopy, r.outcome(res))
	if res.err != nil {
		t.Fatalf("the cycle: %v", res.err)
	}
	if n := r.frozen[vsphere.SnapshotPrefix+string(res.rep.Cycle)]; n != 2 {
		t.Errorf("%d freezes, not 2", n)
	}
	r.NothingLeft()
	r.Same()
	r.recover(transfer.Options{})
}

// cutOff is a cycle that dies while it copies, and keeps its draft.
func (r *rig) cutOff() {
	r.t.Helper()
	r.change()
	if err := r.CancelAt(transfer.StepDetach); err == nil {
		r.t.Error("a cycle that was cancelled succeeded")
	}
}
