package console_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/cmd/internal/console"
	"snapferry/schedule"
	"snapferry/transfer"
)

func openAPI(t *testing.T) document {
	t.Helper()
	text, err := console.OpenAPI()
	must(t, err)
	return document{parse(t, text).(map[string]any)}
}

// operations are all of the document's: "GET /path" to the operation.
func (d document) operations() map[string]map[string]any {
	all := map[string]map[string]any{}
	for path, item := range d.root["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method != "parameters" {
				all[strings.ToUpper(method)+" "+path] = op.(map[string]any)
			}
		}
	}
	return all
}

// TestEveryRouteIsDescribed, and nothing else is.
func TestEveryRouteIsDescribed(t *testing.T) {
	d := openAPI(t)
	described := d.operations()
	routes := console.New(config(nil)).Routes()
	ids := map[string]bool{}
	for _, rt := range routes {
		op := described[rt.Method+" "+rt.Path]
		if op == nil {
			t.Errorf("%s %s is not described", rt.Method, rt.Path)
			continue
		}
		delete(described, rt.Method+" "+rt.Path)
		role := string(rt.Role)
		if role == "" {
			role = "open"
		}
		if op["x-role"] != role {
			t.Errorf("%s %s takes role %s, and %v is described", rt.Method, rt.Path, role, op["x-role"])
		}
		name, _ := op["operationId"].(string)
		if name == "" || ids[name] || op["summary"] == nil || op["tags"] == nil {
			t.Errorf("%s %s: operationId %q, summary %v, tags %v", rt.Method, rt.Path, name, op["summary"], op["tags"])
		}
		ids[name] = true
		answers := op["responses"].(map[string]any)
		for status, need := range map[string]bool{"401": role != "open", "403": role == "operator", "429": role != "open", "413": rt.Body && role == "operator" && rt.Method != "DELETE"} {
			if need && answers[status] == nil {
				t.Errorf("%s %s: the answer %s is not described", rt.Method, rt.Path, status)
			}
		}
		for _, part := range strings.Split(rt.Path, "/") {
			if strings.HasPrefix(part, "{") && !d.hasParameter(rt.Path, op, strings.Trim(part, "{}")) {
				t.Errorf("%s %s: parameter %s is not described", rt.Method, rt.Path, part)
			}
		}
	}
	for op := range described {
		t.Errorf("%s is described and does not exist", op)
	}
}

func (d document) hasParameter(path string, op map[string]any, name string) bool {
	shared := d.root["paths"].(map[string]any)[path].(map[string]any)["parameters"]
	for _, p := range slices.Concat(list(shared), list(op["parameters"])) {
		if d.resolve(p)["name"] == name {
			return true
		}
	}
	return false
}

// TestEverythingDescribedIsUsed: a schema that nothing refers to is stale.
func TestEverythingDescribedIsUsed(t *testing.T) {
	d := openAPI(t)
	text, err := console.OpenAPI()
	must(t, err)
	for kind, all := range d.root["components"].(map[string]any) {
		for name := range all.(map[string]any) {
			if kind != "securitySchemes" && !strings.Contains(string(text), fmt.Sprintf("#/components/%s/%s\"", kind, name)) {
				t.Errorf("%s %s is not used", kind, name)
			}
		}
	}
}

