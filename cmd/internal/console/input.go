package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

const (
	maxBody = 1 << 20
	maxCSV  = 16 << 20
	// maxForm is a token and a path.
	maxForm = 8 << 10
)

// params reads a query strictly: what is unknown, twice there or not of its
// type is refused.
type params struct {
	values url.Values
	known  []string
	err    error
}

func query(r *http.Request) (*params, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query cannot be read: "+err.Error(), "")
	}
	return &params{values: v}, nil
}

func (p *params) fault(name, must string) {
	if p.err == nil {
		p.err = badRequest(fmt.Sprintf("parameter %s: %q is not %s", name, clip(p.values.Get(name)), must), "")
	}
}

func (p *params) text(name string) string {
	p.known = append(p.known, name)
	v := p.values[name]
	if len(v) == 0 {
		return ""
	}
	if len(v) > 1 && p.err == nil {
		p.err = badRequest("parameter "+name+" is there more than once", "")
	}
	return v[0]
}

// oneOf reads a word; "" stands for none.
func (p *params) oneOf(name string, words ...string) string {
	v := p.text(name)
	if v != "" && !slices.Contains(words, v) {
		p.fault(name, "one of "+strings.Join(words, ", "))
	}
	return v
}

func (p *params) flag(name string) bool {
	return p.oneOf(name, "true", "false") == "true"
}

// vm reads a VM as ID writes it; nil is none.
func (p *params) vm(name string) *transfer.VMID {
	text := p.text(name)
	if text == "" || p.err != nil {
		return nil
	}
	id, err := ParseID(text)
	p.err = err
	return &id
}

// number reads an integer from 0 to most.
func (p *params) number(name string, most int64) int64 {
	v := p.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > most {
		p.fault(name, fmt.Sprintf("a number from 0 to %d", most))
	}
	return n
}

// done is the first fault, or an unknown parameter.
func (p *params) done() error {
	for name := range p.values {
		if p.err == nil && !slices.Contains(p.known, name) {
			p.err = badRequest(fmt.Sprintf("there is no parameter %q", clip(name)), "There are: "+strings.Join(p.known, ", ")+".")
		}
	}
	return p.err
}

// noParams refuses any query at all.
func noParams(r *http.Request) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	return badRequest("this takes no parameters", "")
}

// isType reports whether a body is of one of these media types.
func isType(r *http.Request, types ...string) bool {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && slices.Contains(types, got)
}

func wrongType(want string) error {
	return &Error{http.StatusUnsupportedMediaType, codeType, "the body must be " + want, "Send Content-Type: " + want + "."}
}

// body reads a request's JSON strictly. Nothing at all stands for an empty
// object where that is enough.
func body(r *http.Request, into any) error {
	if r.Header.Get("Content-Type") == "" && r.ContentLength == 0 {
		return nil
	}
	if !isType(r, "application/json") {
		return wrongType("application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is something behind the JSON value")
			var tooLarge *http.MaxBytesError
			if errors.As(more, &tooLarge) {
				err = more
			}
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("the JSON in the body ends too early", "")
	}
	return badRequest("the JSON in the body: "+strings.TrimPrefix(err.Error(), "json: "), "")
}

// Sorts are the words of VMQuery.Sort.
func Sorts() []string { return []string{"name", "lag", "size", "state", "next", "backlog"} }

// ParseVMQuery reads the parameters of the list of VMs, as the API does:
// text, replication, lifecycle, policy, wave, sort, desc, offset, limit. What it does not
// know it refuses, with an *Error of status 400.
func ParseVMQuery(v url.Values) (schedule.VMQuery, error) {
	p := &params{values: v}
	q := schedule.VMQuery{
		Text:        p.text("text"),
		Replication: schedule.Replication(p.oneOf("replication", replications()...)),
		Lifecycle:   schedule.Lifecycle(p.oneOf("lifecycle", words(schedule.Lifecycles())...)),
		Policy:      p.text("policy"),
		Wave:        p.text("wave"),
		Sort:        p.oneOf("sort", Sorts()...),
		Desc:        p.flag("desc"),
		Offset:      int(p.number("offset", 1_000_000)),
		Limit:       int(p.number("limit", 1000)),
	}
	return q, p.done()
}

// VMValues is what ParseVMQuery reads.
func VMValues(q schedule.VMQuery) url.Values {
	v := url.Values{}
	put(v, "text", q.Text)
	put(v, "replication", string(q.Replication))
	put(v, "lifecycle", string(q.Lifecycle))
	put(v, "policy", q.Policy)
	put(v, "wave", q.Wave)
	put(v, "sort", q.Sort)
	putFlag(v, "desc", q.Desc)
	putNumber(v, "offset", int64(q.Offset))
	putNumber(v, "limit", int64(q.Limit))
	return v
}

// ParseRunQuery reads vm (as ID writes it), state, active, before, limit.
func ParseRunQuery(v url.Values) (schedule.RunQuery, error) {
	p := &params{values: v}
	q := schedule.RunQuery{
		State:  schedule.RunState(p.oneOf("state", words(runStates())...)),
		Active: p.flag("active"),
		Before: p.number("before", 1<<62),
		Limit:  int(p.number("limit", 500)),
	}
	q.VM = p.vm("vm")
	return q, p.done()
}

// RunValues is what ParseRunQuery reads.
func RunValues(q schedule.RunQuery) url.Values {
	v := url.Values{}
	if q.VM != nil {
		v.Set("vm", ID(*q.VM))
	}
	put(v, "state", string(q.State))
	putFlag(v, "active", q.Active)
	putNumber(v, "before", q.Before)
	putNumber(v, "limit", int64(q.Limit))
	return v
}

// ParseLaunchQuery reads vm (as ID writes it), wave, active, before, limit.
func ParseLaunchQuery(v url.Values) (schedule.LaunchQuery, error) {
	p := &params{values: v}
	q := schedule.LaunchQuery{
		VM:     p.vm("vm"),
		Wave:   p.text("wave"),
		Active: p.flag("active"),
		Before: p.number("before", 1<<62),
		Limit:  int(p.number("limit", 500)),
	}
	return q, p.done()
}

// LaunchValues is what ParseLaunchQuery reads.
func LaunchValues(q schedule.LaunchQuery) url.Values {
	v := url.Values{}
	if q.VM != nil {
		v.Set("vm", ID(*q.VM))
	}
	put(v, "wave", q.Wave)
	putFlag(v, "active", q.Active)
	putNumber(v, "before", q.Before)
	putNumber(v, "limit", int64(q.Limit))
	return v
}

func put(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func putFlag(v url.Values, name string, on bool) {
	if on {
		v.Set(name, "true")
	}
}

func putNumber(v url.Values, name string, n int64) {
	if n != 0 {
		v.Set(name, strconv.FormatInt(n, 10))
	}
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

func runStates() []schedule.RunState {
	return []schedule.RunState{schedule.RunQueued, schedule.RunStarting, schedule.RunRunning, schedule.RunDone, schedule.RunFailed, schedule.RunCancelled}
}

func replications() []string {
	return words([]schedule.Replication{
		schedule.ReplicationNone, schedule.ReplicationWaiting, schedule.ReplicationInitial, schedule.ReplicationDelta, schedule.ReplicationCurrent,
		schedule.ReplicationLagging, schedule.ReplicationPaused, schedule.ReplicationStalled, schedule.ReplicationEnded,
	})
}
