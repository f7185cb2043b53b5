package console

import (
	"context"

	"snapferry/schedule"
	"snapferry/transfer"
)

// LaunchBackend is what the console asks and tells of launches; *service.Service
// answers from the database, *Client from a daemon elsewhere.
type LaunchBackend interface {
	// Launch queues an action on VMs. Where a wave is named, or several VMs, all
	// of them are looked at before any begins: one that would be refused keeps
	// all from beginning, and the error names each that would be.
	Launch(ctx context.Context, by schedule.Actor, vms []transfer.VMID, wave string, action schedule.LaunchAction, wish schedule.LaunchWish) ([]schedule.Done, error)
	// PreviewLaunch is the dry run of one VM. It asks AWS, through the daemon;
	// ErrConflict where no daemon runs.
	PreviewLaunch(ctx context.Context, vm transfer.VMID, action schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error)
	CancelLaunch(ctx context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error)
	LaunchRun(ctx context.Context, id int64) (schedule.LaunchRun, error)
	LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error)
	// LaunchJobs are those that a query chooses, newest first, without Doc.
	LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error)
	LaunchJob(ctx context.Context, id string) (schedule.LaunchJob, error) // whole
}
