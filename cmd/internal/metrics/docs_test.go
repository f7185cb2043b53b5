package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	dto "github.com/prometheus/client_model/go"

	"snapferry/schedule"
)

// What is written about the metrics has to be true of them.

func docFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// catalogue is every metric with its labels, by the names that queries use.
func catalogue(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	for name, f := range parse(t, scrape(t, full(t))) {
		labels := map[string]bool{"instance": true, "job": true}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		all[name] = labels
		if f.GetType() == dto.MetricType_HISTOGRAM {
			bucket := maps.Clone(labels)
			bucket["le"] = true
			all[name+"_bucket"], all[name+"_sum"], all[name+"_count"] = bucket, labels, labels
			delete(all, name) // no query can name it
		}
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:snapferry|go|process|promhttp)_[a-z0-9_]+`)
	selector   = regexp.MustCompile(`\b((?:snapferry|go|process|promhttp)_[a-z0-9_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\)`)
	variable   = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}`)
)

// values of the labels whose words are known.
func knownValues() map[string][]string {
	lives := []string{"not-ready", "ready-for-test", "testing", "ready-for-cutover", "cutting-over", "cut-over", "disconnected"}
	return map[string][]string{
		"state": append(words(states), words(openRunStates)...), "kind": append(words(alarmKinds), planKinds...), "reason": words(reasons),
		"lifecycle": lives, "result": slices.Concat([]string{"ok", "error", "throttled"}, blockResults, deliveryResults, proofResults), "outcome": slices.Concat(outcomes, words(launchOutcomes)),
		"action": words(schedule.LaunchActions()), "purpose": launchPurposes,
	}
}

// checkQuery names what a query asks for that does not exist; it returns the
// metrics and the labels that its result can have.
func checkQuery(t *testing.T, where, expr string, known map[string]map[string]bool) (names []string, labels map[string]bool) {
	t.Helper()
	labels = map[string]bool{}
	names = metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, n := range names {
		if known[n] == nil {
			t.Errorf("%s: there is no metric %s", where, n)
		}
		maps.Copy(labels, known[n])
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if known[s[1]] != nil && !known[s[1]][m[1]] {
				t.Errorf("%s: %s has no label %s", where, s[1], m[1])
			}
			for _, v := range strings.Split(m[2], "|") {
				if words := knownValues()[m[1]]; words != nil && !slices.Contains(words, v) {
					t.Errorf("%s: %s is never %q", where, m[1], v)
				}
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(g[1], ",") {
			if l = strings.TrimSpace(l); l != "" && !labels[l] {
				t.Errorf("%s: no metric in it has the label %s", where, l)
			}
		}
	}
	return names, labels
}

// TestTheCheckOfQueriesFinds shows that the check can fail.
func TestTheCheckOfQueriesFinds(t *testing.T) {
	known := catalogue(t)
	for _, expr := range []string{
		"1", "snapferry_nothing", "snapferry_cycle_duration_seconds", `snapferry_vms{color="red"}`, `snapferry_vms{state="stale"}`,
		"sum by (hook) (snapferry_vms)", `max(snapferry_alarms{kind=~"lag|log"})`,
	} {
		probe := &testing.T{}
		checkQuery(probe, "probe", expr, known)
		if !probe.Failed() {
			t.Errorf("nothing is found wrong with %s", expr)
		}
	}
}

type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ H, W, X, Y int }
		Datasource  json.RawMessage
		Targets     []struct{ RefID, Expr, LegendFormat string }
		FieldConfig json.RawMessage
		Options     json.RawMessage
		Collapsed   bool
		Panels      []any
	}
}

