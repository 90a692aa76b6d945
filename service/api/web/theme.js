// Light, dark, or the system's theme; stored in this browser.

import { byId } from "./dom.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const KEY = "theme";

export function startTheme() {
  const button = byId("theme");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  let theme = remembered();
  show(theme);
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    show(theme);
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage is not allowed: the choice lasts until the page is closed.
    }
  });
}

function remembered() {
  try {
    const theme = localStorage.getItem(KEY);
    return theme in NEXT ? theme : "auto";
  } catch {
    return "auto";
  }
}
