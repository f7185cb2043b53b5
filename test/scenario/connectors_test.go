package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// connector is one Snapferry on a machine of its own: an appliance VM, a session
// and a state that the other one does not see.
type connector struct {
	id     transfer.ApplianceID
	story  *scenario.Story
	client *vsphere.Client
	here   *hotadd.Appliance
}

// two are two connectors with one VM. The first is the rig's.
func two(t *testing.T) (*rig, *connector, *connector) {
	t.Helper()
	r := newRig(t, vcenter.VMSpec{CBT: true})
	first := &connector{id: "appliance-1", story: r.Story, client: r.w.VSphere, here: r.w.Appliance}
	vm, err := r.w.Lab.VCenter.AddAppliance("second-appliance")
	must(t, err)
	client := r.w.Dial(t)
	sys, dev := r.w.Lab.VCenter.GuestDirs(vm)
	here, err := hotadd.New(t.Context(), client, hotadd.Config{Appliance: vm.Moref(), SysfsDir: sys, DevDir: dev})
	must(t, err)
	v := *r.VM
	v.Source = client.Source(v.ID, vsphere.Options{Reader: here})
	return r, first, &connector{id: "appliance-2", client: client, here: here,
		story: &scenario.Story{T: t, World: r.World, VM: &v, State: stateOf(t)}}
}

// sync cleans up and runs a cycle, as the verb does.
func (c *connector) sync(ctx context.Context, at func(transfer.Step)) (transfer.Report, error) {
	c.reap(ctx)
	cycle := c.story.Cycle(transfer.Options{})
	cycle.Appliance = c.id
	cycle.Progress.OnStep(func(s transfer.Step) {
		if at != nil {
			at(s)
		}
	})
	return cycle.Run(ctx)
}

func (c *connector) reap(ctx context.Context) {
	c.story.T.Helper()
	reaper := transfer.Reaper{
		Source: hotadd.Leftovers{Client: c.client, Appliance: c.here}, Store: c.story.World.Store.(transfer.ReapStore),
		State: c.story.State, Appliance: c.id, VMs: []transfer.VMID{c.story.VM.ID}, Now: time.Now, Cleanup: time.Minute,
	}
	if rep, err := reaper.Run(ctx, false); err != nil && ctx.Err() == nil {
		c.story.T.Errorf("reaper of %s: %v: %+v", c.id, err, rep)
	}
}

// refused checks that an error names the other appliance and its snapshot, and
// says what to do.
func refused(t *testing.T, err error, other transfer.ApplianceID) {
	t.Helper()
	hint := transfer.HintOf(err)
	if transfer.KindOf(err) != transfer.Retry || !strings.Contains(err.Error(), string(other)) || !strings.Contains(err.Error(), vsphere.SnapshotPrefix) ||
		!strings.Contains(hint, "Wait") || !strings.Contains(hint, "clean --appliance") {
		t.Errorf("%v: %v\nhint: %s", transfer.KindOf(err), err, hint)
	}
}

// TestTwoConnectorsOneVM: while one has the VM frozen the other refuses, and
// leaves all of it alone. Before and after, both make right points.
func TestTwoConnectorsOneVM(t *testing.T) {
	for _, step := range cycleSteps(transfer.StepCopy, transfer.StepSeal) {
		if step == reading || step == transfer.StepFreeze { // the same as copy; a race, see below
			continue
		}
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			r, first, second := two(t)
			_, err := first.sync(t.Context(), nil)
			must(t, err)
			r.change()
			var once sync.Once
			var other error
			var during transfer.Report
			mine, err := first.sync(t.Context(), func(at transfer.Step) {
				if at == step {
					once.Do(func() { during, other = second.sync(t.Context(), nil) })
				}
			})
			must(t, err)
			r.Last = mine
			switch {
			case other != nil:
				refused(t, other, "appliance-1")
				r.row("a second appliance syncs the VM", step, "refused: "+short(other))
			default: // nothing was frozen at that moment, or no more
				r.row("a second appliance syncs the VM", step, string(during.Outcome))
				if step == transfer.StepPlan || step == transfer.StepCopy {
					t.Error("two cycles had the VM frozen at once")
				}
			}
			r.both(first, second)
		})
	}
}

