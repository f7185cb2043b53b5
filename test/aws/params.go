package aws

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// params are the parameters of a Query call. A call takes what it knows; what
// is left over is unknown to the service and an error.
type params struct {
	action string
	values url.Values
	taken  map[string]bool
	err    *apiError // the first bad value
}

func parseParams(r *http.Request, body []byte) *params {
	p := &params{values: url.Values{}, taken: map[string]bool{"Action": true, "Version": true}}
	for _, raw := range []string{r.URL.RawQuery, string(body)} {
		values, err := url.ParseQuery(raw)
		if err != nil {
			continue
		}
		maps.Copy(p.values, values)
	}
	p.action = p.values.Get("Action")
	return p
}

// subject is the resource that fault rules know the call by.
func (p *params) subject() string {
	for _, k := range []string{
		"SnapshotId", "SnapshotId.1", "ResourceId.1", "VolumeId", "VolumeId.1", "InstanceId", "InstanceId.1", "ImageId", "ImageId.1",
		"ReplaceRootVolumeTaskId.1", "ImportTaskId.1",
	} {
		if v := p.values.Get(k); v != "" {
			return v
		}
	}
	return ""
}

func (p *params) str(key string) string {
	p.taken[key] = true
	return p.values.Get(key)
}

func (p *params) has(key string) bool { return p.values.Has(key) }

// required is str for a parameter that must be there.
func (p *params) required(key string) string {
	v := p.str(key)
	if v == "" {
		p.fail("MissingParameter", "The request must contain the parameter %s", key)
	}
	return v
}

func (p *params) boolean(key string) bool {
	v := p.str(key)
	switch strings.ToLower(v) {
	case "", "false":
		return false
	case "true":
		return true
	}
	p.fail("InvalidParameterValue", "Invalid value '%s' for %s. Expected a boolean.", v, key)
	return false
}

// integer returns 0 for a missing value.
func (p *params) integer(key string) int64 {
	v := p.str(key)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		p.fail("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected an integer.", v, key)
	}
	return n
}

// optBool and optInt return nil for a missing value.
func (p *params) optBool(key string) *bool {
	if !p.has(key) {
		return nil
	}
	v := p.boolean(key)
	return &v
}

func (p *params) optInt(key string) *int64 {
	if !p.has(key) {
		return nil
	}
	v := p.integer(key)
	return &v
}

// any reports whether a parameter starts with prefix.
func (p *params) any(prefix string) bool {
	for k := range p.values {
		if strings.HasPrefix(k, prefix) {
			return true
		}
	}
	return false
}

// oneOf is str for a value of a fixed set; empty is allowed.
func (p *params) oneOf(key string, allowed ...string) string {
	v := p.str(key)
	if v != "" && !slices.Contains(allowed, v) {
		p.fail("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected one of: %s.", v, key, strings.Join(allowed, ", "))
	}
	return v
}

// encodeValues writes parameters in one order.
func encodeValues(v map[string][]string) string { return url.Values(v).Encode() }

// list takes Prefix.1, Prefix.2, …
func (p *params) list(prefix string) []string {
	var out []string
	for _, i := range p.numbers(prefix) {
		out = append(out, p.str(fmt.Sprintf("%s.%d", prefix, i)))
	}
	return out
}

// numbers returns the members that a list has, ascending.
func (p *params) numbers(prefix string) []int {
	seen := map[int]bool{}
	for k := range p.values {
		rest, ok := strings.CutPrefix(k, prefix+".")
		if !ok {
			continue
		}
		head, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(head); err == nil {
			seen[n] = true
		}
	}
	out := slices.Collect(maps.Keys(seen))
	sort.Ints(out)
	return out
}

// tags takes Prefix.N.Key and Prefix.N.Value; valued tells which had a value.
func (p *params) tags(prefix string) (tags []tag, valued []bool) {
	for _, i := range p.numbers(prefix) {
		key, value := fmt.Sprintf("%s.%d.Key", prefix, i), fmt.Sprintf("%s.%d.Value", prefix, i)
		tags = append(tags, tag{p.str(key), p.str(value)})
		valued = append(valued, p.has(value))
	}
	return tags, valued
}

func (p *params) fail(code, format string, args ...any) {
	if p.err == nil {
		p.err = ec2Fault(code, format, args...)
	}
}

// finish reports the first bad or unknown parameter, or the end of a dry run.
func (p *params) finish() *apiError {
	if err := p.complete(); err != nil {
		return err
	}
	return p.dryRun()
}

// complete is finish for calls that look at the account before a dry run ends.
func (p *params) complete() *apiError {
	p.boolean("DryRun")
	if p.err != nil {
		return p.err
	}
	for _, k := range slices.Sorted(maps.Keys(p.values)) {
		if !p.taken[k] {
			return ec2Fault("UnknownParameter", "The parameter %s is not recognized", k)
		}
	}
	return nil
}

// dryRun ends a dry run; complete has been called.
func (p *params) dryRun() *apiError {
	if strings.EqualFold(p.values.Get("DryRun"), "true") {
		return ec2Fault("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	return nil
}

// ec2Fault is an error of EC2 with the status that its code has.
func ec2Fault(code, format string, args ...any) *apiError {
	status := ec2Status[code]
	if status == 0 {
		status = 400
	}
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}
