package web_test

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"snapferry/transfer"
)

type idT = transfer.VMID

// awaited makes Evaluate wait for a promise.
func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

// audit looks through a page as it is shown. Each fault is a line.
const audit = `(() => {
  const faults = [];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length;
  const say = (what, e) => faults.push(what + ": " + e.outerHTML.slice(0, 160));
  const text = (e) => (e ? e.textContent.trim() : "");
  const named = (e) => text(e) || e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => text(document.getElementById(id))).join("") ||
    (e.labels && [...e.labels].map(text).join("")) || (e.querySelector("img[alt]:not([alt=''])") || {}).alt;
  for (const e of document.querySelectorAll("a[href],button,input:not([type=hidden]),select,textarea,summary,progress,[role=img],[role=region],[role=log],dialog")) if (!named(e)) say("no name", e);
  for (const e of document.querySelectorAll("img:not([alt])")) say("no alt", e);
  for (const e of document.querySelectorAll("table")) { if (!e.caption) say("no caption", e); for (const h of e.querySelectorAll("thead th")) if (h.getAttribute("scope") !== "col") say("no scope", h); }
  for (const e of document.querySelectorAll("tbody tr")) if (!e.querySelector("th[scope=row]")) say("no row header", e);
  if (document.querySelectorAll("h1").length !== 1) faults.push("headings h1: " + document.querySelectorAll("h1").length);
  if (document.querySelectorAll("main").length !== 1) faults.push("no main");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push("id twice: " + id);
  for (const e of document.querySelectorAll("[aria-labelledby],[aria-controls]")) for (const a of ["aria-labelledby", "aria-controls"]) for (const id of (e.getAttribute(a) || "").split(" ")) if (id && !document.getElementById(id)) say("points to nothing", e);
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) say("tabindex above 0", e);

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (c) => {
    if (!known.has(c)) { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); known.set(c, [...canvas.getImageData(0, 0, 1, 1).data]); }
    return known.get(c);
  };
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] / 255 + under[i] * (1 - top[3] / 255));
  const ground = (e) => { const all = []; for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3]) all.push(c); if (c[3] === 255) break; } return all.reverse().reduce((u, c) => over(c, u), [255, 255, 255]); };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  let looked = 0;
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !shown(e) || e.closest("[disabled], progress")) continue; // a progress shows its bar, not its text
    const style = getComputedStyle(e), under = ground(e);
    const own = rgba(e instanceof SVGElement ? style.fill : style.color);
    const a = light(over(own, under)), b = light(under);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    looked++;
    if (contrast < 4.5) say("contrast " + contrast.toFixed(2), e);
  }
  if (looked < 8) faults.push("only " + looked + " texts were looked at");
  return [...new Set(faults)].slice(0, 12).join("\n");
})()`

// TestAccess audits every page in both themes, with each dialog open.
func TestAccess(t *testing.T) {
	b := newTab(t, serve(t, newFake(200)).URL, 1440, 900)
	check := func(what string) {
		t.Helper()
		for _, theme := range []string{"light", "dark"} {
			b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}))
			if faults := eval[string](b, audit); faults != "" {
				t.Errorf("%s, %s:\n%s", what, theme, faults)
			}
		}
	}
	b.open("/login?error=wrong")
	check("login")
	b.signIn(operatorToken)
	for _, path := range everyPage() {
		b.open(path)
		check(path)
	}
	b.open(vmURL("vm-1004"))
	b.do(chromedp.Evaluate(`for (const d of document.querySelectorAll("dialog")) d.setAttribute("open", "")`, nil))
	check("dialogs")
	b.open(vmURL(readyVM))
	b.click(`[data-dialog=launch-cutover]`)
	b.until(`document.querySelector("#dialog-launch-cutover [data-possible]") !== null`)
	check("forecast")
}

// TestAuditFinds proves that the audit can fail.
func TestAuditFinds(t *testing.T) {
	b := newTab(t, serve(t, newFake(20)).URL, 1280, 800)
	b.signIn(viewerToken)
	b.do(chromedp.Evaluate(`{ const p = document.createElement("p"); p.textContent = "faint"; p.style.color = "light-dark(#999, #555)"; const k = document.createElement("button"); document.querySelector("main").append(p, k); }`, nil))
	faults := eval[string](b, audit)
	for _, want := range []string{"contrast", "faint", "no name: <button"} {
		if !strings.Contains(faults, want) {
			t.Errorf("the audit does not find %q: %s", want, faults)
		}
	}
}

// TestTimesAreLocal checks the browser's zone, and that script and server say
// the same.
func TestTimesAreLocal(t *testing.T) {
	b := newTab(t, serve(t, newFake(100)).URL, 1280, 800)
	b.signIn(viewerToken)
	b.until(`document.querySelector('[data-live="o-sum"] time').textContent === "2026-03-10 10:42 GMT+1"`)
	if title := eval[string](b, `document.querySelector('[data-live="o-sum"] time').title`); title != "2026-03-10 09:42:00 UTC" {
		t.Errorf("the title is %q", title)
	}
	b.open("/events?view=audit")
	var differ string
	b.do(chromedp.Evaluate(`(async () => {
	  const script = document.querySelector("script[type=module]").src, text = await (await fetch(script)).text();
	  const { localize, setNow } = await import(new URL(text.match(/"(\.\/time-[0-9a-f]+\.js)"/)[1], script).href);
	  const raw = new DOMParser().parseFromString(await (await fetch("/vms?sort=next")).text(), "text/html");
	  const times = [...raw.querySelectorAll('time[data-time="rel"]')], said = times.map((e) => e.textContent);
	  setNow(raw.documentElement.dataset.now);
	  localize(raw);
	  const seconds = /\d+ s\b/;
	  return times.length < 20 ? "too few" : times.map((e, i) => [said[i], e.textContent]).filter(([a, b]) => a !== b && !seconds.test(a)).map((p) => p.join(" / ")).slice(0, 3).join("; ");
	})()`, &differ, awaited))
	if differ != "" {
		t.Errorf("server and script differ: %s", differ)
	}
}
