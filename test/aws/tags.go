package aws

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of tags. The key bound is the one of both API models; the value bound
// is 255 in EBS direct and 256 in EC2.
const (
	maxTags     = 50
	maxTagKey   = 127
	maxEBSValue = 255
	maxEC2Value = 256
)

type tag struct{ Key, Value string }

// tagSet is the tags of one resource. Its owner's lock guards it.
type tagSet struct{ m map[string]string }

func (t *tagSet) set(k, v string) {
	if t.m == nil {
		t.m = map[string]string{}
	}
	t.m[k] = v
}

func (t *tagSet) all() iter.Seq2[string, string] { return maps.All(t.m) }

// list returns the tags ordered by key.
func (t *tagSet) list() []tag {
	out := make([]tag, 0, len(t.m))
	for _, k := range slices.Sorted(maps.Keys(t.m)) {
		out = append(out, tag{k, t.m[k]})
	}
	return out
}

func (t *tagSet) clone() tagSet { return tagSet{maps.Clone(t.m)} }

// reservedKey reports a key of AWS's own name space, which is case-blind.
func reservedKey(k string) bool { return strings.HasPrefix(strings.ToLower(k), "aws:") }

func tooLong(s string, limit int) bool { return utf8.RuneCountInString(s) > limit }
