package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"snapferry/schedule"
	"snapferry/transfer"
)

// perPage VMs are on one page of the list: rows enough to scan, few enough
// that the page comes in an instant.
const perPage = 100

// vmsPage is the view of the list of VMs.
type vmsPage struct {
	Query    schedule.VMQuery
	Chips    []chip
	Columns  []column
	Rows     []vmRow
	Total    int
	All      int // VMs that fit the text, whatever their state
	First    int // number of the first row, from 1
	Last     int
	Prev     string
	Next     string
	Page     int
	Pages    int
	Policies []string
	Waves    []string
	Filtered bool
	AddTo    string // the wave that VMs are being chosen for
}

// vmRow is a VM in a list.
type vmRow struct {
	schedule.VMStatus
	Lags []schedule.LagSample
}

// chip is a state as a filter with its number of VMs.
type chip struct {
	Label, Href string
	Word        word
	Count       int
	Current     bool
}

// column is a header that sorts.
type column struct {
	Key, Label, Class, Href string
	Sort                    string // "ascending", "descending" or ""
}

var vmColumns = []column{
	{Key: "name", Label: "Name", Class: "c-name"}, {Key: "state", Label: "State", Class: "c-state"}, {Key: "lag", Label: "Lag, last day", Class: "c-lag"},
	{Key: "size", Label: "Size", Class: "c-size num"}, {Key: "backlog", Label: "Backlog", Class: "c-backlog num"}, {Key: "next", Label: "Next run", Class: "c-next"},
	{Label: "Policy, wave", Class: "c-policy"}, {Label: "Lifecycle", Class: "c-life"},
}

func (s *server) vms(r *http.Request) (view, error) {
	q, page, err := vmQuery(r)
	if err != nil {
		return view{}, err
	}
	list, err := s.Backend.VMs(r.Context(), q)
	if err != nil {
		return view{}, err
	}
	// A page behind the end (the list became shorter) is the last page.
	if last := max((list.Total+perPage-1)/perPage, 1); page > last {
		page, q.Offset = last, (last-1)*perPage
		if list, err = s.Backend.VMs(r.Context(), q); err != nil {
			return view{}, err
		}
	}
	p := vmsPage{Query: q, Total: list.Total, Page: page, Pages: max((list.Total+perPage-1)/perPage, 1), AddTo: r.FormValue("addto")}
	p.Filtered = q.Text != "" || q.Replication != "" || q.Lifecycle != "" || q.Policy != "" || q.Wave != ""
	for _, v := range list.VMs {
		p.Rows = append(p.Rows, vmRow{v, list.Lags[v.ID.String()]})
	}
	if len(p.Rows) > 0 {
		p.First, p.Last = q.Offset+1, q.Offset+len(p.Rows)
	}
	p.links(s.Base, list.Counts)
	if err := s.choices(r, &p); err != nil {
		return view{}, err
	}
	return view{template: "vms", title: "VMs", nav: "vms", poll: 10, body: p}, nil
}

func vmQuery(r *http.Request) (schedule.VMQuery, int, error) {
	q := schedule.VMQuery{
		Text: r.FormValue("text"), Replication: schedule.Replication(r.FormValue("state")), Lifecycle: schedule.Lifecycle(r.FormValue("lifecycle")),
		Policy: r.FormValue("policy"), Wave: r.FormValue("wave"), Sort: cmp.Or(r.FormValue("sort"), "name"), Desc: r.FormValue("desc") != "", Limit: perPage,
	}
	if !slices.ContainsFunc(vmColumns, func(c column) bool { return c.Key == q.Sort }) {
		return q, 0, fmt.Errorf("sort by %q: %w", q.Sort, schedule.ErrInvalid)
	}
	page, err := number(r.FormValue("page"))
	if err != nil {
		return q, 0, err
	}
	n := int(min(max(page, 1), 1_000_000)) // more VMs than any vCenter has
	q.Offset = (n - 1) * perPage
	return q, n, nil
}

