// The answer for the picture: of one model, or of all ready models side by side.

import { askAgain, askForAll, isOfThePicture, isWaiting } from "./asking.js";
import { makeBars, MAX_BARS } from "./bars.js";
import { byId, element, fill, whenChanged } from "./dom.js";
import { count, inWords, milliseconds, percent } from "./format.js";
import { showProblem } from "./problem.js";
import { ServiceError } from "./service.js";
import { changed, keyOf, labelsOf, state, titleOf } from "./state.js";

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
  const truth = element("p", { class: "truth" });
  const bars = makeBars();
  const more = element("button", { type: "button", class: "quiet more", onclick: () => askForAll(state.current, state.chosen) });
  const times = element("div");
  const showTimes = whenChanged((timings) => fill(times, timings ? timingsOf(timings) : null));
  const root = element(
    "div",
    { class: "single" },
    element("div", { "aria-live": "polite" }, element("p", { class: "headline" }, label, confidence), by, truth),
    bars.root,
    more,
    times,
  );
  const show = (picture, chosen, list) => {
    const answer = picture && chosen ? picture.answers.get(keyOf(chosen)) : null;
    const prediction = answer?.prediction;
    const labels = labelsOf(chosen);
    setText(label, prediction?.label ?? (picture ? "…" : "No picture yet"));
    setText(confidence, prediction ? percent(prediction.confidence) : "");
    setText(by, prediction ? `${titleOf(list, answer.model)}, version ${answer.version}` : picture ? "computing" : invitation(labels));
    showTruth(truth, prediction, picture?.truth, labels);
    root.classList.toggle("empty", !prediction);
    bars.show(prediction ?? null, labels);
    const isLong = (prediction?.top.length ?? 0) > MAX_BARS;
    bars.root.classList.toggle("long", isLong);
    bars.root.tabIndex = isLong ? 0 : -1; // the keyboard scrolls it
    more.hidden = !prediction || !labels || prediction.top.length > MAX_BARS || labels.length <= MAX_BARS;
    if (!more.hidden) setText(more, `Show more of the ${count(labels.length)} classes`);
    showTimes(answer?.timings ?? null);
  };
  return { root, show };
}

const invitation = (labels) => (labels ? `The model knows ${labels.length > MAX_BARS ? "" : "these "}${inWords(labels.length)} classes.` : "");

/** Say whether the answer is right, where the picture's true class is known. */
function showTruth(place, prediction, truth, labels) {
  const known = prediction && truth;
  const isOne = labels?.includes(truth);
  const isRight = prediction?.label === truth;
  place.hidden = !known;
  place.classList.toggle("right", Boolean(known && isRight));
  place.classList.toggle("wrong", Boolean(known && isOne && !isRight));
  setText(place, !known ? "" : isRight ? `Right: its true class is ${truth}.` : isOne ? `Wrong: its true class is ${truth}.` : `Its true class, ${truth}, is none of this model's.`);
}

function makeComparison() {
  const root = element("div", { class: "comparison" });
  const draw = whenChanged(({ comparison, titles }, picture) => {
    const retry = () => askAgain(picture);
    if (!comparison) {
      fill(root, element("p", { class: "by" }, titles ? "computing" : "All ready models answer, side by side."));
      return;
    }
    const { agreement, answers } = comparison;
    const apart = new Set((comparison.not_comparable ?? []).map(keyOf));
    fill(
      root,
      element("div", { "aria-live": "polite" }, agreementOf(agreement, apart.size, answers, picture.truth)),
      element("ul", { class: "cards" }, answers.map((answer) => cardOf(answer, agreement, apart.has(keyOf(answer)), titles[answer.model], retry))),
    );
  });
  const show = (picture, _, list) => {
    const titles = picture ? Object.fromEntries((list?.models ?? []).map((model) => [model.name, model.title])) : null;
    draw({ id: picture?.id, comparison: picture?.comparison ?? null, titles }, picture);
  };
  return { root, show };
}

function agreementOf({ label, models, of }, apart, answers, truth) {
  if (!of) return element("p", { class: "by" }, "No model could answer.");
  const who = models === of ? (of === 1 ? "Only one model answered." : `All ${of} models agree.`) : `${models} of ${of} models agree.`;
  const others = apart ? ` ${apart} ${apart === 1 ? "has" : "have"} other labels and can't be compared.` : "";
  const right = answers.filter(({ prediction }) => prediction?.label === truth).length;
  return [
    element("p", { class: "headline" }, element("span", { class: "label" }, label)),
    element("p", { class: "by" }, who + others),
    truth ? element("p", { class: "truth" }, `Its true class is ${truth}: ${right} of ${answers.length - apart} right.`) : null,
  ];
}

function cardOf({ model, version, prediction, error, timings }, agreement, isApart, title, retry) {
  const head = element("h3", {}, title, " ", element("span", {}, `v${version}`));
  if (!prediction) {
    const place = element("div");
    showProblem(place, new ServiceError(error), retry);
    return element("li", { class: "differs" }, head, place);
  }
  const bars = makeBars();
  bars.show(prediction);
  const [kind, mark] = isApart ? ["apart", "other labels"] : prediction.label === agreement.label ? ["agrees", "agrees"] : ["differs", "differs"];
  return element(
    "li",
    { class: kind, "data-model": model },
    head,
    element("p", { class: "says" }, element("span", {}, prediction.label), " ", percent(prediction.confidence)),
    element("p", { class: "mark" }, mark),
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