func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal(docFile(t, "observability/grafana-dashboard.json"), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 38 || len(d.Panels) < 20 {
		t.Errorf("uid %q, title %q, schema %d, %d panels", d.UID, d.Title, d.SchemaVersion, len(d.Panels))
	}
	known := catalogue(t)
	variables := map[string]bool{"__rate_interval": true, "__interval": true, "__range": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type == "query" {
			checkQuery(t, "variable "+v.Name, v.Definition, known)
		}
	}
	if !variables["datasource"] || !variables["vcenter"] {
		t.Errorf("variables %v", variables)
	}
	used, ids, taken := map[string]bool{}, map[int]bool{}, map[string]string{}
	dollar := regexp.MustCompile(`\$\{?(\w+)`)
	for _, p := range d.Panels {
		where := fmt.Sprintf("panel %d %q", p.ID, p.Title)
		if ids[p.ID] || p.Title == "" {
			t.Errorf("%s: its number is taken, or it has no title", where)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				at := fmt.Sprint(x, ",", y)
				if taken[at] != "" || x >= 24 {
					t.Fatalf("%s lies on %s at %s", where, taken[at], at)
				}
				taken[at] = where
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || !strings.Contains(string(p.Datasource), "${datasource}") {
			t.Errorf("%s asks nothing, or not the data source that was chosen", where)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] {
				t.Errorf("%s: two queries %s", where, target.RefID)
			}
			refs[target.RefID] = true
			names, labels := checkQuery(t, where, target.Expr, known)
			for _, n := range names {
				used[n] = true
			}
			for _, v := range variable.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !labels[v[1]] {
					t.Errorf("%s: its legend has a label %s that is nowhere", where, v[1])
				}
			}
			for _, v := range dollar.FindAllStringSubmatch(target.Expr, -1) {
				if !variables[v[1]] {
					t.Errorf("%s: there is no variable %s", where, v[1])
				}
			}
		}
	}
	for name := range known {
		base := regexp.MustCompile(`_(sum|count|bucket)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "snapferry_") && name != "snapferry_build_info" && name != "snapferry_ready" && !used[name] && !used[base+"_bucket"] {
			t.Errorf("%s is on no panel", name)
		}
	}
}

type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alertRules(t *testing.T) (all []alertRule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alertRule
		}
	}
	if err := yaml.UnmarshalWithOptions(docFile(t, "observability/alerts.yml"), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("%d rules", len(all))
	}
	return all
}

func TestAlertsAskForWhatThereIsAndHaveARunbook(t *testing.T) {
	known, seen := catalogue(t), map[string]bool{}
	headings := map[string]bool{}
	for _, h := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(docFile(t, "observability.md")), -1) {
		headings[h[1]] = true
	}
	for _, r := range alertRules(t) {
		if seen[r.Alert] {
			t.Errorf("two alerts %s", r.Alert)
		}
		seen[r.Alert] = true
		_, labels := checkQuery(t, r.Alert, r.Expr, known)
		for _, key := range []string{"summary", "description", "runbook_url"} {
			text := r.Annotations[key]
			if text == "" {
				t.Errorf("%s has no %s", r.Alert, key)
			}
			for _, v := range variable.FindAllStringSubmatch(text, -1) {
				if !labels[v[1]] {
					t.Errorf("%s: no metric of it has the label %s", r.Alert, v[1])
				}
			}
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if want := "docs/observability.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want || !headings[r.Alert] {
			t.Errorf("%s: runbook %s (there: %v)", r.Alert, r.Annotations["runbook_url"], headings[r.Alert])
		}
	}
	for h := range headings {
		if strings.HasPrefix(h, "Snapferry") && !seen[h] {
			t.Errorf("a runbook for %s, which is no alert", h)
		}
	}
	for _, kind := range words(alarmKinds) {
		if kind != "stalled" && kind != "appliance-down" && !strings.Contains(string(docFile(t, "observability/alerts.yml")), kind) {
			t.Errorf("no alert for alarms of kind %s", kind)
		}
	}
}

func TestEveryMetricIsDescribed(t *testing.T) {
	doc := string(docFile(t, "observability.md"))
	families := parse(t, scrape(t, full(t)))
	described := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `(snapferry_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\| ([^|]+) \\|$")
	for _, r := range row.FindAllStringSubmatch(doc, -1) {
		described[r[1]] = true
		f := families[r[1]]
		if f == nil {
			t.Errorf("%s is described and does not exist", r[1])
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != r[2] {
			t.Errorf("%s is a %s, not a %s", r[1], kind, r[2])
		}
		if f.GetHelp() != r[4] {
			t.Errorf("%s is described otherwise: %q, %q", r[1], r[4], f.GetHelp())
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		if got := strings.Join(slices.Sorted(maps.Keys(labels)), ", "); got != r[3] {
			t.Errorf("%s has the labels %s, described are %s", r[1], got, r[3])
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "snapferry_") && !described[name] {
			t.Errorf("%s is not described", name)
		}
	}
	for _, reason := range words(reasons) {
		if !strings.Contains(doc, "| `"+reason+"` |") {
			t.Errorf("nothing is said to do about %s", reason)
		}
	}
}

func TestPromtoolAgrees(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool here (Debian package prometheus)")
	}
	dir := filepath.Join("..", "..", "..", "docs", "observability")
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	cmd := exec.Command(tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(own(scrape(t, full(t))))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
