package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/cmd/internal/console/web"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// vmOf is a VM of the fleet, to be changed before anybody asks.
func (f *fake) vmOf(t *testing.T, moref string) *schedule.VMStatus {
	t.Helper()
	v, err := f.find(transfer.VMID{VCenter: vcenter, Moref: moref})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var dialogOf = regexp.MustCompile(`data-dialog="([a-z-]+)"`)

// offered are the dialogs that the launch section of a VM's page opens.
func offered(t *testing.T, h http.Handler, moref string) []string {
	t.Helper()
	_, body := get(t, h, schedule.RoleOperator, vmURL(moref))
	_, part, ok := strings.Cut(body, `data-live="vm-offers">`)
	if !ok {
		t.Fatalf("no actions on the page of %s", moref)
	}
	part, _, _ = strings.Cut(part, "</div>")
	var out []string
	for _, m := range dialogOf.FindAllStringSubmatch(part, -1) {
		out = append(out, m[1])
	}
	return out
}

func TestLaunchActionsByState(t *testing.T) {
	f := newFake(70)
	h := handler(f)
	v := f.vmOf(t, readyVM)
	job := func(purpose launch.Purpose, state launch.State, instance string) schedule.LaunchJob {
		j := newJob(v, purpose, state, time.Hour)
		j.Instance = instance
		return rowOf(j)
	}
	test, launched := job(launch.ForTest, launch.StateLaunched, "i-1"), job(launch.ForCutover, launch.StateLaunched, "i-1")
	for _, c := range []struct {
		life schedule.Lifecycle
		open []schedule.LaunchJob
		want string
	}{
		{schedule.NotReady, nil, ""},
		{"", nil, ""},
		{schedule.ReadyForTest, nil, "launch-test ready-for-cutover"},
		{schedule.Testing, []schedule.LaunchJob{test}, "launch-test launch-test-done ready-for-cutover"},
		{schedule.Testing, nil, "launch-test ready-for-cutover ready-for-test"},
		{schedule.ReadyForCutover, nil, "launch-test ready-for-test launch-cutover"},
		{schedule.ReadyForCutover, []schedule.LaunchJob{test}, "launch-test launch-test-done ready-for-test launch-cutover"},
		{schedule.ReadyForCutover, []schedule.LaunchJob{job(launch.ForCutover, launch.StateReverted, "i-1")}, "launch-test ready-for-test launch-cutover launch-discard"},
		{schedule.CuttingOver, []schedule.LaunchJob{job(launch.ForCutover, launch.StateLaunching, "")}, "launch-cutover launch-revert"},
		{schedule.CuttingOver, []schedule.LaunchJob{job(launch.ForCutover, launch.StateLaunching, "i-1")}, "launch-cutover launch-finalize launch-revert"},
		{schedule.CuttingOver, []schedule.LaunchJob{job(launch.ForCutover, launch.StateReverting, "i-1")}, "launch-revert"},
		{schedule.CutOver, []schedule.LaunchJob{launched}, "launch-finalize launch-revert"},
		{schedule.CutOver, []schedule.LaunchJob{job(launch.ForCutover, launch.StateFinishing, "i-1")}, "launch-finalize"},
		{schedule.Disconnected, nil, ""},
	} {
		v.Lifecycle, f.jobs = c.life, c.open
		if got := strings.Join(offered(t, h, readyVM), " "); got != c.want {
			t.Errorf("%s with %d launches offers %q, want %q", c.life, len(c.open), got, c.want)
		}
	}
	f.launches = []schedule.LaunchRun{{ID: 1, VM: v.ID, Action: schedule.LaunchTest, State: schedule.RunRunning, Started: theNow}}
	if got := offered(t, h, readyVM); !slices.Equal(got, []string{"launch-cancel"}) {
		t.Errorf("while a launch runs it offers %q", got)
	}
}

// hostileJob has foreign text in every field that has text.
func hostileJob(t *testing.T, v *schedule.VMStatus) schedule.LaunchJob {
	t.Helper()
	j := failedJob(v)
	j.ID, j.State, j.Error, j.Hint, j.Type, j.TypeWhy, j.Without, j.Image, j.Instance, j.PrivateIP, j.PublicIP, j.Console = hostile, hostile, hostile, hostile, hostile, hostile, []string{hostile}, hostile, hostile, hostile, hostile, hostile+"\n\x1b[31m"+hostile
	j.Notes = []string{hostile}
	j.Conversion = &launch.ConversionReport{Changes: []string{hostile}, Doubts: []string{hostile}}
	j.Checks = []launch.CheckResult{{Name: hostile, Kind: hostile, Text: hostile, Output: hostile}}
	j.Left = []launch.Resource{{Kind: hostile, ID: hostile, State: hostile, Type: hostile}}
	for i := range j.Records {
		j.Records[i].Step = hostile
	}
	for i := range j.Events {
		j.Events[i].Kind, j.Events[i].Step, j.Events[i].Text = hostile, hostile, hostile
	}
	row := rowOf(j)
	row.Purpose, row.VMName, row.Point = hostile, hostile, hostile
	return row
}

func TestLaunchesEscapeForeignText(t *testing.T) {
	f := newFake(70)
	v := f.vmOf(t, failedVM)
	row := hostileJob(t, v)
	f.jobs = []schedule.LaunchJob{row}
	run := schedule.LaunchRun{ID: 7, VM: v.ID, VMName: hostile, Action: hostile, State: hostile, Trigger: hostile, Job: hostile, Appliance: hostile, Error: hostile, Hint: hostile, Queued: theNow, Started: theNow}
	failed := run
	failed.ID, failed.State, failed.Job, failed.Ended = 6, schedule.RunFailed, "other", theNow
	v.Wave, v.Name, v.LaunchRun = hostile, hostile, &run
	f.waveList[0] = schedule.Wave{Name: hostile, VMs: []transfer.VMID{v.ID}}
	f.preview = func(context.Context, schedule.LaunchAction, schedule.LaunchWish) (schedule.LaunchPreview, error) {
		return schedule.LaunchPreview{Action: schedule.LaunchCutover, Type: hostile, TypeWhy: hostile, Subnet: hostile, Notes: []string{hostile}, Denied: []string{hostile}, Problem: hostile, Hint: hostile, Unknown: []string{hostile}, Cost: hostile,
			Steps: []schedule.LaunchStep{{Name: hostile, Basis: hostile}, {Name: hostile, Text: hostile}}}, nil
	}
	h := handler(f)
	seen := 0
	for _, runs := range [][]schedule.LaunchRun{{run}, {failed}} {
		f.launches = runs
		for _, path := range []string{"/launches", "/launches?all=1", "/launches/" + url.PathEscape(hostile), vmURL(failedVM), "/waves/" + url.PathEscape(hostile), vmURL(failedVM) + "/preview?action=cutover", "/waves/" + url.PathEscape(hostile) + "/preview?action=cutover", "/vms?text=script"} {
			resp, body := get(t, h, schedule.RoleOperator, path)
			if resp.StatusCode != 200 {
				t.Errorf("%s: status %d", path, resp.StatusCode)
			}
			if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || strings.Contains(body, `'">`) || strings.Contains(body, "\x1b") {
				t.Errorf("%s lets foreign text through", path)
			}
			n := strings.Count(body, "&lt;script&gt;alert")
			if n == 0 {
				t.Errorf("%s does not show it at all", path)
			}
			seen += n
		}
	}
	if seen < 200 {
		t.Errorf("the hostile text appears %d times: the test looks at too little", seen)
	}
	f.preview = func(context.Context, schedule.LaunchAction, schedule.LaunchWish) (schedule.LaunchPreview, error) {
		return schedule.LaunchPreview{}, errors.New(hostile)
	}
	if _, body := get(t, h, schedule.RoleOperator, vmURL(failedVM)+"/preview?action=cutover"); strings.Contains(body, "<script>alert") || !strings.Contains(body, "&lt;script&gt;alert") {
		t.Error("the error of a preview is not shown, or not escaped")
	}
}

// TestLaunchPage reads what package launch writes.
func TestLaunchPage(t *testing.T) {
	f := newFake(70)
	h := handler(f)
	for moref, want := range map[string][]string{
		failedVM: {"Launch failed", "the instance check is impaired", "What to do:", "i-0c3392be51d70f8aa", "10.80.4.29", "3 min 26 s", "status checks<span class=\"hidden\"> (failed)", "15 min", "STEP_FAIL", "JOB_FAIL", "ifcfg-ens192.snapferry", "nfs01:/export", "Give root password",
			"nothing powers it on but a revert", "/sf/launches/" + jobID(failedVM) + "/screenshot", "the smallest of 41 types", "SOURCE_SHUTDOWN_START", "user k.hansen"},
		tested:    {"Launched", "tcp 5432", "10.80.12.44:5432 answers", "14 tables, 0 corrupt", "3 of 3 passed", "in 6 h 25 min", "Note that the point boots"},
		cutting:   {"Launching", "Convert the boot disk<span class=\"hidden\"> (running)", `data-poll="2"`, "launch-cancel", "down since"},
		finalized: {"Finalized", "vol-0b8de13c9f5520a74", "What is left in AWS", "6 min 53 s", "Delete recovery points"},
	} {
		_, body := get(t, h, schedule.RoleOperator, "/launches/"+jobID(moref))
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("the launch of %s does not show %q", moref, w)
			}
		}
		if moref == finalized && strings.Contains(body, "data-poll") {
			t.Error("a launch that is over is asked for again and again")
		}
	}
}

