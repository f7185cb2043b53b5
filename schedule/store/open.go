package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Kind says which database it is.
type Kind string

// The kinds.
const (
	SQLite     Kind = "sqlite"
	PostgreSQL Kind = "postgres"
)

// Options are what does not stand in the URL.
type Options struct {
	// Password of PostgreSQL; it goes before one in the URL. It is in no error.
	Password string
	// Conns is how many connections there are at most. 0 is 8 for SQLite, and 10
	// for PostgreSQL unless the URL has pool_max_conns.
	Conns int
}

// DB is an open database. Make it with Open.
type DB struct {
	kind Kind
	path string // of the file; "" on PostgreSQL
	sql  *sql.DB
	pool *pgxpool.Pool // nil on SQLite
	q    querier       // outside of transactions

	// writing is the right to write to a SQLite file, which has one writer at a
	// time: who waits here is served in turn, whereas SQLite's own waiting is
	// sleeping and trying again. cap 1; nil on PostgreSQL.
	writing chan struct{}

	facts factsCache
	close sync.Once
}

// Open opens "sqlite:/path/file.db" (made when it is not there, for this user
// only) or "postgres://user@host/database", and brings its schema up to date.
// A database whose schema is newer than this program and not compatible with it
// is an ErrNewer. ctx bounds opening alone.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	return open(ctx, url, o, migrations())
}

// open is Open with migrations of its own.
func open(ctx context.Context, url string, o Options, files fs.FS) (*DB, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	var db *DB
	var err error
	switch scheme {
	case "sqlite":
		db, err = openSQLite(rest, o)
	case "postgres", "postgresql":
		db, err = openPostgres(ctx, url, o)
	case "":
		return nil, errors.New("open database: no URL is given; write sqlite:/path/file.db or postgres://user@host/database")
	default: // its text may hold a password
		return nil, errors.New("open database: the URL is neither sqlite:/path/file.db nor postgres://user@host/database")
	}
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, db, files); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Close closes all connections. It waits for those in use.
func (db *DB) Close() {
	db.close.Do(func() {
		_ = db.sql.Close() // nothing is pending
		if db.pool != nil {
			db.pool.Close()
		}
	})
}

// SQL is the database as the standard library has it. On PostgreSQL it uses
// the connections of Pool.
func (db *DB) SQL() *sql.DB { return db.sql }

// Pool is PostgreSQL's pool, nil on SQLite.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Kind is which database it is.
func (db *DB) Kind() Kind { return db.kind }

// String names the database without secrets.
func (db *DB) String() string {
	if db.pool == nil {
		return "sqlite:" + db.path
	}
	c := db.pool.Config().ConnConfig
	return fmt.Sprintf("postgres://%s:%d/%s", c.Host, c.Port, c.Database)
}
