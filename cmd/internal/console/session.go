package console

import (
	"net/http"
	"net/url"
	"strings"

	"snapferry/schedule"
)

// form reports that a browser's form sent the request: it wants a page.
func form(r *http.Request) bool { return isType(r, "application/x-www-form-urlencoded") }

// login turns a token into a session. A form with the fields token and next (a
// path of ours) is sent on to next, or back to /login with the parameter
// error, which is "wrong", "limited" or "origin"; JSON {"token"} is answered
// with who it is.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	secret, next, err := credentials(r)
	if err != nil {
		return err
	}
	about(r, "a session")
	if s.origin.Check(r) != nil {
		err = &Error{http.StatusForbidden, codeForbidden, "the request comes from another site", ""}
	}
	var who asked
	if err == nil {
		who.door, err = s.try(r, secret)
		who = s.as(who.door, r)
	}
	if err != nil {
		return s.turnAway(w, r, next, err)
	}
	about(r, "a session of "+who.actor.Name)
	s.sessions.end(cookieValue(r)) // the browser's old one
	setCookie(w, r, s.sessions.begin(who.door))
	if form(r) {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	answer(w, http.StatusOK, identity{Name: who.actor.Name, Role: who.actor.Role, From: who.actor.From, Version: s.config.Version})
	return nil
}

// turnAway tells a browser why it may not come in.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, next string, err error) error {
	if !form(r) || s.config.Web == nil {
		return err
	}
	e, _ := refusal(err)
	why := map[string]string{codeLimited: "limited", codeForbidden: "origin"}[e.Code]
	if why == "" {
		why = "wrong"
	}
	q := url.Values{"error": {why}}
	if next != "/" {
		q.Set("next", next)
	}
	if n, ok := r.Context().Value(noteKey{}).(*note); ok {
		n.result = e.Code + ": " + e.Message
	}
	http.Redirect(w, r, "/login?"+q.Encode(), http.StatusSeeOther)
	return nil
}

func credentials(r *http.Request) (secret, next string, err error) {
	if err := noParams(r); err != nil {
		return "", "", err
	}
	if !form(r) {
		var in struct {
			Token string `json:"token"`
		}
		err := body(r, &in)
		return strings.TrimSpace(in.Token), "/", err
	}
	if err := r.ParseForm(); err != nil {
		return "", "", badRequest("the form cannot be read", "")
	}
	return strings.TrimSpace(r.PostForm.Get("token")), ownPath(r.PostForm.Get("next")), nil
}

// ownPath is a path on this server, "/" for what is none: browsers take
// "//host" and "/\host" for other hosts.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// logout ends the browser's session.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if value := cookieValue(r); value != "" {
		if a, ok := ActorOf(r.Context()); ok {
			about(r, "a session of "+a.Name)
		}
		s.sessions.end(value)
		setCookie(w, r, "")
	}
	if form(r) {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Session is who asks, by cookie or token; false when nobody does or what was
// shown does not hold. It is for handlers that the Server does not call
// itself; those behind it use ActorOf.
func (s *Server) Session(r *http.Request) (schedule.Actor, bool) {
	who, err := s.identify(r)
	return who.actor, err == nil && who.door != nil
}
