package console

import (
	"testing"
	"time"

	"snapferry/schedule"
)

// Route is a route as tests see it.
type Route struct {
	Method, Path string
	Role         schedule.Role
	Body         bool
}

// Routes are all but the pages'.
func (s *Server) Routes() (all []Route) {
	for _, rt := range s.table() {
		all = append(all, Route{rt.method, rt.path, rt.role, rt.limit > 0})
	}
	return all
}

// Sessions is how many browsers are logged in.
func (s *Server) Sessions() int {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return len(s.sessions.all)
}

// Followed is how many topics are followed, and whether goroutines do.
func (s *Server) Followed() (topics int, running bool) {
	for _, p := range []*poller{s.streams.events, s.streams.logs} {
		p.mu.Lock()
		topics += len(p.topics)
		running = running || p.running
		p.mu.Unlock()
	}
	return topics, running
}

// The bounds that tests go to.
const (
	MaxSessions  = maxSessions
	MaxAddresses = maxAddresses
	MaxStreams   = maxStreams
	WrongTokens  = wrongTokens
	SessionIdle  = sessionIdle
	SessionAge   = sessionAge
)

// Addresses is how many are remembered for their wrong tokens.
func (s *Server) Addresses() int {
	s.attempts.mu.Lock()
	defer s.attempts.mu.Unlock()
	return len(s.attempts.all)
}

// SetLookEvery makes certificates be looked at more often while a test runs.
func SetLookEvery(t *testing.T, d time.Duration) {
	was := lookEvery
	lookEvery = d
	t.Cleanup(func() { lookEvery = was })
}
