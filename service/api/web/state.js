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

/** The serving version of each ready model. */
export function readyVersions(list) {
  const ready = (list?.models ?? []).filter((model) => model.state === "ready" && model.serving_version !== null);
  return ready.map((model) => ({ model: model.name, version: model.serving_version }));
}

export function titleOf(list, name) {
  return list?.models.find((model) => model.name === name)?.title ?? name;
}
