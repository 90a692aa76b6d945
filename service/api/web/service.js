// Sends requests to the service; every failure becomes a ServiceError whose problem can be shown to users.

const ROOT = new URL(".", document.baseURI);
const TIMEOUT_MS = 60_000;

/** An error with an RFC 9457 problem document, or with the same fields. */
export class ServiceError extends Error {
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

export const address = (path) => new URL(path, ROOT).href;

export const models = () => request("models");
export const statistics = () => request("stats");
export const instance = () => request("instance");
export const metadata = (model, version) => request(`models/${model}/versions/${version}`);

/** Classify one picture with these versions ("NAME/VERSION"; none: every ready model); so many classes of each. */
export function compare(picture, versions, topK, patienceMs) {
  return request("compare", [["top_k", topK], ...versions.map((name) => ["model", name])], picture, patienceMs);
}

/** Classify several pictures with one version; so many classes of each. */
export function predictBatch(files, { model, version }, topK, patienceMs) {
  const form = new FormData();
  for (const { name, content } of files) form.append("files", content, name);
  return request("predict/batch", [["model", model], ["version", version], ["top_k", topK]], form, patienceMs);
}

export function explain(picture, { model, version, patch, stride, classId }) {
  const query = [["model", model], ["version", version], ["patch", patch], ["stride", stride]];
  if (classId !== null) query.push(["class_id", classId]);
  return request("explain", query, picture);
}

async function request(path, query = [], body = null, patienceMs = TIMEOUT_MS) {
  const url = new URL(path, ROOT);
  for (const [name, value] of query) url.searchParams.append(name, value);
  const options = { signal: AbortSignal.timeout(patienceMs), headers: { Accept: "application/json" } };
  if (body) {
    options.method = "POST";
    options.body = body;
    // The service detects the type of a blob that has none.
    if (body instanceof Blob && !body.type) options.headers["Content-Type"] = "application/octet-stream";
  }
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw new ServiceError(unreachable(error, patienceMs));
  }
  const type = response.headers.get("content-type") ?? "";
  if (response.ok && type.startsWith("application/json")) return response.json();
  if (type.startsWith("application/problem+json")) throw new ServiceError(await response.json());
  throw new ServiceError({
    title: "Unexpected answer",
    detail: `${url.pathname} answered ${response.status} with ${type || "no content type"}`,
    remedy: "A proxy or another program may be answering instead of the service.",
  });
}

function unreachable(error, patienceMs) {
  if (error.name === "TimeoutError") {
    return { title: "Time-out", detail: `No answer within ${patienceMs / 1000} s.`, remedy: "Try again later.", late: true };
  }
  return {
    title: "The service can't be reached",
    detail: `Nothing answers at ${ROOT.host}, or the connection broke.`,
    remedy: "Check that the service is running; this page retries automatically.",
  };
}
