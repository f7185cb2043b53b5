package console

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

const (
	// sessionIdle: a browser left alone over lunch stays logged in, one left
	// alone overnight does not. An open page asks for news all the time.
	sessionIdle = 2 * time.Hour
	// sessionAge: a working day; then the token is asked for again.
	sessionAge = 12 * time.Hour
	// maxSessions is far more browsers than one connector has people, and
	// little memory. The one that was idle longest makes room.
	maxSessions = 1000
)

// sessions are the browsers that are logged in. They live in memory: a restart
// logs everybody out.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[32]byte]*session // by the digest of the cookie's value
}

type session struct {
	door         *door
	began, spoke time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[32]byte]*session{}}
}

// begin makes a session and returns its cookie's value.
func (s *sessions) begin(d *door) string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails (Go 1.24)
	value := base64.RawURLEncoding.EncodeToString(id[:])
	now := s.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	for key, x := range s.all {
		if x.over(now) {
			delete(s.all, key)
		}
	}
	if len(s.all) >= maxSessions {
		s.evict()
	}
	s.all[sha256.Sum256([]byte(value))] = &session{d, now, now}
	return value
}

// evict ends the session that was idle longest; the lock is held.
func (s *sessions) evict() {
	var oldest [32]byte
	var spoke time.Time
	for key, x := range s.all {
		if spoke.IsZero() || x.spoke.Before(spoke) {
			oldest, spoke = key, x.spoke
		}
	}
	delete(s.all, oldest)
}

func (x *session) over(now time.Time) bool {
	return now.Sub(x.spoke) >= sessionIdle || now.Sub(x.began) >= sessionAge
}

// find is the door of the session with this cookie, nil when it is over.
func (s *sessions) find(value string) *door {
	if value == "" {
		return nil
	}
	key, now := sha256.Sum256([]byte(value)), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[key]
	if x == nil {
		return nil
	}
	if x.over(now) {
		delete(s.all, key)
		return nil
	}
	x.spoke = now
	return x.door
}

func (s *sessions) end(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(value)))
}

// The cookie's names. The prefix makes browsers refuse one that another host
// or plain HTTP has set.
const (
	cookieTLS   = "__Host-snapferry"
	cookiePlain = "snapferry"
)

// overTLS reports that the browser uses TLS, with us or with a proxy before
// us. Whoever forges the header makes only the own cookie stricter.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

func cookieName(r *http.Request) string {
	if overTLS(r) {
		return cookieTLS
	}
	return cookiePlain
}

func cookieValue(r *http.Request) string {
	if c, err := r.Cookie(cookieName(r)); err == nil {
		return c.Value
	}
	return ""
}

// setCookie gives the browser its session; "" takes it away.
func setCookie(w http.ResponseWriter, r *http.Request, value string) {
	age := int(sessionAge / time.Second)
	if value == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: overTLS(r), SameSite: http.SameSiteStrictMode,
	})
}
