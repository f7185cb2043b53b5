// Keeps a page fresh: the server renders it again, and every part marked
// data-live takes over what is new. Nothing that a person looks at moves: rows
// stay where they are, and a list that has changed offers to be shown anew.
import { base, api } from "./api.js";
import { morph } from "./morph.js";
import { localize, setNow } from "./time.js";

const least = 2000; // ms between two refreshes, however many events come
let last = 0, waiting = 0, poll = 0, source = null, running = null, again = false;

function keys(doc) {
  return [...doc.querySelectorAll("#list [data-key]")].map((e) => e.dataset.key).join("\n");
}

// apply takes a fresh copy of the page over.
function apply(doc) {
  setNow(doc.documentElement.dataset.now);
  localize(doc);
  const fresh = new Map([...doc.querySelectorAll("[data-live]")].map((e) => [e.dataset.live, e]));
  for (const e of document.querySelectorAll("[data-live]")) {
    const to = fresh.get(e.dataset.live);
    if (to && !inUse(e, to)) tail(e, () => morph(e, to));
  }
  const stale = document.querySelector("[data-stale]");
  if (stale && document.getElementById("list")) stale.hidden = keys(document) === keys(doc);
  // A page that was waiting for something to run gets its parts from a reload,
  // which only its being loaded anew can bring.
  const here = document.querySelector("[data-log]"), there = doc.querySelector("[data-log]");
  const which = (e) => (e ? e.dataset.log : "");
  if (which(here) !== which(there) && which(there) && !document.querySelector("dialog[open]")) location.reload();
  schedule(Number(doc.documentElement.dataset.poll || 0));
}

// tail keeps those at a log's end who are there.
function tail(e, change) {
  const log = () => e.querySelector("[data-tail]");
  const old = log(), atEnd = !old || old.scrollHeight - old.scrollTop - old.clientHeight < 30;
  change();
  if (atEnd && log()) log().scrollTop = log().scrollHeight;
}

// inUse: rows would come or go under the pointer or the focus of a reader.
function inUse(a, b) {
  const rows = (e) => [...e.querySelectorAll("tr[data-key]")].map((r) => r.dataset.key).join("\n");
  if (rows(a) === rows(b)) return false;
  return a.contains(document.activeElement) || a.matches(":hover");
}

export async function refresh(url) {
  if (running && !url) { again = true; return null; } // the one under way may be older than what is asked for
  last = performance.now();
  if (running) running.abort();
  const mine = running = new AbortController();
  const offline = document.getElementById("connection");
  try {
    const response = await fetch(url || location.href, { headers: { Accept: "text/html" }, signal: mine.signal });
    if (response.redirected && new URL(response.url).pathname === base + "/login") {
      location.assign(response.url);
      return null;
    }
    if (!response.ok && response.status !== 404) throw new Error(response.statusText);
    const doc = new DOMParser().parseFromString(await response.text(), "text/html");
    if (mine.signal.aborted) return null;
    if (offline.textContent) { offline.textContent = ""; offline.classList.remove("shown"); }
    if (!url) apply(doc);
    return doc;
  } catch (e) {
    if (e.name !== "AbortError" && offline && !document.hidden) {
      offline.textContent = "The service does not answer. What you see is from the last time it did; this page keeps trying.";
      offline.classList.add("shown");
    }
    return null;
  } finally {
    if (running === mine) {
      running = null;
      if (again) { again = false; soon(); }
    }
  }
}

function soon() {
  if (waiting || document.hidden) return;
  waiting = setTimeout(() => { waiting = 0; refresh(); }, Math.max(200, last + least - performance.now()));
}

let every = 0;
function schedule(seconds) {
  if (seconds === every && poll) return;
  clearInterval(poll);
  every = seconds;
  poll = seconds && !document.hidden ? setInterval(() => { if (!running) refresh(); }, seconds * 1000) : 0;
}

function listen() {
  if (source || !document.documentElement.dataset.poll) return;
  source = new EventSource(api + "/events");
  source.onmessage = soon;
}

function hush() {
  clearInterval(poll);
  clearTimeout(waiting);
  poll = waiting = 0;
  if (source) { source.close(); source = null; }
}

export function startLive() {
  if (!document.getElementById("connection")) return; // the login page
  const begin = () => { schedule(Number(document.documentElement.dataset.poll || 0)); listen(); };
  // A tab that nobody sees asks for nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { hush(); return; }
    begin();
    refresh();
  });
  window.addEventListener("pagehide", hush);
  window.addEventListener("pageshow", (e) => { if (e.persisted) { begin(); refresh(); } });
  for (const b of document.querySelectorAll("[data-reload]")) b.addEventListener("click", () => location.reload());
  for (const log of document.querySelectorAll("[data-tail]")) log.scrollTop = log.scrollHeight;
  begin();
}
