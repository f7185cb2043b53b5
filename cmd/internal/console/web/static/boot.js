// Runs before the first paint, so that the page never flashes in the wrong
// theme nor without what only scripts can do.
(function () {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("snapferry-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (e) { /* storage is forbidden: the system's theme holds */ }
})();
