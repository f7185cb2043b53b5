package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// launchesDue queues what launches are to do by themselves; of the fleet one
// appliance does so at a time.
func (e *Engine) launchesDue(ctx context.Context) error {
	return e.alone(ctx, "launches due", func(ctx context.Context) error {
		return errors.Join(e.endTests(ctx), e.prove(ctx))
	})
}

const (
	// allJobs is more than there are open launches in any fleet.
	allJobs = 10_000
	// allRuns is the most that a store lists; more do not wait at once but in
	// waves of hundreds, whose VMs the unique index keeps apart all the same.
	allRuns = 500
	// endAgain is how long after a try to end a test that failed the next is. It
	// costs money meanwhile, and each try an event.
	endAgain = 30 * time.Minute
)

// endTests queues the end of the tests whose time is over.
func (e *Engine) endTests(ctx context.Context) error {
	jobs, err := e.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{Open: true, Limit: allJobs}, false)
	if err != nil {
		return err
	}
	var wrong []error
	seen, now := map[transfer.VMID]bool{}, e.Now()
	for _, j := range jobs {
		if j.Purpose != purposeTest || seen[j.VM] {
			continue // an earlier one was replaced by the newest, which counts
		}
		seen[j.VM] = true
		if j.Ends.IsZero() || j.Ends.After(now) {
			continue
		}
		if err := e.endTest(ctx, j, now); err != nil {
			wrong = append(wrong, fmt.Errorf("end the test of %s: %w", j.VMName, err))
		}
	}
	return errors.Join(wrong...)
}

func (e *Engine) endTest(ctx context.Context, j schedule.LaunchJob, now time.Time) error {
	last, err := e.Launches.LaunchRuns(ctx, schedule.LaunchQuery{VM: &j.VM, Limit: 1})
	if err != nil {
		return err
	}
	if len(last) > 0 {
		r := last[0]
		if !r.State.Ended() || r.Action == schedule.LaunchTestDone && r.State != schedule.RunDone && now.Sub(r.Ended) < endAgain {
			return nil
		}
	}
	return e.queueLaunch(ctx, schedule.LaunchWanted{VM: j.VM, VMName: j.VMName, Action: schedule.LaunchTestDone, Trigger: "schedule"}, now)
}

// queueLaunch queues a launch run that nobody asked for. It is no event: its
// start or end will be one soon.
func (e *Engine) queueLaunch(ctx context.Context, w schedule.LaunchWanted, now time.Time) error {
	_, _, err := e.Launches.QueueLaunch(ctx, w, now)
	if err == nil {
		poke(e.take)
	}
	return err
}

// prove queues proving tests of VMs that are due for one, those that waited
// longest first, as many as the fleet takes at once.
func (e *Engine) prove(ctx context.Context) error {
	policies, err := e.Store.Policies(ctx)
	if err != nil {
		return err
	}
	by := map[string]*schedule.Policy{}
	for i := range policies {
		if policies[i].Prove != nil {
			by[policies[i].Name] = &policies[i]
		}
	}
	if len(by) == 0 {
		return nil
	}
	s, err := e.proofScene(ctx)
	if err != nil {
		return err
	}
	room := e.ProofsAtOnce - s.underWay
	if room <= 0 {
		return nil
	}
	now := e.Now()
	var due []schedule.VM
	for _, vm := range s.vms {
		if ok, _ := schedule.ProveDue(by[vm.Policy], &vm, s.last[vm.ID], now); ok && !s.busy[vm.ID] && s.served[vm.ID.VCenter] {
			due = append(due, vm)
		}
	}
	slices.SortStableFunc(due, func(a, b schedule.VM) int {
		return cmp.Or(s.last[a.ID].At.Compare(s.last[b.ID].At), cmp.Compare(a.Name, b.Name))
	})
	for _, vm := range due[:min(room, len(due))] {
		w := schedule.LaunchWanted{VM: vm.ID, VMName: vm.Name, Action: schedule.LaunchTest, Wish: schedule.LaunchWish{Prove: true}, Trigger: "schedule"}
		if err := e.queueLaunch(ctx, w, now); err != nil {
			return fmt.Errorf("prove a point of %s: %w", vm.Name, err)
		}
	}
	return nil
}

// proofScene is what decides which points are proved.
type proofScene struct {
	vms      []schedule.VM
	last     map[transfer.VMID]schedule.Proving
	busy     map[transfer.VMID]bool // has a launch, or one is under way
	served   map[string]bool        // vCenters with an appliance that lives
	underWay int                    // proofs, in vCenters that are served
}

func (e *Engine) proofScene(ctx context.Context) (*proofScene, error) {
	s := &proofScene{last: map[transfer.VMID]schedule.Proving{}, busy: map[transfer.VMID]bool{}, served: map[string]bool{}}
	appliances, err := e.Store.Appliances(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range appliances {
		if a.Alive && !a.Draining {
			s.served[a.VCenter] = true
		}
	}
	active, err := e.Launches.LaunchRuns(ctx, schedule.LaunchQuery{Active: true, Limit: allRuns})
	if err != nil {
		return nil, err
	}
	for _, r := range active {
		s.busy[r.VM] = true
	}
	jobs, err := e.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{Open: true, Limit: allJobs}, false)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		s.busy[j.VM] = true
	}
	provings, err := e.Launches.Provings(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range provings {
		s.last[p.VM] = p
		if !p.State.Ended() && s.served[p.VM.VCenter] {
			s.underWay++
		}
	}
	s.vms, err = e.Store.VMs(ctx, "")
	return s, err
}

// endOrphans ends tests that are over and of which only AWS's tags tell: the
// database was lost, or the launch was made without it.
func (e *Engine) endOrphans(ctx context.Context) error {
	e.mu.Lock()
	vcenter := e.self.VCenter
	e.mu.Unlock()
	return e.alone(ctx, "end orphaned tests of "+vcenter, func(ctx context.Context) error {
		return e.Launcher.EndOrphans(ctx, func(job string) bool { return e.knownLaunch(ctx, job) })
	})
}

// knownLaunch reports that a launch is one that the fleet will end: what cannot
// be looked up may be. One that is over has nothing left in AWS; what is there
// all the same nobody else ends.
func (e *Engine) knownLaunch(ctx context.Context, job string) bool {
	j, err := e.Launches.LaunchJob(ctx, job)
	if errors.Is(err, ErrNotFound) {
		return false
	}
	return err != nil || !j.Over
}
