package aws

import (
	"fmt"
	"strings"
	"time"
)

// filter is one Filter.N of a Describe call: a name and the patterns of which
// one has to match.
type filter struct {
	name   string
	values []string
}

// filters takes Filter.N.Name and Filter.N.Value.M.
func (p *params) filters() []filter {
	var out []filter
	for _, i := range p.numbers("Filter") {
		f := filter{name: p.str(fmt.Sprintf("Filter.%d.Name", i)), values: p.list(fmt.Sprintf("Filter.%d.Value", i))}
		if f.name == "" {
			p.fail("MissingParameter", "The request must contain the parameter Filter.Name")
		}
		if len(f.values) == 0 {
			p.fail("InvalidParameterValue", "The filter '%s' is missing its values.", f.name)
		}
		out = append(out, f)
	}
	return out
}

// resource is what filters look at: fields by filter name, and tags.
type resource struct {
	fields map[string]string
	tags   []tag
}

// check rejects filters that the kind of resource does not have.
func (r resource) check(fs []filter) *apiError {
	for _, f := range fs {
		_, known := r.fields[f.name]
		if !known && f.name != "tag-key" && f.name != "tag-value" && !strings.HasPrefix(f.name, "tag:") {
			return ec2Fault("InvalidParameterValue", "The filter '%s' is invalid", f.name)
		}
	}
	return nil
}

// matches reports whether the resource passes all filters.
func (r resource) matches(fs []filter) bool {
	for _, f := range fs {
		if !r.matchesOne(f) {
			return false
		}
	}
	return true
}

func (r resource) matchesOne(f filter) bool {
	var have []string
	switch key, isTag := strings.CutPrefix(f.name, "tag:"); {
	case isTag:
		for _, t := range r.tags {
			if t.Key == key {
				have = append(have, t.Value)
			}
		}
	case f.name == "tag-key":
		for _, t := range r.tags {
			have = append(have, t.Key)
		}
	case f.name == "tag-value":
		for _, t := range r.tags {
			have = append(have, t.Value)
		}
	default:
		have = []string{r.fields[f.name]}
	}
	for _, h := range have {
		for _, v := range f.values {
			if wildcard(v, h) {
				return true
			}
		}
	}
	return false
}

// wildcard matches s against a pattern with * (any run), ? (any one) and
// backslash for a literal next character. It is case-sensitive, as filters are.
func wildcard(pattern, s string) bool {
	p, t := []rune(pattern), []rune(s)
	star, mark, i, j := -1, 0, 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && p[i] == '\\' && i+1 < len(p) && p[i+1] == t[j]:
			i, j = i+2, j+1
		case i < len(p) && p[i] != '\\' && (p[i] == '?' || p[i] == t[j]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// paging is MaxResults and NextToken of a Describe call.
type paging struct {
	max  int64
	next string
}

// pageTokenPrefix scopes the page tokens of EC2 calls.
const pageTokenPrefix = "ec2/"

// paging takes the parameters and checks the bounds.
func (p *params) paging(low, high int64) paging {
	g := paging{max: p.integer("MaxResults"), next: p.str("NextToken")}
	if p.has("MaxResults") && (g.max < low || g.max > high) {
		p.fail("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value between %d and %d.", g.max, low, high)
	}
	return g
}

// slice returns the bounds of the page in a list of n items, and the token for
// the next one.
func (c *call) slice(g paging, n int) (from, to int, next *string, err *apiError) {
	scope := pageTokenPrefix + c.op
	if g.next != "" {
		at, ok := c.e.tokens.open(g.next, scope, c.e.now())
		if !ok {
			return 0, 0, nil, ec2Fault("InvalidNextToken", "The token '%s' is invalid.", g.next)
		}
		from = min(int(at), n)
	}
	to = n
	if g.max > 0 && from+int(g.max) < n {
		to = from + int(g.max)
		// The documentation gives EC2 tokens a day.
		token := c.e.tokens.make(scope, int64(to), c.e.now().Add(24*time.Hour))
		next = &token
	}
	return from, to, next, nil
}
