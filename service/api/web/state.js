// The page's state and the user's choices. Views are notified after a change, once for several changes at a time.

export const state = {
  /** The service's ModelList; null until it arrives. */
  list: null,
  listError: null,
  /** {model, version}: the version that answers. */
  chosen: null,
  /** {model, version, title}: the version that was selected; null: the default. */
  wanted: null,
  /** {title, detail}: which version answers instead, if the selected one does not. */
  instead: null,
  /** "one" or "all". */
  mode: "one",
  /** Pictures, see pictures.js. */
  pictures: [],
  current: null,
  /** "model/version" -> its metadata, once somebody has looked at it. */
  metadata: new Map(),
  /** classId null: the class of the answer. */
  explain: { on: false, classId: null, patch: 8, stride: 4 },
};

const views = new Set();
let planned = false;

/** Call this view after changes. */
export function onChange(view) {
  views.add(view);
}

/** Merge `change` into the state and notify the views. */
export function changed(change = {}) {
  Object.assign(state, change);
  if (planned) return;
  planned = true;
  queueMicrotask(() => {
    planned = false;
    for (const view of views) view(state);
  });
}

export const keyOf = ({ model, version }) => `${model}/${version}`;

/** The labels of a version; null while they are not known. */
export const labelsOf = (chosen) => (chosen && state.metadata.get(keyOf(chosen))?.labels) ?? null;

/** As many classes as a version has; null while it is not known. */
export const classesOf = (list, chosen) => (chosen && entryOf(list, chosen)?.classes) ?? null;

/** What /models says of a version. */
export function entryOf(list, { model, version }) {
  const entries = list?.models.find(({ name }) => name === model)?.versions ?? [];
  return entries.find((entry) => entry.version === version) ?? null;
}

/** "32x32": the size of the pictures that a version takes, and that its pixels are kept under. */
export function sizeOf(list, chosen) {
  const [height, width] = entryOf(list, chosen)?.input_shape ?? [];
  return `${width}x${height}`;
}

/** The serving version of each ready model. */
export function readyVersions(list) {
  const ready = (list?.models ?? []).filter((model) => model.state === "ready" && model.serving_version !== null);
  return ready.map((model) => ({ model: model.name, version: model.serving_version }));
}

export function titleOf(list, name) {
  return list?.models.find((model) => model.name === name)?.title ?? name;
}
