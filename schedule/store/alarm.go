package store

import (
	"context"
	"fmt"
	"time"

	"snapferry/schedule"
)

// Raise renews the alarm of a.Key, or makes it and returns fresh. Renewing
// keeps Since.
func (db *DB) Raise(ctx context.Context, a schedule.Alarm) (fresh bool, err error) {
	if a.Key == "" {
		return false, fmt.Errorf("raise alarm: it needs a key: %w", schedule.ErrInvalid)
	}
	if a.Since.IsZero() {
		a.Since = a.Seen
	}
	if a.Seen.IsZero() {
		a.Seen = a.Since
	}
	row := []any{a.Key, string(a.Kind), a.VM.VCenter, a.VM.Moref, a.VMName, ms(a.Seen), a.Text, a.Hint}
	err = db.write(ctx, once, func(q querier) error {
		n, err := q.exec(ctx, `INSERT INTO alarm (about, kind, vcenter, moref, vm_name, seen_ms, words, hint, since_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (about) WHERE cleared_ms IS NULL DO NOTHING`, append(row[:len(row):len(row)], ms(a.Since))...)
		if fresh = n > 0; fresh || err != nil {
			return err
		}
		_, err = q.exec(ctx, `UPDATE alarm SET kind = $2, vcenter = $3, moref = $4, vm_name = $5, seen_ms = $6, words = $7, hint = $8 WHERE about = $1 AND cleared_ms IS NULL`, row...)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("raise alarm %s: %w", a.Key, err)
	}
	return fresh, nil
}

// Clear ends the alarm of a key; was is false when there was none.
func (db *DB) Clear(ctx context.Context, key string, at time.Time) (was bool, err error) {
	err = db.write(ctx, once, func(q querier) error {
		n, err := q.exec(ctx, `UPDATE alarm SET cleared_ms = $2 WHERE about = $1 AND cleared_ms IS NULL`, key, ms(at))
		was = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("clear alarm %s: %w", key, err)
	}
	return was, nil
}

// OpenAlarms are all that hold, newest first.
func (db *DB) OpenAlarms(ctx context.Context) ([]schedule.Alarm, error) {
	return db.alarms(ctx, `WHERE cleared_ms IS NULL ORDER BY id DESC`)
}

// Alarms are the open ones, or all when cleared is asked for, newest first; at
// most 1000, and 100 when limit is 0.
func (db *DB) Alarms(ctx context.Context, cleared bool, limit int) ([]schedule.Alarm, error) {
	tail := fmt.Sprintf(`ORDER BY id DESC LIMIT %d`, bound(limit, listAbsent, listMost))
	if !cleared {
		tail = `WHERE cleared_ms IS NULL ` + tail
	}
	return db.alarms(ctx, tail)
}

func (db *DB) alarms(ctx context.Context, tail string) (all []schedule.Alarm, err error) {
	err = db.read(ctx, func(q querier) error {
		all = nil
		return each(ctx, q, `SELECT id, about, kind, vcenter, moref, vm_name, words, hint, since_ms, seen_ms, coalesce(cleared_ms, 0) FROM alarm `+tail, nil, func(scan func(...any) error) error {
			var a schedule.Alarm
			var since, seen, cleared int64
			err := scan(&a.ID, &a.Key, &a.Kind, &a.VM.VCenter, &a.VM.Moref, &a.VMName, &a.Text, &a.Hint, &since, &seen, &cleared)
			a.Since, a.Seen, a.Cleared = instant(since), instant(seen), instant(cleared)
			all = append(all, a)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list alarms: %w", err)
	}
	return all, nil
}
