// Light or dark: the system's choice until the user makes one.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

export function startTheme(button) {
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("rocinante-theme", root.dataset.theme);
    } catch {
      // Kept for this visit only.
    }
    show();
  });
  system.addEventListener("change", show);
  show();
}
