package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // and the driver "sqlite" itself
	"github.com/jackc/pgx/v5/pgxpool"

	"snapferry/schedule"
	"snapferry/transfer"
)

const (
	// libraryName is that of the application in the library's tables.
	libraryName = "snapferry"
	// libraryVersion is a constant on purpose: the library's default, a hash of
	// the binary, would strand the runs of yesterday's version.
	libraryVersion = "1"
	replicateName  = "Replicate"
	// libraryConns is how many connections the library has for itself: its
	// listener, its poller, and checkpoints, which are short.
	libraryConns = 6
)

// library is what this package knows of DBOS: each appliance has one queue,
// listens to no other, and runs what is on it without a limit, since
// schedule.Admit has granted it.
type library struct {
	ctx   dbos.Context
	queue string
	log   *quiet
}

// granted is the input of the workflow of one run on one appliance.
type granted struct {
	Run int64         `json:"run"`
	VM  transfer.VMID `json:"vm"`
	// Dead is the appliance that had the run before and was lost; "" is none.
	Dead transfer.ApplianceID `json:"dead,omitempty"`
}

func queueOf(id transfer.ApplianceID) string { return "appliance/" + string(id) }

// workflowID names the workflow of a run. A run that was taken over has
// another for its new appliance: the old one must never be mistaken for it.
func workflowID(g granted, at time.Time) string {
	id := g.VM.VCenter + "/" + g.VM.Moref + "/" + strconv.FormatInt(g.Run, 10)
	if g.Dead != "" {
		id += "/" + strconv.FormatInt(at.UnixMilli(), 10)
	}
	return id
}

// openLibrary prepares the library's tables, this appliance's queue and the
// workflow; launch starts it.
func openLibrary(ctx context.Context, e *Engine) (*library, error) {
	l := &library{queue: queueOf(e.Appliance), log: &quiet{Handler: e.Log.Handler(), ended: &atomic.Bool{}}}
	c := dbos.Config{
		AppName: libraryName, ExecutorID: string(e.Appliance), ApplicationVersion: libraryVersion,
		Logger: slog.New(l.log), SchedulerPollingInterval: time.Hour, // there are no schedules
	}
	// The library closes what it is given when it ends: it gets its own.
	var err error
	if e.Pool != nil {
		c.SystemDBPool, err = libraryPool(ctx, e.Pool)
	} else {
		c.SQLiteSystemDB, err = librarySQLite(ctx, e.SQL)
	}
	if err == nil {
		err = e.alive.exclusive(ctx, "migrate library", func(ctx context.Context) error { return l.open(ctx, c, e) })
	}
	if err != nil {
		if c.SystemDBPool != nil {
			c.SystemDBPool.Close()
		}
		if c.SQLiteSystemDB != nil {
			c.SQLiteSystemDB.Close()
		}
		return nil, fmt.Errorf("open workflow library: %w", err)
	}
	return l, nil
}

func (l *library) open(ctx context.Context, c dbos.Config, e *Engine) (err error) {
	// Not ctx: it ends with the start, and the library's must not end but by
	// Shutdown, lest it cancels the workflows for good.
	if l.ctx, err = dbos.NewContext(context.WithoutCancel(ctx), c); err != nil {
		return err
	}
	if got := dbos.GetExecutorID(l.ctx); got != string(e.Appliance) || dbos.GetApplicationVersion(l.ctx) != libraryVersion {
		return errors.New("the environment has DBOS__VMID or DBOS__APPVERSION: unset them")
	}
	dbos.RegisterWorkflow(l.ctx, e.replicate, dbos.WithWorkflowName(replicateName),
		// Attempts are counted by the run's epoch; the library's own limit would
		// end a workflow without ending its run.
		dbos.WithMaxRecoveryAttempts(0))
	dbos.ListenQueues(l.ctx, l.queue)
	_, err = dbos.RegisterQueue(l.ctx, l.queue, dbos.WithQueueBasePollingInterval(e.Poll), dbos.WithQueueOnConflict(dbos.QueueConflictAlwaysUpdate))
	return err
}

// libraryPool is a small pool to the same database.
func libraryPool(ctx context.Context, from *pgxpool.Pool) (*pgxpool.Pool, error) {
	c := from.Config()
	c.MaxConns, c.MinConns, c.MinIdleConns = libraryConns, 0, 0
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), c)
}

// librarySQLite opens the same file once more. It waits for the write lock for
// longer than the store does: when its poller does not get it in time it polls
// half as often from then on, down to once in two minutes.
func librarySQLite(ctx context.Context, from *sql.DB) (*sql.DB, error) {
	path, err := sqliteFile(ctx, from)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_txlock=immediate&_pragma=busy_timeout(60000)&_pragma=foreign_keys(ON)&_pragma=synchronous(NORMAL)&_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(libraryConns)
	return db, nil
}

// launch starts the workflows: those that this appliance had begun before, and
// those that are granted to it from now on.
func (l *library) launch() error { return dbos.Launch(l.ctx) }

