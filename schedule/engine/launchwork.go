package engine

import (
	"context"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// LaunchTask is one launch run to do.
type LaunchTask struct {
	Run schedule.LaunchRun
	VM  schedule.VM
	// Jobs are the VM's launches that are not over, newest first, whole. One
	// whose ID is Run.Job was begun by an earlier attempt at this very run.
	Jobs []schedule.LaunchJob
	// Save keeps a job, before anything is made that the job must know of. While
	// the database is away it waits, until ctx or the run's ends. Its error ends
	// the run; one that wraps ErrFenced means that this process is at its end,
	// and nothing may be done any more.
	Save func(ctx context.Context, j schedule.LaunchJob) error
	// Sync has the VM replicated once by the fleet, on whichever appliance and in
	// whichever lifecycle, and returns when that run ended; why is its trigger. A
	// run that has begun already when it is called may not hold what the source
	// wrote last: it is waited for, and another one made. The error is not nil
	// unless the run is done.
	Sync func(ctx context.Context, why string) (schedule.Run, error)
	// Event tells everybody (events, webhooks).
	Event func(ctx context.Context, kind schedule.EventKind, text string)
}

// LaunchWork is what one appliance can do about launches; the wiring joins
// package launch to it. All methods may be called side by side, for one VM by
// one at a time.
type LaunchWork interface {
	// Launch does an action, or goes on with it after a crash of anybody. It ends
	// soon after ctx does, leaving what it has made for the next who goes on; the
	// cause of ctx says whether that is wanted for good. The VM's lifecycle is the
	// caller's.
	Launch(ctx context.Context, t LaunchTask) error
	// EndOrphans ends tests whose time is over and that no job of known (by ID)
	// tells of: their tags in AWS do.
	EndOrphans(ctx context.Context, known func(job string) bool) error
}

// LaunchStore is what the engine needs of launches; *store.DB is one. Every
// method is one transaction.
type LaunchStore interface {
	// QueueLaunch makes a launch run unless the VM has one that has not ended;
	// then it returns that one and fresh is false. (A partial unique index is
	// the rule.)
	QueueLaunch(ctx context.Context, w schedule.LaunchWanted, at time.Time) (run schedule.LaunchRun, fresh bool, err error)
	// ClaimLaunch takes the oldest launch run of a VM of that vCenter in hand
	// that is queued, or whose appliance is this one (a crash of it) or is not
	// alive: epoch+1, state running, Started if it is zero. busy are those that
	// this process has in hand; they are left alone. The first claim sets
	// Before. ErrNotFound when there is none.
	ClaimLaunch(ctx context.Context, by transfer.ApplianceID, vcenter string, busy []int64, at time.Time) (schedule.LaunchRun, error)
	// SaveLaunchJob writes a job for a run, and its ID into the run (that of a
	// job which is over only if the run has none); ErrFenced when epoch is no
	// longer its own or it has ended. It returns whether somebody asked to cancel
	// the run.
	SaveLaunchJob(ctx context.Context, run, epoch int64, j schedule.LaunchJob) (cancel bool, err error)
	// FinishLaunch ends a run and moves its VM, both or neither; ErrFenced as
	// above.
	FinishLaunch(ctx context.Context, run, epoch int64, end schedule.LaunchEnd) error
	LaunchRun(ctx context.Context, id int64) (schedule.LaunchRun, error)
	LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error)
	// LaunchJobs are those that a query chooses, newest first; whole says whether
	// Doc is wanted.
	LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery, whole bool) ([]schedule.LaunchJob, error)
	LaunchJob(ctx context.Context, id string) (schedule.LaunchJob, error) // whole
	// Provings are the newest run with Wish.Prove of every VM that had one.
	Provings(ctx context.Context) ([]schedule.Proving, error)
	// SetLifecycle moves a VM; ErrConflict unless it is in one of from.
	SetLifecycle(ctx context.Context, vm transfer.VMID, from []schedule.Lifecycle, to schedule.Lifecycle) error
}
