package console_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// document is an OpenAPI document, and a checker for the part of JSON Schema
// that ours uses. It is strict: an object that names its properties has no
// others, and a keyword that the checker does not know is a fault.
type document struct {
	root map[string]any
}

// resolve follows references.
func (d document) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	for {
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		var at any = d.root
		for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.(map[string]any)[part]
		}
		if m, ok = at.(map[string]any); !ok {
			panic("nothing is at " + ref)
		}
	}
}

var known = []string{"type", "properties", "required", "items", "additionalProperties", "propertyNames", "enum", "pattern", "format", "allOf",
	"description", "default", "minimum", "maximum", "minItems", "maxItems", "maxLength"}

// check returns what is wrong with a value, by path.
func (d document) check(schema any, v any) []string {
	faults, seen := d.at("$", d.resolve(schema), v)
	if m, ok := v.(map[string]any); ok {
		faults = append(faults, unseen("$", d.resolve(schema), m, seen)...)
	}
	return faults
}

// unseen are the properties that no schema spoke of.
func unseen(path string, s map[string]any, m map[string]any, seen map[string]bool) (faults []string) {
	if s["properties"] == nil && s["allOf"] == nil {
		return nil
	}
	for k := range m {
		if !seen[k] {
			faults = append(faults, path+"."+k+" is not described")
		}
	}
	return faults
}

func (d document) inner(path string, schema any, v any) []string {
	s := d.resolve(schema)
	faults, seen := d.at(path, s, v)
	if m, ok := v.(map[string]any); ok {
		faults = append(faults, unseen(path, s, m, seen)...)
	}
	return faults
}

// at checks a value against one schema; seen are the properties that it names.
func (d document) at(path string, s map[string]any, v any) (faults []string, seen map[string]bool) {
	seen = map[string]bool{}
	bad := func(format string, args ...any) { faults = append(faults, path+" "+fmt.Sprintf(format, args...)) }
	for k := range s {
		if !slices.Contains(known, k) {
			bad("has a schema with %s, which is not understood", k)
		}
	}
	for _, part := range list(s["allOf"]) {
		f, more := d.at(path, d.resolve(part), v)
		faults = append(faults, f...)
		for k := range more {
			seen[k] = true
		}
	}
	if want, ok := s["type"].(string); ok && !isType(want, v) {
		bad("is %T and not %s", v, want)
		return faults, seen
	}
	if enum := list(s["enum"]); enum != nil && !slices.Contains(enum, v) {
		bad("is %v, none of %v", v, enum)
	}
	switch x := v.(type) {
	case string:
		faults = append(faults, text(path, s, x)...)
	case json.Number:
		n, _ := x.Float64()
		if least, ok := s["minimum"].(json.Number); ok && n < float(least) {
			bad("is %v, less than %v", n, least)
		}
		if most, ok := s["maximum"].(json.Number); ok && n > float(most) {
			bad("is %v, more than %v", n, most)
		}
	case []any:
		if s["items"] != nil {
			for i, e := range x {
				faults = append(faults, d.inner(fmt.Sprintf("%s[%d]", path, i), s["items"], e)...)
			}
		}
	case map[string]any:
		f, more := d.object(path, s, x)
		faults = append(faults, f...)
		for k := range more {
			seen[k] = true
		}
	}
	return faults, seen
}

func (d document) object(path string, s map[string]any, m map[string]any) (faults []string, seen map[string]bool) {
	seen = map[string]bool{}
	for _, k := range list(s["required"]) {
		if _, ok := m[k.(string)]; !ok {
			faults = append(faults, path+"."+k.(string)+" is missing")
		}
	}
	props, _ := s["properties"].(map[string]any)
	for k, v := range m {
		if s["propertyNames"] != nil {
			faults = append(faults, d.inner(path+" name "+k, s["propertyNames"], k)...)
		}
		if p, ok := props[k]; ok {
			seen[k] = true
			faults = append(faults, d.inner(path+"."+k, p, v)...)
			continue
		}
		if more, ok := s["additionalProperties"].(map[string]any); ok {
			seen[k] = true
			faults = append(faults, d.inner(path+"."+k, more, v)...)
		}
	}
	return faults, seen
}

func text(path string, s map[string]any, v string) (faults []string) {
	if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
		faults = append(faults, fmt.Sprintf("%s is %q and does not match %s", path, v, p))
	}
	if s["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
			faults = append(faults, fmt.Sprintf("%s is %q and no instant", path, v))
		}
	}
	if most, ok := s["maxLength"].(json.Number); ok && float64(len(v)) > float(most) {
		faults = append(faults, path+" is too long")
	}
	return faults
}

func isType(want string, v any) bool {
	switch x := v.(type) {
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case json.Number:
		return want == "number" || (want == "integer" && !strings.ContainsAny(x.String(), ".eE"))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false // null is nothing that we send
}

func list(v any) []any { l, _ := v.([]any); return l }

func float(n json.Number) float64 { f, _ := n.Float64(); return f }

// parse reads JSON with its numbers as they are written.
func parse(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("read JSON: %v: %.200s", err, data)
	}
	return v
}

// TestTheCheckerFindsFaults: a checker that finds nothing would prove nothing.
func TestTheCheckerFindsFaults(t *testing.T) {
	d := document{parse(t, []byte(`{"schemas": {
		"Name": {"type": "string", "pattern": "^[a-z]+$"},
		"Base": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}, "s": {"$ref": "#/schemas/Name"}}},
		"All": {"allOf": [{"$ref": "#/schemas/Base"}, {"type": "object", "properties": {"l": {"type": "array", "items": {"$ref": "#/schemas/Base"}}}}]},
		"Map": {"type": "object", "propertyNames": {"$ref": "#/schemas/Name"}, "additionalProperties": {"type": "string", "enum": ["x", "y"]}},
		"Time": {"type": "string", "format": "date-time"},
		"Odd": {"type": "string", "oneOf": []}
	}}`)).(map[string]any)}
	for _, c := range []struct {
		schema, value string
		faults        int
	}{
		{"Base", `{"n": 1}`, 0}, {"Base", `{"n": 1.5}`, 1}, {"Base", `{"n": 0}`, 1}, {"Base", `{}`, 1}, {"Base", `{"n": 1, "more": 2}`, 1}, {"Base", `{"n": 1, "s": "A"}`, 1},
		{"Base", `[]`, 1}, {"Base", `null`, 1}, {"Base", `{"n": null}`, 1},
		{"All", `{"n": 1, "l": [{"n": 1}]}`, 0}, {"All", `{"n": 1, "l": [{"n": 1, "x": 1}]}`, 1}, {"All", `{"n": 1, "x": 1}`, 1}, {"All", `{"l": null}`, 2},
		{"Map", `{"a": "x"}`, 0}, {"Map", `{"A": "x"}`, 1}, {"Map", `{"a": "z"}`, 1},
		{"Time", `"2026-03-02T12:00:00Z"`, 0}, {"Time", `"noon"`, 1}, {"Odd", `"x"`, 1},
	} {
		if got := d.check(map[string]any{"$ref": "#/schemas/" + c.schema}, parse(t, []byte(c.value))); len(got) != c.faults {
			t.Errorf("%s %s: %d faults, want %d: %v", c.schema, c.value, len(got), c.faults, got)
		}
	}
}
