package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Queue makes a run unless the VM has one that has not ended; then it returns
// that one and fresh is false. One that is still queued takes over what the new
// wish has more: it is urgent, seeds, or has a higher priority.
func (db *DB) Queue(ctx context.Context, w schedule.Wanted, at time.Time) (run schedule.Run, fresh bool, err error) {
	err = db.write(ctx, again, func(q querier) error {
		run, fresh = schedule.Run{}, false
		var name string
		if err := vmState(ctx, q, w.VM, "name", &name); err != nil {
			return err
		}
		// The open run may end between the two statements: then there is room again.
		for range 3 {
			id, err := insertRun(ctx, q, w, name, at)
			if err == nil {
				fresh = true
				if _, err = q.exec(ctx, `UPDATE vm SET last_run = $3 WHERE vcenter = $1 AND moref = $2`, w.VM.VCenter, w.VM.Moref, id); err == nil {
					run, err = runByID(ctx, q, id)
				}
				return err
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			run, err = joinRun(ctx, q, w)
			if !errors.Is(err, schedule.ErrNotFound) {
				return err
			}
		}
		return fmt.Errorf("its runs begin and end all the time: %w", schedule.ErrConflict)
	})
	if err != nil {
		return schedule.Run{}, false, fmt.Errorf("queue run of %s: %w", w.VM, err)
	}
	return run, fresh, nil
}

func insertRun(ctx context.Context, q querier, w schedule.Wanted, name string, at time.Time) (id int64, err error) {
	err = one(ctx, q, `INSERT INTO run (vcenter, moref, vm_name, state, cause, seed, policy, priority, urgent, queued_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (vcenter, moref) WHERE ended_ms IS NULL DO NOTHING RETURNING id`,
		[]any{w.VM.VCenter, w.VM.Moref, name, string(schedule.RunQueued), w.Trigger, w.Seed, w.Policy, w.Priority, w.Urgent, ms(at)}, &id)
	return id, err
}

// joinRun is the VM's run that has not ended, with what w has more.
func joinRun(ctx context.Context, q querier, w schedule.Wanted) (schedule.Run, error) {
	_, err := q.exec(ctx, `UPDATE run SET urgent = (urgent OR $3), seed = (seed OR $4), priority = CASE WHEN priority < $5 THEN $5 ELSE priority END
		WHERE vcenter = $1 AND moref = $2 AND ended_ms IS NULL AND state = $6
		AND ((NOT urgent AND $3) OR (NOT seed AND $4) OR priority < $5)`,
		w.VM.VCenter, w.VM.Moref, w.Urgent, w.Seed, w.Priority, string(schedule.RunQueued))
	if err != nil {
		return schedule.Run{}, err
	}
	return openRun(ctx, q, w.VM)
}

// AskCancel marks the VM's run that has not ended; one that is still queued
// ends at once.
func (db *DB) AskCancel(ctx context.Context, vm transfer.VMID, at time.Time) (run int64, ended bool, err error) {
	return db.askCancel(ctx, "run", "run", vm, at)
}

// askCancel does so for runs and launch runs alike; what is their name for a
// person.
func (db *DB) askCancel(ctx context.Context, table, what string, vm transfer.VMID, at time.Time) (run int64, ended bool, err error) {
	err = db.write(ctx, once, func(q querier) error {
		var state schedule.RunState
		err := one(ctx, q, `UPDATE `+table+` SET cancel = TRUE,
			ended_ms = CASE WHEN state = $3 THEN CAST($5 AS BIGINT) ELSE NULL END,
			state = CASE WHEN state = $3 THEN $4 ELSE state END
			WHERE vcenter = $1 AND moref = $2 AND ended_ms IS NULL RETURNING id, state`,
			[]any{vm.VCenter, vm.Moref, string(schedule.RunQueued), string(schedule.RunCancelled), ms(at)}, &run, &state)
		ended = state.Ended()
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("it has no %s under way: %w", what, schedule.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("cancel %s of %s: %w", what, vm, err)
	}
	return run, ended, nil
}

func compareIDs(a, b transfer.VMID) int {
	switch {
	case a == b:
		return 0
	case a.VCenter < b.VCenter, a.VCenter == b.VCenter && a.Moref < b.Moref:
		return -1
	}
	return 1
}
