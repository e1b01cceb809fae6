/** Requests to this server, and the key they carry. */

const here = new URL("..", import.meta.url);
/** Where the page stands, under whatever prefix; without the slash, as paths begin with one, user and password. */
export const server = here.origin + here.pathname.slice(0, -1);

const KEY = `sightword-key ${server}`; // another service may have its page at this origin, too

const memory = new Map();
const allowed = (act) => {
  try {
    return act();
  } catch {
    return null; // a browser may keep nothing for this page, or no more
  }
};
export const stored = (name) => memory.get(name) ?? allowed(() => sessionStorage.getItem(name));

/** Keep a text for this tab, or as long as the page is open where the browser keeps nothing; null forgets it. */
export function store(name, value) {
  memory.set(name, value);
  allowed(() => sessionStorage.removeItem(name)); // first: no text is better than an old one
  if (value !== null) allowed(() => sessionStorage.setItem(name, value));
}

export const key = {
  get: () => stored(KEY),
  set: (value) => store(KEY, value),
  forget: () => store(KEY, null),
};

/** A refusal, as the server words it. */
export class ApiError extends Error {
  constructor(message, facts = {}) {
    super(message);
    Object.assign(this, facts); // status, code, param, requestId, retryAfter
  }
}

/** Answer of GET `path`, or of POST with a `body`. Rejects with ApiError, or AbortError when `signal` says so. */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (typeof body === "string") headers["content-type"] = "application/json";
  const started = performance.now();
  const response = await reach(path, { method: body === undefined ? "GET" : "POST", headers, body, signal });
  const plain = response.headers.get("content-type")?.startsWith("text/plain");
  const answer = await (plain ? response.text() : response.json()).catch(() => null);
  const requestId = response.headers.get("x-request-id");
  if (!response.ok || answer === null) throw refusal(response, answer, requestId);
  const timing = parseTiming(response.headers.get("server-timing"));
  return { answer, timing, digest: response.headers.get("x-model-digest"), roundTrip: performance.now() - started };
}

async function reach(path, options) {
  try {
    return await fetch(server + path, { ...options, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw new DOMException("", "AbortError");
    throw new ApiError("The server cannot be reached, or it closed the connection. Is it running, and are you online? Then try again.");
  }
}

function refusal(response, answer, requestId) {
  if (response.status === 401) document.dispatchEvent(new Event("keyrefused"));
  const { message, code, param } = answer?.error ?? {};
  const { status } = response;
  return new ApiError(message ?? `The server answered ${status} without an explanation.`, { status, code, param, requestId, retryAfter: response.headers.get("retry-after") });
}

/** "decode;dur=3.2, total;dur=9" -> {decode: 3.2, total: 9}, in milliseconds. */
function parseTiming(header) {
  const stages = {};
  for (const part of (header ?? "").split(",")) {
    const [name, duration] = part.trim().split(";dur=");
    if (duration !== undefined) stages[name] = Number(duration);
  }
  return stages;
}
