package aws

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"snapferry/test/fault"
)

// maxBody bounds the body of a request; the largest legal one is a block.
const maxBody = 1 << 20

// call is one request under way.
type call struct {
	e          *Emulator
	r          *http.Request
	requestID  string
	service    string // ebs, ec2, sts, ssm
	op         string
	subject    string // the snapshot (or other resource) it is about, if any
	body       []byte
	digest     [32]byte // SHA-256 of body, valid once digested
	digested   bool
	pooled     *[]byte // what body is in, if it came from the store's pool
	params     *params // of an EC2 or STS call
	path       ebsPath // of an EBS call
	rule       fault.Rule
	lie        string // Detail of a lie to play, if any
	wrongBytes bool
}

// reply is a complete answer; a nil *reply stands for a cut connection.
type reply struct {
	status int
	header map[string]string
	body   []byte
	done   func() // releases body
}

// apiError is an error answer before it has the form of its service.
type apiError struct {
	status        int
	code, message string
	reason        string
	// validation marks errors of the request model, which come from another
	// layer of the service and look slightly different.
	validation bool
}

func (c *call) release() {
	if c.pooled != nil {
		c.e.store.putBuf(c.pooled)
		c.pooled = nil
	}
}

// ServeHTTP serves all services.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.active.RLock()
	defer e.active.RUnlock()
	select {
	case <-e.closed:
		cut(w)
		return
	default:
	}
	c := &call{e: e, r: r, requestID: newRequestID()}
	defer c.release()
	rep := c.answer()
	if rep != nil && e.opt.Latency > 0 && !c.wait(e.opt.Latency) {
		rep = nil
	}
	if rep == nil {
		cut(w)
		return
	}
	if rep.done != nil {
		defer rep.done()
	}
	h := w.Header()
	h["x-amzn-RequestId"] = []string{c.requestID} // the services' own spelling
	h.Set("Date", e.wireNow().UTC().Format(http.TimeFormat))
	for k, v := range rep.header {
		h[k] = []string{v}
	}
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	if rep.status == http.StatusBadRequest {
		h.Set("Connection", "close")
	}
	w.WriteHeader(rep.status)
	_, _ = w.Write(rep.body) // a client that went away is its own business
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// wait reports whether d passed before the client or the emulator went away.
func (c *call) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.r.Context().Done():
	case <-c.e.closed:
	}
	return false
}

// answer runs the request through all gates and does it.
func (c *call) answer() *reply {
	if !c.readBody() {
		return nil
	}
	sig := parseSignature(c.r)
	c.route(sig)
	c.e.count(c.op)
	if err := c.authenticate(sig); err != nil {
		return c.fail(err)
	}
	rule, fired := c.e.opt.Faults.Next(c.op, c.subject)
	if fired {
		c.rule = rule
		if rep, ended := c.play(); ended {
			return rep
		}
	}
	rep := c.do()
	if fired && rule.Kind == fault.LostAnswer {
		if rep.done != nil {
			rep.done()
		}
		return nil
	}
	return rep
}

func (c *call) do() *reply {
	var rep *reply
	var err *apiError
	switch c.service {
	case serviceEBS:
		rep, err = c.doEBS()
	case serviceSTS:
		rep, err = c.doSTS()
	case serviceSSM:
		rep, err = c.doSSM()
	default:
		rep, err = c.doEC2()
	}
	if err != nil {
		return c.fail(err)
	}
	return rep
}

func (c *call) fail(err *apiError) *reply {
	switch c.service {
	case serviceEBS:
		return ebsError(err)
	case serviceSTS:
		return stsError(err, c.requestID)
	case serviceSSM:
		return ssmError(err)
	}
	return ec2Error(err, c.requestID)
}

// readBody takes in the whole body, a block's into a pooled buffer; false means
// that the client broke off.
func (c *call) readBody() bool {
	if c.r.ContentLength == blockSize {
		c.pooled = c.e.store.getBuf()
		c.body = *c.pooled
		_, err := io.ReadFull(c.r.Body, c.body)
		if err == nil {
			// Reach EOF, so that the server watches for the client's end.
			_, err = io.Copy(io.Discard, c.r.Body)
		}
		return err == nil
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(c.r.Body, maxBody+1)); err != nil {
		return false
	}
	c.body = b.Bytes()
	return true
}

func (e *Emulator) count(op string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls[op]++
}

// wireNow is the service's clock as clients see it.
func (e *Emulator) wireNow() time.Time {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return time.Now().Add(e.skew)
}
