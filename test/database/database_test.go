package database

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func connect(t *testing.T, url string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err == nil {
		t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

// Databases of one cluster know nothing of each other, and it takes a password.
func TestPostgres(t *testing.T) {
	ctx := context.Background()
	one, two := Postgres(t), Postgres(t)
	if one == two {
		t.Fatalf("two tests share %s", one)
	}
	a, err := connect(t, one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Exec(ctx, `CREATE TABLE t (i int)`); err != nil {
		t.Fatal(err)
	}
	b, err := connect(t, two)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Exec(ctx, `SELECT * FROM t`); err == nil {
		t.Fatal("a table of another database is seen")
	}
	if _, err := connect(t, strings.Replace(one, "s3cret", "wrong", 1)); err == nil {
		t.Fatal("a wrong password is taken")
	}
}

// What was committed before a kill -9 is there after it, on the same URL.
func TestCluster(t *testing.T) {
	ctx := context.Background()
	var dir string
	t.Run("runs", func(t *testing.T) {
		s := Cluster(t)
		dir = s.dir
		url := s.Database(t)
		c, err := connect(t, url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(ctx, `CREATE TABLE t AS SELECT 7 AS i`); err != nil {
			t.Fatal(err)
		}
		s.Stop(t)
		if _, err := c.Exec(ctx, `SELECT 1`); err == nil {
			t.Fatal("a session goes on although the server is stopped")
		}
		if _, err := connect(t, url); err == nil {
			t.Fatal("it answers although it is stopped")
		}
		s.Start(t)
		s.Restart(t)
		if c, err = connect(t, url); err != nil {
			t.Fatal(err)
		}
		var i int
		if err := c.QueryRow(ctx, `SELECT i FROM t`).Scan(&i); err != nil || i != 7 {
			t.Fatalf("read %d, %v", i, err)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("the cluster's files are still there: %v", err)
	}
}
