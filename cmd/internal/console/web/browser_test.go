package web_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"snapferry/schedule"
)

func vmURL(moref string) string { return "/vms/" + vcenter + "/" + moref }

// deed looks at the fleet under its lock.
func look[T any](f *fake, what func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return what()
}

func TestLogin(t *testing.T) {
	s := serve(t, newFake(50))
	b := newTab(t, s.URL, 1280, 800)
	b.open("/vms?text=web")
	b.until(`location.pathname === "/login" && document.activeElement.name === "token"`)
	b.keys("wrong" + kb.Enter)
	b.until(`document.querySelector("[role=alert]") && document.querySelector("[role=alert]").textContent.includes("not accepted")`)
	b.do(chromedp.SendKeys(`input[name=token]`, viewerToken+kb.Enter, chromedp.ByQuery))
	b.until(`location.pathname + location.search === "/vms?text=web"`)
	if eval[bool](b, `document.querySelector("[data-dialog], [data-pick], dialog") !== null`) {
		t.Error("a viewer is offered actions")
	}
	b.click(`.who button`)
	b.until(`location.pathname === "/login"`)
	b.open("/")
	b.until(`location.pathname === "/login"`)
}

func TestListFilterSortPageOpen(t *testing.T) {
	s := serve(t, newFake(2000))
	b := newTab(t, s.URL, 1440, 900)
	b.signIn(operatorToken)
	b.click(`.tile[href*="stalled"]`)
	b.until(`location.search === "?state=stalled" && document.querySelectorAll("tr[data-vm]").length === 10`)
	b.click(`nav.chips a:first-child`)
	b.until(`location.pathname === "/vms" && document.querySelectorAll("tr[data-vm]").length === 100`)

	b.do(chromedp.SendKeys(`input[name=text]`, "db-prod-0", chromedp.ByQuery))
	b.until(`location.search.includes("text=db-prod-0") && document.querySelectorAll("tr[data-vm]").length === 9`)
	if got := eval[string](b, `document.activeElement.name`); got != "text" {
		t.Errorf("while filtering the focus went to %q", got)
	}
	b.typeOver(`input[name=text]`, "<script>")
	b.until(`document.querySelector("#list .empty h3") !== null && document.querySelector("#list .empty h3").textContent === "No VM matches"`)
	b.click(`#list .empty a`)
	b.until(`location.search === "" && document.querySelectorAll("tr[data-vm]").length === 100`)

	b.click(`th.c-lag a`)
	b.until(`document.querySelector("th.c-lag").getAttribute("aria-sort") === "descending"`)
	first := eval[string](b, `document.querySelector("tr[data-vm]").dataset.name`)
	b.click(`a[rel=next]`)
	b.until(`location.search.includes("page=2") && document.querySelector(".pager span").textContent === "Page 2 of 20"`)
	if second := eval[string](b, `document.querySelector("tr[data-vm]").dataset.name`); second == first {
		t.Errorf("page 2 begins with %s as page 1 does", second)
	}
	name := eval[string](b, `document.querySelector("tr[data-vm]").dataset.name`)
	b.click(`tr[data-vm] .c-name a`)
	b.until(fmt.Sprintf(`document.querySelector("h1").textContent === %q`, name))
}

func TestPauseAsksFirst(t *testing.T) {
	f := newFake(50)
	b := newTab(t, serve(t, f).URL, 1280, 800)
	b.signIn(operatorToken)
	b.open(vmURL("vm-1004"))
	b.click(`[data-dialog=pause]`)
	b.until(`document.querySelector("#dialog-pause").open && document.querySelector("#dialog-pause [data-target]").textContent === "files-01"`)
	b.keys(kb.Escape)
	b.until(`!document.querySelector("#dialog-pause").open && document.activeElement.dataset.dialog === "pause"`)
	if look(f, func() bool { return f.vms[3].Paused }) {
		t.Fatal("it was paused although nobody said so")
	}
	b.click(`[data-dialog=pause]`)
	b.do(chromedp.SendKeys(`#dialog-pause input[name=why]`, "backup window", chromedp.ByQuery))
	b.click(`#dialog-pause [data-go]`)
	b.until(`document.querySelector("#status").textContent === "Paused files-01"`)
	b.until(`document.querySelector(".standing .badge").textContent.includes("Paused") && document.querySelector("[data-dialog=resume]") !== null`)
	if why := look(f, func() string { return f.vms[3].PausedWhy }); why != "backup window" {
		t.Errorf("the reason is %q", why)
	}
	if deed := look(f, func() schedule.Deed { return f.deeds[0] }); deed.Actor != "k.hansen" || deed.Result != "ok" || !strings.HasSuffix(deed.Action, "/pause") {
		t.Errorf("audit log: %+v", deed)
	}
}

