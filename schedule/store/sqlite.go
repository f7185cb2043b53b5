package store

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteSettings are those of every connection. Transactions take the write
// lock when they begin (immediate): one that reads first and then cannot write
// would have to be done anew. With a write-ahead log readers do not wait for
// the writer, and a crash of the machine may lose the last transactions but
// spoils nothing: what is lost is found out again from AWS and vCenter.
const sqliteSettings = "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=foreign_keys(ON)&_pragma=synchronous(NORMAL)&_pragma=journal_mode(WAL)"

// sqliteConns: one writes, the others read. More would only wait for the two
// to four cores that an appliance has.
const sqliteConns = 8

func openSQLite(path string, o Options) (*DB, error) {
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		path = rest
	}
	if path == "" || path == ":memory:" {
		return nil, errors.New("open database: sqlite: needs a file's path: runs must outlive the process")
	}
	path, err := filepath.Abs(path)
	if err == nil {
		err = makeFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+sqliteSettings)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(cmp.Or(o.Conns, sqliteConns))
	db.SetMaxIdleConns(cmp.Or(o.Conns, sqliteConns)) // opening one reads the whole schema
	return &DB{kind: SQLite, path: path, sql: db, q: sqlQuerier{db}, writing: make(chan struct{}, 1)}, nil
}

// makeFile makes the file and its folder for this user alone, and takes the
// file from others. SQLite gives its log and index the file's mode.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case info.Mode().Perm()&0o077 != 0:
		return f.Chmod(0o600)
	}
	return nil
}
