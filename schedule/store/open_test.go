package store_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
)

// lockFile takes the lock that an engine has on a SQLite file.
func lockFile(t *testing.T, db *store.DB) (unlock func()) {
	t.Helper()
	path := strings.TrimPrefix(db.String(), "sqlite:")
	f, err := os.OpenFile(path+".engine", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	return func() { f.Close() }
}

func TestOpenSQLite(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "state #1 ?x=1%20")
	path := filepath.Join(dir, "snap ferry.db")
	db := open(t, "sqlite:"+path)
	fleet(t, db, 1)
	for name, want := range map[string]os.FileMode{dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "foreign_keys": "1", "synchronous": "1", "busy_timeout": "5000"} {
		var is string
		must(t, db.SQL().QueryRow(`PRAGMA `+pragma).Scan(&is))
		equal(t, pragma, is, want)
	}
	equal(t, "kind and pool", []any{db.Kind(), db.Pool() == nil}, []any{store.SQLite, true})
	db.Close()
	db.Close() // once more does no harm

	// A file that others could read is taken from them, and has kept its content.
	must(t, os.Chmod(path, 0o644))
	db = open(t, "sqlite://"+path)
	info, err := os.Stat(path)
	must(t, err)
	equal(t, "mode", info.Mode().Perm(), os.FileMode(0o600))
	equal(t, "VMs", len(got[[]schedule.VM](t)(db.VMs(t.Context(), ""))), 1)
}

func TestOpenPostgres(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	u, err := url.Parse(database.Postgres(t))
	must(t, err)
	u.User = url.User(u.User.Username()) // the password comes apart from it
	_, err = store.Open(ctx, u.String(), store.Options{Password: "wr0ng"})
	if err == nil || strings.Contains(err.Error(), "wr0ng") {
		t.Fatalf("opened with a wrong password: %v", err)
	}
	if store.IsTemporary(err) {
		t.Errorf("a wrong password is temporary: %v", err)
	}
	db, err := store.Open(ctx, u.String(), store.Options{Password: database.Password, Conns: 3})
	must(t, err)
	defer db.Close()
	fleet(t, db, 1)
	var schemas string
	must(t, db.Pool().QueryRow(ctx, `SELECT string_agg(DISTINCT table_schema, ',') FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema')`).Scan(&schemas))
	equal(t, "schemas with tables", schemas, "snapferry")
	equal(t, "kind and connections", []any{db.Kind(), db.Pool().Config().MaxConns}, []any{store.PostgreSQL, int32(3)})
	if s := db.String(); strings.Contains(s, "s3cret") || !strings.HasPrefix(s, "postgres://127.0.0.1:") {
		t.Errorf("it calls itself %s", s)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const secret = "hush%2Fpass"
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("this is no database, as anybody can see who reads it to its end"), 0o600))
	for _, c := range []struct{ url, want string }{
		{"", "no URL is given"},
		{"sqlite:", "needs a file's path"},
		{"sqlite::memory:", "needs a file's path"},
		{"sqlite:" + t.TempDir(), "is a directory"},
		{"sqlite:" + file, "not a database"},
		{"sqlite:" + file + "/below", "not a directory"},
		{"mysql://u:" + secret + "@h/d", "neither"},
		{"/var/lib/x.db", "neither"},
		{"postgres://u:" + secret + "%zz@h/d", "cannot be read"},
		{"postgres://u:" + secret + "@h:99999/d", "port"},
		{"postgres://u:" + secret + "@h/d?sslmode=maybe", "sslmode"},
		{"postgres://u@h/d?sslmode=maybe&password=" + secret, "sslmode"},
		{"postgres://u:" + secret + "@127.0.0.1:1/d", "refused"},
	} {
		_, err := store.Open(t.Context(), c.url, store.Options{})
		switch {
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("open %q: error is %v, want one with %q", c.url, err, c.want)
		case strings.Contains(err.Error(), "hush"):
			t.Errorf("open %q: the error has the password: %v", c.url, err)
		}
	}
}

// Programs that start together on a new database do not fail.
func TestOpenAtOnce(t *testing.T) {
	for kind, where := range map[string]func(testing.TB) string{"sqlite": database.SQLite, "postgres": database.Postgres} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			url := where(t)
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					db, err := store.Open(t.Context(), url, store.Options{})
					if err != nil {
						t.Error(err)
						return
					}
					defer db.Close()
					if _, err := db.VMs(t.Context(), ""); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}
