package console_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
	"snapferry/schedule/service"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

var (
	_ console.Backend       = (*service.Service)(nil)
	_ console.LaunchBackend = (*service.Service)(nil)
)

const (
	vcenter  = "5f1d8a12-0c55-4f21-9d52-2f6f0a3c9be1"
	operator = "operator-token-0123456789"
	viewer   = "viewer-token-0123456789"
)

func token(name string, role schedule.Role, secret string) console.Token {
	return console.Token{Name: name, Role: role, SHA256: sha256.Sum256([]byte(secret))}
}

var start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// rig is a console on a seeded database.
type rig struct {
	t       *testing.T
	db      *store.DB
	service *service.Service
	server  *console.Server
	clock   *clock
	log     *safeBuffer
	run     int64 // one that has ended, with a log
	running int64
	// preview is the dry run of launches.
	preview func(ctx context.Context, vm schedule.VM, a schedule.LaunchAction, w schedule.LaunchWish) (schedule.LaunchPreview, error)
	job     string // a test of a that is open
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func config(b console.Backend) console.Config {
	return console.Config{
		Backend: b, Version: "1.2.3", RateLimit: console.RateLimit{PerSecond: 10_000, Burst: 10_000}, Poll: 5 * time.Millisecond,
		Tokens: []console.Token{token("alice", schedule.RoleOperator, operator), token("vera", schedule.RoleViewer, viewer)},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "up 1\n")
		}),
	}
}

