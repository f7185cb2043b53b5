package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// The codes of errors, words that programs can hold on to.
const (
	codeBadRequest  = "bad_request"
	codeNoToken     = "unauthorized"
	codeForbidden   = "forbidden"
	codeNotFound    = "not_found"
	codeMethod      = "method_not_allowed"
	codeConflict    = "conflict"
	codeTooLarge    = "too_large"
	codeType        = "unsupported_type"
	codeInvalid     = "invalid"
	codeLimited     = "rate_limited"
	codeInternal    = "internal"
	codeUnavailable = "unavailable"
)

// Error is a refusal as it goes over the wire, and what Client returns. It
// wraps schedule.ErrNotFound, ErrConflict or ErrInvalid where it is one of
// those.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do next
}

func (e *Error) Error() string { return e.Message }

// Unwrap is the cause, with the hint where transfer.HintOf finds it.
func (e *Error) Unwrap() error {
	cause := map[string]error{codeNotFound: schedule.ErrNotFound, codeConflict: schedule.ErrConflict, codeInvalid: schedule.ErrInvalid}[e.Code]
	if e.Hint == "" {
		return cause
	}
	return transfer.Fail(e.kind(), e.Code, cause, e.Hint)
}

// kind says whether asking again later may help.
func (e *Error) kind() transfer.Kind {
	if e.Code == codeLimited || e.Code == codeUnavailable {
		return transfer.Retry
	}
	return transfer.Permanent
}

func errInternal() *Error {
	return &Error{http.StatusInternalServerError, codeInternal, "something went wrong inside the connector", "The connector's log says what."}
}

func badRequest(message, hint string) *Error {
	return &Error{http.StatusBadRequest, codeBadRequest, message, hint}
}

func invalid(message, hint string) *Error {
	return &Error{http.StatusUnprocessableEntity, codeInvalid, message, hint}
}

func limited(message string) *Error {
	return &Error{http.StatusTooManyRequests, codeLimited, message, "Wait for as many seconds as Retry-After says."}
}

// refusal turns what a handler or the backend returned into what is sent;
// known is false for what only the log may tell.
func refusal(err error) (e *Error, known bool) {
	var asIs *Error
	var tooLarge *http.MaxBytesError
	hint := transfer.HintOf(err)
	switch {
	case errors.As(err, &asIs):
		return asIs, true
	case errors.As(err, &tooLarge):
		return &Error{http.StatusRequestEntityTooLarge, codeTooLarge, "the request's body is too large", ""}, true
	case errors.Is(err, schedule.ErrNotFound):
		return &Error{http.StatusNotFound, codeNotFound, err.Error(), hint}, true
	case errors.Is(err, schedule.ErrConflict):
		return &Error{http.StatusConflict, codeConflict, err.Error(), hint}, true
	case errors.Is(err, schedule.ErrInvalid):
		return &Error{http.StatusUnprocessableEntity, codeInvalid, err.Error(), hint}, true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{http.StatusServiceUnavailable, codeUnavailable, "the connector took too long to answer", "Try again in a moment."}, false
	}
	return errInternal(), false
}

// fail writes an error.
func fail(w http.ResponseWriter, e *Error) {
	h := w.Header()
	switch e.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="snapferry"`)
	case http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", strconv.Itoa(int(wrongTokenEvery/time.Second)))
		}
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	answer(w, e.Status, struct {
		Error *Error `json:"error"`
	}{e})
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer cannot be written as JSON"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the reader has gone: nobody is left to tell
}