// TestSchemasAreTheTypes holds each schema against the type that is sent: the
// same fields, and those required that are never left out.
func TestSchemasAreTheTypes(t *testing.T) {
	d := openAPI(t)
	schemas := d.root["components"].(map[string]any)["schemas"].(map[string]any)
	for name, v := range map[string]any{
		"VMID": transfer.VMID{}, "DiskID": transfer.DiskID{}, "Done": schedule.Done{}, "Obstacle": transfer.Obstacle{}, "Guest": transfer.Guest{}, "Disk": transfer.Disk{},
		"LastPoint": schedule.LastPoint{}, "Measure": schedule.Measure{}, "VMStatus": schedule.VMStatus{}, "VMDetail": schedule.VMDetail{}, "LagSample": schedule.LagSample{},
		"PointRow": schedule.PointRow{}, "VMPage": schedule.VMPage{}, "StepTime": schedule.StepTime{}, "Calls": transfer.Calls{}, "AuditReport": transfer.AuditReport{},
		"DiskReport": transfer.DiskReport{}, "Report": transfer.Report{}, "Run": schedule.Run{}, "LogLine": schedule.LogLine{}, "Overview": schedule.Overview{},
		"RateSample": schedule.RateSample{}, "NextRun": schedule.NextRun{}, "Appliance": schedule.Appliance{}, "Alarm": schedule.Alarm{}, "Event": schedule.Event{},
		"Deed": schedule.Deed{}, "Limits": schedule.Limits{}, "Settings": schedule.Settings{}, "SettingGroup": schedule.SettingGroup{}, "Setting": schedule.Setting{},
		"Wave": schedule.Wave{}, "PolicyRow": schedule.PolicyRow{}, "Adaptive": schedule.Adaptive{}, "Window": schedule.Window{}, "Bandwidth": schedule.Bandwidth{},
		"Retention": transfer.Policy{}, "Match": schedule.Match{}, "Prove": schedule.Prove{},
		"LaunchWish": schedule.LaunchWish{}, "LaunchRun": schedule.LaunchRun{}, "LaunchJob": schedule.LaunchJob{}, "LaunchPreview": schedule.LaunchPreview{}, "LaunchStep": schedule.LaunchStep{},
	} {
		props, required := d.fields(schemas[name])
		has, always := fields(reflect.TypeOf(v))
		if diff := difference(has, props); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if name == "PolicyRow" {
			always = required // the policy's own name may be left out of a body
		}
		if diff := difference(always, required); diff != "" {
			t.Errorf("%s, required: %s", name, diff)
		}
	}
}

// fields are a schema's properties, and those that are required.
func (d document) fields(schema any) (props, required map[string]bool) {
	s := d.resolve(schema)
	props, required = map[string]bool{}, map[string]bool{}
	for _, part := range list(s["allOf"]) {
		p, r := d.fields(part)
		maps.Copy(props, p)
		maps.Copy(required, r)
	}
	own, _ := s["properties"].(map[string]any)
	for k := range own {
		props[k] = true
	}
	for _, k := range list(s["required"]) {
		required[k.(string)] = true
	}
	return props, required
}

// fields are what a type has in JSON, and what of it is always there.
func fields(t reflect.Type) (has, always map[string]bool) {
	has, always = map[string]bool{}, map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if f.Anonymous && tag == "" {
			h, a := fields(f.Type)
			maps.Copy(has, h)
			maps.Copy(always, a)
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		has[name] = true
		if !strings.Contains(options, "omit") {
			always[name] = true
		}
	}
	return has, always
}

