// Runs before the first paint, so that a chosen theme does not flash. The rest is in theme.js.
(() => {
  try {
    const chosen = localStorage.getItem("rocinante-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // No storage (private mode): the system's theme it is.
  }
})();