// TestCutoverGoesBeforeReplication: a VM whose points are fresh and whose
// cutover failed is not told that there is nothing to do.
func TestCutoverGoesBeforeReplication(t *testing.T) {
	h := handler(newFake(70))
	for moref, want := range map[string]string{failedVM: "gone on with or reverted", cutOver: "finalize the migration, or revert it", readyVM: "mark it ready for cutover once"} {
		if _, body := get(t, h, schedule.RoleViewer, vmURL(moref)); !strings.Contains(body, want) {
			t.Errorf("%s is not told %q", moref, want)
		}
	}
}

func TestEventsLeadToLaunches(t *testing.T) {
	f := newFake(70)
	told, err := json.Marshal(schedule.LaunchTold{LaunchRun: 7, Action: schedule.LaunchTest, Job: jobID(tested)})
	if err != nil {
		t.Fatal(err)
	}
	f.events[len(f.events)-1] = schedule.Event{ID: int64(len(f.events)), At: theNow, Kind: schedule.EventTestEnd, VM: f.vms[2].ID, VMName: "db-prod-01", Text: "up", Data: told}
	_, body := get(t, handler(f), schedule.RoleViewer, "/events")
	if !strings.Contains(body, `href="/sf/launches/`+jobID(tested)+`"`) || !strings.Contains(body, `class="dot t-ok" title="TEST_LAUNCH_END"`) {
		t.Error("the event of a launch does not lead to it, or is not good news")
	}
}

