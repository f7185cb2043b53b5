package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// tables are all of ours that hold data, each behind those that it refers to.
var tables = []string{"inventory", "policy", "wave", "vm", "appliance", "run", "run_log", "point", "alarm", "event", "deed",
	"lag_sample", "rate_sample", "setting", "hook", "launch_run", "launch_job", "counter"}

// numbered are those whose IDs the database gives.
var numbered = []string{"run", "alarm", "deed", "launch_run"}

// prefilled are tables that a fresh schema has rows in.
var prefilled = []string{"counter"}

// seenLately is how long an appliance counts as alive that nobody has heard of:
// it says so every ten seconds.
const seenLately = 30 * time.Second

// Copy copies everything from a SQLite file to an empty PostgreSQL database, in
// one transaction. It refuses while a run has not ended or an appliance is
// alive, and keeps one from starting on the file meanwhile. progress, which may
// be nil, is told of each table how many rows there are so far. The workflow
// library's tables are not copied: without runs there is nothing in them to
// carry on.
func Copy(ctx context.Context, from, to *DB, progress func(table string, rows int64)) error {
	if from.kind != SQLite || to.kind != PostgreSQL {
		return fmt.Errorf("copy database: it goes from SQLite to PostgreSQL, not from %s to %s", from, to)
	}
	if progress == nil {
		progress = func(string, int64) {}
	}
	unlock, err := from.keepOut()
	if err != nil {
		return fmt.Errorf("copy database %s: %w", from, err)
	}
	defer unlock()
	// The lock to write, not only a view: nothing may change between reading and
	// the end, or it would be left behind.
	err = from.write(ctx, once, func(src querier) error {
		if err := idle(ctx, src); err != nil {
			return err
		}
		return to.inPgxTx(ctx, false, func(dst querier) error {
			tx, ok := dst.raw().(pgx.Tx)
			if !ok {
				return errors.New("no transaction of PostgreSQL")
			}
			return copyAll(ctx, src, tx, progress)
		})
	})
	if err != nil {
		return fmt.Errorf("copy database %s to %s: %w", from, to, err)
	}
	return nil
}

// keepOut takes the lock that a running appliance has on its SQLite file (see
// schedule/engine): a file beside it.
func (db *DB) keepOut() (unlock func(), err error) {
	f, err := os.OpenFile(db.path+".engine", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("an appliance runs on it: stop its service (systemctl stop snapferry) and copy again")
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// idle refuses while there is work that would be left behind.
func idle(ctx context.Context, q querier) error {
	all, err := appliances(ctx, q)
	if err != nil {
		return err
	}
	for _, a := range all {
		if ago := time.Since(a.Seen); a.Alive && !a.Draining && ago < seenLately {
			return fmt.Errorf("appliance %s was there %v ago: stop its service (systemctl stop snapferry), wait %v and copy again", a.ID, ago.Round(time.Second), seenLately)
		}
	}
	open, err := runs(ctx, q, `WHERE ended_ms IS NULL ORDER BY id`)
	if err != nil || len(open) == 0 {
		return err
	}
	names := make([]string, 0, 5)
	for _, r := range open[:min(len(open), cap(names))] {
		names = append(names, fmt.Sprintf("%s (%s)", r.VMName, r.State))
	}
	more := ""
	if n := len(open) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("runs have not ended: %s%s: start the service again, pause all VMs, let the runs end or cancel them, then stop it and copy again", strings.Join(names, ", "), more)
}

func copyAll(ctx context.Context, src querier, tx pgx.Tx, progress func(string, int64)) error {
	// Nobody else writes to the target until the end.
	if _, err := tx.Exec(ctx, `LOCK TABLE `+strings.Join(tables, ", ")+` IN EXCLUSIVE MODE`); err != nil {
		return err
	}
	for _, t := range tables {
		if slices.Contains(prefilled, t) {
			if _, err := tx.Exec(ctx, `DELETE FROM `+t); err != nil {
				return err
			}
		}
		var any bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+t+`)`).Scan(&any); err != nil {
			return err
		}
		if any {
			return fmt.Errorf("the target has rows in %s: it must be a new database", t)
		}
	}
	for _, t := range tables {
		if err := copyTable(ctx, src, tx, t, progress); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	for _, t := range numbered {
		if err := setSequence(ctx, src, tx, t); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	// None of them runs, and none has said so in the new place.
	_, err := tx.Exec(ctx, `UPDATE appliance SET alive = FALSE, draining = FALSE`)
	return err
}

// copyTable copies one table and compares the counts.
func copyTable(ctx context.Context, src querier, tx pgx.Tx, table string, progress func(string, int64)) error {
	columns, booleans, err := columnsOf(ctx, tx, table)
	if err != nil {
		return err
	}
	r, err := src.query(ctx, `SELECT `+strings.Join(columns, ", ")+` FROM `+table)
	if err != nil {
		return err
	}
	defer r.close()
	source := &copySource{rows: r, booleans: booleans, told: func(n int64) { progress(table, n) }}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{schema, table}, columns, source); err != nil {
		return err
	}
	r.close()
	var had, has int64
	count := `SELECT count(*) FROM ` + table
	if err := one(ctx, src, count, nil, &had); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, count).Scan(&has); err != nil {
		return err
	}
	if had != has {
		return fmt.Errorf("%d rows of %d arrived", has, had)
	}
	progress(table, has)
	return nil
}

// columnsOf are a table's columns and which of them are booleans: SQLite has
// numbers there.
func columnsOf(ctx context.Context, tx pgx.Tx, table string) (columns []string, booleans []bool, err error) {
	r, err := tx.Query(ctx, `SELECT column_name::text, data_type = 'boolean' FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position`, schema, table)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	for r.Next() {
		var name string
		var boolean bool
		if err := r.Scan(&name, &boolean); err != nil {
			return nil, nil, err
		}
		columns, booleans = append(columns, name), append(booleans, boolean)
	}
	return columns, booleans, r.Err()
}

// copySource is the rows of a SQLite table as PostgreSQL's COPY takes them.
type copySource struct {
	rows     rows
	booleans []bool
	told     func(int64)
	n        int64
	row      []any
	err      error
}

// copyTold is after how many rows progress is told again.
const copyTold = 10_000

func (s *copySource) Next() bool {
	if s.err != nil || !s.rows.Next() {
		return false
	}
	s.row = make([]any, len(s.booleans))
	dest := make([]any, len(s.booleans))
	for i := range dest {
		dest[i] = &s.row[i]
	}
	if s.err = s.rows.Scan(dest...); s.err != nil {
		return false
	}
	for i, boolean := range s.booleans {
		if n, ok := s.row[i].(int64); ok && boolean {
			s.row[i] = n != 0
		}
	}
	if s.n++; s.n%copyTold == 0 {
		s.told(s.n)
	}
	return true
}

func (s *copySource) Values() ([]any, error) { return clean(s.row), nil }

func (s *copySource) Err() error { return errors.Join(s.err, s.rows.Err()) }

// setSequence lets new IDs go on where the old database was: also the IDs of
// what was deleted are not given again.
func setSequence(ctx context.Context, src querier, tx pgx.Tx, table string) error {
	var last int64
	err := one(ctx, src, `SELECT seq FROM sqlite_sequence WHERE name = $1`, []any{table}, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // there was never a row
	}
	if err == nil {
		_, err = tx.Exec(ctx, `SELECT setval(pg_get_serial_sequence($1, 'id'), $2)`, schema+"."+table, max(last, 1))
	}
	return err
}
