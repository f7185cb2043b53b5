package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"snapferry/transfer"
)

// Timing are the launcher's patience and pace; zero values take the defaults.
type Timing struct {
	Poll      time.Duration // between looks at something that takes its time
	Attempt   time.Duration // one request
	Pause     time.Duration // after a failed request, doubling
	Attempts  int           // of one request
	Fresh     time.Duration // how long EC2 may not know what it has just made
	Image     time.Duration // until an image is available
	Import    time.Duration // until an import has ended
	Running   time.Duration // until an instance runs or has stopped
	Status    time.Duration // until its status checks are passed
	Volume    time.Duration // until a volume is there, attached or free
	Terminate time.Duration // until an instance is gone
	Cleanup   time.Duration // for what is kept of a failure
}

// defaultTiming: EC2 says no times. Images of ready snapshots are there within
// a minute, instances run within two, status checks take three to five and
// longer on volumes that load, Windows takes its time to stop.
var defaultTiming = Timing{
	Poll: 5 * time.Second, Attempt: time.Minute, Pause: time.Second, Attempts: 8, Fresh: 2 * time.Minute,
	Image: 20 * time.Minute, Import: 12 * time.Hour, Running: 10 * time.Minute, Status: 20 * time.Minute,
	Volume: 15 * time.Minute, Terminate: 20 * time.Minute, Cleanup: time.Minute,
}

func (t Timing) withDefaults() Timing {
	d := defaultTiming
	for _, p := range []struct{ v, d *time.Duration }{
		{&t.Poll, &d.Poll}, {&t.Attempt, &d.Attempt}, {&t.Pause, &d.Pause}, {&t.Fresh, &d.Fresh}, {&t.Image, &d.Image},
		{&t.Import, &d.Import}, {&t.Running, &d.Running}, {&t.Status, &d.Status}, {&t.Volume, &d.Volume},
		{&t.Terminate, &d.Terminate}, {&t.Cleanup, &d.Cleanup},
	} {
		if *p.v == 0 {
			*p.v = *p.d
		}
	}
	if t.Attempts == 0 {
		t.Attempts = d.Attempts
	}
	return t
}

// maxPause bounds the pause between attempts.
const maxPause = 20 * time.Second

// call makes a request, and again while that may help.
func call[I, O any](ctx context.Context, l *Launcher, what string, f func(context.Context, *I, ...opt) (*O, error), in *I) (*O, error) {
	return callUntil(ctx, l, what, f, in, nil)
}

// callFresh is call for things so new that EC2 may not know them yet.
func callFresh[I, O any](ctx context.Context, l *Launcher, what string, f func(context.Context, *I, ...opt) (*O, error), in *I) (*O, error) {
	known := l.now().Add(l.timing.Fresh)
	return callUntil(ctx, l, what, f, in, func(err error) bool { return isMissing(err) && l.now().Before(known) })
}

// callUntil also tries again where again says so, as often as it does.
func callUntil[I, O any](ctx context.Context, l *Launcher, what string, f func(context.Context, *I, ...opt) (*O, error), in *I, again func(error) bool) (*O, error) {
	pause := l.timing.Pause
	for n := 1; ; {
		actx, cancel := context.WithTimeout(ctx, l.timing.Attempt)
		out, err := f(actx, in)
		cancel()
		if err == nil {
			return out, nil
		}
		if ctx.Err() != nil {
			return nil, transfer.Fail(transfer.Canceled, what, ctx.Err(), "")
		}
		switch {
		case again != nil && again(err):
		case mayPass(err) && n < l.timing.Attempts:
			n++
		default:
			return nil, failed(what, err)
		}
		if err := l.sleep(ctx, pause); err != nil {
			return nil, transfer.Fail(transfer.Canceled, what, err, "")
		}
		pause = min(2*pause, maxPause)
	}
}

// failed classifies what comes out.
func failed(what string, err error) error {
	kind := transfer.Permanent
	if mayPass(err) || isCapacity(err) {
		kind = transfer.Retry
	}
	hint := hints[code(err)]
	if hint == "" && strings.HasSuffix(code(err), "LimitExceeded") {
		hint = "raise the quota in the Service Quotas console, or make room"
	}
	return transfer.Fail(kind, what, err, hint)
}

var hints = map[string]string{
	"UnauthorizedOperation":        "allow the action in the IAM policy of these credentials",
	"AuthFailure":                  "check the credentials and the machine's clock",
	"InsufficientInstanceCapacity": "try again, set another instanceType, or a subnet in another zone",
	"InvalidSubnetID.NotFound":     "check subnet and the region",
	"InvalidKeyPair.NotFound":      "check keyName and the region",
	"InvalidIPAddress.InUse":       "free the address, or do not set privateIP",
}

// mayPass: the same request may well succeed later.
func mayPass(err error) bool {
	var status *smithyhttp.ResponseError
	if errors.As(err, &status) && status.HTTPStatusCode() >= 500 {
		return !isCapacity(err) // which EC2 answers with 500 as well
	}
	switch code(err) {
	case "":
		var n net.Error
		return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout":
		return true
	}
	return false
}

func isCapacity(err error) bool {
	switch code(err) {
	case "InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported":
		return true
	}
	return false
}

// code is EC2's code of an error, "" where it did not answer with one.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func isMissing(err error) bool {
	switch c := code(err); c {
	case "InvalidAMIID.Unavailable", "InvalidConversionTaskId.Malformed": // EC2's words for a task that it does not know
		return true
	default:
		return strings.HasSuffix(c, ".NotFound")
	}
}

// firstPoll: what AWS has done within a second, as it often has, is seen then;
// looks come further apart until they are Timing.Poll apart.
const firstPoll = 8

// until looks again and again until look says that it is done. state is told
// where the time is over.
func (l *Launcher) until(ctx context.Context, what string, limit time.Duration, look func(context.Context) (done bool, state string, err error)) error {
	end := l.now().Add(limit)
	for pause := l.timing.Poll / firstPoll; ; pause = min(2*pause, l.timing.Poll) {
		done, state, err := look(ctx)
		if err != nil || done {
			return err
		}
		if !l.now().Before(end) {
			return transfer.Fail(transfer.Retry, what, fmt.Errorf("it is %s after %v", state, limit), "repeat it: what is there already is used")
		}
		if err := l.sleep(ctx, pause); err != nil {
			return transfer.Fail(transfer.Canceled, what, err, "")
		}
	}
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// sleepFor is the launcher's sleep where none is given.
func sleepFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