func TestScreenshotOfAnInstance(t *testing.T) {
	f := newFake(70)
	h := handler(f)
	path := "/launches/" + jobID(failedVM) + "/screenshot"
	resp, body := get(t, h, schedule.RoleViewer, path)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "image/jpeg" || resp.Header.Get("X-Content-Type-Options") != "nosniff" || body != string(screen()) {
		t.Errorf("status %d, %v, %d bytes", resp.StatusCode, resp.Header, len(body))
	}
	if resp, body := get(t, h, "", path); resp.StatusCode != 404 || strings.Contains(body, "JFIF") {
		t.Errorf("a stranger gets status %d", resp.StatusCode)
	}
	j := failedJob(f.vmOf(t, failedVM))
	j.Screen = []byte("<html><script>alert(1)</script>")
	f.jobs = []schedule.LaunchJob{rowOf(j)}
	if resp, body := get(t, h, schedule.RoleViewer, path); resp.StatusCode != 404 || strings.Contains(body, "alert") {
		t.Errorf("what is no JPEG: status %d", resp.StatusCode)
	}
	if _, body := get(t, h, schedule.RoleViewer, "/launches/"+jobID(failedVM)); strings.Contains(body, "/screenshot") {
		t.Error("the page shows what is no picture")
	}
	for _, id := range []string{jobID(tested), "none"} {
		if resp, _ := get(t, h, schedule.RoleViewer, "/launches/"+id+"/screenshot"); resp.StatusCode != 404 {
			t.Errorf("%s: status %d", id, resp.StatusCode)
		}
	}
}

