package schedule

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestLifecycleNext(t *testing.T) {
	for action, x := range map[string]struct {
		to   Lifecycle
		from []Lifecycle
	}{
		"ready-for-cutover": {ReadyForCutover, []Lifecycle{ReadyForTest, Testing, ReadyForCutover}},
		"ready-for-test":    {ReadyForTest, []Lifecycle{ReadyForTest, Testing, ReadyForCutover}},
		"disconnect":        {Disconnected, []Lifecycle{"", NotReady, ReadyForTest, Testing, ReadyForCutover, CutOver, Disconnected}},
		"reconnect":         {NotReady, []Lifecycle{Disconnected}},
		"test":              {Testing, []Lifecycle{ReadyForTest, Testing, ReadyForCutover}},
		"test-done":         {ReadyForTest, []Lifecycle{Testing}},
		"cutover":           {CuttingOver, []Lifecycle{ReadyForCutover, CuttingOver}},
		"cut-over":          {CutOver, []Lifecycle{CuttingOver}},
		"revert":            {ReadyForCutover, []Lifecycle{CuttingOver, CutOver}},
		"finalize":          {Disconnected, []Lifecycle{CuttingOver, CutOver}},
	} {
		for _, l := range append(Lifecycles(), "") {
			to, from, err := l.Next(action)
			if may := slices.Contains(x.from, l); may != (err == nil) || (may && to != x.to) || (!may && to != l) {
				t.Errorf("%s of %q: %s, %v", action, l, to, err)
			}
			if err != nil && (!errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), string(l))) {
				t.Errorf("%s of %q: %v", action, l, err)
			}
			if err == nil && !slices.Contains(from, l.orFirst()) {
				t.Errorf("%s of %q is possible from %v", action, l, from)
			}
		}
	}
	if _, _, err := NotReady.Next("fly"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "ready-for-test") {
		t.Errorf("an action that is none: %v", err)
	}
	_, from, _ := Testing.Next("test")
	from[0] = "spoiled"
	if _, again, _ := Testing.Next("test"); again[0] == "spoiled" {
		t.Error("who gets the states can change the rules")
	}
}

func TestAfterPoint(t *testing.T) {
	for _, l := range append(Lifecycles(), "") {
		want := l
		if l == NotReady || l == "" {
			want = ReadyForTest
		}
		if got := l.AfterPoint(); got != want {
			t.Errorf("%q became %q", l, got)
		}
	}
}
