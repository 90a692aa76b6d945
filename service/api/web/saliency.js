// What mattered: the options, the overlay on the picture, and the result in words.

import { askAgain, explanationKey, isWaiting } from "./asking.js";
import { CLASSES } from "./bars.js";
import { byId, element, fill, whenChanged } from "./dom.js";
import { count, percent, points } from "./format.js";
import { showProblem } from "./problem.js";
import { changed, state } from "./state.js";

const SIDE = 32;
const PATCHES = [4, 6, 8, 12, 16];
const STRIDES = [1, 2, 3, 4, 6, 8];
const FOR = [255, 150, 20];
const AGAINST = [40, 120, 255];

export function startSaliency() {
  const classes = [["", "predicted class"], ...CLASSES.map((label, classId) => [classId, label])];
  choices("explain-class", classes, (value) => ({ classId: value === "" ? null : Number(value) }));
  choices("explain-patch", PATCHES.map((pixels) => [pixels, `${pixels} pixels`]), (value) => {
    const patch = Number(value);
    return { patch, stride: Math.min(patch, state.explain.stride) };
  });
  choices("explain-stride", STRIDES.map((pixels) => [pixels, pixels === 1 ? "1 pixel" : `${pixels} pixels`]), (value) => {
    const stride = Number(value);
    return { stride, patch: PATCHES.find((patch) => patch >= Math.max(stride, state.explain.patch)) };
  });
  byId("explain-on").addEventListener("change", (event) => explainWith({ on: event.target.checked }));

  const showResult = whenChanged(({ waiting }, explanation) => {
    const place = byId("explain-result");
    if (explanation?.error) showProblem(place, explanation.error, () => askAgain(state.current));
    else if (explanation) fill(place, ...inWords(explanation));
    else fill(place, waiting ? element("p", { class: "by" }, "computing") : null);
  });
  return ({ current: picture, chosen, explain, mode }) => {
    byId("explain").hidden = !picture || Boolean(picture.error) || mode === "all";
    byId("explain-patch").value = explain.patch;
    byId("explain-stride").value = explain.stride;
    if (!picture || !chosen) return;
    const key = explanationKey(chosen, explain);
    const explanation = explain.on ? picture.explanations.get(key) ?? null : null;
    showResult({ id: picture.id, key, on: explain.on, there: Boolean(explanation), waiting: isWaiting(picture, `explain ${key}`) }, explanation);
  };
}

function explainWith(change) {
  changed({ explain: { ...state.explain, ...change } });
}

function choices(id, options, changeOf) {
  const select = byId(id);
  select.append(...options.map(([value, text]) => element("option", { value: String(value) }, text)));
  select.addEventListener("change", () => explainWith(changeOf(select.value)));
}

function inWords({ label, confidence, importance, images }) {
  const values = importance.flat();
  const strongest = Math.max(...values);
  const weakest = Math.min(...values);
  const legend = element(
    "div",
    { class: "legend" },
    element("span", {}, `against ${label}`),
    element("span", { class: "ramp", "aria-hidden": "true" }),
    element("span", {}, `for ${label}`),
  );
  const most =
    strongest >= 0.0005
      ? `Hiding the ${placeOf(values.indexOf(strongest))} lowers the probability of ${label} (${percent(confidence)}) by ${points(strongest)}.`
      : `Hiding a single square never lowers the probability of ${label} (${percent(confidence)}).`;
  const least = weakest <= -0.005 ? ` Hiding the ${placeOf(values.indexOf(weakest))} raises it by ${points(-weakest)}.` : "";
  return [legend, element("p", {}, most + least), element("p", { class: "hint" }, `${count(images)} images were computed.`)];
}

function placeOf(index) {
  const third = (position) => Math.min(2, Math.floor((position * 3) / SIDE));
  const row = ["top", "middle", "bottom"][third(Math.floor(index / SIDE))];
  const column = ["left", "centre", "right"][third(index % SIDE)];
  if (column === "centre") return row === "middle" ? "centre" : `${row} part`;
  return row === "middle" ? `${column} part` : `${row} ${column}`;
}

/** The importance as an overlay: orange where a part supports the class, blue where it counts against it. */
export function drawImportance({ label, importance }) {
  const canvas = element("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": `What mattered for ${label}` });
  const values = importance.flat();
  const greatest = Math.max(1e-6, ...values.map(Math.abs));
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  values.forEach((value, place) => {
    const share = Math.abs(value) / greatest;
    pixels.data.set([...(value > 0 ? FOR : AGAINST), Math.round(230 * share ** 0.8)], place * 4);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}
