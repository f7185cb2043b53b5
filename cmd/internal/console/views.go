package console

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"strconv"

	"snapferry/schedule"
	"snapferry/transfer"
)

// What lists are wrapped in, so that something can be added beside them.
type (
	runList struct {
		Runs []schedule.Run `json:"runs"`
	}
	logLines struct {
		Lines []schedule.LogLine `json:"lines"`
	}
	alarmList struct {
		Alarms []schedule.Alarm `json:"alarms"`
	}
	deedList struct {
		Deeds []schedule.Deed `json:"deeds"`
	}
	policyList struct {
		Policies []schedule.PolicyRow `json:"policies"`
	}
	waveList struct {
		Waves []schedule.Wave `json:"waves"`
	}
	eventList struct {
		Events []schedule.Event `json:"events"`
		Last   int64            `json:"last"` // the highest ID there is
	}
)

// some is never null in JSON.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *Server) overview(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	return s.config.Backend.Overview(r.Context())
}

func (s *Server) settings(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	return s.config.Backend.Settings(r.Context())
}

func (s *Server) listVMs(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	q, err := ParseVMQuery(p.values)
	if err != nil {
		return nil, err
	}
	return s.config.Backend.VMs(r.Context(), q)
}

// vmIDs are the VMs that names stand for, in their order.
type vmIDs struct {
	VMs []transfer.VMID `json:"vms"`
}

// maxNames at once fit into a request's line.
const maxNames = 100

func (s *Server) resolve(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	p.known = append(p.known, "name")
	if err := p.done(); err != nil {
		return nil, err
	}
	names := p.values["name"]
	if len(names) == 0 || len(names) > maxNames {
		return nil, badRequest(fmt.Sprintf("there are %d parameters name; it must be 1 to %d", len(names), maxNames), "")
	}
	vms, err := s.config.Backend.Resolve(r.Context(), names)
	return vmIDs{some(vms)}, err
}

func (s *Server) vm(r *http.Request) (any, error) {
	id, err := pathVM(r)
	if err == nil {
		err = noParams(r)
	}
	if err != nil {
		return nil, err
	}
	return s.config.Backend.VM(r.Context(), id)
}

func (s *Server) runs(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	q, err := ParseRunQuery(p.values)
	if err != nil {
		return nil, err
	}
	runs, err := s.config.Backend.Runs(r.Context(), q)
	return runList{some(runs)}, err
}

func pathRun(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return 0, badRequest("the ID of a run is a number", "")
	}
	return id, nil
}

func (s *Server) run(r *http.Request) (any, error) {
	id, err := pathRun(r)
	if err == nil {
		err = noParams(r)
	}
	if err != nil {
		return nil, err
	}
	return s.config.Backend.Run(r.Context(), id)
}

// The longest parts of logs, events and histories that are given at once, and
// what is given where nobody says.
const (
	maxLines     = 5000
	defaultLines = 1000
	maxRows      = 1000
	defaultRows  = 100
)

// runLog answers a run's log behind a line, or streams it.
func (s *Server) runLog(w http.ResponseWriter, r *http.Request) error {
	id, err := pathRun(r)
	if err != nil {
		return err
	}
	p, err := query(r)
	if err != nil {
		return err
	}
	after, limit := p.number("after", 1<<62), p.number("limit", maxLines)
	if err := p.done(); err != nil {
		return err
	}
	run, err := s.config.Backend.Run(r.Context(), id)
	if err != nil {
		return err
	}
	if wantsStream(r) {
		return s.streamLog(w, r, run, after)
	}
	lines, err := s.config.Backend.RunLog(r.Context(), id, after, int(cmp.Or(limit, defaultLines)))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, logLines{some(lines)})
	return nil
}

// events answers the events behind one, or the newest, or streams them.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	p, err := query(r)
	if err != nil {
		return err
	}
	after, limit := p.number("after", 1<<62), cmp.Or(p.number("limit", maxRows), defaultRows)
	if err := p.done(); err != nil {
		return err
	}
	last, err := s.config.Backend.LastEvent(r.Context())
	if err != nil {
		return err
	}
	from := after
	if !p.values.Has("after") {
		from = max(0, last-limit)
		after = last
	}
	if wantsStream(r) {
		return s.streamEvents(w, r, after, last)
	}
	events, err := s.config.Backend.Events(r.Context(), from, int(limit))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, eventList{some(events), last})
	return nil
}

func (s *Server) alarms(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	cleared, limit := p.flag("cleared"), cmp.Or(p.number("limit", maxRows), defaultRows)
	if err := p.done(); err != nil {
		return nil, err
	}
	alarms, err := s.config.Backend.Alarms(r.Context(), cleared, int(limit))
	return alarmList{some(alarms)}, err
}

func (s *Server) audit(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	before, limit := p.number("before", 1<<62), cmp.Or(p.number("limit", maxRows), defaultRows)
	if err := p.done(); err != nil {
		return nil, err
	}
	deeds, err := s.config.Backend.Deeds(r.Context(), before, int(limit))
	return deedList{some(deeds)}, err
}

// exportCSV writes what importCSV reads.
func (s *Server) exportCSV(w http.ResponseWriter, r *http.Request) error {
	if err := noParams(r); err != nil {
		return err
	}
	var text bytes.Buffer // whole, so that an error can still be told
	if err := s.config.Backend.ExportCSV(r.Context(), &text); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="snapferry-%s.csv"`, s.config.Now().UTC().Format("2006-01-02")))
	_, _ = w.Write(text.Bytes()) // the reader has gone: nobody is left to tell
	return nil
}
