package service

import (
	"context"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Store is what the service reads and writes; *store.DB is one. Every method
// is one transaction. ErrNotFound where an ID or name is not there.
type Store interface {
	VMs(ctx context.Context, vcenter string) ([]schedule.VM, error) // not gone; "" is every vCenter
	VM(ctx context.Context, id transfer.VMID) (schedule.VM, error)
	// Lags are the samples of these VMs since then, oldest first.
	Lags(ctx context.Context, vms []transfer.VMID, since time.Time) (map[transfer.VMID][]schedule.LagSample, error)

	Runs(ctx context.Context, q schedule.RunQuery) ([]schedule.Run, error)
	Run(ctx context.Context, id int64) (schedule.Run, error)
	Unended(ctx context.Context) ([]schedule.Run, error)
	Log(ctx context.Context, run, after int64, limit int) ([]schedule.LogLine, error) // Seq > after, ascending
	Points(ctx context.Context, vm transfer.VMID) ([]schedule.PointRow, error)        // newest first
	Events(ctx context.Context, after int64, limit int) ([]schedule.Event, error)     // ID > after, ascending
	LastEvent(ctx context.Context) (int64, error)                                     // the highest ID, 0 without any
	Deeds(ctx context.Context, before int64, limit int) ([]schedule.Deed, error)      // newest first; before 0 is the newest
	Alarms(ctx context.Context, cleared bool, limit int) ([]schedule.Alarm, error)    // newest first; open ones, or all
	// Rates are the fleet's samples since then, summed over the appliances in
	// steps of ten seconds, oldest first.
	Rates(ctx context.Context, since time.Time) ([]schedule.RateSample, error)
	Appliances(ctx context.Context) ([]schedule.Appliance, error)
	Limits(ctx context.Context) (schedule.Limits, error)
	SetLimits(ctx context.Context, l schedule.Limits) error

	// PolicyRows are all policies and where each comes from.
	PolicyRows(ctx context.Context) ([]schedule.PolicyRow, error)
	// SetFilePolicies makes those of origin "file" exactly these; one of origin
	// "api" with the same name is an error that names it.
	SetFilePolicies(ctx context.Context, ps []schedule.Policy) error
	// SavePolicy makes or replaces one of origin "api"; ErrConflict when the
	// file has one of that name.
	SavePolicy(ctx context.Context, p schedule.Policy) error
	DeletePolicy(ctx context.Context, name string) error // ErrConflict for one of the file

	Waves(ctx context.Context) ([]schedule.Wave, error)
	Wave(ctx context.Context, name string) (schedule.Wave, error)
	SaveWave(ctx context.Context, w schedule.Wave) error // makes or replaces; a VM is in one wave at most and leaves its old one
	DeleteWave(ctx context.Context, name string) error

	SetPaused(ctx context.Context, vm transfer.VMID, paused bool, why string) (changed bool, err error)
	// SetNext makes a VM due at an instant: a resumed one is planned anew.
	SetNext(ctx context.Context, vm transfer.VMID, at time.Time, why string) error
	Choose(ctx context.Context, vm transfer.VMID, policy string) error // "" takes the choice back
	// SetLifecycle moves a VM; ErrConflict unless it is in one of from.
	SetLifecycle(ctx context.Context, vm transfer.VMID, from []schedule.Lifecycle, to schedule.Lifecycle) error
	SetLaunch(ctx context.Context, vm transfer.VMID, l schedule.Launch) error

	Queue(ctx context.Context, w schedule.Wanted, at time.Time) (run schedule.Run, fresh bool, err error)
	// AskCancel marks the VM's run that has not ended, ending it at once when it
	// is still queued (ended true); ErrNotFound when there is none.
	AskCancel(ctx context.Context, vm transfer.VMID, at time.Time) (run int64, ended bool, err error)

	Record(ctx context.Context, e schedule.Event) error
	RecordDeed(ctx context.Context, d schedule.Deed) error
}