// links makes every address on the page: each keeps all of the query but what
// it changes, and starts at the first page.
func (p *vmsPage) links(base string, counts map[schedule.Replication]int) {
	with := func(change map[string]string) string {
		q := p.Query
		v := map[string]string{"text": q.Text, "state": string(q.Replication), "lifecycle": string(q.Lifecycle), "policy": q.Policy, "wave": q.Wave, "sort": q.Sort, "desc": "", "addto": p.AddTo}
		if q.Desc {
			v["desc"] = "1"
		}
		for key, value := range change {
			v[key] = value
		}
		if v["sort"] == "name" {
			v["sort"] = ""
		}
		out := url.Values{}
		for key, value := range v {
			if value != "" {
				out.Set(key, value)
			}
		}
		if len(out) == 0 {
			return base + "/vms"
		}
		return base + "/vms?" + out.Encode()
	}
	for _, n := range counts {
		p.All += n
	}
	p.Chips = []chip{{Label: "All", Href: with(map[string]string{"state": ""}), Count: p.All, Current: p.Query.Replication == ""}}
	for _, state := range stateOrder {
		w := stateWords(state)
		p.Chips = append(p.Chips, chip{w.Label, with(map[string]string{"state": string(state)}), w, counts[state], p.Query.Replication == state})
	}
	for _, c := range vmColumns {
		if c.Key != "" {
			p.Columns = append(p.Columns, sorted(c, p.Query, with))
			continue
		}
		p.Columns = append(p.Columns, c)
	}
	if p.Page > 1 {
		p.Prev = with(map[string]string{"page": strconv.Itoa(p.Page - 1)})
	}
	if p.Page < p.Pages {
		p.Next = with(map[string]string{"page": strconv.Itoa(p.Page + 1)})
	}
}

// sorted gives a column its link: the first press sorts as one wants to see it
// (names from A, the rest from the largest), the second the other way round.
func sorted(c column, q schedule.VMQuery, with func(map[string]string) string) column {
	desc := c.Key != "name" && c.Key != "next" && c.Key != "state"
	if q.Sort == c.Key {
		c.Sort, desc = "ascending", !q.Desc
		if q.Desc {
			c.Sort = "descending"
		}
	}
	flag := ""
	if desc {
		flag = "1"
	}
	c.Href = with(map[string]string{"sort": c.Key, "desc": flag})
	return c
}

// choices are what the filters offer.
func (s *server) choices(r *http.Request, p *vmsPage) error {
	policies, err := s.Backend.Policies(r.Context())
	if err != nil {
		return err
	}
	for _, row := range policies {
		p.Policies = append(p.Policies, row.Name)
	}
	waves, err := s.Backend.Waves(r.Context())
	if err != nil {
		return err
	}
	for _, w := range waves {
		p.Waves = append(p.Waves, w.Name)
	}
	return nil
}

// Lifecycles are what the filter offers.
func (vmsPage) Lifecycles() []schedule.Lifecycle { return schedule.Lifecycles() }

// vmPage is the view of a VM.
type vmPage struct {
	schedule.VMDetail
	Word     word
	Chart    pointsChart
	Running  *runPage // the run that has not ended
	Rows     []runRow
	Policies []string
	Waves    []string
	Facts    []fact
	Settings []fact // of its launch
	Blocked  []obstacle
	Launched *launchPart // nil: there is no launch side
}

type fact struct{ Key, Value string }

type obstacle struct {
	Where string
	transfer.Obstacle
}

func (s *server) vm(r *http.Request) (view, error) {
	id := transfer.VMID{VCenter: r.PathValue("vcenter"), Moref: r.PathValue("moref")}
	d, err := s.Backend.VM(r.Context(), id)
	if err != nil {
		return view{}, err
	}
	p := vmPage{VMDetail: d, Word: stateWords(d.Replication), Chart: newPointsChart(d.Points), Rows: runRows(d.Runs), Facts: facts(d.VM), Blocked: obstacles(d.VM)}
	for _, key := range slices.Sorted(mapKeys(d.Launch)) {
		p.Settings = append(p.Settings, fact{key, d.Launch[key]})
	}
	if d.Run != nil {
		running, err := s.runPage(r, *d.Run)
		if err != nil {
			return view{}, err
		}
		p.Running = &running
	}
	var offer vmsPage
	if err := s.choices(r, &offer); err != nil {
		return view{}, err
	}
	p.Policies, p.Waves = offer.Policies, offer.Waves
	if p.Launched, err = s.launchOf(r.Context(), d.VM); err != nil {
		return view{}, err
	}
	if do := nextOfCutover[d.Lifecycle]; p.Launched != nil && do != "" {
		p.Word.Do = do
	}
	v := view{template: "vm", title: d.Name, nav: "vms", poll: 10, body: p}
	if d.Run != nil && d.Run.State != schedule.RunQueued || p.Launched != nil && p.Launched.Active != nil {
		v.poll = 2
	}
	return v, nil
}
