package console

import (
	"context"
	"io"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Backend is what the console asks and tells. *service.Service answers from
// the database; *Client from a daemon elsewhere: the command line works with
// either. Errors wrap schedule.ErrNotFound, ErrConflict or ErrInvalid where one
// of those is the cause.
type Backend interface {
	Overview(ctx context.Context) (schedule.Overview, error)
	VMs(ctx context.Context, q schedule.VMQuery) (schedule.VMPage, error)
	VM(ctx context.Context, id transfer.VMID) (schedule.VMDetail, error)
	// Resolve finds VMs by inventory path, name, moref or instance UUID; a name
	// that several have is an error that lists them.
	Resolve(ctx context.Context, names []string) ([]transfer.VMID, error)
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
	ExportCSV(ctx context.Context, w io.Writer) error

	Pause(ctx context.Context, by schedule.Actor, vms []transfer.VMID, why string) ([]schedule.Done, error)
	Resume(ctx context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error)
	Sync(ctx context.Context, by schedule.Actor, vms []transfer.VMID, seed bool) ([]schedule.Done, error)
	Cancel(ctx context.Context, by schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error)
	// Mark moves VMs in their lifecycle: "ready-for-cutover", "ready-for-test"
	// (taking that back), "disconnect", "reconnect".
	Mark(ctx context.Context, by schedule.Actor, vms []transfer.VMID, as string) ([]schedule.Done, error)
	Choose(ctx context.Context, by schedule.Actor, vms []transfer.VMID, policy string) ([]schedule.Done, error)
	SetLaunch(ctx context.Context, by schedule.Actor, vm transfer.VMID, l schedule.Launch) error
	SavePolicy(ctx context.Context, by schedule.Actor, p schedule.Policy) error
	DeletePolicy(ctx context.Context, by schedule.Actor, name string) error
	SaveWave(ctx context.Context, by schedule.Actor, w schedule.Wave) error
	DeleteWave(ctx context.Context, by schedule.Actor, name string) error
	// ActOnWave does "pause", "resume", "sync", "cancel", "cancel-launch", a Mark
	// or an action of launches, without wishes, to all of it.
	ActOnWave(ctx context.Context, by schedule.Actor, name, action string) ([]schedule.Done, error)
	// ImportCSV is all or nothing: a line that makes no sense changes nothing.
	ImportCSV(ctx context.Context, by schedule.Actor, r io.Reader) ([]schedule.Done, error)
	// RecordDeed writes the audit log.
	RecordDeed(ctx context.Context, d schedule.Deed) error
}
