package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

const launchRunColumns = `id, vcenter, moref, vm_name, action, state, cause, wave, job, was, appliance, epoch, cancel, queued_ms, started_ms, coalesce(ended_ms, 0), error, hint, reason, wish`

func scanLaunchRun(scan func(...any) error) (r schedule.LaunchRun, err error) {
	var queued, started, ended int64
	var wish string
	err = scan(&r.ID, &r.VM.VCenter, &r.VM.Moref, &r.VMName, &r.Action, &r.State, &r.Trigger, &r.Wave, &r.Job, &r.Before, &r.Appliance, &r.Epoch, &r.Cancel,
		&queued, &started, &ended, &r.Error, &r.Hint, &r.Reason, &wish)
	if err != nil {
		return r, err
	}
	r.Queued, r.Started, r.Ended = instant(queued), instant(started), instant(ended)
	if err = decode(wish, &r.Wish); err != nil {
		err = fmt.Errorf("read launch run %d: %w", r.ID, err)
	}
	return r, err
}

// launchRuns reads what a query's tail chooses.
func launchRuns(ctx context.Context, q querier, tail string, args ...any) (found []schedule.LaunchRun, err error) {
	err = each(ctx, q, `SELECT `+launchRunColumns+` FROM launch_run `+tail, args, func(scan func(...any) error) error {
		r, err := scanLaunchRun(scan)
		found = append(found, r)
		return err
	})
	return found, err
}

// launchRun reads the one that a condition chooses.
func launchRun(ctx context.Context, q querier, where string, args ...any) (schedule.LaunchRun, error) {
	found, err := launchRuns(ctx, q, `WHERE `+where, args...)
	if err == nil && len(found) == 0 {
		err = schedule.ErrNotFound
	}
	if err != nil {
		return schedule.LaunchRun{}, err
	}
	return found[0], nil
}

