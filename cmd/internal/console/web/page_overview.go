package web

import (
	"net/http"

	"snapferry/schedule"
)

const (
	// mostAlarms are read to be counted in the navigation; beyond it says "99+".
	mostAlarms = 100
	// overviewRows of each list on the overview: what fits on a screen beside
	// the rest. Each list has room for all of them from the start, so that
	// nothing moves when one grows.
	overviewRows = 6
)

// overviewPage is the view of the overview.
type overviewPage struct {
	schedule.Overview
	Tiles  []tile
	Bars   []shareBar
	Chart  lineChart
	Active []runRow
	More   int // active runs that are not listed
	Next   []schedule.NextRun
	Worst  []schedule.VMStatus
	Open   []schedule.Alarm
}

// tile is how many VMs are in a state, as a link into the list.
type tile struct {
	State schedule.Replication
	Word  word
	Count int
}

// tiled states have a tile each even when none is in them; the others are
// counted in the list's filter.
var tiled = []schedule.Replication{
	schedule.ReplicationCurrent, schedule.ReplicationDelta, schedule.ReplicationInitial,
	schedule.ReplicationLagging, schedule.ReplicationStalled, schedule.ReplicationPaused,
}

func (s *server) overview(r *http.Request) (view, error) {
	o, err := s.Backend.Overview(r.Context())
	if err != nil {
		return view{}, err
	}
	runs, err := s.Backend.Runs(r.Context(), schedule.RunQuery{Active: true, Limit: mostAlarms})
	if err != nil {
		return view{}, err
	}
	open, err := s.Backend.Alarms(r.Context(), false, overviewRows)
	if err != nil {
		return view{}, err
	}
	p := overviewPage{Overview: o, Bars: newShareBar(o.VMs, o.ByState), Chart: newLineChart(o.Samples, s.Now()), Open: open}
	for _, state := range tiled {
		p.Tiles = append(p.Tiles, tile{state, stateWords(state), o.ByState[state]})
	}
	p.Active = runRows(runs)
	if len(p.Active) > overviewRows {
		p.Active = p.Active[:overviewRows]
	}
	p.More = max(o.Running+o.Queued-len(p.Active), 0)
	p.Next = o.NextRuns[:min(len(o.NextRuns), overviewRows)]
	p.Worst = o.WorstLag[:min(len(o.WorstLag), overviewRows)]
	return view{template: "overview", title: "Overview", nav: "overview", poll: 10, body: p}, nil
}
