package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, database.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, database.Postgres(t)) })
}

func openStore(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// brisk are timings for tests.
func brisk(c *engine.Config) {
	c.Tick, c.TellEvery, c.Poll = 300*time.Millisecond, 150*time.Millisecond, 100*time.Millisecond
	c.InventoryEvery, c.WatchEvery, c.CleanEvery = 500*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	c.SampleEvery, c.Sweep = time.Second, 500*time.Millisecond
	c.Grace = 20 * time.Second
	c.Liveness = engine.Liveness{Ping: 200 * time.Millisecond, Silence: 3 * time.Second, Free: 2 * time.Second, Wait: 15 * time.Second}
}

// host is an engine that runs in this process.
type host struct {
	*engine.Engine
	rig    *rig
	db     *store.DB
	fenced chan error
	end    func() error // stops it and waits
}

// start runs an engine until the test ends.
func start(t testing.TB, url string, s *site, edit func(*engine.Config)) *host {
	t.Helper()
	h, err := tryStart(t, url, s, edit)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func tryStart(t testing.TB, url string, s *site, edit func(*engine.Config)) (*host, error) {
	t.Helper()
	r, err := newRig(s)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{rig: r, db: openStore(t, url), fenced: make(chan error, 1)}
	c := engine.Config{
		Store: h.db, SQL: h.db.SQL(), Pool: h.db.Pool(), Appliance: transfer.ApplianceID(s.Appl), Version: "test", Work: r,
		Log: logger(t), Fenced: func(err error) { h.fenced <- err },
	}
	brisk(&c)
	if edit != nil {
		edit(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if h.Engine, err = engine.New(ctx, c); err != nil {
		cancel()
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := h.end(); err != nil && !errors.Is(err, engine.ErrFenced) {
			t.Errorf("engine ended: %v", err)
		}
		for _, b := range r.broken {
			t.Error(b)
		}
		if t.Failed() {
			h.report(t)
		}
	})
	return h, nil
}

// report says what did not go well: a test that waits for what never comes has
// seen nothing of it.
func (h *host) report(t testing.TB) {
	ctx := context.Background() // the test's is over
	all, err := h.db.Runs(ctx, schedule.RunQuery{Limit: 500})
	for _, r := range all {
		if r.State != schedule.RunDone {
			t.Logf("run %d of %s is %s: %s: %s", r.ID, r.VMName, r.State, r.Reason, r.Error)
		}
	}
	launches, err2 := h.db.LaunchRuns(ctx, schedule.LaunchQuery{Limit: 500})
	for _, r := range launches {
		if r.State != schedule.RunDone {
			t.Logf("launch run %d (%s) of %s is %s: %s", r.ID, r.Action, r.VMName, r.State, r.Error)
		}
	}
	if err := errors.Join(err, err2); err != nil {
		t.Logf("%v", err)
	}
}

// logger writes where the test's failure is shown.
func logger(t testing.TB) *slog.Logger {
	if os.Getenv("SNAPFERRY_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("test", t.Name())
}

// eventually waits until f holds; on a busy machine for longer than d.
func eventually(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * d)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", 3*d, what)
		}
		time.Sleep(50 * time.Millisecond) // each look costs the database what an engine does
	}
}

// seldom is an interval of which no test sees a second slot: slots lie on the
// clock, and one of every ten minutes falls into a test now and then.
const seldom = 90 * 24 * time.Hour

// policy makes one policy the fleet's, for all VMs.
func policy(t testing.TB, db *store.DB, every time.Duration) {
	t.Helper()
	none := schedule.Duration(0)
	p := schedule.Policy{Name: "all", Every: schedule.Duration(every), Jitter: &none, Match: []schedule.Match{{Name: "*"}}}
	if err := db.SetFilePolicies(context.Background(), []schedule.Policy{p}); err != nil {
		t.Fatal(err)
	}
}

func limits(t testing.TB, db *store.DB, l schedule.Limits) {
	t.Helper()
	if err := db.SetLimits(context.Background(), l); err != nil {
		t.Fatal(err)
	}
}

func runs(t testing.TB, db *store.DB, q schedule.RunQuery) []schedule.Run {
	t.Helper()
	q.Limit = 500
	all, err := db.Runs(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func done(t testing.TB, db *store.DB) int {
	return len(runs(t, db, schedule.RunQuery{State: schedule.RunDone}))
}

func vmID(i int) transfer.VMID {
	return transfer.VMID{VCenter: vcenter, Moref: fmt.Sprintf("vm-%d", i)}
}

func getVM(t testing.TB, db *store.DB, i int) schedule.VM {
	t.Helper()
	vm, err := db.VM(context.Background(), vmID(i))
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// sampler looks at the database all the time and notes broken limits.
type sampler struct {
	looks atomic.Int64
	most  atomic.Int64
	stop  func()
	mu    sync.Mutex
	bad   []string
}

func sample(t testing.TB, db *store.DB, s *site, l schedule.Limits) *sampler {
	sm := &sampler{}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil {
			if all, err := db.Unended(ctx); err == nil {
				sm.check(all, s, l)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	sm.stop = sync.OnceFunc(func() { cancel(); <-gone })
	t.Cleanup(func() {
		sm.stop()
		if len(sm.bad) > 0 {
			t.Errorf("limits were broken in %d of %d looks: %s", len(sm.bad), sm.looks.Load(), sm.bad[0])
		}
	})
	return sm
}

func (sm *sampler) check(all []schedule.Run, s *site, l schedule.Limits) {
	sm.looks.Add(1)
	hosts, stores, appls, vms := map[string]int{}, map[string]int{}, map[transfer.ApplianceID]int{}, map[transfer.VMID]int{}
	n := 0
	for _, r := range all {
		vms[r.VM]++
		if r.State == schedule.RunQueued {
			continue
		}
		n++
		var i int
		fmt.Sscanf(r.VM.Moref, "vm-%d", &i)
		vm := s.vm(i)
		hosts[vm.Host]++
		stores[vm.Disks[0].Datastore]++
		appls[r.Appliance]++
	}
	sm.most.Store(max(sm.most.Load(), int64(n)))
	sm.mu.Lock()
	defer sm.mu.Unlock()
	over := func(what string, n, limit int) {
		if limit > 0 && n > limit {
			sm.bad = append(sm.bad, fmt.Sprintf("%s: %d of %d", what, n, limit))
		}
	}
	over("vCenter", n, l.PerVCenter)
	for k, v := range hosts {
		over("host "+k, v, l.PerHost)
	}
	for k, v := range stores {
		over("datastore "+k, v, l.PerDatastore)
	}
	for k, v := range appls {
		over("appliance "+string(k), v, l.PerAppliance)
	}
	for k, v := range vms {
		over("runs of "+k.String(), v, 1)
	}
}

// ends counts the events that end runs; each run may have one.
func ends(t testing.TB, db *store.DB) map[int64]int {
	t.Helper()
	n := map[int64]int{}
	for _, e := range events(t, db) {
		if slices.Contains([]schedule.EventKind{schedule.EventRunEnd, schedule.EventRunFail, schedule.EventRunCancelled}, e.Kind) {
			n[e.Run]++
		}
	}
	return n
}

func events(t testing.TB, db *store.DB, kinds ...schedule.EventKind) (all []schedule.Event) {
	t.Helper()
	for after := int64(0); ; {
		some, err := db.Events(context.Background(), after, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return all
		}
		after = some[len(some)-1].ID
		for _, e := range some {
			if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
				all = append(all, e)
			}
		}
	}
}

func alarms(t testing.TB, db *store.DB, prefix string) (all []schedule.Alarm) {
	t.Helper()
	open, err := db.OpenAlarms(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(open, func(a schedule.Alarm) bool { return !strings.HasPrefix(a.Key, prefix) })
}
