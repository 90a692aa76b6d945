// The original next to the model's input, and the strip of all pictures.

import { explanationKey } from "./asking.js";
import { byId, element, fill, whenChanged } from "./dom.js";
import { originalImage, removePictures } from "./pictures.js";
import { drawImportance } from "./saliency.js";
import { changed, keyOf, sizeOf } from "./state.js";

export function startFrames() {
  const showOriginal = whenChanged((_, picture) => {
    const frame = byId("original");
    byId("original-caption").textContent = picture?.sentAs ? `scaled down to ${picture.sentAs} for the upload` : "original";
    if (!picture) {
      fill(frame, element("p", {}, "No picture yet"));
      return;
    }
    const crop = element("span", { class: "crop", "aria-hidden": "true" });
    fill(frame, originalImage(picture, { onload: (event) => placeCrop(crop, event.target) }), crop);
  });
  const showSeen = whenChanged(({ seen }) => {
    const describe = ({ target }) => {
      target.alt = `What the model sees: the central square at ${target.naturalWidth} by ${target.naturalHeight} pixels`;
    };
    fill(byId("seen"), seen ? element("img", { src: seen, alt: "What the model sees", onload: describe }) : null);
  });
  const showOverlay = whenChanged((_, explanation) => {
    byId("seen").querySelector("canvas")?.remove();
    byId("seen").classList.toggle("explained", Boolean(explanation));
    if (explanation) byId("seen").append(drawImportance(explanation));
  });
  const showStrip = whenChanged(drawStrip);
  return ({ current: picture, pictures, chosen, explain, list, mode }) => {
    showOriginal([picture?.id, picture?.sentAs], picture);
    const seen = (picture && chosen && picture.seen.get(sizeOf(list, chosen))) ?? null;
    showSeen({ seen });
    const key = picture && chosen && explain.on && mode === "one" ? explanationKey(chosen, explain) : null;
    const explanation = key ? picture.explanations.get(key) : null;
    const drawable = explanation?.importance ? explanation : null;
    showOverlay([seen, drawable && picture.id, drawable && key], drawable);
    const thumbs = pictures.map((each) => ({
      id: each.id,
      name: each.name,
      label: chosen ? each.answers.get(keyOf(chosen))?.prediction?.label ?? null : null,
      failed: Boolean(each.error),
      current: each === picture,
    }));
    showStrip(thumbs, pictures);
  };
}

/** Mark the part of the original that the model sees: its central square. */
function placeCrop(crop, image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const side = Math.min(width, height) / Math.max(width, height);
  crop.style.setProperty("--side", side);
  crop.classList.toggle("shown", side < 0.99);
}

function drawStrip(thumbs, pictures) {
  const strip = byId("strip");
  strip.hidden = thumbs.length < 2;
  if (strip.hidden) return;
  const items = thumbs.map((thumb, place) => {
    const says = thumb.failed ? "error" : thumb.label ?? "…";
    return element(
      "li",
      {},
      element(
        "button",
        {
          type: "button",
          id: `picture-${thumb.id}`,
          title: thumb.name,
          class: thumb.failed ? "failed" : null,
          "aria-current": thumb.current ? "true" : null,
          "aria-label": `${thumb.name}: ${says}`,
          onclick: () => changed({ current: pictures[place] }),
        },
        element("img", { src: pictures[place].url, alt: "", loading: "lazy" }),
        element("span", {}, says),
      ),
    );
  });
  const clear = element("li", {}, element("button", { type: "button", class: "quiet", id: "clear", onclick: removePictures }, "Remove all"));
  fill(strip.querySelector("ul"), items, clear);
}
