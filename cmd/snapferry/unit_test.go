package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

func returning(v cli.Value) func(_, _ *pflag.FlagSet) cli.Run {
	return func(_, _ *pflag.FlagSet) cli.Run {
		return func(context.Context, cli.Streams, []string) (cli.Value, error) { return v, nil }
	}
}

func TestExplain(t *testing.T) {
	fail := func(k transfer.Kind, hint string) error { return transfer.Fail(k, "do it", errors.New("no"), hint) }
	for _, tt := range []struct {
		name    string
		err     error
		stopped bool
		exit    int
		kind    string
		hint    string
	}{
		{"bare", errors.New("x"), false, exitFailed, "permanent", ""},
		{"permanent", fail(transfer.Permanent, "h"), false, exitFailed, "permanent", "h"},
		{"retry", fail(transfer.Retry, "h"), false, exitRetry, "retry", "h"},
		{"retry wrapped", fmt.Errorf("disk: %w", fail(transfer.Retry, "h")), false, exitRetry, "retry", "h"},
		{"baseline", fail(transfer.BaselineLost, ""), false, exitFailed, "permanent", ""},
		{"usage", cli.Usagef("bad flag"), false, exitUsage, "usage", ""},
		{"interrupted", fail(transfer.Canceled, ""), true, exitInterrupted, "canceled", ""},
		{"bare interrupt", context.Canceled, true, exitInterrupted, "canceled", ""},
		{"a deadline of ours", context.DeadlineExceeded, false, exitRetry, "retry", ""},
		{"interrupted while failing", errors.Join(fail(transfer.Permanent, "h"), fail(transfer.Canceled, "")), true, exitInterrupted, "canceled", "h"},
		{"two disks, retry", errors.Join(fail(transfer.Retry, "a"), fail(transfer.Retry, "b")), false, exitRetry, "retry", "a\nb"},
		{"two disks, the worse", errors.Join(fail(transfer.Retry, "a"), fail(transfer.Permanent, "a")), false, exitFailed, "permanent", "a"},
		{"joined within", fmt.Errorf("vm: %w", errors.Join(fail(transfer.Retry, "a"), errors.New("x"))), false, exitFailed, "permanent", "a"},
		{"classified around a join", transfer.Fail(transfer.Retry, "do", errors.Join(errors.New("x"), errors.New("y")), "h"), false, exitRetry, "retry", "h"},
	} {
		i := newInterrupts(nil, nil)
		i.stopped.Store(tt.stopped)
		if p := i.explain(tt.err); p.Exit != tt.exit || p.Kind != tt.kind || p.Hint != tt.hint || p.Error != tt.err.Error() {
			t.Errorf("%s: %+v", tt.name, p)
		}
	}
}

func TestHelpOfEveryVerbHasAnExample(t *testing.T) {
	p := newProgram(newInterrupts(nil, nil))
	for _, c := range p.Commands {
		var out bytes.Buffer
		exit := p.Main(context.Background(), cli.Streams{Out: &out, Err: &out}, []string{"help", c.Name})
		if exit != 0 || !strings.Contains(out.String(), "Examples:\n  snapferry "+c.Name) {
			t.Errorf("help %s: exit %d\n%s", c.Name, exit, out.String())
		}
	}
	for _, code := range []int{exitDone, exitFailed, exitUsage, exitAlarm, exitProof, exitRetry, exitInterrupted} {
		if !strings.Contains(exitNotes, fmt.Sprintf("\n  %-4d ", code)) {
			t.Errorf("help does not explain exit status %d", code)
		}
	}
}

func TestInterrupts(t *testing.T) {
	var out bytes.Buffer
	codes := make(chan int, 1)
	i := newInterrupts(&out, func(code int) { codes <- code })
	undo := i.leaves(func() []string { return []string{"what is gone"} })
	i.leaves(func() []string { return []string{"a VM snapshot"} })
	undo()
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan os.Signal)
	go i.serve(got, cancel)
	got <- os.Interrupt
	<-ctx.Done()
	got <- os.Interrupt
	if code := <-codes; code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
	want := "snapferry: interrupt: cleaning up; once more to leave at once\nsnapferry: left at once; this stays behind:\n  a VM snapshot\n"
	if out.String() != want {
		t.Errorf("said %q, want %q", out.String(), want)
	}
	if !i.stopped.Load() {
		t.Error("it does not know that it was interrupted")
	}
}

func TestWhatARunningCycleLeaves(t *testing.T) {
	for _, tt := range []struct {
		report transfer.Report
		want   []string // parts, in order
	}{
		{transfer.Report{Step: transfer.StepInspect}, nil},
		{transfer.Report{Step: transfer.StepFreeze, Cycle: "c1"}, []string{"perhaps a VM snapshot of app01 (cycle c1)"}},
		{transfer.Report{Step: transfer.StepCopy, Snapshot: "snapshot-7", Cycle: "c1", Disks: []transfer.DiskReport{
			{Label: "Hard disk 1", Attached: true, Snapshot: "snap-1"}, {Label: "Hard disk 2", Snapshot: "snap-2", Sealed: true},
		}}, []string{"WITHOUT deleting", "snapshot-7, cycle c1", "draft snap-1 of Hard disk 1"}},
	} {
		got := leftovers("app01", tt.report)
		if len(got) != len(tt.want) {
			t.Errorf("%+v leaves %q", tt.report, got)
			continue
		}
		for i, w := range tt.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%q does not say %q", got[i], w)
			}
		}
	}
}

