// The answer for the picture: of one model, or of all ready models side by side.

import { askAgain, isOfThePicture, isWaiting } from "./asking.js";
import { makeBars, MAX_BARS } from "./bars.js";
import { byId, element, fill, whenChanged } from "./dom.js";
import { inWords, milliseconds, percent } from "./format.js";
import { showProblem } from "./problem.js";
import { ServiceError } from "./service.js";
import { changed, keyOf, labelsOf, titleOf } from "./state.js";

const PARTS = [["decode_ms", "decode"], ["queue_ms", "queue"], ["compute_ms", "compute"]];

export function startAnswers() {
  byId("mode").addEventListener("change", (event) => changed({ mode: event.target.value }));
  const single = makeSingle();
  const all = makeComparison();
  return ({ current: picture, chosen, mode, list }) => {
    const body = byId("answer-body");
    const busy = Boolean(picture && chosen && !picture.error && !hasAnswer(picture, chosen, mode));
    body.setAttribute("aria-busy", String(busy));
    const error = picture?.error;
    showProblem(byId("answer-problem"), error, error && !isOfThePicture(error) ? () => askAgain(picture) : null);
    body.hidden = Boolean(picture?.error);
    const view = mode === "all" ? all : single;
    if (body.firstElementChild !== view.root) body.replaceChildren(view.root);
    view.show(picture, chosen, list);
  };
}

function hasAnswer(picture, chosen, mode) {
  return mode === "all" ? picture.comparison : picture.answers.has(keyOf(chosen)) && !isWaiting(picture, keyOf(chosen));
}

function makeSingle() {
  const label = element("span", { class: "label" });
  const confidence = element("span", { class: "confidence" });
  const by = element("p", { class: "by" });
  const bars = makeBars();
  const times = element("div");
  const showTimes = whenChanged((timings) => fill(times, timings ? timingsOf(timings) : null));
  const root = element(
    "div",
    { class: "single" },
    element("div", { "aria-live": "polite" }, element("p", { class: "headline" }, label, confidence), by),
    bars.root,
    times,
  );
  const show = (picture, chosen, list) => {
    const answer = picture && chosen ? picture.answers.get(keyOf(chosen)) : null;
    const prediction = answer?.prediction;
    const labels = labelsOf(chosen);
    setText(label, prediction?.label ?? (picture ? "…" : "No picture yet"));
    setText(confidence, prediction ? percent(prediction.confidence) : "");
    setText(by, prediction ? `${titleOf(list, answer.model)}, version ${answer.version}` : picture ? "computing" : invitation(labels));
    root.classList.toggle("empty", !prediction);
    bars.show(prediction ?? null, labels);
    showTimes(answer?.timings ?? null);
  };
  return { root, show };
}

const invitation = (labels) => (labels ? `The model knows ${labels.length > MAX_BARS ? "" : "these "}${inWords(labels.length)} classes.` : "");

function makeComparison() {
  const root = element("div", { class: "comparison" });
  const draw = whenChanged(({ comparison, titles }, picture) => {
    const retry = () => askAgain(picture);
    if (!comparison) {
      fill(root, element("p", { class: "by" }, titles ? "computing" : "All ready models answer, side by side."));
      return;
    }
    const { agreement, answers } = comparison;
    fill(
      root,
      element("div", { "aria-live": "polite" }, agreementOf(agreement)),
      element("ul", { class: "cards" }, answers.map((answer) => cardOf(answer, agreement, titles[answer.model], retry))),
    );
  });
  const show = (picture, _, list) => {
    const titles = picture ? Object.fromEntries((list?.models ?? []).map((model) => [model.name, model.title])) : null;
    draw({ id: picture?.id, comparison: picture?.comparison ?? null, titles }, picture);
  };
  return { root, show };
}

function agreementOf({ label, models, of }) {
  if (!of) return element("p", { class: "by" }, "No model could answer.");
  const who = models === of ? (of === 1 ? "Only one model answered." : `All ${of} models agree.`) : `${models} of ${of} models agree.`;
  return [element("p", { class: "headline" }, element("span", { class: "label" }, label)), element("p", { class: "by" }, who)];
}

function cardOf({ model, version, prediction, error, timings }, agreement, title, retry) {
  const head = element("h3", {}, title, " ", element("span", {}, `v${version}`));
  if (!prediction) {
    const place = element("div");
    showProblem(place, new ServiceError(error), retry);
    return element("li", { class: "differs" }, head, place);
  }
  const bars = makeBars();
  bars.show(prediction);
  const agrees = prediction.label === agreement.label;
  return element(
    "li",
    { class: agrees ? "agrees" : "differs", "data-model": model },
    head,
    element("p", { class: "says" }, element("span", {}, prediction.label), " ", percent(prediction.confidence)),
    element("p", { class: "mark" }, agrees ? "agrees" : "differs"),
    bars.root,
    timings ? timingsOf(timings) : null,
  );
}

/** The timings, as a stacked bar and in words. */
function timingsOf(timings) {
  const total = PARTS.reduce((sum, [name]) => sum + timings[name], 0);
  const parts = PARTS.map(([name, word]) => {
    const part = element("span", { class: `part ${word}` });
    part.style.setProperty("--share", total ? timings[name] / total : 0);
    return part;
  });
  return element(
    "div",
    { class: "timings" },
    element("div", { class: "line", "aria-hidden": "true" }, parts),
    element("dl", {}, PARTS.map(([name, word]) => element("div", { class: word }, element("dt", {}, word), element("dd", {}, milliseconds(timings[name]))))),
  );
}

function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
