// The probabilities as bars: of few classes all, in their order, so that two answers can be compared.

import { element } from "./dom.js";
import { percent } from "./format.js";

/** So many bars at most; of more classes the most probable ones have one, the most probable first. */
export const MAX_BARS = 10;

/** Longer labels get more of the width. */
const MAX_SHORT = 12;

/** Return {root, show}: `show(prediction, labels)` moves the bars; a prediction of null clears them. */
export function makeBars() {
  const root = element("ol", { class: "bars", "aria-label": "Probability of each class" });
  let rows = [];
  let shown = "";
  const renew = (classes) => {
    const now = JSON.stringify(classes.map(({ class_id, label }) => [class_id, label]));
    if (now === shown) return;
    shown = now;
    rows = classes.map(({ class_id, label }) => rowOf(class_id, label));
    root.classList.toggle("wide", classes.some(({ label }) => label.length > MAX_SHORT));
    root.replaceChildren(...rows.map(({ row }) => row));
  };
  const show = (prediction, labels = null) => {
    renew(prediction ? inOrder(prediction.top) : ofLabels(labels));
    const probabilities = new Map(prediction?.top.map((entry) => [entry.class_id, entry.probability]));
    for (const { row, fill, value, classId } of rows) {
      const probability = probabilities.get(classId);
      fill.style.setProperty("--share", probability ?? 0);
      value.textContent = probability === undefined ? "" : percent(probability);
      row.classList.toggle("best", classId === prediction?.class_id);
    }
  };
  return { root, show };
}

function rowOf(classId, label) {
  const fill = element("span", { class: "fill" });
  const value = element("span", { class: "value" });
  const row = element(
    "li",
    {},
    element("span", { class: "label", title: label }, label),
    element("span", { class: "track", "aria-hidden": "true" }, fill),
    value,
  );
  return { row, fill, value, classId };
}

/** Few classes in their order; of many the most probable ones as they came. */
function inOrder(top) {
  const isWhole = top.length <= MAX_BARS && Math.max(...top.map(({ class_id }) => class_id)) === top.length - 1;
  return isWhole ? [...top].sort((one, other) => one.class_id - other.class_id) : top;
}

const ofLabels = (labels) => (labels && labels.length <= MAX_BARS ? labels.map((label, class_id) => ({ class_id, label })) : []);
