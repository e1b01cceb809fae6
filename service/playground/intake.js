/** What is dropped, chosen or pasted: the pictures among files and folders, and a count of what is none. */

import { counted, many } from "./dom.js";

const PICTURE = /\.(jpe?g|jfif|png|webp|gif|bmp|dib|tiff?|heic|heif|avif)$/i;
const EXTENSION = /\.[a-z][a-z0-9]{0,9}$/i;
const MOST_FILES = 50_000; // looked at in one drop
const NAMED = 3;

/**
 * Files and folders of a drop, depth first by name: {files, tooMany}, `files` as [file, path]. To be called while the event is
 * handled, since the transfer is empty afterwards.
 */
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry?.() ?? item.getAsFile() : null)).filter(Boolean);
  const found = { files: [], tooMany: false, unread: [] };
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (found.files.length >= MOST_FILES) {
    found.tooMany = true;
    return;
  }
  try {
    if (entry instanceof File) found.files.push([entry, entry.name]);
    else if (entry.isFile) found.files.push([await settled((...then) => entry.file(...then)), entry.fullPath.slice(1)]);
    else for (const child of await children(entry)) await walk(child, found);
  } catch {
    found.unread.push(entry.name);
  }
}

/** Everything in a folder: browsers give a hundred at a time. */
async function children(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const some = await settled((...then) => reader.readEntries(...then));
    if (!some.length || all.length > MOST_FILES) return all.sort((a, b) => (a.name < b.name ? -1 : 1));
    all.push(...some);
  }
}

const settled = (call) => new Promise((resolve, reject) => call(resolve, reject));

/** Files that were chosen one by one, or with their folder by name, as [file, path]. */
export const filesOfChoice = (list) =>
  [...list].map((file) => [file, file.webkitRelativePath || file.name])
    .sort(([{ webkitRelativePath: inFolder }, a], [, b]) => (inFolder ? (a < b ? -1 : 1) : 0));

/** {pictures, told}: what looks like pictures, and a sentence on what does not. */
export function sorted({ files, tooMany = false, unread = [] }) {
  const pictures = files.filter(([file, path]) => isPicture(file, path));
  const others = files.filter(([file, path]) => !isPicture(file, path)).map(([, path]) => path);
  const told = [
    others.length ? `${counted(others.length, "file is no picture", "files are no pictures")} and ${others.length === 1 ? "was" : "were"} left out: ${named(others)}.` : "",
    unread.length ? `${counted(unread.length, "entry", "entries")} could not be read: ${named(unread)}.` : "",
    tooMany ? `Only the first ${many(MOST_FILES)} files were looked at.` : "",
  ];
  return { pictures, told: told.filter(Boolean) };
}

/** By type or name; what has neither may be one, and the server will say. */
function isPicture({ type, name }, path) {
  if (type.startsWith("image/") && type !== "image/svg+xml") return true;
  return PICTURE.test(name) || (!type && !EXTENSION.test(name) && path === name && !name.startsWith("."));
}

const named = (names) => names.slice(0, NAMED).join(", ") + (names.length > NAMED ? ", …" : "");
