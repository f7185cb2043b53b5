package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Engine is one appliance's part in running cycles. Make it with New, run it
// once with Run.
type Engine struct {
	Config

	started time.Time
	lib     *library
	alive   alive
	die     func() // ends the heartbeat
	alone   func(ctx context.Context, name string, f func(context.Context) error) error

	kick  chan struct{} // cap 1: plan and admit now
	admit chan struct{} // cap 1: admit now
	take  chan struct{} // cap 1: take launch runs in hand now

	mu        sync.Mutex
	self      schedule.Appliance
	active    map[int64]*job // that this process works on
	launching map[int64]*launching
	idle      chan struct{} // closed when the last active one of a shutdown is gone
	stopping  bool
	ticked    time.Time // the planner's last whole tick
	seen      time.Time // the last inventory that succeeded
	seenErr   error
	sample    schedule.RateSample
	read, put int64 // bytes of jobs, since the last sample
	missed    map[int64]int

	fenceOnce sync.Once
	fencedErr atomic.Pointer[error]
	fenced    chan struct{}
}

// errStopping is the cause with which cycles are given up at a shutdown.
var errStopping = errors.New("the appliance is stopping; the run is carried on afterwards")

// New joins the fleet: it takes the appliance's place (on SQLite the file's
// lock), and carries on what this appliance had begun. ctx bounds the start
// alone. Call Run next; what New started ends with it.
func New(ctx context.Context, c Config) (*Engine, error) {
	c.defaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	e := &Engine{
		Config: c, started: c.Now(),
		kick: make(chan struct{}, 1), admit: make(chan struct{}, 1), take: make(chan struct{}, 1),
		active: map[int64]*job{}, launching: map[int64]*launching{}, missed: map[int64]int{},
		fenced: make(chan struct{}),
	}
	e.ticked = e.started // it is not late before its first tick is
	var err error
	if e.self, err = e.whoami(ctx); err != nil {
		return nil, err
	}
	if err := e.join(ctx); err != nil {
		return nil, err
	}
	if e.lib, err = openLibrary(ctx, e); err != nil {
		e.part(ctx)
		return nil, err
	}
	e.Kick()
	return e, nil
}

// whoami describes this appliance; as it was before where vCenter or AWS do not
// answer now, so that the service starts all the same.
func (e *Engine) whoami(ctx context.Context) (schedule.Appliance, error) {
	self, err := e.Work.Self(ctx)
	if err == nil {
		return e.complete(self), nil
	}
	all, _ := e.Store.Appliances(ctx)
	for _, a := range all {
		if a.ID == e.Appliance {
			e.Log.Warn("describe this appliance: it starts as it was", "error", err)
			return e.complete(a), nil
		}
	}
	return self, fmt.Errorf("describe this appliance: %w", err)
}

// complete fills in what Work does not know of this appliance.
func (e *Engine) complete(a schedule.Appliance) schedule.Appliance {
	a.ID, a.Version, a.Started, a.Seen, a.Alive = e.Appliance, e.Version, e.started, e.Now(), true
	return a
}

// join takes the appliance's place in the fleet and says so.
func (e *Engine) join(ctx context.Context) error {
	if e.Pool != nil {
		e.alive, e.alone = newSession(e), e.alonePostgres
	} else {
		e.alive, e.alone = &fileLock{e: e}, aloneAnyway
	}
	if err := e.alive.join(ctx); err != nil {
		return err
	}
	// It outlives all else: a cycle that winds up is still this appliance's.
	living, die := context.WithCancel(context.WithoutCancel(ctx))
	pulse := make(chan struct{})
	e.die = func() { die(); <-pulse }
	err := e.Store.SaveAppliance(ctx, e.me())
	go func() { defer close(pulse); e.alive.keep(living) }()
	if err == nil {
		_, err = e.Store.Clear(ctx, applianceKey(e.Appliance), e.Now())
	}
	if err == nil {
		err = e.Store.Record(ctx, schedule.Event{At: e.Now(), Kind: schedule.EventApplianceUp, Actor: string(e.Appliance),
			Text: fmt.Sprintf("appliance %s %s is here", e.Appliance, e.Version)})
	}
	if err != nil {
		e.part(ctx)
		return fmt.Errorf("join the fleet: %w", err)
	}
	return nil
}

// part leaves the fleet.
func (e *Engine) part(ctx context.Context) {
	e.die()
	e.alive.leave(context.WithoutCancel(ctx))
}

func (e *Engine) me() schedule.Appliance {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.self
	a.Seen, a.Draining = e.Now(), e.stopping
	return a
}

