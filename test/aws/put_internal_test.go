package aws

import (
	"testing"
	"time"
)

// draft makes a snapshot without going through the service.
func draft(t *testing.T) (*call, *snapshot) {
	t.Helper()
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s := &snapshot{
		id: newID("snap"), size: 1, started: e.now(), timeout: time.Hour, state: statePending,
		lastWrite: e.now(), layer: newLayer(e.store, nil),
	}
	data := make([]byte, blockSize)
	data[0] = 1
	return &call{e: e, body: data}, s
}

// Both need a put that is under way, which no client can hold there.
func TestPutThatCommitsAfterTheSealIsRefused(t *testing.T) {
	c, s := draft(t)
	s.seal(c.e.opt, c.e.now(), 0, "", "")
	err := c.keep(s, 3, c.e.now())
	if err == nil || err.reason != "INVALID_SNAPSHOT_ID" || s.layer.count() != 0 {
		t.Errorf("got %+v with %d blocks", err, s.layer.count())
	}
}

func TestTwoPutsOfOneBlockConflict(t *testing.T) {
	c, s := draft(t)
	if !s.begin(3) {
		t.Fatal("the first put found a conflict")
	}
	if err := c.keep(s, 3, c.e.now()); err == nil || err.reason != "CONFLICTING_BLOCK_UPDATE" {
		t.Errorf("second put: %+v", err)
	}
	if err := c.keep(s, 4, c.e.now()); err != nil {
		t.Errorf("put of another block: %+v", err)
	}
	s.end(3)
	if err := c.keep(s, 3, c.e.now()); err != nil {
		t.Errorf("put after the first one ended: %+v", err)
	}
}

func TestWildcards(t *testing.T) {
	for _, k := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"", "", true}, {"", "a", false}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"?", "é", true},
		{"?", "", false}, {"**b", "aab", true}, {`\*`, "*", true}, {`\*`, "a", false}, {"a*b*c", "axbxbxc", true}, {"[a]", "a", false},
	} {
		if got := wildcard(k.pattern, k.s); got != k.want {
			t.Errorf("wildcard(%q, %q) = %v", k.pattern, k.s, got)
		}
	}
}
