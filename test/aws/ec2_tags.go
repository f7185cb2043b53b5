package aws

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// maxTagResources is how many resources one tag call may name.
const maxTagResources = 1000

// tagged is a resource whose tags can be changed.
type tagged struct {
	id, kind string
	mu       *sync.Mutex
	tags     *tagSet
	m        *meta // of a resource of the cloud; its lock is mu
}

// tagged finds the resources by ID, or fails as EC2 does.
func (e *Emulator) tagged(ids []string) ([]tagged, *apiError) {
	unlock := e.lockCloud()
	defer unlock()
	var out []tagged
	for _, id := range ids {
		if strings.HasPrefix(id, "snap-") {
			s := e.lookup(id)
			if s == nil || s.owner != e.opt.AccountID {
				return nil, ec2Fault("InvalidSnapshot.NotFound", "The snapshot ID '%s' does not exist", id)
			}
			out = append(out, tagged{id, "snapshot", &s.mu, &s.tags, nil})
			continue
		}
		kind, m, err := e.metaOf(id)
		if err != nil {
			return nil, err
		}
		out = append(out, tagged{id, kind, &e.cloud.mu, &m.tags, m})
	}
	return out, nil
}

// taggedParams takes what CreateTags and DeleteTags have in common.
func taggedParams(p *params) (ids []string, tags []tag, valued []bool) {
	ids = p.list("ResourceId")
	tags, valued = p.tags("Tag")
	if len(ids) == 0 {
		p.fail("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	if len(ids) > maxTagResources {
		p.fail("InvalidParameterValue", "The number of resources exceeds the maximum of %d per call.", maxTagResources)
	}
	return ids, tags, valued
}

func (c *call) createTags(p *params) (any, *apiError) {
	ids, tags, _ := taggedParams(p)
	if len(tags) == 0 {
		p.fail("MissingParameter", "The request must contain the parameter tagSet")
	}
	checkEC2Tags(p, tags)
	if err := p.finish(); err != nil {
		return nil, err
	}
	resources, err := c.e.tagged(ids)
	if err != nil {
		return nil, err
	}
	// All or nothing: look first.
	for _, r := range resources {
		if r.count(tags) > maxTags {
			return nil, ec2Fault("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
		}
	}
	for _, r := range resources {
		r.mu.Lock()
		if r.m != nil {
			r.m.retag(c.e)
		}
		for _, t := range tags {
			r.tags.set(t.Key, t.Value)
		}
		r.mu.Unlock()
	}
	return returned{true}, nil
}

// count is the number of tags that the resource would have with those added.
func (r tagged) count(more []tag) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tags.clone()
	for _, m := range more {
		t.set(m.Key, m.Value)
	}
	return len(t.m)
}

func checkEC2Tags(p *params, tags []tag) {
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case t.Key == "":
			p.fail("InvalidParameterValue", "Tag key cannot be null or empty")
		case reservedKey(t.Key):
			p.fail("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		case tooLong(t.Key, maxTagKey):
			p.fail("InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", maxTagKey)
		case tooLong(t.Value, maxEC2Value):
			p.fail("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", maxEC2Value)
		case seen[t.Key]:
			p.fail("InvalidParameterValue", "Duplicate tag key '%s' specified.", t.Key)
		}
		seen[t.Key] = true
	}
	if len(tags) > maxTags {
		p.fail("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
	}
}

// deleteTags deletes a tag only if its value matches, where one is given; with
// no tags at all it deletes all of them.
func (c *call) deleteTags(p *params) (any, *apiError) {
	ids, tags, valued := taggedParams(p)
	if err := p.finish(); err != nil {
		return nil, err
	}
	resources, err := c.e.tagged(ids)
	if err != nil {
		return nil, err
	}
	for _, r := range resources {
		r.mu.Lock()
		if r.m != nil {
			r.m.retag(c.e)
		}
		if len(tags) == 0 {
			clear(r.tags.m)
		}
		for i, t := range tags {
			if v, ok := r.tags.m[t.Key]; ok && (!valued[i] || v == t.Value) {
				delete(r.tags.m, t.Key)
			}
		}
		r.mu.Unlock()
	}
	return returned{true}, nil
}

type xmlTagItem struct {
	ResourceID   string `xml:"resourceId"`
	ResourceType string `xml:"resourceType"`
	Key          string `xml:"key"`
	Value        string `xml:"value"`
}

type describeTagsOutput struct {
	Set       xmlSet[xmlTagItem] `xml:"tagSet"`
	NextToken *string            `xml:"nextToken,omitempty"`
}

func (x xmlTagItem) resource() resource {
	return resource{tags: []tag{{x.Key, x.Value}}, fields: map[string]string{
		"resource-id": x.ResourceID, "resource-type": x.ResourceType, "key": x.Key, "value": x.Value,
	}}
}

func (c *call) describeTags(p *params) (any, *apiError) {
	fs, g := p.filters(), p.paging(5, 1000)
	if err := p.finish(); err != nil {
		return nil, err
	}
	if err := (xmlTagItem{}).resource().check(fs); err != nil {
		return nil, err
	}
	resources, err := c.e.tagged(c.e.ownIDs())
	if err != nil {
		return nil, err
	}
	var items []xmlTagItem
	for _, r := range resources {
		r.mu.Lock()
		list := r.tags.list()
		if r.m != nil {
			list = c.e.shownTags(r.m)
		}
		for _, t := range list {
			x := xmlTagItem{r.id, r.kind, t.Key, t.Value}
			if x.resource().matches(fs) {
				items = append(items, x)
			}
		}
		r.mu.Unlock()
	}
	from, to, next, err := c.slice(g, len(items))
	if err != nil {
		return nil, err
	}
	return describeTagsOutput{xmlSet[xmlTagItem]{items[from:to]}, next}, nil
}

// ownIDs lists the account's resources that can have tags.
func (e *Emulator) ownIDs() []string {
	defer e.lockCloud()()
	ids := e.cloudIDs()
	for _, s := range e.sortedSnapshots() {
		if s.owner == e.opt.AccountID {
			ids = append(ids, s.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// tagSpecifications takes the TagSpecification.N of a create call for one kind.
func (p *params) tagSpecifications(kind string) []tag { return p.tagsByKind(kind)[kind] }

// tagsByKind is tagSpecifications for a call that makes resources of several kinds.
func (p *params) tagsByKind(kinds ...string) map[string][]tag {
	out := map[string][]tag{}
	for _, i := range p.numbers("TagSpecification") {
		prefix := fmt.Sprintf("TagSpecification.%d", i)
		kind := p.str(prefix + ".ResourceType")
		if !slices.Contains(kinds, kind) {
			p.fail("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", kind)
		}
		tags, _ := p.tags(prefix + ".Tag")
		out[kind] = append(out[kind], tags...)
	}
	for _, tags := range out {
		checkEC2Tags(p, tags)
	}
	return out
}