func TestDisconnectNeedsTheName(t *testing.T) {
	f := newFake(50)
	b := newTab(t, serve(t, f).URL, 1280, 800)
	b.signIn(operatorToken)
	b.open(vmURL("vm-1004"))
	b.click(`[data-dialog=disconnect]`)
	b.until(`document.querySelector("#dialog-disconnect").open && document.activeElement.name === "typed"`)
	for typed, open := range map[string]bool{"files-0": false, "FILES-01": false, "files-01": true} {
		b.typeOver(`#dialog-disconnect input[name=typed]`, typed)
		if got := !eval[bool](b, `document.querySelector("#dialog-disconnect [data-go]").disabled`); got != open {
			t.Errorf("typed %q: the button is open: %v", typed, got)
		}
	}
	b.typeOver(`#dialog-disconnect input[name=typed]`, "nonsense"+kb.Enter)
	if look(f, func() schedule.Lifecycle { return f.vms[3].Lifecycle }) == schedule.Disconnected {
		t.Fatal("Enter went around the name")
	}
	b.typeOver(`#dialog-disconnect input[name=typed]`, "files-01"+kb.Enter)
	b.until(`document.querySelector("[data-dialog=reconnect]") !== null`)
	if got := look(f, func() schedule.Lifecycle { return f.vms[3].Lifecycle }); got != schedule.Disconnected {
		t.Errorf("the lifecycle is %s", got)
	}
}

func TestBulkAndWaves(t *testing.T) {
	f := newFake(60)
	b := newTab(t, serve(t, f).URL, 1440, 900)
	b.signIn(operatorToken)
	b.open("/waves")
	b.click(`[data-dialog=new-wave]`)
	b.do(chromedp.SendKeys(`#dialog-new-wave input[name=name]`, "night of <b>14</b> / a", chromedp.ByQuery))
	b.click(`#dialog-new-wave [data-go]`)
	b.until(`document.querySelector("h1").textContent === "night of <b>14</b> / a"`)
	b.click(`.actions a.primary`)
	b.until(`location.search.startsWith("?addto=")`)
	b.click(`tr[data-name=app01] [data-pick]`)
	b.click(`tr[data-name=app03] [data-pick]`)
	b.until(`document.querySelector("[data-bulk-count]").textContent === "2"`)
	b.click(`[data-bulk] [data-dialog=wave]`)
	b.until(`document.querySelector("#dialog-wave select").value === "night of <b>14</b> / a"`)
	b.click(`#dialog-wave [data-go]`)
	b.until(`document.querySelector("#status").textContent === "Added to the wave: 2 VMs: app01, app03"`)
	b.open("/waves/" + url.PathEscape("night of <b>14</b> / a"))
	b.until(`document.querySelectorAll("tr[data-vm]").length === 2`)
	b.click(`[data-dialog=pause][data-whole]`)
	b.until(`document.querySelector("#dialog-pause [data-target]").textContent.startsWith("All 2 VMs of the wave")`)
	b.click(`#dialog-pause [data-go]`)
	b.until(`[...document.querySelectorAll("tr[data-vm] .badge")].every((e) => e.textContent.includes("Paused"))`)

	b.open("/vms")
	b.click(`[data-pick-all]`)
	b.until(`document.querySelector("[data-bulk-count]").textContent === "60"`)
	b.click(`[data-bulk] [data-dialog=resume]`)
	b.click(`#dialog-resume [data-go]`)
	b.until(`/^\d+ of 60 refused\. .*it is not paused/.test(document.querySelector("#dialog-resume [data-problem]").textContent)`)
}

func TestLogArrives(t *testing.T) {
	f := newFake(50)
	s := serve(t, f)
	b := newTab(t, s.URL, 1280, 900)
	b.signIn(operatorToken)
	run := f.runs[0]
	b.open(fmt.Sprintf("/runs/%d", run.ID))
	b.until(`document.querySelectorAll(".log li").length === 7`)
	f.mu.Lock()
	for i := range 30 {
		f.log[run.ID] = append(f.log[run.ID], schedule.LogLine{Run: run.ID, Seq: int64(8 + i), At: theNow, Level: "warn", Text: fmt.Sprintf("line %d of %s", i, hostile)})
	}
	// A copy: pages that are being written hold the old ones.
	f.runs[0].Report.Disks = slices.Clone(f.runs[0].Report.Disks)
	f.runs[0].Report.Disks[0].Done = f.runs[0].Report.Disks[0].Blocks
	f.runs[0].State, f.runs[0].Ended = schedule.RunDone, theNow
	f.mu.Unlock()
	b.until(`document.querySelectorAll(".log li").length === 37 && document.querySelector(".log li:last-child").textContent.includes("<script>alert")`)
	b.until(`(() => { const l = document.querySelector(".log"); return l.scrollHeight - l.scrollTop - l.clientHeight < 5; })()`)
	b.until(`document.querySelector(".head .badge").textContent.includes("Done") && document.querySelector("[data-dialog=cancel]") === null`)
}

