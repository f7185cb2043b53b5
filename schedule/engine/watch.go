package engine

import (
	"context"
	"fmt"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// inventory makes the VMs of this appliance's vCenter known.
func (e *Engine) inventory(ctx context.Context) error {
	err := e.lookAround(ctx)
	e.mu.Lock()
	e.seenErr = err
	if err == nil {
		e.seen = e.Now()
	}
	e.mu.Unlock()
	return err
}

func (e *Engine) lookAround(ctx context.Context) error {
	self, err := e.Work.Self(ctx)
	if err != nil {
		return fmt.Errorf("describe this appliance: %w", err)
	}
	e.mu.Lock()
	e.self = e.complete(self)
	e.mu.Unlock()
	seen, err := e.Work.Inventory(ctx)
	if err != nil {
		return err
	}
	added, gone, err := e.Store.SaveInventory(ctx, self.VCenter, seen, e.Now())
	if err != nil {
		return err
	}
	names := map[transfer.VMID]string{}
	for _, vm := range seen {
		names[vm.ID] = vm.Name
	}
	for _, id := range added {
		e.record(ctx, schedule.Event{Kind: schedule.EventVMAdded, VM: id, VMName: names[id], Actor: string(e.Appliance), Text: names[id] + " was found"}, nil)
	}
	for _, id := range gone {
		ev := schedule.Event{Kind: schedule.EventVMGone, VM: id, Actor: string(e.Appliance)}
		if vm, err := e.Store.VM(ctx, id); err == nil {
			ev.VMName = vm.Name
		}
		ev.Text = ev.VMName + " is no longer in vCenter"
		e.record(ctx, ev, nil)
	}
	if err := e.refreshPoints(ctx, seen); err != nil && ctx.Err() == nil {
		e.Log.Warn("refresh recovery points", "error", err)
	}
	e.Kick() // policies may match what is new
	return nil
}

// refreshPoints takes over what AWS's tags say of all VMs: points that were
// pruned, verified or suspected elsewhere show.
func (e *Engine) refreshPoints(ctx context.Context, seen []transfer.VM) error {
	points, err := e.Work.Points(ctx, nil)
	if err != nil {
		return err
	}
	vms := make([]transfer.VMID, len(seen))
	for i, vm := range seen {
		vms[i] = vm.ID
	}
	return e.Store.SavePoints(ctx, vms, points)
}

// watch raises and clears the alarms that follow from how things stand.
func (e *Engine) watch(ctx context.Context) error {
	if err := e.expiring(ctx); err != nil {
		e.Log.Warn("look what expires", "error", err)
	}
	return e.alone(ctx, "watch", e.watchVMs)
}

// expiring are this appliance's own credentials and certificates.
func (e *Engine) expiring(ctx context.Context) error {
	now, err := e.Work.Expiring(ctx)
	if err != nil {
		return err
	}
	prefix := "expiring/" + string(e.Appliance) + "/"
	for i := range now {
		now[i].Key = prefix + now[i].Key
	}
	return e.settle(ctx, []string{prefix}, now)
}

func (e *Engine) watchVMs(ctx context.Context) error {
	vms, err := e.Store.VMs(ctx, "")
	if err != nil {
		return err
	}
	policies, err := e.Store.Policies(ctx)
	if err != nil {
		return err
	}
	unended, err := e.Store.Unended(ctx)
	if err != nil {
		return err
	}
	by := map[string]*schedule.Policy{}
	for i := range policies {
		by[policies[i].Name] = &policies[i]
	}
	runs := map[transfer.VMID]*schedule.Run{}
	for i := range unended {
		runs[unended[i].VM] = &unended[i]
	}
	var alarms []schedule.Alarm
	for i := range vms {
		alarms = append(alarms, alarmsOf(&vms[i], by[vms[i].Policy], runs[vms[i].ID], e.Now())...)
	}
	if err := schedule.Quota(policies, vms, 0); err != nil {
		alarms = append(alarms, schedule.Alarm{Key: "quota", Kind: schedule.AlarmQuota, Text: err.Error(), Hint: "Or ask AWS to raise the quota of snapshots per region."})
	}
	return e.settle(ctx, []string{"stalled/", "lag/", "converge/", "quota"}, alarms)
}

// alarmsOf are those that a VM's state calls for.
func alarmsOf(vm *schedule.VM, p *schedule.Policy, run *schedule.Run, now time.Time) (alarms []schedule.Alarm) {
	if p == nil || vm.Paused || !vm.Lifecycle.Replicates() {
		return nil
	}
	add := func(kind schedule.AlarmKind, prefix, text, hint string) {
		alarms = append(alarms, schedule.Alarm{Key: prefix + vm.ID.String(), Kind: kind, VM: vm.ID, VMName: vm.Name, Text: text, Hint: hint})
	}
	st := schedule.Status(*vm, p, run, now)
	switch {
	case st.Replication == schedule.ReplicationStalled && vm.Fails > 0: // else it does not converge, below
		add(schedule.AlarmStalled, "stalled/", fmt.Sprintf("%s is stalled: %s", vm.Name, st.Trouble), "The log of its last run says more.")
	case st.Replication == schedule.ReplicationLagging:
		add(schedule.AlarmLag, "lag/", fmt.Sprintf("the newest data of %s in AWS is %v old: %s", vm.Name, st.Lag.Std().Round(time.Second), st.Trouble), "")
	}
	if ok, why := schedule.Converges(vm.Measure); !ok {
		add(schedule.AlarmConverge, "converge/", fmt.Sprintf("%s does not converge: %s", vm.Name, why), "")
	}
	return alarms
}

// saveSample writes what this appliance has moved since the last time.
func (e *Engine) saveSample(ctx context.Context) error {
	now := e.Now()
	e.mu.Lock()
	for _, j := range e.active {
		if j.tell != nil {
			j.tell.meter(&e.read, &e.put)
		}
	}
	s := schedule.RateSample{At: now}
	if span := now.Sub(e.sample.At).Seconds(); !e.sample.At.IsZero() && span > 0 {
		s.Read, s.Put = float64(e.read)/span, float64(e.put)/span
	}
	e.sample, e.read, e.put = s, 0, 0
	e.mu.Unlock()
	return e.Store.SaveRate(ctx, e.Appliance, s)
}

// Rates is this appliance's throughput over the last sample's time.
func (e *Engine) Rates() schedule.RateSample {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sample
}

// libraryKeep is how long workflows are kept that have ended: they are of no
// use but to somebody who looks for what went wrong yesterday.
const libraryKeep = 24 * time.Hour

// expire deletes history that is old.
func (e *Engine) expire(ctx context.Context) error {
	return e.alone(ctx, "expire", func(ctx context.Context) error {
		if err := e.Store.Expire(ctx, e.Now().Add(-e.Keep)); err != nil {
			return err
		}
		return e.lib.expire(ctx, time.Now().Add(-min(libraryKeep, e.Keep)))
	})
}
