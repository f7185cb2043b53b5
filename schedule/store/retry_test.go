package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

func TestIsTemporary(t *testing.T) {
	pg := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{pg("40001"), true}, {pg("40P01"), true}, {pg("57P01"), true}, {pg("57P03"), true}, {pg("53300"), true}, {pg("08006"), true}, {pg("25P03"), true}, {pg("25006"), true},
		{pg("23505"), false}, {pg("42P01"), false}, {pg("28P01"), false}, {pg("57014"), false}, {pg(""), false},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true}, {&net.OpError{Op: "dial", Err: errors.New("refused")}, true}, {net.ErrClosed, true},
		{context.DeadlineExceeded, true}, {context.Canceled, false}, {fmt.Errorf("%w: %w", context.Canceled, io.EOF), false},
		{schedule.ErrFenced, false}, {schedule.ErrNotFound, false}, {sql.ErrNoRows, false}, {errors.New("x"), false},
	} {
		if got := store.IsTemporary(c.err); got != c.want {
			t.Errorf("IsTemporary(%v) = %v", c.err, got)
		}
	}
}

// A database that is restarted is not noticed but by who asks while it is away.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := database.Cluster(t)
	db := open(t, server.Database(t))
	fleet(t, db, 3)
	r := start(t, db, 0)
	server.Restart(t)
	_, err := db.Tell(t.Context(), r.ID, r.Epoch, report(0), nil)
	must(t, err)
	server.Restart(t)
	queue(t, db, 1)
	server.Stop(t)
	_, err = db.VMs(t.Context(), "")
	if !store.IsTemporary(err) {
		t.Errorf("read without a server: %v", err)
	}
	if err := db.Finish(t.Context(), r.ID, r.Epoch, fullEnd()); !store.IsTemporary(err) {
		t.Errorf("write without a server: %v", err)
	}
	server.Start(t)
	must(t, db.Finish(t.Context(), r.ID, r.Epoch, fullEnd()))
}

// Transactions that are in each other's way are done again.
func TestSerializationFailure(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := open(t, database.Postgres(t))
	fleet(t, db, 2)
	r := start(t, db, 1)
	_, err := db.SQL().ExecContext(ctx, `CREATE SEQUENCE tries;
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('snapferry.tries') % 3 <> 0 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON run FOR EACH ROW EXECUTE FUNCTION refuse()`)
	must(t, err)
	queue(t, db, 0)
	_, err = db.Tell(ctx, r.ID, r.Epoch, report(1), nil)
	must(t, err)
	must(t, db.Finish(ctx, r.ID, r.Epoch, fullEnd()))
	var tries int
	must(t, db.SQL().QueryRowContext(ctx, `SELECT last_value FROM tries`).Scan(&tries))
	equal(t, "tries", tries, 9)
}

// An appliance that freezes in the middle of an admission does not keep the
// others from theirs.
func TestFrozenAdmission(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := database.Postgres(t)
	frozen, other := open(t, url+"&idle_in_transaction_session_timeout=300ms"), open(t, url)
	fleet(t, other, 1)
	r := queue(t, other, 0)
	grants := func(s schedule.Scene) (g []schedule.Grant) {
		for _, p := range s.Queued {
			g = append(g, schedule.Grant{Run: p.Run, VM: p.VM, Appliance: "a"})
		}
		return g
	}
	enqueue := func(context.Context, any, schedule.Grant) error { return nil }
	inside, thaw := make(chan struct{}), make(chan struct{})
	type answer struct {
		grants []schedule.Grant
		err    error
	}
	answers := make(chan answer, 1)
	tries := 0
	go func() {
		g, err := frozen.Admit(ctx, t0, func(s schedule.Scene) []schedule.Grant {
			if tries++; tries == 1 {
				close(inside)
				<-thaw
			}
			return grants(s)
		}, enqueue)
		answers <- answer{g, err}
	}()
	<-inside
	granted, err := other.Admit(ctx, t0, grants, enqueue)
	must(t, err)
	equal(t, "granted by the other", len(granted), 1)
	close(thaw)
	a := <-answers
	must(t, a.err)
	equal(t, "granted by the frozen one", len(a.grants), 0)
	equal(t, "how often it decided", tries, 2)
	equal(t, "run", got[schedule.Run](t)(other.Run(ctx, r.ID)).Appliance, transfer.ApplianceID("a"))
}

// Somebody else that holds the file for long is a temporary trouble.
func TestBusyFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := open(t, database.SQLite(t))
	fleet(t, db, 1)
	other, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(db.String(), "sqlite:")+"?_txlock=immediate&_pragma=busy_timeout(0)")
	must(t, err)
	defer other.Close()
	held, err := db.SQL().BeginTx(ctx, nil)
	must(t, err)
	defer held.Rollback()
	_, err = other.BeginTx(ctx, nil)
	if !store.IsTemporary(err) {
		t.Errorf("a busy file: %v", err)
	}
	// Readers do not care, writers wait until it is free.
	got[schedule.VM](t)(db.VM(ctx, id(0)))
	done := make(chan error, 1)
	go func() { done <- db.SetNext(ctx, id(0), t0, "") }()
	select {
	case err := <-done:
		t.Fatalf("written while another wrote: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, held.Rollback())
	must(t, <-done)
}

// A writer that gives up while it waits for its turn leaves nothing behind.
func TestWaitForTurn(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 2)
		queue(t, db, 0)
		short, cancel := context.WithCancel(ctx)
		defer cancel()
		_, err := db.Admit(ctx, t0, func(schedule.Scene) []schedule.Grant {
			done := make(chan error)
			go func() {
				_, err := db.Admit(short, t0, func(schedule.Scene) []schedule.Grant { return nil }, nil)
				done <- err
			}()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("admission that gave up: %v", err)
			}
			return nil
		}, nil)
		must(t, err)
		queue(t, db, 1)
	})
}