func newRig(t *testing.T, change ...func(*console.Config)) *rig {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "console.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	r := &rig{t: t, db: db, clock: &clock{at: start}, log: &safeBuffer{}, preview: fullPreview}
	settings := schedule.Settings{Groups: []schedule.SettingGroup{{Name: "vcenter", Items: []schedule.Setting{{Key: "vcenter.url", Value: "https://vc.example.com", From: "file"}}}, {Name: "empty"}}}
	r.service = service.New(service.Config{
		Store: db, Now: r.clock.now, Settings: settings, Launches: db,
		Preview: func(ctx context.Context, vm schedule.VM, a schedule.LaunchAction, w schedule.LaunchWish) (schedule.LaunchPreview, error) {
			return r.preview(ctx, vm, a, w)
		},
		ProveCost: func(every time.Duration, vms []schedule.VM) string {
			return fmt.Sprintf("%d VMs every %s", len(vms), every)
		},
	})
	c := config(r.service)
	c.Launches = r.service
	c.Now, c.Log = r.clock.now, slog.New(slog.NewTextHandler(r.log, nil))
	for _, f := range change {
		f(&c)
	}
	r.server = console.New(c)
	t.Cleanup(r.server.Close)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func machine(name string) transfer.VM {
	return transfer.VM{
		ID: transfer.VMID{VCenter: vcenter, Moref: "vm-" + name}, InstanceUUID: "uuid-" + name, Name: name, Path: "/DC0/vm/prod/" + name,
		PoweredOn: true, Host: "esx1", Pool: "/DC0/host/C0/Resources", CBT: true, Tags: []string{"env:prod"}, Attributes: map[string]string{"owner": "ops"},
		Guest: transfer.Guest{ID: "debian12_64Guest", Firmware: "efi", CPUs: 2, MemoryMiB: 2048},
		Disks: []transfer.Disk{{ID: transfer.DiskID{Key: 2000, UUID: "d-" + name}, Label: "Hard disk 1", Size: 8 << 30, Datastore: "ds1", File: "[ds1] " + name + ".vmdk", Backing: "flat", ChangeID: "52/1", Allocated: 1 << 30}},
	}
}

func id(name string) transfer.VMID { return transfer.VMID{VCenter: vcenter, Moref: "vm-" + name} }

// seed fills the database with one of everything.
func (r *rig) seed() *rig {
	t, ctx, db, now := r.t, r.t.Context(), r.db, r.clock.now()
	t.Helper()
	broken := machine("broken")
	broken.Obstacles = []transfer.Obstacle{{Reason: "it has a shared bus", Remedy: "Remove it."}}
	broken.Disks[0].Obstacles = []transfer.Obstacle{{Reason: "it is a raw device mapping"}}
	bare := machine("bare")
	bare.Disks, bare.Tags, bare.Attributes = nil, nil, nil
	_, _, err := db.SaveInventory(ctx, vcenter, []transfer.VM{machine("a"), machine("b"), machine("c"), broken, bare}, now)
	must(t, err)
	jitter := schedule.Duration(time.Minute)
	must(t, db.SetFilePolicies(ctx, []schedule.Policy{{Name: "gold", Every: schedule.Duration(time.Hour), Match: []schedule.Match{{Tag: "prod", Name: "*"}}, Priority: 3}}))
	must(t, db.SavePolicy(ctx, schedule.Policy{
		Name: "silver", Cron: "0 * * * *", TimeZone: "Europe/Berlin", Jitter: &jitter, Blackout: []schedule.Window{{Days: "mon-fri", From: "08:00", To: "18:00"}},
		Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{From: "08:00", To: "18:00"}, Limit: 50e6}}, Retention: transfer.Policy{Last: 3}, Quiesce: transfer.QuiesceTry,
		Zeros: transfer.ZerosAuto, Reader: "hotadd", Exclude: []string{"Hard disk 9"},
	}))
	must(t, db.SavePolicy(ctx, schedule.Policy{Name: "keen", Adaptive: &schedule.Adaptive{Floor: schedule.Duration(10 * time.Minute), Ceiling: schedule.Duration(time.Hour)}}))
	must(t, db.Plan(ctx, []schedule.Planned{{VM: id("a"), Policy: "gold", Next: now.Add(time.Hour), Why: "every 1h"}, {VM: id("b"), Policy: "gold", Next: now.Add(time.Minute), Why: "every 1h"}}))
	must(t, db.Choose(ctx, id("c"), "keen"))
	must(t, db.SetLaunch(ctx, id("a"), schedule.Launch{"subnet": "subnet-1", "test.subnet": "=subnet-2"}))
	must(t, db.SaveWave(ctx, schedule.Wave{Name: "w1", Note: "first", VMs: []transfer.VMID{id("a"), id("broken")}}))
	r.seedRuns()
	_, err = db.Raise(ctx, schedule.Alarm{Key: "lag/a", Kind: schedule.AlarmLag, VM: id("a"), VMName: "a", Text: "a is late", Hint: "Look at it.", Since: now, Seen: now})
	must(t, err)
	_, err = db.Raise(ctx, schedule.Alarm{Key: "cert", Kind: schedule.AlarmCertificate, Text: "the certificate expires", Since: now, Seen: now})
	must(t, err)
	must(t, db.SaveAppliance(ctx, schedule.Appliance{ID: "appliance-1", Version: "1", VM: "vm-9", Host: "esx1", VCenter: vcenter, Account: "123456789012/eu-central-1", Started: now, Seen: now, Alive: true}))
	must(t, db.SaveRate(ctx, "appliance-1", schedule.RateSample{At: now.Add(-5 * time.Second), Read: 3e8, Put: 2e7}))
	must(t, db.Record(ctx, schedule.Event{At: now, Kind: schedule.EventApplianceUp, Actor: "appliance-1", Text: "it is there", Data: json.RawMessage(`{"version":"1"}`)}))
	must(t, db.RecordDeed(ctx, schedule.Deed{At: now, Actor: "alice", Role: "operator", From: "192.0.2.7", Action: "pause", Subject: "a", Result: "ok"}))
	return r
}