// TestLaunchDocIsBounded: a document is as long as its writers like.
func TestLaunchDocIsBounded(t *testing.T) {
	f := newFake(70)
	h := handler(f)
	j := failedJob(f.vmOf(t, failedVM))
	long := strings.Repeat("ü", 1<<20)
	j.Console, j.Notes, j.TypeWhy = long+"\nthe last line", []string{long}, long
	for i := range 5000 {
		j.Events = append(j.Events, launch.Event{At: theNow, Kind: "STEP_START", Text: fmt.Sprintf("event %d", i)})
		j.Checks = append(j.Checks, launch.CheckResult{Name: "c", Output: long[:1<<12]})
	}
	f.jobs = []schedule.LaunchJob{rowOf(j)}
	_, body := get(t, h, schedule.RoleOperator, "/launches/"+jobID(failedVM))
	if len(body) > 3<<20 {
		t.Errorf("the page has %d KiB", len(body)>>10)
	}
	for text, want := range map[string]bool{"event 4999": true, "event 4599": false, "the last line": true} {
		if strings.Contains(body, text) != want {
			t.Errorf("%q is shown: %v", text, !want)
		}
	}
	f.jobs[0].Doc = json.RawMessage(`{"records": 5, "instance": "i-1", "notes": ["kept"]}`)
	if resp, body := get(t, h, schedule.RoleOperator, "/launches/"+jobID(failedVM)); resp.StatusCode != 200 || !strings.Contains(body, "cannot be read whole") || !strings.Contains(body, "kept") {
		t.Errorf("a document of another form: status %d", resp.StatusCode)
	}
	f.jobs[0].Doc = nil
	if resp, body := get(t, h, schedule.RoleOperator, "/launches/"+jobID(failedVM)); resp.StatusCode != 200 || strings.Contains(body, "cannot be read") || !strings.Contains(body, "It has not begun") {
		t.Errorf("no document: status %d", resp.StatusCode)
	}
}