func difference(want, got map[string]bool) string {
	var lines []string
	for k := range want {
		if !got[k] {
			lines = append(lines, k+" is missing")
		}
	}
	for k := range got {
		if !want[k] {
			lines = append(lines, k+" is too much")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// TestEnumsAreTheWords holds words in the document against the words there are.
func TestEnumsAreTheWords(t *testing.T) {
	d := openAPI(t)
	schemas := d.root["components"].(map[string]any)["schemas"].(map[string]any)
	enum := func(v any) string { return fmt.Sprint(list(d.resolve(v)["enum"])...) }
	if got := enum(schemas["Lifecycle"]); got != fmt.Sprint(anys(schedule.Lifecycles())...) {
		t.Errorf("lifecycles: %s", got)
	}
	if got := enum(schemas["MarkName"]); got != fmt.Sprint(anys(console.Marks())...) {
		t.Errorf("marks: %s", got)
	}
	if got := enum(schemas["LaunchAction"]); got != fmt.Sprint(anys(schedule.LaunchActions())...) {
		t.Errorf("actions of launches: %s", got)
	}
	for _, p := range list(d.operations()["GET /api/v1/vms"]["parameters"]) {
		if m := d.resolve(p); m["name"] == "sort" && enum(m["schema"]) != fmt.Sprint(anys(console.Sorts())...) {
			t.Errorf("sorts: %s", enum(m["schema"]))
		}
	}
}

func anys[T any](l []T) (out []any) {
	for _, v := range l {
		out = append(out, v)
	}
	return out
}

// called is a request, and the operation that it stands for.
type called struct {
	op string // "GET /api/v1/…" of the document
	request
	status int
}

// TestAnswersAreAsDescribed asks for everything, and for some of what is
// refused, and holds each answer against its schema.
func TestAnswersAreAsDescribed(t *testing.T) {
	r := newRig(t).seed().seedLaunches()
	d := openAPI(t)
	get := func(op, path string) called {
		return called{"GET " + op, request{method: "GET", path: path, token: viewer}, 200}
	}
	do := func(op, path, body string) called {
		method, _, _ := strings.Cut(op, " ")
		return called{op, request{method: method, path: path, token: operator, body: body}, 200}
	}
	const v1 = "/api/v1"
	csv := do("POST "+v1+"/import.csv", v1+"/import.csv", "vm,paused\na,true\n")
	csv.kind = "text/csv; charset=utf-8"
	wrong := func(c called, status int) called { c.status = status; return c }
	calls := []called{
		get("/healthz", "/healthz"), get("/readyz", "/readyz"), get("/metrics", "/metrics"),
		get(v1+"/whoami", v1+"/whoami"), get(v1+"/openapi.json", v1+"/openapi.json"), get(v1+"/overview", v1+"/overview"), get(v1+"/settings", v1+"/settings"),
		get(v1+"/alarms", v1+"/alarms?cleared=true&limit=5"), get(v1+"/audit", v1+"/audit?before=99&limit=5"), get(v1+"/events", v1+"/events"), get(v1+"/events", v1+"/events?after=0&limit=1"),
		get(v1+"/resolve", v1+"/resolve?name=a&name=vm-b"),
		get(v1+"/vms", v1+"/vms"), get(v1+"/vms", v1+"/vms?text=A&replication=up-to-date&lifecycle=not-ready&policy=p&wave=w&sort=lag&desc=true&offset=1&limit=1000"),
		get(v1+"/vms/{id}", vmPath("a")), get(v1+"/vms/{id}", vmPath("b")), get(v1+"/vms/{id}", vmPath("c")), get(v1+"/vms/{id}", vmPath("broken")), get(v1+"/vms/{id}", vmPath("bare")),
		get(v1+"/runs", v1+"/runs"), get(v1+"/runs", v1+"/runs?active=true&state=running&before=99&limit=3&vm="+console.ID(id("b"))),
		get(v1+"/runs/{id}", fmt.Sprint(v1, "/runs/", r.run)), get(v1+"/runs/{id}", fmt.Sprint(v1, "/runs/", r.running)), get(v1+"/runs/{id}/log", fmt.Sprint(v1, "/runs/", r.run, "/log?after=1&limit=9")),
		get(v1+"/policies", v1+"/policies"), get(v1+"/policies/{name}", v1+"/policies/silver"), get(v1+"/waves", v1+"/waves"), get(v1+"/waves/{name}", v1+"/waves/w1"), get(v1+"/export.csv", v1+"/export.csv"),

		do("POST "+v1+"/vms/{id}/pause", vmPath("a")+"/pause", `{"why":"patch day"}`), do("POST "+v1+"/vms/{id}/resume", vmPath("a")+"/resume", ""),
		do("POST "+v1+"/vms/{id}/sync", vmPath("a")+"/sync", `{"seed":true}`), do("POST "+v1+"/vms/{id}/cancel", vmPath("a")+"/cancel", "{}"),
		do("POST "+v1+"/vms/{id}/mark", vmPath("a")+"/mark", `{"as":"ready-for-cutover"}`), do("POST "+v1+"/vms/{id}/policy", vmPath("a")+"/policy", `{"policy":"silver"}`),
		do("PUT "+v1+"/vms/{id}/launch", vmPath("a")+"/launch", `{"subnet":"s"}`),
		do("POST "+v1+"/actions", v1+"/actions", `{"action":"sync","vms":["a","broken","vm-c"]}`),
		do("PUT "+v1+"/policies/{name}", v1+"/policies/new", `{"every":"15m"}`), do("DELETE "+v1+"/policies/{name}", v1+"/policies/new", ""),
		do("PUT "+v1+"/waves/{name}", v1+"/waves/w%202", `{"note":"n","vms":[{"vcenter":"`+vcenter+`","moref":"vm-b"}]}`),
		do("POST "+v1+"/waves/{name}/{action}", v1+"/waves/w%202/pause", ""), do("DELETE "+v1+"/waves/{name}", v1+"/waves/w%202", ""), csv,
		get(v1+"/launches", v1+"/launches?vm="+console.ID(id("a"))), get(v1+"/launches", v1+"/launches?wave=w1&active=true&before=99&limit=3"), get(v1+"/launches/{id}", v1+"/launches/1"),
		get(v1+"/launch-jobs", v1+"/launch-jobs"), get(v1+"/launch-jobs", v1+"/launch-jobs?open=true&limit=1&vm="+console.ID(id("a"))), get(v1+"/launch-jobs/{id}", v1+"/launch-jobs/"+r.job),
		do("POST "+v1+"/vms/{id}/launch/preview", vmPath("a")+"/launch/preview", `{"action":"cutover","wish":{"skipPreSync":true}}`),
		do("POST "+v1+"/vms/{id}/launch/test-done", vmPath("a")+"/launch/test-done", ""), do("POST "+v1+"/vms/{id}/launch/cancel", vmPath("a")+"/launch/cancel", ""),
		do("POST "+v1+"/vms/{id}/launch/cutover", vmPath("a")+"/launch/cutover", `{"forceOff":true}`), get(v1+"/vms/{id}", vmPath("a")), get(v1+"/vms", v1+"/vms"),
		do("POST "+v1+"/actions", v1+"/actions", `{"action":"cancel-launch","vms":["a","b"]}`),
		do("POST "+v1+"/launches", v1+"/launches", `{"action":"cutover","vms":["a"],"wish":{"settings":{"subnet":"s"}}}`), do("POST "+v1+"/waves/{name}/{action}", v1+"/waves/w1/cancel-launch", ""),
		wrong(do("POST "+v1+"/vms/{id}/launch/test", vmPath("bare")+"/launch/test", `{"for":"8h"}`), 409), wrong(do("POST "+v1+"/vms/{id}/launch/finalize", vmPath("a")+"/launch/finalize", `{"points":"all"}`), 409),
		wrong(do("POST "+v1+"/vms/{id}/launch/revert", vmPath("a")+"/launch/revert", ""), 409), wrong(do("POST "+v1+"/vms/{id}/launch/revert", vmPath("a")+"/launch/revert", `{"force":true}`), 422),
		wrong(do("POST "+v1+"/waves/{name}/{action}", v1+"/waves/w1/cutover", `{"forceOff":true}`), 409), wrong(do("POST "+v1+"/launches", v1+"/launches", `{"action":"test","wave":"w1"}`), 409),
		wrong(get(v1+"/launches/{id}", v1+"/launches/99999"), 404), wrong(get(v1+"/launch-jobs/{id}", v1+"/launch-jobs/none"), 404), wrong(get(v1+"/launches", v1+"/launches?state=done"), 400),
		do("PUT "+v1+"/policies/{name}", v1+"/policies/proved", `{"every":"15m","prove":{"every":"168h"}}`),
		do("POST /login", "/login", `{"token":"`+viewer+`"}`), wrong(do("POST /logout", "/logout", ""), 204),

		wrong(get(v1+"/vms/{id}", vmPath("nobody")), 404), wrong(get(v1+"/vms/{id}", v1+"/vms/a"), 400), wrong(get(v1+"/vms", v1+"/vms?colour=red"), 400),
		wrong(get(v1+"/resolve", v1+"/resolve?name=nobody"), 404), wrong(get(v1+"/runs/{id}", v1+"/runs/99999"), 404), wrong(get(v1+"/policies/{name}", v1+"/policies/none"), 404),
		wrong(do("POST "+v1+"/vms/{id}/cancel", vmPath("broken")+"/cancel", ""), 409), wrong(do("POST "+v1+"/vms/{id}/mark", vmPath("bare")+"/mark", `{"as":"ready-for-cutover"}`), 409),
		wrong(do("POST "+v1+"/vms/{id}/mark", vmPath("bare")+"/mark", `{"as":"gone"}`), 422), wrong(do("DELETE "+v1+"/policies/{name}", v1+"/policies/gold", ""), 409),
		wrong(do("PUT "+v1+"/policies/{name}", v1+"/policies/x", `{}`), 422), wrong(do("POST "+v1+"/waves/{name}/{action}", v1+"/waves/none/sync", ""), 404),
		wrong(do("POST /login", "/login", `{"token":"no"}`), 401),
	}
	tried := map[string]bool{}
	for _, c := range calls {
		tried[c.op] = true
		w := r.ask(c.request)
		if w.Code != c.status {
			t.Errorf("%s %s: status %d, want %d: %s", c.method, c.path, w.Code, c.status, w.Body)
			continue
		}
		d.checkAnswer(t, c, w.Header().Get("Content-Type"), w.Body.Bytes())
	}
	for op := range d.operations() {
		if !tried[op] {
			t.Errorf("%s was not tried", op)
		}
	}
}

func (d document) checkAnswer(t *testing.T, c called, kind string, body []byte) {
	t.Helper()
	answer := d.resolve(d.operations()[c.op]["responses"].(map[string]any)[fmt.Sprint(c.status)])
	if answer == nil {
		t.Errorf("%s: the answer %d is not described", c.op, c.status)
		return
	}
	if c.status == http.StatusNoContent {
		if len(body) > 0 {
			t.Errorf("%s: %q comes with 204", c.op, body)
		}
		return
	}
	kind, _, _ = strings.Cut(kind, ";")
	content, _ := answer["content"].(map[string]any)[kind].(map[string]any)
	if content == nil {
		t.Errorf("%s: the answer %d of type %q is not described", c.op, c.status, kind)
		return
	}
	if kind != "application/json" {
		return
	}
	v := parse(t, body)
	for _, fault := range d.check(content["schema"], v) {
		t.Errorf("%s %s: %s", c.method, c.path, fault)
	}
}

// TestBodiesAreAsDescribed: bodies that the tests send fit their schemas, so
// that these describe what is understood.
func TestBodiesAreAsDescribed(t *testing.T) {
	d := openAPI(t)
	silver := schedule.Policy{Name: "x", Cron: "0 * * * *", Prove: &schedule.Prove{Every: schedule.Duration(24 * time.Hour)}, Blackout: []schedule.Window{{From: "01:00", To: "02:00"}}, Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{From: "1", To: "2"}, Limit: 5}}, Match: []schedule.Match{{Name: "*"}}}
	for name, v := range map[string]any{"Policy": silver, "WaveInput": schedule.Wave{Name: "w", VMs: []transfer.VMID{id("a")}}, "LaunchWish": fullWish(), "Launch": schedule.Launch{"subnet": "x"}} {
		text, err := json.Marshal(v)
		must(t, err)
		for _, fault := range d.check(map[string]any{"$ref": "#/components/schemas/" + name}, parse(t, text)) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}