// untilPaused pauses a VM again and again until the page shows a script to be
// true: what happens before it listens is news to nobody.
func (b *tab) untilPaused(f *fake, i int, script string) {
	b.t.Helper()
	for range 200 {
		id := look(f, func() idT { return f.vms[i].ID })
		if _, err := f.Pause(b.t.Context(), schedule.Actor{Name: "somebody"}, []idT{id}, ""); err != nil {
			b.t.Fatal(err)
		}
		var ok bool
		if err := chromedp.Run(b.ctx, chromedp.Sleep(100*time.Millisecond), chromedp.Evaluate(script, &ok)); err == nil && ok {
			return
		}
	}
	b.fatal(errors.New("the page does not follow: " + script))
}

// TestLive changes the fleet under an open list and overview: numbers follow,
// rows stay.
func TestLive(t *testing.T) {
	f := newFake(300)
	b := newTab(t, serve(t, f).URL, 1440, 900)
	b.signIn(operatorToken)
	before := eval[int](b, `Number(document.querySelector('[data-live="tile-paused"] b').textContent)`)
	b.untilPaused(f, 0, fmt.Sprintf(`document.querySelector('[data-live="tile-paused"] b').textContent === "%d"`, before+1))

	b.open("/vms?sort=state")
	first := eval[string](b, `document.querySelector("tr[data-vm]").dataset.name`)
	b.click(`tr[data-vm] [data-pick]`)
	b.onNode(chromedp.Focus(`tr[data-vm] .c-name a`, chromedp.ByQuery))
	b.untilPaused(f, 2, `!document.querySelector("[data-stale]").hidden`)
	if now := eval[string](b, `document.querySelector("tr[data-vm]").dataset.name`); now != first {
		t.Errorf("the first row became %s from %s", now, first)
	}
	if !eval[bool](b, `document.querySelector("tr[data-vm] [data-pick]").checked && document.activeElement.closest("tr") === document.querySelector("tr[data-vm]")`) {
		t.Error("a refresh took selection or focus away")
	}
	b.click(`[data-reload]`)
	b.until(`document.readyState === "complete" && document.querySelector("[data-stale]").hidden`)
}

func TestTheme(t *testing.T) {
	b := newTab(t, serve(t, newFake(20)).URL, 1280, 800)
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}}))
	b.signIn(viewerToken)
	background := func() string { return eval[string](b, `getComputedStyle(document.body).backgroundColor`) }
	light := background()
	b.click(`[data-theme-toggle]`)
	b.until(`document.querySelector("[data-theme-label]").textContent === "Theme: dark"`)
	dark := background()
	b.open("/alarms")
	if light == dark || background() != dark {
		t.Errorf("light %s, dark %s, on the next page %s", light, dark, background())
	}
	b.click(`[data-theme-toggle]`)
	b.click(`[data-theme-toggle]`)
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	if got := background(); got != dark {
		t.Errorf("the system's dark gives %s", got)
	}
}

