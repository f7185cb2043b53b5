// The theme (the system's unless somebody chose one) and the phone's menu.
const names = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const next = { "": "dark", dark: "light", light: "" };

export function startTheme() {
  const root = document.documentElement;
  const buttons = document.querySelectorAll("[data-theme-toggle]");
  const show = () => {
    for (const label of document.querySelectorAll("[data-theme-label]")) label.textContent = names[root.dataset.theme || ""];
  };
  for (const b of buttons) b.addEventListener("click", () => {
    const theme = next[root.dataset.theme || ""];
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    try {
      if (theme) localStorage.setItem("snapferry-theme", theme); else localStorage.removeItem("snapferry-theme");
    } catch (e) { /* it holds for this page alone then */ }
    show();
  });
  show();

  const menu = document.querySelector("[data-menu]");
  const drawer = document.getElementById("nav");
  if (!menu) return;
  const open = (yes) => {
    menu.setAttribute("aria-expanded", String(yes));
    drawer.classList.toggle("open", yes);
  };
  menu.addEventListener("click", () => open(menu.getAttribute("aria-expanded") !== "true"));
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && drawer.classList.contains("open")) { open(false); menu.focus(); }
  });
}
