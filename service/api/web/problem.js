// Shows an error next to the part that failed.

import { element, fill } from "./dom.js";
import { ServiceError } from "./service.js";

/** Show an error in this place, or (null) clear it; `retry` adds a button. */
export function showProblem(place, error, retry = null) {
  if (!error) {
    if (place.hasChildNodes()) place.replaceChildren();
    return;
  }
  const { title, detail, expected, remedy } = problemOf(error);
  fill(
    place,
    element(
      "div",
      { class: "problem" },
      element("strong", {}, title),
      element("p", {}, sentence(detail)),
      expected ? element("p", {}, `Expected: ${expected}.`) : null,
      remedy ? element("p", {}, sentence(remedy)) : null,
      retry ? element("button", { type: "button", onclick: retry }, "Try again") : null,
    ),
  );
}

function problemOf(error) {
  if (error instanceof ServiceError) return error.problem;
  return { title: "This page failed", detail: String(error), remedy: "Reload the page. If it fails again, please report it." };
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
