// The class of an image with fetch, as a browser has it. From the project's folder: node docs/examples/fetch.mjs
import { readFile } from "node:fs/promises";

const url = process.env.CIFAR10_URL ?? "http://127.0.0.1:8000";

async function predict(image, parameters = {}) {
  const response = await fetch(`${url}/predict?${new URLSearchParams(parameters)}`, {
    method: "POST",
    headers: { "Content-Type": image.type },
    body: image,
    signal: AbortSignal.timeout(15_000),
  });
  const answer = await response.json(); // an error is a problem document: JSON too
  if (!response.ok) throw new Error(`${answer.title}: ${answer.detail}`);
  return answer;
}

// In a page the image is a File of an <input type="file">.
const image = new Blob([await readFile("tests/images/cat_0008.png")], { type: "image/png" });
const { label, confidence, model, version } = await predict(image, { top_k: 1 });
console.log(`${label}, ${(100 * confidence).toFixed(1)} %, by ${model} version ${version}`);

await predict(image, { model: "unknown" }).catch((error) => console.log(error.message));
