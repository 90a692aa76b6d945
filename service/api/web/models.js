// The live list of models with state, accuracy and size, and the selection of one.

import { byId, element, fill, whenChanged } from "./dom.js";
import { count, parameters, percent, size } from "./format.js";
import { showReadiness } from "./numbers.js";
import { showProblem } from "./problem.js";
import * as service from "./service.js";
import { changed, readyVersions, state, titleOf } from "./state.js";

const EVERY_MS = 10_000;
const WHILE_LOADING_MS = 1000;
const RUNTIMES = { openvino: "OpenVINO", tensorflow: "TensorFlow" };

let timer;

export function startModels() {
  const draw = whenChanged((_, list, chosen) => drawModels(list, chosen));
  const drawProblem = whenChanged((_, error, retry) => showProblem(byId("models-problem"), error, retry));
  lookAgain();
  document.addEventListener("visibilitychange", lookAgain);
  return ({ list, listError, chosen, instead }) => {
    showReadiness(list, listError);
    const error = listError ?? (instead && new service.ServiceError(instead));
    drawProblem(error?.problem ?? null, error, list ? null : lookAgain);
    if (list) draw([list, chosen], list, chosen);
  };
}

/** Request the list now, then at intervals. */
export async function lookAgain() {
  if (!document.hidden) await renew();
  clearTimeout(timer);
  const loading = !state.chosen || state.listError || state.list.models.some((model) => model.state === "loading");
  timer = setTimeout(lookAgain, loading ? WHILE_LOADING_MS : EVERY_MS);
}

async function renew() {
  try {
    const list = await service.models();
    // The service is back: retry the requests that failed while it was away.
    if (state.listError) for (const picture of state.pictures) picture.forgetErrors(({ problem }) => !problem?.status);
    const { wanted } = state;
    const chosen = isReady(list, wanted) ? wanted : defaultOf(list);
    changed({ list, listError: null, chosen, instead: wanted && chosen && chosen !== wanted ? inWords(wanted, chosen, list) : null });
  } catch (error) {
    changed({ listError: error });
  }
}

function inWords(gone, chosen, list) {
  return {
    title: `${gone.title}, version ${gone.version} is not available`,
    detail: `${titleOf(list, chosen.model)}, version ${chosen.version} answers instead`,
  };
}

function isReady(list, wanted) {
  const model = list.models.find(({ name }) => name === wanted?.model);
  return model?.versions.some(({ version, state }) => version === wanted.version && state === "ready");
}

function defaultOf(list) {
  const ready = readyVersions(list);
  return ready.find(({ model }) => model === list.default_model) ?? ready[0] ?? null;
}

function drawModels(list, chosen) {
  const tested = new Set(list.models.flatMap(({ versions }) => versions).map(({ test_images }) => test_images).filter(Boolean));
  const images = tested.size === 1 ? `${count([...tested][0])} test images` : "each model's own test images";
  const mark = list.models.some(({ tutorial }) => tutorial) ? "; the mark shows the tutorial's" : "";
  byId("models-hint").textContent =
    `${RUNTIMES[list.runtime]} ${list.runtime_version} on the ${list.device.toUpperCase()}.` +
    (tested.size ? ` Accuracy on ${images}, stored with each version${mark}.` : "");
  const groups = byLabels(list.models);
  fill(
    byId("models"),
    groups.map(({ title, models }) => [
      groups.length > 1 ? element("h3", { class: "labels" }, title) : null,
      element("ul", { class: "list", "aria-label": title }, models.map((model) => rowOf(model, chosen))),
    ]).flat(),
  );
}

/** Models with the same labels, in the order of the list. */
function byLabels(models) {
  const groups = new Map();
  for (const model of models) {
    const { label_set: key, classes, first_labels: first } = serving(model);
    if (!groups.has(key)) groups.set(key, { title: titleOfLabels(classes, first), models: [] });
    groups.get(key).models.push(model);
  }
  return [...groups.values()];
}

function titleOfLabels(classes, first) {
  if (!first) return "Labels not known";
  return `${count(classes)} classes: ${first.join(", ")}${classes > first.length ? ", …" : ""}`;
}

function rowOf(model, chosen) {
  const isChosen = chosen?.model === model.name;
  const shown = (isChosen && model.versions.find(({ version }) => version === chosen.version)) || serving(model);
  const usable = model.serving_version !== null;
  const radio = element("input", {
    type: "radio",
    name: "model",
    id: `model-${model.name}`,
    checked: isChosen,
    disabled: !usable,
    onchange: () => choose(model, model.serving_version),
  });
  return element(
    "li",
    { class: "model", "data-state": model.state },
    element("label", { for: radio.id }, radio, element("span", { class: "name" }, model.title), model.default ? element("span", { class: "tag" }, "default") : null),
    versionsOf(model, shown, isChosen),
    accuracyOf(shown, model.tutorial),
    element("p", { class: "facts" }, factsOf(shown)),
    usable ? null : element("p", { class: "reason" }, `${shown.state}${shown.reason ? `: ${shown.reason}` : ""}`),
  );
}

function choose({ name, title }, version) {
  const wanted = { model: name, version, title };
  changed({ wanted, chosen: wanted, instead: null });
}

const serving = (model) => model.versions.find(({ version }) => version === model.serving_version) ?? model.versions[0];

function versionsOf(model, shown, isChosen) {
  if (model.versions.length === 1) return element("span", { class: "version" }, versionText(shown, false));
  const options = model.versions.map((entry) =>
    element(
      "option",
      { value: String(entry.version), selected: entry === shown, disabled: entry.state !== "ready" },
      versionText(entry, true),
    ),
  );
  const onchange = (event) => choose(model, Number(event.target.value));
  return element("select", { class: "version", id: `version-${model.name}`, "aria-label": `Version of ${model.title}`, "data-chosen": isChosen, onchange }, options);
}

function versionText({ version, recipe, state: versionState }, withState) {
  const words = [`v${version}`, recipe, withState && versionState !== "ready" ? versionState : null];
  return words.filter(Boolean).join(", ");
}

function accuracyOf({ test_accuracy: accuracy }, tutorial) {
  const bar = element("span", { class: "accuracy", "aria-hidden": "true" });
  bar.style.setProperty("--share", accuracy ?? 0);
  if (tutorial) {
    const mark = element("span", { class: "mark", title: `tutorial: ${percent(tutorial.test_accuracy)}` });
    mark.style.setProperty("--share", tutorial.test_accuracy);
    bar.append(mark);
  }
  return bar;
}

function factsOf({ test_accuracy: accuracy, precision, parameters: weights, size_bytes: bytes }) {
  const facts = [
    accuracy !== null ? element("strong", {}, percent(accuracy)) : precision ? "not measured" : null,
    weights === null ? null : `${parameters(weights)} parameters`,
    bytes === null ? null : size(bytes),
    precision ?? null,
  ];
  return facts.filter(Boolean).flatMap((fact, place) => (place ? [" · ", fact] : [fact]));
}
