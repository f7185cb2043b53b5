package console

import (
	"context"
	"errors"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"snapferry/schedule"
)

// asked is who asks: nobody, a token, or a browser with a session.
type asked struct {
	door  *door // nil is nobody
	actor schedule.Actor
}

var errNoToken = &Error{http.StatusUnauthorized, codeNoToken, "this needs a token", "Send it as Authorization: Bearer TOKEN, or log in."}

// identify finds out who asks. An error means that what was shown does not
// hold; nothing shown at all is nobody.
func (s *Server) identify(r *http.Request) (asked, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, secret, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return asked{}, &Error{http.StatusUnauthorized, codeNoToken, "only bearer tokens are understood", errNoToken.Hint}
		}
		d, err := s.try(r, strings.TrimSpace(secret))
		return s.as(d, r), err
	}
	d := s.sessions.find(cookieValue(r))
	if d == nil {
		return asked{}, nil
	}
	if err := s.sameOrigin(r); err != nil {
		return s.as(d, r), err
	}
	return s.as(d, r), nil
}

func (s *Server) as(d *door, r *http.Request) asked {
	if d == nil {
		return asked{}
	}
	return asked{door: d, actor: schedule.Actor{Name: d.Name, Role: d.Role, From: remote(r)}}
}

// try looks a token up and counts wrong ones.
func (s *Server) try(r *http.Request, secret string) (*door, error) {
	d := s.tokens.find(secret)
	switch blocked := s.attempts.judge(remote(r), d); {
	case blocked:
		return nil, limited("too many wrong tokens from this address")
	case d == nil:
		return nil, &Error{http.StatusUnauthorized, codeNoToken, "the token is wrong", "snapferry token makes one; its digest belongs under server.tokens."}
	}
	return d, nil
}

// sameOrigin refuses what another site made a browser send. A browser names
// itself with every method that changes something; where it does not, it is
// none, and has no business with a cookie.
func (s *Server) sameOrigin(r *http.Request) error {
	if safe(r.Method) {
		return nil
	}
	silent := r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == ""
	if silent || s.origin.Check(r) != nil {
		return &Error{http.StatusForbidden, codeForbidden, "the request comes from another site", "Use the console's own pages, or a token."}
	}
	return nil
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// permit says whether who may do what the route needs, and takes it from what
// the token may ask a second.
func (s *Server) permit(w http.ResponseWriter, who asked, role schedule.Role) error {
	if who.door != nil {
		now := s.config.Now()
		if !who.door.limit.AllowN(now, 1) {
			wait := (1 - who.door.limit.TokensAt(now)) / float64(who.door.limit.Limit())
			w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait)))))
			return limited("too many requests with this token")
		}
	}
	switch {
	case role == roleOpen:
		return nil
	case who.door == nil:
		return errNoToken
	case role == schedule.RoleOperator && who.actor.Role != schedule.RoleOperator:
		return &Error{http.StatusForbidden, codeForbidden, "this takes the role operator; " + who.actor.Name + " is a " + string(who.actor.Role), ""}
	}
	return nil
}

const (
	// readTime bounds what a request may ask of the database.
	readTime = 30 * time.Second
	// actTime is for what writes: pausing 2,000 VMs is 4,000 transactions.
	actTime = 2 * time.Minute
	// launchTime is for what tries launches out before it answers: a dry run
	// takes seconds, and a wave of 100 VMs has them a few at a time.
	launchTime = 10 * time.Minute
)

func (rt route) time() time.Duration {
	switch {
	case rt.takes > 0:
		return rt.takes
	case safe(rt.method):
		return readTime
	}
	return actTime
}

// guard lets a request through to a route if it may, and writes down what it
// asked for where that changes anything.
func (s *Server) guard(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.identify(r)
		if rt.role == roleOpen && safe(r.Method) && err != nil {
			who, err = asked{}, nil // a prober with an old token still learns whether the process lives
		}
		if err == nil {
			err = s.permit(w, who, rt.role)
		}
		ctx := r.Context()
		if !rt.stream || !wantsStream(r) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, rt.time())
			defer cancel()
		}
		note := &note{}
		if who.door != nil {
			ctx = WithActor(ctx, who.actor)
		}
		r = r.WithContext(withNote(ctx, note))
		if rt.limit > 0 {
			r.Body = http.MaxBytesReader(w, r.Body, rt.limit)
		}
		if err == nil {
			err = s.attempt(rt, w, r)
		}
		if !safe(r.Method) {
			s.writeDown(r, who, note, err)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	})
}

// attempt serves a route; a panic is an error like others, so that it is
// written down like others.
func (s *Server) attempt(rt route, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if e, ok := cause.(error); ok && errors.Is(e, http.ErrAbortHandler) {
			panic(cause) // the way to break a connection off on purpose
		}
		s.config.Log.Error("console: panic", "method", r.Method, "path", r.URL.Path, "cause", cause, "stack", string(debug.Stack()))
		err = errInternal()
	}()
	return rt.serve(w, r)
}

// refuse answers with an error; one that is not for others to read goes into
// the log.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	e, known := refusal(err)
	if !known {
		s.config.Log.Error("console: request", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	fail(w, e)
}
