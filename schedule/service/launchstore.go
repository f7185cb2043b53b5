package service

import (
	"context"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// LaunchStore is what the service reads and writes of launches; *store.DB is
// one. Every method is one transaction. ErrNotFound where an ID is not there.
type LaunchStore interface {
	QueueLaunch(ctx context.Context, w schedule.LaunchWanted, at time.Time) (run schedule.LaunchRun, fresh bool, err error)
	// AskCancelLaunch marks the VM's launch run that has not ended, ending it at
	// once when it is still queued (ended true); ErrNotFound when there is none.
	AskCancelLaunch(ctx context.Context, vm transfer.VMID, at time.Time) (run int64, ended bool, err error)
	LaunchRun(ctx context.Context, id int64) (schedule.LaunchRun, error)
	LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error)
	LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery, whole bool) ([]schedule.LaunchJob, error)
	LaunchJob(ctx context.Context, id string) (schedule.LaunchJob, error)
}
