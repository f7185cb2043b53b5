package service

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"snapferry/schedule"
)

// FuzzTable: whatever comes, reading never panics, refuses as ErrInvalid, and
// what it accepts means the same when it is written and read again.
func FuzzTable(f *testing.F) {
	for _, s := range []string{
		"vm,name,wave,policy,paused,launch.subnet\n/DC0/vm/a,a,w1,gold,true,subnet-1\n",
		"\ufeffVM;Wave\r\nvm-1;w\r\n", "vm\n'=x\n", "vm,launch.a\n\"'=\n\",\"\"\"\n\"\n", "vm,paused\nx,yes\n\ny,0\n", "vm,vm\n", "\xff", "vm\n\"", "'vm\nx\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := readTable(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, schedule.ErrInvalid) || !utf8.ValidString(err.Error()) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		keys := map[string]bool{}
		for i := range lines {
			l := &lines[i]
			for k := range l.launch {
				keys[k] = true
			}
			no, none := false, ""
			if l.paused == nil {
				l.paused = &no
			}
			if l.wave == nil {
				l.wave = &none
			}
			if l.policy == nil {
				l.policy = &none
			}
		}
		sorted := sortedKeys(keys)
		var out bytes.Buffer
		if err := writeTable(&out, sorted, lines); err != nil {
			t.Fatal(err)
		}
		again, err := readTable(&out)
		if err != nil || len(again) != len(lines) {
			t.Fatalf("%d lines became %d: %v\n%q", len(lines), len(again), err, out.String())
		}
		for i, l := range again {
			was := lines[i]
			if l.vm != was.vm || l.name != strings.ReplaceAll(was.name, "\r\n", "\n") || *l.wave != *was.wave || *l.policy != *was.policy || *l.paused != *was.paused || !maps.Equal(l.launch, was.launch) {
				t.Fatalf("line %d:\n%+v\nbecame\n%+v", i, was, l)
			}
		}
	})
}

// FuzzGuard: every cell comes back, and none that is written is a formula.
func FuzzGuard(f *testing.F) {
	for _, s := range []string{"", "x", "=x", "'=x", "''-", "'x", "@", "\t", "'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cell := guard(s)
		if back := unguard(cell); back != s {
			t.Fatalf("%q became %q and then %q", s, cell, back)
		}
		if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r\n") {
			t.Fatalf("%q is written as %q", s, cell)
		}
	})
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
