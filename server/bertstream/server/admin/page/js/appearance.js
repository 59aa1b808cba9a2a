// Light or dark: as the system says, until somebody says otherwise. It runs before the page is drawn, so nothing flashes.
(() => {
  "use strict";
  const KEPT = "bertstream-appearance";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = localStorage.getItem(KEPT);
  if (chosen === "light" || chosen === "dark") root.dataset.appearance = chosen;

  const isDark = () => (root.dataset.appearance ?? (system.matches ? "dark" : "light")) === "dark";

  function tell() {
    document.getElementById("appearance")?.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("appearance")); // what is drawn on a canvas is drawn anew
  }

  function toggle() {
    const next = isDark() ? "light" : "dark";
    if ((next === "dark") === system.matches) {
      delete root.dataset.appearance;
      localStorage.removeItem(KEPT);
    } else {
      root.dataset.appearance = next;
      localStorage.setItem(KEPT, next);
    }
    tell();
  }

  system.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("appearance").addEventListener("click", toggle);
    tell();
  });
})();
