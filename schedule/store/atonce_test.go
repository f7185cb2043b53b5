package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

// insertIn writes with the transaction that Admit hands on, as the workflow
// library does.
func insertIn(ctx context.Context, tx any, run int64) (err error) {
	const text = `INSERT INTO enqueued (run) VALUES ($1)`
	switch tx := tx.(type) {
	case pgx.Tx:
		_, err = tx.Exec(ctx, text, run)
	case *sql.Tx:
		_, err = tx.ExecContext(ctx, text, run)
	default:
		err = fmt.Errorf("transaction of type %T", tx)
	}
	return err
}

// Appliances that admit at once, each with connections of its own, hold the
// limits together.
func TestAdmitAtOnce(t *testing.T) {
	for kind, url := range map[string]func(testing.TB) string{"sqlite": database.SQLite, "postgres": database.Postgres} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const vms, most, appliances = 60, 7, 4
			where := url(t)
			first := open(t, where)
			fleet(t, first, vms)
			for i := range vms {
				queue(t, first, i)
			}
			var wg sync.WaitGroup
			var mu sync.Mutex
			done := map[int64]int{}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			for a := range appliances {
				db := open(t, where)
				wg.Go(func() {
					name := transfer.ApplianceID(fmt.Sprint(a))
					for {
						left, err := admitAndWork(ctx, db, name, most, func(run int64) {
							mu.Lock()
							defer mu.Unlock()
							done[run]++
						})
						if err != nil {
							if ctx.Err() == nil {
								t.Error(err)
							}
							stop() // what one leaves the others would wait for
							return
						}
						if left == 0 {
							return
						}
					}
				})
			}
			wg.Wait()
			equal(t, "runs that were granted", len(done), vms)
			for run, n := range done {
				if n != 1 {
					t.Errorf("run %d was granted %d times", run, n)
				}
			}
			equal(t, "left", len(got[[]schedule.Run](t)(first.Unended(t.Context()))), 0)
		})
	}
}

// admitAndWork grants as far as most runs go, does those and returns how many
// were queued.
func admitAndWork(ctx context.Context, db *store.DB, name transfer.ApplianceID, most int, did func(int64)) (left int, err error) {
	over := 0
	grants, err := db.Admit(ctx, t0, func(s schedule.Scene) (g []schedule.Grant) {
		left, over = len(s.Queued), len(s.Active)-most
		for _, p := range s.Queued[:min(len(s.Queued), max(0, most-len(s.Active)), 3)] {
			g = append(g, schedule.Grant{Run: p.Run, VM: p.VM, Appliance: name})
		}
		return g
	}, func(context.Context, any, schedule.Grant) error { return nil })
	if err == nil && over > 0 {
		err = fmt.Errorf("%d runs over the limit of %d", over, most)
	}
	for _, g := range grants {
		if err != nil {
			break
		}
		did(g.Run)
		var r schedule.Run
		if r, err = db.Claim(ctx, g.Run, name, t0); err == nil {
			_, err = db.Tell(ctx, r.ID, r.Epoch, report(0), nil)
		}
		if err == nil {
			err = db.Finish(ctx, r.ID, r.Epoch, schedule.End{State: schedule.RunDone, At: t0})
		}
	}
	return left, err
}

// Who follows the events misses none, however many write them at once.
func TestEventsAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		const writers, each = 8, 25
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range each {
					if err := db.Record(ctx, schedule.Event{At: t0, Kind: schedule.EventRunEnd, Text: "x"}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		finished := make(chan struct{})
		go func() { wg.Wait(); close(finished) }()
		var last int64
		seen := 0
		for more := true; more; {
			select {
			case <-finished:
				more = false // one last look
			default:
			}
			for _, e := range got[[]schedule.Event](t)(db.Events(ctx, last, 1000)) {
				last = e.ID
				seen++
			}
		}
		equal(t, "events seen", seen, writers*each)
		equal(t, "last", got[int64](t)(db.LastEvent(ctx)), last)
	})
}

// Everybody writes at once and nobody waits for ever: the store's own writers,
// and another that has the file open, as the workflow library does.
func TestWritersTakeTurns(t *testing.T) {
	for kind, url := range map[string]func(testing.TB) string{"sqlite": database.SQLite, "postgres": database.Postgres} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			where := url(t)
			db, other := open(t, where), open(t, where)
			fleet(t, db, 16)
			var wg sync.WaitGroup
			for i := range 16 {
				with := db
				if i%4 == 0 {
					with = other
				}
				wg.Go(func() {
					for range 5 {
						r, _, err := with.Queue(t.Context(), wanted(i), t0)
						if err == nil {
							r, err = with.Claim(t.Context(), r.ID, "a", t0)
						}
						if err == nil {
							_, err = with.VMs(t.Context(), "")
						}
						if err == nil {
							err = with.Plan(t.Context(), []schedule.Planned{{VM: id(i), Policy: "p", Next: t0}, {VM: id(15 - i), Policy: fmt.Sprint(r.ID), Next: t0}})
						}
						if err == nil {
							err = with.Finish(t.Context(), r.ID, r.Epoch, schedule.End{State: schedule.RunDone, At: t0})
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
