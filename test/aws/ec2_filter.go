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
func (p *params) filters() []filter { return p.filtersNamed("Filter") }

// filtersNamed is filters for the calls that spell the list otherwise.
func (p *params) filtersNamed(list string) []filter {
	var out []filter
	for _, i := range p.numbers(list) {
		f := filter{name: p.str(fmt.Sprintf("%s.%d.Name", list, i)), values: p.list(fmt.Sprintf("%s.%d.Value", list, i))}
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

// resource is what filters look at: fields by filter name, those that have any
// number of values, and tags.
type resource struct {
	fields map[string]string
	many   map[string][]string
	tags   []tag
}

// describable are the items of Describe calls. The resource of the zero item
// has all filters that the call knows.
type describable interface{ resource() resource }

// pageOf filters the items and cuts out the page that was asked for.
func pageOf[T describable](c *call, items []T, fs []filter, g paging) ([]T, *string, *apiError) {
	var zero T
	if err := zero.resource().check(fs); err != nil {
		return nil, nil, err
	}
	var matched []T
	for _, x := range items {
		if x.resource().matches(fs) {
			matched = append(matched, x)
		}
	}
	from, to, next, err := c.slice(g, len(matched))
	if err != nil {
		return nil, nil, err
	}
	return matched[from:to], next, nil
}

// tagsOf takes the tags back out of what a Describe call shows.
func tagsOf(set *xmlTags) []tag {
	if set == nil {
		return nil
	}
	out := make([]tag, 0, len(set.Items))
	for _, t := range set.Items {
		out = append(out, tag(t))
	}
	return out
}

// check rejects filters that the kind of resource does not have.
func (r resource) check(fs []filter) *apiError {
	for _, f := range fs {
		_, known := r.fields[f.name]
		if _, also := r.many[f.name]; !known && !also && f.name != "tag-key" && f.name != "tag-value" && !strings.HasPrefix(f.name, "tag:") {
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
		if one, ok := r.fields[f.name]; ok {
			have = []string{one}
		}
		have = append(have, r.many[f.name]...)
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
