package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// vmColumns are what scanVM reads: everything but the facts.
const vmColumns = `v.vcenter, v.moref, v.hash, v.gone, CASE WHEN v.gone THEN v.seen_ms ELSE coalesce(i.seen_ms, 0) END,
	v.policy, v.chosen, v.paused, v.paused_why, v.lifecycle, v.wave, v.launch, v.next_ms, v.next_why, v.last_run,
	v.fails, v.reason, v.problem, v.point_cycle, v.point_ms, v.point_suspect, v.measure`

const vmTables = `vm v LEFT JOIN inventory i ON i.vcenter = v.vcenter`

// vmRow is a VM without its facts, and the hash of those.
type vmRow struct {
	vm   schedule.VM
	hash string
}

func scanVM(scan func(...any) error) (r vmRow, err error) {
	var seen, next, point int64
	var launch, measure string
	v := &r.vm
	err = scan(&v.ID.VCenter, &v.ID.Moref, &r.hash, &v.Gone, &seen,
		&v.Policy, &v.Chosen, &v.Paused, &v.PausedWhy, &v.Lifecycle, &v.Wave, &launch, &next, &v.NextWhy, &v.LastRun,
		&v.Fails, &v.Reason, &v.Problem, &v.Point.Cycle, &point, &v.Point.Suspect, &measure)
	if err != nil {
		return r, err
	}
	v.Seen, v.Next, v.Point.Instant = instant(seen), instant(next), instant(point)
	if err = decode(launch, &v.Launch); err == nil {
		err = decode(measure, &v.Measure)
	}
	if err != nil {
		err = fmt.Errorf("read VM %s: %w", v.ID, err)
	}
	return r, err
}

// vms reads the VMs that a condition chooses, ordered by name.
func (db *DB) vms(ctx context.Context, where string, args ...any) ([]schedule.VM, error) {
	var found []schedule.VM
	err := db.read(ctx, func(q querier) error {
		var all []vmRow
		err := each(ctx, q, `SELECT `+vmColumns+` FROM `+vmTables+` WHERE `+where, args, func(scan func(...any) error) error {
			r, err := scanVM(scan)
			all = append(all, r)
			return err
		})
		if err == nil {
			found, err = db.facts.fill(ctx, q, all)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b schedule.VM) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID.VCenter, b.ID.VCenter), cmp.Compare(a.ID.Moref, b.ID.Moref))
	})
	return found, nil
}

// VMs are all VMs of a vCenter that are not gone, by name; "" is every vCenter.
func (db *DB) VMs(ctx context.Context, vcenter string) ([]schedule.VM, error) {
	all, err := db.vms(ctx, `NOT v.gone AND ($1 = '' OR v.vcenter = $1)`, vcenter)
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	return all, nil
}

// VM is one VM, also one that is gone.
func (db *DB) VM(ctx context.Context, id transfer.VMID) (schedule.VM, error) {
	all, err := db.vms(ctx, `v.vcenter = $1 AND v.moref = $2`, id.VCenter, id.Moref)
	if err != nil {
		return schedule.VM{}, fmt.Errorf("read VM %s: %w", id, err)
	}
	if len(all) == 0 {
		return schedule.VM{}, noVM(id)
	}
	return all[0], nil
}

func noVM(id transfer.VMID) error { return fmt.Errorf("VM %s: %w", id, schedule.ErrNotFound) }

// replicating is the list of lifecycles in which scheduled cycles run, for IN.
var replicating = func() string {
	list := []string{"''"}
	for _, l := range schedule.Lifecycles() {
		if l.Replicates() {
			list = append(list, "'"+string(l)+"'")
		}
	}
	return strings.Join(list, ", ")
}()

var dueCondition = `v.next_ms > 0 AND v.next_ms <= $1 AND NOT v.paused AND NOT v.gone AND v.policy <> ''
	AND v.lifecycle IN (` + replicating + `)
	AND NOT EXISTS (SELECT 1 FROM run r WHERE r.vcenter = v.vcenter AND r.moref = v.moref AND r.ended_ms IS NULL)`

// DueVMs are those whose time has come, the longest overdue ones first.
func (db *DB) DueVMs(ctx context.Context, at time.Time) ([]schedule.VM, error) {
	due, err := db.vms(ctx, dueCondition, ms(at))
	if err != nil {
		return nil, fmt.Errorf("list VMs that are due: %w", err)
	}
	slices.SortStableFunc(due, func(a, b schedule.VM) int { return a.Next.Compare(b.Next) })
	return due, nil
}

// vmState reads some columns of one VM inside a transaction.
func vmState(ctx context.Context, q querier, id transfer.VMID, columns string, dest ...any) error {
	err := one(ctx, q, `SELECT `+columns+` FROM vm WHERE vcenter = $1 AND moref = $2`, []any{id.VCenter, id.Moref}, dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return noVM(id)
	}
	return err
}
