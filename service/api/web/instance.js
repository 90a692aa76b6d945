// The panel about the instance that answers, to compare machines; asked for while it is open.

import { byId, element, fill, whenChanged } from "./dom.js";
import { showProblem } from "./problem.js";
import * as service from "./service.js";

const EVERY_MS = 5000;
const HEAD = ["Model", "Ready", "Loading", "Failed", "Rollout"];

export function startInstance() {
  const panel = byId("instance");
  const draw = whenChanged(drawInstance);
  const ask = async () => {
    if (!panel.open || document.hidden) return;
    let error = null;
    try {
      draw(await service.instance());
    } catch (failure) {
      error = failure;
    }
    showProblem(byId("instance-problem"), error);
  };
  panel.addEventListener("toggle", ask);
  setInterval(ask, EVERY_MS);
}

function drawInstance({ instance, release, workers, models, store }) {
  const followed = store ? `, follows ${store.address}${store.problem ? ` (${store.problem})` : ""}` : "";
  const rows = Object.entries(models).map(([name, { ready, loading, failed, rollout, next_rollout: next }]) => [
    name,
    ...[ready, loading, failed].map((versions) => versions.join(", ") || "–"),
    (rollout ?? "differs") + (next ? ` → ${next}` : ""),
  ]);
  fill(
    byId("instance-body"),
    element("p", {}, `${instance}: release ${release}, ${workers} ${workers === 1 ? "process" : "processes"}${followed}`),
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, HEAD.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell) => element("td", {}, cell))))),
    ),
  );
}