// QueueLaunch makes a launch run unless the VM has one that has not ended; then
// it returns that one, as it is, and fresh is false.
func (db *DB) QueueLaunch(ctx context.Context, w schedule.LaunchWanted, at time.Time) (run schedule.LaunchRun, fresh bool, err error) {
	if !slices.Contains(schedule.LaunchActions(), w.Action) {
		return run, false, fmt.Errorf("queue launch run of %s: %q is no action: %w", w.VM, w.Action, schedule.ErrInvalid)
	}
	wish, err := encode(w.Wish)
	if err != nil {
		return run, false, fmt.Errorf("queue launch run of %s: %w", w.VM, err)
	}
	err = db.write(ctx, again, func(q querier) error {
		run, fresh = schedule.LaunchRun{}, false
		name := ""
		if err := vmState(ctx, q, w.VM, "name", &name); err != nil {
			return err
		}
		if w.VMName != "" {
			name = w.VMName
		}
		// The open run may end between the two statements: then there is room again.
		for range 3 {
			var id int64
			err := one(ctx, q, `INSERT INTO launch_run (vcenter, moref, vm_name, action, state, cause, wave, prove, queued_ms, wish)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
				ON CONFLICT (vcenter, moref) WHERE ended_ms IS NULL DO NOTHING RETURNING id`,
				[]any{w.VM.VCenter, w.VM.Moref, name, string(w.Action), string(schedule.RunQueued), w.Trigger, w.Wave, w.Wish.Prove, ms(at), wish}, &id)
			if err == nil {
				fresh = true
				run, err = launchRun(ctx, q, `id = $1`, id)
				return err
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			run, err = launchRun(ctx, q, openLaunch, w.VM.VCenter, w.VM.Moref)
			if !errors.Is(err, schedule.ErrNotFound) {
				return err
			}
		}
		return fmt.Errorf("its launch runs begin and end all the time: %w", schedule.ErrConflict)
	})
	if err != nil {
		return schedule.LaunchRun{}, false, fmt.Errorf("queue launch run of %s: %w", w.VM, err)
	}
	return run, fresh, nil
}

const openLaunch = `vcenter = $1 AND moref = $2 AND ended_ms IS NULL`

// claimable are the launch runs of a vCenter that an appliance may take in hand.
const claimable = `SELECT r.id, r.epoch FROM launch_run r WHERE r.ended_ms IS NULL AND r.vcenter = $1
	AND (r.state = $2 OR r.appliance = $3 OR NOT EXISTS (SELECT 1 FROM appliance a WHERE a.id = r.appliance AND a.alive))`

// ClaimLaunch takes the oldest launch run of a vCenter in hand that is queued,
// or whose appliance is this one or is not alive: all who had it before are
// fenced from now on. busy are left alone. ErrNotFound when there is none.
func (db *DB) ClaimLaunch(ctx context.Context, by transfer.ApplianceID, vcenter string, busy []int64, at time.Time) (r schedule.LaunchRun, err error) {
	err = db.write(ctx, once, func(q querier) error {
		type candidate struct{ id, epoch int64 }
		var all []candidate
		err := each(ctx, q, claimable, []any{vcenter, string(schedule.RunQueued), string(by)}, func(scan func(...any) error) error {
			var c candidate
			err := scan(&c.id, &c.epoch)
			if !slices.Contains(busy, c.id) {
				all = append(all, c)
			}
			return err
		})
		if err != nil {
			return err
		}
		slices.SortFunc(all, func(a, b candidate) int { return int(a.id - b.id) }) // not by SQL, see sceneQuery
		for _, c := range all {
			// Another may have been faster: then its epoch is not that one.
			n, err := q.exec(ctx, `UPDATE launch_run SET epoch = epoch + 1, state = $3, appliance = $4,
				started_ms = CASE WHEN started_ms = 0 THEN $5 ELSE started_ms END,
				was = CASE WHEN epoch = 0 THEN coalesce((SELECT v.lifecycle FROM vm v WHERE v.vcenter = launch_run.vcenter AND v.moref = launch_run.moref), '') ELSE was END
				WHERE id = $1 AND epoch = $2 AND ended_ms IS NULL`, c.id, c.epoch, string(schedule.RunRunning), string(by), ms(at))
			if err != nil {
				return err
			}
			if n > 0 {
				r, err = launchRun(ctx, q, `id = $1`, c.id)
				return err
			}
		}
		return schedule.ErrNotFound
	})
	if err != nil {
		return schedule.LaunchRun{}, fmt.Errorf("claim a launch run: %w", err)
	}
	return r, nil
}

// FinishLaunch ends a launch run and moves its VM, both or neither; ErrFenced
// when epoch is no longer its own or it has ended. Finishing the same way
// again, since nobody knows whether it was written, is no error.
func (db *DB) FinishLaunch(ctx context.Context, run, epoch int64, end schedule.LaunchEnd) error {
	if !end.State.Ended() {
		return fmt.Errorf("end launch run %d: %q is no end: %w", run, end.State, schedule.ErrInvalid)
	}
	err := db.write(ctx, again, func(q querier) error {
		var vm transfer.VMID
		err := one(ctx, q, `UPDATE launch_run SET state = $3, ended_ms = $4, error = $5, hint = $6, reason = $7
			WHERE id = $1 AND epoch = $2 AND ended_ms IS NULL RETURNING vcenter, moref`,
			[]any{run, epoch, string(end.State), ms(end.At), end.Error, end.Hint, string(end.Reason)}, &vm.VCenter, &vm.Moref)
		if errors.Is(err, sql.ErrNoRows) {
			var n int
			err = one(ctx, q, `SELECT count(*) FROM launch_run WHERE id = $1 AND epoch = $2 AND state = $3 AND ended_ms = $4`,
				[]any{run, epoch, string(end.State), ms(end.At)}, &n)
			if err == nil && n == 0 {
				err = schedule.ErrFenced
			}
			return err
		}
		if err != nil || end.To == "" || len(end.From) == 0 {
			return err
		}
		args := []any{vm.VCenter, vm.Moref, string(end.To)}
		for _, l := range end.From {
			args = append(args, string(l))
		}
		if slices.Contains(end.From, schedule.NotReady) {
			args = append(args, "") // the same
		}
		_, err = q.exec(ctx, `UPDATE vm SET lifecycle = $3 WHERE vcenter = $1 AND moref = $2 AND lifecycle IN `+values(1, len(args)-3, 4), args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("end launch run %d: %w", run, err)
	}
	return nil
}

// AskCancelLaunch marks the VM's launch run that has not ended; one that is
// still queued ends at once.
func (db *DB) AskCancelLaunch(ctx context.Context, vm transfer.VMID, at time.Time) (run int64, ended bool, err error) {
	return db.askCancel(ctx, "launch_run", "launch run", vm, at)
}

// LaunchRun is one launch run.
func (db *DB) LaunchRun(ctx context.Context, id int64) (r schedule.LaunchRun, err error) {
	err = db.read(ctx, func(q querier) error {
		r, err = launchRun(ctx, q, `id = $1`, id)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("read launch run %d: %w", id, err)
	}
	return r, nil
}

// LaunchRuns are those that a query chooses, newest first.
func (db *DB) LaunchRuns(ctx context.Context, query schedule.LaunchQuery) (found []schedule.LaunchRun, err error) {
	tail, args := launchRunsTail(query)
	err = db.read(ctx, func(q querier) error {
		found, err = launchRuns(ctx, q, tail, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list launch runs: %w", err)
	}
	return found, nil
}

// launchRunsTail is a query in SQL.
func launchRunsTail(query schedule.LaunchQuery) (tail string, args []any) {
	var c conditions
	if query.VM != nil {
		c.add(`vcenter = ? AND moref = ?`, query.VM.VCenter, query.VM.Moref)
	}
	if query.Wave != "" {
		c.add(`wave = ? AND wave <> ''`, query.Wave) // the latter names the index
	}
	return c.page(query.Active, query.Before, query.Limit)
}

// Provings are the newest proving run of every VM that ever had one.
func (db *DB) Provings(ctx context.Context) (all []schedule.Proving, err error) {
	err = db.read(ctx, func(q querier) error {
		all = nil
		return each(ctx, q, provings, nil, func(scan func(...any) error) error {
			var p schedule.Proving
			var at int64
			err := scan(&p.VM.VCenter, &p.VM.Moref, &at, &p.State, &p.Point)
			p.At = instant(at)
			all = append(all, p)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list proofs: %w", err)
	}
	return all, nil
}

const provings = `SELECT r.vcenter, r.moref, r.queued_ms, r.state, coalesce(j.point, '')
	FROM (SELECT max(id) AS newest FROM launch_run WHERE prove GROUP BY vcenter, moref) n
	JOIN launch_run r ON r.id = n.newest LEFT JOIN launch_job j ON j.id = r.job`
