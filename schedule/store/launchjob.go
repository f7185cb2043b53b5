package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"snapferry/schedule"
)

// jobColumns are all but the document.
const jobColumns = `id, vcenter, moref, vm_name, purpose, state, point, instance, address, made_ms, ends_ms, finished, to_launch_ms, downtime_ms, error, hint`

func scanJob(scan func(...any) error) (j schedule.LaunchJob, err error) {
	var made, ends, launch, down int64
	var doc string
	err = scan(&j.ID, &j.VM.VCenter, &j.VM.Moref, &j.VMName, &j.Purpose, &j.State, &j.Point, &j.Instance, &j.Address, &made, &ends, &j.Over, &launch, &down, &j.Error, &j.Hint, &doc)
	j.Made, j.Ends = instant(made), instant(ends)
	j.ToLaunch, j.Downtime = schedule.Duration(launch)*millisecond, schedule.Duration(down)*millisecond
	if doc != "" {
		j.Doc = json.RawMessage(doc)
	}
	return j, err
}

const millisecond = schedule.Duration(time.Millisecond)

// SaveLaunchJob makes or replaces a job for a run, and notes in the run that it
// is about it; ErrFenced when epoch is no longer the run's or it has ended. A
// job that is over does not take the place of the one that the run is about:
// that is an earlier one, which had to go first. It returns whether somebody
// asked to cancel the run.
func (db *DB) SaveLaunchJob(ctx context.Context, run, epoch int64, j schedule.LaunchJob) (cancel bool, err error) {
	err = db.write(ctx, again, func(q querier) error {
		err := one(ctx, q, `UPDATE launch_run SET job = CASE WHEN job = '' OR NOT $4 THEN $3 ELSE job END
			WHERE id = $1 AND epoch = $2 AND ended_ms IS NULL RETURNING cancel`, []any{run, epoch, j.ID, j.Over}, &cancel)
		if errors.Is(err, sql.ErrNoRows) {
			return schedule.ErrFenced
		}
		if err != nil {
			return err
		}
		args := []any{j.ID, j.VM.VCenter, j.VM.Moref, j.VMName, j.Purpose, j.State, string(j.Point), j.Instance, j.Address, ms(j.Made), ms(j.Ends), j.Over,
			j.ToLaunch.Std().Milliseconds(), j.Downtime.Std().Milliseconds(), j.Error, j.Hint, string(j.Doc)}
		return insert(ctx, q, `INSERT INTO launch_job (`+jobColumns+`, doc) VALUES`, `ON CONFLICT (id) DO UPDATE SET
			vcenter = excluded.vcenter, moref = excluded.moref, vm_name = excluded.vm_name, purpose = excluded.purpose, state = excluded.state,
			point = excluded.point, instance = excluded.instance, address = excluded.address, made_ms = excluded.made_ms, ends_ms = excluded.ends_ms,
			finished = excluded.finished, to_launch_ms = excluded.to_launch_ms, downtime_ms = excluded.downtime_ms, error = excluded.error,
			hint = excluded.hint, doc = excluded.doc`, [][]any{args})
	})
	if err != nil {
		return false, fmt.Errorf("save launch job %s of run %d: %w", j.ID, run, err)
	}
	return cancel, nil
}

// maxJobs is how many jobs are listed at most: as many as a large fleet has
// tests open.
const maxJobs = 10_000

// LaunchJobs are those that a query chooses, newest first; whole says whether
// Doc is wanted. Before a job that is not there are none.
func (db *DB) LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery, whole bool) (found []schedule.LaunchJob, err error) {
	query, args := jobsQuery(q, whole)
	err = db.read(ctx, func(q querier) error {
		found = nil
		return each(ctx, q, query, args, func(scan func(...any) error) error {
			j, err := scanJob(scan)
			found = append(found, j)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list launch jobs: %w", err)
	}
	return found, nil
}

func jobsQuery(q schedule.LaunchJobQuery, whole bool) (query string, args []any) {
	where, order, doc := []string{`TRUE`}, `made_ms DESC, id DESC`, `''`
	if q.VM != nil {
		where, args = append(where, `vcenter = $1 AND moref = $2`), []any{q.VM.VCenter, q.VM.Moref}
	}
	if q.Before != "" {
		args = append(args, q.Before)
		where = append(where, fmt.Sprintf(`(made_ms, id) < (SELECT made_ms, id FROM launch_job WHERE id = $%d)`, len(args)))
	}
	if q.Open {
		// The index of those that are open is short: sort what it has.
		where, order = append(where, `NOT finished`), `+made_ms DESC, id DESC`
	}
	if whole {
		doc = `doc`
	}
	return fmt.Sprintf(`SELECT %s, %s FROM launch_job WHERE %s ORDER BY %s LIMIT %d`, jobColumns, doc, strings.Join(where, " AND "), order, bound(q.Limit, 100, maxJobs)), args
}

// LaunchJob is one job, whole.
func (db *DB) LaunchJob(ctx context.Context, id string) (j schedule.LaunchJob, err error) {
	err = db.read(ctx, func(q querier) error {
		found := false
		err := each(ctx, q, `SELECT `+jobColumns+`, doc FROM launch_job WHERE id = $1`, []any{id}, func(scan func(...any) error) (err error) {
			found = true
			j, err = scanJob(scan)
			return err
		})
		if err == nil && !found {
			err = schedule.ErrNotFound
		}
		return err
	})
	if err != nil {
		return schedule.LaunchJob{}, fmt.Errorf("read launch job %s: %w", id, err)
	}
	return j, nil
}
