package vsphere

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/vmware/govmomi/vim25/soap"

	"snapferry/transfer"
)

// Config says which vCenter, as whom, and whom to trust.
type Config struct {
	// URL in govc's forms: "host", "host:port", "host/sdk",
	// "https://user:password@host/sdk".
	URL string
	// Username and Password go before those in URL.
	Username, Password string

	// Insecure accepts any certificate. Thumbprint goes before it.
	Insecure bool
	// CACertFiles are PEM files with the authorities to trust instead of the
	// system's, separated as in PATH (GOVC_TLS_CA_CERTS).
	CACertFiles string
	// Thumbprint of the one certificate to accept, whoever signed it: SHA-256
	// or SHA-1 in hex, with or without colons. Several are separated by commas,
	// for the time in which a certificate is being replaced.
	Thumbprint string
	// KnownHosts is a file of lines "host[:port] thumbprint"
	// (GOVC_TLS_KNOWN_HOSTS): such a host's certificate is accepted also where
	// no known authority signed it. A file that does not exist is empty.
	KnownHosts string

	// Trace, when set, is told of every SOAP call: its name as the API has it
	// ("CreateSnapshotEx_Task"), how long it took and its error. Many at once.
	Trace func(op string, took time.Duration, err error)

	Timing Timing
}

// Timing holds the waits. Each field that is 0 has its default, which fits a
// real vCenter; tests want shorter ones.
type Timing struct {
	// KeepAlive (5 min) is how often an idle session is renewed: vCenter ends
	// sessions that are idle for 30 min, reading disks does not renew them, and
	// six renewals leave room for lost ones.
	KeepAlive time.Duration
	// Call (2 min) bounds one request, so that a half-open connection is
	// noticed. Lists of thousands of VMs take seconds, change queries of large
	// disks up to a minute.
	Call time.Duration
	// Outage (4 min) is how long calls that may be repeated are, while vCenter
	// cannot be reached or restarts: vpxd needs about three minutes.
	Outage time.Duration
	// RetryFirst (250 ms) and RetryMax (10 s) bound the pauses of all retries:
	// a blip passes in the first, and the last keeps a vCenter that comes up
	// from being hammered.
	RetryFirst, RetryMax time.Duration
	// Task (30 min) bounds the wait for one task of ours. Consolidating takes
	// that long on a busy datastore; the caller's context is the usual bound.
	Task time.Duration
	// Busy (5 min) is how long to wait for another tool's task on the VM.
	Busy time.Duration
	// Settle (1 min) is how long vCenter's picture of a VM may be behind:
	// runtime.consolidationNeeded stay set after our snapshot's removal, VMware
	// Tools be reported as stopped in a guest that boots or goes down.
	Settle time.Duration
	// Cleanup (15 min) bounds removing a VM snapshot whose freeze was cut off.
	Cleanup time.Duration
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.KeepAlive, 5*time.Minute)
	def(&t.Call, 2*time.Minute)
	def(&t.Outage, 4*time.Minute)
	def(&t.RetryFirst, 250*time.Millisecond)
	def(&t.RetryMax, 10*time.Second)
	def(&t.Task, 30*time.Minute)
	def(&t.Busy, 5*time.Minute)
	def(&t.Settle, time.Minute)
	def(&t.Cleanup, transfer.DefaultCleanup)
	return t
}

// endpoint is the URL without credentials, and the credentials.
func (c Config) endpoint() (*url.URL, *url.Userinfo, error) {
	const op = "read the vCenter URL"
	if c.URL == "" {
		return nil, nil, transfer.Fail(transfer.Permanent, op, errors.New("there is none"),
			"Set GOVC_URL, --vcenter or vcenter.url in the configuration file.")
	}
	u, err := soap.ParseURL(c.URL)
	if err != nil || u.Host == "" { // the error would quote the password
		return nil, nil, transfer.Fail(transfer.Permanent, op, errors.New("it is no URL"),
			"Give a host name, or https://host/sdk. Characters such as # or @ in a password must be percent-encoded; better, set GOVC_PASSWORD.")
	}
	user := u.User
	if c.Username != "" {
		user = url.UserPassword(c.Username, c.Password)
	} else if c.Password != "" && user != nil {
		user = url.UserPassword(user.Username(), c.Password)
	}
	u.User = nil
	switch {
	case user == nil || user.Username() == "":
		return nil, nil, transfer.Fail(transfer.Permanent, "log in to "+u.Host, errors.New("no user name is set"),
			"Set GOVC_USERNAME and GOVC_PASSWORD.")
	case u.Scheme != "https" && (u.Scheme != "http" || !c.Insecure):
		return nil, nil, transfer.Fail(transfer.Permanent, op, fmt.Errorf("%s:// would send the password in the clear", u.Scheme),
			"Use https.")
	}
	return u, user, nil
}
