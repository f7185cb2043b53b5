package console

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
)

// api is where the API is.
const api = "/api/v1"

// route is one thing that can be asked for.
type route struct {
	method, path string // as http.ServeMux has them
	role         schedule.Role
	limit        int64         // of the body in bytes; 0 takes none
	stream       bool          // it can also be a stream of events
	takes        time.Duration // at most; 0 is what its method takes
	serve        func(w http.ResponseWriter, r *http.Request) error
}

// table is every route but the pages'. The OpenAPI document describes exactly
// these.
func (s *Server) table() []route {
	const viewer, operator = schedule.RoleViewer, schedule.RoleOperator
	get := func(path string, f func(*http.Request) (any, error)) route {
		return route{method: http.MethodGet, path: path, role: viewer, serve: answers(f)}
	}
	do := func(method, path string, f func(*http.Request) (any, error)) route {
		return route{method: method, path: path, role: operator, limit: maxBody, serve: answers(f)}
	}
	metrics := viewer
	if s.config.OpenMetrics {
		metrics = roleOpen
	}
	return append([]route{
		{method: http.MethodGet, path: "/healthz", role: roleOpen, serve: s.healthz},
		{method: http.MethodGet, path: "/readyz", role: roleOpen, serve: s.readyz},
		{method: http.MethodGet, path: "/metrics", role: metrics, serve: s.metrics},
		{method: http.MethodPost, path: "/login", role: roleOpen, limit: maxForm, serve: s.login},
		{method: http.MethodPost, path: "/logout", role: roleOpen, limit: maxForm, serve: s.logout},

		get(api+"/whoami", s.whoami),
		get(api+"/openapi.json", s.openapi),
		get(api+"/overview", s.overview),
		get(api+"/settings", s.settings),
		get(api+"/alarms", s.alarms),
		get(api+"/audit", s.audit),
		{method: http.MethodGet, path: api + "/events", role: viewer, stream: true, serve: s.events},

		get(api+"/resolve", s.resolve),
		get(api+"/vms", s.listVMs),
		get(api+"/vms/{id}", s.vm),
		do(http.MethodPost, api+"/vms/{id}/pause", s.pause),
		do(http.MethodPost, api+"/vms/{id}/resume", s.resume),
		do(http.MethodPost, api+"/vms/{id}/sync", s.sync),
		do(http.MethodPost, api+"/vms/{id}/cancel", s.cancel),
		do(http.MethodPost, api+"/vms/{id}/mark", s.mark),
		do(http.MethodPost, api+"/vms/{id}/policy", s.choose),
		do(http.MethodPut, api+"/vms/{id}/launch", s.setLaunch),
		do(http.MethodPost, api+"/actions", s.act),

		get(api+"/runs", s.runs),
		get(api+"/runs/{id}", s.run),
		{method: http.MethodGet, path: api + "/runs/{id}/log", role: viewer, stream: true, serve: s.runLog},

		get(api+"/policies", s.policies),
		get(api+"/policies/{name}", s.policy),
		do(http.MethodPut, api+"/policies/{name}", s.savePolicy),
		do(http.MethodDelete, api+"/policies/{name}", s.deletePolicy),
		get(api+"/waves", s.waves),
		get(api+"/waves/{name}", s.wave),
		do(http.MethodPut, api+"/waves/{name}", s.saveWave),
		do(http.MethodDelete, api+"/waves/{name}", s.deleteWave),
		patient(do(http.MethodPost, api+"/waves/{name}/{action}", s.actOnWave)),

		{method: http.MethodGet, path: api + "/export.csv", role: viewer, serve: s.exportCSV},
		{method: http.MethodPost, path: api + "/import.csv", role: operator, limit: maxCSV, serve: s.importCSV},

		get(api+"/launches", s.launchRuns),
		patient(do(http.MethodPost, api+"/launches", s.launchSeveral)),
		get(api+"/launches/{id}", s.launchRun),
		get(api+"/launch-jobs", s.launchJobs),
		get(api+"/launch-jobs/{id}", s.launchJob),
		patient(do(http.MethodPost, api+"/vms/{id}/launch/preview", s.previewLaunch)),
		do(http.MethodPost, api+"/vms/{id}/launch/cancel", s.cancelLaunch),
	}, s.launchRoutes()...)
}

// launchRoutes are the actions of launches on one VM. Each has a path of its
// own, beside those of preview and cancel.
func (s *Server) launchRoutes() (all []route) {
	for _, a := range schedule.LaunchActions() {
		f := func(r *http.Request) (any, error) { return s.launch(r, a) }
		all = append(all, patient(route{method: http.MethodPost, path: api + "/vms/{id}/launch/" + string(a), role: schedule.RoleOperator, limit: maxBody, serve: answers(f)}))
	}
	return all
}

// patient gives a route the time that dry runs take.
func patient(rt route) route {
	rt.takes = launchTime
	return rt
}

// pages are the paths whose other methods belong to the web pages.
var pages = []string{"/login", "/logout"}

// routes builds the mux.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, rt := range s.table() {
		mux.Handle(rt.method+" "+rt.path, s.guard(rt))
		methods[rt.path] = append(methods[rt.path], rt.method)
	}
	for path, allowed := range methods {
		if !slices.Contains(pages, path) {
			mux.Handle(path, wrongMethod(allowed))
		}
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, &Error{http.StatusNotFound, codeNotFound, "the API has no such path", "It is described under " + api + "/openapi.json."})
	})
	// Pages are looked at by anybody, the way to log in is one; what the pages
	// let through to Backend beyond that is theirs to ask ActorOf.
	look := s.guard(route{role: roleOpen, serve: s.page})
	act := s.guard(route{role: schedule.RoleOperator, limit: maxCSV, serve: s.page})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { // "GET /" would be no part of "/api/"
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			look.ServeHTTP(w, r)
			return
		}
		act.ServeHTTP(w, r)
	})
	return mux
}

func wrongMethod(allowed []string) http.Handler {
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", list)
		fail(w, &Error{http.StatusMethodNotAllowed, codeMethod, fmt.Sprintf("%s is not possible here", clip(r.Method)), "Possible: " + list + "."})
	})
}

// answers makes a handler of a function whose value is the answer.
func answers(f func(*http.Request) (any, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := f(r)
		if err != nil {
			return err
		}
		answer(w, http.StatusOK, v)
		return nil
	}
}

// page passes a request on to the pages.
func (s *Server) page(w http.ResponseWriter, r *http.Request) error {
	if s.config.Web == nil {
		return &Error{http.StatusNotFound, codeNotFound, "there is no such page", "The API is under " + api + "."}
	}
	if safe(r.Method) {
		s.config.Web.ServeHTTP(w, r)
		return nil
	}
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	s.config.Web.ServeHTTP(seen, r)
	if n, ok := r.Context().Value(noteKey{}).(*note); ok && seen.status >= 400 {
		n.result = fmt.Sprintf("HTTP %d", seen.status)
	}
	return nil
}

// statusWriter remembers the status for the audit log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
