package console

import (
	"context"
	"net"
	"net/http"

	"snapferry/schedule"
)

type actorKey struct{}

// ActorOf is who makes a request, in the context of one that the Server passed
// on to Config.Web; false when nobody is logged in.
func ActorOf(ctx context.Context) (schedule.Actor, bool) {
	a, ok := ctx.Value(actorKey{}).(schedule.Actor)
	return a, ok
}

// WithActor is a context in which ActorOf finds a: for tests of web pages.
func WithActor(ctx context.Context, a schedule.Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// localFrom is the address of those who come over a unix socket.
const localFrom = "socket"

// remote is where a request comes from. No forwarding header is believed:
// anybody can send one.
func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || host == "" {
		return localFrom
	}
	return host
}