// both lets both connectors make a point after whatever happened, and looks.
func (r *rig) both(first, second *connector) {
	r.t.Helper()
	for _, c := range []*connector{second, first, second} {
		r.change()
		rep, err := c.sync(r.t.Context(), nil)
		if err != nil {
			r.t.Fatalf("%s: %v", c.id, err)
		}
		r.Last = rep
		r.NothingLeft()
		r.Same()
	}
	r.Right()
}

// TestTwoConnectorsFreezeAtOnce: both look before either has frozen. The first
// snapshot counts; whoever made the other removes it, and nothing else.
func TestTwoConnectorsFreezeAtOnce(t *testing.T) {
	t.Parallel()
	r, first, second := two(t)
	_, err := first.sync(t.Context(), nil)
	must(t, err)
	raced, yielded := 0, map[transfer.ApplianceID]int{}
	for n := range 12 {
		if raced >= 2 && n >= 4 && !long {
			break
		}
		r.change()
		before := r.freezes()
		r.w.VCenterFaults.Clear()
		// Both are in the call that freezes before either has its effect.
		r.w.VCenterFaults.Add(fault.Rule{Op: "CreateSnapshot_Task", Kind: fault.Stall, Times: 2, Delay: 150 * time.Millisecond})
		errs := r.race(first, second)
		r.w.VCenterFaults.Clear()
		if r.freezes()-before > 1 {
			raced++
		}
		for i, err := range errs {
			if err != nil {
				yielded[[]transfer.ApplianceID{first.id, second.id}[i]]++
				refused(t, err, []transfer.ApplianceID{second.id, first.id}[i])
			}
		}
		if errs[0] != nil && errs[1] != nil {
			t.Errorf("neither made a point: %v; %v", errs[0], errs[1])
		}
		for _, l := range r.World.Left() {
			t.Errorf("left: %s", l)
		}
		r.Right()
	}
	if raced == 0 {
		t.Error("they never froze at once: nothing is proven")
	}
	r.row("two appliances freeze at once", transfer.StepFreeze, fmt.Sprintf("%d times both had made a VM snapshot; the later one yielded (%v)", raced, yielded))
	r.both(first, second)
}

// race starts both and waits for both.
func (r *rig) race(first, second *connector) (errs [2]error) {
	var g sync.WaitGroup
	for i, c := range []*connector{first, second} {
		g.Go(func() {
			rep, err := c.sync(r.t.Context(), nil)
			errs[i] = err
			for _, a := range rep.Alarms {
				r.t.Errorf("%s: alarm: %s", c.id, a)
			}
		})
	}
	g.Wait()
	return errs
}

func (r *rig) freezes() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, made := range r.frozen {
		n += made
	}
	return n
}

// TestTheOneThatYieldsDies between its freeze and its withdrawal: its snapshot
// stays above the other's, whose cycle goes on and is right. Only its own
// appliance, or a person who calls that dead, removes it.
func TestTheOneThatYieldsDies(t *testing.T) {
	t.Parallel()
	r, first, second := two(t)
	_, err := first.sync(t.Context(), nil)
	must(t, err)
	r.change()
	var once sync.Once
	_, err = first.sync(t.Context(), func(at transfer.Step) {
		if at == transfer.StepCopy {
			once.Do(func() { r.diesAfterFreezing(second.id) })
		}
	})
	must(t, err)
	r.Right()
	if _, err := first.sync(t.Context(), nil); err == nil {
		t.Error("the first goes on beside a snapshot of the second, which may be alive")
	} else {
		refused(t, err, second.id)
	}
	second.reap(t.Context())
	r.both(first, second)
}

// diesAfterFreezing makes what a connector leaves that is killed while its
// CreateSnapshot_Task is under way: a snapshot with its mark.
func (r *rig) diesAfterFreezing(id transfer.ApplianceID) {
	mark := fmt.Sprintf(`{"tool":"snapferry","format":1,"appliance":%q,"cycle":%q}`, id, transfer.NewCycleID(time.Now()))
	if _, err := r.vm.TakeSnapshotOf(vsphere.SnapshotPrefix+"late", mark); err != nil {
		r.t.Error(errors.Join(errors.New("take snapshot"), err))
	}
}
