package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

const runColumns = `id, vcenter, moref, vm_name, state, cause, seed, policy, appliance, epoch, cancel, queued_ms, started_ms, coalesce(ended_ms, 0), reason, error, hint, steps, report`

func scanRun(scan func(...any) error) (r schedule.Run, err error) {
	var queued, started, ended int64
	var steps, report string
	err = scan(&r.ID, &r.VM.VCenter, &r.VM.Moref, &r.VMName, &r.State, &r.Trigger, &r.Seed, &r.Policy, &r.Appliance, &r.Epoch, &r.Cancel,
		&queued, &started, &ended, &r.Reason, &r.Error, &r.Hint, &steps, &report)
	if err != nil {
		return r, err
	}
	r.Queued, r.Started, r.Ended = instant(queued), instant(started), instant(ended)
	if err = decode(steps, &r.Steps); err == nil {
		err = decode(report, &r.Report)
	}
	if err != nil {
		err = fmt.Errorf("read run %d: %w", r.ID, err)
	}
	return r, err
}

// runs reads what a query's tail chooses.
func runs(ctx context.Context, q querier, tail string, args ...any) (found []schedule.Run, err error) {
	err = each(ctx, q, `SELECT `+runColumns+` FROM run `+tail, args, func(scan func(...any) error) error {
		r, err := scanRun(scan)
		found = append(found, r)
		return err
	})
	return found, err
}

func runByID(ctx context.Context, q querier, id int64) (schedule.Run, error) {
	found, err := runs(ctx, q, `WHERE id = $1`, id)
	if err == nil && len(found) == 0 {
		err = noRun(id)
	}
	if err != nil {
		return schedule.Run{}, err
	}
	return found[0], nil
}

func openRun(ctx context.Context, q querier, vm transfer.VMID) (schedule.Run, error) {
	found, err := runs(ctx, q, `WHERE vcenter = $1 AND moref = $2 AND ended_ms IS NULL`, vm.VCenter, vm.Moref)
	if err == nil && len(found) == 0 {
		err = schedule.ErrNotFound
	}
	if err != nil {
		return schedule.Run{}, err
	}
	return found[0], nil
}

func noRun(id int64) error { return fmt.Errorf("run %d: %w", id, schedule.ErrNotFound) }

// Run is one run.
func (db *DB) Run(ctx context.Context, id int64) (r schedule.Run, err error) {
	err = db.read(ctx, func(q querier) error {
		r, err = runByID(ctx, q, id)
		return err
	})
	return r, err
}

// Unended are the runs that have not ended, in the order in which they were
// queued.
func (db *DB) Unended(ctx context.Context) (found []schedule.Run, err error) {
	err = db.read(ctx, func(q querier) error {
		found, err = runs(ctx, q, `WHERE ended_ms IS NULL`) // not ordered, see sceneQuery
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	slices.SortFunc(found, func(a, b schedule.Run) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}

// Runs are those that a query chooses, newest first.
func (db *DB) Runs(ctx context.Context, query schedule.RunQuery) (found []schedule.Run, err error) {
	tail, args := runsTail(query)
	err = db.read(ctx, func(q querier) error {
		found, err = runs(ctx, q, tail, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return found, nil
}

// runsTail is a query in SQL.
func runsTail(query schedule.RunQuery) (tail string, args []any) {
	var c conditions
	if query.VM != nil {
		c.add(`vcenter = ? AND moref = ?`, query.VM.VCenter, query.VM.Moref)
	}
	if query.State != "" {
		c.add(`state = ?`, string(query.State))
	}
	return c.page(query.Active, query.Before, query.Limit)
}

// conditions are what rows of a list must fulfil.
type conditions struct {
	where []string
	args  []any
}

// add adds one, with a ? for each argument.
func (c *conditions) add(condition string, args ...any) {
	for _, a := range args {
		c.args = append(c.args, a)
		condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(c.args)), 1)
	}
	c.where = append(c.where, condition)
}

// page is a query's tail for a page of runs, newest first: of those that have
// not ended, if active; with IDs below before, unless it is 0.
func (c *conditions) page(active bool, before int64, limit int) (tail string, args []any) {
	order := `id`
	if active {
		c.add(`ended_ms IS NULL`)
		order = `+id` // is no column: see sceneQuery
	}
	if before > 0 {
		c.add(order+` < ?`, before)
	}
	where := strings.Join(append([]string{`TRUE`}, c.where...), " AND ")
	return fmt.Sprintf(`WHERE %s ORDER BY %s DESC LIMIT %d`, where, order, bound(limit, 50, 500)), c.args
}

// bound is how many rows are returned where n were asked for.
func bound(n, absent, most int) int {
	if n <= 0 {
		return absent
	}
	return min(n, most)
}
