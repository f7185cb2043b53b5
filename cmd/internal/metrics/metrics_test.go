package metrics

import (
	"bytes"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	_ "modernc.org/sqlite"

	"snapferry/schedule"
	"snapferry/transfer"
)

var update = flag.Bool("update", false, "write the golden files anew")

func noDatabase(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// scrape is the exposition as Prometheus gets it.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func parse(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("the exposition cannot be parsed: %v", err)
	}
	return families
}

// value is that of one series, name{label="value",…} with the labels in order.
func value(t *testing.T, families map[string]*dto.MetricFamily, series string) (float64, bool) {
	t.Helper()
	name, _, _ := strings.Cut(series, "{")
	f := families[name]
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
		full := name
		if len(labels) > 0 {
			full += "{" + strings.Join(labels, ",") + "}"
		}
		if full != series {
			continue
		}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			return m.GetCounter().GetValue(), true
		case dto.MetricType_HISTOGRAM:
			return m.GetHistogram().GetSampleSum(), true
		}
		return m.GetGauge().GetValue(), true
	}
	return 0, false
}

func expect(t *testing.T, m *Metrics, want map[string]float64) {
	t.Helper()
	families := parse(t, scrape(t, m))
	for series, v := range want {
		if got, ok := value(t, families, series); !ok || got != v {
			t.Errorf("%s is %v (there: %v), want %v", series, got, ok, v)
		}
	}
}

