package web_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// lastWanted is the launch run that was wanted last.
func lastWanted(f *fake) schedule.LaunchRun {
	return look(f, func() schedule.LaunchRun { return f.launches[0] })
}

// goes reports whether a dialog's button can be pressed.
func (b *tab) goes(dialog string) bool {
	b.t.Helper()
	return eval[bool](b, fmt.Sprintf(`(() => { const g = document.querySelector("#dialog-%s [data-go]"); return !g.disabled && !g.hidden; })()`, dialog))
}

// TestTestThenCutover goes the whole way of a VM in the browser.
func TestTestThenCutover(t *testing.T) {
	f := newFake(70)
	v := f.vmOf(t, readyVM)
	v.Lifecycle = schedule.ReadyForTest
	b := newTab(t, serve(t, f).URL, 1440, 900)
	b.signIn(operatorToken)
	b.open(vmURL(readyVM))
	b.until(`document.querySelector(".lifepath [aria-current=step]").textContent === "Ready for test"`)

	b.click(`[data-dialog=launch-test]`)
	b.until(`document.querySelector("#dialog-launch-test").open`)
	if n := eval[int](b, `document.querySelectorAll("#dialog-launch-test select[name=point] option").length`); n != 14 {
		t.Errorf("%d points are offered, the newest twice", n)
	}
	b.do(chromedp.SetValue(`#dialog-launch-test select[name=for]`, "2h", chromedp.ByQuery), chromedp.SetValue(`#dialog-launch-test select[name=point]`, "c03", chromedp.ByQuery))
	b.click(`#dialog-launch-test input[name=force]`)
	b.click(`#dialog-launch-test [data-preview-ask]`)
	b.until(`document.querySelector("#dialog-launch-test [data-preview-place]").textContent.includes("8 hours of m6i.xlarge")`)
	b.click(`#dialog-launch-test [data-go]`)
	b.until(`document.querySelector("#status").textContent === "Test queued for erp-app-06"`)
	want := schedule.LaunchWish{Force: true, Point: "c03", For: schedule.Duration(2 * time.Hour)}
	if r := lastWanted(f); r.Action != schedule.LaunchTest || fmt.Sprint(r.Wish) != fmt.Sprint(want) || r.Trigger != "user k.hansen" {
		t.Errorf("wanted was %+v", r)
	}
	if deed := look(f, func() schedule.Deed { return f.deeds[0] }); deed.Actor != "k.hansen" || deed.Result != "ok" || !strings.HasSuffix(deed.Action, "/launch/test") {
		t.Errorf("audit log: %+v", deed)
	}
	b.until(`document.querySelector('[data-live="vm-launch"] .note').textContent.includes("Queued") && document.querySelectorAll('[data-live="vm-offers"] button').length === 1`)

	test := testJob(v)
	test.ID = "job-of-the-test"
	f.finish(readyVM, schedule.Testing, rowOf(test))
	b.until(`document.querySelector(".openjob") !== null && document.querySelector(".openjob").textContent.includes("i-0d41f2c6b8a09e573") && document.querySelector(".openjob").textContent.includes("10.80.12.44") && document.querySelector(".openjob").textContent.includes("in 6 h")`)
	b.click(`[data-dialog=launch-test-done]`)
	b.click(`#dialog-launch-test-done [data-go]`)
	b.until(`document.querySelector("#status").textContent === "End of the test queued for erp-app-06"`)
	test.State = launch.StateEnded
	f.finish(readyVM, schedule.ReadyForTest, rowOf(test))
	b.until(`document.querySelector(".openjob") === null && document.querySelector("[data-dialog=launch-test]") !== null`)
	b.click(`.launch [data-dialog=ready-for-cutover]`)
	b.click(`#dialog-ready-for-cutover [data-go]`)
	b.until(`document.querySelector("[data-dialog=launch-cutover]") !== null`)
	b.cutOver(f)
	cut := cutOverJob(v)
	cut.ID = "job-of-the-cutover"
	f.finish(readyVM, schedule.CutOver, rowOf(cut))
	b.until(`document.querySelector(".openjob") !== null && document.querySelector(".openjob").textContent.includes("3 min 40 s") && document.querySelector("[data-dialog=launch-finalize]") !== null`)
	b.finalize(f)
}

