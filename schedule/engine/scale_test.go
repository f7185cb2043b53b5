package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/test/database"
	"snapferry/transfer"
)

// idler is a Work whose cycles only take their time.
type idler struct {
	*rig
	length time.Duration
	n      atomic.Int64
}

func (w *idler) Cycle(ctx context.Context, job engine.Job, p *transfer.Progress, logf func(level, text string)) (transfer.Report, error) {
	w.enter(job.VM.Name, 1)
	defer w.enter(job.VM.Name, -1)
	w.n.Add(1)
	r := p.Report()
	r.VM, r.VMName, r.Cycle, r.Frozen = job.VM.ID, job.VM.Name, transfer.NewCycleID(time.Now()), time.Now()
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-time.After(w.length):
	}
	logf("info", "took its time")
	r.Ended, r.Outcome, r.Point, r.Step = time.Now(), transfer.OutcomePoint, r.Cycle, transfer.StepDone
	return r, nil
}

// ticks is a log that listens to the planner.
type ticks struct {
	slog.Handler
	mu   sync.Mutex
	took []time.Duration
}

func (h *ticks) Enabled(context.Context, slog.Level) bool { return true }

func (h *ticks) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "planned" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool { h.took = append(h.took, a.Value.Duration()); return false })
	return nil
}

// median is that of the ticks since the last call, and how many there were.
func (h *ticks) median() (time.Duration, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.took)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(h.took)
	m := h.took[n/2]
	h.took = nil
	return m, n
}

// One appliance on SQLite with 2,000 VMs on 100 hosts: limits hold exactly and
// all of them are made use of; what it takes is logged.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	vms, hosts := 2000, 100
	s := &site{Dir: t.TempDir(), Count: vms, Hosts: hosts, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	l := schedule.Limits{PerVCenter: 60, PerHost: 4, PerDatastore: 16, PerAppliance: 64, Disks: 64, Drafts: 95}
	if underRace { // everything takes ten times as long
		vms, s.Count, l.PerVCenter = 200, 200, 8
	}
	narrow := l
	narrow.PerVCenter = 1
	limits(t, db, narrow) // until all are queued
	mixed(t, db)
	var w *idler
	log := &ticks{Handler: slog.DiscardHandler}
	h := start(t, url, s, func(c *engine.Config) {
		w = &idler{rig: c.Work.(*rig), length: time.Second}
		c.Work, c.Log = w, slog.New(log)
		c.Tick, c.TellEvery = time.Second, 2*time.Second
		c.InventoryEvery, c.WatchEvery, c.CleanEvery, c.Sweep = time.Minute, 2*time.Second, time.Minute, time.Second
		c.Poll = 100 * time.Millisecond
	})
	look := sample(t, db, s, l)
	eventually(t, 60*time.Second, "all are queued", func() bool {
		newest, err := db.Runs(ctx, schedule.RunQuery{Limit: 1})
		return err == nil && len(newest) == 1 && newest[0].ID >= int64(vms)
	})
	limits(t, db, l)
	eventually(t, 60*time.Second, "it works at its limit", func() bool { return w.running() >= l.PerVCenter-5 })
	log.median()
	began, n := time.Now(), w.n.Load()
	eventually(t, 40*time.Second, "two rounds of runs", func() bool { return w.n.Load() >= n+2*int64(l.PerVCenter) })
	rate := float64(w.n.Load()-n) / time.Since(began).Seconds()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	tick, _ := log.median()
	t.Logf("%d VMs: %.0f runs/s with room for %d at once, at most %d; the planner takes %v (median); heap %d MiB; limits looked at %d times",
		vms, rate, l.PerVCenter, look.most.Load(), tick.Round(time.Millisecond), mem.HeapInuse>>20, look.looks.Load())
	if err := h.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	look.stop()
	if most := w.peak(); most > l.PerVCenter {
		t.Errorf("%d cycles ran at once, and %d may", most, l.PerVCenter)
	}
	if tick > 5*time.Second { // on a busy machine; an idle one takes some hundredths of it
		t.Errorf("a tick of the planner takes %v", tick)
	}
	if mem.HeapInuse > 600<<20 {
		t.Errorf("the heap is %d MiB", mem.HeapInuse>>20)
	}
}

// mixed are three policies that share the VMs.
func mixed(t *testing.T, db interface {
	SetFilePolicies(context.Context, []schedule.Policy) error
}) {
	t.Helper()
	none := schedule.Duration(0)
	var all []schedule.Policy
	for i, p := range []schedule.Policy{{Every: schedule.Duration(15 * time.Minute)}, {Cron: "*/30 * * * *"}, {Adaptive: &schedule.Adaptive{Floor: schedule.Duration(5 * time.Minute), Ceiling: schedule.Duration(time.Hour)}}} {
		p.Name, p.Jitter, p.Priority = fmt.Sprint("p", i), &none, i
		for d := i; d < 10; d += 3 {
			p.Match = append(p.Match, schedule.Match{Name: fmt.Sprintf("app*%d", d)})
		}
		all = append(all, p)
	}
	if err := db.SetFilePolicies(context.Background(), slices.Clip(all)); err != nil {
		t.Fatal(err)
	}
}
