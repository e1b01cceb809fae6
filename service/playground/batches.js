/** Many pictures in many requests, with progress, patience while the server is full, and an end; large ones as smaller copies. */

import { ApiError, ask } from "./api.js";
import { inBackground } from "./background.js";
import { bytes, Complaint, counted } from "./dom.js";
import { addressed, limit, state } from "./state.js";

const LANES = 2; // one is made ready while the other is answered
const MOST_PICTURES = 32;
const MOST_BYTES = 8 * 1024 * 1024;
const TRIES = 8;
const FULL = [429, 503];
const TOO_LARGE = 413;
const LARGE_BYTES = 256 * 1024; // smaller files go as they are, so that the commands shown get the same answer to the digit
const TIMES_INPUT = 2;
const PART_BYTES = 2048; // of a form, around each file

/**
 * What the server answers for each picture, in order. `request(pairs)` gives {path, body} for some [picture, blob]; `take(answer)` gives
 * a list of what is in it for each; a file that cannot be sent gets {error}; `keep(picture, found)` hears of each. `work` has signal, digest, progress(done, total) and pause(text), and its
 * `timings` grow by one for each request. What was taken before an error or a cancel stays.
 */
export async function inBatches(pictures, { request, take, keep = () => {} }, work) {
  const found = new Map();
  const settle = (picture, result) => {
    found.set(picture, result);
    keep(picture, result);
  };
  const spare = (picture, error) => settle(picture, { error });
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
          const { answer } = await askPatiently(path, body, { ...work, signal });
          take(answer).forEach((result, index) => settle(pairs[index][0], result));
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
  return pictures.map((picture) => found.get(picture));
}

function batchSize() {
  return Math.max(1, Math.min(MOST_PICTURES, limit("max_items"), Math.floor(limit("queue_items") / LANES)));
}

/** Lists of [picture, blob], each small enough for one request. */
async function fitting(pictures, spare, signal) {
  const most = Math.min(MOST_BYTES, limit("max_body_bytes")) * 0.7; // base64 takes a third more
  const lists = [];
  let size = Infinity;
  for (const picture of pictures) {
    signal.throwIfAborted();
    try {
      const blob = await toSend(picture);
      size += blob.size + PART_BYTES;
      if (size > most) {
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

/** Answers of two models must never meet: a server may take up another one at any time. */
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

/** The shorter side of copies, in pixels. */
const copySide = () => TIMES_INPUT * (state.model?.image_size ?? 224);

/** A file that cannot be sent, and why. */
class Unsendable extends Error {}

/**
 * The Blob to send for a picture. Notes on the picture what was done: `picture.copied` = {side, blob, from, to}.
 * Rejects with Unsendable where the file cannot be read or is too large for this server.
 */
export async function toSend(picture) {
  const blob = await copyOrFile(picture);
  const most = limit("max_body_bytes");
  if (blob.size + PART_BYTES > most) {
    throw new Unsendable(`It has ${bytes(blob.size)} and this browser cannot make it smaller; the server takes ${bytes(most)} at most.`);
  }
  try {
    return new Blob([await blob.arrayBuffer()], { type: blob.type });
  } catch {
    throw new Unsendable("The file cannot be read any more: was it moved, changed or taken away? Choose it again.");
  }
}

const copying = new WeakMap();

/** Once, also where it is asked about and kept at the same time. */
function copyOrFile(picture) {
  if (!copying.has(picture)) copying.set(picture, smaller(picture).finally(() => copying.delete(picture)));
  return copying.get(picture);
}

async function smaller(picture) {
  const side = copySide();
  if (picture.copied?.side === side) return picture.copied.blob;
  if (!isLarge(picture)) return picture.file;
  try {
    const { blob, from, to } = await inBackground("shrink", { file: picture.file, side });
    if (blob === null || blob.size >= picture.file.size) return picture.file;
    picture.copied = { side, blob, from, to };
    show(picture, blob);
    return blob;
  } catch {
    return picture.file; // a format that this browser does not read, but perhaps the server
  }
}

const isLarge = ({ file, pixels = [0] }) =>
  file.size > Math.min(LARGE_BYTES, limit("max_body_bytes")) || pixels.reduce((a, b) => a * b) > limit("max_image_pixels");

/** Thousands of large files would fill the memory where they are shown; the copies do not. */
function show(picture, blob) {
  if (picture.sample) return;
  const before = picture.url;
  addressed(picture, blob);
  for (const image of document.images) if (image.src === before) image.src = picture.url;
  URL.revokeObjectURL(before);
}

/** "12 large pictures were sent as copies with a shorter side of 192 pixels …", or nothing. */
export function copiesTold(pictures) {
  const side = copySide();
  const copies = pictures.filter(({ copied }) => copied?.side === side);
  if (!copies.length) return "";
  const sum = (size) => bytes(copies.reduce((total, picture) => total + size(picture), 0));
  return `${counted(copies.length, "large picture")} went as ${copies.length > 1 ? "copies" : "a copy"} with a shorter side of `
    + `${side} pixels, twice what the model sees: ${sum(({ size }) => size)} became ${sum(({ copied }) => copied.blob.size)}.`;
}
