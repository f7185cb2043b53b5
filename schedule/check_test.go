package schedule

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

func TestCheck(t *testing.T) {
	for _, x := range []struct {
		change func(*Policy)
		want   []string // in the error; none: it is right
	}{
		{func(*Policy) {}, nil},
		{func(p *Policy) { p.Name = "gold.2_x-y" }, nil},
		{func(p *Policy) { p.Name = strings.Repeat("a", 64) }, nil},
		{func(p *Policy) { p.Name = strings.Repeat("a", 65) }, []string{"name"}},
		{func(p *Policy) { p.Name = "" }, []string{`policy ""`, "name"}},
		{func(p *Policy) { p.Name = "Gold" }, []string{`"Gold"`, "a-z"}},
		{func(p *Policy) { p.Name = "-x" }, []string{"name"}},
		{func(p *Policy) { p.Name = "x\n" }, []string{"name"}},
		{func(p *Policy) { p.Every = 0 }, []string{"policy p", "every, cron and adaptive", "0 of them"}},
		{func(p *Policy) { p.Cron = "@daily" }, []string{"every, cron and adaptive", "2 of them"}},
		{func(p *Policy) { p.Every = Duration(59 * time.Second) }, []string{"every is 59s", "from 1m to 30d"}},
		{func(p *Policy) { p.Every = -1 }, []string{"every", "from 1m to 30d"}},
		{func(p *Policy) { p.Every = Duration(30 * day) }, nil},
		{func(p *Policy) { p.Every = Duration(30*day + time.Second) }, []string{"every is 30d"}},
		{func(p *Policy) { p.Every, p.Cron = 0, "30 2 * * *" }, nil},
		{func(p *Policy) { p.Every, p.Cron = 0, "30 2 * *" }, []string{"cron", `"30 2 * *"`, "five fields"}},
		{func(p *Policy) { p.Every, p.Cron = 0, "TZ=UTC 30 2 * * *" }, []string{"cron", "timeZone"}},
		{func(p *Policy) { p.Every, p.Cron = 0, "@every 5m" }, []string{"cron", "every: 15m"}},
		{func(p *Policy) { p.Every, p.Cron = 0, "0 0 30 feb *" }, []string{"cron", "no day"}},
		{func(p *Policy) { p.Every, p.Adaptive = 0, &Adaptive{Duration(5 * time.Minute), Duration(time.Hour)} }, nil},
		{func(p *Policy) { p.Every, p.Adaptive = 0, &Adaptive{Duration(4 * time.Minute), Duration(time.Hour)} }, []string{"adaptive.floor is 4m", "5m"}},
		{func(p *Policy) { p.Every, p.Adaptive = 0, &Adaptive{Duration(10 * time.Minute), 0} }, []string{"adaptive.ceiling is 0s"}},
		{func(p *Policy) { p.Every, p.Adaptive = 0, &Adaptive{Duration(time.Hour), Duration(10 * time.Minute)} }, []string{"adaptive.floor is 1h", "adaptive.ceiling, 10m"}},
		{func(p *Policy) { p.TimeZone = "Europe/Berlin" }, nil},
		{func(p *Policy) { p.TimeZone = "Europe/Bonn" }, []string{"timeZone", "Europe/Bonn", "Europe/Berlin"}},
		{func(p *Policy) { p.TimeZone = "Local" }, []string{"timeZone"}},
		{func(p *Policy) { p.TimeZone = "../../etc/passwd" }, []string{"timeZone"}},
		{func(p *Policy) { p.Jitter = jitter(0) }, nil},
		{func(p *Policy) { p.Jitter = jitter(-time.Second) }, []string{"jitter is -1s"}},
		{func(p *Policy) { p.Jitter = jitter(15 * time.Minute) }, []string{"jitter is 15m", "less than 15m"}},
		{func(p *Policy) { p.Blackout = []Window{{From: "22:00", To: "06:00"}} }, nil},
		{func(p *Policy) { p.Blackout = []Window{{From: "22:00", To: "06:00"}, {From: "25:00", To: "06:00"}} }, []string{"blackout 2", `"25:00"`, "22:30"}},
		{func(p *Policy) { p.Blackout = []Window{{From: "22:00", To: "06:00"}, {From: "06:00", To: "22:00"}} }, []string{"blackout", "whole week"}},
		{func(p *Policy) { p.Bandwidth = []Bandwidth{{Window{From: "08:00", To: "18:00"}, 50e6}} }, nil},
		{func(p *Policy) { p.Bandwidth = []Bandwidth{{Window{From: "08:00", To: "18:00"}, 0}} }, []string{"bandwidth 1", "limit", "50MB/s"}},
		{func(p *Policy) { p.Bandwidth = []Bandwidth{{Window{Days: "m", From: "08:00", To: "18:00"}, 1}} }, []string{"bandwidth 1", "days"}},
		{func(p *Policy) { p.Retention = transfer.Policy{Days: 7} }, nil},
		{func(p *Policy) { p.Retention = transfer.Policy{Days: -7} }, []string{"retention"}},
		{func(p *Policy) { p.Retention = transfer.Policy{Daily: 100_000} }, []string{"retention", "100000"}},
		{func(p *Policy) { p.Quiesce, p.Zeros, p.Reader = transfer.QuiesceTry, transfer.ZerosAll, "hotadd" }, nil},
		{func(p *Policy) { p.Quiesce = "yes" }, []string{"quiesce", "off, try, require"}},
		{func(p *Policy) { p.Zeros = "none" }, []string{"zeros", "auto, all, allocated"}},
		{func(p *Policy) { p.Reader = "vddk" }, []string{"reader", "hotadd"}},
		{func(p *Policy) { p.Exclude = []string{"Hard disk 2", ""} }, []string{"exclude 2"}},
		{func(p *Policy) { p.Prove = &Prove{Every: Duration(day)} }, nil},
		{func(p *Policy) { p.Prove = &Prove{Every: Duration(23 * time.Hour)} }, []string{"prove.every is 23h", "from 24h"}},
		{func(p *Policy) { p.Prove = &Prove{} }, []string{"prove.every is 0s"}},
		{func(p *Policy) { p.Match = []Match{{Name: "*"}, {Tag: "env:prod"}} }, nil},
		{func(p *Policy) { p.Match = []Match{{Name: "*"}, {}} }, []string{"match 2", "empty"}},
		{func(p *Policy) { p.Match = []Match{{Folder: "/DC0/[a"}} }, []string{"match 1", "folder", "/DC0/[a"}},
	} {
		p := Policy{Name: "p", Every: Duration(15 * time.Minute)}
		x.change(&p)
		err := p.Check()
		if (err != nil) != (len(x.want) > 0) {
			t.Errorf("%+v: %v", p, err)
			continue
		}
		if err == nil {
			continue
		}
		for _, w := range x.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: want %q in it", err, w)
			}
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%v is no ErrInvalid", err)
		}
	}
}

