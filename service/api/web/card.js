// The card of the selected version: metadata in words, plots, and its results next to the tutorial's.

import { byId, element, fill, whenChanged } from "./dom.js";
import { count, day, duration, fixed, inWords as numberInWords, percent, size } from "./format.js";
import { showProblem } from "./problem.js";
import * as service from "./service.js";
import { changed, keyOf, state } from "./state.js";

const PLOTS = {
  learning_curves: "Learning curves",
  confusion_matrix: "Confusion matrix",
  sample_predictions: "Sample predictions",
};
const RUNTIMES = { openvino: "OpenVINO", tensorflow: "TensorFlow" };

export function startCard() {
  const known = new Map();
  let away = false;
  const ask = async (chosen) => {
    const key = keyOf(chosen);
    known.set(key, { waiting: true });
    try {
      const metadata = await service.metadata(chosen.model, chosen.version);
      state.metadata.set(key, metadata);
      known.set(key, { metadata });
    } catch (error) {
      known.set(key, { error });
    }
    changed();
  };
  const draw = whenChanged((_, entry, model, list, retry) => {
    if (entry.metadata) {
      drawBrand(entry.metadata);
      drawCard(entry.metadata, model, list);
    } else if (entry.error) showProblem(byId("card"), entry.error, retry);
  });
  return ({ chosen, list, listError }) => {
    if (away && !listError) for (const [key, { error }] of known) if (error) known.delete(key);
    away = Boolean(listError);
    if (!chosen) return;
    const key = keyOf(chosen);
    if (!known.has(key)) ask(chosen);
    const entry = known.get(key);
    draw([key, Boolean(entry.metadata), Boolean(entry.error)], entry, list.models.find(({ name }) => name === chosen.model), list, () => ask(chosen));
  };
}

/** What the chosen version knows of the world, in the page's head. */
function drawBrand({ dataset, title, labels, signatures }) {
  const name = dataset?.name ?? title;
  const [, height, width] = signatures.find(({ name }) => name === "serving_default").inputs[0].shape;
  const takes = `${numberInWords(labels.length)} classes at ${height === width ? "" : `${height} by `}${width} pixels`;
  byId("dataset").textContent = name;
  byId("takes").textContent = takes;
  document.title = `${name}, ${takes}`;
}

function drawCard(metadata, model, list) {
  const tutorial = model?.tutorial ?? null;
  const served = model?.versions.find(({ version }) => version === metadata.version);
  const tested = evaluationOf(metadata, served?.precision ?? list.precision, list.runtime);
  const raw = service.address(`models/${metadata.name}/versions/${metadata.version}`);
  fill(
    byId("card"),
    element(
      "div",
      { class: "panel-head" },
      element("h2", { id: "card-title" }, `${metadata.title}, version ${metadata.version}`),
      element("a", { href: raw }, "raw metadata"),
    ),
    element(
      "div",
      { class: "columns" },
      element("div", { class: "prose" }, inWords(metadata, tested).map((text) => element("p", {}, text)), tutorial && tested ? besideTutorial(metadata, tested, tutorial) : null),
      tested ? perClass(tested) : null,
    ),
    element("div", { class: "plots" }, Object.keys(PLOTS).filter((name) => name in metadata.plots).map((name) => plotOf(metadata, name))),
  );
}

/** The stored evaluation on the test set in the precision in which the version answers, preferably by this runtime. */
function evaluationOf({ evaluations }, precision, runtime) {
  const matching = evaluations.filter((entry) => entry.split === "test" && entry.precision === precision);
  return matching.find((entry) => entry.runtime === runtime) ?? matching[0] ?? null;
}

