package vsphere

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
)

// flaky fails so many calls with an error, then answers.
type flaky struct {
	err   error
	times int
	calls int
}

func (f *flaky) RoundTrip(ctx context.Context, _, _ soap.HasFault) error {
	if f.calls++; f.calls > f.times {
		return nil
	}
	if f.err == nil { // a half-open connection
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

// TestCallsThatWereNeverSent may be repeated, whatever they do; those that may
// have come through may not.
func TestCallsThatWereNeverSent(t *testing.T) {
	onThePost := func(err error) error { return &url.Error{Op: "Post", URL: "/sdk", Err: err} }
	for name, c := range map[string]struct {
		err  error
		want int // calls
	}{
		"no such name":       {&net.DNSError{Err: "server misbehaving", Name: "vcenter.lab.test", IsTemporary: true}, 4},
		"connection refused": {&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}, 4},
		"the proxy is away":  {&net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("connection refused")}, 4},
		"reset while read":   {&net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}, 1},
		"no answer":          {io.EOF, 1},
	} {
		next := &flaky{err: onThePost(c.err), times: 3}
		s := &sessionTripper{next: next, timing: Timing{RetryFirst: time.Millisecond, RetryMax: time.Millisecond, Outage: time.Minute}}
		s.reached.Store(true)
		err := s.RoundTrip(t.Context(), &methods.CreateSnapshot_TaskBody{}, &methods.CreateSnapshot_TaskBody{})
		if next.calls != c.want || (err == nil) != (c.want == 4) {
			t.Errorf("%s: %d calls, %v", name, next.calls, err)
		}
	}
}

// TestNoAnswerForgetsConnections: a call that gets no answer in time takes the
// idle connections with it.
func TestNoAnswerForgetsConnections(t *testing.T) {
	forgotten := 0
	w := &wire{next: &flaky{times: 1}, limit: 10 * time.Millisecond, forget: func() { forgotten++ }}
	if err := w.RoundTrip(t.Context(), &methods.CurrentTimeBody{}, &methods.CurrentTimeBody{}); !errors.Is(err, errNoAnswer) || forgotten != 1 {
		t.Errorf("%v, forgotten %d times", err, forgotten)
	}
	if err := w.RoundTrip(t.Context(), &methods.CurrentTimeBody{}, &methods.CurrentTimeBody{}); err != nil || forgotten != 1 {
		t.Errorf("an answer: %v, forgotten %d times", err, forgotten)
	}
}