// cutOver asks for a cutover whose forecast takes its time.
func (b *tab) cutOver(f *fake) {
	b.t.Helper()
	arrived := make(chan struct{})
	made, err := f.PreviewLaunch(b.t.Context(), idT{VCenter: vcenter, Moref: readyVM}, schedule.LaunchCutover, schedule.LaunchWish{})
	if err != nil {
		b.t.Fatal(err)
	}
	f.mu.Lock()
	f.preview = func(ctx context.Context, _ schedule.LaunchAction, _ schedule.LaunchWish) (schedule.LaunchPreview, error) {
		select {
		case <-arrived:
			return made, nil
		case <-ctx.Done():
			return schedule.LaunchPreview{}, ctx.Err()
		}
	}
	f.mu.Unlock()
	b.click(`[data-dialog=launch-cutover]`)
	b.until(`document.querySelector("#dialog-launch-cutover").open && !document.querySelector("#dialog-launch-cutover [data-preview-wait]").hidden`)
	b.do(chromedp.SendKeys(`#dialog-launch-cutover input[name=typed]`, "erp-app-06", chromedp.ByQuery))
	if b.goes("launch-cutover") {
		b.t.Error("the button is open before the forecast is there")
	}
	b.keys(kb.Enter)
	close(arrived)
	b.until(`document.querySelector("#dialog-launch-cutover [data-preview-place]").textContent.includes("6 min 39 s") && document.querySelector("#dialog-launch-cutover [data-preview-wait]").hidden`)
	for _, text := range []string{"3 min 31 s", "a guess: it was never measured", "how long the services in the guest take", "m6i.xlarge", "the smallest of 41 types", "Secure Boot"} {
		if !eval[bool](b, fmt.Sprintf(`document.querySelector("#dialog-launch-cutover [data-preview-place]").textContent.includes(%q)`, text)) {
			b.t.Errorf("the forecast does not say %q", text)
		}
	}
	for _, typed := range []string{"erp-app-0", "ERP-APP-06", "nonsense"} {
		b.typeOver(`#dialog-launch-cutover input[name=typed]`, typed)
		if b.goes("launch-cutover") {
			b.t.Errorf("typed %q: the button is open", typed)
		}
	}
	b.keys(kb.Enter)
	if r := lastWanted(f); r.Action == schedule.LaunchCutover {
		b.t.Fatal("Enter went around the name or the forecast")
	}
	b.typeOver(`#dialog-launch-cutover input[name=typed]`, "erp-app-06")
	b.until(`!document.querySelector("#dialog-launch-cutover [data-go]").disabled`)
	b.keys(kb.Enter)
	b.until(`document.querySelector("#status").textContent === "Cutover queued for erp-app-06"`)
	if r := lastWanted(f); r.Action != schedule.LaunchCutover || r.State != schedule.RunQueued || fmt.Sprint(r.Wish) != fmt.Sprint(schedule.LaunchWish{}) {
		b.t.Errorf("wanted was %+v", r)
	}
}

func (b *tab) finalize(f *fake) {
	b.t.Helper()
	b.click(`[data-dialog=launch-finalize]`)
	b.until(`document.querySelector("#dialog-launch-finalize").open && document.querySelector("#dialog-launch-finalize").innerText.includes("There is no way back from this.")`)
	b.do(chromedp.SetValue(`#dialog-launch-finalize select[name=points]`, "none", chromedp.ByQuery))
	b.click(`#dialog-launch-finalize input[name=stopTracking]`)
	if b.goes("launch-finalize") {
		b.t.Error("the button is open without the name")
	}
	b.do(chromedp.SendKeys(`#dialog-launch-finalize input[name=typed]`, "erp-app-06"+kb.Enter, chromedp.ByQuery))
	b.until(`document.querySelector("#status").textContent === "Finalize queued for erp-app-06"`)
	want := schedule.LaunchWish{Points: schedule.PointsNone, StopTracking: true}
	if r := lastWanted(f); r.Action != schedule.LaunchFinalize || fmt.Sprint(r.Wish) != fmt.Sprint(want) {
		b.t.Errorf("wanted was %+v", r)
	}
}

