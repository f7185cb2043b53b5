package ebs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"snapferry/transfer"
)

// sign is what an error says about the world beyond its own request.
type sign int

const (
	noSign            sign = iota
	throttledSnapshot      // the snapshot's request rate is used up
	throttledAccount       // the account's is
	noAnswer               // the request or its answer got lost on the way
	slowBody               // the service gave up waiting for the body
	credentialsEnded       // the session is over: fetch new credentials
	corruptedBody          // a block arrived other than it was digested
)

// How many more attempts an error is worth.
const (
	never      = 0
	once       = 1
	briefly    = 2  // before anything of that service was ever reached
	asLongAs   = -1 // until the operation's time is over
	aFewTimes  = 3  // answers that were whole and wrong
	untilKnown = -2 // until the service knows a new snapshot
)

// verdict is what follows from an error.
type verdict struct {
	kind  transfer.Kind // of the error if it comes out
	tries int           // how many more attempts it is worth
	sign  sign
	why   string // for a person
	hint  string // the next step; may be empty
}

// failure is one failed attempt and what is known around it.
type failure struct {
	op      string // the operation's name, "PutSnapshotBlock"
	err     error
	young   bool // the snapshot is so new that a 404 means "not yet"
	reached bool // this service has answered this process before
}

// errCorruptBlock: bytes came that do not have their checksum.
var errCorruptBlock = errors.New("the bytes do not match their checksum")

// errTruncatedBlock: fewer or more bytes came than a block has.
var errTruncatedBlock = errors.New("the answer is not one whole block")

// classify decides what to do about a failed attempt. It is pure. The caller's
// own end (a cancelled context) is for the caller to see first.
func classify(f failure) verdict {
	if v, ok := classifyLocal(f); ok {
		return v
	}
	var api smithy.APIError
	if errors.As(f.err, &api) {
		return classifyAPI(f, api.ErrorCode(), reasonOf(f.err), api.ErrorMessage())
	}
	if code := statusOf(f.err); code != 0 {
		return classifyStatus(f, code)
	}
	return classifyTransport(f)
}

// classifyLocal knows the errors that arise on this side.
func classifyLocal(f failure) (verdict, bool) {
	text := f.err.Error()
	switch {
	case errors.Is(f.err, errCorruptBlock), errors.Is(f.err, errTruncatedBlock):
		return verdict{kind: transfer.Retry, tries: aFewTimes, why: "the block arrived damaged",
			hint: "something between here and AWS changes bytes; if it stays, look at proxies on the way and at this machine's memory"}, true
	case strings.Contains(text, "Probable clock skew error"), strings.Contains(text, "Signature expired"),
		strings.Contains(text, "Signature not yet current"):
		// The SDK has learned the offset from the answer's Date.
		return verdict{kind: transfer.Permanent, tries: once, why: "this machine's clock is wrong",
			hint: "set the clock (NTP); AWS refuses signatures more than five minutes off"}, true
	case strings.Contains(text, "failed to refresh cached credentials"), strings.Contains(text, "get credentials:"):
		// In mid-flight the source (a process, a token service) may be away
		// for a moment; at the start it is more likely not set up.
		v := verdict{kind: transfer.Permanent, tries: never, why: "no AWS credentials could be had", hint: hintCredentials}
		if f.reached {
			v.kind, v.tries = transfer.Retry, asLongAs
		}
		return v, true
	}
	return verdict{}, false
}

// classifyStatus judges an answer that names no code, such as a proxy's.
func classifyStatus(f failure, status int) verdict {
	switch {
	case status == http.StatusTooManyRequests:
		return verdict{kind: transfer.Retry, tries: asLongAs, sign: throttledAccount, why: "too many requests"}
	case status >= 500, status == http.StatusRequestTimeout:
		return verdict{kind: transfer.Retry, tries: asLongAs, why: "the service had an error of its own"}
	case status == http.StatusProxyAuthRequired:
		return verdict{kind: transfer.Permanent, why: "the proxy wants a password", hint: hintProxy}
	case status == http.StatusNotFound:
		return notFound(f)
	}
	// An answer that is whole and cannot be read: cut, or not from AWS.
	return verdict{kind: transfer.Retry, tries: aFewTimes, why: "the answer cannot be read",
		hint: "check that the endpoint is the AWS service and not a proxy's or portal's page"}
}