// TestKeyboard pauses a VM without a mouse.
func TestKeyboard(t *testing.T) {
	f := newFake(50)
	b := newTab(t, serve(t, f).URL, 1280, 800)
	b.open("/login")
	b.keys(operatorToken + kb.Enter)
	b.until(`document.readyState === "complete" && document.querySelector(".tiles") !== null`)
	b.keys(kb.Tab)
	b.until(`document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().top >= 0`)
	b.keys(kb.Enter)
	b.until(`document.activeElement.id === "main"`)
	b.open("/vms?text=files-01")
	b.tabTo(`document.activeElement.matches("tr[data-vm] .c-name a")`)
	if eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`) == "none" {
		t.Error("the focus cannot be seen")
	}
	b.keys(kb.Enter)
	b.until(`document.readyState === "complete" && document.querySelector("[data-dialog=pause]") !== null`)
	b.tabTo(`document.activeElement.dataset.dialog === "pause"`)
	b.keys(kb.Enter)
	b.until(`document.querySelector("#dialog-pause").open && document.activeElement.name === "why"`)
	b.keys("by keyboard" + kb.Tab + kb.Tab)
	b.until(`document.activeElement.matches("#dialog-pause [data-go]")`)
	b.keys(" ")
	b.until(`!document.querySelector("#dialog-pause").open && document.querySelector("[data-dialog=resume]") !== null`)
	if why := look(f, func() string { return f.vms[3].PausedWhy }); why != "by keyboard" {
		t.Errorf("the reason is %q", why)
	}
	if got := eval[string](b, `document.activeElement.dataset.dialog || document.activeElement.nodeName`); got != "resume" {
		t.Errorf("after the dialog the focus is on %q, not on the button that opened it", got)
	}
}

// typeOver puts other text into a field, by keys.
func (b *tab) typeOver(selector, text string) {
	b.t.Helper()
	b.do(chromedp.Focus(selector, chromedp.ByQuery), chromedp.Evaluate(`document.activeElement.select()`, nil), chromedp.KeyEvent(text))
}

// tabTo presses Tab until a script is true.
func (b *tab) tabTo(script string) {
	b.t.Helper()
	for range 60 {
		b.keys(kb.Tab)
		if eval[bool](b, script) {
			return
		}
	}
	b.t.Fatalf("60 presses of Tab do not reach %s", script)
}

func TestPhone(t *testing.T) {
	b := newTab(t, serve(t, newFake(300)).URL, 360, 740)
	b.signIn(operatorToken)
	if eval[bool](b, `document.querySelector("nav[aria-label=Main]").offsetParent !== null`) {
		t.Error("the menu is open from the start")
	}
	b.click(`[data-menu]`)
	b.until(`document.querySelector("[data-menu]").getAttribute("aria-expanded") === "true"`)
	b.click(`nav[aria-label=Main] a[href="/vms"]`)
	b.until(`location.pathname === "/vms"`)
	for _, s := range shots {
		b.open(s.path)
		if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 360 {
			worst := eval[string](b, `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > 361 && !e.closest(".scroll,.chips,.log")).map((e) => e.outerHTML.slice(0, 120)).slice(0, 3).join("\n")`)
			t.Errorf("%s is %d pixels wide:\n%s", s.path, wide, worst)
		}
	}
	b.open("/vms")
	b.click(`tr[data-vm] [data-pick]`)
	b.until(`!document.querySelector("[data-bulk]").hidden`)
	if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 360 {
		t.Errorf("with a selection the list is %d pixels wide", wide)
	}
}

// TestLayoutShift loads the list of 2,000 VMs, refreshes it and pages on.
func TestLayoutShift(t *testing.T) {
	f := newFake(2000)
	b := newTab(t, serve(t, f).URL, 1440, 900)
	b.do(chromedp.ActionFunc(func(ctx contextT) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(`window.shift = 0; new PerformanceObserver((l) => { for (const e of l.getEntries()) window.shift += e.value; }).observe({type: "layout-shift", buffered: true});`).Do(ctx)
		return err
	}))
	b.signIn(operatorToken)
	for i, path := range []string{"/", "/vms", "/vms?sort=lag&desc=1&page=7", vmURL("vm-1003")} {
		b.open(path)
		b.untilPaused(f, 20+i, `performance.getEntriesByType("resource").some((e) => e.initiatorType === "fetch" && e.responseEnd > 0)`)
		b.do(chromedp.Evaluate(`new Promise((ok) => requestAnimationFrame(() => requestAnimationFrame(() => ok(true))))`, nil, awaited))
		shift := eval[float64](b, `window.shift`)
		t.Logf("%s: layout shift %.4f", path, shift)
		if shift >= 0.1 {
			t.Errorf("%s moves while it loads and refreshes: %.3f", path, shift)
		}
	}
	b.open("/vms?sort=lag&desc=1")
	if heights := eval[[]float64](b, `[...new Set([...document.querySelectorAll("tr[data-vm]")].map((r) => Math.round(r.getBoundingClientRect().height)))]`); len(heights) != 1 {
		t.Errorf("rows are %v pixels high: they move when a state changes", heights)
	}
	b.do(chromedp.Evaluate(`{ const p = document.createElement("p"); p.style.height = "300px"; document.querySelector("main").prepend(p); }`, nil))
	b.until(`window.shift > 0.1`) // the measure can fail
}

// TestWithoutScripts reads everything with JavaScript off.
func TestWithoutScripts(t *testing.T) {
	b := newTab(t, serve(t, newFake(300)).URL, 1280, 800)
	b.do(emulation.SetScriptExecutionDisabled(true))
	b.open("/login")
	b.do(chromedp.SendKeys(`input[name=token]`, operatorToken+kb.Enter, chromedp.ByQuery), chromedp.WaitVisible(`.tiles`, chromedp.ByQuery))
	for _, s := range shots {
		var text string
		b.open(s.path)
		b.onNode(chromedp.Text(`main`, &text, chromedp.ByQuery))
		if len(text) < 100 {
			t.Errorf("%s shows %q", s.path, text)
		}
		b.do(chromedp.Evaluate(`[...document.querySelectorAll("[data-dialog],[data-pick],[data-theme-toggle]")].filter((e) => e.offsetParent).map((e) => e.outerHTML).join("\n")`, &text))
		if text != "" {
			t.Errorf("%s shows what only works with scripts: %.300s", s.path, text)
		}
	}
}
