package ebs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"snapferry/transfer"
)

// wire dresses an error as the SDK does.
func wire(op string, status int, err error) error {
	resp := &smithyhttp.Response{Response: &http.Response{StatusCode: status}}
	return &smithy.OperationError{ServiceID: "EBS", OperationName: op, Err: &smithyhttp.ResponseError{Response: resp, Err: err}}
}

func code(op string, status int, code string) error {
	return wire(op, status, &smithy.GenericAPIError{Code: code, Message: "told to fail"})
}

func sent(err error) error {
	return wire("op", 0, &smithyhttp.RequestSendError{Err: &url.Error{Op: "Put", URL: "https://ebs.test/x?blockToken=abc", Err: err}})
}

func reject(reason types.ValidationExceptionReason, text string) error {
	return wire("op", 400, &types.ValidationException{Reason: reason, Message: &text})
}

// text is an error in somebody else's words.
func text(s string) error { return errors.New(s) }

func dial(err error) error {
	return sent(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
}

const (
	retry     = transfer.Retry
	permanent = transfer.Permanent
)

// Every row of the AWS facts' retry section, and what else was thought of.
var classifyRows = []struct {
	name    string
	f       failure
	kind    transfer.Kind
	tries   int
	sign    sign
	mention string
}{
	// 5xx, throttles, timeouts, resets.
	{"500", failure{op: opPut, err: wire(opPut, 500, &types.InternalServerException{})}, retry, asLongAs, noSign, "service"},
	{"503 without a code", failure{op: opPut, err: wire(opPut, 503, errors.New("bad gateway page"))}, retry, asLongAs, noSign, "service"},
	{"502 with an unknown code", failure{op: opPut, err: code(opPut, 502, "BadGateway")}, retry, asLongAs, noSign, "service"},
	{"429 without a code", failure{op: opPut, err: wire(opPut, 429, errors.New("slow down"))}, retry, asLongAs, throttledAccount, "too many"},
	{"EC2 unavailable", failure{op: opDescribe, err: code(opDescribe, 503, "Unavailable")}, retry, asLongAs, noSign, "service"},
	{"account throttle", failure{op: opPut, err: wire(opPut, 400, &types.RequestThrottledException{Reason: "ACCOUNT_THROTTLED"})}, retry, asLongAs, throttledAccount, "account"},
	{"snapshot throttle", failure{op: opPut, err: wire(opPut, 400, &types.RequestThrottledException{Reason: "RESOURCE_LEVEL_THROTTLE"})}, retry, asLongAs, throttledSnapshot, "this snapshot"},
	{"KMS throttle", failure{op: opPut, err: wire(opPut, 400, &types.RequestThrottledException{Reason: "DEPENDENCY_REQUEST_THROTTLED"})}, retry, asLongAs, throttledAccount, "throttled"},
	{"concurrent limit", failure{op: opPut, err: wire(opPut, 400, &types.ConcurrentLimitExceededException{})}, retry, asLongAs, throttledAccount, "throttled"},
	{"EC2 throttle", failure{op: opTag, err: code(opTag, 503, "RequestLimitExceeded")}, retry, asLongAs, throttledAccount, "throttled"},
	{"attempt's deadline", failure{op: opPut, err: sent(context.DeadlineExceeded)}, retry, asLongAs, noAnswer, "no answer"},
	{"header timeout", failure{op: opGet, err: sent(errTimeout{})}, retry, asLongAs, noAnswer, "no answer"},
	{"reset", failure{op: opPut, err: sent(syscall.ECONNRESET)}, retry, asLongAs, noAnswer, "broke"},
	{"broken pipe", failure{op: opPut, err: sent(&net.OpError{Op: "write", Err: syscall.EPIPE})}, retry, asLongAs, noAnswer, "broke"},
	{"cut", failure{op: opPut, err: sent(io.EOF)}, retry, asLongAs, noAnswer, "broke"},
	{"cut in the body", failure{op: opGet, err: fmt.Errorf("read the block: %w", io.ErrUnexpectedEOF)}, retry, asLongAs, noAnswer, "broke"},
	// 404 in the first three minutes, and later.
	{"404 of a young draft", failure{op: opPut, young: true, err: wire(opPut, 404, &types.ResourceNotFoundException{Reason: "SNAPSHOT_NOT_FOUND"})}, retry, untilKnown, noSign, "yet"},
	{"404 of an old draft", failure{op: opPut, err: wire(opPut, 404, &types.ResourceNotFoundException{Reason: "SNAPSHOT_NOT_FOUND"})}, retry, never, noSign, "deleted"},
	{"EC2's 404 of a young draft", failure{op: opTag, young: true, err: code(opTag, 400, "InvalidSnapshot.NotFound")}, retry, untilKnown, noSign, "yet"},
	{"KMS key missing", failure{op: opPut, young: true, err: wire(opPut, 404, &types.ResourceNotFoundException{Reason: "DEPENDENCY_RESOURCE_NOT_FOUND"})}, permanent, never, noSign, "KMS"},
	// The slow uplink, and a block in two puts at once.
	{"slow body", failure{op: opPut, err: reject("INVALID_PARAMETER_VALUE", "Failed to read block data")}, retry, asLongAs, slowBody, "slow"},
	{"write timeout", failure{op: opPut, err: reject("WRITE_REQUEST_TIMEOUT", "")}, retry, asLongAs, slowBody, "--limit"},
	{"two puts of a block", failure{op: opPut, err: reject("CONFLICTING_BLOCK_UPDATE", "")}, retry, asLongAs, noSign, "earlier put"},
	// Corruption in flight is a 403 on a put, and only there.
	{"corrupted body", failure{op: opPut, err: code(opPut, 403, "InvalidSignatureException")}, retry, once, corruptedBody, "damaged"},
	{"wrong secret", failure{op: opStart, err: code(opStart, 403, "InvalidSignatureException")}, permanent, never, noSign, "secret key"},
	{"corrupted answer", failure{op: opGet, err: errCorruptBlock}, retry, aFewTimes, noSign, "damaged"},
	{"short answer", failure{op: opGet, err: errTruncatedBlock}, retry, aFewTimes, noSign, "damaged"},
	// Never.
	{"denied", failure{op: opPut, err: wire(opPut, 403, &types.AccessDeniedException{})}, permanent, never, noSign, "ebs:PutSnapshotBlock"},
	{"denied by EC2", failure{op: opDelete, err: code(opDelete, 403, "UnauthorizedOperation")}, permanent, never, noSign, "ec2:DeleteSnapshot"},
	{"denied by KMS", failure{op: opPut, err: wire(opPut, 403, &types.AccessDeniedException{Reason: "DEPENDENCY_ACCESS_DENIED"})}, permanent, never, noSign, "kms:Decrypt"},
	{"conflict", failure{op: opStart, err: wire(opStart, 409, &types.ConflictException{})}, permanent, never, noSign, "token"},
	{"invalid block", failure{op: opPut, err: reject("INVALID_BLOCK", "")}, permanent, never, noSign, "refused"},
	{"invalid key", failure{op: opStart, err: reject("INVALID_CUSTOMER_KEY", "")}, permanent, never, noSign, "KMS"},
	{"invalid volume size", failure{op: opStart, err: reject("INVALID_VOLUME_SIZE", "")}, permanent, never, noSign, "size"},
	{"invalid tag", failure{op: opStart, err: reject("INVALID_TAG", "")}, permanent, never, noSign, "tag"},
	{"unknown code", failure{op: opStart, err: code(opStart, 400, "Brandnew")}, permanent, never, noSign, "refused"},
	{"in use", failure{op: opDelete, err: code(opDelete, 400, "InvalidSnapshot.InUse")}, permanent, never, noSign, "AMI"},
	// Quotas.
	{"pending limit", failure{op: opStart, err: wire(opStart, 402, &types.ServiceQuotaExceededException{})}, retry, never, noSign, "pending"},
	{"KMS quota on a put", failure{op: opPut, err: wire(opPut, 402, &types.ServiceQuotaExceededException{})}, retry, asLongAs, throttledAccount, "quota"},
	// Credentials and clocks.
	{"expired on EBS", failure{op: opPut, err: code(opPut, 403, "ExpiredTokenException")}, permanent, once, credentialsEnded, "expired"},
	{"expired on EC2", failure{op: opTag, err: code(opTag, 400, "RequestExpired")}, permanent, once, credentialsEnded, "clock"},
	{"unknown key", failure{op: opPut, err: code(opPut, 403, "UnrecognizedClientException")}, permanent, never, noSign, "credentials"},
	{"clock", failure{op: opPut, err: wire(opPut, 403, text("Probable clock skew error: InvalidSignatureException"))}, permanent, once, noSign, "NTP"},
	{"no credentials at the start", failure{op: opStart, err: errors.New("get identity: get credentials: none")}, permanent, never, noSign, "AWS_PROFILE"},
	{"no credentials in mid-flight", failure{op: opPut, reached: true, err: errors.New("failed to refresh cached credentials, x")}, retry, asLongAs, noSign, "AWS_PROFILE"},
	{"region not enabled", failure{op: opStart, err: code(opStart, 403, "OptInRequired")}, permanent, never, noSign, "region"},
	// What cannot be reached.
	{"no such host", failure{op: opStart, err: sent(&net.DNSError{IsNotFound: true})}, retry, briefly, noSign, "DNS"},
	{"DNS gone in mid-flight", failure{op: opPut, reached: true, err: sent(&net.DNSError{IsTemporary: true})}, retry, asLongAs, noSign, "DNS"},
	{"refused", failure{op: opStart, err: dial(syscall.ECONNREFUSED)}, retry, briefly, noSign, "443"},
	{"refused in mid-flight", failure{op: opPut, reached: true, err: dial(syscall.ECONNREFUSED)}, retry, asLongAs, noSign, "443"},
	{"proxy refused", failure{op: opPut, err: sent(&net.OpError{Op: "proxyconnect", Err: errors.New("x")})}, retry, briefly, noSign, "HTTPS_PROXY"},
	{"proxy password", failure{op: opPut, err: sent(text("Proxy Authentication Required"))}, permanent, never, noSign, "HTTPS_PROXY"},
	{"unknown authority", failure{op: opPut, err: sent(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}})}, permanent, never, noSign, "AWS_CA_BUNDLE"},
	{"other host's certificate", failure{op: opPut, err: sent(x509.HostnameError{Host: "x", Certificate: &x509.Certificate{}})}, permanent, never, noSign, "another host"},
	{"expired certificate", failure{op: opPut, err: sent(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{}})}, permanent, never, noSign, "clock"},
	{"no TLS", failure{op: opPut, err: sent(tls.RecordHeaderError{})}, permanent, never, noSign, "scheme"},
	{"a portal's page", failure{op: opStart, err: wire(opStart, 200, &smithy.DeserializationError{Err: errors.New("<html>")})}, retry, aFewTimes, noSign, "portal"},
}

