// The user's pictures: chosen, dropped, pasted, taken with the camera, or samples.

import { byId, element } from "./dom.js";
import { showProblem } from "./problem.js";
import { changed, labelsOf, state } from "./state.js";
import { ServiceError } from "./service.js";

const MAX_PICTURES = 200;
const SMALLER_PIXELS = 512;
let nextId = 1;

/** A picture, and the service's answers for it. */
class Picture {
  constructor(name, content, truth = null) {
    this.id = nextId++;
    this.name = name;
    this.content = content;
    /** The true class, if it is known. */
    this.truth = truth;
    this.url = URL.createObjectURL(content);
    /** By size, the pixels as the service decoded them: a data URL, and the same as a file. */
    this.seen = new Map();
    this.small = new Map();
    this.decodeMs = null;
    /** "model/version" -> ModelAnswer. */
    this.answers = new Map();
    /** "model/version" of the answers with every class. */
    this.whole = new Set();
    this.comparison = null;
    this.explanations = new Map();
    this.error = null;
  }

  forgetErrors(which = () => true) {
    if (this.error && which(this.error)) this.error = null;
    for (const [key, { error }] of this.explanations) if (error && which(error)) this.explanations.delete(key);
  }
}

export function startPictures() {
  const input = byId("files");
  byId("choose").addEventListener("click", () => input.click());
  for (const chooser of [input, byId("photo")]) {
    chooser.addEventListener("change", () => {
      addPictures(chooser.files);
      chooser.value = "";
    });
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      addPictures(event.clipboardData.files);
    }
  });
  startDrop();
  return startSamples();
}

/** The samples are of CIFAR-10's test set; for versions that don't have all of its classes they are hidden. */
function startSamples() {
  const buttons = [...document.querySelectorAll("#samples button")];
  for (const button of buttons) button.addEventListener("click", () => addSample(button));
  return ({ chosen }) => {
    const labels = labelsOf(chosen);
    if (!labels) return;
    byId("samples").hidden = !buttons.every((button) => labels.includes(button.textContent));
  };
}

/** Add files as pictures and select the first one. */
export function addPictures(files, truth = null) {
  const added = [...files].slice(0, MAX_PICTURES).map((file) => new Picture(file.name || "pasted picture", file, truth));
  if (!added.length) return;
  const kept = [...state.pictures, ...added];
  for (const gone of kept.splice(0, Math.max(0, kept.length - MAX_PICTURES))) URL.revokeObjectURL(gone.url);
  notice(files.length > MAX_PICTURES ? tooMany(files.length) : null);
  changed({ pictures: kept, current: added[0] });
}

async function addSample(button) {
  const truth = button.textContent;
  const name = `${truth} from the test set`;
  const known = state.pictures.find((picture) => picture.name === name);
  if (known) {
    changed({ current: known });
    return;
  }
  try {
    const response = await fetch(button.querySelector("img").src);
    addPictures([new File([await response.blob()], name, { type: "image/png" })], truth);
  } catch {
    notice(new ServiceError({ title: "The sample can't be loaded", detail: "The service can't be reached" }));
  }
}

/** Replace the file by a smaller picture; the models scale it down anyway. */
export async function makeSmaller(picture) {
  const bitmap = await createImageBitmap(picture.content, { resizeHeight: SMALLER_PIXELS, resizeQuality: "high" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  picture.content = await canvas.convertToBlob({ type: "image/webp", quality: 0.95 });
  picture.sentAs = `${canvas.width} by ${canvas.height} pixels`;
}

export function removePictures() {
  for (const picture of state.pictures) URL.revokeObjectURL(picture.url);
  notice(null);
  changed({ pictures: [], current: null });
  byId("choose").focus();
}

function startDrop() {
  const veil = byId("drop");
  let depth = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = (now) => {
    depth = now;
    veil.classList.toggle("shown", depth > 0);
  };
  addEventListener("dragenter", (event) => carriesFiles(event) && show(depth + 1));
  addEventListener("dragleave", (event) => carriesFiles(event) && show(Math.max(0, depth - 1)));
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    show(0);
    addPictures(event.dataTransfer.files);
  });
}

function notice(error) {
  showProblem(byId("picture-notice"), error);
}

function tooMany(given) {
  return new ServiceError({
    title: `${MAX_PICTURES} of ${given.toLocaleString("en")} pictures were added`,
    detail: `The page can show ${MAX_PICTURES} pictures at a time`,
    remedy: "Use the command line for whole folders: cifar10 predict FOLDER",
  });
}

/** An `img` of the original, or a text if the browser can't show the file. */
export function originalImage(picture, { onload = null } = {}) {
  const image = element("img", { src: picture.url, alt: `Original: ${picture.name}`, onload });
  image.addEventListener("error", () => image.replaceWith(element("p", {}, "The browser can't show this file")));
  return image;
}
