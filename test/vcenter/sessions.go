package vcenter

import (
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// sessions watches over vcsim's: it ends those that idle, and wakes the calls
// that are under way in one that ends.
type sessions struct {
	idle time.Duration
	drop func(key string) // forgets the session in vcsim

	mu   sync.Mutex
	live map[string]*liveSession
}

type liveSession struct {
	last    time.Time
	pending int
	dead    chan struct{}
}

func newSessions(idle time.Duration, drop func(string)) *sessions {
	return &sessions{idle: idle, drop: drop, live: map[string]*liveSession{}}
}

// begin notes a call in session key and returns the channel that closes when
// the session dies; nil if the session is dead or unknown already.
func (s *sessions) begin(key string) <-chan struct{} {
	s.mu.Lock()
	l := s.live[key]
	if l != nil && s.idle > 0 && l.pending == 0 && time.Since(l.last) > s.idle {
		s.mu.Unlock()
		s.kill(key)
		return nil
	}
	defer s.mu.Unlock()
	if l == nil {
		return nil
	}
	l.pending++
	l.last = time.Now()
	return l.dead
}

// end notes that a call is over; a long wait for updates keeps its session.
func (s *sessions) end(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.live[key]; l != nil {
		l.pending--
		l.last = time.Now()
	}
}

// open notes a session that a login made.
func (s *sessions) open(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[key] = &liveSession{last: time.Now(), dead: make(chan struct{})}
}

func (s *sessions) kill(key string) {
	s.mu.Lock()
	l := s.live[key]
	delete(s.live, key)
	s.mu.Unlock()
	if l != nil {
		s.drop(key)
		close(l.dead)
	}
}

func (s *sessions) killAll() {
	s.mu.Lock()
	var keys []string
	for k := range s.live {
		keys = append(keys, k)
	}
	s.mu.Unlock()
	for _, k := range keys {
		s.kill(k)
	}
}

// known reports whether key is a session, without renewing it.
func (s *sessions) known(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[key] != nil
}

// KillSessions ends every session, as a restart of vCenter's service does:
// calls under way fail with NotAuthenticated, and so do all that follow.
func (v *VCenter) KillSessions() { v.sessions.killAll() }

// Sessions is the number of sessions that have not ended.
func (v *VCenter) Sessions() int {
	v.sessions.mu.Lock()
	defer v.sessions.mu.Unlock()
	return len(v.sessions.live)
}

// dropSession removes a session from vcsim, whose own map is private: the
// call that ends other people's sessions does it.
func (v *VCenter) dropSession(key string) {
	ctx := v.context()
	ctx.Session = &simulator.Session{UserSession: types.UserSession{Key: "simulator"}}
	v.registry().SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: []string{key}})
}
