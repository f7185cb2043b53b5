package ebs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/transfer"
)

// Operations, as the services name them; Calls counts by these.
const (
	opStart    = "StartSnapshot"
	opPut      = "PutSnapshotBlock"
	opComplete = "CompleteSnapshot"
	opList     = "ListSnapshotBlocks"
	opGet      = "GetSnapshotBlock"
	opDescribe = "DescribeSnapshots"
	opTag      = "CreateTags"
	opDelete   = "DeleteSnapshot"
	opEncrypts = "GetEbsEncryptionByDefault"
	opIdentity = "GetCallerIdentity"
)

// Services, as IAM spells them.
const (
	serviceEBS = "ebs"
	serviceEC2 = "ec2"
	serviceSTS = "sts"
)

// serviceOf is the service that an operation belongs to.
func serviceOf(op string) string {
	switch op {
	case opDescribe, opTag, opDelete, opEncrypts:
		return serviceEC2
	case opIdentity:
		return serviceSTS
	}
	return serviceEBS
}

// action is the IAM action of an operation.
func action(op string) string { return serviceOf(op) + ":" + op }

// request is one operation and what admitting and judging it needs.
type request struct {
	op     string
	what   string    // a verb and its object, for errors
	known  time.Time // until then a 404 means "not yet"; zero: a 404 is final
	own    *pacer    // of the snapshot
	shared *pacer    // of the account
	gate   *gate     // bounds what is under way at once; nil: nothing does
	bytes  int       // block data that moves
	again  bool      // an attempt before this one failed
	// recheck, where set, is asked before a block is sent again that arrived
	// damaged: an error means that it was damaged here.
	recheck func() error
}

// do makes the attempts of one operation. What comes out is a *transfer.Error.
func (s *Store) do(ctx context.Context, r request, try func(context.Context) error) error {
	budget := newRetries(s.cfg.Timing, time.Now(), r.known)
	for {
		asked := time.Now()
		if err := s.admit(ctx, r); err != nil {
			return canceled(ctx, r.what)
		}
		budget.extend(time.Since(asked))
		err := s.attempt(ctx, r, try)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return canceled(ctx, r.what)
		}
		now := time.Now()
		v := classify(failure{op: r.op, err: err, young: now.Before(r.known), reached: s.reached(r.op).Load()})
		if err := s.react(r, v, now); err != nil {
			return err
		}
		pause, again := budget.next(v, now)
		if !again {
			return fail(r, v, err, budget.n+1)
		}
		if sleep(ctx, pause) != nil {
			return canceled(ctx, r.what)
		}
		r.again = true
	}
}

// wasThrottled reports whether a service refused a request since there were too
// many.
func wasThrottled(op string, err error) bool {
	if err == nil {
		return false
	}
	sign := classify(failure{op: op, err: err}).sign
	return sign == throttledSnapshot || sign == throttledAccount
}

// admit waits for a turn: the snapshot's pace before a place is taken, so that
// a slow snapshot does not hold places that others could use.
func (s *Store) admit(ctx context.Context, r request) error {
	if err := r.own.wait(ctx, 1); err != nil {
		return err
	}
	if r.gate != nil {
		if err := r.gate.enter(ctx); err != nil {
			return err
		}
	}
	err := r.shared.wait(ctx, 1)
	if err == nil && r.bytes > 0 {
		err = s.bytes.wait(ctx, r.bytes)
	}
	if err != nil && r.gate != nil {
		r.gate.leave(place{}, time.Now(), unclear)
	}
	return err
}

// attempt makes one attempt under its deadline and gives the place back.
func (s *Store) attempt(ctx context.Context, r request, try func(context.Context) error) error {
	s.count(r.op)
	actx, cancel := context.WithTimeout(ctx, s.cfg.Timing.Attempt)
	defer cancel()
	var p place
	if r.gate != nil {
		p = r.gate.begin(time.Now())
	}
	started := time.Now()
	err := try(actx)
	if s.cfg.Trace != nil {
		s.cfg.Trace(Exchange{Service: serviceOf(r.op), Op: r.op, What: r.what, Took: time.Since(started), Err: clean(err), Throttled: wasThrottled(r.op, err), Again: r.again})
	}
	if r.gate != nil {
		r.gate.leave(p, time.Now(), outcomeOf(ctx, r.op, err))
	}
	// Any answer shows that the service can be reached, a refusal too.
	if err == nil || (!s.reached(r.op).Load() && statusOf(err) != 0) {
		s.reached(r.op).Store(true)
	}
	return err
}

// outcomeOf is what an attempt says about the uplink.
func outcomeOf(ctx context.Context, op string, err error) outcome {
	switch {
	case err == nil:
		return quick
	case ctx.Err() != nil:
		return unclear
	}
	switch v := classify(failure{op: op, err: err, reached: true}); {
	case v.sign == slowBody:
		return slow
	case v.sign == noAnswer && isTimeout(err):
		return maybeSlow
	}
	return unclear
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &t) && t.Timeout())
}

// react does what an error asks for beyond trying again. Its own error ends
// the operation.
func (s *Store) react(r request, v verdict, now time.Time) error {
	switch v.sign {
	case throttledSnapshot:
		if r.own != nil {
			r.own.throttled(now)
		} else {
			r.shared.throttled(now)
		}
	case throttledAccount:
		r.shared.throttled(now)
	case credentialsEnded:
		s.renew()
	case corruptedBody:
		if r.recheck != nil {
			return r.recheck()
		}
	}
	return nil
}

// fail is the error of an operation that is given up after n attempts.
func fail(r request, v verdict, err error, n int) error {
	why := v.why
	if reason := reasonOf(err); reason != "" {
		why += " (" + reason + ")"
	}
	if n > 1 {
		why += fmt.Sprintf(", %d attempts", n)
	}
	return transfer.Fail(v.kind, r.what, fmt.Errorf("%s: %w", why, clean(err)), v.hint)
}

func canceled(ctx context.Context, what string) error {
	err := ctx.Err()
	switch cause := context.Cause(ctx); {
	case err == nil: // the turn would have come after ctx's deadline
		err = context.DeadlineExceeded
	case cause != err:
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return transfer.Fail(transfer.Canceled, what, err, "")
}

// sleep pauses for d; its error is ctx's end.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refuse is an error about something that was never sent.
func refuse(what, format string, args ...any) error {
	return transfer.Fail(transfer.Permanent, what, fmt.Errorf(format, args...), "")
}
