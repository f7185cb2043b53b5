package engine

import (
	"context"
	"encoding/json"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// replanEvery is how often due times are looked over although nothing seems to
// have changed: what another appliance or the command line wrote shows then.
const replanEvery = time.Minute

// planner queues what is due, and has runs admitted: on every tick, and when
// kicked.
func (e *Engine) planner(ctx context.Context) {
	tick := time.NewTicker(e.Tick)
	defer tick.Stop()
	p := &plan{e: e, was: map[transfer.VMID]string{}}
	for {
		kicked := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-e.kick:
			kicked = true
		}
		began := time.Now()
		err := e.alone(ctx, "plan", func(ctx context.Context) error { return p.tick(ctx, kicked) })
		poke(e.admit)
		if err == nil {
			e.mu.Lock()
			e.ticked = e.Now()
			e.mu.Unlock()
		} else if ctx.Err() == nil {
			e.Log.Warn("plan", "error", err)
		}
		e.Log.Debug("planned", "took", time.Since(began))
	}
}

// plan is what the planner remembers between ticks.
type plan struct {
	e        *Engine
	was      map[transfer.VMID]string // the policy, in full, by which a VM's due time was reckoned
	policies string                   // all of them, as JSON
	looked   time.Time                // when all due times were looked over
}

func (p *plan) tick(ctx context.Context, kicked bool) error {
	now := p.e.Now()
	policies, err := p.e.Store.Policies(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(policies)
	if err != nil {
		return err
	}
	if kicked || string(text) != p.policies || now.Sub(p.looked) >= replanEvery {
		if err := p.replan(ctx, policies, now); err != nil {
			return err
		}
		p.policies, p.looked = string(text), now
	}
	return p.e.queueDue(ctx, policies, now)
}

// replan gives VMs the policies that match them, and due times where they have
// none or their policy changed.
func (p *plan) replan(ctx context.Context, policies []schedule.Policy, now time.Time) error {
	vms, err := p.e.Store.VMs(ctx, "")
	if err != nil {
		return err
	}
	by := map[string]*schedule.Policy{}
	full := map[string]string{"": ""}
	for i := range policies {
		text, err := json.Marshal(policies[i])
		if err != nil {
			return err
		}
		by[policies[i].Name], full[policies[i].Name] = &policies[i], string(text)
	}
	var planned []schedule.Planned
	for i := range vms {
		vm := &vms[i]
		name, _ := schedule.Assign(policies, vm)
		was, known := p.was[vm.ID]
		p.was[vm.ID] = full[name]
		same := name == vm.Policy && (!known || was == full[name])
		if same && (by[name] == nil || !vm.Next.IsZero() || !vm.Lifecycle.Replicates()) {
			continue
		}
		due, err := p.e.dueOf(ctx, by[name], vm, now)
		if err != nil {
			return err
		}
		if same && due.At.Equal(vm.Next) && due.Why == vm.NextWhy {
			continue
		}
		planned = append(planned, schedule.Planned{VM: vm.ID, Policy: name, Next: due.At, Why: due.Why})
	}
	if len(planned) == 0 {
		return nil
	}
	return p.e.Store.Plan(ctx, planned)
}

// dueOf reckons when a VM is due.
func (e *Engine) dueOf(ctx context.Context, p *schedule.Policy, vm *schedule.VM, now time.Time) (schedule.Due, error) {
	in := schedule.DueInput{VM: vm.ID, Now: now, Last: vm.Point.Instant, Fails: vm.Fails, Measure: vm.Measure}
	if vm.Fails > 0 && vm.LastRun != 0 {
		run, err := e.Store.Run(ctx, vm.LastRun)
		if err != nil {
			return schedule.Due{}, err
		}
		in.Tried = run.Ended
	}
	return nextDue(p, in), nil
}

// queueDue queues a run for each VM that is due. One that became due before a
// blackout and that nobody was there to queue waits for the blackout's end.
func (e *Engine) queueDue(ctx context.Context, policies []schedule.Policy, now time.Time) error {
	due, err := e.Store.DueVMs(ctx, now)
	if err != nil {
		return err
	}
	by := map[string]*schedule.Policy{}
	for i := range policies {
		by[policies[i].Name] = &policies[i]
	}
	var later []schedule.Planned
	for i := range due {
		vm, w := &due[i], schedule.Wanted{VM: due[i].ID, Trigger: "schedule", Policy: due[i].Policy}
		if p := by[vm.Policy]; p != nil {
			w.Priority = p.Priority
			if _, in := p.BlackoutAt(now); in {
				again, err := e.dueOf(ctx, p, vm, now)
				if err != nil {
					return err
				}
				later = append(later, schedule.Planned{VM: vm.ID, Policy: vm.Policy, Next: again.At, Why: again.Why})
				continue
			}
		}
		// It is no event: its start will be one soon, and of thousands of VMs the
		// log would say everything twice.
		if _, _, err := e.Store.Queue(ctx, w, now); err != nil {
			return err
		}
		if i%64 == 63 {
			poke(e.admit) // the first of a thousand need not wait for the last
		}
	}
	if len(later) == 0 {
		return nil
	}
	return e.Store.Plan(ctx, later)
}
