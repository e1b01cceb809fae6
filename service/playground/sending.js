/** What goes to the server for one picture: the file, or a smaller copy of a large one. */

import { inBackground } from "./background.js";
import { addressed, bytes, state } from "./state.js";

const LARGE_BYTES = 256 * 1024; // smaller files go as they are, so that the commands shown get the same answer to the digit
const TIMES_INPUT = 2;
export const PART_BYTES = 2048; // of a form, around each file

/** The shorter side of copies, in pixels. */
export const copySide = () => TIMES_INPUT * (state.model?.image_size ?? 224);

/** A file that cannot be sent, and why. */
export class Unsendable extends Error {}

/**
 * The Blob to send for a picture. Notes on the picture what was done: `picture.copied` = {side, blob, from, to}.
 * Rejects with Unsendable where the file cannot be read or is too large for this server.
 */
export async function toSend(picture) {
  const blob = await copyOrFile(picture);
  const limit = state.info?.limits.max_body_bytes ?? Infinity;
  if (blob.size + PART_BYTES > limit) {
    throw new Unsendable(`It has ${bytes(blob.size)} and this browser cannot make it smaller; the server takes ${bytes(limit)} at most.`);
  }
  try {
    return new Blob([await blob.arrayBuffer()], { type: blob.type });
  } catch {
    throw new Unsendable("The file cannot be read any more: was it moved, changed or taken away? Choose it again.");
  }
}

async function copyOrFile(picture) {
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

function isLarge({ file, pixels = 0 }) {
  const { max_image_pixels: mostPixels = Infinity, max_body_bytes: mostBytes = Infinity } = state.info?.limits ?? {};
  return file.size > Math.min(LARGE_BYTES, mostBytes) || pixels > mostPixels;
}

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
  const many = copies.length > 1;
  return `${many ? `${copies.length} large pictures went` : `${copies[0].name} is large and went`} as ${many ? "copies" : "a copy"} with a shorter side of `
    + `${side} pixels, twice what the model sees: ${sum(({ file }) => file.size)} became ${sum(({ copied }) => copied.blob.size)}.`;
}
