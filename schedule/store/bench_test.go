package store_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

// BenchmarkFleet shows what methods cost with 2,000 VMs, 100,000 runs and 200
// runs under way, 200 more queued, in milliseconds.
func BenchmarkFleet(b *testing.B) {
	for kind, url := range map[string]func(testing.TB) string{"sqlite": database.SQLite, "postgres": database.Postgres} {
		b.Run(kind, func(b *testing.B) {
			db := open(b, url(b))
			large(b, db)
			for _, c := range methods(db) {
				b.Run(c.name, func(b *testing.B) {
					began, used := time.Now(), cpu(b)
					for b.Loop() {
						must(b, c.f(b))
					}
					b.ReportMetric(float64(time.Since(began).Microseconds())/float64(b.N)/1000, "ms")
					b.ReportMetric((cpu(b)-used).Seconds()*1000/float64(b.N), "cpu-ms")
					b.ReportMetric(0, "ns/op")
				})
			}
		})
	}
}

// cpu is what this process has used: on a busy machine it tells more than the
// clock, but not what PostgreSQL uses.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

type method struct {
	name string
	f    func(b *testing.B) error
}

func methods(db *store.DB) []method {
	seen, vm := machines(2000), id(1234)
	var planned []schedule.Planned
	for i := range 2000 {
		planned = append(planned, schedule.Planned{VM: id(i), Policy: "gold", Next: t0.Add(time.Duration(i) * time.Second)})
	}
	n := 0
	return []method{
		{"VMs", func(b *testing.B) error { _, err := db.VMs(b.Context(), ""); return err }},
		{"VM", func(b *testing.B) error { _, err := db.VM(b.Context(), vm); return err }},
		{"SaveInventory/same", func(b *testing.B) error { _, _, err := db.SaveInventory(b.Context(), vc, seen, t0); return err }},
		{"Plan/same", func(b *testing.B) error { return db.Plan(b.Context(), planned) }},
		{"Plan/all", func(b *testing.B) error {
			n++
			for i := range planned {
				planned[i].Why = fmt.Sprint(n)
			}
			return db.Plan(b.Context(), planned)
		}},
		{"DueVMs/50", func(b *testing.B) error {
			due, err := db.DueVMs(b.Context(), t0.Add(450*time.Second))
			if err == nil && len(due) != 51 {
				err = fmt.Errorf("%d are due", len(due))
			}
			return err
		}},
		{"Admit/400", func(b *testing.B) error {
			_, err := db.Admit(b.Context(), t0, func(s schedule.Scene) []schedule.Grant {
				if len(s.Active) != 200 || len(s.Queued) != 200 {
					b.Fatalf("%d active, %d queued", len(s.Active), len(s.Queued))
				}
				return nil
			}, nil)
			return err
		}},
		{"Unended/400", func(b *testing.B) error { _, err := db.Unended(b.Context()); return err }},
		{"Tell", func(b *testing.B) error { _, err := db.Tell(b.Context(), 100_001, 1, report(0), nil); return err }},
		{"QueueFinish", func(b *testing.B) error {
			r, _, err := db.Queue(b.Context(), schedule.Wanted{VM: vm}, t0)
			if err == nil {
				r, err = db.Claim(b.Context(), r.ID, "a", t0)
			}
			if err == nil {
				err = db.Finish(b.Context(), r.ID, r.Epoch, fullEnd())
			}
			return err
		}},
		{"Runs/50", func(b *testing.B) error { _, err := db.Runs(b.Context(), schedule.RunQuery{}); return err }},
		{"Runs/VM", func(b *testing.B) error { _, err := db.Runs(b.Context(), schedule.RunQuery{VM: &vm}); return err }},
		{"Runs/failed", func(b *testing.B) error {
			_, err := db.Runs(b.Context(), schedule.RunQuery{State: schedule.RunFailed})
			return err
		}},
		{"Claim/none", func(b *testing.B) error {
			_, err := db.ClaimLaunch(b.Context(), "a", vc, nil, t0)
			if errors.Is(err, schedule.ErrNotFound) {
				err = nil
			}
			return err
		}},
		{"Provings", func(b *testing.B) error { _, err := db.Provings(b.Context()); return err }},
		{"LaunchJobs/open", func(b *testing.B) error {
			_, err := db.LaunchJobs(b.Context(), schedule.LaunchJobQuery{Open: true, Limit: 10_000}, false)
			return err
		}},
		{"PolicyRows", func(b *testing.B) error { _, err := db.PolicyRows(b.Context()); return err }},
		{"Lags/100", func(b *testing.B) error {
			var ids []transfer.VMID
			for i := range 100 {
				ids = append(ids, id(i))
			}
			_, err := db.Lags(b.Context(), ids, t0.Add(-24*time.Hour))
			return err
		}},
		{"Expire/none", func(b *testing.B) error { return db.Expire(b.Context(), time.Unix(1, 0)) }},
	}
}

// large fills a database by SQL of its own: it is the history of months.
func large(b *testing.B, db *store.DB) {
	b.Helper()
	fleet(b, db, 2000)
	exec := func(text string, args ...any) {
		b.Helper()
		_, err := db.SQL().ExecContext(b.Context(), text, args...)
		must(b, err)
	}
	const count = `WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000) `
	text := `{"vm":{"vcenter":"","moref":""},"vmName":"app","cycle":"20260301T120000.000Z-00000000","step":"done","started":"2026-03-01T12:00:00Z","notes":["` + strings.Repeat("x", 1500) + `"]}`
	moref := `'vm-' || substr('000' || CAST(i % 2000 AS TEXT), length(CAST(i % 2000 AS TEXT)))`
	exec(`INSERT INTO run (vcenter, moref, vm_name, state, queued_ms, started_ms, ended_ms, epoch, report) ` + count +
		`SELECT '` + vc + `', ` + moref + `, 'app', CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'done' END, i * 1000, i * 1000, i * 1000 + 500, 1, '` + text + `' FROM c`)
	exec(`INSERT INTO lag_sample (vcenter, moref, at_ms, lag_ms) ` + count + `SELECT '` + vc + `', ` + moref + `, ` + fmt.Sprint(t0.UnixMilli()) + ` - i * 1000, 60000 FROM c`)
	exec(`INSERT INTO launch_run (vcenter, moref, vm_name, action, state, prove, queued_ms, started_ms, ended_ms, epoch, job) ` + count +
		`SELECT '` + vc + `', ` + moref + `, 'app', 'test', 'done', TRUE, i * 1000, i * 1000, i * 1000 + 500, 1, 'job-' || CAST(i AS TEXT) FROM c WHERE i <= 20000`)
	exec(`INSERT INTO launch_job (id, vcenter, moref, vm_name, purpose, state, made_ms, finished, doc) ` + count +
		`SELECT 'job-' || CAST(i AS TEXT), '` + vc + `', ` + moref + `, 'app', 'test', 'ended', i * 1000, i < 18000, '` + text + `' FROM c WHERE i <= 20000`)
	for i := range 400 {
		r := queue(b, db, i)
		if i >= 200 {
			continue
		}
		c := got[schedule.Run](b)(db.Claim(b.Context(), r.ID, "a", t0))
		_, err := db.Tell(b.Context(), r.ID, c.Epoch, report(i), nil)
		must(b, err)
	}
	if db.Kind() == store.PostgreSQL { // which does it by itself
		exec(`ANALYZE`)
	}
}
