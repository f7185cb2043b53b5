package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/rogpeppe/go-internal/testscript"
)

// proxy is an HTTP proxy that knows two hosts: whatever is tunnelled is
// vCenter, whatever is asked for in the clear is AWS.
type proxy struct {
	vcenter, aws string // host:port
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		p.tunnel(w)
		return
	}
	out := r.Clone(r.Context())
	out.URL.Host, out.RequestURI = p.aws, "" // Host stays: it is signed
	res, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}

func (p *proxy) tunnel(w http.ResponseWriter) {
	there, err := net.Dial("tcp", p.vcenter)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	here, read, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	// The first bytes behind the 200 may be in the server's buffer already.
	go func() { _, _ = io.Copy(there, read); there.Close() }()
	go func() { _, _ = io.Copy(here, there); here.Close() }()
}

// startProxy makes the services reachable only by names that a proxy knows.
func (l *lab) startProxy(ts *testscript.TestScript, _ []string) error {
	u, err := url.Parse(l.aws.EC2Endpoint())
	if err != nil {
		return err
	}
	p := &proxy{vcenter: l.vc.URL().Host, aws: u.Host}
	server := httptest.NewServer(p)
	ts.Defer(server.Close)
	ts.Setenv("HTTPS_PROXY", server.URL)
	ts.Setenv("HTTP_PROXY", server.URL)
	ts.Setenv("GOVC_URL", "https://vcenter.invalid/sdk")
	for _, service := range []string{"EBS", "EC2", "STS"} {
		ts.Setenv("AWS_ENDPOINT_URL_"+service, "http://aws.invalid")
	}
	return nil
}