func TestClassify(t *testing.T) {
	for _, row := range classifyRows {
		t.Run(row.name, func(t *testing.T) {
			v := classify(row.f)
			if v.kind != row.kind || v.tries != row.tries || v.sign != row.sign {
				t.Errorf("got %v, %d tries, sign %d (%s); want %v, %d, %d", v.kind, v.tries, v.sign, v.why, row.kind, row.tries, row.sign)
			}
			if !strings.Contains(v.why+"; "+v.hint, row.mention) {
				t.Errorf("%q is not in %q; %q", row.mention, v.why, v.hint)
			}
		})
	}
}

type errTimeout struct{}

func (errTimeout) Error() string   { return "net/http: timeout awaiting response headers" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

func TestErrorsHoldNoSecrets(t *testing.T) {
	secrets := []string{"SECRET", "blockToken=", "hunter2"}
	errs := []error{
		sent(io.EOF),
		&processcreds.ProviderError{Err: errors.New(`parse failed of process output: {"SecretAccessKey": "SECRET"}, error: x`)},
		fmt.Errorf("failed to refresh cached credentials, %w", &processcreds.ProviderError{Err: errors.New("parse failed of process output: SECRET")}),
		errors.New("refused. The Canonical String for this request should have been\n'GET\nx-amz-security-token:SECRET'"),
		errors.New("header x-amz-security-token: SECRET is bad"),
		errors.New(`proxy "http://user:hunter2@proxy.test/x": refused`),
		errors.New("body was {\"SecretAccessKey\":\"SECRET\"}"),
		errors.New(strings.Repeat("long ", 1000) + "SECRET"),
	}
	for _, err := range errs {
		out := fail(request{op: opGet, what: "get block 1"}, verdict{why: "it failed"}, err, 2)
		for _, s := range secrets {
			if strings.Contains(out.Error(), s) {
				t.Errorf("%q is in %v", s, out)
			}
		}
		if len(out.Error()) > 700 {
			t.Errorf("%d bytes of error", len(out.Error()))
		}
		if !errors.Is(out, err) {
			t.Errorf("the cause is lost: %v", out)
		}
	}
}
