package ebs

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOpenWithoutWhatItNeeds(t *testing.T) {
	keys := []string{"AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s"}
	cases := []struct {
		name  string
		env   []string
		c     Config
		texts []string
	}{
		{"region", keys, Config{}, []string{"no AWS region", "AWS_REGION"}},
		{"credentials", []string{"AWS_REGION=us-east-1"}, Config{}, []string{"get AWS credentials", "AWS_PROFILE"}},
		{"profile", []string{"AWS_REGION=us-east-1"}, Config{Profile: "nobody"}, []string{`no profile "nobody"`}},
		{"endpoint", keys, Config{Region: "us-east-1", EBSEndpoint: "ebs.example.com"}, []string{"EBS endpoint", "https://"}},
		{"CA bundle", keys, Config{Region: "us-east-1", CABundle: "/nowhere/ca.pem"}, []string{"CA bundle", "/nowhere/ca.pem"}},
		{"rate", keys, Config{Region: "us-east-1", BytesPerSecond: -1}, []string{"rate"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			useEnv(t, c.env...)
			_, err := Open(t.Context(), c.c)
			wantKind(t, err, transfer.Permanent, c.texts...)
		})
	}
}

func TestWrongCredentialsSaySo(t *testing.T) {
	r := newRig(t, aws.Options{})
	r.aws.SetCredentials("AKIDOTHER", "other", "")
	_, err := r.store.Start(t.Context(), r.spec())
	wantKind(t, err, transfer.Permanent, "does not accept the credentials", "AWS_PROFILE")
	_, err = r.store.Identity(t.Context())
	wantKind(t, err, transfer.Permanent, "does not accept the credentials")
}

func TestUnreachableEndpoints(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, aws.Options{})
	for name, endpoint := range map[string]string{"refused": closed, "no such host": "http://ebs.invalid"} {
		t.Run(name, func(t *testing.T) {
			s := r.open(func(c *Config) { c.EBSEndpoint = endpoint })
			_, err := s.Start(t.Context(), r.spec())
			wantKind(t, err, transfer.Retry, "cannot be reached", "DNS", "443")
			if n := s.Calls()[opStart]; n != 1+briefly {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

func TestAnEndpointLostInMidFlightIsWaitedFor(t *testing.T) {
	r := newRig(t, aws.Options{})
	front := &switchboard{to: strings.TrimPrefix(r.aws.URL(), "http://")}
	front.listen(t)
	s := r.open(func(c *Config) { c.EBSEndpoint = "http://" + front.addr })
	d, err := s.Start(t.Context(), r.spec())
	if err != nil {
		t.Fatal(err)
	}
	front.close()
	done := make(chan error)
	b := block(1)
	go func() { done <- d.Put(t.Context(), 0, b, sha256.Sum256(b)) }()
	for s.Calls()[opPut] < 1+briefly+2 {
		time.Sleep(time.Millisecond) // until it has been refused more often than at the start
	}
	front.listen(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// switchboard passes connections on while it listens.
type switchboard struct {
	to, addr string
	srv      *httptest.Server
}

func (s *switchboard) listen(t *testing.T) {
	t.Helper()
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: s.to})
		p.Out.Host = p.In.Host // the signature covers it
	}}
	s.srv = httptest.NewUnstartedServer(proxy)
	if s.addr != "" {
		ln, err := net.Listen("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.srv.Listener.Close(); err != nil {
			t.Fatal(err)
		}
		s.srv.Listener = ln
	}
	s.srv.Start()
	s.addr = s.srv.Listener.Addr().String()
	t.Cleanup(s.srv.Close)
}

func (s *switchboard) close() { s.srv.CloseClientConnections(); s.srv.Close() }

func TestTLSAndCABundle(t *testing.T) {
	r := newRig(t, aws.Options{TLS: true})
	ca := writeFile(t, string(r.aws.CACert()))

	_, err := r.store.Start(t.Context(), r.spec())
	wantKind(t, err, transfer.Permanent, "unknown authority", "AWS_CA_BUNDLE")
	if n := r.store.Calls()[opStart]; n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
	d, err := r.open(func(c *Config) { c.CABundle = ca }).Start(t.Context(), r.spec())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", ca)
	r.store = r.open()
	r.sealed(map[int64][]byte{0: block(1)})
	if err := d.Abort(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOnlyHTTP1AndPooledConnections(t *testing.T) {
	r := newRig(t, aws.Options{})
	var conns atomic.Int64
	var proto atomic.Value
	inner := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		u, _ := url.Parse(r.aws.URL())
		p.SetURL(u)
		p.Out.Host = p.In.Host
	}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		proto.Store(q.Proto)
		inner.ServeHTTP(w, q)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	r.store = r.open(func(c *Config) { c.EBSEndpoint, c.CABundle = srv.URL, ca })
	d := r.start()
	blocks := map[int64][]byte{}
	for i := range int64(20) {
		blocks[i] = zeros
	}
	r.put(d, blocks)
	if proto.Load() != "HTTP/1.1" {
		t.Errorf("spoke %v", proto.Load())
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for one put at a time", n)
	}
}

// The environment of proxies is read once a process, so that the test runs
// itself again in one.
func TestProxy(t *testing.T) {
	if spec := os.Getenv("SNAPFERRY_TEST_PROXIED"); spec != "" {
		proxiedProcess(t, spec)
		return
	}
	r := newRig(t, aws.Options{})
	u, _ := url.Parse(r.aws.URL())
	secure := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(u)
		p.Out.Host = p.In.Host
	}})
	t.Cleanup(secure.Close)
	var tunnels atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodConnect || q.Host != "example.com:443" {
			http.Error(w, "only a tunnel to example.com", http.StatusForbidden)
			return
		}
		tunnels.Add(1)
		tunnel(w, secure.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)
	ca := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	cmd := exec.Command(os.Args[0], "-test.run=^TestProxy$", "-test.v")
	// The certificate of httptest is for example.com.
	cmd.Env = append(os.Environ(), "SNAPFERRY_TEST_PROXIED="+r.aws.URL(), "AWS_ENDPOINT_URL_EBS=https://example.com",
		"HTTPS_PROXY="+proxy.URL, "NO_PROXY=direct.test", "AWS_CA_BUNDLE="+ca)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestProxy") {
		t.Errorf("the proxied process: %v\n%s", err, out)
	}
	if tunnels.Load() == 0 {
		t.Error("nothing went through the proxy")
	}
	if n := r.aws.Calls()[opStart]; n != 1 {
		t.Errorf("%d starts arrived", n)
	}
}

