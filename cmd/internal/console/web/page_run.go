package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// progress is how far the copying of a run is, summed over its disks.
type progress struct {
	Known        bool // some disk is planned
	Done, Blocks int64
	Percent      int
	Rate         float64 // bytes looked at a second, the disks that are copying
	ETA          time.Duration
	Put          int64 // blocks
	Read         int64 // bytes
}

func progressOf(r transfer.Report) progress {
	var p progress
	for _, d := range r.Disks {
		p.Done, p.Blocks, p.Put, p.Read = p.Done+d.Done, p.Blocks+d.Blocks, p.Put+d.Put, p.Read+d.BytesRead
		p.Known = p.Known || d.Blocks > 0
		if !d.CopyStarted.IsZero() && d.CopyEnded.IsZero() {
			p.Rate += d.Rate
			p.ETA = max(p.ETA, d.ETA)
		}
	}
	if p.Blocks > 0 {
		p.Percent = int(min(p.Done, p.Blocks) * 100 / p.Blocks)
	}
	return p
}

// runRow is a run in a list.
type runRow struct {
	schedule.Run
	Progress progress
}

// runRows puts what runs before what waits, the newest first among either:
// what runs is what people look for.
func runRows(runs []schedule.Run) []runRow {
	rows := make([]runRow, 0, len(runs))
	for _, r := range runs {
		rows = append(rows, runRow{r, progressOf(r.Report)})
	}
	slices.SortStableFunc(rows, func(a, b runRow) int { return cmp.Compare(stage(a.State), stage(b.State)) })
	return rows
}

func stage(s schedule.RunState) int {
	switch s {
	case schedule.RunRunning:
		return 0
	case schedule.RunStarting:
		return 1
	case schedule.RunQueued:
		return 2
	}
	return 3
}

// Took is how long the run went on from its start, zero before.
func (r runRow) Took() time.Duration {
	if r.Started.IsZero() || r.Ended.IsZero() {
		return 0
	}
	return r.Ended.Sub(r.Started)
}

// runsPage is the view of the list of runs.
type runsPage struct {
	Tabs  []tab
	Rows  []runRow
	Older string // address of the next page, "" at the end
	What  string
}

// tab is one of a few views of the same thing.
type tab struct {
	Label, Href string
	Current     bool
}

const runsPerPage = 50

var runTabs = []struct{ key, label string }{{"active", "Active"}, {"", "All"}, {string(schedule.RunFailed), "Failed"}, {string(schedule.RunDone), "Done"}, {string(schedule.RunCancelled), "Cancelled"}}

func (s *server) runs(r *http.Request) (view, error) {
	what := r.FormValue("show")
	before, err := number(r.FormValue("before"))
	if err != nil {
		return view{}, err
	}
	q := schedule.RunQuery{Before: before, Limit: runsPerPage}
	p := runsPage{What: what}
	known := false
	for _, t := range runTabs {
		p.Tabs = append(p.Tabs, tab{t.label, s.Base + "/runs" + query("show", t.key), t.key == what})
		known = known || t.key == what
	}
	switch {
	case !known:
		return view{}, fmt.Errorf("show runs %q: %w", what, schedule.ErrInvalid)
	case what == "active":
		q.Active = true
	default:
		q.State = schedule.RunState(what)
	}
	runs, err := s.Backend.Runs(r.Context(), q)
	if err != nil {
		return view{}, err
	}
	if len(runs) == runsPerPage {
		p.Older = s.Base + "/runs" + query("show", what, "before", strconv.FormatInt(runs[len(runs)-1].ID, 10))
	}
	if p.Rows = runRows(runs); !q.Active {
		slices.SortStableFunc(p.Rows, func(a, b runRow) int { return cmp.Compare(b.ID, a.ID) })
	}
	return view{template: "runs", title: "Runs", nav: "runs", poll: 5, body: p}, nil
}

// query is "?k=v&…" of those pairs whose value is not empty.
func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// number reads an ID or an offset; "" is 0.
func number(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number: %w", text, schedule.ErrInvalid)
	}
	return n, nil
}

// logLines of a run are on its page from the start; scripts fetch what follows.
const logLines = 500

// runPage is the view of a run.
type runPage struct {
	runRow
	Gantt []ganttRow
	Log   []schedule.LogLine
	Last  int64 // sequence number of the last line
	Full  bool  // there are more lines than are shown
}

func (s *server) run(r *http.Request) (view, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return view{}, fmt.Errorf("run %q: %w", r.PathValue("id"), schedule.ErrNotFound)
	}
	run, err := s.Backend.Run(r.Context(), id)
	if err != nil {
		return view{}, err
	}
	p, err := s.runPage(r, run)
	if err != nil {
		return view{}, err
	}
	v := view{template: "run", title: fmt.Sprintf("Run %d of %s", id, run.VMName), nav: "runs", poll: 2, body: p}
	if run.State.Ended() {
		v.poll = 0
	}
	return v, nil
}

func (s *server) runPage(r *http.Request, run schedule.Run) (runPage, error) {
	lines, err := s.Backend.RunLog(r.Context(), run.ID, 0, logLines)
	if err != nil {
		return runPage{}, err
	}
	p := runPage{runRow: runRow{run, progressOf(run.Report)}, Gantt: newGantt(run, s.Now()), Log: lines, Full: len(lines) == logLines}
	if len(lines) > 0 {
		p.Last = lines[len(lines)-1].Seq
	}
	return p, nil
}
