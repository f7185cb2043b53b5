package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// Explain turns an error of a vCenter call or task into a *transfer.Error: its
// kind, what vCenter said in words, and the next step. op is a verb and its
// object. An error that is explained already keeps kind and hint.
func Explain(op string, err error) error {
	var known *transfer.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return transfer.Fail(transfer.Canceled, op, err, "")
	}
	if f := firstFault(err); f != nil {
		kind, why, hint := explainFault(f)
		return transfer.Fail(kind, op, &faultError{text: why + said(err, f), cause: err}, hint)
	}
	return explainTransport(op, err)
}

// explainTransport judges what is no answer of vCenter's.
func explainTransport(op string, err error) error {
	var cert *CertificateError
	var dns *net.DNSError
	switch {
	case errors.As(err, &cert):
		return transfer.Fail(transfer.Permanent, op, cert, hintCertificate)
	case errors.As(err, &dns):
		return transfer.Fail(transfer.Retry, op, fmt.Errorf("%s cannot be resolved: %w", dns.Name, dns), "Check the vCenter's name and this machine's DNS.")
	case strings.Contains(err.Error(), "Proxy Authentication Required"):
		return transfer.Fail(transfer.Permanent, op, errors.New("the proxy wants a password"), "Put user and password into HTTPS_PROXY, or name the vCenter in NO_PROXY.")
	case errors.Is(err, errNoAnswer):
		return transfer.Fail(transfer.Retry, op, err, hintUnreachable)
	}
	return transfer.Fail(transfer.Retry, op, fmt.Errorf("vCenter cannot be reached or its answer be read: %w", bare(err)), hintUnreachable)
}

const hintUnreachable = "Check the vCenter's address and that it is up, port 443 in firewalls, HTTPS_PROXY and NO_PROXY."

// bare strips the URL that net/http wraps around: the operation says where.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// faultError is a fault in words; the fault itself stays in its chain.
type faultError struct {
	text  string
	cause error
}

func (e *faultError) Error() string { return e.text }
func (e *faultError) Unwrap() error { return e.cause }

// firstFault is the outermost fault of an error, or nil.
func firstFault(err error) types.BaseMethodFault {
	var found types.BaseMethodFault
	if !hasFault(err) {
		return nil
	}
	fault.In(err, func(f types.BaseMethodFault, _ string, _ []types.LocalizableMessage) bool {
		found = f
		return true
	})
	if found == nil { // a SOAP fault without detail
		found = &types.MethodFault{}
	}
	return found
}

// said is vCenter's own message and what it adds below it, with the fault's
// type, in parentheses.
func said(err error, f types.BaseMethodFault) string {
	var texts []string
	add := func(s string) {
		s = strings.TrimSpace(strings.TrimPrefix(s, "ServerFaultCode:"))
		if s != "" && !strings.Contains(strings.Join(texts, "; "), s) {
			texts = append(texts, s)
		}
	}
	var raw interface {
		error
		Fault() types.BaseMethodFault
	}
	if errors.As(err, &raw) && !soap.IsVimFault(raw) {
		add(raw.Error())
	}
	fault.In(err, func(_ types.BaseMethodFault, message string, more []types.LocalizableMessage) bool {
		add(message)
		for _, m := range more {
			add(m.Message)
		}
		return false
	})
	name := faultName(f)
	if len(texts) == 0 {
		return fmt.Sprintf(" (%s)", name)
	}
	return fmt.Sprintf(" (%s: %s)", name, strings.Join(texts, "; "))
}

// faultName is the fault's type as vSphere's documents call it.
func faultName(f types.BaseMethodFault) string {
	return reflect.Indirect(reflect.ValueOf(f)).Type().Name()
}

// isGone: the managed object does not exist (any more).
func isGone(err error, kind string) bool {
	var f *types.ManagedObjectNotFound
	if !hasFault(err) {
		return false
	}
	_, ok := fault.As(err, &f)
	return ok && (kind == "" || f.Obj.Type == kind)
}
