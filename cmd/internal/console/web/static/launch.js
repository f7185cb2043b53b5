// What dialogs about launches need: the wish that their fields say, and the dry
// run that is shown before anything is asked for.
import { base } from "./api.js";
import { localize } from "./time.js";

const flags = ["force", "prove", "forceOff", "skipPreSync", "discard", "stopTracking"];
const words = ["point", "for", "points"];

// wishOf reads a dialog's fields; what is hidden was not asked.
export function wishOf(form) {
  const wish = {};
  const field = (name) => { const e = form.elements[name]; return e && !e.closest("[hidden]") ? e : null; };
  for (const name of flags) if (field(name) && field(name).checked) wish[name] = true;
  for (const name of words) if (field(name) && field(name).value) wish[name] = field(name).value;
  return wish;
}

let asking = null; // the dry run under way

export function stopPreview() {
  if (asking) asking.abort();
  asking = null;
}

// clearPreview readies a dialog. Where its target is one VM or a wave the dry run
// can be asked for; that of one VM may be a condition, and then is must.
export function clearPreview(dialog, where, must) {
  const box = dialog.querySelector("[data-preview-box]");
  stopPreview();
  if (!box) return;
  box.hidden = !where;
  box.dataset.state = "none";
  box.toggleAttribute("data-free", !must);
  box.querySelector("[data-preview-place]").replaceChildren();
  box.querySelector("[data-preview-wait]").hidden = true;
  const ask = box.querySelector("[data-preview-ask]");
  ask.hidden = false;
  ask.textContent = "Show what it would do";
}

const conditional = (dialog) => dialog.querySelector("[data-preview-box=auto]:not([data-free])");

// mustLook: the dry run is a condition of what the dialog does.
export const mustLook = (dialog) => conditional(dialog) !== null;

// holds says what a dry run keeps from happening: "wait" until it is there, "no"
// where it says that the action would be refused.
export function holds(dialog) {
  const box = conditional(dialog);
  if (!box || box.hidden || box.dataset.state === "possible") return "";
  return box.dataset.state === "refused" ? "no" : "wait";
}

function problem(text) {
  const p = document.createElement("p");
  p.className = "problem";
  p.textContent = text;
  return p;
}

// preview shows the dry run of a dialog's action; changed is called whenever
// what it holds up is another.
export async function preview(dialog, where, changed) {
  const box = dialog.querySelector("[data-preview-box]"), form = dialog.querySelector("form");
  stopPreview();
  const mine = asking = new AbortController();
  const place = box.querySelector("[data-preview-place]"), wait = box.querySelector("[data-preview-wait]"), ask = box.querySelector("[data-preview-ask]");
  const query = new URLSearchParams({ action: form.dataset.act.replace("launch-", "") });
  for (const [name, value] of Object.entries(wishOf(form))) query.set(name, value === true ? "on" : value);
  box.dataset.state = "waiting";
  place.replaceChildren();
  wait.hidden = false;
  ask.hidden = true;
  changed();
  let state = "refused";
  try {
    const response = await fetch(`${where}?${query}`, { headers: { Accept: "text/html" }, signal: mine.signal });
    const doc = new DOMParser().parseFromString(await response.text(), "text/html");
    const answer = doc.querySelector("[data-preview-answer]");
    if (mine.signal.aborted) return;
    if (response.status === 401) { location.assign(`${base}/login?next=` + encodeURIComponent(location.pathname.slice(base.length))); return; }
    localize(doc);
    place.replaceChildren(answer ? document.importNode(answer, true) : problem(`The service could not look (${response.status}).`));
    if (answer && answer.hasAttribute("data-possible")) state = "possible";
  } catch (e) {
    if (e.name === "AbortError") return;
    place.replaceChildren(problem("The service does not answer. Nothing was changed."));
  }
  if (asking === mine) asking = null;
  wait.hidden = true;
  ask.hidden = false;
  ask.textContent = "Look again";
  box.dataset.state = state;
  changed();
}
