// Speaks with the service; every failure becomes a ServiceError whose problem can be shown to people.

const ROOT = new URL(".", document.baseURI);
const TIMEOUT_MS = 60_000;

/** An RFC 9457 problem document, or what comes nearest to one. */
export class ServiceError extends Error {
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

export const address = (path) => new URL(path, ROOT).href;

export const models = () => request("models");
export const statistics = () => request("stats");
export const metadata = (model, version) => request(`models/${model}/versions/${version}`);

/** What these versions ("NAME/VERSION"; none: every model that is ready) say of one picture, all ten classes. */
export function compare(picture, versions, patienceMs) {
  return request("compare", [["top_k", 10], ...versions.map((name) => ["model", name])], picture, patienceMs);
}

/** What one version says of several pictures. */
export function predictBatch(files, { model, version }, patienceMs) {
  const form = new FormData();
  for (const { name, content } of files) form.append("files", content, name);
  return request("predict/batch", [["model", model], ["version", version], ["top_k", 10]], form, patienceMs);
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
    // A blob of no known type is sent as such: what it is, the service sees by itself.
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
    title: "An answer that makes no sense",
    detail: `${url.pathname} answered ${response.status} with ${type || "no content type"}`,
    remedy: "Something else may answer in the service's place: a proxy, or another program.",
  });
}

function unreachable(error, patienceMs) {
  if (error.name === "TimeoutError") {
    return { title: "No answer", detail: `Nothing came within ${patienceMs / 1000} s.`, remedy: "Try again later.", late: true };
  }
  return {
    title: "The service can't be reached",
    detail: `Nobody answers at ${ROOT.host}, or the connection broke.`,
    remedy: "Check that the service runs; this page tries again by itself.",
  };
}
