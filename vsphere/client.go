package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/session/keepalive"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"

	"snapferry/transfer"
)

// Client is a session with one vCenter. It may be used by many goroutines at
// once and lives as long as the process: it renews itself.
type Client struct {
	vim    *vim25.Client
	wire   *wire
	timing Timing
	trust  *trust
	tags   *tagging
	stop   context.CancelFunc // ends the keep-alive
}

// idleConnections: each running wait holds one connection, so that a handful
// of cycles side by side would otherwise open new ones all the time.
const idleConnections = 16

// Dial logs in. HTTPS_PROXY and NO_PROXY are honoured. Errors never hold the
// password.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	u, user, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	trust, err := newTrust(cfg, u.Host)
	if err != nil {
		return nil, err
	}
	sc := soap.NewClient(u, false)
	sc.UserAgent = "snapferry"
	t := sc.DefaultTransport()
	t.DialTLSContext = nil // it would bypass TLSClientConfig, ignore ctx, and not pin through proxies
	t.TLSClientConfig = trust.config()
	t.MaxIdleConnsPerHost = idleConnections

	c := &Client{timing: cfg.Timing.withDefaults(), trust: trust, wire: &wire{next: sc, trace: cfg.Trace}}
	c.wire.limit, c.wire.forget = c.timing.Call, sc.CloseIdleConnections
	if err := c.open(ctx, sc, user); err != nil {
		sc.CloseIdleConnections()
		return nil, err
	}
	return c, nil
}

// open builds the chain of round trippers, from the outside in: session (log in
// again, repeat), keep-alive, wire (count, bound).
func (c *Client) open(ctx context.Context, sc *soap.Client, user *url.Userinfo) error {
	host := sc.URL().Host
	sc.Namespace, sc.Version = "urn:"+vim25.Namespace, vim25.Version
	content, err := methods.GetServiceContent(ctx, c.wire)
	if err != nil {
		return Explain("connect to vCenter "+host, err)
	}
	vim := &vim25.Client{Client: sc, ServiceContent: content}
	if !vim.IsVC() {
		return transfer.Fail(transfer.Permanent, "connect to vCenter "+host,
			fmt.Errorf("it is %s, not a vCenter", vim.ServiceContent.About.FullName),
			"Snapshots and changed blocks need vCenter's API; give the vCenter that manages this host.")
	}
	alive, stop := context.WithCancel(context.Background())
	c.vim, c.stop = vim, stop
	c.tags = newTagging(c, user)
	// The keep-alive goes to the wire: through the session it could wait for a
	// login that waits for it. Its failures are found by the next real call.
	keep := keepalive.NewHandlerSOAP(c.wire, c.timing.KeepAlive, func() error {
		ctx, cancel := context.WithTimeout(alive, time.Minute)
		defer cancel()
		_, _ = methods.GetCurrentTime(ctx, c.wire)
		return alive.Err()
	})
	s := &sessionTripper{next: keep, timing: c.timing}
	manager := session.NewManager(vim)
	s.login = func(ctx context.Context) error { return manager.Login(ctx, user) }
	vim.RoundTripper = s
	if err := s.login(ctx); err != nil {
		stop()
		return Explain(fmt.Sprintf("log in to vCenter %s as %s", host, user.Username()), err)
	}
	s.reached.Store(true)
	return nil
}

// Close logs out. The client must not be used after.
func (c *Client) Close(ctx context.Context) error {
	c.stop()
	c.tags.close(ctx)
	_, err := methods.Logout(ctx, c.vim, &logoutRequest{This: *c.vim.ServiceContent.SessionManager})
	c.vim.CloseIdleConnections()
	if err != nil && !isNotAuthenticated(err) {
		return Explain("log out of vCenter", err)
	}
	return nil
}

// ID is the vCenter's own instance UUID, the first half of every transfer.VMID.
func (c *Client) ID() string { return c.vim.ServiceContent.About.InstanceUuid }

// Certificate says how long the certificate is valid that vCenter showed last
// and that was accepted: itself, or, where authorities vouch for it, the weakest
// of its chain. ok is false where there is none, on plain HTTP. No call.
func (c *Client) Certificate() (notAfter time.Time, ok bool) {
	until := c.trust.until.Load()
	if until == nil {
		return time.Time{}, false
	}
	return *until, true
}

// Calls is how many calls went out since Dial, SOAP and REST, repeated ones
// included.
func (c *Client) Calls() int64 { return c.wire.calls.Load() }

// VIM is the govmomi client, for readers in sub-packages. Calls through it are
// counted, repeated and logged in again like the client's own.
func (c *Client) VIM() *vim25.Client { return c.vim }

// Timing is what the client was made with, defaults filled in.
func (c *Client) Timing() Timing { return c.timing }

// vmRef checks that a VM is this vCenter's.
func (c *Client) vmRef(id transfer.VMID) (ref, error) {
	if id.VCenter != c.ID() {
		return ref{}, transfer.Fail(transfer.Permanent, "find VM "+id.Moref,
			errors.New("it belongs to another vCenter ("+id.VCenter+")"), "Connect to the vCenter that has it.")
	}
	return ref{Type: "VirtualMachine", Value: id.Moref}, nil
}
