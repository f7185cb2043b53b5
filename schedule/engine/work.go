package engine

import (
	"context"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Job is one cycle to run.
type Job struct {
	Run    schedule.Run
	VM     schedule.VM
	Policy *schedule.Policy // nil when it has none
	// Dead is the appliance that had the run before and is gone; "" is none.
	// What it left on the VM goes first.
	Dead transfer.ApplianceID
}

// Work is what one appliance can do; the wiring joins vSphere and AWS to it.
// All methods may be called side by side.
type Work interface {
	// Self describes this appliance: Datastores, Host, VCenter, Account.
	Self(ctx context.Context) (schedule.Appliance, error)
	// Inventory lists every VM of this appliance's vCenter.
	Inventory(ctx context.Context) ([]transfer.VM, error)
	// Cycle replicates a VM once. Before it, what a crash of this appliance or
	// the death of job.Dead left on the VM is cleaned up. It ends soon after
	// ctx does, having cleaned up. progress tells how far it is, logf gets what
	// a person may want to read later.
	Cycle(ctx context.Context, job Job, progress *transfer.Progress, logf func(level, text string)) (transfer.Report, error)
	// Points are all recovery points of a VM, or of every VM of this vCenter
	// (nil), from the tags.
	Points(ctx context.Context, vm *transfer.VMID) ([]schedule.PointRow, error)
	// Prune deletes what the policy's retention no longer keeps.
	Prune(ctx context.Context, vm schedule.VM, p *schedule.Policy) (deleted []transfer.CycleID, err error)
	// Clean finds and removes what crashes left, and says what stays. The
	// replication of some VMs has ended: no cycle goes on with their drafts.
	Clean(ctx context.Context, ended []transfer.VMID) (transfer.ReapReport, error)
	// Expiring lists what will stop working soon: certificates, credentials.
	Expiring(ctx context.Context) ([]schedule.Alarm, error)
}
