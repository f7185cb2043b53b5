package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

type (
	ref           = types.ManagedObjectReference
	logoutRequest = types.Logout
)

// wire counts calls and bounds each.
type wire struct {
	next soap.RoundTripper
	// forget closes connections that carry no call.
	forget func()
	limit  time.Duration
	calls  atomic.Int64
	trace  func(op string, took time.Duration, err error) // may be nil
}

// errNoAnswer: the call's own time ran out, not the caller's.
var errNoAnswer = errors.New("vCenter gave no answer in time")

func (w *wire) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	w.calls.Add(1)
	began := time.Now()
	err := w.bounded(ctx, req, res)
	if w.trace != nil {
		w.trace(opOf(req), time.Since(began), err)
	}
	return err
}

// opOf is the API's name of a call: of *methods.LoginBody it is "Login".
func opOf(req soap.HasFault) string {
	return strings.TrimSuffix(reflect.TypeOf(req).Elem().Name(), "Body")
}

func (w *wire) bounded(ctx context.Context, req, res soap.HasFault) error {
	limit := w.limit
	if _, ok := req.(*methods.WaitForUpdatesExBody); ok {
		limit += longestWait
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := w.next.RoundTrip(bounded, req, res)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		// What swallowed this call swallows those on its sister connections too,
		// one limit after the other: the next call is to make a new one.
		if w.forget != nil {
			w.forget()
		}
		return fmt.Errorf("%w (%v)", errNoAnswer, limit)
	}
	return err
}

// sessionTripper logs in again where the session has ended, and repeats what
// may be repeated where the network fails.
type sessionTripper struct {
	next    soap.RoundTripper
	login   func(context.Context) error
	timing  Timing
	reached atomic.Bool // vCenter has answered before: a failure is an outage

	mu     sync.Mutex   // one login at a time
	logins atomic.Int64 // successful ones, by this tripper
}

func (s *sessionTripper) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	pause := backoff{first: s.timing.RetryFirst, max: s.timing.RetryMax}
	var down time.Time // since when there was no answer
	for relogins := 0; ; {
		seen := s.logins.Load()
		err := s.next.RoundTrip(ctx, req, res)
		if err == nil {
			err = missingSession(res)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case isNotAuthenticated(err) && !isLogin(req) && relogins < 2:
			// The call was refused before it had any effect: any call may be
			// repeated. Twice, since sessions can be killed at any moment.
			relogins++
			if err := s.relogin(ctx, seen); err != nil {
				return fmt.Errorf("log in again: %w", err)
			}
		case isNetwork(err) && s.reached.Load() && (mayRepeat(req) || neverSent(err)):
			if down.IsZero() {
				down = time.Now()
			} else if time.Since(down) > s.timing.Outage {
				return err
			}
			if pause.wait(ctx) != nil {
				return err
			}
		default:
			return err
		}
		reflect.ValueOf(res).Elem().SetZero() // the failed answer's fault is in it
	}
}

// relogin logs in unless somebody did since.
func (s *sessionTripper) relogin(ctx context.Context, seen int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logins.Load() != seen {
		return nil
	}
	if err := s.login(ctx); err != nil {
		return err
	}
	s.logins.Add(1)
	return nil
}

// logins is how often the session was begun anew.
func (c *Client) logins() int64 {
	if s, ok := c.vim.RoundTripper.(*sessionTripper); ok {
		return s.logins.Load()
	}
	return 0
}

func isLogin(req soap.HasFault) bool {
	switch req.(type) {
	case *methods.LoginBody, *methods.LogoutBody:
		return true
	}
	return false
}

// mayRepeat: calls that change nothing, or nothing that a second time changes.
// Collectors and views made twice end with the session. WaitForUpdatesEx is not
// among them: an update whose answer got lost may not be told again.
func mayRepeat(req soap.HasFault) bool {
	switch req.(type) {
	case *methods.RetrievePropertiesExBody, *methods.RetrieveServiceContentBody, *methods.CurrentTimeBody,
		*methods.QueryChangedDiskAreasBody, *methods.FindByUuidBody, *methods.FindAllByUuidBody, *methods.FindByInventoryPathBody,
		*methods.CreateContainerViewBody, *methods.DestroyViewBody, *methods.LoginBody,
		*methods.CreatePropertyCollectorBody, *methods.CreateFilterBody:
		return true
	}
	return false
}

// neverSent: no connection could be made, so that vCenter cannot have heard of
// the call. Any call may be repeated then.
func neverSent(err error) bool {
	var name *net.DNSError
	var op *net.OpError
	return errors.As(err, &name) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// missingSession finds the refusal in an answer that looks like success: the
// property collector answers without a session with every property missing.
func missingSession(res soap.HasFault) error {
	body, ok := res.(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return nil
	}
	for _, o := range body.Res.Returnval.Objects {
		for _, m := range o.MissingSet {
			if _, ok := m.Fault.Fault.(*types.NotAuthenticated); ok {
				return soap.WrapVimFault(m.Fault.Fault)
			}
		}
	}
	return nil
}

func isNotAuthenticated(err error) bool { return fault.Is(err, &types.NotAuthenticated{}) }

// isNetwork: no answer came that is vCenter's: the connection failed, a proxy or
// a starting vCenter answered, or the answer was cut. Whether the call had its
// effect is not known.
func isNetwork(err error) bool {
	var cert *CertificateError
	var explained *transfer.Error
	if err == nil || errors.As(err, &cert) || errors.As(err, &explained) || hasFault(err) {
		return false
	}
	return errors.Is(err, errNoAnswer) || (!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded))
}

func hasFault(err error) bool {
	var f interface{ Fault() types.BaseMethodFault }
	return soap.IsSoapFault(err) || soap.IsVimFault(err) || errors.As(err, &f)
}

// backoff is the pause between attempts, doubling.
type backoff struct{ first, max, next time.Duration }

// wait sleeps, or returns ctx's error.
func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(b.next*2, b.first), b.max)
	t := time.NewTimer(b.next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