// Run works until ctx ends, then winds up: nothing new is taken, running
// cycles are given up in order and left for afterwards. It returns nil then,
// and an error when this process was fenced.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.lib.launch(); err != nil {
		e.part(ctx)
		return fmt.Errorf("start workflow library: %w", err)
	}
	loops, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	loop := func(every time.Duration, name string, f func(context.Context) error) {
		g.Go(func() error { e.every(loops, every, name, f); return nil })
	}
	g.Go(func() error { e.planner(loops); return nil })
	g.Go(func() error { e.admitter(loops); return nil })
	loop(e.InventoryEvery, "inventory", e.inventory)
	loop(e.CleanEvery, "clean up", e.clean)
	loop(e.WatchEvery, "watch", e.watch)
	loop(e.SampleEvery, "sample throughput", e.saveSample)
	loop(e.HistoryEvery, "expire history", e.expire)
	loop(e.Sweep, "look for orphans", e.sweep)
	if e.Launches != nil {
		g.Go(func() error { e.launcher(loops); return nil })
		loop(e.WatchEvery, "end tests and prove points", e.launchesDue)
		loop(e.CleanEvery, "end orphaned tests", e.endOrphans)
	}

	select {
	case <-ctx.Done():
	case <-e.fenced:
		return *e.fencedErr.Load()
	}
	stop()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Wait() }() // they return nil
	err := e.windUp(context.WithoutCancel(ctx), ended)
	if e.fencedErr.Load() == nil {
		e.part(ctx)
	}
	return err
}

// windUp ends what runs: the fleet is told first, so that nothing new comes.
func (e *Engine) windUp(ctx context.Context, loops <-chan struct{}) error {
	e.mu.Lock()
	e.stopping, e.idle = true, make(chan struct{})
	idle := e.idle
	if len(e.active) == 0 {
		close(e.idle)
	}
	for _, j := range e.active {
		j.stop(errStopping)
	}
	n := len(e.active)
	e.mu.Unlock()
	e.Log.Info("stopping", "running", n)
	if err := e.alive.present(ctx); err != nil {
		e.Log.Warn("say that this appliance stops", "error", err)
	}
	grace := time.NewTimer(e.Grace)
	defer grace.Stop()
	for _, over := range []<-chan struct{}{idle, loops} {
		select {
		case <-over:
		case <-e.fenced:
			return *e.fencedErr.Load()
		case <-grace.C:
			err := fmt.Errorf("stop: cycles, launches or the clean-up still run after %v; what they leave is cleaned up later", e.Grace)
			return errors.Join(err, e.lib.close())
		}
	}
	return e.lib.close()
}

// Kick makes the planner look now: somebody queued a run or a launch run, or
// changed what is wanted.
func (e *Engine) Kick() {
	poke(e.kick)
	poke(e.take)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way
	}
}

// fence ends this process: it never returns. What called it must not go on,
// nor tell the library how it ended.
func (e *Engine) fence(err error) {
	e.condemn(err)
	select {}
}

// condemn ends this process, as fence does, where Fenced ends it as it must.
func (e *Engine) condemn(err error) {
	e.fenceOnce.Do(func() {
		e.Log.Error("fenced: this process must end", "error", err)
		e.fencedErr.Store(&err)
		e.Fenced(err)
		close(e.fenced)
	})
}

// every calls f now and then, until ctx ends. Its errors are logged: the next
// time may go well.
func (e *Engine) every(ctx context.Context, d time.Duration, name string, f func(context.Context) error) {
	t := time.NewTicker(d)
	defer t.Stop()
	for ctx.Err() == nil {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn(name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// record writes an event; without it nothing goes wrong.
func (e *Engine) record(ctx context.Context, ev schedule.Event, data any) {
	ev.At = e.Now()
	if data != nil {
		ev.Data, _ = json.Marshal(data) // plain values
	}
	if err := bounded(ctx, func(ctx context.Context) error { return e.Store.Record(ctx, ev) }); err != nil {
		e.Log.Warn("record event", "kind", ev.Kind, "error", err)
	}
}

// Ready says why this appliance is not fit to work, nil when it is: the
// database answers, the planner ticks, the inventory is not old.
func (e *Engine) Ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := e.reach(ctx); err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Now()
	// Three periods: one may be slow, two are trouble.
	switch {
	case e.fencedErr.Load() != nil:
		return *e.fencedErr.Load()
	case e.stopping:
		return errStopping
	case now.Sub(e.ticked) > 3*e.Tick+dbTimeout:
		return fmt.Errorf("the planner has not ticked since %s", e.ticked.UTC().Format(time.RFC3339))
	case e.seen.IsZero() && e.seenErr != nil:
		return fmt.Errorf("take inventory: %w", e.seenErr)
	case e.seen.IsZero():
		return errors.New("the first inventory is not done yet")
	case now.Sub(e.seen) > 3*e.InventoryEvery && e.seenErr != nil:
		return fmt.Errorf("inventory is of %s: %w", e.seen.UTC().Format(time.RFC3339), e.seenErr)
	}
	return nil
}

func (e *Engine) reach(ctx context.Context) error {
	if e.Pool != nil {
		return e.Pool.Ping(ctx)
	}
	return e.SQL.PingContext(ctx)
}

func applianceKey(id transfer.ApplianceID) string { return "appliance/" + string(id) }
