/** Pictures that outlive a reload: as sent, with their vectors, in IndexedDB until removed or the tab is long gone. */

import { server, store, stored } from "./api.js";
import { toSend } from "./batches.js";
import { bytes, hint, many } from "./dom.js";
import { settled } from "./request.js";
import { addressed, changed, onChange, state } from "./state.js";

const MOST_BYTES = 256 * 1024 * 1024; // of one tab
const FORGOTTEN_MS = 8 * 3_600_000; // after a tab was last seen: no browser says that one was closed
const SEEN_EVERY_MS = 600_000;
const NAME = `sightword-pictures ${server}`; // of the database, and of this tab's session in the session's storage
const STORES = ["pictures", "sessions"]; // by [session, load, number], and by [session] when it was seen
const load = performance.timeOrigin + Math.random(); // a tab that was duplicated has the same session
const session = () => stored(NAME);

const held = new Map(); // what is kept: by picture {key, size, vector}
let left = new WeakSet(); // pictures that cannot be
let count = 0;
let why = "";
let database = null;
let busy = false;
let again = false;

export const isKept = (picture) => held.has(picture);

/** Bring back what this tab had before a reload, and keep what comes from now on. Never rejects. */
export async function keepPictures() {
  onChange(() => {
    removeGone();
    keep();
  });
  setInterval(() => held.size && seen(), SEEN_EVERY_MS);
  const [names, times] = await transact((_, sessions) => [sessions.getAllKeys(), sessions.getAll()]) ?? [[]];
  const gone = names.filter(([name], index) => name !== session() && Date.now() - times[index] > FORGOTTEN_MS);
  for (const [name] of gone) await drop(within(name));
  if (session()) await bringBack();
}

/** Keep what is not kept yet, one after the other. */
export async function keep() {
  again = true;
  if (busy || !state.model) return; // what is sent, and so kept, depends on the model
  busy = true;
  while (again) {
    again = false;
    for (const picture of state.pictures) if (!picture.sample && !left.has(picture) && held.get(picture)?.vector !== vectorOf(picture)) await keepOne(picture);
  }
  busy = false;
  const own = state.pictures.filter(({ sample }) => !sample);
  const lost = own.filter((picture) => !held.has(picture)).length;
  hint("kept-hint", lost && why ? `A reload would lose ${many(lost)} of your ${many(own.length)} pictures: ${why}.` : "");
}

const vectorOf = ({ embedded }) => embedded?.vector ?? null;

async function keepOne(picture) {
  const before = held.get(picture);
  const file = await toSend(picture).catch(() => null); // why not, is told when it is asked about
  const size = (file?.size ?? 0) + 4 * state.model.dimensions;
  const fits = [...held.values()].reduce((sum, row) => sum + row.size, size - (before?.size ?? 0)) <= MOST_BYTES;
  if (!fits) why = `this page keeps ${bytes(MOST_BYTES)} at most`;
  if (!file || !fits) return left.add(picture);
  if (!state.pictures.includes(picture)) return null; // removed meanwhile
  if (!session()) store(NAME, `${Date.now()} ${Math.random()}`);
  const key = before?.key ?? [session(), load, (count += 1)];
  held.set(picture, { key, size, vector: vectorOf(picture) });
  const { name, size: chosen, pixels, copied, embedded } = picture;
  const row = { file, name, size: chosen, pixels, copied: copied && { ...copied, blob: null }, embedded: vectorOf(picture) && embedded };
  if (await transact((pictures, sessions) => [pictures.put(row, key), sessions.put(Date.now(), [key[0]])])) return null;
  if (before) held.set(picture, before);
  else held.delete(picture);
  return left.add(picture);
}

const seen = () => transact((_, sessions) => [sessions.put(Date.now(), [session()])]);

/** What was removed from the page is removed here, and leaves room for what had none. */
function removeGone() {
  const shown = new Set(state.pictures);
  const gone = [...held].filter(([picture]) => !shown.has(picture));
  if (!gone.length) return;
  left = new WeakSet();
  why = "";
  if (gone.length === held.size) forgetPictures();
  for (const [picture, { key }] of gone) if (held.delete(picture)) drop(key);
}

/** Leave nothing of this tab behind. */
export function forgetPictures() {
  const name = session();
  for (const picture of held.keys()) left.add(picture);
  held.clear();
  store(NAME, null);
  if (name) drop(within(name));
}

const drop = (keys) => transact((...stores) => stores.map((each) => each.delete(keys)));

const within = (name) => IDBKeyRange.bound([name], [name, []]);

async function bringBack() {
  await seen();
  const range = within(session());
  const [keys, rows] = await transact((each) => [each.getAllKeys(range), each.getAll(range)]) ?? [[], []];
  const pictures = rows.map(({ file, copied, ...told }, index) => {
    const picture = addressed({ ...told, file, copied: copied && { ...copied, blob: file }, sample: false }, file);
    const vector = vectorOf(picture);
    held.set(picture, { key: keys[index], size: file.size + (vector?.byteLength ?? 0), vector });
    return picture;
  });
  state.pictures = [...pictures, ...state.pictures];
  changed();
}

/** The results of the requests that `act` makes of the two stores, once all is on the disk; null where this browser keeps nothing. */
async function transact(act) {
  try {
    database ??= opened();
    const transaction = (await database).transaction(STORES, "readwrite");
    const requests = act(...STORES.map((name) => transaction.objectStore(name)));
    await settled(transaction, "complete", "abort");
    return requests.map(({ result }) => result);
  } catch (error) {
    why = error?.name === "QuotaExceededError" ? "this browser has no more room" : "this browser refuses to keep them, as private windows may";
    return null;
  }
}

async function opened() {
  const opening = indexedDB.open(NAME, 1);
  opening.addEventListener("upgradeneeded", () => STORES.forEach((name) => opening.result.createObjectStore(name)));
  return settled(opening, "success", "error");
}
