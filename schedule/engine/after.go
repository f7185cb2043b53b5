package engine

import (
	"context"
	"fmt"
	"slices"

	"snapferry/schedule"
	"snapferry/transfer"
)

// after tidies what a successful run leaves: points that retention no longer
// keeps go, and the history learns what AWS's tags say now. What fails here is
// done by the next run.
func (e *Engine) after(ctx context.Context, g granted) {
	log := e.Log.With("run", g.Run, "vm", g.VM.String())
	vm, err := e.Store.VM(ctx, g.VM)
	if err != nil {
		log.Warn("read VM", "error", err)
		return
	}
	if p, err := e.policyOf(ctx, &vm); err != nil {
		log.Warn("read policies", "error", err)
	} else if p != nil {
		gone, err := e.Work.Prune(ctx, vm, p)
		if err != nil && ctx.Err() == nil {
			log.Warn("prune recovery points", "error", err)
			e.note(ctx, g.Run, "warn", "pruning recovery points failed: "+err.Error())
		}
		if len(gone) > 0 {
			e.record(ctx, schedule.Event{Kind: schedule.EventPruned, VM: vm.ID, VMName: vm.Name, Run: g.Run, Actor: string(e.Appliance),
				Text: fmt.Sprintf("%d recovery points of %s were deleted by retention", len(gone), vm.Name)}, map[string]any{"cycles": gone})
		}
	}
	points, err := e.Work.Points(ctx, &g.VM)
	if err == nil {
		err = e.Store.SavePoints(ctx, []transfer.VMID{g.VM}, points)
	}
	if err != nil {
		if ctx.Err() == nil {
			log.Warn("refresh recovery points", "error", err)
		}
		return
	}
	e.settleSuspect(ctx, &vm, points)
}

// settleSuspect keeps an alarm as long as a VM's newest point is in doubt.
func (e *Engine) settleSuspect(ctx context.Context, vm *schedule.VM, points []schedule.PointRow) {
	of := slices.DeleteFunc(slices.Clone(points), func(p schedule.PointRow) bool { return p.VM != vm.ID || !p.Complete })
	if len(of) == 0 {
		return
	}
	newest := slices.MaxFunc(of, func(a, b schedule.PointRow) int { return a.Frozen.Compare(b.Frozen) })
	key := "suspect/" + vm.ID.String()
	if newest.Suspect == "" {
		e.clear(ctx, key, vm.Name)
		return
	}
	e.raise(ctx, schedule.Alarm{Key: key, Kind: schedule.AlarmSuspect, VM: vm.ID, VMName: vm.Name,
		Text: fmt.Sprintf("the newest recovery point of %s is in doubt: %s", vm.Name, newest.Suspect),
		Hint: "Replicate with a seed before launching from it."})
}

// note writes one line to a run's log.
func (e *Engine) note(ctx context.Context, run int64, level, text string) {
	line := schedule.LogLine{Run: run, At: e.Now(), Level: level, Text: text}
	if err := e.Store.AppendLog(ctx, run, []schedule.LogLine{line}); err != nil {
		e.Log.Warn("write run log", "run", run, "error", err)
	}
}
