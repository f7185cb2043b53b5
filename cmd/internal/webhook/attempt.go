package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"snapferry/cmd/internal/logging"
	"snapferry/schedule"
)

// answer is what came of a request.
type answer struct {
	err      error         // nil: delivered
	refused  bool          // the receiver does not want it: after some tries neither do we
	hopeless bool          // it cannot even be sent
	after    time.Duration // not before
}

// attempt sends an event once. A request that is under way when ctx ends may
// go on for a moment: aborted, it would come twice.
func (l *lane) attempt(ctx context.Context, e schedule.Event) answer {
	r, err := l.request(e, time.Now())
	if err != nil {
		return answer{err: err, hopeless: true}
	}
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.hook.Timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { sleep(sending, l.Timing.Farewell); cancel() })()
	resp, err := l.client.Do(r.WithContext(sending))
	if err != nil {
		return answer{err: l.failure(err)}
	}
	defer func() { _ = resp.Body.Close() }() // its answer is the status
	// So much is read that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return judge(resp.StatusCode, resp.Header.Get("Retry-After"), time.Now())
}

func (l *lane) request(e schedule.Event, now time.Time) (*http.Request, error) {
	id, body, err := encode(e, l.Appliance)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(http.MethodPost, l.hook.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("make a request: the URL is not valid")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "snapferry/"+l.Version)
	r.Header.Set("Idempotency-Key", id)
	sign(r.Header, l.key, id, now, body)
	return r, nil
}

// judge says what a status means. Redirects are refusals: somebody has to put
// the new URL into the settings.
func judge(status int, retryAfter string, now time.Time) answer {
	a := answer{err: fmt.Errorf("the receiver answered %d %s", status, http.StatusText(status)), after: waitOf(retryAfter, now)}
	switch {
	case status >= 200 && status < 300:
		return answer{}
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return a
	}
	a.refused = true
	return a
}

// waitOf reads Retry-After: seconds, or an instant.
func waitOf(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// failure is why a request got no answer, without the URL, which net/http puts
// before it.
func (l *lane) failure(err error) error {
	var where *url.Error
	if errors.As(err, &where) {
		err = where.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", l.hook.Timeout)
	}
	return errors.New(logging.Redact(err.Error()))
}
