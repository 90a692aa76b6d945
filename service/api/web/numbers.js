// The live numbers in the page's header, while the page is visible.

import { byId } from "./dom.js";
import { count, milliseconds, rate } from "./format.js";
import * as service from "./service.js";

const EVERY_MS = 2000;
const FORMATS = { requests_per_s: rate, queue_rows: count, p50_ms: milliseconds, p99_ms: milliseconds };

/** `onFailure` is called when the numbers can't be requested. */
export function startNumbers(onFailure) {
  const places = document.querySelectorAll("#numbers [data-number]");
  const show = (statistics) => {
    for (const place of places) {
      const value = statistics?.[place.dataset.number] ?? null;
      place.textContent = value === null ? "–" : FORMATS[place.dataset.number](value);
    }
  };
  const ask = async () => {
    if (document.hidden) return;
    show(await service.statistics().catch(onFailure));
  };
  ask();
  setInterval(ask, EVERY_MS);
  document.addEventListener("visibilitychange", ask);
}

export function showReadiness(list, error) {
  const place = byId("readiness");
  const ready = list?.models.filter((model) => model.state === "ready").length ?? 0;
  const state = error ? "gone" : ready ? "ready" : "waiting";
  const words = {
    gone: "not reachable",
    waiting: "no model is ready yet",
    ready: list ? `${ready} ${ready === 1 ? "model" : "models"} ready` : "",
  }[state];
  place.dataset.state = state;
  const text = place.lastElementChild;
  if (text.textContent !== words) text.textContent = words;
}
