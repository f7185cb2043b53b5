package engine

import (
	"context"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

var (
	// ErrFenced: the run was ended or taken over; the caller must stop writing
	// at once.
	ErrFenced = schedule.ErrFenced
	// ErrNotFound: there is no such thing.
	ErrNotFound = schedule.ErrNotFound
)

// Store is the truth that the engine works on; *store.DB is one. Every method
// is one transaction.
type Store interface {
	// SaveInventory makes the VMs of one vCenter what seen says: new ones are
	// added as not ready, those that are missing are marked as gone, those that
	// came back are not. It touches nothing else of a VM.
	SaveInventory(ctx context.Context, vcenter string, seen []transfer.VM, at time.Time) (added, gone []transfer.VMID, err error)
	// VMs are all VMs of a vCenter that are not gone; "" is every vCenter.
	VMs(ctx context.Context, vcenter string) ([]schedule.VM, error)
	VM(ctx context.Context, id transfer.VMID) (schedule.VM, error)
	// DueVMs are those that are not paused, not gone, have a policy, replicate
	// in their lifecycle, have no run that has not ended, and whose Next is set
	// and not after at.
	DueVMs(ctx context.Context, at time.Time) ([]schedule.VM, error)
	// Plan sets policy and due time of many VMs at once.
	Plan(ctx context.Context, planned []schedule.Planned) error

	Policies(ctx context.Context) ([]schedule.Policy, error)
	Limits(ctx context.Context) (schedule.Limits, error)

	// Queue makes a run unless the VM has one that has not ended; then it
	// returns that one and fresh is false. (A partial unique index is the rule.)
	Queue(ctx context.Context, w schedule.Wanted, at time.Time) (run schedule.Run, fresh bool, err error)
	// Admit reads the scene, lets decide choose, and writes the grants (state
	// starting, the appliance), calling enqueue for each with the transaction
	// (a pgx.Tx on PostgreSQL, a *sql.Tx on SQLite). Only one Admit runs at a
	// time in the whole fleet. A grant may also be of an active run whose
	// appliance was lost: that is how a run goes to another one without any limit
	// being broken; it too becomes starting, on the new appliance.
	Admit(ctx context.Context, at time.Time, decide func(schedule.Scene) []schedule.Grant, enqueue func(ctx context.Context, tx any, g schedule.Grant) error) ([]schedule.Grant, error)
	// Reassign gives a run that has not ended to another appliance, whatever the
	// limits: the engine does so by Admit.
	Reassign(ctx context.Context, run int64, to transfer.ApplianceID) error
	// Claim takes a run in hand: epoch+1, state running, Started if it is zero.
	// ErrNotFound when it has ended or was given to another appliance.
	Claim(ctx context.Context, run int64, by transfer.ApplianceID, at time.Time) (schedule.Run, error)
	// Tell writes how far a run is; ErrFenced when epoch is no longer its own
	// or it has ended. It returns whether somebody asked to cancel it.
	Tell(ctx context.Context, run, epoch int64, report transfer.Report, steps []schedule.StepTime) (cancel bool, err error)
	AppendLog(ctx context.Context, run int64, lines []schedule.LogLine) error // Seq is given by the store
	// Finish ends a run and writes what it means for its VM, both or neither;
	// ErrFenced as for Tell.
	Finish(ctx context.Context, run, epoch int64, end schedule.End) error
	Run(ctx context.Context, id int64) (schedule.Run, error)
	Unended(ctx context.Context) ([]schedule.Run, error)

	SaveAppliance(ctx context.Context, a schedule.Appliance) error // upsert by ID
	// Lost marks an appliance as not alive; first is false when it was already.
	Lost(ctx context.Context, id transfer.ApplianceID) (first bool, err error)
	Appliances(ctx context.Context) ([]schedule.Appliance, error)

	// SavePoints makes the points of the given VMs what AWS's tags say; points
	// of others stay.
	SavePoints(ctx context.Context, vms []transfer.VMID, points []schedule.PointRow) error
	// Raise renews the alarm of a.Key or makes it; Clear ends it.
	Raise(ctx context.Context, a schedule.Alarm) (fresh bool, err error)
	Clear(ctx context.Context, key string, at time.Time) (was bool, err error)
	OpenAlarms(ctx context.Context) ([]schedule.Alarm, error)
	Record(ctx context.Context, e schedule.Event) error
	SaveRate(ctx context.Context, appliance transfer.ApplianceID, s schedule.RateSample) error
	// Expire deletes history that is older: runs with their logs (never the
	// newest of a VM), events, cleared alarms, samples, deeds.
	Expire(ctx context.Context, before time.Time) error
}
