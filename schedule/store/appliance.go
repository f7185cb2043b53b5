package store

import (
	"context"
	"fmt"

	"snapferry/schedule"
	"snapferry/transfer"
)

// SaveAppliance makes or replaces an appliance.
func (db *DB) SaveAppliance(ctx context.Context, a schedule.Appliance) error {
	datastores := ""
	if len(a.Datastores) > 0 {
		var err error
		if datastores, err = encode(a.Datastores); err != nil {
			return fmt.Errorf("save appliance %s: %w", a.ID, err)
		}
	}
	err := db.statement(ctx, func(q querier) error {
		_, err := q.exec(ctx, `INSERT INTO appliance (id, version, vm, host, vcenter, account, datastores, started_ms, seen_ms, alive, draining)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT (id) DO UPDATE SET version = excluded.version, vm = excluded.vm, host = excluded.host, vcenter = excluded.vcenter,
			account = excluded.account, datastores = excluded.datastores, started_ms = excluded.started_ms, seen_ms = excluded.seen_ms,
			alive = excluded.alive, draining = excluded.draining`,
			string(a.ID), a.Version, a.VM, a.Host, a.VCenter, a.Account, datastores, ms(a.Started), ms(a.Seen), a.Alive, a.Draining)
		return err
	})
	if err != nil {
		return fmt.Errorf("save appliance %s: %w", a.ID, err)
	}
	return nil
}

// Lost marks an appliance as not alive; first is false when it was already.
func (db *DB) Lost(ctx context.Context, id transfer.ApplianceID) (first bool, err error) {
	err = db.write(ctx, once, func(q querier) error {
		n, err := q.exec(ctx, `UPDATE appliance SET alive = FALSE WHERE id = $1 AND alive`, string(id))
		if first = n > 0; first || err != nil {
			return err
		}
		if err := one(ctx, q, `SELECT count(*) FROM appliance WHERE id = $1`, []any{string(id)}, &n); err != nil {
			return err
		}
		if n == 0 {
			return schedule.ErrNotFound
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("mark appliance %s as lost: %w", id, err)
	}
	return first, nil
}

// Appliances are all there ever were, by ID.
func (db *DB) Appliances(ctx context.Context) (all []schedule.Appliance, err error) {
	err = db.read(ctx, func(q querier) error {
		all, err = appliances(ctx, q)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list appliances: %w", err)
	}
	return all, nil
}

func appliances(ctx context.Context, q querier) (all []schedule.Appliance, err error) {
	err = each(ctx, q, `SELECT id, version, vm, host, vcenter, account, datastores, started_ms, seen_ms, alive, draining FROM appliance ORDER BY id`, nil,
		func(scan func(...any) error) error {
			var a schedule.Appliance
			var datastores string
			var started, seen int64
			err := scan(&a.ID, &a.Version, &a.VM, &a.Host, &a.VCenter, &a.Account, &datastores, &started, &seen, &a.Alive, &a.Draining)
			if err == nil {
				err = decode(datastores, &a.Datastores)
			}
			a.Started, a.Seen = instant(started), instant(seen)
			all = append(all, a)
			return err
		})
	return all, err
}

const limitsSetting = "limits"

// Limits are those that were set, or schedule.DefaultLimits.
func (db *DB) Limits(ctx context.Context) (l schedule.Limits, err error) {
	err = db.read(ctx, func(q querier) error {
		l, err = limits(ctx, q)
		return err
	})
	if err != nil {
		return l, fmt.Errorf("read limits: %w", err)
	}
	return l, nil
}

func limits(ctx context.Context, q querier) (schedule.Limits, error) {
	text := ""
	err := each(ctx, q, `SELECT value FROM setting WHERE name = $1`, []any{limitsSetting}, func(scan func(...any) error) error { return scan(&text) })
	l := schedule.DefaultLimits() // also for what an older version did not know
	if err == nil {
		err = decode(text, &l)
	}
	return l, err
}

// SetLimits makes limits hold from the next admission on.
func (db *DB) SetLimits(ctx context.Context, l schedule.Limits) error {
	text, err := encode(l)
	if err == nil {
		err = db.statement(ctx, func(q querier) error {
			_, err := q.exec(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, limitsSetting, text)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	return nil
}