func TestConfirm(t *testing.T) {
	for _, tt := range []struct {
		name, in      string
		terminal, yes bool
		ok, asked     bool
	}{
		{"script", "", false, false, true, false},
		{"yes", "y\n", true, false, true, true},
		{"YES", "YES\n", true, false, true, true},
		{"no", "n\n", true, false, false, true},
		{"nothing", "\n", true, false, false, true},
		{"end of input", "", true, false, false, true},
		{"--yes", "", true, true, true, false},
	} {
		var out bytes.Buffer
		err := confirm(context.Background(), cli.Streams{In: strings.NewReader(tt.in), Err: &out, AskTerminal: tt.terminal}, "it costs", tt.yes)
		if (err == nil) != tt.ok || strings.Contains(out.String(), "[y/N]") != tt.asked || !strings.Contains(out.String(), "it costs\n") {
			t.Errorf("%s: %v, %q", tt.name, err, out.String())
		}
	}
}

func TestApplianceIDIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	ids := make([]transfer.ApplianceID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = applianceID("", dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || !strings.HasPrefix(string(id), "ferry-") {
			t.Errorf("ids %v", ids)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v: temporary files stay", left, err)
	}
	if id, err := applianceID("mine", dir); id != "mine" || err != nil {
		t.Errorf("%v, %v: the setting goes first", id, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "appliance-id"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := applianceID("", dir); err == nil {
		t.Errorf("an empty file gave %q", id)
	}
}

func TestMayWrite(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(there, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path  string
		force bool
		ok    bool
	}{
		{filepath.Join(dir, "new"), false, true}, {there, false, false}, {there, true, true},
		{dir, true, false}, {"/dev/null", true, false}, {link, true, false},
	} {
		if err := mayWrite(tt.path, tt.force); (err == nil) != tt.ok {
			t.Errorf("%s, force %v: %v", tt.path, tt.force, err)
		}
	}
	if err := hasRoom(there, 1<<60); err == nil {
		t.Error("there is no exbibyte free")
	}
}

func TestOnePartialFileAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.partial")
	f, err := openPartial(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openPartial(path); transfer.KindOf(err) != transfer.Retry {
		t.Errorf("a second one at the same time: %v", err)
	}
	if _, err := f.WriteString("old"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	f, err = openPartial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, _ := f.Stat(); st.Size() != 0 {
		t.Errorf("begins with %d old bytes", st.Size())
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		bytesText(0): "0 B", bytesText(1023): "1023 B", bytesText(1536): "1.5 KiB", bytesText(512 << 10): "512 KiB",
		bytesText(10 << 30): "10 GiB", bytesText(1 << 40): "1 TiB", bytesText(1<<40 + 300<<30): "1.29 TiB",
		rateText(0): "-", rateText(999): "999 B/s", rateText(201.4e6): "201 MB/s", rateText(1.25e9): "1.25 GB/s",
		tookText(0): "-", tookText(1234 * time.Millisecond): "1.2s", tookText(83 * time.Second): "1m23s", tookText(90*time.Minute + time.Second): "1h30m",
		tookText(time.Minute): "1m", tookText(15 * time.Minute): "15m", tookText(10*time.Minute + time.Second): "10m1s", tookText(time.Hour): "1h", tookText(168 * time.Hour): "168h", tookText(70 * time.Minute): "1h10m",
		timeText(time.Time{}): "-", timeText(noon): "2026-03-04 12:00:00Z", plural(1, "disk"): "1 disk", plural(0, "disk"): "0 disks",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if p := percent(999, 1000); p != 99 {
		t.Errorf("almost all is %d %%", p)
	}
}

// still is a subject that does not move.
type still struct{ t track }

func (s still) title() string   { return "app01" }
func (s still) step() string    { return "copy" }
func (s still) tracks() []track { return []track{s.t} }
func (s still) event() any      { return map[string]int{"done": 3} }

func TestPainters(t *testing.T) {
	s := still{track{name: "Hard disk 1", done: 1 << 30, total: 4 << 30, rate: 1e8, left: 30 * time.Second}}
	var out bytes.Buffer
	show := func(p painter) string {
		out.Reset()
		p.stepped(s)
		p.tick(s)
		p.ended(s)
		p.close()
		return out.String()
	}
	if got, want := show(&lines{w: &out}), "app01: copy\napp01: Hard disk 1: 25 %, 1 GiB of 4 GiB, 100 MB/s, 30s left\n"; got != want {
		t.Errorf("lines: %q, want %q", got, want)
	}
	got := show(&events{w: &out})
	var kinds []string
	for line := range strings.Lines(got) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.What != "app01" || e.Step != "copy" {
			t.Errorf("event %q: %v", line, err)
		}
		kinds = append(kinds, e.Event)
	}
	if fmt.Sprint(kinds) != "[step progress end]" {
		t.Errorf("events %v", kinds)
	}
	got = show(newBars(&out, mpb.WithAutoRefresh()))
	for _, want := range []string{"app01: copy", "Hard disk 1", "25 %, 1 GiB of 4 GiB, 100 MB/s, 30s left"} {
		if !strings.Contains(got, want) {
			t.Errorf("bars do not show %q: %q", want, got)
		}
	}
}

func TestDisplayModes(t *testing.T) {
	for mode, want := range map[string]string{"auto": "*main.lines", "bars": "*main.bars", "lines": "*main.lines", "json": "*main.events", "none": "main.silence"} {
		d, err := newDisplay(mode, cli.Streams{Err: &bytes.Buffer{}})
		if err != nil || fmt.Sprintf("%T", d.paint) != want {
			t.Errorf("%s: %v, %v", mode, d, err)
			continue
		}
		d.close()
	}
	if _, err := newDisplay("loud", cli.Streams{}); !cli.IsUsage(err) {
		t.Errorf("loud: %v", err)
	}
}
