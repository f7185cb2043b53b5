package console

import (
	"net/http"

	"snapferry/schedule"
)

// health is what /healthz and /readyz say.
type health struct {
	Status string `json:"status"` // "ok"
}

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) error {
	if err := noParams(r); err != nil {
		return err
	}
	answer(w, http.StatusOK, health{"ok"})
	return nil
}

// readyz says whether the service can do its work. Why it cannot is only for
// those who may know.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if err := noParams(r); err != nil {
		return err
	}
	if err := s.config.Ready(); err != nil {
		e := &Error{http.StatusServiceUnavailable, codeUnavailable, "not ready", "With a token it says why."}
		if _, ok := ActorOf(r.Context()); ok {
			e.Message, e.Hint = "not ready: "+err.Error(), ""
		}
		return e
	}
	answer(w, http.StatusOK, health{"ok"})
	return nil
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	if s.config.Metrics == nil {
		return &Error{http.StatusNotFound, codeNotFound, "there are no metrics here", ""}
	}
	s.config.Metrics.ServeHTTP(w, r)
	return nil
}

// identity is who asks, and whom.
type identity struct {
	Name    string        `json:"name"`
	Role    schedule.Role `json:"role"`
	From    string        `json:"from"`
	Version string        `json:"version"` // of the connector
}

func (s *Server) whoami(r *http.Request) (any, error) {
	a, _ := ActorOf(r.Context())
	return identity{a.Name, a.Role, a.From, s.config.Version}, noParams(r)
}
