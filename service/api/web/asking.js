// Requests the data that the page shows, each thing once, and keeps the answers with the picture.

import { MAX_BARS } from "./bars.js";
import { lookAgain } from "./models.js";
import { makeSmaller } from "./pictures.js";
import * as service from "./service.js";
import { changed, classesOf, keyOf, readyVersions, sizeOf, state } from "./state.js";

const BATCH_FILES = 32;
const BATCH_BYTES = 8e6;
const LARGE_BYTES = 500e3;
/** So many classes are listed at most, on request. */
const MAX_LISTED = 1000;
const UPLOAD_MS = 12_000;
/** Statuses of errors that are the picture's own: any other model would reject it, too. */
const OF_THE_PICTURE = new Set([400, 413, 415]);
const waiting = new Set();
let asked = "";

/** Request all missing data; called after each change. */
export function askForMissing() {
  const { current: picture, chosen } = state;
  if (!chosen) return;
  forgetErrorsOfOthers();
  if (picture && !picture.error) {
    if (state.mode === "all") askComparison(picture);
    else askOne(picture, chosen);
    if (state.explain.on && state.mode === "one") askExplanation(picture);
  }
  askOthers(chosen);
}

/** Forget errors of the model that was selected before; the new one may succeed. */
function forgetErrorsOfOthers() {
  const now = `${state.mode} ${keyOf(state.chosen)}`;
  if (now === asked) return;
  asked = now;
  for (const picture of state.pictures) picture.forgetErrors((error) => !isOfThePicture(error));
}

export const isOfThePicture = ({ problem }) => OF_THE_PICTURE.has(problem?.status);

/** Forget this picture's errors and retry. */
export function askAgain(picture) {
  picture.forgetErrors();
  if (picture.comparison?.answers.some((answer) => answer.error)) picture.comparison = null;
  changed();
}

export const isWaiting = (picture, key) => waiting.has(`${picture.id} ${key}`);

function askOne(picture, chosen) {
  const key = keyOf(chosen);
  const topK = picture.whole.has(key) ? Math.min(MAX_LISTED, classesOf(state.list, chosen) ?? MAX_BARS) : topKOf([chosen]);
  const answer = picture.answers.get(key);
  if (answer?.timings && answer.prediction.top.length >= topK) return;
  once(picture, key, async () => keep(picture, await compare(picture, [chosen], [key], topK)));
}

/** Request the probabilities of all classes, where only the most probable ones were asked for. */
export function askForAll(picture, chosen) {
  picture.whole.add(keyOf(chosen));
  changed();
}

function askComparison(picture) {
  const ready = readyVersions(state.list);
  const keys = ready.map(keyOf).join(" ");
  if (picture.comparison?.keys === keys) return;
  once(picture, `all ${keys}`, async () => {
    const comparison = await compare(picture, ready, []);
    keep(picture, comparison);
    picture.comparison = { ...comparison, keys };
  });
}

/** What those that are named, or all that are ready, say of a picture. */
function compare(picture, asked, keys, topK = topKOf(asked)) {
  return delivered([picture], asked, (patienceMs) =>
    service.compare(fileOf(picture, asked), keys, topK, patienceMs),
  );
}

/** As many classes as are shown, if they have so many. */
const topKOf = (asked) => Math.min(MAX_BARS, Math.max(1, ...asked.map((each) => classesOf(state.list, each) ?? MAX_BARS)));

/** The pixels that all of them see, where they are known and the same; else the picture. */
function fileOf(picture, asked) {
  const sizes = new Set(asked.map((each) => sizeOf(state.list, each)));
  return (sizes.size === 1 && picture.small.get([...sizes][0])) || picture.content;
}

