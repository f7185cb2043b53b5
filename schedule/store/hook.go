package store

import (
	"context"
	"fmt"

	"snapferry/schedule"
)

// HookCursor is the last event that a webhook is done with; ok is false for one
// that was never told of any.
func (db *DB) HookCursor(ctx context.Context, hook string) (event int64, ok bool, err error) {
	err = db.read(ctx, func(q querier) error {
		ok = false
		return each(ctx, q, `SELECT event_id FROM hook WHERE name = $1`, []any{hook}, func(scan func(...any) error) error {
			ok = true
			return scan(&event)
		})
	})
	if err != nil {
		return 0, false, fmt.Errorf("read how far webhook %s is: %w", hook, err)
	}
	return event, ok, nil
}

// MoveHookCursor moves a webhook's cursor from one event to another; from below
// zero makes one where none is. ErrConflict when it is elsewhere: another
// appliance of the fleet sends, too.
func (db *DB) MoveHookCursor(ctx context.Context, hook string, from, to int64) error {
	sql, args := `UPDATE hook SET event_id = $1 WHERE name = $2 AND event_id = $3`, []any{to, hook, from}
	if from < 0 {
		sql, args = `INSERT INTO hook (event_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, args[:2]
	}
	err := db.write(ctx, once, func(q querier) error {
		n, err := q.exec(ctx, sql, args...)
		if err == nil && n == 0 {
			err = schedule.ErrConflict
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("note how far webhook %s is: %w", hook, err)
	}
	return nil
}
