// A run's log by server-sent events: lines are added at the end, and the view
// stays at the end only for those who are there.
import { api } from "./api.js";
import { refresh } from "./live.js";

const mostLines = 5000; // kept in the page; older ones are dropped

function line(l) {
  const li = document.createElement("li");
  li.className = "l-" + l.level;
  li.dataset.seq = l.seq;
  const time = document.createElement("time");
  const d = new Date(l.at);
  time.dateTime = l.at;
  time.title = d.toISOString().replace("T", " ").slice(0, 19) + " UTC";
  time.textContent = d.toTimeString().slice(0, 8);
  const level = document.createElement("b");
  level.textContent = l.level;
  const text = document.createElement("span");
  text.textContent = l.text;
  li.append(time, " ", level, " ", text);
  return li;
}

function follow(list) {
  let last = Number(list.dataset.after || 0), source = null, over = false;
  const end = () => { list.scrollTop = list.scrollHeight; };
  const close = () => { if (source) { source.close(); source = null; } };
  const open = () => {
    if (source || over || document.hidden) return;
    source = new EventSource(`${api}/runs/${list.dataset.log}/log?after=${last}`);
    source.onmessage = (e) => {
      const l = JSON.parse(e.data);
      if (l.seq <= last) return;
      last = l.seq;
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
      list.append(line(l));
      while (list.children.length > mostLines) list.firstElementChild.remove();
      if (atEnd) end();
    };
    source.addEventListener("end", () => { over = true; close(); if (!list.hasAttribute("data-ended")) refresh(); });
  };
  end();
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (e) => { if (e.persisted) open(); });
  open();
}

export function startLogs() {
  for (const list of document.querySelectorAll("[data-log]")) {
    // An ended run may have more lines than the page came with: the stream
    // brings them and ends.
    follow(list);
  }
}
