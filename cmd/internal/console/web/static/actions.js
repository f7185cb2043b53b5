// Actions: every one asks in a dialog first, those that end something ask for
// the VM's name.
import { call, tell, base } from "./api.js";
import { refresh } from "./live.js";
import { selected, clearSelection } from "./list.js";
import { wishOf, preview, clearPreview, stopPreview, mustLook, holds } from "./launch.js";
import { fullTime } from "./time.js";

const marks = ["ready-for-cutover", "ready-for-test", "disconnect", "reconnect"];
const done = {
  pause: "Paused", resume: "Resumed", sync: "Queued", cancel: "Cancelling", policy: "Policy chosen for", wave: "Added to the wave:", unwave: "Removed from the wave:",
  "launch-test": "Test queued for", "launch-test-done": "End of the test queued for", "launch-cutover": "Cutover queued for", "launch-revert": "Revert queued for", "launch-discard": "Deletion queued of the reverted instance of", "launch-finalize": "Finalize queued for", "launch-cancel": "Cancelling the launch run of",
  "ready-for-cutover": "Ready for cutover:", "ready-for-test": "Ready for test:", disconnect: "Disconnected", reconnect: "Reconnected",
};
let target = null; // {vms: [{id, name}], wave: name when all of it is meant, preview: where the dry run of it is}

function targetOf(button) {
  const wave = document.querySelector("[data-wave]");
  if (button.hasAttribute("data-whole")) return { vms: [], wave: wave.dataset.wave, count: Number(wave.dataset.count), warning: button.dataset.warning, preview: `${base}/waves/${encodeURIComponent(wave.dataset.wave)}/preview` };
  if (button.closest("[data-bulk]")) return { vms: selected() };
  const self = button.closest("[data-self]");
  if (self) return { vms: [{ id: self.dataset.vm, name: self.dataset.name }], preview: self.dataset.preview };
  return { vms: [] };
}

function describe(t) {
  if (t.wave) return t.count === 1 ? `The one VM of the wave ${t.wave}` : `All ${t.count} VMs of the wave ${t.wave}`;
  const names = t.vms.map((v) => v.name);
  if (names.length === 1) return names[0];
  const some = names.slice(0, 5).join(", ");
  return `${names.length} VMs: ${some}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`;
}

function fill(dialog, key) {
  const form = dialog.querySelector("form");
  form.reset();
  dialog.querySelector("[data-problem]").textContent = "";
  const place = dialog.querySelector("[data-target]");
  if (place) place.textContent = describe(target);
  for (const name of ["why", "seed"]) { // a wave's actions take neither
    const field = form.elements[name];
    if (field) field.closest("label").hidden = Boolean(target.wave);
  }
  for (const label of dialog.querySelectorAll("[data-single]")) label.hidden = target.vms.length !== 1;
  const warn = dialog.querySelector("[data-warn]");
  if (warn) warn.textContent = target.warning || "";
  const many = dialog.querySelector("[data-many]");
  if (many) many.hidden = key === "launch-cancel" || target.vms.length === 1;
  const typed = form.elements.typed;
  if (typed) {
    dialog.querySelector("[data-typed-name]").textContent = nameOf(target);
    typed.oninput = () => gate(dialog);
  }
  clearPreview(dialog, target.preview, !target.wave);
  const select = dialog.querySelector("select[data-options]");
  if (select) options(select, key);
  const wave = document.querySelector("[data-wave]");
  if (key === "edit-wave") { form.elements.name.value = wave.dataset.wave; form.elements.note.value = wave.dataset.note; }
}

const nameOf = (t) => t.wave || t.vms[0].name;

// gate opens the button of a dialog once the name is typed and the dry run, if
// it asks for one, says that nothing is in the way.
function gate(dialog) {
  const form = dialog.querySelector("form"), go = dialog.querySelector("[data-go]");
  const typed = form.elements.typed, held = holds(dialog);
  go.hidden = held === "no";
  go.disabled = held !== "" || Boolean(typed && typed.value !== nameOf(target));
}

function look(dialog) {
  if (target.preview) preview(dialog, target.preview, () => gate(dialog));
}

function options(select, key) {
  for (const o of [...select.options]) if (o.value) o.remove(); // but what stands for none
  const list = document.getElementById("options-" + select.dataset.options);
  const waves = list ? [...list.options].map((o) => o.value) : [];
  if (list) for (const o of list.options) select.add(new Option(o.dataset.at ? `${fullTime(o.dataset.at)}, ${o.label}` : o.value, o.value));
  const wanted = new URLSearchParams(location.search).get("addto");
  if (key === "wave" && wanted && waves.includes(wanted)) select.value = wanted;
  if (key === "wave" && !waves.length) select.closest("dialog").querySelector("[data-problem]").textContent = "There is no wave yet: create one under Waves first.";
}

