package engine

import (
	"context"
	"fmt"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// clean removes what crashes left, and raises an alarm for what stays.
func (e *Engine) clean(ctx context.Context) error {
	report, err := e.Work.Clean(ctx, e.ended(ctx))
	prefix := "left/" + string(e.Appliance) + "/"
	alarms := leftAlarms(prefix, report)
	if err == nil && len(report.Unseen) == 0 {
		return e.settle(ctx, []string{prefix}, alarms)
	}
	// What could not be looked at may be there or gone: nothing is cleared.
	for _, a := range alarms {
		e.raise(ctx, a)
	}
	return err
}

// ended are the VMs that are disconnected. One that is connected again a moment
// later loses a draft at most: its next cycle begins another. While the database
// is away there are none: what grows in vSphere must go all the same.
func (e *Engine) ended(ctx context.Context) (ended []transfer.VMID) {
	vms, err := e.Store.VMs(ctx, "")
	if err != nil {
		e.Log.Warn("the drafts of disconnected VMs stay until the database answers", "error", err)
	}
	for _, vm := range vms {
		if vm.Lifecycle == schedule.Disconnected {
			ended = append(ended, vm.ID)
		}
	}
	return ended
}

// leftAlarms are the reaper's alarms as ours. Its words may change with time
// ("is 25 hours old"), the key must not: it is what the alarm is about.
func leftAlarms(prefix string, r transfer.ReapReport) (alarms []schedule.Alarm) {
	for _, text := range r.Alarms {
		a := schedule.Alarm{Kind: schedule.AlarmLeftover, Text: text}
		about := text
		for _, t := range r.Things {
			if strings.HasPrefix(text, fmt.Sprintf("%s %s of ", t.Kind, t.Name)) {
				a.VM, a.VMName, a.Hint, about = t.VM, t.VMName, t.Hint, t.ID
				if t.Kind == transfer.LeftDisk {
					a.Kind = schedule.AlarmLeftDisk
				}
			}
		}
		if strings.Contains(text, "datastore that runs low") {
			a.Kind = schedule.AlarmDatastore
		}
		a.Key = prefix + string(a.Kind) + "/" + about
		alarms = append(alarms, a)
	}
	return alarms
}
