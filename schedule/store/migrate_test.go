package store_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
)

var update = flag.Bool("update", false, "write testdata/v1 anew; only before version 1 is released")

const (
	adds = `ALTER TABLE vm ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';
		CREATE TABLE shade (id {id}, name TEXT NOT NULL);
		INSERT INTO shade (name) VALUES ('pale')`
	breaks = `ALTER TABLE vm RENAME COLUMN next_why TO because;
		INSERT INTO schema_floor (version) VALUES (3)`
)

// versions is the first n of: the first release, one that adds, one that breaks.
func versions(t *testing.T, n int) fs.FS {
	t.Helper()
	first, err := fs.ReadFile(store.Migrations(), "0001_initial.sql")
	must(t, err)
	all := fstest.MapFS{}
	for i, text := range []string{string(first), adds, breaks}[:n] {
		all[fmt.Sprintf("%04d_x.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

func openWith(t *testing.T, url string, files fs.FS) *store.DB {
	t.Helper()
	db, err := store.OpenWith(t.Context(), url, store.Options{}, files)
	must(t, err)
	t.Cleanup(db.Close)
	return db
}

func onEachURL(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, database.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, database.Postgres(t)) })
}

// While a fleet is upgraded, programs of both versions work on what was only
// added to; what was changed the older one refuses.
func TestOlderProgram(t *testing.T) {
	onEachURL(t, func(t *testing.T, url string) {
		older := openWith(t, url, versions(t, 1))
		filled(t, older)
		want := content(t, older)
		newer := openWith(t, url, versions(t, 2))
		var n int
		must(t, newer.SQL().QueryRow(`SELECT count(*) FROM vm WHERE colour = 'red'`).Scan(&n))
		equal(t, "VMs with what was added", n, 5)
		equal(t, "content for the newer", content(t, newer), want)

		older2 := openWith(t, url, versions(t, 1))
		for what, db := range map[string]*store.DB{"that ran": older, "that starts": older2} {
			equal(t, "content for an older program "+what, content(t, db), want)
		}
		seen := machines(9)
		_, _, err := older2.SaveInventory(t.Context(), vc, seen, t0)
		must(t, err)
		run(t, older, 8, schedule.RunDone, t0)
		must(t, newer.SQL().QueryRow(`SELECT count(*) FROM vm WHERE colour = 'red'`).Scan(&n))
		equal(t, "VMs that an older program wrote", n, 9)

		openWith(t, url, versions(t, 3))
		for i := 1; i <= 2; i++ {
			_, err := store.OpenWith(t.Context(), url, store.Options{}, versions(t, i))
			wantErr(t, fmt.Sprintf("program of version %d", i), err, store.ErrNewer)
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("its schema is 3 and needs a program that knows 3; this one knows up to %d: install", i)) {
				t.Errorf("its words: %v", err)
			}
		}
	})
}

// A migration that fails leaves nothing of itself.
func TestMigrationFails(t *testing.T) {
	onEachURL(t, func(t *testing.T, url string) {
		filled(t, openWith(t, url, versions(t, 1)))
		bad := versions(t, 2).(fstest.MapFS)
		bad["0002_x.sql"].Data = append(bad["0002_x.sql"].Data, "; INSERT INTO nowhere VALUES (1)"...)
		if _, err := store.OpenWith(t.Context(), url, store.Options{}, bad); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Fatalf("a bad migration: %v", err)
		}
		older := openWith(t, url, versions(t, 1))
		if _, err := older.SQL().Exec(`SELECT * FROM shade`); err == nil {
			t.Error("half a migration was done")
		}
		openWith(t, url, versions(t, 2))
	})
}

// A database of the first release opens, and has all that was in it.
func TestFromVersion1(t *testing.T) {
	if *update {
		writeVersion1(t)
	}
	onEachURL(t, func(t *testing.T, url string) {
		old := openWith(t, url, os.DirFS("testdata/v1"))
		rows, err := os.ReadFile("testdata/v1/rows.txt")
		must(t, err)
		_, err = old.SQL().Exec(`DELETE FROM counter;` + string(rows))
		must(t, err)
		old.Close()

		db := open(t, url)
		like := open(t, database.SQLite(t))
		filled(t, like)
		equal(t, "content", content(t, db), content(t, like))
		if db.Kind() == store.PostgreSQL { // the rows brought their IDs with them
			_, err = db.SQL().Exec(`SELECT setval(pg_get_serial_sequence('snapferry.run', 'id'), 100)`)
			must(t, err)
		}
		run(t, db, 4, schedule.RunDone, t0)
		launch(t, db, 4, false, "job-1", t0)
	})
}

// A migration that was released never changes: databases have it.
func TestReleasedMigrations(t *testing.T) {
	for version, name := range map[string]string{"v1": "0001_initial.sql"} {
		released, err := os.ReadFile(filepath.Join("testdata", version, name))
		must(t, err)
		now, err := fs.ReadFile(store.Migrations(), name)
		must(t, err)
		if string(released) != string(now) {
			t.Errorf("migration %s is not what was released: add another instead (before the first release: go test -run TestFromVersion1 -update)", name)
		}
	}
}

// writeVersion1 writes the schema as it is now, and rows for it.
func writeVersion1(t *testing.T) {
	t.Helper()
	must(t, os.MkdirAll("testdata/v1", 0o755))
	text, err := fs.ReadFile(store.Migrations(), "0001_initial.sql")
	must(t, err)
	must(t, os.WriteFile("testdata/v1/0001_initial.sql", text, 0o644))
	db := openWith(t, database.SQLite(t), versions(t, 1))
	filled(t, db)
	var b strings.Builder
	for _, table := range []string{"inventory", "policy", "wave", "vm", "appliance", "run", "run_log", "point", "alarm", "event", "deed", "lag_sample", "rate_sample", "setting", "hook", "counter"} {
		dump(t, &b, db.SQL(), table)
	}
	must(t, os.WriteFile("testdata/v1/rows.txt", []byte(b.String()), 0o644))
}

// dump writes a table's rows as statements that both databases understand.
func dump(t *testing.T, b *strings.Builder, db *sql.DB, table string) {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), `SELECT * FROM `+table)
	must(t, err)
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	must(t, err)
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name()
	}
	for rows.Next() {
		row, dest := make([]any, len(names)), make([]any, len(names))
		for i := range row {
			dest[i] = &row[i]
		}
		must(t, rows.Scan(dest...))
		words := make([]string, len(row))
		for i, v := range row {
			switch v := v.(type) {
			case nil:
				words[i] = "NULL"
			case string:
				words[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
			case int64:
				words[i] = fmt.Sprint(v)
				if columns[i].DatabaseTypeName() == "BOOLEAN" {
					words[i] = fmt.Sprintf("%t", v != 0)
				}
			default:
				words[i] = fmt.Sprint(v)
			}
		}
		fmt.Fprintf(b, "INSERT INTO %s (%s) VALUES (%s);\n", table, strings.Join(names, ", "), strings.Join(words, ", "))
	}
	must(t, rows.Err())
}
