package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"snapferry/schedule"
)

// Lists that are not asked for a length have this many, and never more than
// the second: a page of them is for a person or a program that reads on.
const (
	listAbsent = 100
	listMost   = 1000
)

// AppendLog adds lines to a run's log; the store gives their Seq.
func (db *DB) AppendLog(ctx context.Context, run int64, lines []schedule.LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	err := db.write(ctx, once, func(q querier) error {
		var last int64
		// The run's row makes writers to one log take turns.
		err := one(ctx, q, `UPDATE run SET log_seq = log_seq + $2 WHERE id = $1 RETURNING log_seq`, []any{run, len(lines)}, &last)
		if err != nil {
			return orNotFound(err)
		}
		rows := make([][]any, len(lines))
		for i, l := range lines {
			rows[i] = []any{run, last - int64(len(lines)-1-i), ms(l.At), l.Level, l.Text}
		}
		return insert(ctx, q, `INSERT INTO run_log (run, seq, at_ms, level, line) VALUES`, "", rows)
	})
	if err != nil {
		return fmt.Errorf("write log of run %d: %w", run, err)
	}
	return nil
}

// Log is a part of a run's log: lines behind after, ascending; at most 1000 and
// 100 when limit is 0.
func (db *DB) Log(ctx context.Context, run, after int64, limit int) (lines []schedule.LogLine, err error) {
	err = db.read(ctx, func(q querier) error {
		lines = nil
		tail := fmt.Sprint(bound(limit, listAbsent, listMost))
		return each(ctx, q, `SELECT seq, at_ms, level, line FROM run_log WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT `+tail, []any{run, after}, func(scan func(...any) error) error {
			l := schedule.LogLine{Run: run}
			var at int64
			err := scan(&l.Seq, &at, &l.Level, &l.Text)
			l.At = instant(at)
			lines = append(lines, l)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read log of run %d: %w", run, err)
	}
	return lines, nil
}

// Record writes an event; the store gives its ID. IDs rise in the order in
// which events can be read: who has read up to one misses none below it.
func (db *DB) Record(ctx context.Context, e schedule.Event) error {
	err := db.write(ctx, once, func(q querier) error {
		var id int64
		if err := one(ctx, q, `UPDATE counter SET n = n + 1 WHERE name = 'event' RETURNING n`, nil, &id); err != nil {
			return err
		}
		_, err := q.exec(ctx, `INSERT INTO event (id, at_ms, kind, vcenter, moref, vm_name, run, actor, words, data) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			id, ms(e.At), string(e.Kind), e.VM.VCenter, e.VM.Moref, e.VMName, e.Run, e.Actor, e.Text, string(e.Data))
		return err
	})
	if err != nil {
		return fmt.Errorf("record event %s: %w", e.Kind, err)
	}
	return nil
}

// Events are those behind after, ascending; at most 1000 and 100 when limit is
// 0.
func (db *DB) Events(ctx context.Context, after int64, limit int) (all []schedule.Event, err error) {
	err = db.read(ctx, func(q querier) error {
		all = nil
		tail := fmt.Sprint(bound(limit, listAbsent, listMost))
		return each(ctx, q, `SELECT id, at_ms, kind, vcenter, moref, vm_name, run, actor, words, data FROM event WHERE id > $1 ORDER BY id LIMIT `+tail, []any{after}, func(scan func(...any) error) error {
			var e schedule.Event
			var at int64
			var data string
			err := scan(&e.ID, &at, &e.Kind, &e.VM.VCenter, &e.VM.Moref, &e.VMName, &e.Run, &e.Actor, &e.Text, &data)
			e.At = instant(at)
			if data != "" {
				e.Data = json.RawMessage(data)
			}
			all = append(all, e)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return all, nil
}

// LastEvent is the highest ID that an event has or had, 0 when there was none.
func (db *DB) LastEvent(ctx context.Context) (id int64, err error) {
	err = db.read(ctx, func(q querier) error { return one(ctx, q, `SELECT n FROM counter WHERE name = 'event'`, nil, &id) })
	if err != nil {
		return 0, fmt.Errorf("read the last event: %w", err)
	}
	return id, nil
}

// RecordDeed writes the audit log; the store gives the ID.
func (db *DB) RecordDeed(ctx context.Context, d schedule.Deed) error {
	err := db.write(ctx, once, func(q querier) error {
		_, err := q.exec(ctx, `INSERT INTO deed (at_ms, actor, role, remote, action, subject, result) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			ms(d.At), d.Actor, d.Role, d.From, d.Action, d.Subject, d.Result)
		return err
	})
	if err != nil {
		return fmt.Errorf("record deed %s: %w", d.Action, err)
	}
	return nil
}

// Deeds are those before an ID, newest first; before 0 begins with the newest.
// At most 1000, and 100 when limit is 0.
func (db *DB) Deeds(ctx context.Context, before int64, limit int) (all []schedule.Deed, err error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	err = db.read(ctx, func(q querier) error {
		all = nil
		tail := fmt.Sprint(bound(limit, listAbsent, listMost))
		return each(ctx, q, `SELECT id, at_ms, actor, role, remote, action, subject, result FROM deed WHERE id < $1 ORDER BY id DESC LIMIT `+tail, []any{before}, func(scan func(...any) error) error {
			var d schedule.Deed
			var at int64
			err := scan(&d.ID, &at, &d.Actor, &d.Role, &d.From, &d.Action, &d.Subject, &d.Result)
			d.At = instant(at)
			all = append(all, d)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return all, nil
}
