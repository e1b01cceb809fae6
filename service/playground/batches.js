/** Many pictures in many requests: a few at a time, with progress, patience while the server is full, and an end. */

import { ApiError, ask } from "./api.js";
import { Complaint } from "./request.js";
import { PART_BYTES, toSend, Unsendable } from "./sending.js";
import { state } from "./state.js";

const LANES = 2; // one is made ready while the other is answered
const MOST_PICTURES = 32;
const MOST_BYTES = 8 * 1024 * 1024;
const TRIES = 8;
const FULL = [429, 503];
const TOO_LARGE = 413;

/**
 * Ask for all pictures. `request(pairs)` gives {path, body} for some [picture, blob]; `take(answer, pictures)` keeps what came;
 * `spare(picture, error)` hears of a file that could not be sent. `work` has signal, digest, progress(done, total) and pause(text), and its
 * `timings` grow by one for each request. What was taken before an error or a cancel stays.
 */
export async function inBatches(pictures, { request, take, spare }, work) {
  const queue = [...pictures];
  let done = 0;
  const failed = new AbortController(); // one lane that fails ends the others
  const signal = AbortSignal.any([work.signal, failed.signal]);
  const lane = async () => {
    while (queue.length) {
      const some = queue.splice(0, batchSize());
      for (const pairs of await fitting(some, spare, signal)) {
        const { path, body } = await request(pairs);
        try {
          take(await askPatiently(path, body, { ...work, signal }), pairs.map(([picture]) => picture));
        } catch (error) {
          if (error.status !== TOO_LARGE || pairs.length > 1 || pictures.length === 1) throw error;
          spare(pairs[0][0], error);
        }
      }
      work.progress((done += some.length), pictures.length);
    }
  };
  work.progress(0, pictures.length);
  try {
    await Promise.all(Array.from({ length: LANES }, lane));
  } catch (error) {
    failed.abort();
    throw work.signal.aborted ? new DOMException("", "AbortError") : error;
  }
}

function batchSize() {
  const { max_items: items = MOST_PICTURES, queue_items: queue = items } = state.info?.limits ?? {};
  return Math.max(1, Math.min(MOST_PICTURES, items, Math.floor(queue / LANES)));
}

/** Lists of [picture, blob], each small enough for one request. */
async function fitting(pictures, spare, signal) {
  const limit = Math.min(MOST_BYTES, state.info?.limits.max_body_bytes ?? MOST_BYTES) * 0.7; // base64 takes a third more
  const lists = [];
  let size = Infinity;
  for (const picture of pictures) {
    signal.throwIfAborted();
    try {
      const blob = await toSend(picture);
      size += blob.size + PART_BYTES;
      if (size > limit) {
        lists.push([]);
        size = blob.size + PART_BYTES;
      }
      lists.at(-1).push([picture, blob]);
    } catch (error) {
      if (!(error instanceof Unsendable)) throw error;
      spare(picture, error);
    }
  }
  return lists;
}

/** `ask`, again while the server is full, as often as is reasonable. */
export async function askPatiently(path, body, work) {
  for (let tries = 1; ; tries += 1) {
    try {
      const result = await ask(path, { body, signal: work.signal });
      sameModel(result.digest ?? work.digest, work.digest);
      work.timings.push(result);
      work.pause("");
      return result;
    } catch (error) {
      if (!(error instanceof ApiError) || !FULL.includes(error.status) || tries === TRIES) throw error;
      const seconds = Math.min(30, Number(error.retryAfter) || 1) * (1 + Math.random() / 2);
      work.pause(`The server is ${error.status === 429 ? "full" : "not ready"}; asking again in ${Math.ceil(seconds)} s.`);
      await sleep(seconds * 1000, work.signal);
    }
  }
}

/** Answers of two models must never meet: a server may take up another one at any time, and somebody choose it. */
function sameModel(digest, wanted) {
  if (digest === wanted && state.model?.digest === wanted) return;
  document.dispatchEvent(new Event("modelreplaced"));
  throw new Complaint("Another model answers meanwhile, whose vectors mean something else. Ask again.");
}

const sleep = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(new DOMException("", "AbortError"));
  }, { once: true });
});
