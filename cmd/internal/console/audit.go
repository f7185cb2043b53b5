package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"snapferry/schedule"
)

// note is what a handler says of its request for the audit log.
type note struct {
	subject string
	result  string // "" is "ok"
}

type noteKey struct{}

func withNote(ctx context.Context, n *note) context.Context {
	return context.WithValue(ctx, noteKey{}, n)
}

// about names what a request is about.
func about(r *http.Request, subject string) {
	if n, ok := r.Context().Value(noteKey{}).(*note); ok {
		n.subject = subject
	}
}

// outcome keeps what an action did to its VMs.
func outcome(r *http.Request, done []schedule.Done) {
	n, ok := r.Context().Value(noteKey{}).(*note)
	if !ok {
		return
	}
	failed, first := 0, ""
	names := make([]string, len(done))
	for i, d := range done {
		names[i] = d.Name
		if d.Name == "" {
			names[i] = ID(d.VM)
		}
		if d.Error != "" {
			if failed++; failed == 1 {
				first = names[i] + ": " + d.Error
			}
		}
	}
	if n.subject == "" {
		n.subject = strings.Join(names, ", ")
	}
	if failed > 0 {
		n.result = fmt.Sprintf("%d of %d failed; %s", failed, len(done), first)
	}
}

const (
	// auditTime is what writing a line may take when the request is over.
	auditTime = 10 * time.Second
	// maxAudited bounds a line's parts: a wave of 2,000 VMs is not spelled out.
	maxAudited = 500
)

// writeDown records a request that changes something, or would have.
func (s *Server) writeDown(r *http.Request, who asked, n *note, err error) {
	d := schedule.Deed{
		At: s.config.Now(), Actor: who.actor.Name, Role: string(who.actor.Role), From: remote(r),
		Action: r.Method + " " + clip(r.URL.Path), Subject: clip(n.subject), Result: "ok",
	}
	if n.result != "" {
		d.Result = clip(n.result)
	}
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.Status == http.StatusTooManyRequests && who.door == nil {
			return // or whoever guesses tokens would fill the disk
		}
		e, _ = refusal(err)
		d.Result = clip(e.Code + ": " + e.Message)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTime)
	defer cancel()
	if err := s.config.Backend.RecordDeed(ctx, d); err != nil {
		s.config.Log.Error("console: write the audit log", "action", d.Action, "actor", d.Actor, "result", d.Result, "error", err)
	}
}

// clip keeps a line of the audit log short and on one line.
func clip(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxAudited {
		return text
	}
	return strings.ToValidUTF8(text[:maxAudited], "") + "…"
}
