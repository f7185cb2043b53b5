package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// admitGap is the least time between two admissions: runs that end together
// make room together, and each admission reads the whole scene.
const admitGap = 50 * time.Millisecond

// admitter admits whenever somebody asks for it.
func (e *Engine) admitter(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.admit:
		}
		if err := e.grant(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("admit runs", "error", err)
		}
		sleep(ctx, admitGap)
	}
}

// grant lets queued runs start where limits have room for them, and gives the
// runs of lost appliances to others.
func (e *Engine) grant(ctx context.Context) error {
	at := e.Now()
	var dead map[int64]transfer.ApplianceID
	grants, err := e.Store.Admit(ctx, at, func(s schedule.Scene) (all []schedule.Grant) {
		all, dead = decide(s)
		return all
	}, func(_ context.Context, tx any, g schedule.Grant) error {
		return e.lib.enqueue(tx, granted{Run: g.Run, VM: g.VM, Dead: dead[g.Run]}, g.Appliance, at)
	})
	if err != nil {
		return err
	}
	if len(grants) > 0 {
		e.Log.Debug("granted", "runs", len(grants))
	}
	return nil
}

// decide grants runs of lost appliances first, then queued ones: what is under
// way holds a VM snapshot. dead names the lost appliance of each of the former.
func decide(s schedule.Scene) (grants []schedule.Grant, dead map[int64]transfer.ApplianceID) {
	dead = map[int64]transfer.ApplianceID{}
	alive := map[transfer.ApplianceID]string{} // and its account
	for _, a := range s.Appliances {
		if a.Alive {
			alive[a.ID] = a.Account
		}
	}
	var left []schedule.Place // of the lost
	active := slices.DeleteFunc(slices.Clone(s.Active), func(p schedule.Place) bool {
		if _, ok := alive[p.Appliance]; ok {
			return false
		}
		left = append(left, p)
		return true
	})
	if len(left) == 0 {
		return schedule.Admit(s), dead
	}
	again := s
	again.Active, again.Queued = active, nil
	for _, p := range left {
		dead[p.Run] = p.Appliance
		p.Appliance, p.Account, p.Urgent = "", "", true
		again.Queued = append(again.Queued, p)
	}
	grants = schedule.Admit(again)
	// Those that nobody can take now stay where they are, and count.
	to := map[int64]transfer.ApplianceID{}
	for _, g := range grants {
		to[g.Run] = g.Appliance
	}
	for _, p := range left {
		if on, ok := to[p.Run]; ok {
			p.Appliance, p.Account = on, alive[on]
		}
		active = append(active, p)
	}
	s.Active = active
	return append(grants, schedule.Admit(s)...), dead
}

// sweepMisses is how often in a row a run must be found without anybody at it:
// between a grant and its start it is so for a moment.
const sweepMisses = 2

// sweep finds runs that are this appliance's and that nobody works on: their
// workflow was lost, or ended oddly, or was claimed from the queue in the very
// moment when the database went away.
func (e *Engine) sweep(ctx context.Context) error {
	runs, err := e.Store.Unended(ctx)
	if err != nil {
		return err
	}
	var idle []schedule.Run
	e.mu.Lock()
	missed := map[int64]int{}
	for _, r := range runs {
		if r.Appliance != e.Appliance || r.State == schedule.RunQueued || e.active[r.ID] != nil || e.stopping {
			continue
		}
		missed[r.ID] = e.missed[r.ID] + 1
		if missed[r.ID] >= sweepMisses {
			idle = append(idle, r)
		}
	}
	e.missed = missed
	e.mu.Unlock()
	for _, r := range idle {
		if err := ctx.Err(); err != nil {
			return err
		}
		did, err := e.lib.again(r)
		if err != nil {
			return fmt.Errorf("carry on run %d of %s: %w", r.ID, r.VMName, err)
		}
		if !did {
			continue
		}
		e.Log.Warn("nobody worked on a run: it is carried on", "run", r.ID, "vm", r.VMName, "state", r.State)
	}
	return nil
}