// classifyTransport judges an attempt that got no answer.
func classifyTransport(f failure) verdict {
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(f.err, &unknown):
		return verdict{kind: transfer.Permanent, why: "the server's certificate is signed by an unknown authority",
			hint: "if a proxy or an endpoint of your own has such a certificate, name its authority in AWS_CA_BUNDLE"}
	case errors.As(f.err, &host):
		return verdict{kind: transfer.Permanent, why: "the server's certificate is for another host",
			hint: "check the endpoint URL and what DNS says for its host"}
	case errors.As(f.err, &verify):
		return verdict{kind: transfer.Permanent, why: "the server's certificate is not valid",
			hint: "check this machine's clock, the endpoint URL and AWS_CA_BUNDLE"}
	case errors.As(f.err, &record):
		return verdict{kind: transfer.Permanent, why: "the server does not speak TLS",
			hint: "check scheme and port of the endpoint or proxy URL"}
	case strings.Contains(f.err.Error(), "Proxy Authentication Required"):
		return verdict{kind: transfer.Permanent, why: "the proxy wants a password", hint: hintProxy}
	case isUnreachable(f.err):
		v := verdict{kind: transfer.Retry, tries: asLongAs, why: "the endpoint cannot be reached", hint: hintUnreachable}
		if !f.reached { // a wrong endpoint or region: say so soon
			v.tries = briefly
		}
		return v
	case isNetwork(f.err):
		return verdict{kind: transfer.Retry, tries: asLongAs, sign: noAnswer, why: "the connection broke or no answer came", hint: hintNetwork}
	}
	return verdict{kind: transfer.Permanent, why: "the request failed"}
}

// isUnreachable: no connection was made at all.
func isUnreachable(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	return errors.As(err, &dns) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		(errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"))
}

func isNetwork(err error) bool {
	var timeout net.Error
	var sent *smithyhttp.RequestSendError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) || errors.As(err, &sent)
}

func statusOf(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// notFound: within minutes of a start it means "not yet" (the service knows a
// new snapshot here and not there), later that the snapshot is gone.
func notFound(f failure) verdict {
	if f.young {
		return verdict{kind: transfer.Retry, tries: untilKnown, why: "AWS does not know the new snapshot everywhere yet",
			hint: "if it stays, somebody deleted the draft; the next cycle starts a new one"}
	}
	return verdict{kind: transfer.Retry, why: "AWS does not know the snapshot",
		hint: "it was deleted, or its draft ran into the inactivity timeout; the next cycle starts a new one"}
}

// Hints that several errors share.
const (
	hintCredentials = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or credential_process in the shared config; `aws sts get-caller-identity` shows what works"
	hintExpired     = "renew the credentials (log in again, or check credential_process) and this machine's clock, then start again"
	hintProxy       = "put user and password into HTTPS_PROXY (http://user:password@host:port)"
	hintUnreachable = "check the region and endpoint, DNS, port 443 in firewalls (ebs, ec2 and sts are needed), HTTPS_PROXY and NO_PROXY"
	hintNetwork     = "if it stays, look at the network between here and AWS"
	hintKMS         = "allow kms:DescribeKey, kms:Decrypt, kms:GenerateDataKey, kms:GenerateDataKeyWithoutPlaintext and kms:CreateGrant on the key, in its key policy too, and see that the key is enabled"
	hintPending     = "an account may have 100 pending snapshots: let running cycles end, delete drafts left behind, or ask AWS for more"
)