// TestWithoutLaunches: the parts are left out, and nothing else.
func TestWithoutLaunches(t *testing.T) {
	f := newFake(70)
	asOperator := func(r *http.Request) (schedule.Actor, bool) {
		return schedule.Actor{Name: "k", Role: schedule.RoleOperator}, true
	}
	silent := slog.New(slog.DiscardHandler)
	none := web.New(web.Config{Backend: f, Actor: asOperator, Now: func() time.Time { return theNow }, Log: silent})
	refusing := web.New(web.Config{Backend: f, Launches: noLaunches{}, Actor: asOperator, Now: func() time.Time { return theNow }, Log: silent})
	f.vmOf(t, readyVM).Lifecycle = schedule.ReadyForTest
	for _, path := range []string{"/", vmURL(readyVM), "/vms", "/waves/wave-2-erp", "/policies", "/events"} {
		_, body := get(t, none, "", path)
		for _, not := range []string{`"/launches"`, "launch-test", "launch-cutover", "h-launches"} {
			if strings.Contains(body, not) {
				t.Errorf("%s has %s without a launch side", path, not)
			}
		}
		if path == vmURL(readyVM) && !strings.Contains(body, `data-dialog="ready-for-cutover"`) {
			t.Error("the mark went away with the launch side")
		}
		if resp, _ := get(t, refusing, "", path); resp.StatusCode != 200 {
			t.Errorf("%s with a service that launches nothing: status %d", path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/launches", "/launches/x", "/launches/x/screenshot", vmURL(readyVM) + "/preview?action=test"} {
		if resp, _ := get(t, none, "", path); resp.StatusCode != 404 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
}

// noLaunches refuses as a service does that keeps none.
type noLaunches struct{}

func (noLaunches) PreviewLaunch(context.Context, transfer.VMID, schedule.LaunchAction, schedule.LaunchWish) (schedule.LaunchPreview, error) {
	return schedule.LaunchPreview{}, schedule.ErrConflict
}
func (noLaunches) LaunchRuns(context.Context, schedule.LaunchQuery) ([]schedule.LaunchRun, error) {
	return nil, schedule.ErrConflict
}
func (noLaunches) LaunchJobs(context.Context, schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) {
	return nil, schedule.ErrConflict
}
func (noLaunches) LaunchJob(context.Context, string) (schedule.LaunchJob, error) {
	return schedule.LaunchJob{}, schedule.ErrConflict
}

func TestPreview(t *testing.T) {
	f := newFake(70)
	h := handler(f)
	path := vmURL(readyVM) + "/preview?action="
	for role, want := range map[schedule.Role]int{"": 401, schedule.RoleViewer: 403, schedule.RoleOperator: 200} {
		resp, body := get(t, h, role, path+"cutover")
		if resp.StatusCode != want || strings.Contains(body, "6 min 39 s") != (want == 200) {
			t.Errorf("as %q: status %d", role, resp.StatusCode)
		}
	}
	var asked schedule.LaunchWish
	var answer error
	f.preview = func(_ context.Context, a schedule.LaunchAction, w schedule.LaunchWish) (schedule.LaunchPreview, error) {
		asked = w
		return schedule.LaunchPreview{Action: a, Problem: map[bool]string{true: "there is no subnet for tests"}[w.Force], Hint: "set test.subnet", Denied: []string{"ec2:RunInstances"}}, answer
	}
	_, body := get(t, h, schedule.RoleOperator, path+"test&force=on&point=c-1&for=2h&prove=on&forceOff=on&skipPreSync=on&points=all&stopTracking=on&discard=on")
	want := schedule.LaunchWish{Force: true, Point: "c-1", For: schedule.Duration(2 * time.Hour), Prove: true, ForceOff: true, SkipPreSync: true, Discard: true, Points: schedule.PointsAll, StopTracking: true}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("the wish: %s", diff)
	}
	if strings.Contains(body, "data-possible") || !strings.Contains(body, "no subnet for tests") || !strings.Contains(body, "set test.subnet") || !strings.Contains(body, "ec2:RunInstances") {
		t.Errorf("a problem is shown as %s", body)
	}
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{fmt.Errorf("%w: no daemon runs", schedule.ErrConflict), 409, "no daemon runs"},
		{fmt.Errorf("look: %w", context.DeadlineExceeded), 503, "took too long"},
		{transfer.Fail(transfer.Retry, "ask AWS", errors.New("dial tcp: no route"), "check the proxy"), 502, "check the proxy"},
	} {
		answer = c.err
		resp, body := get(t, h, schedule.RoleOperator, path+"cutover")
		if resp.StatusCode != c.status || !strings.Contains(body, c.text) || strings.Contains(body, "data-possible") {
			t.Errorf("%v: status %d: %s", c.err, resp.StatusCode, body)
		}
	}
	for _, q := range []string{"", "dance", "test&for=soon"} {
		if resp, body := get(t, h, schedule.RoleOperator, path+q); resp.StatusCode != 422 || strings.Contains(body, "data-possible") {
			t.Errorf("action %q: status %d", q, resp.StatusCode)
		}
	}
	if resp, _ := get(t, h, schedule.RoleOperator, "/vms/x/y/preview?action=test"); resp.StatusCode != 404 {
		t.Errorf("an unknown VM: status %d", resp.StatusCode)
	}
}

// TestLaunchesArePaged: every launch is on one page of the list.
func TestLaunchesArePaged(t *testing.T) {
	f := newFake(70)
	row := f.jobs[0]
	f.jobs = nil
	for i := range 205 {
		row.ID, row.Over = fmt.Sprintf("job-%03d", i), i >= 150
		f.jobs = append(f.jobs, row)
	}
	h := handler(f)
	for from, want := range map[string][]int{"/launches": {100, 50}, "/launches?all=1": {100, 100, 5}} {
		seen := map[string]bool{}
		for n, rows := range want {
			_, body := get(t, h, schedule.RoleViewer, from)
			found := regexp.MustCompile(`/launches/(job-\d+)"`).FindAllStringSubmatch(body, -1)
			for _, m := range found {
				seen[m[1]] = true
			}
			older := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(body)
			if last := n == len(want)-1; len(seen) != sum(want[:n+1]) || last != (older == nil) {
				t.Fatalf("page %d of %s has %d rows, %d so far, not %d; older %v", n, from, len(found), len(seen), rows, older)
			}
			if older != nil {
				from = strings.TrimPrefix(strings.ReplaceAll(older[1], "&amp;", "&"), "/sf")
			}
		}
	}
}

func sum(of []int) (n int) {
	for _, v := range of {
		n += v
	}
	return n
}

// TestWavePreview: every member is looked at, and the wave is down as long as the
// one that is down longest.
func TestWavePreview(t *testing.T) {
	f := newFake(70)
	h := handler(f)
	path := "/waves/wave-2-erp/preview?action="
	for role, want := range map[schedule.Role]int{"": 401, schedule.RoleViewer: 403, schedule.RoleOperator: 200} {
		resp, body := get(t, h, role, path+"cutover")
		if resp.StatusCode != want || strings.Count(body, "6 min 39 s") != map[bool]int{true: 8}[want == 200] {
			t.Errorf("as %q: status %d, %d forecasts", role, resp.StatusCode, strings.Count(body, "6 min 39 s"))
		}
	}
	var asked atomic.Int64
	f.preview = func(_ context.Context, a schedule.LaunchAction, w schedule.LaunchWish) (schedule.LaunchPreview, error) {
		p := schedule.LaunchPreview{Action: a, Downtime: schedule.Duration(time.Minute), ToLaunch: schedule.Duration(30 * time.Second)}
		switch asked.Add(1) {
		case 1:
			p.Problem, p.Hint = "there is <no> subnet", "set subnet"
		case 2:
			return p, errors.New("dial tcp: no route")
		case 3:
			p.Downtime = schedule.Duration(5 * time.Minute)
		}
		return p, nil
	}
	_, body := get(t, h, schedule.RoleOperator, path+"cutover&forceOff=on")
	for _, want := range []string{"2 of 7 VMs would be refused", "there is &lt;no&gt; subnet", "set subnet", "no route", "Longest down in total</dt><dd>5 min", "Not every step"} {
		if !strings.Contains(body, want) {
			t.Errorf("it does not say %q: %s", want, body)
		}
	}
	for path, want := range map[string]int{path + "dance": 422, "/waves/none/preview?action=test": 404} {
		if resp, body := get(t, h, schedule.RoleOperator, path); resp.StatusCode != want || !strings.Contains(body, "could not be looked at") {
			t.Errorf("%s: status %d: %s", path, resp.StatusCode, body)
		}
	}
}

// TestWavePreviewRunsOutOfTime: what was looked at is shown all the same.
func TestWavePreviewRunsOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(70)
		var asked atomic.Int64
		f.preview = func(ctx context.Context, a schedule.LaunchAction, _ schedule.LaunchWish) (schedule.LaunchPreview, error) {
			if asked.Add(1) > 2 {
				<-ctx.Done()
				return schedule.LaunchPreview{}, ctx.Err()
			}
			return schedule.LaunchPreview{Action: a, Downtime: schedule.Duration(time.Minute)}, nil
		}
		resp, body := get(t, handler(f), schedule.RoleOperator, "/waves/wave-2-erp/preview?action=cutover")
		if resp.StatusCode != 200 || strings.Count(body, "<tr>") != 3 || !strings.Contains(body, "too short to look at 5 more") {
			t.Errorf("status %d: %s", resp.StatusCode, body)
		}
	})
}