// TestRefusedBeforehand: a forecast that says no leaves no button, and another
// wish or another look may bring it back.
func TestRefusedBeforehand(t *testing.T) {
	f := newFake(70)
	f.preview = func(_ context.Context, a schedule.LaunchAction, w schedule.LaunchWish) (schedule.LaunchPreview, error) {
		if w.SkipPreSync {
			return schedule.LaunchPreview{}, fmt.Errorf("%w: no daemon runs", schedule.ErrConflict)
		}
		if w.ForceOff {
			return schedule.LaunchPreview{Action: a, Downtime: schedule.Duration(time.Minute)}, nil
		}
		return schedule.LaunchPreview{Action: a, Problem: "subnet-0a77c1 has no free address", Hint: "Choose another subnet.", Denied: []string{"ec2:RunInstances"}}, nil
	}
	b := newTab(t, serve(t, f).URL, 1280, 800)
	b.expect = []string{"409 (Conflict)"}
	b.signIn(operatorToken)
	b.open(vmURL(readyVM))
	b.click(`[data-dialog=launch-cutover]`)
	b.do(chromedp.SendKeys(`#dialog-launch-cutover input[name=typed]`, "erp-app-06", chromedp.ByQuery))
	const place = `document.querySelector("#dialog-launch-cutover [data-preview-place]").textContent`
	b.until(place + `.includes("no free address") && ` + place + `.includes("Choose another subnet.") && ` + place + `.includes("ec2:RunInstances") && document.querySelector("#dialog-launch-cutover [data-go]").hidden`)
	b.keys(kb.Enter)
	b.click(`#dialog-launch-cutover input[name=forceOff]`)
	b.until(`!document.querySelector("#dialog-launch-cutover [data-go]").hidden && !document.querySelector("#dialog-launch-cutover [data-go]").disabled`)
	b.click(`#dialog-launch-cutover input[name=skipPreSync]`)
	b.until(place + `.includes("no daemon runs") && document.querySelector("#dialog-launch-cutover [data-go]").hidden`)
	if r := lastWanted(f); r.State == schedule.RunQueued {
		t.Errorf("it was asked for all the same: %+v", r)
	}
	b.keys(kb.Escape)
	b.until(`!document.querySelector("#dialog-launch-cutover").open`)
	b.click(`[data-dialog=launch-cutover]`) // nothing of before is left
	b.until(place + `.includes("no free address") && document.querySelector("#dialog-launch-cutover input[name=typed]").value === ""`)
}

// TestViewersSeeLaunches and do nothing, whatever they send.
func TestViewersSeeLaunches(t *testing.T) {
	f := newFake(70)
	b := newTab(t, serve(t, f).URL, 1280, 800)
	b.expect = []string{"403 (Forbidden)"}
	b.signIn(viewerToken)
	for _, path := range []string{vmURL(failedVM), "/launches", "/launches/" + jobID(failedVM), "/waves/wave-2-erp"} {
		b.open(path)
		if eval[bool](b, `document.querySelector("[data-dialog], dialog, form:not(.who)") !== null`) {
			t.Errorf("%s offers a viewer actions", path)
		}
		if !eval[bool](b, `document.querySelector("main").textContent.includes("Launch failed")`) && path != "/waves/wave-2-erp" {
			t.Errorf("%s does not show a viewer how the launch stands", path)
		}
	}
	before := look(f, func() int { return len(f.launches) })
	for _, request := range []string{
		`"/api/v1/vms/" + encodeURIComponent("` + vcenter + ":" + readyVM + `") + "/launch/test", {method: "POST"}`,
		`"/api/v1/launches", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({action: "cutover", wave: "wave-2-erp", wish: {}})}`,
		`"/launches", {method: "POST"}`,
		`"` + vmURL(readyVM) + `/preview?action=test"`,
	} {
		var status int
		b.do(chromedp.Evaluate(`fetch(`+request+`).then((r) => r.status)`, &status, awaited))
		if status != 403 {
			t.Errorf("a viewer's %s: status %d", request, status)
		}
	}
	if after := look(f, func() int { return len(f.launches) }); after != before {
		t.Errorf("a viewer began %d launches", after-before)
	}
}

