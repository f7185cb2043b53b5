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

// Reassign gives a run that has not ended to another appliance.
func (db *DB) Reassign(ctx context.Context, run int64, to transfer.ApplianceID) error {
	err := db.statement(ctx, func(q querier) error {
		n, err := q.exec(ctx, `UPDATE run SET appliance = $2 WHERE id = $1 AND ended_ms IS NULL`, run, string(to))
		if err == nil && n == 0 {
			err = schedule.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("give run %d to appliance %s: %w", run, to, err)
	}
	return nil
}

// Claim takes a run in hand: all who had it before are fenced from now on.
func (db *DB) Claim(ctx context.Context, run int64, by transfer.ApplianceID, at time.Time) (r schedule.Run, err error) {
	err = db.write(ctx, once, func(q querier) error {
		n, err := q.exec(ctx, `UPDATE run SET epoch = epoch + 1, state = $2, appliance = $3, started_ms = CASE WHEN started_ms = 0 THEN $4 ELSE started_ms END
			WHERE id = $1 AND ended_ms IS NULL AND (appliance = '' OR appliance = $3)`, run, string(schedule.RunRunning), string(by), ms(at))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("it has ended, never was, or was given to another appliance: %w", schedule.ErrNotFound)
		}
		r, err = runByID(ctx, q, run)
		return err
	})
	if err != nil {
		return schedule.Run{}, fmt.Errorf("claim run %d: %w", run, err)
	}
	return r, nil
}

// Tell writes how far a run is; ErrFenced when epoch is no longer its own or it
// has ended. It is one statement.
func (db *DB) Tell(ctx context.Context, run, epoch int64, report transfer.Report, steps []schedule.StepTime) (cancel bool, err error) {
	text, err := encode(report)
	if err != nil {
		return false, fmt.Errorf("tell of run %d: %w", run, err)
	}
	times, err := encodeSteps(steps)
	if err != nil {
		return false, fmt.Errorf("tell of run %d: %w", run, err)
	}
	err = db.statement(ctx, func(q querier) error {
		return one(ctx, q, `UPDATE run SET report = $3, steps = $4 WHERE id = $1 AND epoch = $2 AND ended_ms IS NULL RETURNING cancel`,
			[]any{run, epoch, text, times}, &cancel)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = schedule.ErrFenced
	}
	if err != nil {
		return false, fmt.Errorf("tell of run %d: %w", run, err)
	}
	return cancel, nil
}

func encodeSteps(steps []schedule.StepTime) (string, error) {
	if len(steps) == 0 {
		return "", nil
	}
	return encode(steps)
}

// Finish ends a run and writes what it means for its VM. Finishing the same way
// again, since nobody knows whether it was written, is no error.
func (db *DB) Finish(ctx context.Context, run, epoch int64, end schedule.End) error {
	if !end.State.Ended() {
		return fmt.Errorf("end run %d: %q is no end: %w", run, end.State, schedule.ErrInvalid)
	}
	report, err := encode(end.Report)
	if err != nil {
		return fmt.Errorf("end run %d: %w", run, err)
	}
	steps, err := encodeSteps(end.Steps)
	if err != nil {
		return fmt.Errorf("end run %d: %w", run, err)
	}
	err = db.write(ctx, again, func(q querier) error {
		var vm transfer.VMID
		err := one(ctx, q, `UPDATE run SET state = $3, ended_ms = $4, report = $5, steps = $6, reason = $7, error = $8, hint = $9
			WHERE id = $1 AND epoch = $2 AND ended_ms IS NULL RETURNING vcenter, moref`,
			[]any{run, epoch, string(end.State), ms(end.At), report, steps, string(end.Reason), end.Error, end.Hint}, &vm.VCenter, &vm.Moref)
		if errors.Is(err, sql.ErrNoRows) {
			return endedSo(ctx, q, run, epoch, end)
		}
		if err == nil {
			err = endVM(ctx, q, vm, end)
		}
		if err == nil && end.Lag != nil {
			_, err = q.exec(ctx, `INSERT INTO lag_sample (vcenter, moref, at_ms, lag_ms) VALUES ($1, $2, $3, $4)
				ON CONFLICT (vcenter, moref, at_ms) DO UPDATE SET lag_ms = excluded.lag_ms`,
				vm.VCenter, vm.Moref, ms(end.At), end.Lag.Std().Milliseconds())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("end run %d: %w", run, err)
	}
	return nil
}

// endedSo is nil when the run ended in this very way already, and ErrFenced
// otherwise.
func endedSo(ctx context.Context, q querier, run, epoch int64, end schedule.End) error {
	var n int
	err := one(ctx, q, `SELECT count(*) FROM run WHERE id = $1 AND epoch = $2 AND state = $3 AND ended_ms = $4`,
		[]any{run, epoch, string(end.State), ms(end.At)}, &n)
	if err == nil && n == 0 {
		err = schedule.ErrFenced
	}
	return err
}

// endVM writes what a run's end means for its VM. The lifecycle moves by a run
// only as far as points carry it: what a person or a launch has set since the
// caller read the VM stays. A cancelled run leaves the last failure as it was.
func endVM(ctx context.Context, q querier, vm transfer.VMID, end schedule.End) error {
	measure, err := encode(end.Measure)
	if err != nil {
		return err
	}
	reason, problem, keep := end.Reason, end.Error, false
	switch {
	case end.Fails == 0:
		reason, problem = "", ""
	case end.State != schedule.RunFailed:
		keep = true
	}
	_, err = q.exec(ctx, `UPDATE vm SET fails = $3, measure = $4, point_cycle = $5, point_ms = $6, point_suspect = $7, next_ms = $8, next_why = $9,
		reason = CASE WHEN $10 THEN reason ELSE $11 END, problem = CASE WHEN $10 THEN problem ELSE $12 END,
		lifecycle = CASE WHEN $13 <> '' AND lifecycle IN ('', $14, $15) THEN $13 ELSE lifecycle END
		WHERE vcenter = $1 AND moref = $2`,
		vm.VCenter, vm.Moref, end.Fails, measure, string(end.Point.Cycle), ms(end.Point.Instant), end.Point.Suspect, ms(end.Next), end.NextWhy,
		keep, string(reason), problem, string(end.Lifecycle), string(schedule.NotReady), string(schedule.ReadyForTest))
	return err
}
