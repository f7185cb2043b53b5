// The VM list: filters that take effect while typing, and the selection.
import { refresh } from "./live.js";
import { localize } from "./time.js";

const picks = () => [...document.querySelectorAll("[data-pick]")];

// selected are the chosen VMs as {id, name}.
export function selected() {
  return picks().filter((p) => p.checked).map((p) => {
    const row = p.closest("[data-vm]");
    return { id: row.dataset.vm, name: row.dataset.name };
  });
}

export function clearSelection() {
  for (const p of picks()) p.checked = false;
  show();
}

function show() {
  const bar = document.querySelector("[data-bulk]");
  if (!bar) return;
  const all = picks(), n = all.filter((p) => p.checked).length;
  bar.hidden = n === 0;
  document.body.classList.toggle("picking", n > 0);
  bar.querySelector("[data-bulk-count]").textContent = String(n);
  for (const p of all) p.closest("tr").classList.toggle("picked", p.checked);
  const whole = document.querySelector("[data-pick-all]");
  if (whole) { whole.checked = n > 0 && n === all.length; whole.indeterminate = n > 0 && n < all.length; }
}

let turn = 0;
async function filter(form) {
  const mine = ++turn;
  const fields = new URLSearchParams();
  for (const [key, value] of new FormData(form)) if (value) fields.set(key, value);
  const url = form.action + (fields.size ? "?" + fields : "");
  const doc = await refresh(url);
  if (!doc || mine !== turn) return; // a newer filter is on its way
  history.replaceState(null, "", url);
  localize(doc);
  for (const part of ["#list", '[data-live="v-chips"]', '[data-live="v-sum"]']) {
    const from = doc.querySelector(part), to = document.querySelector(part);
    if (from && to) to.replaceChildren(...[...from.childNodes].map((n) => document.importNode(n, true)));
  }
  document.querySelector("[data-stale]").hidden = true;
  show();
}

export function startList() {
  document.addEventListener("change", (e) => {
    if (e.target.matches("[data-pick-all]")) for (const p of picks()) p.checked = e.target.checked;
    if (e.target.matches("[data-pick], [data-pick-all]")) show();
  });
  document.addEventListener("click", (e) => { if (e.target.closest("[data-bulk-clear]")) clearSelection(); });
  const form = document.querySelector("[data-filter]");
  if (form) {
    let timer;
    form.addEventListener("input", (e) => {
      clearTimeout(timer);
      timer = setTimeout(() => filter(form), e.target.type === "search" ? 250 : 0);
    });
    form.addEventListener("submit", (e) => { e.preventDefault(); clearTimeout(timer); filter(form); });
  }
  show(); // browsers restore ticks when going back
}