// TestLaunchFollows watches a cutover from its page.
func TestLaunchFollows(t *testing.T) {
	f := newFake(70)
	b := newTab(t, serve(t, f).URL, 1280, 900)
	b.signIn(operatorToken)
	b.open("/launches/" + jobID(cutting))
	b.until(`document.querySelectorAll(".steps tr").length === 7 && document.querySelector(".steps tr:last-child").textContent.includes("running") && document.querySelector("[data-dialog=launch-cancel]") !== null`)
	j := cuttingJob(f.vmOf(t, cutting))
	for i := range 30 {
		j.Events = append(j.Events, launch.Event{At: theNow, Kind: "STEP_START", Step: launch.StepConvert, Text: fmt.Sprintf("line %d of %s", i, hostile)})
	}
	f.mu.Lock()
	i := slices.IndexFunc(f.jobs, func(x schedule.LaunchJob) bool { return x.ID == jobID(cutting) })
	f.jobs = slices.Clone(f.jobs)
	f.jobs[i] = rowOf(j)
	f.mu.Unlock()
	b.until(`document.querySelector(".log.kinds li:last-child").textContent.includes("line 29 of <script>alert")`)
	b.until(`(() => { const l = document.querySelector(".log.kinds"); return l.scrollHeight > l.clientHeight && l.scrollHeight - l.scrollTop - l.clientHeight < 5; })()`)

	b.click(`[data-dialog=launch-cancel]`)
	b.click(`#dialog-launch-cancel [data-go]`)
	b.until(`document.querySelector("#status").textContent === "Cancelling the launch run of erp-app-03" && document.querySelector('[data-live="launch-notes"]').textContent.includes("Cancelling: it stops at its next step.")`)
	done := cutOverJob(f.vmOf(t, cutting))
	f.finish(cutting, schedule.CutOver, rowOf(done))
	b.until(`document.querySelectorAll(".steps tr").length === 13 && document.querySelector(".head .badge").textContent.includes("Launched") && document.querySelector(".figures").textContent.includes("6 min 53 s") && document.querySelector("[data-dialog=launch-cancel]") === null && document.querySelector("[data-dialog=launch-revert]") !== null`)
}

