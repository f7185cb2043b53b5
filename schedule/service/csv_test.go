package service_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"snapferry/schedule"
	"snapferry/transfer"
)

func (r *rig) export() string {
	r.t.Helper()
	var b bytes.Buffer
	if err := r.ExportCSV(r.t.Context(), &b); err != nil {
		r.t.Fatal(err)
	}
	return b.String()
}

// awkward are values that tables spoil if one lets them.
var awkward = []string{
	"plain", "=1+1", "+1", "-1", "@x", "'=x", "''@", "'quoted'", "'", " spaced ", "a,b;c", `"quoted"`, "line\nbreak", "\ttab", "\n=x", "ünï", `\.`, "true",
	"#!/bin/sh\necho \"a;b\", '$x'\n",
}

func TestTheTableReadsBackExactly(t *testing.T) {
	var vms []transfer.VM
	for i := range awkward {
		vms = append(vms, machine(fmt.Sprintf("v%02d", i)))
	}
	vms[1].Name, vms[1].Path = "=cmd|' /C calc'!A0", "/DC0/vm/=cmd"
	vms[2].Path = vms[3].Path // told apart by their IDs
	vms[4].Path = ""
	vms[5].Name = " -padded"
	r := newRig(t, vms...)
	r.gold()
	ctx := t.Context()
	for i, v := range awkward {
		if err := r.SetLaunch(ctx, alice, vms[i].ID, schedule.Launch{"value": v, fmt.Sprintf("test.k%d", i): "x", "tag.Cost Center:2026": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	ok(r.Pause(ctx, alice, []transfer.VMID{vms[0].ID, vms[7].ID}, "because"))
	ok(r.Choose(ctx, alice, []transfer.VMID{vms[2].ID}, "gold"))
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "w 1", Note: "n", VMs: []transfer.VMID{vms[3].ID, vms[1].ID}}); err != nil {
		t.Fatal(err)
	}
	text := r.export()
	for _, row := range strings.Split(text, "\r\n") {
		for _, cell := range strings.Split(row, ",") {
			if cell != "" && strings.ContainsAny(strings.TrimPrefix(cell, `"`)[:1], "=+-@") && !strings.Contains(cell, "\n") {
				t.Errorf("a spreadsheet would run %q", cell)
			}
		}
	}
	last := r.last()
	done := ok(r.ImportCSV(ctx, alice, strings.NewReader(text)))
	for _, d := range done {
		if d.Result != "unchanged" {
			t.Errorf("%s: %s", d.Name, d.Result)
		}
	}
	if events := r.events(last); len(done) != len(vms) || len(events) != 0 {
		t.Errorf("%d lines, events %v", len(done), events)
	}

	// Into a connector that knows nothing but the inventory.
	other := newRig(t, vms...)
	other.gold()
	ok(other.ImportCSV(ctx, alice, strings.NewReader(text)))
	if diff := cmp.Diff(text, other.export()); diff != "" {
		t.Error(diff)
	}
	if w := ok(other.Waves(ctx)); len(w) != 1 || len(w[0].VMs) != 2 {
		t.Errorf("waves: %+v", w)
	}
}

func TestImport(t *testing.T) {
	r := newRig(t, machines("a", "b", "c")...)
	r.gold()
	ctx := t.Context()
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "old", Note: "kept", VMs: ids("a", "b")}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetLaunch(ctx, alice, id("a"), schedule.Launch{"subnet": "s1", "role": "r1"}); err != nil {
		t.Fatal(err)
	}
	ok(r.Pause(ctx, alice, ids("b"), "mine"))
	last := r.last()
	text := "\ufeffVM;Wave;paused;launch.subnet;Policy;;\r\n" +
		"/DC0/vm/prod/a;new;yes;;gold;;\r\n" +
		";;;;;;\r\n" +
		"vm-b;old;;subnet-9;;;\r\n" +
		"C;;0;\"a;b\";;;\r\n"
	done := ok(r.ImportCSV(ctx, alice, strings.NewReader(text)))
	want := "a: wave new; policy gold; launch settings; paused\nb: launch settings\nc: launch settings"
	if results(done) != want {
		t.Errorf("imported:\n%s\nwant\n%s", results(done), want)
	}
	a, b, c := r.vm("a"), r.vm("b"), r.vm("c")
	if a.Wave != "new" || !a.Paused || a.Chosen != "gold" || !cmp.Equal(a.Launch, schedule.Launch{"role": "r1"}) {
		t.Errorf("a: %+v", a.VM)
	}
	if b.Wave != "old" || !b.Paused || b.PausedWhy != "mine" || b.Launch["subnet"] != "subnet-9" {
		t.Errorf("b: %+v", b.VM)
	}
	if c.Wave != "" || c.Paused || c.Launch["subnet"] != "a;b" {
		t.Errorf("c: %+v", c.VM)
	}
	waves := ok(r.Waves(ctx))
	if len(waves) != 2 || waves[1].Name != "old" || waves[1].Note != "kept" || len(waves[1].VMs) != 1 {
		t.Errorf("waves: %+v", waves)
	}
	events := []string{"WAVE_CHANGED", "WAVE_CHANGED", "POLICY_CHANGED a", "SETTINGS_CHANGED a", "REPLICATION_PAUSED a", "SETTINGS_CHANGED b", "SETTINGS_CHANGED c"}
	if diff := cmp.Diff(events, r.events(last)); diff != "" {
		t.Error(diff)
	}
	done = ok(r.ImportCSV(ctx, alice, strings.NewReader("vm,wave,policy,paused\na,,,false\n")))
	if results(done) != "a: no wave; policy by match; resumed" {
		t.Error(results(done))
	}
}

