/**
 * Requests. What is shown as curl and Python is made from a description:
 *   {path, files: [picture], fields: [[name, value]]}   to be sent as multipart/form-data
 *   {path, json}                                        to be sent as JSON; a Picture in it stands for its base64
 * The page itself asks in batches and keeps vectors (see vectors.js); the answers are the same.
 */

import { modelToName } from "./state.js";

/** A picture inside of `json`. */
export class Picture {
  constructor(picture) {
    this.picture = picture;
  }
}

/** Pictures and options as multipart, an error of one sparing the others; options that are null are left out, lists are repeated. */
export function multipart(path, files, options) {
  const fields = Object.entries({ on_error: files.length > 1 ? "item" : null, ...options, model: modelToName() })
    .filter(([, value]) => value !== null)
    .flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)]));
  return { path, files, fields };
}

/** A JSON request; entries that are null are left out. */
export function json(path, entries) {
  const given = Object.entries({ ...entries, model: modelToName() }).filter(([, value]) => value !== null);
  return { path, json: Object.fromEntries(given) };
}

/** A form as it is sent: {path, body}, with the [picture, blob] of `pairs` as its files. */
export function form(path, pairs, options) {
  const body = new FormData();
  for (const [, blob] of pairs) body.append("file", blob); // names stay here: the answer is by order
  for (const [name, value] of multipart(path, [], options).fields) body.append(name, value);
  return { path, body };
}

/** Every Picture in a tree of arrays and objects. */
export function picturesIn(value) {
  if (value instanceof Picture) return [value];
  return value !== null && typeof value === "object" ? Object.values(value).flatMap(picturesIn) : [];
}

/** A blob in base64. */
export async function base64(blob) {
  const reader = new FileReader();
  reader.readAsDataURL(blob);
  return (await settled(reader, "load", "error")).split(",")[1];
}

/** The result of what tells of its end by events. */
export const settled = (request, done, failed) => new Promise((resolve, reject) => {
  request.addEventListener(done, () => resolve(request.result));
  request.addEventListener(failed, () => reject(request.error));
});
