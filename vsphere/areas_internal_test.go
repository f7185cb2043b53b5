package vsphere

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// tripperFunc answers calls.
type tripperFunc func(req, res soap.HasFault) error

func (f tripperFunc) RoundTrip(_ context.Context, req, res soap.HasFault) error { return f(req, res) }

func testSession(next tripperFunc, login func(context.Context) error) *sessionTripper {
	s := &sessionTripper{next: next, login: login, timing: Timing{RetryFirst: time.Millisecond, RetryMax: time.Millisecond, Outage: 20 * time.Millisecond}.withDefaults()}
	s.reached.Store(true)
	return s
}

// TestMissingSetWithoutASession: the property collector's way of saying so.
func TestMissingSetWithoutASession(t *testing.T) {
	logins := 0
	s := testSession(func(_, res soap.HasFault) error {
		body := res.(*methods.RetrievePropertiesExBody)
		o := types.ObjectContent{}
		if logins == 0 {
			o.MissingSet = []types.MissingProperty{{Path: "name", Fault: types.LocalizedMethodFault{Fault: &types.NotAuthenticated{}}}}
		}
		body.Res = &types.RetrievePropertiesExResponse{Returnval: &types.RetrieveResult{Objects: []types.ObjectContent{o}}}
		return nil
	}, func(context.Context) error { logins++; return nil })
	res := &methods.RetrievePropertiesExBody{}
	if err := s.RoundTrip(context.Background(), &methods.RetrievePropertiesExBody{}, res); err != nil || logins != 1 || len(res.Res.Returnval.Objects[0].MissingSet) != 0 {
		t.Errorf("%v after %d logins", err, logins)
	}
}

// TestOnlyWhatMayBeIsRepeated: a change whose answer got lost is asked once.
func TestOnlyWhatMayBeIsRepeated(t *testing.T) {
	for _, x := range []struct {
		req, res soap.HasFault
		repeat   bool
	}{
		{&methods.RetrievePropertiesExBody{}, &methods.RetrievePropertiesExBody{}, true},
		{&methods.QueryChangedDiskAreasBody{}, &methods.QueryChangedDiskAreasBody{}, true},
		{&methods.CreateSnapshot_TaskBody{}, &methods.CreateSnapshot_TaskBody{}, false},
		{&methods.RemoveSnapshot_TaskBody{}, &methods.RemoveSnapshot_TaskBody{}, false},
		{&methods.ReconfigVM_TaskBody{}, &methods.ReconfigVM_TaskBody{}, false},
		{&methods.ConsolidateVMDisks_TaskBody{}, &methods.ConsolidateVMDisks_TaskBody{}, false},
	} {
		calls := 0
		s := testSession(func(_, _ soap.HasFault) error {
			calls++
			return io.ErrUnexpectedEOF
		}, nil)
		err := s.RoundTrip(context.Background(), x.req, x.res)
		if !errors.Is(err, io.ErrUnexpectedEOF) || (calls > 1) != x.repeat {
			t.Errorf("%T: %d calls, %v", x.req, calls, err)
		}
	}
	// before vCenter was ever reached a failure is no outage
	calls := 0
	s := testSession(func(_, _ soap.HasFault) error { calls++; return io.EOF }, nil)
	s.reached.Store(false)
	if err := s.RoundTrip(context.Background(), &methods.LoginBody{}, &methods.LoginBody{}); err == nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