func TestImportIsAllOrNothing(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	r.gold()
	before := r.export()
	last := r.last()
	for _, c := range []struct {
		text  string
		parts []string
	}{
		{"", []string{"empty"}},
		{"\n\n", []string{"empty"}},
		{"name\na\n", []string{"line 1: there is no column vm"}},
		{"vm,colour\na,red\n", []string{`line 1: there is no column "colour"`}},
		{"vm,launch.\na,x\n", []string{"line 1: ", "launch setting"}},
		{"vm,VM\na,b\n", []string{"line 1: there are two columns vm"}},
		{"vm,paused\na,true\nx,true\n", []string{`line 3, column vm: there is no VM "x"`}},
		{"vm,paused\na,true\n/DC0/vm/prod/a,true\n", []string{"line 3, column vm: a is in line 2 already"}},
		{"vm,paused\na,maybe\nb,true\n", []string{`line 2, column paused: "maybe"`}},
		{"vm,policy\na,silver\n", []string{`line 2, column policy: there is no policy "silver"`}},
		{"vm,wave\na,=x\nb,w\n", []string{`line 2, column wave: a wave cannot be called "=x"`}},
		{"vm,name,wave\na,b,w\n", []string{`line 2, column name: `, "sorted apart"}},
		{"vm,wave\n,w\nb,w\n", []string{"line 2, column vm: it is empty"}},
		{"vm,wave\na,w,more\n", []string{"line 2: cell 3 has no column"}},
		{"vm,wave,paused\na,w\n", []string{"line 2: there are 2 cells"}},
		{"vm,wave\na,\"w\nb,w\n", []string{"line ", "quote"}},
		{"vm,wave\na,w\nb,\xff\n", []string{"line 3: the table is not UTF-8"}},
		{"vm,launch.k\na,\x01\n", []string{"line 2, column launch.k: "}},
		{"vm,launch.k\na,\"x\n\n\ny\"\nzz,x\n", []string{"line 6, column vm"}},
		{"vm,paused\nq1,true\nq2,true\n", []string{"line 2, ", "; line 3, "}},
		{"vm\n" + strings.Repeat("q\n", 30), []string{"and 10 more"}},
		{"vm\n" + strings.Repeat("q\n", 50_001), []string{"more than 50000 VMs"}},
		{strings.Repeat("x", 16<<20+1), []string{"more than 16 MiB"}},
	} {
		_, err := r.ImportCSV(t.Context(), alice, strings.NewReader(c.text))
		if !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("%.40q: %v", c.text, err)
			continue
		}
		for _, part := range c.parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%.40q: %.200v, want %q in it", c.text, err, part)
			}
		}
	}
	if after := r.export(); after != before || len(r.events(last)) != 0 {
		t.Errorf("something was changed:\n%s\n%v", cmp.Diff(before, after), r.events(last))
	}
}
