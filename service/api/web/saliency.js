// What mattered: the options, the overlay on the picture, and the result in words.

import { askAgain, explanationKey, isWaiting } from "./asking.js";
import { byId, element, fill, whenChanged } from "./dom.js";
import { count, percent, points } from "./format.js";
import { showProblem } from "./problem.js";
import { changed, entryOf, labelsOf, state } from "./state.js";

/** In 32nds of the smaller side. */
const PATCHES = [4, 6, 8, 12, 16];
const STRIDES = [1, 2, 3, 4, 6, 8];
const PARTS = 32;
const FOR = [255, 150, 20];
const AGAINST = [40, 120, 255];

export function startSaliency() {
  let patches = [];
  onChoice("explain-class", (value) => ({ classId: value === "" ? null : Number(value) }));
  onChoice("explain-patch", (value) => {
    const patch = Number(value);
    return { patch, stride: Math.min(patch, state.explain.stride) };
  });
  onChoice("explain-stride", (value) => {
    const stride = Number(value);
    return { stride, patch: patches.find((patch) => patch >= Math.max(stride, state.explain.patch)) };
  });
  const offerClasses = whenChanged((labels) => {
    offer("explain-class", [["", "predicted class"], ...labels.map((label, classId) => [classId, label])]);
    if (state.explain.classId >= labels.length) explainWith({ classId: null });
    byId("explain-class").value = state.explain.classId ?? "";
  });
  const offerSizes = whenChanged((side) => {
    patches = pixelsOf(PATCHES, side);
    offer("explain-patch", patches.map((pixels) => [pixels, inPixels(pixels)]));
    offer("explain-stride", pixelsOf(STRIDES, side).map((pixels) => [pixels, inPixels(pixels)]));
    if (!patches.includes(state.explain.patch)) explainWith({ patch: pixelsOf([8], side)[0], stride: pixelsOf([4], side)[0] });
  });
  byId("explain-on").addEventListener("change", (event) => explainWith({ on: event.target.checked }));

  const showResult = whenChanged(({ waiting }, explanation) => {
    const place = byId("explain-result");
    if (explanation?.error) showProblem(place, explanation.error, () => askAgain(state.current));
    else if (explanation) fill(place, ...inWords(explanation));
    else fill(place, waiting ? element("p", { class: "by" }, "computing") : null);
  });
  return ({ current: picture, chosen, explain, list, mode }) => {
    const labels = labelsOf(chosen);
    if (labels) offerClasses(labels);
    if (chosen) {
      offerSizes(Math.min(...(entryOf(list, chosen)?.input_shape?.slice(0, 2) ?? [PARTS])));
    }
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

function onChoice(id, changeOf) {
  byId(id).addEventListener("change", (event) => explainWith(changeOf(event.target.value)));
}

function offer(id, options) {
  byId(id).replaceChildren(...options.map(([value, text]) => element("option", { value: String(value) }, text)));
}

const pixelsOf = (parts, side) => [...new Set(parts.map((part) => Math.max(1, Math.round((part * side) / PARTS))))];

const inPixels = (pixels) => (pixels === 1 ? "1 pixel" : `${pixels} pixels`);

function inWords({ label, confidence, importance, images }) {
  const values = importance.flat();
  const strongest = values.reduce((most, value) => Math.max(most, value));
  const weakest = values.reduce((least, value) => Math.min(least, value));
  const placeOf = (value) => partOf(values.indexOf(value), importance[0].length, importance.length);
  const legend = element(
    "div",
    { class: "legend" },
    element("span", {}, `against ${label}`),
    element("span", { class: "ramp", "aria-hidden": "true" }),
    element("span", {}, `for ${label}`),
  );
  const most =
    strongest >= 0.0005
      ? `Hiding the ${placeOf(strongest)} lowers the probability of ${label} (${percent(confidence)}) by ${points(strongest)}.`
      : `Hiding a single square never lowers the probability of ${label} (${percent(confidence)}).`;
  const least = weakest <= -0.005 ? ` Hiding the ${placeOf(weakest)} raises it by ${points(-weakest)}.` : "";
  return [legend, element("p", {}, most + least), element("p", { class: "hint" }, `${count(images)} images were computed.`)];
}

function partOf(index, width, height) {
  const third = (position, side) => Math.min(2, Math.floor((position * 3) / side));
  const row = ["top", "middle", "bottom"][third(Math.floor(index / width), height)];
  const column = ["left", "centre", "right"][third(index % width, width)];
  if (column === "centre") return row === "middle" ? "centre" : `${row} part`;
  return row === "middle" ? `${column} part` : `${row} ${column}`;
}

/** The importance as an overlay: orange where a part supports the class, blue where it counts against it. */
export function drawImportance({ label, importance }) {
  const [width, height] = [importance[0].length, importance.length];
  const canvas = element("canvas", { width, height, role: "img", "aria-label": `What mattered for ${label}` });
  const values = importance.flat();
  const greatest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, place) => {
    const share = Math.abs(value) / greatest;
    pixels.data.set([...(value > 0 ? FOR : AGAINST), Math.round(230 * share ** 0.8)], place * 4);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}
