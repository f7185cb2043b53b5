package database

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// SQLite is the URL of a file that is not there yet.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "snapferry.db")
}

// shared is the cluster of this process: all tests use it, each with databases
// of its own. It ends with the process.
var shared = sync.OnceValues(func() (*Server, error) { return newServer() })

// Postgres is the URL of an empty database in this process's cluster, which the
// first call starts. The database is dropped when the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

// Cluster starts a PostgreSQL for this test alone, which may stop it at will.
func Cluster(t testing.TB) *Server {
	t.Helper()
	s, err := newServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if err := s.admin(`CREATE DATABASE ` + name); err != nil {
		t.Fatalf("make database: %v\n%s", err, s.log())
	}
	t.Cleanup(func() {
		if s.running() { // else it goes with the cluster
			_ = s.admin(`DROP DATABASE IF EXISTS ` + name + ` WITH (FORCE)`)
		}
	})
	return s.url(name)
}

// admin runs a statement in the database "postgres".
func (s *Server) admin(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, statement)
	return err
}

// Password is that of every cluster's only user; a database's URL has it.
const Password = "s3cret/p@ss"

const user = "snapferry"

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", user, strings.NewReplacer("/", "%2F", "@", "%40").Replace(Password), s.port, database)
}
