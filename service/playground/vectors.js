/** Vectors of pictures and texts, made by the server once and kept while the page is open. */

import { inBatches, askPatiently } from "./batches.js";
import { base64, form, json } from "./request.js";
import { dot } from "./scores.js";
import { limit, state } from "./state.js";
import { keep } from "./storage.js";

const TEXTS_AT_ONCE = 256;
const MOST_TEXTS = 20_000; // kept
const OF_THE_FILE = new Set(["invalid_image", "image_too_large"]); // errors that asking again does not mend
const texts = new Map(); // by digest and text

/** What is known of a picture to the model that is chosen: {vector} or {error}, or undefined. */
export const known = ({ embedded }) => (embedded && embedded.digest === state.model?.digest ? embedded : undefined);

/**
 * Embed the pictures that are not yet. What is then known of each, in order. A single bad one rejects with its ApiError, as the
 * request would without this page.
 */
export async function embedPictures(pictures, work) {
  const { digest } = state.model;
  const missing = pictures.filter((picture) => !known(picture)?.vector && !OF_THE_FILE.has(known(picture)?.error.code));
  if (!missing.length) return pictures.map(known);
  const onError = pictures.length > 1 ? "item" : null;
  const progress = (done) => {
    keep();
    work.progress(pictures.length - missing.length + done, pictures.length);
  };
  await inBatches(missing, {
    request: (pairs) => form("/embed", pairs, { encoding_format: "base64", on_error: onError }),
    take: ({ data }) => data.map(({ embedding, error }) => (error ? { error } : { vector: decoded(embedding) })),
    keep: (picture, found) => (picture.embedded = { digest, ...found }),
  }, { ...work, progress });
  return pictures.map(known);
}

/** Unit vectors of texts, in their order. */
export async function embedTexts(wanted, work) {
  const { digest } = state.model;
  const name = (text) => `${digest} ${text}`;
  const missing = [...new Set(wanted)].filter((text) => !texts.has(name(text)));
  if (texts.size + missing.length > MOST_TEXTS) texts.clear();
  const most = Math.min(TEXTS_AT_ONCE, limit("max_items"));
  const found = new Map(wanted.filter((text) => texts.has(name(text))).map((text) => [text, texts.get(name(text))]));
  for (let from = 0; from < missing.length; from += most) {
    const some = missing.slice(from, from + most);
    const request = json("/embed", { inputs: some, encoding_format: "base64" });
    const result = await askPatiently(request.path, JSON.stringify(request.json), work).catch((error) => {
      throw named(error, some);
    });
    for (const { index, embedding } of result.answer.data) {
      found.set(some[index], decoded(embedding));
      texts.set(name(some[index]), found.get(some[index]));
    }
  }
  return wanted.map((text) => found.get(text));
}

/** A refusal that says which text it means: nobody sees the numbers of requests. */
function named(error, some) {
  const text = some[/^inputs\.(\d+)/.exec(error.param)?.[1]];
  if (text === undefined) return error;
  error.param = null;
  error.message = `“${text.slice(0, 60)}${text.length > 60 ? "…" : ""}”: ${error.message.replace(/ or send .*/, ".")}`;
  return error;
}

/** Little-endian float32 in base64. */
function decoded(base64) {
  const raw = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const view = new DataView(raw.buffer);
  return Float32Array.from({ length: raw.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** The first `dimensions` of a vector at length 1 again. */
export function cut(vector, dimensions) {
  if (!dimensions || dimensions >= vector.length) return vector;
  const head = vector.subarray(0, dimensions);
  const length = Math.hypot(...head);
  return length > 0 ? head.map((x) => x / length) : head;
}

/** For each picture {cosines, error}: one cosine a text, in their order. */
export async function cosinesOf(pictures, texts, work) {
  if (state.model.mixture) return cosinesThere(pictures, texts, work);
  const vectors = await embedTexts(texts, work);
  const found = await embedPictures(pictures, work);
  return found.map(({ vector, error }) => (error ? { error } : { cosines: vectors.map((each) => dot(each, vector)) }));
}

function cosinesThere(pictures, texts, work) {
  return inBatches(pictures, {
    request: async (pairs) => {
      const candidates = await Promise.all(pairs.map(async ([, blob]) => ({ image: await base64(blob) })));
      const request = json("/similarity", { queries: texts, candidates, on_error: "item" });
      return { path: request.path, body: JSON.stringify(request.json) };
    },
    take: ({ cosine, errors }) => {
      const found = cosine[0].map((_, index) => ({ cosines: cosine.map((row) => row[index]) }));
      for (const { index, error } of errors?.candidates ?? []) found[index] = { error };
      return found;
    },
  }, work);
}
