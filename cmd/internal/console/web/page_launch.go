package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// launchesPage is the view of the list of launches.
type launchesPage struct {
	Tabs   []tab
	All    bool
	Active []schedule.LaunchRun
	Jobs   []schedule.LaunchJob
	Older  string // address of the next page, "" at the end
}

func (s *server) launches(r *http.Request) (view, error) {
	if s.Launches == nil {
		return view{}, schedule.ErrNotFound
	}
	p := launchesPage{All: r.FormValue("all") != ""}
	p.Tabs = []tab{{"Open", s.Base + "/launches", !p.All}, {"All, with those that are over", s.Base + "/launches?all=1", p.All}}
	var err error
	if p.Active, err = s.Launches.LaunchRuns(r.Context(), schedule.LaunchQuery{Active: true, Limit: runsLooked}); err != nil {
		return view{}, err
	}
	q := schedule.LaunchJobQuery{Open: !p.All, Before: r.FormValue("before"), Limit: jobsListed + 1} // one more tells whether there are older ones
	if p.Jobs, err = s.Launches.LaunchJobs(r.Context(), q); err != nil {
		return view{}, err
	}
	if len(p.Jobs) > jobsListed {
		p.Jobs = p.Jobs[:jobsListed]
		p.Older = s.Base + "/launches" + query("all", r.FormValue("all"), "before", p.Jobs[jobsListed-1].ID)
	}
	return view{template: "launches", title: "Launches", nav: "launches", poll: 5, body: p}, nil
}

// launchPage is the view of one launch.
type launchPage struct {
	schedule.LaunchJob
	Doc             launchDoc
	Unread          bool // there is a document that this console cannot read
	Rows            []launchRow
	Runs            []schedule.LaunchRun // that worked on it, newest first
	Active          *schedule.LaunchRun
	Offers          []launchOffer
	Screen          string // address of the screenshot
	ToLaunch, Total time.Duration
}

func (s *server) launch(r *http.Request) (view, error) {
	if s.Launches == nil {
		return view{}, schedule.ErrNotFound
	}
	j, err := s.Launches.LaunchJob(r.Context(), r.PathValue("id"))
	if err != nil {
		return view{}, err
	}
	runs, err := s.Launches.LaunchRuns(r.Context(), schedule.LaunchQuery{VM: &j.VM, Limit: runsLooked})
	if err != nil {
		return view{}, err
	}
	p := launchPage{LaunchJob: j}
	doc, ok := readLaunchDoc(j.Doc)
	p.Doc, p.Unread = doc, !ok && len(j.Doc) > 0
	p.ToLaunch, p.Total = downtimeOf(j, doc)
	for i := range runs {
		if runs[i].Job != j.ID {
			continue
		}
		p.Runs = append(p.Runs, runs[i])
		if !runs[i].State.Ended() {
			p.Active = &runs[i]
		}
	}
	p.Rows = launchRows(doc, p.Active != nil, s.Now())
	if doc.Screen != nil {
		p.Screen = s.Base + jobPath(j.ID) + "/screenshot?" + strconv.Itoa(len(doc.Screen))
	}
	if p.Offers, err = s.offersOf(r, j, runs); err != nil {
		return view{}, err
	}
	v := view{template: "launch", title: fmt.Sprintf("%s of %s", purposeWord(j.Purpose), j.VMName), nav: "launches", poll: 10, body: p}
	switch {
	case p.Active != nil:
		v.poll = 2
	case j.Over:
		v.poll = 0
	}
	return v, nil
}

// Passed counts the checks that the instance passed.
func (p launchPage) Passed() (n int) {
	for _, c := range p.Doc.Checks {
		if c.OK {
			n++
		}
	}
	return n
}

// offersOf are the actions of the job's VM that concern this job.
func (s *server) offersOf(r *http.Request, j schedule.LaunchJob, runs []schedule.LaunchRun) ([]launchOffer, error) {
	if j.Over {
		return nil, nil
	}
	v, err := s.Backend.VM(r.Context(), j.VM)
	if errors.Is(err, schedule.ErrNotFound) {
		return nil, nil // the launch outlives what is known of its source
	}
	if err != nil {
		return nil, err
	}
	active := slices.ContainsFunc(runs, func(x schedule.LaunchRun) bool { return !x.State.Ended() })
	ours := map[string][]string{"test": {"launch-test-done", "ready-for-cutover"}, "cutover": {"launch-cutover", "launch-revert", "launch-finalize", "launch-discard"}}[j.Purpose]
	ours = append(ours, "launch-cancel")
	return slices.DeleteFunc(launchOffers(v.Lifecycle, active, []schedule.LaunchJob{j}), func(o launchOffer) bool { return !slices.Contains(ours, o.Dialog) }), nil
}