func proxiedProcess(t *testing.T, emulator string) {
	s, err := Open(t.Context(), Config{Timing: fast, EC2Endpoint: emulator})
	if err != nil {
		t.Fatal(err)
	}
	spec := transfer.DraftSpec{Token: "proxied", Label: label(), VolumeGiB: 1}
	if _, err := s.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	via := newHTTPClient(s.cfg).GetTransport().Proxy
	for host, direct := range map[string]bool{"direct.test": true, "ebs.us-east-1.amazonaws.com": false} {
		u, err := via(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
		if err != nil || (u == nil) != direct {
			t.Errorf("%s goes by %v (%v)", host, u, err)
		}
	}
}

// tunnel joins the client with addr.
func tunnel(w http.ResponseWriter, addr string) {
	out, err := net.Dial("tcp", addr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = out.Close()
		return
	}
	_, _ = io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	_, _ = io.Copy(in, out)
	_ = in.Close()
}

func TestCredentialProcessIsAskedOnce(t *testing.T) {
	r := newRig(t, aws.Options{})
	dir := t.TempDir()
	script := writeFile(t, fmt.Sprintf("#!/bin/sh\necho x >> %s/asked\n"+
		`echo '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s","Expiration":"%s"}'`+"\n",
		dir, os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	t.Setenv("AWS_CONFIG_FILE", writeFile(t, "[profile anywhere]\nregion = eu-north-1\ncredential_process = "+script+"\n"))
	for _, k := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(k, "")
	}
	t.Setenv("AWS_PROFILE", "anywhere")
	asked := func() int {
		b, _ := os.ReadFile(dir + "/asked")
		return strings.Count(string(b), "x")
	}
	s := r.open()
	if s.Region() != "eu-north-1" {
		t.Errorf("region %s", s.Region())
	}
	r.faults.Add(fault.Rule{Op: opIdentity, Kind: fault.Error, Detail: "ExpiredToken", Skip: 5})
	for range 5 {
		if _, err := s.Identity(t.Context()); err != nil && transfer.KindOf(err) != transfer.Permanent {
			t.Fatal(err)
		}
	}
	if n := asked(); n != 1 {
		t.Errorf("the process ran %d times for 5 requests", n)
	}
	_, _ = s.Identity(t.Context())
	if n := asked(); n != 2 {
		t.Errorf("the process ran %d times, want once more after an expired token", n)
	}

	broken := writeFile(t, "#!/bin/sh\necho 'Enter password: SECRET'\n")
	t.Setenv("AWS_CONFIG_FILE", writeFile(t, "[profile anywhere]\nregion = eu-north-1\ncredential_process = "+broken+"\n"))
	_, err := Open(t.Context(), Config{})
	wantKind(t, err, transfer.Permanent, "credential_process printed something")
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("what the process printed is in the error: %v", err)
	}
}

func TestLimitHoldsTheRate(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.BytesPerSecond = 10 * transfer.BlockSize })
	d := r.start()
	began := time.Now()
	r.put(d, map[int64][]byte{0: zeros, 1: zeros, 2: zeros, 3: zeros})
	if took := time.Since(began); took < 280*time.Millisecond {
		t.Errorf("4 blocks at 10 a second, one of them at once, took %v", took)
	}
}

