package main

import (
	"context"
	"errors"
	"fmt"

	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// source is the VM on vSphere, as a cutover needs it.
func (k *launching) source(w schedule.LaunchWish) launch.Source {
	s := launch.Source{
		PowerOff:  func(ctx context.Context, force bool) error { return k.vc.PowerOff(ctx, k.id, force) },
		PowerOn:   func(ctx context.Context) error { return k.vc.PowerOn(ctx, k.id) },
		FinalSync: k.finalSync,
	}
	if !w.SkipPreSync {
		s.PreSync = func(ctx context.Context) error {
			_, err := k.sync(ctx, "cutover: while the source runs")
			return err
		}
	}
	return s
}

// finalSync replicates the source, which is off before and after, and returns
// the point that holds all it wrote.
func (k *launching) finalSync(ctx context.Context) (transfer.Point, error) {
	if err := k.mustBeOff(ctx); err != nil {
		return transfer.Point{}, err
	}
	report, err := k.sync(ctx, "cutover: the last delta")
	if err != nil {
		return transfer.Point{}, err
	}
	if err := k.mustBeOff(ctx); err != nil {
		return transfer.Point{}, err
	}
	return k.point(ctx, report.Point)
}

// mustBeOff: what a source that runs writes after the last delta would be lost.
func (k *launching) mustBeOff(ctx context.Context) error {
	vm, err := k.vc.Inspect(ctx, k.id)
	if err != nil || !vm.PoweredOn {
		return err
	}
	return transfer.Fail(transfer.Permanent, "take the last delta of "+k.name, errors.New("the source is powered on again: somebody else did that"),
		"Find out who; then revert the cutover, or power the source off and repeat it.")
}

// endReplication leaves nothing that a cycle would go on with: our VM snapshots
// and attached disks are removed, drafts are given up, and what this machine
// remembers of the VM is deleted. No cycle of the VM begins any more, by its
// lifecycle or since nobody asks for one; one that runs is an error.
func (k *launching) endReplication(ctx context.Context) error {
	if err := k.clean(ctx); err != nil {
		return err
	}
	lock, err := k.env.State.Lock(k.id.VCenter, k.id.Moref)
	if err != nil {
		return transfer.Fail(transfer.Retry, "end the replication of "+k.name, err, "Wait for its cycle to end, or cancel it.")
	}
	defer lock.Unlock()
	if err := k.giveUpDrafts(ctx); err != nil {
		return err
	}
	return lock.Forget()
}

func (k *launching) giveUpDrafts(ctx context.Context) error {
	all, err := k.store.Snapshots(ctx, k.id)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.State != transfer.Pending && s.State != transfer.Failed {
			continue
		}
		if err := k.store.Abandon(ctx, s.ID); err != nil {
			return fmt.Errorf("give up draft %s of %s: %w", s.ID, k.name, err)
		}
	}
	return nil
}

// pruneAtEnd deletes the points that are not to stay.
func (k *launching) pruneAtEnd(ctx context.Context, left schedule.PointsLeft, j launch.Job) ([]transfer.SnapshotID, error) {
	all, _, err := k.store.WithNotes(ctx, k.id)
	if err != nil {
		return nil, fmt.Errorf("nothing is deleted while some labels cannot be read: %w", err)
	}
	var verdicts []transfer.Verdict
	for _, p := range transfer.Points(all) {
		v := transfer.Verdict{Point: p, Why: "the migration is finalized"}
		switch {
		case left == schedule.PointsAll:
			v.Keep = true
		case left == schedule.PointsNone:
		default:
			v.Keep = p.Cycle == j.Request.Point.Cycle
		}
		verdicts = append(verdicts, v)
	}
	pruned, err := transfer.Prune(ctx, k.store, verdicts)
	var kept []transfer.SnapshotID
	for _, v := range pruned {
		if v.Keep {
			for _, s := range v.Point.Disks {
				kept = append(kept, s.ID)
			}
		} else if v.Blocked != "" && err == nil {
			err = transfer.Fail(transfer.Permanent, fmt.Sprintf("delete point %s of %s", v.Point.Cycle, k.name), errors.New(v.Blocked), "Deregister what uses it, or finalize with --points newest or all.")
		}
	}
	return kept, err
}
