// The ten probabilities as bars, in the order of the classes, so that two answers can be compared.

import { element } from "./dom.js";
import { percent } from "./format.js";

export const CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/** Return {root, show}: `show(prediction)` moves the bars; null clears them. */
export function makeBars() {
  const rows = CLASSES.map((label) => {
    const fill = element("span", { class: "fill" });
    const value = element("span", { class: "value" });
    const row = element(
      "li",
      {},
      element("span", { class: "label" }, label),
      element("span", { class: "track", "aria-hidden": "true" }, fill),
      value,
    );
    return { row, fill, value };
  });
  const show = (prediction) => {
    const probabilities = new Map(prediction?.top.map((entry) => [entry.class_id, entry.probability]));
    rows.forEach(({ row, fill, value }, classId) => {
      const probability = probabilities.get(classId);
      fill.style.setProperty("--share", probability ?? 0);
      value.textContent = probability === undefined ? "" : percent(probability);
      row.classList.toggle("best", classId === prediction?.class_id);
    });
  };
  return { root: element("ol", { class: "bars", "aria-label": "Probability of each class" }, rows.map(({ row }) => row)), show };
}