// TestWaveLaunches: a wave is cut over under its name, whole or not at all;
// several VMs of the list are tested at once.
func TestWaveLaunches(t *testing.T) {
	f := newFake(70)
	f.jobs, f.launches = nil, nil
	for i := range f.vms {
		if f.vms[i].Wave == "wave-2-erp" {
			f.vms[i].Lifecycle = schedule.ReadyForCutover
		}
	}
	odd := f.vmOf(t, readyVM)
	odd.Lifecycle = schedule.ReadyForTest
	b := newTab(t, serve(t, f).URL, 1440, 900)
	b.expect = []string{"409 (Conflict)"}
	b.signIn(operatorToken)
	b.open("/waves/wave-2-erp")
	b.click(`[data-dialog=launch-cutover][data-whole]`)
	b.until(`document.querySelector("#dialog-launch-cutover [data-warn]").textContent.includes("erp-app-06 is ready for test") && !document.querySelector("#dialog-launch-cutover [data-preview-ask]").hidden`)
	b.do(chromedp.SendKeys(`#dialog-launch-cutover input[name=typed]`, "wave-2-er", chromedp.ByQuery))
	if b.goes("launch-cutover") {
		t.Error("the button is open with a part of the name")
	}
	b.keys("p" + kb.Enter)
	b.until(`document.querySelector("#dialog-launch-cutover [data-problem]").textContent.includes("erp-app-06")`)
	if n := look(f, func() int { return len(f.launches) }); n != 0 {
		t.Fatalf("%d members began although one could not", n)
	}
	b.keys(kb.Escape)
	f.mu.Lock()
	odd.Lifecycle = schedule.ReadyForCutover
	f.mu.Unlock()
	b.open("/waves/wave-2-erp")
	b.click(`[data-dialog=launch-cutover][data-whole]`)
	b.click(`#dialog-launch-cutover [data-preview-ask]`)
	b.until(`document.querySelectorAll("#dialog-launch-cutover [data-preview-place] tbody tr").length === 7 && document.querySelector("#dialog-launch-cutover .forecast").textContent.includes("6 min 39 s")`)
	b.do(chromedp.SendKeys(`#dialog-launch-cutover input[name=typed]`, "wave-2-erp"+kb.Enter, chromedp.ByQuery))
	b.until(`document.querySelector("#status").textContent === "Cutover queued for All 7 VMs of the wave wave-2-erp"`)
	b.until(`document.querySelectorAll('[data-live="wave-launches"] tbody tr').length === 7 && document.querySelector('[data-live="wave-offers"]').textContent === "Cancel launch runs…"`)

	b.open("/vms?text=mq")
	b.click(`[data-pick-all]`)
	if eval[bool](b, `document.querySelector("[data-bulk] [data-dialog=launch-cutover]") !== null`) {
		t.Error("the list cuts over")
	}
	f.mu.Lock()
	for i := range f.vms {
		if strings.HasPrefix(f.vms[i].Name, "mq") {
			f.vms[i].Lifecycle = schedule.ReadyForTest
		}
	}
	f.mu.Unlock()
	b.click(`[data-bulk] [data-dialog=launch-test]`)
	b.until(`document.querySelector("#dialog-launch-test").open && document.querySelector("#dialog-launch-test select[name=point]").closest("label").hidden && document.querySelector("#dialog-launch-test [data-preview-box]").hidden`)
	b.click(`#dialog-launch-test [data-go]`)
	b.until(`document.querySelector("#status").textContent.startsWith("Test queued for 7 VMs: mq01")`)
	if r := lastWanted(f); r.Action != schedule.LaunchTest || !strings.HasPrefix(r.VMName, "mq") || r.Wish.Point != "" {
		t.Errorf("wanted was %+v", r)
	}
}

// TestPreviewFails shows the error of a look at AWS that failed.
func TestPreviewFails(t *testing.T) {
	f := newFake(70)
	f.preview = func(context.Context, schedule.LaunchAction, schedule.LaunchWish) (schedule.LaunchPreview, error) {
		return schedule.LaunchPreview{}, transfer.Fail(transfer.Retry, "ask AWS", errors.New("dial tcp 10.0.0.9:443: no route to "+hostile), "Check the proxy.")
	}
	b := newTab(t, serve(t, f).URL, 1280, 800)
	b.expect = []string{"502 (Bad Gateway)"}
	b.signIn(operatorToken)
	b.open(vmURL(readyVM))
	b.click(`[data-dialog=launch-cutover]`)
	b.until(`(() => { const p = document.querySelector("#dialog-launch-cutover [data-preview-place]").textContent; return p.includes("no route to <script>alert") && p.includes("Check the proxy."); })()`)
	if b.goes("launch-cutover") {
		t.Error("the button is open without a forecast")
	}
	f.mu.Lock()
	f.preview = nil
	f.mu.Unlock()
	b.click(`#dialog-launch-cutover [data-preview-ask]`)
	b.do(chromedp.SendKeys(`#dialog-launch-cutover input[name=typed]`, "erp-app-06", chromedp.ByQuery))
	b.until(`!document.querySelector("#dialog-launch-cutover [data-go]").disabled && !document.querySelector("#dialog-launch-cutover [data-go]").hidden`)
}
