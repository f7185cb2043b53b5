package engine

import (
	"fmt"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

func places(n int, first int64, host string, on transfer.ApplianceID) (all []schedule.Place) {
	for i := range n {
		id := first + int64(i)
		p := schedule.Place{Run: id, VM: transfer.VMID{VCenter: "vc", Moref: fmt.Sprint("vm-", id)}, Host: host, Datastores: []string{"ds"}, Disks: 1, Appliance: on, Queued: id}
		if on != "" {
			p.Account = "acc"
		}
		all = append(all, p)
	}
	return all
}

// The runs of a lost appliance go to others as far as they have room; the rest
// keeps its place and counts, and nothing else takes it.
func TestDecide(t *testing.T) {
	alive := func(id transfer.ApplianceID, alive bool) schedule.Appliance {
		return schedule.Appliance{ID: id, VCenter: "vc", Account: "acc", Alive: alive}
	}
	s := schedule.Scene{
		Limits:     schedule.Limits{PerAppliance: 3, PerHost: 5},
		Active:     append(places(4, 1, "esx1", "dead"), places(1, 10, "esx2", "b")...),
		Queued:     append(places(2, 20, "esx1", ""), places(2, 30, "esx3", "")...),
		Appliances: []schedule.Appliance{alive("dead", false), alive("b", true)},
	}
	grants, dead := decide(s)
	taken, fresh := 0, 0
	for _, g := range grants {
		if g.Appliance != "b" {
			t.Errorf("run %d goes to %s", g.Run, g.Appliance)
		}
		if g.Run < 10 {
			taken++
			if dead[g.Run] != "dead" {
				t.Errorf("run %d was taken over from %q", g.Run, dead[g.Run])
			}
		} else {
			fresh++
		}
	}
	if taken != 2 || fresh != 0 {
		t.Errorf("%d were taken over and %d began: b has room for two", taken, fresh)
	}
	// With room for all, host esx1 has four of its five: one of the two begins.
	s.Limits.PerAppliance = 10
	grants, _ = decide(s)
	hosts := map[string]int{}
	for _, g := range grants {
		switch {
		case g.Run < 10, g.Run >= 20 && g.Run < 30:
			hosts["esx1"]++
		default:
			hosts["esx3"]++
		}
	}
	if hosts["esx1"] != 5 || hosts["esx3"] != 2 {
		t.Errorf("granted %v", hosts)
	}
	// Nobody is alive: everything stays.
	s.Appliances = s.Appliances[:1]
	if grants, _ = decide(s); len(grants) != 0 {
		t.Errorf("granted %v to nobody", grants)
	}
}

func TestWorkflowID(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	g := granted{Run: 7, VM: transfer.VMID{VCenter: "50 2c", Moref: "vm-1"}}
	if id := workflowID(g, at); id != "50 2c/vm-1/7" {
		t.Error(id)
	}
	g.Dead = "a"
	if id := workflowID(g, at); id != "50 2c/vm-1/7/1700000000123" {
		t.Error(id)
	}
}