// TestWaveNamesWhoCannot: one member that cannot keeps a wave from beginning.
func TestWaveNamesWhoCannot(t *testing.T) {
	f := newFake(70)
	for i := range f.vms {
		if f.vms[i].Wave == "wave-2-erp" {
			f.vms[i].Lifecycle = schedule.ReadyForCutover
		}
	}
	f.jobs, f.launches = nil, nil
	h := handler(f)
	warning := regexp.MustCompile(`data-dialog="launch-cutover" data-whole(?: data-warning="([^"]*)")?>`)
	_, body := get(t, h, schedule.RoleOperator, "/waves/wave-2-erp")
	if m := warning.FindStringSubmatch(body); m == nil || m[1] != "" {
		t.Errorf("all are ready: %q", m)
	}
	f.vmOf(t, readyVM).Lifecycle = schedule.Testing
	_, body = get(t, h, schedule.RoleOperator, "/waves/wave-2-erp")
	if m := warning.FindStringSubmatch(body); m == nil || !strings.HasPrefix(m[1], "1 of 7 VMs cannot") || !strings.HasSuffix(m[1], "erp-app-06 is testing.") {
		t.Errorf("one is not ready: %q", m)
	}
	if _, body := get(t, h, schedule.RoleViewer, "/waves/wave-2-erp"); strings.Contains(body, "data-whole") || !strings.Contains(body, "Nothing of its members is launched") {
		t.Error("a viewer is offered actions, or does not see how the wave stands")
	}
}

// TestPagesTakeNoPosts: actions go to the API alone.
func TestPagesTakeNoPosts(t *testing.T) {
	h := handler(newFake(70))
	for _, path := range []string{"/launches", "/launches/" + jobID(tested), vmURL(readyVM) + "/preview?action=test"} {
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(nil))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if _, _ = io.Copy(io.Discard, w.Body); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: status %d", path, w.Code)
		}
	}
}