func TestThrottlesAndSlowUplinkSlowTheStore(t *testing.T) {
	r := newRig(t, aws.Options{}, func(c *Config) { c.PutsPerSecondPerSnapshot, c.PutsPerSecondPerAccount = 5000, 5000 })
	r.faults.Add(
		fault.Rule{Name: "account", Op: opPut, Kind: fault.Throttle},
		fault.Rule{Name: "snapshot", Op: opPut, Kind: fault.Throttle, Detail: "RESOURCE_LEVEL_THROTTLE"},
		fault.Rule{Name: "slow", Op: opPut, Kind: fault.Error, Detail: "ValidationException:WRITE_REQUEST_TIMEOUT"},
	)
	d := r.start()
	r.put(d, map[int64][]byte{0: zeros})
	if got := r.store.puts.rate(); got > 3501 {
		t.Errorf("the account's pace is %.0f", got)
	}
	if got := d.(*draft).pace.rate(); got > 3501 {
		t.Errorf("the snapshot's pace is %.0f", got)
	}
	if got := r.store.gate.places(); got != 32 {
		t.Errorf("%d puts at once, want 32", got)
	}
	if other := r.start().(*draft).pace.rate(); other != 5000 {
		t.Errorf("another snapshot's pace is %.0f", other)
	}
}

// On a real slow link the store finds by itself how many puts it takes.
func TestSlowUplinkIsMetWithFewerPuts(t *testing.T) {
	r := newRig(t, aws.Options{})
	link := &slowLink{to: strings.TrimPrefix(r.aws.URL(), "http://"), pace: newBytePacer(24 << 20)}
	r.store = r.open(func(c *Config) {
		c.EBSEndpoint = link.listen(t)
		c.Timing.Headers, c.Timing.Attempt = 700*time.Millisecond, time.Second
		c.Timing.SlowPut = 250 * time.Millisecond
	})
	d := r.start()
	var group sync.WaitGroup
	for i := range int64(96) { // 48 MiB: two seconds' worth
		group.Go(func() {
			if err := d.Put(t.Context(), i, zeros, transfer.ZeroDigest); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	// 12 at once take 250 ms each.
	if n := r.store.gate.places(); n > 32 {
		t.Errorf("still %d puts at once on a link for 12", n)
	}
}

// slowLink passes connections on; all together send at its pace.
type slowLink struct {
	to   string
	pace *pacer
}

func (l *slowLink) listen(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", l.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
			go func() { l.copy(t.Context(), out, in); _ = out.Close() }()
		}
	}()
	return "http://" + ln.Addr().String()
}

func (l *slowLink) copy(ctx context.Context, to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || l.pace.wait(ctx, n) != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
