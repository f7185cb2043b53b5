package web

import (
	"context"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Backend is what the pages ask: the reading half of console.Backend, method
// for method. An error that wraps schedule.ErrNotFound becomes a page that says
// so with status 404.
type Backend interface {
	Overview(ctx context.Context) (schedule.Overview, error)
	VMs(ctx context.Context, q schedule.VMQuery) (schedule.VMPage, error)
	VM(ctx context.Context, id transfer.VMID) (schedule.VMDetail, error)
	Runs(ctx context.Context, q schedule.RunQuery) ([]schedule.Run, error)
	Run(ctx context.Context, id int64) (schedule.Run, error)
	RunLog(ctx context.Context, run, after int64, limit int) ([]schedule.LogLine, error)
	Events(ctx context.Context, after int64, limit int) ([]schedule.Event, error)
	LastEvent(ctx context.Context) (int64, error)
	Alarms(ctx context.Context, cleared bool, limit int) ([]schedule.Alarm, error)
	Deeds(ctx context.Context, before int64, limit int) ([]schedule.Deed, error)
	Policies(ctx context.Context) ([]schedule.PolicyRow, error)
	Waves(ctx context.Context) ([]schedule.Wave, error)
	Settings(ctx context.Context) (schedule.Settings, error)
}