func TestCheckAll(t *testing.T) {
	a, b := punctual(time.Hour), punctual(time.Hour)
	b.Name = "q"
	if err := CheckAll([]Policy{a, b}); err != nil {
		t.Error(err)
	}
	if err := CheckAll([]Policy{a, b, a}); err == nil || !strings.Contains(err.Error(), "two of this name") || !errors.Is(err, ErrInvalid) {
		t.Errorf("two of one name: %v", err)
	}
	b.Every = 0
	if err := CheckAll([]Policy{a, b}); err == nil || !strings.Contains(err.Error(), "policy q") {
		t.Errorf("a bad one: %v", err)
	}
}

func TestLocation(t *testing.T) {
	for name, want := range map[string]string{"": "UTC", "Europe/Berlin": "Europe/Berlin", "no/where": "UTC"} {
		p := Policy{TimeZone: name}
		if got := p.Location().String(); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestRules(t *testing.T) {
	p := Policy{TimeZone: "Europe/Berlin"}
	if r := p.Rules(); r.Last != transfer.DefaultPolicy().Last || r.Weekly != transfer.DefaultPolicy().Weekly || r.Location.String() != "Europe/Berlin" {
		t.Errorf("without a retention: %+v", r)
	}
	p.Retention = transfer.Policy{Days: 3, Location: time.UTC}
	if r := p.Rules(); r.Last != 0 || r.Days != 3 || r.Location.String() != "Europe/Berlin" {
		t.Errorf("with one: %+v", r)
	}
}

// FuzzPolicy: what a person may send over the API is refused or can be worked
// with; nothing panics or hangs.
func FuzzPolicy(f *testing.F) {
	f.Add(`{"name":"gold","every":"15m","blackout":[{"days":"mon-fri","from":"08:00","to":"18:00"}],"match":[{"folder":"/DC0/vm/prod"}]}`)
	f.Add(`{"name":"n","cron":"30 2 * * mon-fri","timeZone":"Europe/Berlin","jitter":"5m","retention":{"days":30}}`)
	f.Add(`{"name":"a","adaptive":{"floor":"5m","ceiling":"12h"},"bandwidth":[{"from":"08:00","to":"18:00","limit":"50MB/s"}]}`)
	f.Add(`{"name":"c","cron":"1 1 1 1 1"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var p Policy
		if json.Unmarshal([]byte(text), &p) != nil || len(p.Cron) > 100 || len(p.Blackout) > 50 {
			return
		}
		now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
		in := DueInput{VM: vmid(1), Now: now, Last: now.Add(-time.Minute)}
		err := p.Check()
		due := NextDue(&p, in) // must not panic for what is wrong either
		if _, err := json.Marshal(p); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		if _, in := p.BlackoutAt(due.At); in || due.At.Before(now) {
			t.Fatalf("%s: due %v", text, due.At)
		}
		if n, err := QuotaOf(&p, 1, 0); n <= 0 && err == nil {
			t.Fatalf("%s keeps %d", text, n)
		}
		p.LimitAt(now)
		Assign([]Policy{p}, &VM{VM: transfer.VM{Name: "x", Path: "/a/b"}})
	})
}
