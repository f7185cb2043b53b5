package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what a caller can do about an error. Adapters classify; the
// decorated client retries requests, the engine retries cycles, and nothing
// else retries.
type Kind int

const (
	// Permanent: the same call will fail again until somebody changes
	// something. Errors without a kind count as permanent.
	Permanent Kind = iota
	// Retry: a later cycle may well succeed.
	Retry
	// BaselineLost: the change ID or the parent can no longer serve; the disk
	// needs a full read. It is never the end of a cycle, only of a delta.
	BaselineLost
	// Canceled: the caller's own context ended.
	Canceled
)

func (k Kind) String() string {
	return [...]string{"permanent", "retry", "baseline lost", "canceled"}[k]
}

// ErrDraftFailed is the cause when EC2 ended a draft in error: it can never be
// sealed.
var ErrDraftFailed = errors.New("EC2 ended the draft in error")

// Error says what was attempted, on what, why it failed, and what to do next.
type Error struct {
	Kind Kind
	Op   string // a verb and its object: "remove VM snapshot snapshot-12"
	Err  error  // the cause
	Hint string // the next step for a person; may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Fail builds an *Error; hint may be empty.
func Fail(kind Kind, op string, err error, hint string) error {
	return &Error{Kind: kind, Op: op, Err: err, Hint: hint}
}

// KindOf returns the kind of the outermost *Error in err's chain. A bare
// context error is Canceled; any other bare error is Permanent.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Canceled
	default:
		return Permanent
	}
}

// HintOf returns the first hint in err's tree, or "".
func HintOf(err error) string {
	if e, ok := err.(*Error); ok && e.Hint != "" {
		return e.Hint
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return HintOf(u.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range u.Unwrap() {
			if h := HintOf(inner); h != "" {
				return h
			}
		}
	}
	return ""
}