// screenshot serves what the console of an instance showed when its launch
// failed.
func (s *server) screenshot(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.Actor(r); !ok || s.Launches == nil {
		http.NotFound(w, r)
		return
	}
	j, err := s.Launches.LaunchJob(r.Context(), r.PathValue("id"))
	if err != nil {
		if !errors.Is(err, schedule.ErrNotFound) {
			s.Log.ErrorContext(r.Context(), "console screenshot", "path", r.URL.Path, "error", err)
		}
		http.NotFound(w, r)
		return
	}
	doc, _ := readLaunchDoc(j.Doc)
	if doc.Screen == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/jpeg")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(doc.Screen) // the client has gone: nobody to tell
}

// previewPage is the view of a dry run, which a dialog takes over.
type previewPage struct {
	schedule.LaunchPreview
	Failed, Remedy string // why there is none, and what to do
}

// Possible: the action may be asked for.
func (p previewPage) Possible() bool { return p.Failed == "" && p.Problem == "" }

// preview answers a dialog with the dry run of its action.
func (s *server) preview(w http.ResponseWriter, r *http.Request) {
	if !s.mayPreview(w, r) {
		return
	}
	var p previewPage
	status := http.StatusOK
	action, wish, err := previewOf(r)
	if err == nil {
		id := transfer.VMID{VCenter: r.PathValue("vcenter"), Moref: r.PathValue("moref")}
		p.LaunchPreview, err = s.Launches.PreviewLaunch(r.Context(), id, action, wish)
	}
	if err != nil && r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // the dialog was closed
	}
	if err != nil {
		status, p.Failed, p.Remedy = previewStatus(err), err.Error(), transfer.HintOf(err)
		s.Log.WarnContext(r.Context(), "console preview", "path", r.URL.Path, "action", string(action), "error", err)
	}
	if status == http.StatusServiceUnavailable {
		p.Failed, p.Remedy = "The look at AWS took too long.", "Try again; what AWS said so far is not kept."
	}
	bound(&p)
	s.write(w, status, "preview", p)
}

// mayPreview answers those who may not see a dry run.
func (s *server) mayPreview(w http.ResponseWriter, r *http.Request) bool {
	actor, ok := s.Actor(r)
	switch {
	case !ok:
		http.Error(w, "sign in first", http.StatusUnauthorized)
	case actor.Role != schedule.RoleOperator:
		http.Error(w, "this takes the role operator", http.StatusForbidden)
	case s.Launches == nil:
		http.NotFound(w, r)
	default:
		return true
	}
	return false
}

func previewStatus(err error) int {
	var t interface{ Timeout() bool }
	switch {
	case errors.Is(err, schedule.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, schedule.ErrInvalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, schedule.ErrConflict):
		return http.StatusConflict
	case errors.As(err, &t) && t.Timeout(): // context.DeadlineExceeded is one
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// previewOf reads what a dialog asks about.
func previewOf(r *http.Request) (schedule.LaunchAction, schedule.LaunchWish, error) {
	action := schedule.LaunchAction(r.FormValue("action"))
	if !slices.Contains(schedule.LaunchActions(), action) {
		return "", schedule.LaunchWish{}, fmt.Errorf("preview %q: %w", clip(string(action), 40), schedule.ErrInvalid)
	}
	on := func(name string) bool { return r.FormValue(name) == "on" }
	wish := schedule.LaunchWish{
		Force: on("force"), Point: transfer.CycleID(r.FormValue("point")), Prove: on("prove"),
		ForceOff: on("forceOff"), SkipPreSync: on("skipPreSync"), Discard: on("discard"), Points: schedule.PointsLeft(r.FormValue("points")), StopTracking: on("stopTracking"),
	}
	if text := r.FormValue("for"); text != "" {
		if err := wish.For.UnmarshalText([]byte(text)); err != nil {
			return action, wish, fmt.Errorf("preview for %s: %w", clip(err.Error(), 100), schedule.ErrInvalid)
		}
	}
	return action, wish, nil
}

// bound keeps a dialog of a size that a person reads.
func bound(p *previewPage) {
	p.Steps = slices.Clone(first(p.Steps))
	for i := range p.Steps {
		line(&p.Steps[i].Name, &p.Steps[i].Text, &p.Steps[i].Basis)
	}
	p.Notes, p.Denied, p.Unknown = lines(p.Notes), lines(p.Denied), lines(p.Unknown)
	line(&p.Problem, &p.Hint, &p.Type, &p.TypeWhy, &p.Subnet, &p.Cost, &p.Failed, &p.Remedy)
}
