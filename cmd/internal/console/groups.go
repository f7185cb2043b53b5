package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"snapferry/schedule"
)

func (s *Server) policies(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	rows, err := s.config.Backend.Policies(r.Context())
	return policyList{some(rows)}, err
}

func (s *Server) policy(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	rows, err := s.config.Backend.Policies(r.Context())
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	i := slices.IndexFunc(rows, func(p schedule.PolicyRow) bool { return p.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("policy %q: %w", clip(name), schedule.ErrNotFound)
	}
	return rows[i], nil
}

// named checks that a body that carries a name carries that of the path.
func named(r *http.Request, in *string) error {
	name := r.PathValue("name")
	about(r, name)
	if *in != "" && *in != name {
		return invalid(fmt.Sprintf("the body's name %q is not the path's", clip(*in)), "Leave it out.")
	}
	*in = name
	return nil
}

func (s *Server) savePolicy(r *http.Request) (any, error) {
	var p schedule.Policy
	if err := s.read(r, &p, &p.Name); err != nil {
		return nil, err
	}
	by, _ := ActorOf(r.Context())
	if err := s.config.Backend.SavePolicy(r.Context(), by, p); err != nil {
		return nil, err
	}
	return s.policy(r)
}

// read takes what is to be saved under the path's name.
func (s *Server) read(r *http.Request, into any, name *string) error {
	about(r, r.PathValue("name"))
	if err := noParams(r); err != nil {
		return err
	}
	if r.ContentLength == 0 {
		return badRequest("there is nothing in the body", "")
	}
	if err := body(r, into); err != nil {
		return err
	}
	return named(r, name)
}

// gone is the answer to a deletion.
type gone struct {
	Deleted string `json:"deleted"`
}

func (s *Server) deletePolicy(r *http.Request) (any, error) {
	return s.remove(r, s.config.Backend.DeletePolicy)
}

func (s *Server) remove(r *http.Request, remove func(ctx context.Context, by schedule.Actor, name string) error) (any, error) {
	name := r.PathValue("name")
	about(r, name)
	if err := noParams(r); err != nil {
		return nil, err
	}
	if err := body(r, &struct{}{}); err != nil {
		return nil, err
	}
	by, _ := ActorOf(r.Context())
	return gone{name}, remove(r.Context(), by, name)
}

func (s *Server) waves(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	waves, err := s.config.Backend.Waves(r.Context())
	return waveList{some(waves)}, err
}

func (s *Server) wave(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	waves, err := s.config.Backend.Waves(r.Context())
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	i := slices.IndexFunc(waves, func(w schedule.Wave) bool { return w.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("wave %q: %w", clip(name), schedule.ErrNotFound)
	}
	return waves[i], nil
}

func (s *Server) saveWave(r *http.Request) (any, error) {
	var wave schedule.Wave
	if err := s.read(r, &wave, &wave.Name); err != nil {
		return nil, err
	}
	by, _ := ActorOf(r.Context())
	if err := s.config.Backend.SaveWave(r.Context(), by, wave); err != nil {
		return nil, err
	}
	return s.wave(r)
}

func (s *Server) deleteWave(r *http.Request) (any, error) {
	return s.remove(r, s.config.Backend.DeleteWave)
}

// actOnWave acts on every member; what some of them refuse is in the list.
func (s *Server) actOnWave(r *http.Request) (any, error) {
	name, what := r.PathValue("name"), r.PathValue("action")
	about(r, "wave "+name)
	if err := noParams(r); err != nil {
		return nil, err
	}
	if slices.Contains(schedule.LaunchActions(), schedule.LaunchAction(what)) {
		return s.launchWave(r, name, schedule.LaunchAction(what))
	}
	if err := body(r, &struct{}{}); err != nil {
		return nil, err
	}
	if what == actPolicy || (action{Action: what}).fits() != nil {
		return nil, &Error{http.StatusNotFound, codeNotFound, fmt.Sprintf("there is no action %q for a wave", clip(what)), ""}
	}
	by, _ := ActorOf(r.Context())
	done, err := s.config.Backend.ActOnWave(r.Context(), by, name, what)
	outcome(r, done)
	return doneList{some(done)}, err
}

// importCSV reads what exportCSV writes.
func (s *Server) importCSV(w http.ResponseWriter, r *http.Request) error {
	if err := noParams(r); err != nil {
		return err
	}
	if !isType(r, "text/csv") {
		return wrongType("text/csv")
	}
	by, _ := ActorOf(r.Context())
	done, err := s.config.Backend.ImportCSV(r.Context(), by, r.Body)
	if err != nil {
		return err
	}
	outcome(r, done)
	answer(w, http.StatusOK, doneList{some(done)})
	return nil
}
