package web

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"snapferry/schedule"
)

// policy is the Content-Security-Policy of every page: nothing from elsewhere,
// nothing inline.
const policy = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'; object-src 'none'"

// Config is what the pages need.
type Config struct {
	Backend Backend
	// Launches is the launch side; nil leaves all of it out of the pages.
	Launches Launches
	// Actor says who asks; false sends a browser to the login page.
	Actor func(*http.Request) (schedule.Actor, bool)
	// Base is the path under which all is mounted, "" or "/snapferry", without
	// a slash at its end. The API is at Base + "/api/v1".
	Base    string
	Version string
	Now     func() time.Time // nil is time.Now
	Log     *slog.Logger     // nil is slog.Default()
}

type server struct {
	Config
	assets *assets
	pages  *pages
}

// New returns the handler of the pages, of /login (GET only: POST /login and
// /logout are the API's) and of /static/. It expects request paths without
// Base. The embedded files are part of the program: one that does not parse is
// a panic, which every test would meet.
//
// The login page reads two query parameters: "next", a path of ours to go to
// afterwards, which it hands on as a form field of that name, and "error", any
// value of which says that the token was not accepted ("limited": too many
// tries; "origin": the form came from another site).
func New(c Config) http.Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	files, err := fs.Sub(embedded, "static")
	if err != nil {
		panic(err)
	}
	a, err := newAssets(files)
	if err != nil {
		panic(err)
	}
	s := &server{Config: c, assets: a}
	s.pages = newPages(func(name string) string { return c.Base + "/static/" + a.hashed[name] })
	mux := http.NewServeMux()
	mux.Handle("GET /static/{file}", a)
	mux.HandleFunc("GET /login", s.login)
	mux.HandleFunc("GET /launches/{id}/screenshot", s.screenshot)
	mux.HandleFunc("GET /vms/{vcenter}/{moref}/preview", s.preview)
	mux.HandleFunc("GET /waves/{name}/preview", s.previewWave)
	for pattern, f := range map[string]func(*http.Request) (view, error){
		"GET /{$}":                   s.overview,
		"GET /vms":                   s.vms,
		"GET /vms/{vcenter}/{moref}": s.vm,
		"GET /runs":                  s.runs,
		"GET /runs/{id}":             s.run,
		"GET /launches":              s.launches,
		"GET /launches/{id}":         s.launch,
		"GET /waves":                 s.waves,
		"GET /waves/{name}":          s.wave,
		"GET /alarms":                s.alarms,
		"GET /events":                s.events,
		"GET /policies":              s.policies,
		"GET /settings":              s.settings,
		"GET /":                      s.nothing,
	} {
		mux.Handle(pattern, s.page(f))
	}
	return mux
}

// view is what a page's own part is filled from.
type view struct {
	template string // templates/<template>.html
	title    string
	nav      string // the entry of the navigation that it belongs to
	poll     int    // seconds between refreshes when no event comes; 0 never
	body     any
}

// frame is what every page has around its own part.
type frame struct {
	Title, Nav, Base, Version string
	Path                      string // of this page, with its query
	Poll                      int
	Now                       time.Time
	Actor                     schedule.Actor
	Operator                  bool
	Launches                  bool // there is a launch side
	OpenAlarms                int
	Body                      any
}

func (s *server) page(f func(*http.Request) (view, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		actor, ok := s.Actor(r)
		if !ok {
			http.Redirect(w, r, s.Base+"/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		status := http.StatusOK
		v, err := f(r)
		var open []schedule.Alarm
		if err == nil {
			open, err = s.Backend.Alarms(r.Context(), false, mostAlarms)
		}
		if err != nil {
			status, v = s.failed(r, err)
		}
		s.write(w, status, v.template, frame{
			Title: v.title, Nav: v.nav, Base: s.Base, Version: s.Version, Path: r.URL.RequestURI(), Poll: v.poll,
			Now: s.Now().UTC(), Actor: actor, Operator: actor.Role == schedule.RoleOperator, Launches: s.Launches != nil, OpenAlarms: len(open), Body: v.body,
		})
	})
}

// failure is the view of a page that could not be made.
type failure struct{ Heading, Text, Hint string }

func (s *server) failed(r *http.Request, err error) (int, view) {
	if errors.Is(err, schedule.ErrNotFound) {
		return http.StatusNotFound, view{template: "failure", title: "Not found", body: failure{
			"There is nothing here", "No such page, VM, run, launch or wave is known.",
			"It may have been removed, or the address is mistyped. The VM list finds VMs by part of a name."}}
	}
	if errors.Is(err, schedule.ErrInvalid) {
		return http.StatusBadRequest, view{template: "failure", title: "Not valid", body: failure{
			"This address makes no sense", err.Error(), "Go back, or start from the overview."}}
	}
	s.Log.ErrorContext(r.Context(), "console page", "path", r.URL.Path, "error", err)
	return http.StatusInternalServerError, view{template: "failure", title: "Could not load", poll: 10, body: failure{
		"This page could not be loaded", "The service could not answer; its log says why.",
		"Replication goes on regardless of the console. The page tries again every 10 seconds."}}
}

func (s *server) write(w http.ResponseWriter, status int, name string, data any) {
	var out bytes.Buffer
	if err := s.pages.render(&out, name, data); err != nil {
		s.Log.Error("console template", "template", name, "error", err)
		http.Error(w, "this page could not be rendered; the service's log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store") // how VMs stand now, for those who may know
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // the client has gone: nobody to tell
}

func (s *server) nothing(*http.Request) (view, error) { return view{}, schedule.ErrNotFound }

// loginPage is the view of the login page.
type loginPage struct {
	frame
	Next, Error string
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.FormValue("next"))
	if _, ok := s.Actor(r); ok {
		http.Redirect(w, r, s.Base+cmp.Or(next, "/"), http.StatusSeeOther)
		return
	}
	p := loginPage{frame: frame{Title: "Sign in", Base: s.Base, Version: s.Version, Now: s.Now().UTC()}, Next: next}
	switch r.FormValue("error") {
	case "":
	case "limited":
		p.Error = "Too many attempts. Wait a minute, then try again."
	case "origin":
		p.Error = "The form was sent from another site. Sign in here."
	default:
		p.Error = "This token is not accepted. It may be mistyped, or no longer be valid."
	}
	s.write(w, http.StatusOK, "login", p)
}

// localPath lets through paths of ours alone: a link to the login page must not
// send people elsewhere afterwards. Browsers take "/\host" for "//host".
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\\r\n\t") {
		return ""
	}
	return p
}