function inWords({ architecture, parameters, export: exported, recipe, training, imported, dataset, published_at }, tested) {
  const frozen = parameters.total - parameters.trainable;
  const schedule = [recipe.epochs && `${recipe.epochs} epochs`, recipe.batch_size && `batches of ${recipe.batch_size}`, recipe.optimizer].filter(Boolean);
  const start = recipe.backbone_weights && recipe.backbone_weights !== "none" ? `, from ${recipe.backbone_weights} weights` : "";
  const words = [
    `Architecture: ${architecture}; ${count(parameters.total)} parameters${frozen ? ` (${count(parameters.trainable)} trained)` : ""}, ${size(exported.size_bytes)} on disk.`,
    training ? `Trained with the recipe “${recipe.name}”${start} on ${count(dataset.train)} images of ${dataset.name}: ${schedule.join(", ")}; ${duration(training.wall_time_s)} on ${training.hardware}, published on ${day(published_at)}.` : `Imported from ${imported.file_name} (${imported.source}); pixels are scaled by ${imported.scaling}. Published on ${day(published_at)}.`,
  ];
  if (tested) {
    const weakest = tested.per_class.reduce((least, entry) => (entry.f1 < least.f1 ? entry : least));
    words.push(
      `On the ${count(tested.n)} test images${training ? ", which were not used for training" : ""}, it classifies ${count(tested.correct)} correctly (${percent(tested.accuracy)}; ${RUNTIMES[tested.runtime]}, ${tested.precision}).${tested.top_k_accuracy["3"] ? ` Its top-3 accuracy is ${percent(tested.top_k_accuracy["3"])}.` : ""} It is weakest on ${weakest.label}. Its confidence is off by ${percent(tested.expected_calibration_error)} on average.`,
    );
  }
  else words.push("Its accuracy was not measured.");
  return words;
}

function besideTutorial({ parameters }, tested, tutorial) {
  const rows = [
    ["test accuracy", percent(tested.accuracy), percent(tutorial.test_accuracy)],
    ["test loss", fixed(tested.loss), fixed(tutorial.test_loss)],
    ["parameters", count(parameters.total), count(tutorial.parameters)],
    ["trained parameters", count(parameters.trainable), count(tutorial.trainable)],
  ];
  return element(
    "table",
    {},
    element("caption", {}, "Compared with the tutorial that this project reproduces (2023, TensorFlow 2.10, 20 epochs)"),
    element("thead", {}, element("tr", {}, ["", "here", "tutorial"].map((head) => (head ? element("th", { scope: "col" }, head) : element("td"))))),
    element("tbody", {}, rows.map(([head, ...cells]) => element("tr", {}, element("th", { scope: "row" }, head), cells.map((cell) => element("td", {}, cell))))),
  );
}

/** So many classes have a row; of more, the weakest ones until all are asked for. */
const MAX_ROWS = 20;

function perClass({ per_class: results }) {
  const isLong = results.length > MAX_ROWS;
  const weakest = [...results].sort((one, other) => one.f1 - other.f1).slice(0, MAX_ROWS);
  const place = element("div", { class: "results" });
  const all = isLong ? element("button", { type: "button", class: "quiet", onclick: () => fill(place, tableOf(results, "Results by class on the test set")) }, `Show all ${count(results.length)} classes`) : null;
  fill(place, tableOf(isLong ? weakest : results, isLong ? `The ${MAX_ROWS} weakest classes on the test set` : "Results by class on the test set"), all);
  return place;
}

function tableOf(results, caption) {
  const cell = (share) => {
    const made = element("td", { class: "share" }, percent(share));
    made.style.setProperty("--share", share);
    return made;
  };
  return element(
    "table",
    { class: "classes" },
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ["class", "precision", "recall", "F1"].map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, results.map(({ label, precision, recall, f1 }) => element("tr", {}, element("th", { scope: "row" }, label), [precision, recall, f1].map(cell)))),
  );
}

function plotOf({ name, version, title }, plot) {
  const url = service.address(`models/${name}/versions/${version}/plots/${plot}`);
  return element(
    "figure",
    {},
    element("a", { href: url }, element("img", { src: url, alt: `${PLOTS[plot]} of ${title}, version ${version}`, loading: "lazy" })),
    element("figcaption", {}, PLOTS[plot]),
  );
}
