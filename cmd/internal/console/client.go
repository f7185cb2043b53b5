package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"snapferry/transfer"
)

// ClientConfig says which connector to talk to.
type ClientConfig struct {
	// Address is https://HOST:PORT, http://HOST:PORT, or unix:PATH for the
	// socket of a connector on this machine.
	Address string
	Token   string
	// CACerts is a PEM file of who may have signed the server's certificate;
	// "" is the system's.
	CACerts string
	// PlainHTTP allows http to other hosts, where anybody on the way reads the
	// token.
	PlainHTTP bool
}

// Client is a Backend that a connector elsewhere answers. Who acts is decided
// by its token: the actors that its methods are given count for nothing. It is
// safe for use by many goroutines.
type Client struct {
	base  string // without a slash at its end
	shown string // what errors call the connector
	token string
	http  *http.Client
	// patient waits for what tries launches out.
	patient *http.Client
}

const (
	// clientTime is above the server's own limits for a request.
	clientTime = actTime + 10*time.Second
	// patientTime likewise, where the server takes launchTime.
	patientTime = launchTime + 10*time.Second
	// maxAnswer bounds what is read of an answer: a page of 1,000 VMs with all
	// their disks has some 3 MB.
	maxAnswer = 64 << 20
)

// NewClient makes a Client; it does not connect yet.
func NewClient(c ClientConfig) (*Client, error) {
	t := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		// A connector that does not answer the door is known soon.
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
	}
	cl := &Client{token: c.Token, shown: c.Address, http: &http.Client{
		Transport: t,
		Timeout:   clientTime,
		// The token is for this server and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	patient := *cl.http
	patient.Timeout = patientTime
	cl.patient = &patient
	if path, ok := strings.CutPrefix(c.Address, "unix:"); ok {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		cl.base = "http://connector"
		return cl, nil
	}
	u, err := url.Parse(c.Address)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("the connector's address must be https://HOST:PORT, http://HOST:PORT or unix:PATH")
	}
	if u.Scheme == "http" && !c.PlainHTTP && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("%s: the token would be readable on the way: use https", u.Host)
	}
	cl.base = u.Scheme + "://" + u.Host
	if c.CACerts != "" {
		pem, err := os.ReadFile(c.CACerts)
		if err != nil {
			return nil, fmt.Errorf("read the certificates of the connector's CA: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the certificates of the connector's CA: there is none in %s", c.CACerts)
		}
	}
	return cl, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// get asks for a value.
func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, into)
}

// do sends a value as JSON, or nothing, and reads the answer.
func (c *Client) do(ctx context.Context, method, path string, send, into any) error {
	return c.doBy(ctx, c.http, method, path, send, into)
}

// try is do for what tries launches out before it answers.
func (c *Client) try(ctx context.Context, path string, send, into any) error {
	return c.doBy(ctx, c.patient, http.MethodPost, path, send, into)
}

func (c *Client) doBy(ctx context.Context, by *http.Client, method, path string, send, into any) error {
	var content io.Reader
	kind := ""
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return fmt.Errorf("write a request: %w", err)
		}
		content, kind = bytes.NewReader(text), "application/json"
	}
	answer, err := c.sendBy(ctx, by, method, path, content, kind)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(answer).Decode(into); err != nil {
		return c.broken(fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

// answerBody is an answer's body of bounded length.
type answerBody struct {
	io.Reader
	io.Closer
}

// send returns the body of an answer that is no refusal.
func (c *Client) send(ctx context.Context, method, path string, content io.Reader, kind string) (io.ReadCloser, error) {
	return c.sendBy(ctx, c.http, method, path, content, kind)
}

func (c *Client) sendBy(ctx context.Context, by *http.Client, method, path string, content io.Reader, kind string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, fmt.Errorf("write a request: %w", err)
	}
	r.Header.Set("Accept", "application/json, text/csv")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	got, err := by.Do(r)
	if err != nil {
		return nil, c.broken(err)
	}
	body := answerBody{io.LimitReader(got.Body, maxAnswer), got.Body}
	if got.StatusCode == http.StatusOK {
		return body, nil
	}
	defer body.Close()
	var in struct {
		Error *Error `json:"error"`
	}
	if err := json.NewDecoder(body).Decode(&in); err != nil || in.Error == nil || in.Error.Code == "" {
		return nil, c.broken(fmt.Errorf("%s is not what a connector answers", got.Status))
	}
	in.Error.Status = got.StatusCode
	return nil, in.Error
}

// broken is an error of the way there; asking again may help.
func (c *Client) broken(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // its text would repeat the address
	}
	kind := transfer.Retry
	if errors.Is(err, context.Canceled) {
		kind = transfer.Canceled
	}
	return transfer.Fail(kind, "ask the connector at "+c.shown, err, "Is it running, and is this its address? snapferry run starts it.")
}
