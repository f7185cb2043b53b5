package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// wavesPage is the view of the waves.
type wavesPage struct{ Waves []schedule.Wave }

func (s *server) waves(r *http.Request) (view, error) {
	waves, err := s.Backend.Waves(r.Context())
	return view{template: "waves", title: "Waves", nav: "waves", body: wavesPage{waves}}, err
}

// wavePage is the view of a wave.
type wavePage struct {
	schedule.Wave
	Rows   []vmRow
	Bars   []shareBar
	States []tile
	Hidden int // members that are not listed
	Taken  []string
	Launch *waveLaunch // nil: there is no launch side, or no member
}

func (s *server) wave(r *http.Request) (view, error) {
	waves, err := s.Backend.Waves(r.Context())
	if err != nil {
		return view{}, err
	}
	name := r.PathValue("name")
	i := slices.IndexFunc(waves, func(w schedule.Wave) bool { return w.Name == name })
	if i < 0 {
		return view{}, fmt.Errorf("wave %q: %w", name, schedule.ErrNotFound)
	}
	// A wave is what can be cut over in one night: the largest page holds it.
	list, err := s.Backend.VMs(r.Context(), schedule.VMQuery{Wave: name, Limit: 1000})
	if err != nil {
		return view{}, err
	}
	p := wavePage{Wave: waves[i], Hidden: max(list.Total-len(list.VMs), 0)}
	byState := map[schedule.Replication]int{}
	for _, v := range list.VMs {
		p.Rows = append(p.Rows, vmRow{v, list.Lags[v.ID.String()]})
		byState[v.Replication]++
	}
	p.Bars = newShareBar(len(list.VMs), byState)
	for _, state := range stateOrder {
		if byState[state] > 0 {
			p.States = append(p.States, tile{state, stateWords(state), byState[state]})
		}
	}
	if p.Launch, err = s.waveLaunch(r.Context(), name, list.VMs); err != nil {
		return view{}, err
	}
	return view{template: "wave", title: "Wave " + name, nav: "waves", poll: 10, body: p}, nil
}

// alarmsPage is the view of the alarms.
type alarmsPage struct {
	Tabs []tab
	Rows []schedule.Alarm
	All  bool
}

func (s *server) alarms(r *http.Request) (view, error) {
	all := r.FormValue("all") != ""
	rows, err := s.Backend.Alarms(r.Context(), all, 500)
	tabs := []tab{{"Open", s.Base + "/alarms", !all}, {"All, with those that have cleared", s.Base + "/alarms?all=1", all}}
	return view{template: "alarms", title: "Alarms", nav: "alarms", poll: 10, body: alarmsPage{tabs, rows, all}}, err
}

// eventsPage is the view of the events or of the audit log.
type eventsPage struct {
	Tabs   []tab
	Audit  bool
	Events []schedule.Event
	Deeds  []schedule.Deed
	Older  string
	Newest bool
}

const eventsPerPage = 100

func (s *server) events(r *http.Request) (view, error) {
	audit := r.FormValue("view") == "audit"
	before, err := number(r.FormValue("before"))
	if err != nil {
		return view{}, err
	}
	p := eventsPage{Audit: audit, Newest: before == 0, Tabs: []tab{{"Events", s.Base + "/events", !audit}, {"Audit log", s.Base + "/events?view=audit", audit}}}
	older := func(id int64) string {
		v := ""
		if audit {
			v = "audit"
		}
		return s.Base + "/events" + query("view", v, "before", strconv.FormatInt(id, 10))
	}
	if audit {
		if p.Deeds, err = s.Backend.Deeds(r.Context(), before, eventsPerPage); err == nil && len(p.Deeds) == eventsPerPage {
			p.Older = older(p.Deeds[len(p.Deeds)-1].ID)
		}
	} else {
		var from int64
		if p.Events, from, err = s.newestEvents(r, before); err == nil && from > 0 {
			p.Older = older(from + 1)
		}
	}
	v := view{template: "events", title: "Events", nav: "events", body: p}
	if p.Newest {
		v.poll = 10
	}
	return v, err
}

// newestEvents are those with IDs below before (0: all), newest first. The
// backend goes forward only, so this asks for a window of IDs; from is where it
// began: older ones, if any, have IDs up to it.
func (s *server) newestEvents(r *http.Request, before int64) ([]schedule.Event, int64, error) {
	if before == 0 {
		last, err := s.Backend.LastEvent(r.Context())
		if err != nil {
			return nil, 0, err
		}
		before = last + 1
	}
	from := max(before-1-eventsPerPage, 0)
	events, err := s.Backend.Events(r.Context(), from, eventsPerPage)
	events = slices.DeleteFunc(slices.Clone(events), func(e schedule.Event) bool { return e.ID >= before })
	slices.Reverse(events)
	return events, from, err
}

func (s *server) policies(r *http.Request) (view, error) {
	rows, err := s.Backend.Policies(r.Context())
	return view{template: "policies", title: "Policies", nav: "policies", body: rows}, err
}

func (s *server) settings(r *http.Request) (view, error) {
	set, err := s.Backend.Settings(r.Context())
	return view{template: "settings", title: "Settings", nav: "settings", body: set}, err
}

// frequency says in words how often a policy replicates.
func frequency(p schedule.Policy) string {
	switch {
	case p.Every > 0:
		return "every " + span(p.Every.Std())
	case p.Cron != "":
		zone := p.TimeZone
		if zone == "" {
			zone = "UTC"
		}
		return p.Cron + " (" + zone + ")"
	case p.Adaptive != nil:
		return "adaptive, " + span(p.Adaptive.Floor.Std()) + " to " + span(p.Adaptive.Ceiling.Std())
	}
	return "by hand only"
}

// keeps says in words which points a retention policy keeps.
func keeps(p transfer.Policy) string {
	p.Location = nil
	if p == (transfer.Policy{}) {
		p = transfer.DefaultPolicy()
	}
	var parts []string
	for _, k := range []struct {
		n         int
		one, many string
	}{{p.Last, "the newest", "the newest %d"}, {p.Days, "all of one day", "all of %d days"}, {p.Daily, "1 daily", "%d daily"}, {p.Weekly, "1 weekly", "%d weekly"}, {p.Monthly, "1 monthly", "%d monthly"}} {
		switch {
		case k.n == 1:
			parts = append(parts, k.one)
		case k.n > 1:
			parts = append(parts, fmt.Sprintf(k.many, k.n))
		}
	}
	return strings.Join(parts, ", ")
}