// own is the part of an exposition that does not change by itself.
func own(text string) string {
	var out bytes.Buffer
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if !strings.HasPrefix(name, "snapferry_") || strings.HasPrefix(line, "snapferry_source_refresh_duration_seconds") || strings.HasPrefix(line, "snapferry_build_info") {
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

func TestTheExpositionIsTheAgreedOne(t *testing.T) {
	got := own(scrape(t, full(t)))
	file := filepath.Join("testdata", "exposition.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got (go test -update writes it anew):\n%s", diff)
	}
}

func TestTheExpositionIsLintedAndParsed(t *testing.T) {
	text := scrape(t, full(t))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		// go_sql_… and the process collector are client_golang's own names.
		if strings.HasPrefix(p.Metric, "snapferry_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	families := parse(t, text)
	for _, name := range []string{"go_goroutines", "process_open_fds", "go_sql_open_connections", "promhttp_metric_handler_errors_total"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestValuesOfTheFleet(t *testing.T) {
	expect(t, full(t), map[string]float64{
		`snapferry_vms{state="stalled",vcenter="vc1"}`:                     1,
		`snapferry_vms{state="up-to-date",vcenter="vc2"}`:                  0,
		`snapferry_vms_lifecycle{lifecycle="cut-over",vcenter="vc1"}`:      1,
		`snapferry_vms_lifecycle{lifecycle="not-ready",vcenter="vc1"}`:     1,
		`snapferry_vms_failing{reason="DATASTORE_LOW",vcenter="vc1"}`:      1,
		`snapferry_vms_failing{reason="FAILED",vcenter="vc1"}`:             1,        // a reason that is not known
		`snapferry_lag_max_seconds{vcenter="vc1"}`:                         5 * 3600, // not the one that was cut over
		`snapferry_lag_max_seconds{vcenter="vc2"}`:                         2 * 3600,
		`snapferry_lag_seconds{vcenter="vc1"}`:                             600 + 3*3600 + 5*3600,
		`snapferry_backlog_bytes{vcenter="vc1"}`:                           (1 + 2 + 3 + 4) << 20,
		`snapferry_source_disks_bytes{vcenter="vc1"}`:                      4 << 30,
		`snapferry_vm_state{vcenter="vc1",vm="web2"}`:                      7,
		`snapferry_vm_state{vcenter="vc1",vm="db (vm-3)"}`:                 8, // two have the name
		`snapferry_vm_state{vcenter="vc1",vm="db (vm-4)"}`:                 4,
		`snapferry_vm_lag_seconds{vcenter="vc1",vm="web"}`:                 600,
		`snapferry_vm_series_dropped`:                                      0,
		`snapferry_runs{state="queued",vcenter="vc1"}`:                     1,
		`snapferry_runs{state="running",vcenter="vc1"}`:                    1,
		`snapferry_queue_oldest_seconds{vcenter="vc1"}`:                    600,
		`snapferry_vm_snapshots_open{vcenter="vc1"}`:                       1,
		`snapferry_vm_snapshot_oldest_seconds{vcenter="vc1"}`:              1200,
		`snapferry_drafts{account="123456789012/eu-central-1"}`:            1,
		`snapferry_appliance_up{appliance="a1",vcenter="vc1"}`:             1,
		`snapferry_appliance_up{appliance="a2",vcenter="vc2"}`:             0,
		`snapferry_appliance_draining{appliance="a2",vcenter="vc2"}`:       1,
		`snapferry_appliance_runs{appliance="a1",vcenter="vc1"}`:           1,
		`snapferry_appliance_disks_attached{appliance="a1",vcenter="vc1"}`: 2,
		`snapferry_alarms{kind="leftover-snapshot"}`:                       2,
		`snapferry_alarms{kind="other"}`:                                   1, // a kind that is not known
		`snapferry_alarms{kind="audit-mismatch"}`:                          0,
		`snapferry_source_up`:                                              1,
		`snapferry_ready`:                                                  1,
	})
	families := parse(t, scrape(t, full(t)))
	for _, series := range []string{`snapferry_vm_lag_seconds{vcenter="vc1",vm="old"}`, `snapferry_vm_lag_seconds{vcenter="vc1",vm="db (vm-4)"}`} {
		if v, ok := value(t, families, series); ok {
			t.Errorf("%s is %v: it has no lag that means anything", series, v)
		}
	}
}

func TestWhatTheApplianceCounts(t *testing.T) {
	expect(t, full(t), map[string]float64{
		`snapferry_read_bytes_total`:                                                          8 << 20,
		`snapferry_put_bytes_total`:                                                           4 * transfer.BlockSize,
		`snapferry_blocks_total{result="put"}`:                                                4,
		`snapferry_blocks_total{result="identical"}`:                                          8,
		`snapferry_blocks_total{result="zero"}`:                                               3,
		`snapferry_blocks_total{result="resumed"}`:                                            1,
		`snapferry_audit_blocks_total`:                                                        256,
		`snapferry_audit_mismatches_total`:                                                    2,
		`snapferry_cycles_total{kind="delta",outcome="point"}`:                                1,
		`snapferry_cycles_total{kind="none",outcome="failed"}`:                                1,
		`snapferry_cycles_total{kind="none",outcome="cancelled"}`:                             1,
		`snapferry_cycles_total{kind="seed",outcome="failed"}`:                                0,
		`snapferry_cycle_failures_total{reason="DATASTORE_LOW"}`:                              1,
		`snapferry_cycle_duration_seconds{kind="delta"}`:                                      100,
		`snapferry_freeze_duration_seconds`:                                                   2,
		`snapferry_release_duration_seconds`:                                                  30,
		`snapferry_seal_duration_seconds`:                                                     60,
		`snapferry_frozen_duration_seconds`:                                                   60,
		`snapferry_api_requests_total{operation="put",result="ok",service="ebs"}`:             1,
		`snapferry_api_requests_total{operation="put",result="throttled",service="ebs"}`:      1,
		`snapferry_api_requests_total{operation="snapshot",result="error",service="vcenter"}`: 1,
		`snapferry_api_requests_total{operation="other",result="ok",service="other"}`:         1,
		`snapferry_api_throttles_total{service="ebs"}`:                                        1,
		`snapferry_api_retries_total{service="vcenter"}`:                                      1,
		`snapferry_puts_per_second_limit`:                                                     950,
		`snapferry_webhook_deliveries_total{hook="chat",result="given-up"}`:                   1,
		`snapferry_webhook_failing{hook="chat"}`:                                              1,
		`snapferry_webhook_failing{hook="ops"}`:                                               0,
		`snapferry_http_requests_total{code="200",method="GET",route="/api/v1/vms/{id}"}`:     1,
		`snapferry_planner_tick_timestamp_seconds`:                                            float64(t0.Unix()),
		`snapferry_certificate_expiry_timestamp_seconds{name="vcenter"}`:                      float64(t0.Add(240 * time.Hour).Unix()),
		`snapferry_credentials_expiry_timestamp_seconds{name="aws"}`:                          float64(t0.Add(24 * time.Hour).Unix()),
	})
}

func TestNobodyToldIsAbsent(t *testing.T) {
	m := New(Config{Version: "1"})
	families := parse(t, scrape(t, m))
	for _, name := range []string{"snapferry_planner_tick_timestamp_seconds", "snapferry_certificate_expiry_timestamp_seconds", "snapferry_source_up", "snapferry_ready"} {
		if families[name] != nil {
			t.Errorf("%s is there", name)
		}
	}
	m.SetExpiry(Certificate, "x", t0)
	m.SetExpiry(Certificate, "x", time.Time{})
	if parse(t, scrape(t, m))["snapferry_certificate_expiry_timestamp_seconds"] != nil {
		t.Error("an expiry that was taken back is there")
	}
	var none *Metrics // counts nothing and breaks nothing
	everything(none)
	none.Requests(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

func TestScrapesDoNotLoadTheDatabase(t *testing.T) {
	c, src := &clock{at: t0}, fleetSource()
	m := New(Config{Source: src, Now: c.now, PerVM: true})
	var wg sync.WaitGroup
	for range maxScrapes {
		wg.Go(func() { scrape(t, m) })
	}
	wg.Wait()
	if n := src.times(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	src.fail(errors.New("away"))
	c.add(9 * time.Second)
	expect(t, m, map[string]float64{`snapferry_source_up`: 1})
	c.add(2 * time.Second)
	for range 3 { // a database that is away is not asked more often either
		expect(t, m, map[string]float64{`snapferry_source_up`: 0, `snapferry_source_errors_total`: 1, `snapferry_vm_state{vcenter="vc1",vm="web"}`: 6})
	}
	if n := src.times(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	c.add(2 * time.Minute) // too old to be shown
	families := parse(t, scrape(t, m))
	if families["snapferry_vm_state"] != nil || families["snapferry_vms"] != nil {
		t.Error("old values are still shown")
	}
	expect(t, m, map[string]float64{`snapferry_source_up`: 0, `snapferry_source_errors_total`: 2})
	src.fail(nil)
	c.add(time.Minute)
	expect(t, m, map[string]float64{`snapferry_source_up`: 1, `snapferry_vm_state{vcenter="vc1",vm="web"}`: 6})
}

func TestADatabaseThatHangsHoldsUpNoScrape(t *testing.T) {
	src := fleetSource()
	src.block = true
	m := New(Config{Source: src, Patience: 20 * time.Millisecond})
	expect(t, m, map[string]float64{`snapferry_source_up`: 0})
}

func TestSeriesOfVMsAreBounded(t *testing.T) {
	src := fleetSource()
	src.vms = nil
	for i := range 2500 {
		src.vms = append(src.vms, vm(i, fmt.Sprintf("vm%04d", i), schedule.ReplicationCurrent, time.Minute))
	}
	src.vms = append(src.vms, src.vms[0]) // moved to another page meanwhile
	for _, c := range []struct {
		per           bool
		most          int
		shown, hidden int
	}{{true, 0, 2500, 0}, {true, 2000, 2000, 500}, {false, 2000, 0, 2500}} {
		m := New(Config{Source: src, PerVM: c.per, MaxVMs: c.most})
		families := parse(t, scrape(t, m))
		if n := len(families["snapferry_vm_state"].GetMetric()); n != c.shown {
			t.Errorf("%+v: %d shown", c, n)
		}
		if v, _ := value(t, families, "snapferry_vm_series_dropped"); int(v) != c.hidden {
			t.Errorf("%+v: %v dropped", c, v)
		}
		if v, _ := value(t, families, `snapferry_vms{state="up-to-date",vcenter="vc1"}`); v != 2500 {
			t.Errorf("%+v: %v counted", c, v)
		}
	}
}

func TestManyRunsAreAllCounted(t *testing.T) {
	src := fleetSource()
	src.runs = nil
	for i := range 1200 {
		src.runs = append(src.runs, schedule.Run{ID: int64(1200 - i), VM: src.vms[0].ID, State: schedule.RunQueued, Queued: t0})
	}
	expect(t, New(Config{Source: src}), map[string]float64{`snapferry_runs{state="queued",vcenter="vc1"}`: 1200})
}

// Names that are taken already, and what is no UTF-8.
func TestNoNameBreaksAScrape(t *testing.T) {
	src := fleetSource()
	a, b, c, d := vm(1, "a", schedule.ReplicationCurrent, 0), vm(2, "a", schedule.ReplicationCurrent, 0), vm(3, "a (vm-1)", schedule.ReplicationCurrent, 0), vm(4, "\xff\n\"", schedule.ReplicationCurrent, 0)
	src.vms = []schedule.VMStatus{a, b, c, d, vm(5, "", schedule.ReplicationCurrent, 0)}
	src.overview.Appliances[0].Version = "\xff"
	families := parse(t, scrape(t, New(Config{Source: src, PerVM: true})))
	if n := len(families["snapferry_vm_state"].GetMetric()); n != 5 {
		t.Errorf("%d series", n)
	}
	if v, _ := value(t, families, "snapferry_source_up"); v != 1 {
		t.Error("the scrape failed")
	}
}

func TestProgressIsCountedOnce(t *testing.T) {
	m := New(Config{Version: "1"})
	report := func(cycle transfer.CycleID, read, put int64) transfer.Report {
		return transfer.Report{Cycle: cycle, Disks: []transfer.DiskReport{{BytesRead: read}, {Put: put}}}
	}
	check := func(what string, read, put float64) {
		t.Helper()
		families := parse(t, scrape(t, m))
		r, _ := value(t, families, "snapferry_read_bytes_total")
		p, _ := value(t, families, `snapferry_blocks_total{result="put"}`)
		if r != read || p != put {
			t.Errorf("%s: read %v, put %v; want %v, %v", what, r, p, read, put)
		}
	}
	m.ObserveProgress(1, report("c1", 100, 1))
	m.ObserveProgress(1, report("c1", 100, 1))
	m.ObserveProgress(2, report("c2", 10, 1))
	check("two runs", 110, 2)
	m.ObserveProgress(1, report("c1", 150, 2))
	check("more of one", 160, 3)
	m.ObserveProgress(1, report("c1", 20, 3)) // frozen anew
	check("begun anew", 180, 4)
	m.ObserveProgress(1, report("c3", 30, 1)) // taken in hand anew
	check("another cycle of the run", 210, 5)
	m.ObserveEnd(1, schedule.End{State: schedule.RunDone, Report: report("c3", 35, 1)})
	check("its end", 215, 5)
	if len(m.runs.runs) != 1 {
		t.Errorf("%d runs are remembered", len(m.runs.runs))
	}
}

func TestRunsThatWentElsewhereAreForgotten(t *testing.T) {
	c := &clock{at: t0}
	tr := newTracker(c.now)
	for i := range manyRuns {
		tr.advance(int64(i), transfer.Report{})
	}
	c.add(2 * silentRun)
	tr.advance(5000, transfer.Report{})
	if len(tr.runs) != 1 {
		t.Errorf("%d are remembered", len(tr.runs))
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	m := New(Config{Version: "1"})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /vms/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
	})
	h := m.Requests(mux)
	for _, q := range [][2]string{{"GET", "/vms/1"}, {"GET", "/vms/2"}, {"GET", "/stream"}, {"BREW", "/nowhere"}} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(q[0], q[1], nil))
	}
	expect(t, m, map[string]float64{
		`snapferry_http_requests_total{code="418",method="GET",route="/vms/{id}"}`: 2,
		`snapferry_http_requests_total{code="200",method="GET",route="/stream"}`:   1,
		`snapferry_http_requests_total{code="404",method="other",route="other"}`:   1,
	})
	if strings.Contains(scrape(t, m), `http_request_duration_seconds_count{route="/stream"}`) {
		t.Error("a stream's duration is counted")
	}
	for i := range 2 * maxRoutes {
		m.ObserveRequest(fmt.Sprint("/", i), "GET", 7, 0)
	}
	n := len(parse(t, scrape(t, m))["snapferry_http_requests_total"].GetMetric())
	if n > maxRoutes+4 {
		t.Errorf("%d series of requests", n)
	}
}

// Every word that schedule has is a value of a label here.
func TestNoWordIsForgotten(t *testing.T) {
	for _, c := range []struct {
		file, kind string
		known      []string
	}{
		{"run.go", "Reason", words(reasons)}, {"alarm.go", "AlarmKind", words(alarmKinds)}, {"lifecycle.go", "Replication", words(states)},
	} {
		for _, w := range constants(t, filepath.Join("..", "..", "..", "schedule", c.file), c.kind) {
			if !slices.Contains(c.known, w) {
				t.Errorf("schedule.%s %q is not known here", c.kind, w)
			}
		}
	}
}

func words[T ~string](list []T) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

// constants are the values of a type's constants in a file.
func constants(t *testing.T, file, kind string) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if name, ok := v.Type.(*ast.Ident); ok && name.Name == kind {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return true
	})
	if len(out) < 5 {
		t.Fatalf("%s has %d constants of type %s", file, len(out), kind)
	}
	return out
}

func BenchmarkScrape(b *testing.B) {
	src := fleetSource()
	src.vms = nil
	for i := range 5000 {
		src.vms = append(src.vms, vm(i, fmt.Sprintf("vm%04d", i), schedule.ReplicationCurrent, time.Minute))
	}
	c := &clock{at: t0}
	m := New(Config{Source: src, PerVM: true, Now: c.now})
	h := m.Handler()
	for b.Loop() {
		c.add(time.Minute)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
}
