package engine

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"snapferry/transfer"
)

// Config is what an engine is made of. Zero durations and numbers take the
// defaults that stand beside them.
type Config struct {
	Store Store
	// SQL is the store's database. Pool is the same as PostgreSQL's own pool; nil
	// says that the database is a SQLite file.
	SQL  *sql.DB
	Pool *pgxpool.Pool

	// Launches and Launcher are for launches; without both there are none.
	Launches LaunchStore
	Launcher LaunchWork

	Appliance transfer.ApplianceID // stable over restarts, unique in the fleet
	Version   string
	Work      Work
	Log       *slog.Logger     // nil is slog.Default
	Now       func() time.Time // nil is time.Now
	// Fenced is called, once, when this process has lost what it was doing to
	// another one. It must end the process at once and without clean-up, with an
	// exit code that makes the service manager start it again (3). What it was
	// called from never goes on. It must be set.
	Fenced func(error)

	Tick           time.Duration // of the planner; 5 s: policies are in minutes
	InventoryEvery time.Duration // 5 m: a new VM waits no longer for its policy
	CleanEvery     time.Duration // 10 m: a VM snapshot that was left grows
	WatchEvery     time.Duration // 1 m: alarms are about minutes
	SampleEvery    time.Duration // 10 s: the charts' step
	HistoryEvery   time.Duration // 1 h
	Keep           time.Duration // how old history gets; 90 days
	TellEvery      time.Duration // 2 s: how stale the progress that people see is
	// Poll is how often this appliance's queue of granted runs is looked at; 1 s.
	Poll time.Duration
	// Grace is how long running cycles may take to wind up at a shutdown; 15 m,
	// as long as transfer.DefaultCleanup, since consolidating a VM snapshot is
	// what takes.
	Grace time.Duration
	// Patience is how long a cycle goes on without the database; 5 m.
	Patience time.Duration
	// Attempts is how often a run is taken in hand before it fails; 20.
	Attempts int64
	// Sweep is how often runs that nobody works on are looked for; 15 s.
	Sweep time.Duration

	// LaunchesAtOnce is how many launch runs this appliance works on side by side;
	// 4: they mostly wait for EC2, but each converts a guest with a core and a GiB
	// of memory of its own for a minute or two, and sources are off meanwhile.
	LaunchesAtOnce int
	// ProofsAtOnce is how many proving tests are under way in the whole fleet; 2:
	// half of what one appliance launches, so that a person's launch never waits
	// for proofs alone. Of 20 minutes each that is more than a hundred a day.
	ProofsAtOnce int

	Liveness Liveness
}

// Liveness are the timings by which a fleet on PostgreSQL finds out that an
// appliance is gone. From kill -9 it takes Free and two Pings, from a freeze
// Silence besides: half a minute with the defaults.
type Liveness struct {
	// Ping is how often an appliance shows that it lives, and looks at the
	// others; 2 s.
	Ping time.Duration
	// Silence is after how long the server ends the session of an appliance that
	// does not ping, and its lock with it; 10 s: five pings.
	Silence time.Duration
	// Free is how long the lock must be free before another appliance takes
	// over; 15 s: restarting the database drops every session, and a restarted
	// appliance goes on with its own drafts, which no other can.
	Free time.Duration
	// Wait is how long a start waits for the lock of its own ID; 30 s: the
	// session of a process that was killed lasts for Silence at most.
	Wait time.Duration
}

func (c *Config) defaults() {
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Now == nil {
		c.Now = time.Now
	}
	set := func(d *time.Duration, to time.Duration) { *d = cmp.Or(*d, to) }
	set(&c.Tick, 5*time.Second)
	set(&c.InventoryEvery, 5*time.Minute)
	set(&c.CleanEvery, 10*time.Minute)
	set(&c.WatchEvery, time.Minute)
	set(&c.SampleEvery, 10*time.Second)
	set(&c.HistoryEvery, time.Hour)
	set(&c.Keep, 90*24*time.Hour)
	set(&c.TellEvery, 2*time.Second)
	set(&c.Poll, time.Second)
	set(&c.Grace, transfer.DefaultCleanup)
	set(&c.Patience, 5*time.Minute)
	set(&c.Sweep, 15*time.Second)
	c.Attempts = cmp.Or(c.Attempts, 20)
	c.LaunchesAtOnce = cmp.Or(c.LaunchesAtOnce, 4)
	c.ProofsAtOnce = cmp.Or(c.ProofsAtOnce, 2)
	set(&c.Liveness.Ping, 2*time.Second)
	set(&c.Liveness.Silence, 10*time.Second)
	set(&c.Liveness.Free, 15*time.Second)
	set(&c.Liveness.Wait, 30*time.Second)
}

func (c *Config) check() error {
	switch {
	case c.Store == nil || c.Work == nil:
		return errors.New("start engine: Store and Work are needed")
	case (c.Launches == nil) != (c.Launcher == nil):
		return errors.New("start engine: Launches and Launcher are needed both, or neither")
	case c.SQL == nil && c.Pool == nil:
		return errors.New("start engine: the database is needed")
	case c.Appliance == "":
		return errors.New("start engine: the appliance needs an ID")
	case c.Fenced == nil:
		return errors.New("start engine: Fenced is needed: a process that was fenced must end")
	case c.Liveness.Silence < 2*c.Liveness.Ping:
		return fmt.Errorf("start engine: liveness silence %v is less than two pings of %v", c.Liveness.Silence, c.Liveness.Ping)
	}
	return nil
}

// dbTimeout bounds one call to the database that somebody waits for. It is
// longer than SQLite's busy timeout of 5 s, and than a failover's hang.
const dbTimeout = 15 * time.Second

// bounded calls f with a context that ends in time for others.
func bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	return f(ctx)
}
