package nbd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// ErrProtocol is wrapped by the errors about a server that says what the
// protocol does not allow. The connection is of no further use.
var ErrProtocol = errors.New("server broke the NBD protocol")

// ErrClosed is wrapped by the errors of requests on a closed client.
var ErrClosed = errors.New("the client is closed")

// ErrNoContext is wrapped by the error of a block status request in a metadata
// context that the server did not grant.
var ErrNoContext = errors.New("the server does not offer this metadata context")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// Error values of the protocol; they are Linux's numbers on every system.
const (
	nbdEPERM     = 1
	nbdEIO       = 5
	nbdENOMEM    = 12
	nbdEINVAL    = 22
	nbdENOSPC    = 28
	nbdEOVERFLOW = 75
	nbdENOTSUP   = 95
	nbdESHUTDOWN = 108
)

var errnos = []struct {
	code  uint32
	name  string
	errno syscall.Errno
}{
	{nbdEPERM, "EPERM", syscall.EPERM},
	{nbdEIO, "EIO", syscall.EIO},
	{nbdENOMEM, "ENOMEM", syscall.ENOMEM},
	{nbdEINVAL, "EINVAL", syscall.EINVAL},
	{nbdENOSPC, "ENOSPC", syscall.ENOSPC},
	{nbdEOVERFLOW, "EOVERFLOW", syscall.EOVERFLOW},
	{nbdENOTSUP, "ENOTSUP", syscall.ENOTSUP},
	{nbdESHUTDOWN, "ESHUTDOWN", syscall.ESHUTDOWN},
}

// RemoteError is the server's refusal of one request; the connection goes on.
// It unwraps to the [syscall.Errno] of its code, where the protocol defines one.
type RemoteError struct {
	Code    uint32 // as sent
	Message string // the server's own words, or empty
	Offset  int64  // where in the export it happened, or -1
}

func (e *RemoteError) Error() string {
	s := fmt.Sprintf("server answered error %d", e.Code)
	for _, k := range errnos {
		if k.code == e.Code {
			s = fmt.Sprintf("server answered %s (%s)", k.name, k.errno.Error())
		}
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at offset %d", e.Offset)
	}
	if e.Message != "" {
		s += fmt.Sprintf(": %q", e.Message)
	}
	return s
}

func (e *RemoteError) Unwrap() error {
	for _, k := range errnos {
		if k.code == e.Code {
			return k.errno
		}
	}
	return nil
}

// OptionError is the server's refusal of an option during the negotiation. It
// unwraps to [fs.ErrNotExist] for an unknown export, [fs.ErrPermission] for a
// matter of policy or TLS, and [errors.ErrUnsupported].
type OptionError struct {
	Option  string // the option's name in the protocol
	Code    uint32 // as sent
	Message string // the server's own words, or empty
}

func (e *OptionError) Error() string {
	what := map[uint32]string{
		repErrUnsup:     "the option is not supported",
		repErrPolicy:    "forbidden by the server's policy",
		repErrInvalid:   "the server calls the option invalid",
		repErrPlatform:  "not supported on the server's platform",
		repErrTLSReqd:   "the server requires TLS, which this client does not have",
		repErrUnknown:   "the server has no such export",
		repErrShutdown:  "the server is shutting down",
		repErrBlockReqd: "the server requires block sizes to be negotiated",
		repErrTooBig:    "the server calls the option too big",
	}[e.Code]
	if what == "" {
		what = fmt.Sprintf("error %#x", e.Code)
	}
	if e.Message != "" {
		return fmt.Sprintf("%s refused: %s: %q", e.Option, what, e.Message)
	}
	return fmt.Sprintf("%s refused: %s", e.Option, what)
}

func (e *OptionError) Unwrap() error {
	switch e.Code {
	case repErrUnknown:
		return fs.ErrNotExist
	case repErrPolicy, repErrTLSReqd:
		return fs.ErrPermission
	case repErrUnsup, repErrPlatform:
		return errors.ErrUnsupported
	}
	return nil
}

// codeOf is the protocol's error for an error of a backend.
func codeOf(err error) uint32 {
	var remote *RemoteError
	switch {
	case errors.As(err, &remote) && remote.Unwrap() != nil:
		return remote.Code
	case errors.Is(err, context.Canceled):
		return nbdESHUTDOWN
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EFBIG):
		return nbdENOSPC
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nbdEPERM
	case errors.Is(err, syscall.ENOMEM):
		return nbdENOMEM
	case errors.Is(err, syscall.EINVAL):
		return nbdEINVAL
	case errors.Is(err, errors.ErrUnsupported):
		return nbdENOTSUP
	}
	return nbdEIO
}
