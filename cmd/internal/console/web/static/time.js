// Times: the server writes UTC, the browser shows its own zone and keeps
// "12 min ago" true. The clock is the server's: the browser's may be wrong.
let serverNow = Number(document.documentElement.dataset.now || Date.now());
let seenAt = performance.now();

export function now() { return serverNow + performance.now() - seenAt; }

export function setNow(ms) {
  if (ms) { serverNow = Number(ms); seenAt = performance.now(); }
}

const two = (n) => String(n).padStart(2, "0");
const zones = new Intl.DateTimeFormat("en", { timeZoneName: "short" });
export function zone(d) {
  const part = zones.formatToParts(d).find((p) => p.type === "timeZoneName");
  return part ? part.value : "";
}

// span says the same as the server's format.go.
export function span(s) {
  const pair = (a, unitA, b, unitB) => (b ? `${a} ${unitA} ${b} ${unitB}` : `${a} ${unitA}`);
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return pair(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return pair(Math.floor(s / 86400), "d", Math.floor(s / 3600) % 24, "h");
}

function relative(d) {
  const s = Math.round((now() - d) / 1000);
  if (s <= -1) return "in " + span(-s);
  return s < 1 ? "just now" : span(s) + " ago";
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const date = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
const minute = (d) => `${two(d.getHours())}:${two(d.getMinutes())}`;
const words = {
  rel: relative,
  full: (d) => `${date(d)} ${minute(d)} ${zone(d)}`,
  sec: (d) => `${minute(d)}:${two(d.getSeconds())}`,
  min: minute,
  day: (d) => `${d.getDate()} ${months[d.getMonth()]}`,
};

// fullTime is an instant with its date, as pages write it.
export function fullTime(at) { return words.full(new Date(at)); }

function write(e, kind, at) {
  const d = new Date(at);
  if (!words[kind] || isNaN(d)) return;
  const text = words[kind](d);
  if (e.textContent !== text) e.textContent = text;
}

// localize rewrites every time below a node.
export function localize(node) {
  for (const e of node.querySelectorAll("time[data-time]")) write(e, e.dataset.time, e.dateTime);
  for (const e of node.querySelectorAll("text[data-axis]")) write(e, e.dataset.axis, e.dataset.at);
}

export function startTimes() {
  localize(document);
  for (const e of document.querySelectorAll("[data-zone]")) e.textContent = `Times in ${zone(new Date())}`;
  // Ten seconds: nobody needs every second, and a number that runs distracts.
  setInterval(() => {
    if (document.hidden) return;
    for (const e of document.querySelectorAll('time[data-time="rel"]')) write(e, "rel", e.dateTime);
  }, 10000);
}
