package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsTemporary reports that an error of the database may be gone by itself:
// it could not be reached, the connection was lost, it is about to stop or
// start, two transactions were in each other's way. What was asked for may or
// may not have been done. A context that was cancelled is not temporary; one
// whose deadline passed is, since it was the database that did not answer.
func IsTemporary(err error) bool {
	var (
		connect *pgconn.ConnectError
		pg      *pgconn.PgError
		lite    *sqlite.Error
		network net.Error
	)
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &pg): // also within a ConnectError: a wrong password stays wrong
		return temporaryState(pg.Code)
	case errors.As(err, &lite):
		code := lite.Code() & 0xff // the rest says more precisely
		return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return true
	case errors.As(err, &connect), errors.As(err, &network), pgconn.SafeToRetry(err), pgconn.Timeout(err):
		return true
	}
	return false
}

// temporaryState knows PostgreSQL's error codes.
func temporaryState(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", // the connection
		"40", // serialization failure, deadlock
		"53": // too many connections, memory, disk
		return true
	}
	switch code {
	case "57P01", "57P02", "57P03", "57P05", // shutting down, crashed, starting, session ended
		"25P03", // a transaction of ours was idle for too long
		"25006", // read only: a standby, until the pool finds the new primary
		"55P03": // lock not available
		return true
	}
	return false
}

// undone reports that the transaction has certainly not been committed.
func undone(err error) bool {
	var pg *pgconn.PgError
	var lite *sqlite.Error
	if errors.As(err, &pg) {
		return len(pg.Code) == 5 && pg.Code[:2] == "40" // a shutdown may come right behind the commit
	}
	return errors.As(err, &lite) || errors.Is(err, pgx.ErrTxCommitRollback) || pgconn.SafeToRetry(err)
}

func isDuplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "23505" || pg.Code == "42P06") // unique violation, duplicate schema
}

// retries are the waits between tries, in all less than a second: a lost
// connection is replaced at once, and a transaction in the way is short. For
// anything longer the caller knows better what to do meanwhile.
var retries = []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}

// retry calls f until it does well, says that it shall not be called again, or
// was called often enough.
func (db *DB) retry(ctx context.Context, f func() (again bool, err error)) error {
	for _, wait := range retries {
		again, err := f()
		if err == nil || !again || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
	_, err := f()
	return err
}

// read runs one statement that changes nothing. f may be called again.
func (db *DB) read(ctx context.Context, f func(q querier) error) error {
	return db.retry(ctx, func() (bool, error) {
		err := f(db.q)
		return IsTemporary(err), err
	})
}

// view runs several statements that change nothing on one state of the
// database. f may be called again.
func (db *DB) view(ctx context.Context, f func(q querier) error) error {
	return db.retry(ctx, func() (bool, error) {
		err := db.inTx(ctx, true, f)
		return IsTemporary(err), err
	})
}

// statement runs one statement that writes, and may do so twice.
func (db *DB) statement(ctx context.Context, f func(q querier) error) error {
	release, err := db.lockWriting(ctx)
	if err != nil {
		return err
	}
	defer release()
	return db.read(ctx, f)
}

// repeat says whether a write may be done twice.
type repeat bool

const (
	// again: doing it twice is as good as once. It is tried again also when
	// nobody knows whether it was done.
	again repeat = true
	// once: it is tried again only when it was certainly not done.
	once repeat = false
)

// write runs f in a transaction. f may be called again: what it sets outside
// of itself it must set each time.
func (db *DB) write(ctx context.Context, r repeat, f func(q querier) error) error {
	release, err := db.lockWriting(ctx)
	if err != nil {
		return err
	}
	defer release()
	return db.retry(ctx, func() (bool, error) {
		committing := false
		err := db.inTx(ctx, false, func(q querier) error {
			err := f(q)
			committing = err == nil
			return err
		})
		return IsTemporary(err) && (bool(r) || !committing || undone(err)), err
	})
}

// lockWriting waits for the right to write to a SQLite file.
func (db *DB) lockWriting(ctx context.Context) (release func(), err error) {
	if db.writing == nil {
		return func() {}, nil
	}
	select {
	case db.writing <- struct{}{}:
		return func() { <-db.writing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other writers: %w", context.Cause(ctx))
	}
}

// inTx runs f in a transaction once.
func (db *DB) inTx(ctx context.Context, readOnly bool, f func(q querier) error) error {
	if db.pool != nil {
		return db.inPgxTx(ctx, readOnly, f)
	}
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // nothing to roll back after Commit
	if err := f(sqlQuerier{tx}); err != nil {
		return err
	}
	return tx.Commit()
}

func (db *DB) inPgxTx(ctx context.Context, readOnly bool, f func(q querier) error) error {
	var o pgx.TxOptions
	if readOnly {
		o = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	}
	tx, err := db.pool.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		// pgx closes a connection whose rollback fails.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		_ = tx.Rollback(ctx)
	}()
	if err := f(pgxQuerier{tx}); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
