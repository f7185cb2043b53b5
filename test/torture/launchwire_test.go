package torture_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"snapferry/test/lab"
)

// strike is something that is done to the program at a call that changes
// something.
type strike struct {
	op    string // the n-th of these calls; empty: of all that change something
	n     int    // from 1
	after bool   // behind the call's effect, and before its answer
	deed  deed   // nil: kill -9, and the call is never answered
	hit   string // the call, once it was met
}

// deed is done while the call waits, which then goes on.
type deed func(c *process)

// wire is all that is between the program and both services. It sees every call,
// knows those that change something, and holds one back as long as it takes.
type wire struct {
	lab      *lab.Lab
	settings string
	servers  []*httptest.Server
	look     func(when string) // after each call that changes something

	mu      sync.Mutex
	changes []string // of the run under way
	seen    map[string]int
	strike  *strike
	target  *process
}

// newWire opens a way to both services of a lab, with a settings file of its own
// that is the lab's and more.
func newWire(l *lab.Lab, more map[string]any, look func(string)) (*wire, error) {
	w := &wire{lab: l, look: look, settings: filepath.Join(filepath.Dir(l.Settings()), "through-wire.yaml")}
	w.servers = append(w.servers, httptest.NewServer(http.HandlerFunc(w.aws)))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.VCenter.CACert())
	to := *l.VCenter.URL()
	far := &url.URL{Scheme: to.Scheme, Host: to.Host}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(far) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16},
		ErrorLog:  log.New(io.Discard, "", 0), // what the simulators cut is cut
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler)
		},
	}
	vsphere := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.vcenter(proxy, rw, r) }))
	vsphere.Config.ErrorLog = log.New(io.Discard, "", 0) // the program is killed in the middle of handshakes, too
	vsphere.StartTLS()
	w.servers = append(w.servers, vsphere)
	return w, w.write(vsphere, more)
}

// write writes the settings file.
func (w *wire) write(vsphere *httptest.Server, more map[string]any) error {
	text, err := os.ReadFile(w.lab.Settings())
	if err != nil {
		return err
	}
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		return err
	}
	ca := w.settings + ".pem"
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vsphere.Certificate().Raw}), 0o600); err != nil {
		return err
	}
	vc := all["vcenter"].(map[string]any)
	vc["url"], vc["caCerts"] = vsphere.URL+"/sdk", ca
	for k, v := range more {
		all[k] = v
	}
	if text, err = yaml.Marshal(all); err != nil {
		return err
	}
	return os.WriteFile(w.settings, text, 0o600)
}

// env is the lab's, with AWS behind the wire.
func (w *wire) env() []string {
	var all []string
	for _, kv := range w.lab.Env() {
		all = append(all, strings.ReplaceAll(kv, w.lab.AWS.URL(), w.servers[0].URL))
	}
	return all
}

func (w *wire) close() {
	for _, s := range w.servers {
		s.CloseClientConnections()
		s.Close()
	}
}

// begin readies the wire for a run.
func (w *wire) begin(p *process, s *strike) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes, w.seen, w.strike, w.target = nil, map[string]int{}, s, p
}

// changed are the calls of the run that changed something, in their order.
func (w *wire) changed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.changes...)
}

// aws serves a call of EC2, EBS direct or STS.
func (w *wire) aws(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	op, changes := awsCall(r, body)
	w.pass(rw, r, op, changes, w.lab.AWS)
}

// awsCall says what a call is, and whether it changes something.
func awsCall(r *http.Request, body []byte) (op string, changes bool) {
	switch path := r.URL.Path; {
	case r.Method == http.MethodGet:
		return "read", false
	case r.Method == http.MethodPut:
		return "PutSnapshotBlock", true
	case strings.HasPrefix(path, "/snapshots/completion/"):
		return "CompleteSnapshot", true
	case path == "/snapshots":
		return "StartSnapshot", true
	}
	form, err := url.ParseQuery(string(body))
	if op = form.Get("Action"); err != nil || op == "" {
		return "unknown", true // something else that posts
	}
	for _, harmless := range []string{"Describe", "Get", "List"} {
		if strings.HasPrefix(op, harmless) {
			return op, false
		}
	}
	return op, form.Get("DryRun") != "true"
}

var soapMethod = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)

// vcenter serves a call of vCenter.
func (w *wire) vcenter(next http.Handler, rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	op := r.URL.Path
	if m := soapMethod.FindSubmatch(body); m != nil {
		op = string(m[1])
	}
	w.pass(rw, r, op, strings.HasSuffix(op, "_Task") || op == "ShutdownGuest", next)
}

// pass passes a call on, and strikes if its time has come.
func (w *wire) pass(rw http.ResponseWriter, r *http.Request, op string, changes bool, next http.Handler) {
	if !changes {
		next.ServeHTTP(rw, r)
		return
	}
	s, target := w.count(op)
	if s == nil {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		w.look("after " + op)
		w.answer(rw, rec)
		return
	}
	rec := httptest.NewRecorder()
	if s.after {
		next.ServeHTTP(rec, r)
		w.look("after " + op)
	}
	if s.deed == nil {
		target.kill()
		panic(http.ErrAbortHandler)
	}
	s.deed(target)
	if !s.after {
		next.ServeHTTP(rec, r)
		w.look("after " + op)
	}
	w.answer(rw, rec)
}

// answer gives what the service said; one that cut the connection said nothing.
func (w *wire) answer(rw http.ResponseWriter, rec *httptest.ResponseRecorder) {
	if len(rec.Header()) == 0 && rec.Body.Len() == 0 {
		panic(http.ErrAbortHandler)
	}
	for k, v := range rec.Header() {
		rw.Header()[k] = v
	}
	rw.WriteHeader(rec.Code)
	_, _ = rw.Write(rec.Body.Bytes()) // a client that went away is its own business
}

// count counts a call that changes something, and gives the strike that is due.
func (w *wire) count(op string) (*strike, *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, op)
	w.seen[op]++
	s := w.strike
	if s == nil || s.hit != "" || s.op != "" && (op != s.op || w.seen[op] != s.n) || s.op == "" && len(w.changes) != s.n {
		return nil, nil
	}
	s.hit = op
	if n := w.seen[op]; n > 1 {
		s.hit = fmt.Sprintf("%s %d", op, n)
	}
	return s, w.target
}
