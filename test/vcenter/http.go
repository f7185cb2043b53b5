package vcenter

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
)

// call is one SOAP call on its way: what the wire says of it, and the rule
// that spoils it.
type call struct {
	method, object string
	rule           *fault.Rule
	collector      atomic.Pointer[simulator.PropertyCollector] // that it waits at
}

// calls hands a call from the HTTP side to the dispatcher. vcsim keeps the
// request to itself but copies its User-Agent into the session of each call,
// so a token rides there.
var calls sync.Map // token -> *call

const tokenMark = " snapferry-call/"

// serveSDK is the HTTP side of /sdk: sessions, counting and the faults of the
// wire.
func (v *VCenter) serveSDK(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c := peek(body)
	v.mu.Lock()
	v.calls[c.method]++
	v.mu.Unlock()

	key := cookie(r)
	dead := v.sessions.begin(key)
	if dead != nil {
		defer v.sessions.end(key)
	}
	if dead != nil || c.method == "Login" {
		if rule, ok := v.opts.Faults.Next(c.method, c.object); ok {
			c.rule = &rule
		}
	}
	if c.rule != nil && !v.spoilBefore(w, r, c, key) {
		return
	}
	rec, alive := v.answer(r, c, dead)
	if !alive {
		rec = httptest.NewRecorder()
		r.Body = io.NopCloser(bytes.NewReader(body))
		v.model.Service.ServeSDK(rec, r) // the session is gone: NotAuthenticated
	}
	if c.rule != nil && c.rule.Kind == fault.LostAnswer {
		panic(http.ErrAbortHandler)
	}
	v.noteSession(c.method, key, rec)
	out := speak(rec.Body.Bytes())
	if c.rule != nil && c.rule.Kind == fault.WrongBytes {
		out = out[:len(out)/2]
	}
	for k, vals := range rec.Header() {
		w.Header()[k] = vals
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(rec.Code)
	_, _ = w.Write(out)
}

// spoilBefore plays what a rule does before the call; false: the answer is
// given already.
func (v *VCenter) spoilBefore(w http.ResponseWriter, r *http.Request, c *call, key string) bool {
	switch c.rule.Kind {
	case fault.Cut:
		panic(http.ErrAbortHandler)
	case fault.Stall:
		var over <-chan time.Time
		if c.rule.Delay > 0 {
			t := time.NewTimer(c.rule.Delay)
			defer t.Stop()
			over = t.C
		}
		select {
		case <-over:
			return true
		case <-r.Context().Done():
		case <-v.closed:
		}
		panic(http.ErrAbortHandler)
	case fault.DeadSession:
		v.sessions.kill(key)
	case fault.Throttle:
		http.Error(w, "503 Service Unavailable", http.StatusServiceUnavailable)
		return false
	case fault.Error:
		if c.method == "Login" { // has no session to carry the rule on
			refuseLogin(w, c.rule.Detail)
			return false
		}
	}
	return true
}

func refuseLogin(w http.ResponseWriter, detail string) {
	name, _, _ := strings.Cut(detail, ":")
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail><%sFault xmlns="urn:vim25" xsi:type="%s"></%sFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`,
		messageOf(name), name, name, name)
}

// answer lets vcsim answer, unless the session dies first.
func (v *VCenter) answer(r *http.Request, c *call, dead <-chan struct{}) (*httptest.ResponseRecorder, bool) {
	token := fmt.Sprintf("%p", c)
	calls.Store(token, c)
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", r.UserAgent()+tokenMark+token)
	rec, done := httptest.NewRecorder(), make(chan struct{})
	v.running.Add(1)
	go func() {
		defer v.running.Done()
		defer close(done)
		defer calls.Delete(token)
		v.model.Service.ServeSDK(rec, r)
	}()
	var left <-chan struct{} // only a wait ends with its client; effects do not
	if strings.HasPrefix(c.method, "WaitForUpdates") {
		left = r.Context().Done()
	}
	select {
	case <-done:
		return rec, true
	case <-dead: // nil, so never, without a session
		go c.abandon(done)
		return nil, false
	case <-left:
		go c.abandon(done)
		panic(http.ErrAbortHandler)
	}
}

// abandon ends a wait that nobody will hear the answer of; again and again, as
// vcsim may only be about to begin it.
func (c *call) abandon(done <-chan struct{}) {
	for {
		if pc := c.collector.Load(); pc != nil {
			pc.CancelWaitForUpdates(&types.CancelWaitForUpdates{This: pc.Self})
		}
		select {
		case <-done:
			return
		case <-time.After(poll):
		}
	}
}

// noteSession follows logins and logouts.
func (v *VCenter) noteSession(method, key string, rec *httptest.ResponseRecorder) {
	for _, c := range rec.Result().Cookies() {
		if c.Name == soap.SessionCookieName && c.Value != "" {
			v.sessions.open(c.Value)
		}
	}
	if method == "Logout" {
		v.sessions.kill(key)
	}
}

func cookie(r *http.Request) string {
	c, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return ""
	}
	return strings.Trim(c.Value, `"`)
}

// peek reads the method and the object it is called on from a SOAP envelope.
func peek(body []byte) *call {
	c := &call{}
	d := xml.NewDecoder(bytes.NewReader(body))
	for inBody := false; ; {
		tok, err := d.Token()
		if err != nil {
			return c
		}
		el, ok := tok.(xml.StartElement)
		switch {
		case !ok:
		case c.method != "":
			if el.Name.Local == "_this" {
				_ = d.DecodeElement(&c.object, &el)
			}
			return c
		case inBody:
			c.method = el.Name.Local
		default:
			inBody = el.Name.Local == "Body"
		}
	}
}

var (
	mute     = regexp.MustCompile(`<faultstring></faultstring>(<detail>)?<([A-Za-z]+)Fault `)
	typeName = regexp.MustCompile(`<localizedMessage>\*types\.(\w+)</localizedMessage>`)
)

// speak puts vCenter's words where vcsim says nothing or the name of a Go type.
func speak(out []byte) []byte {
	if bytes.Contains(out, []byte("<faultstring></faultstring>")) {
		out = mute.ReplaceAllFunc(out, func(m []byte) []byte {
			name := string(mute.FindSubmatch(m)[2])
			return bytes.Replace(m, []byte("<faultstring>"), []byte("<faultstring>"+messageOf(name)), 1)
		})
	}
	if bytes.Contains(out, []byte("<localizedMessage>*types.")) {
		out = typeName.ReplaceAllFunc(out, func(m []byte) []byte {
			name := string(typeName.FindSubmatch(m)[1])
			return []byte("<localizedMessage>" + messageOf(name) + "</localizedMessage>")
		})
	}
	return out
}

// serveFolder is datastore access: it wants a session, and a running VM's
// extents cannot be read that way.
func (v *VCenter) serveFolder(w http.ResponseWriter, r *http.Request) {
	user, pass, basic := r.BasicAuth()
	if !v.sessions.known(cookie(r)) && (!basic || user != v.opts.Username || pass != v.opts.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	rel := strings.TrimPrefix(path.Clean(r.URL.Path), "/folder/")
	if v.lockedFile(r.URL.Query().Get("dsName"), rel) {
		http.Error(w, "the file is locked", http.StatusInternalServerError)
		return
	}
	v.model.Service.ServeDatastore(w, r)
}

// lockedFile reports whether an extent belongs to a running VM.
func (v *VCenter) lockedFile(store, rel string) bool {
	for _, vm := range v.VMs() {
		if !vm.PoweredOn() {
			continue
		}
		for _, d := range vm.Disks() {
			d.mu.RLock()
			for _, l := range d.links {
				if l.store.name == store && strings.HasSuffix(l.extent(), "/"+rel) {
					d.mu.RUnlock()
					return true
				}
			}
			d.mu.RUnlock()
		}
	}
	return false
}
