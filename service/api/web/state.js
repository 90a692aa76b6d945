// What the page knows and what its user has chosen; views are told after each change, once for all changes of a moment.

export const state = {
  /** The service's ModelList; null until it came. */
  list: null,
  listError: null,
  /** {model, version}: who answers. */
  chosen: null,
  /** {model, version, title}: who was asked for; null: the default. */
  wanted: null,
  /** {title, detail}: who answers instead, where the one that is wanted does not. */
  instead: null,
  /** "one" or "all". */
  mode: "one",
  /** Pictures, see pictures.js. */
  pictures: [],
  current: null,
  /** classId null: the class of the answer. */
  explain: { on: false, classId: null, patch: 8, stride: 4 },
};

const views = new Set();
let planned = false;

/** Have this called after changes. */
export function onChange(view) {
  views.add(view);
}

/** Tell the views; `change` is laid over the state before. */
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

/** The versions that answer where none is asked for, one of each model that is ready. */
export function readyVersions(list) {
  const ready = (list?.models ?? []).filter((model) => model.state === "ready" && model.serving_version !== null);
  return ready.map((model) => ({ model: model.name, version: model.serving_version }));
}

export function titleOf(list, name) {
  return list?.models.find((model) => model.name === name)?.title ?? name;
}