// close ends the library. No cycle runs any more.
func (l *library) close() error {
	l.log.ended.Store(true)
	// Each of its parts may take this long; cycles are over by then, so that
	// only short statements are left.
	if err := dbos.Shutdown(l.ctx, 10*time.Second); err != nil {
		return fmt.Errorf("stop workflow library: %w", err)
	}
	return nil
}

// enqueue writes the workflow of a grant with the grant's own transaction.
func (l *library) enqueue(tx any, g granted, on transfer.ApplianceID, at time.Time) error {
	_, err := dbos.Enqueue[string](l.ctx, queueOf(on), replicateName, g,
		dbos.WithEnqueueWorkflowID(workflowID(g, at)), dbos.WithEnqueueTransaction(tx))
	return err
}

// workflow is one that exists for a run.
type workflow struct {
	id     string
	status dbos.WorkflowStatusType
	queue  string
}

// workflows are those of a run, oldest first.
func (l *library) workflows(run schedule.Run) ([]workflow, error) {
	base := workflowID(granted{Run: run.ID, VM: run.VM}, time.Time{})
	all, err := dbos.ListWorkflows(l.ctx, dbos.WithFilterWorkflowIDPrefix(base), dbos.WithFilterLoadInput(false), dbos.WithFilterLoadOutput(false))
	if err != nil {
		return nil, fmt.Errorf("list workflows of run %d: %w", run.ID, err)
	}
	var of []workflow
	for _, w := range all {
		if w.ID == base || strings.HasPrefix(w.ID, base+"/") { // "…/12" is not of run 1
			of = append(of, workflow{id: w.ID, status: w.Status, queue: w.QueueName})
		}
	}
	return of, nil
}

// again makes a run's workflow one that this appliance will work on, whatever
// became of it; did is false when it is about to start anyway.
func (l *library) again(run schedule.Run) (did bool, err error) {
	all, err := l.workflows(run)
	if err != nil {
		return false, err
	}
	for _, w := range all {
		if w.status == dbos.WorkflowStatusEnqueued && w.queue == l.queue {
			return false, nil
		}
	}
	if n := len(all); n > 0 && all[n-1].queue == l.queue && open(all[n-1].status) {
		if _, err := dbos.ResumeWorkflows[string](l.ctx, []string{all[n-1].id}, dbos.WithResumeQueue(l.queue)); err != nil {
			return false, fmt.Errorf("resume run %d: %w", run.ID, err)
		}
		return true, nil
	}
	// None, or it ended although the run has not, or it is another appliance's.
	if err := l.forget(all); err != nil {
		return false, err
	}
	g := granted{Run: run.ID, VM: run.VM}
	if _, err := dbos.Enqueue[string](l.ctx, l.queue, replicateName, g, dbos.WithEnqueueWorkflowID(workflowID(g, time.Time{}))); err != nil {
		return false, fmt.Errorf("enqueue run %d again: %w", run.ID, err)
	}
	return true, nil
}

// open reports that a workflow can be resumed.
func open(s dbos.WorkflowStatusType) bool {
	return s != dbos.WorkflowStatusSuccess && s != dbos.WorkflowStatusError
}

func (l *library) forget(all []workflow) error {
	if len(all) == 0 {
		return nil
	}
	ids := make([]string, len(all))
	for i, w := range all {
		ids[i] = w.id
	}
	if err := dbos.DeleteWorkflows(l.ctx, ids); err != nil {
		return fmt.Errorf("delete workflows: %w", err)
	}
	return nil
}

// expire deletes the workflows that ended before then, a batch at a time.
func (l *library) expire(ctx context.Context, before time.Time) error {
	const batch = 500
	for ctx.Err() == nil {
		old, err := dbos.ListWorkflows(l.ctx, dbos.WithFilterLimit(batch), dbos.WithFilterLoadInput(false), dbos.WithFilterLoadOutput(false),
			dbos.WithFilterStatus(dbos.WorkflowStatusSuccess, dbos.WorkflowStatusError, dbos.WorkflowStatusCancelled), dbos.WithFilterCompletedBefore(before))
		if err != nil {
			return fmt.Errorf("list old workflows: %w", err)
		}
		gone := make([]workflow, len(old))
		for i, w := range old {
			gone[i] = workflow{id: w.ID}
		}
		if err := l.forget(gone); err != nil || len(old) < batch {
			return err
		}
	}
	return ctx.Err()
}

// quiet passes on what is at least a warning, until the library ends: it tells
// of each start and end, which our own log does in our words, and when it is
// stopped calls everything that it had begun an error.
type quiet struct {
	slog.Handler
	ended *atomic.Bool
}

func (q *quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && !q.ended.Load() && q.Handler.Enabled(ctx, l)
}

func (q *quiet) WithAttrs(a []slog.Attr) slog.Handler {
	return &quiet{q.Handler.WithAttrs(a), q.ended}
}

func (q *quiet) WithGroup(n string) slog.Handler { return &quiet{q.Handler.WithGroup(n), q.ended} }
