package webhook

import (
	"snapferry/schedule"
	"snapferry/transfer"
)

// Leads reports whether an appliance is the one that sends: of those that live
// and are not about to stop, the one with the lowest ID; of those that are about
// to stop when there is no other. An appliance that the list does not have never
// leads.
func Leads(id transfer.ApplianceID, all []schedule.Appliance) bool {
	var first *schedule.Appliance
	for i := range all {
		a := &all[i]
		if !a.Alive {
			continue
		}
		if first == nil || (first.Draining && !a.Draining) || (first.Draining == a.Draining && a.ID < first.ID) {
			first = a
		}
	}
	return first != nil && first.ID == id
}
