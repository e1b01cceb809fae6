/**
 * A request before it is sent. What is fetched and what is shown as curl and Python are made from the same description:
 *   {path, files: [picture], fields: [[name, value]]}   sent as multipart/form-data
 *   {path, json}                                        sent as JSON; a Picture in it stands for its base64
 */

import { state, bytes, modelToName } from "./state.js";

/** A request that is not worth sending, and why. */
export class Complaint extends Error {}

/** A picture inside of `json`. */
export class Picture {
  constructor(picture) {
    this.picture = picture;
  }
}

/** Pictures and options as multipart; options that are null are left out, lists are repeated. */
export function multipart(path, files, options) {
  const fields = Object.entries({ ...options, model: modelToName() })
    .filter(([, value]) => value !== null)
    .flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)]));
  return { path, files, fields };
}

/** A JSON request; entries that are null are left out. */
export function json(path, entries) {
  const given = Object.entries({ ...entries, model: modelToName() }).filter(([, value]) => value !== null);
  return { path, json: Object.fromEntries(given) };
}

/** The body for fetch. Rejects with Complaint what the server's limits rule out. */
export async function encode(request) {
  if (request.files) {
    checkSize(request.files.reduce((total, { file }) => total + file.size, 0));
    const form = new FormData();
    for (const { file, name } of request.files) form.append("file", file, name);
    for (const [name, value] of request.fields) form.append(name, value);
    return form;
  }
  const inside = picturesIn(request.json);
  checkSize(inside.reduce((total, { picture }) => total + (picture.file.size * 4) / 3, 0));
  const encoded = new Map(await Promise.all(inside.map(async (each) => [each, await base64(each.picture.file)])));
  return JSON.stringify(request.json, (_, value) => (value instanceof Picture ? encoded.get(value) : value));
}

/** Every Picture in a tree of arrays and objects. */
export function picturesIn(value) {
  if (value instanceof Picture) return [value];
  return value !== null && typeof value === "object" ? Object.values(value).flatMap(picturesIn) : [];
}

function checkSize(total) {
  const limit = state.info?.limits.max_body_bytes;
  if (limit && total > limit) {
    throw new Complaint(`That would be ${bytes(total)} in one request; this server takes ${bytes(limit)}. Remove a picture.`);
  }
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(new Complaint(`${file.name} cannot be read any more; choose it again.`)));
    reader.readAsDataURL(file);
  });
}