/** Send files unchanged; scale large ones down if they don't arrive or the service rejects them. */
async function delivered(pictures, asked, send) {
  const large = pictures.filter((picture) => fileOf(picture, asked).size > LARGE_BYTES);
  if (!large.length) return send();
  try {
    return await send(UPLOAD_MS);
  } catch (error) {
    const { status, late } = error.problem ?? {};
    if (!late && status !== 408 && status !== 413) throw error;
    await Promise.all(large.map(makeSmaller)).catch(() => Promise.reject(error));
    return send();
  }
}

function keep(picture, comparison) {
  const size = comparison.answers.length ? sizeOf(state.list, comparison.answers[0]) : null;
  if (size && !picture.seen.has(size)) {
    picture.seen.set(size, comparison.model_input);
    picture.small.set(size, asFile(comparison.model_input));
  }
  picture.decodeMs ??= comparison.decode_ms;
  for (const answer of comparison.answers) {
    if (answer.timings) answer.timings.decode_ms = picture.decodeMs;
    if (answer.error && !answer.prediction && state.mode === "one") throw new service.ServiceError(answer.error);
    picture.answers.set(keyOf(answer), answer);
  }
}

/** "model/version/patch/stride/class": the key of an explanation. */
export function explanationKey(chosen, { patch, stride, classId }) {
  return [keyOf(chosen), patch, stride, classId ?? "answer"].join("/");
}

function askExplanation(picture) {
  const key = explanationKey(state.chosen, state.explain);
  if (picture.explanations.has(key)) return;
  const wanted = { ...state.chosen, ...state.explain };
  once(picture, `explain ${key}`, async () => {
    const explained = await service.explain(fileOf(picture, [wanted]), wanted).catch((error) => ({ error }));
    picture.explanations.set(key, explained);
  });
}

/** Classify the other pictures, several in one request. */
function askOthers(chosen) {
  const key = keyOf(chosen);
  const missing = state.pictures.filter(
    (picture) => picture !== state.current && !picture.error && !picture.answers.has(key) && !isWaiting(picture, key),
  );
  for (const pictures of inBatches(missing, chosen)) {
    const name = pictures.map((picture) => picture.id).join(" ");
    once({ id: name }, key, () => askBatch(pictures, chosen, key));
    for (const picture of pictures) waiting.add(`${picture.id} ${key}`);
  }
}

async function askBatch(pictures, chosen, key) {
  const files = () => pictures.map((picture) => ({ name: picture.name, content: fileOf(picture, [chosen]) }));
  const asker = asked;
  try {
    const { results } = await delivered(pictures, [chosen], (patienceMs) => service.predictBatch(files(), chosen, topKOf([chosen]), patienceMs));
    results.forEach(({ prediction, error }, place) => {
      if (error) pictures[place].error = new service.ServiceError(error);
      else pictures[place].answers.set(key, { ...chosen, prediction, error: null, timings: null });
    });
  } catch (error) {
    for (const picture of pictures) failed(picture, error, asker);
  } finally {
    for (const picture of pictures) waiting.delete(`${picture.id} ${key}`);
  }
}

function* inBatches(pictures, chosen) {
  let batch = [];
  let bytes = 0;
  for (const picture of pictures) {
    const more = fileOf(picture, [chosen]).size;
    if (batch.length && (batch.length === BATCH_FILES || bytes + more > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(picture);
    bytes += more;
  }
  if (batch.length) yield batch;
}

async function once(picture, key, work) {
  const name = `${picture.id} ${key}`;
  if (waiting.has(name)) return;
  waiting.add(name);
  changed();
  const asker = asked;
  try {
    await work();
  } catch (error) {
    failed(picture, error, asker);
  } finally {
    waiting.delete(name);
    changed();
  }
}

function failed(picture, error, asker) {
  if (asker === asked || isOfThePicture(error)) picture.error = error;
  const status = error.problem?.status;
  if (!status || status === 404) lookAgain();
}

function asFile(dataUrl) {
  const bytes = Uint8Array.from(atob(dataUrl.slice(dataUrl.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
  return new File([bytes], "model-input.png", { type: "image/png" });
}