// act does what a dialog says; it returns the list of results, if any.
async function act(key, form, t) {
  const ids = t.vms.map((v) => v.id);
  const field = (name) => (form.elements[name] ? form.elements[name].value.trim() : "");
  switch (key) {
    case "new-wave": {
      // Saving replaces: a name that exists must not lose its members.
      const { waves } = await call("GET", "/waves");
      if (waves.some((w) => w.name === field("name"))) throw new Error("There is a wave of this name already. Choose another name.");
      return call("PUT", "/waves/" + encodeURIComponent(field("name")), { note: field("note"), vms: [] });
    }
    case "edit-wave": return change(field("name"), (w) => ({ note: field("note"), vms: w.vms }));
    case "delete-wave": return call("DELETE", "/waves/" + encodeURIComponent(document.querySelector("[data-wave]").dataset.wave));
    case "wave": return change(field("wave"), (w) => ({ note: w.note, vms: [...w.vms.filter((v) => !ids.includes(idOf(v))), ...ids.map(vmOf)] }));
    case "unwave": return change(document.querySelector("[data-wave]").dataset.wave, (w) => ({ note: w.note, vms: w.vms.filter((v) => !ids.includes(idOf(v))) }));
  }
  if (key.startsWith("launch-")) return launch(key, form, t);
  if (t.wave) return call("POST", `/waves/${encodeURIComponent(t.wave)}/${key}`, {});
  const more = {};
  if (key === "pause" && field("why")) more.why = field("why");
  if (key === "sync" && form.elements.seed.checked) more.seed = true;
  if (key === "policy") more.policy = field("policy");
  if (ids.length > 1) return call("POST", "/actions", { action: key, vms: ids, ...more });
  const path = "/vms/" + encodeURIComponent(ids[0]);
  return marks.includes(key) ? call("POST", path + "/mark", { as: key }) : call("POST", `${path}/${key}`, more);
}

// launch asks for a launch of a VM, of several or of a wave, or takes it back.
function launch(key, form, t) {
  const discard = key === "launch-discard", cancel = key === "launch-cancel";
  const action = discard ? "revert" : key.slice("launch-".length), ids = t.vms.map((v) => v.id);
  const wish = cancel ? {} : discard ? { discard } : wishOf(form);
  if (t.wave) return call("POST", `/waves/${encodeURIComponent(t.wave)}/${cancel ? "cancel-launch" : action}`, wish);
  if (ids.length === 1) return call("POST", `/vms/${encodeURIComponent(ids[0])}/launch/${action}`, wish);
  return call("POST", cancel ? "/actions" : "/launches", cancel ? { action: "cancel-launch", vms: ids } : { action, vms: ids, wish });
}

const idOf = (v) => v.vcenter + ":" + v.moref;
const vmOf = (id) => { const i = id.indexOf(":"); return { vcenter: id.slice(0, i), moref: id.slice(i + 1) }; };

async function change(name, edit) {
  const path = "/waves/" + encodeURIComponent(name);
  const wave = await call("GET", path);
  return call("PUT", path, edit({ ...wave, vms: wave.vms || [] }));
}

async function submit(form) {
  const key = form.dataset.act, dialog = form.closest("dialog");
  const go = form.querySelector("[data-go]"), problem = form.querySelector("[data-problem]");
  if (go.disabled) return;
  const busy = form.querySelector("[data-busy]");
  go.disabled = true;
  if (busy) busy.hidden = false;
  problem.textContent = "";
  try {
    const answer = await act(key, form, target);
    const all = answer.done || [answer], refused = all.filter((d) => d.error);
    if (refused.length) {
      problem.textContent = `${refused.length} of ${all.length} refused. ` + refused.slice(0, 5).map((d) => `${d.name || d.vm.moref}: ${d.error}`).join("; ");
      refresh();
      return;
    }
    dialog.close();
    after(key, form);
  } catch (e) {
    problem.textContent = e.message;
  } finally {
    if (busy) busy.hidden = true;
    gate(dialog);
  }
}

function after(key, form) {
  const page = { "new-wave": () => base + "/waves/" + encodeURIComponent(form.elements.name.value.trim()), "delete-wave": () => base + "/waves" }[key];
  if (page) { location.assign(page()); return; }
  if (key === "edit-wave" || key === "unwave") { location.reload(); return; }
  tell(`${done[key] || "Done:"} ${describe(target)}`);
  clearSelection();
  refresh();
}

export function startActions() {
  document.addEventListener("click", (e) => {
    const opener = e.target.closest("[data-dialog]");
    if (opener) {
      const dialog = document.getElementById("dialog-" + opener.dataset.dialog);
      target = targetOf(opener);
      fill(dialog, opener.dataset.dialog);
      gate(dialog);
      dialog.showModal();
      if (mustLook(dialog)) look(dialog);
      return;
    }
    const close = e.target.closest("[data-close]");
    if (close) close.closest("dialog").close();
    const ask = e.target.closest("[data-preview-ask]");
    if (ask) look(ask.closest("dialog"));
  });
  // Another wish is another dry run; one that was only asked for goes stale.
  document.addEventListener("change", (e) => {
    const dialog = e.target.closest("dialog");
    if (!dialog || e.target.name === "typed") return;
    if (mustLook(dialog)) look(dialog);
    else if (dialog.querySelector("[data-preview-box]")) clearPreview(dialog, target.preview, !target.wave);
  });
  for (const d of document.querySelectorAll("dialog")) d.addEventListener("close", stopPreview);
  document.addEventListener("submit", (e) => {
    if (!e.target.matches("[data-act]")) return;
    e.preventDefault();
    submit(e.target);
  });
}
