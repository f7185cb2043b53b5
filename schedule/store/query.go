package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// querier runs statements, in a transaction or outside, on either database.
// Parameters are $1, $2, …
type querier interface {
	// exec returns how many rows it changed.
	exec(ctx context.Context, sql string, args ...any) (int64, error)
	query(ctx context.Context, sql string, args ...any) (rows, error)
	// raw is what the workflow library takes: a pgx.Tx or a *sql.Tx; nil outside
	// of a transaction.
	raw() any
}

// rows is what both libraries' rows can do.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	close()
}

type pgxConn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

type pgxQuerier struct{ c pgxConn }

type pgxRows struct{ pgx.Rows }

func (r pgxRows) close() { r.Close() }

func (q pgxQuerier) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := q.c.Exec(ctx, sql, clean(args)...)
	return tag.RowsAffected(), err
}

func (q pgxQuerier) query(ctx context.Context, sql string, args ...any) (rows, error) {
	r, err := q.c.Query(ctx, sql, clean(args)...)
	if err != nil {
		return nil, err
	}
	return pgxRows{r}, nil
}

func (q pgxQuerier) raw() any {
	if tx, ok := q.c.(pgx.Tx); ok {
		return tx
	}
	return nil
}

type sqlConn interface {
	ExecContext(ctx context.Context, sql string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
}

type sqlQuerier struct{ c sqlConn }

type sqlRows struct{ *sql.Rows }

func (r sqlRows) close() { _ = r.Close() } // Err has told

func (q sqlQuerier) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	r, err := q.c.ExecContext(ctx, sql, clean(args)...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (q sqlQuerier) query(ctx context.Context, sql string, args ...any) (rows, error) {
	r, err := q.c.QueryContext(ctx, sql, clean(args)...)
	if err != nil {
		return nil, err
	}
	return sqlRows{r}, nil
}

func (q sqlQuerier) raw() any {
	if tx, ok := q.c.(*sql.Tx); ok {
		return tx
	}
	return nil
}

// clean takes from texts what PostgreSQL does not store: they come from
// vCenter, from AWS and from people.
func clean(args []any) []any {
	for i, a := range args {
		s, ok := a.(string)
		if ok && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
		}
	}
	return args
}

// each calls f for every row of an answer.
func each(ctx context.Context, q querier, sql string, args []any, f func(scan func(...any) error) error) error {
	r, err := q.query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer r.close()
	for r.Next() {
		if err := f(r.Scan); err != nil {
			return err
		}
	}
	return r.Err()
}

// one scans the only row of an answer; sql.ErrNoRows when there is none. It
// reads to the answer's end: only then a RETURNING has done what it should.
func one(ctx context.Context, q querier, query string, args []any, dest ...any) error {
	found := false
	err := each(ctx, q, query, args, func(scan func(...any) error) error {
		if found {
			return nil
		}
		found = true
		return scan(dest...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// values is "($1, $2), ($3, $4)" with n rows of width parameters, the first of
// which is $from.
func values(n, width, from int) string {
	var b strings.Builder
	for row := range n {
		if row > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for col := range width {
			if col > 0 {
				b.WriteString(", ")
			}
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(from + row*width + col))
		}
		b.WriteByte(')')
	}
	return b.String()
}

// maxParams is how many parameters a statement gets at most. Both databases
// take many more, but SQLite's time to parse them grows with the square of
// their number: 500 take half a millisecond, 2,000 take eight.
const maxParams = 500

// insert writes many rows: head is "INSERT INTO t (a, b) VALUES", tail what
// comes behind, such as "ON CONFLICT …".
func insert(ctx context.Context, q querier, head, tail string, all [][]any) error {
	for len(all) > 0 {
		width := len(all[0])
		n := min(len(all), maxParams/width)
		args := make([]any, 0, n*width)
		for _, row := range all[:n] {
			args = append(args, row...)
		}
		if _, err := q.exec(ctx, head+" "+values(n, width, 1)+" "+tail, args...); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}