// seedRuns makes a run of a that made a point and one of b that goes on.
func (r *rig) seedRuns() {
	t, ctx, db, now := r.t, r.t.Context(), r.db, r.clock.now()
	begin := func(name string) schedule.Run {
		run, _, err := db.Queue(ctx, schedule.Wanted{VM: id(name), Trigger: "schedule", Policy: "gold", Seed: true}, now.Add(-time.Hour))
		must(t, err)
		run, err = db.Claim(ctx, run.ID, "appliance-1", now.Add(-50*time.Minute))
		must(t, err)
		return run
	}
	report := func(name string) transfer.Report {
		return transfer.Report{
			VM: id(name), VMName: name, Cycle: "c1", Step: transfer.StepCopy, Started: now.Add(-50 * time.Minute), Frozen: now.Add(-49 * time.Minute), Snapshot: "snapshot-1", Quiesced: true,
			Tracking: "on", Calls: transfer.Calls{VCenter: 3, AWS: 9}, FrozenFor: time.Minute, Alarms: []string{"one"}, Notes: []string{"two"},
			Disks: []transfer.DiskReport{{
				Disk: transfer.DiskID{Key: 2000, UUID: "d"}, Label: "Hard disk 1", Size: 8 << 30, Kind: transfer.Seed, Reason: "asked for", Areas: 1, AreaBytes: 5, Blocks: 100, Done: 40, Put: 20, Rate: 1e6,
				ETA: time.Minute, Parent: "snap-0", Snapshot: "snap-1", Audit: &transfer.AuditReport{Blocks: 1, Of: 2, Odds: 0.1}, CopyStarted: now.Add(-48 * time.Minute),
			}},
		}
	}
	steps := []schedule.StepTime{{Step: transfer.StepFreeze, Began: now.Add(-49 * time.Minute)}}
	a := begin("a")
	must(t, db.AppendLog(ctx, a.ID, []schedule.LogLine{{Run: a.ID, At: now, Level: "info", Text: "frozen"}, {Run: a.ID, At: now, Level: "warn", Text: "slow"}}))
	lag := schedule.Duration(49 * time.Minute)
	must(t, db.Finish(ctx, a.ID, a.Epoch, schedule.End{
		State: schedule.RunDone, At: now, Report: report("a"), Steps: steps, Point: schedule.LastPoint{Cycle: "c1", Instant: now.Add(-49 * time.Minute), Suspect: "odd"},
		Lifecycle: schedule.ReadyForTest, Next: now.Add(time.Hour), NextWhy: "every 1h", Lag: &lag, Measure: schedule.Measure{ChangeRate: 1e5, PutRate: 1e7, CopyRate: 1e8, Cycles: 2, LastFrozen: now.Add(-49 * time.Minute)},
	}))
	must(t, db.SavePoints(ctx, []transfer.VMID{id("a")}, []schedule.PointRow{{VM: id("a"), Cycle: "c1", Frozen: now.Add(-49 * time.Minute), Complete: true, Kind: transfer.Seed, Blocks: 20, Disks: 1, Suspect: "odd", Snapshots: []transfer.SnapshotID{"snap-1"}}}))
	c := begin("c")
	must(t, db.Finish(ctx, c.ID, c.Epoch, schedule.End{State: schedule.RunFailed, At: now, Report: report("c"), Reason: schedule.ReasonVCenter, Error: "no answer", Hint: "Look.", Fails: 1, Lifecycle: schedule.NotReady}))
	b := begin("b")
	_, err := db.Tell(ctx, b.ID, b.Epoch, report("b"), steps)
	must(t, err)
	must(t, db.AppendLog(ctx, b.ID, []schedule.LogLine{{Run: b.ID, At: now, Level: "info", Text: "copying"}}))
	r.run, r.running = a.ID, b.ID
}

// request is what is asked of a handler.
type request struct {
	method, path string
	token        string
	kind         string // of the body
	body         string
	header       map[string]string
	from         string
}

func (q request) make(ctx context.Context) *http.Request {
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
		if q.kind == "" {
			q.kind = "application/json"
		}
	}
	r := httptest.NewRequestWithContext(ctx, q.method, q.path, body)
	if q.kind != "" {
		r.Header.Set("Content-Type", q.kind)
	}
	if q.token != "" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	if q.from != "" {
		r.RemoteAddr = q.from
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	return r
}

func (r *rig) ask(q request) *httptest.ResponseRecorder {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.server.ServeHTTP(w, q.make(r.t.Context()))
	return w
}

func (r *rig) get(path string) *httptest.ResponseRecorder {
	r.t.Helper()
	return r.ask(request{method: "GET", path: path, token: viewer})
}

func (r *rig) post(path, body string) *httptest.ResponseRecorder {
	r.t.Helper()
	return r.ask(request{method: "POST", path: path, token: operator, body: body})
}

// failure reads an answer's error.
func failure(t *testing.T, w *httptest.ResponseRecorder) console.Error {
	t.Helper()
	var in struct {
		Error console.Error `json:"error"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil || in.Error.Code == "" || in.Error.Message == "" {
		t.Errorf("status %d is no error as it should be: %v: %s", w.Code, err, w.Body)
	}
	return in.Error
}

// deeds are the audit log as lines, oldest first.
func (r *rig) deeds() []string {
	r.t.Helper()
	all, err := r.service.Deeds(r.t.Context(), 0, 1000)
	must(r.t, err)
	var lines []string
	for _, d := range all {
		lines = append([]string{fmt.Sprintf("%s (%s) %s [%s]: %s", d.Actor, d.Role, d.Action, d.Subject, d.Result)}, lines...)
	}
	return lines
}

func vmPath(name string) string { return "/api/v1/vms/" + console.ID(id(name)) }
