/** The pictures to ask about: chosen, dropped, pasted, or samples. */

import { server } from "./api.js";
import { announce, byId, bytes, el, hint, many, on } from "./dom.js";
import { filesOfChoice, filesOfDrop, sorted } from "./intake.js";
import { thumbnail } from "./results.js";
import { addressed, changed, onChange, state } from "./state.js";

/** Photographs that every server has, see NOTICE; some show what the model that ships never saw. */
export const SAMPLES = [
  { name: "coffee.jpg", what: "a cup of coffee" },
  { name: "chelsea.jpg", what: "a cat" },
  { name: "rocket.jpg", what: "a rocket launch", strange: true },
  { name: "astronaut.jpg", what: "an astronaut", strange: true },
];

const MOST = 20_000;
const TILES = 50; // of them are in the tray

export function pictureTray() {
  for (const name of ["files", "folder"]) {
    on(name, "change", ({ target }) => {
      add({ files: filesOfChoice(target.files) });
      target.value = ""; // so that the same can be chosen again
    });
  }
  on("clear", "click", () => {
    state.pictures = [];
    changed();
    byId("files").focus();
  });
  document.addEventListener("paste", ({ clipboardData }) => add({ files: filesOfChoice(clipboardData.files) }));
  acceptDrops();
  byId("samples").append(...SAMPLES.map(sampleButton));
  onChange(redraw);
  redraw();
}

function acceptDrops() {
  const area = byId("drop");
  let inside = 0; // drag events come from every element on the way
  const over = (change) => area.classList.toggle("over", (inside = Math.max(0, inside + change)) > 0);
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    over(-inside);
    tell(["Looking for pictures…"]);
    const found = await filesOfDrop(event.dataTransfer);
    add(found);
    if (!found.files.length && !found.unread.length) tell(["There was no file in what was dropped."]);
  });
}

function sampleButton({ name, what, strange }) {
  return el(strange ? "li.strange" : "li", el("button", { click: () => takeSamples([name]), "aria-label": `Add the sample: ${what}`, title: what },
    el("img", { src: sampleUrl(name), alt: "" })));
}

const sampleUrl = (name) => `${server}/playground/samples/${name}`;

/** Add those samples that are not there yet. */
export async function takeSamples(names) {
  const isMissing = ({ name }) => !state.pictures.some(({ url }) => url === sampleUrl(name));
  try {
    const taken = await Promise.all(SAMPLES.filter(({ name }) => names.includes(name)).filter(isMissing).map(fetched));
    if (taken.length) keep(taken.filter(isMissing)); // a second click may have been faster
  } catch {
    tell(["The sample cannot be fetched. Is the server running, and are you online? Then try again."]);
  }
}

async function fetched({ name }) {
  const answer = await fetch(sampleUrl(name));
  if (!answer.ok) throw new Error(answer.statusText);
  const file = new File([await answer.blob()], name);
  return { file, name, size: file.size, url: sampleUrl(name), sample: true };
}

function add(found) {
  const { pictures, told } = sorted(found);
  if (!found.files.length && !told.length) return tell([]); // a text was pasted, or a folder is empty
  return keep(pictures.map(([file, name]) => addressed({ file, name, size: file.size, sample: false }, file)), told);
}

function keep(pictures, told = []) {
  const room = Math.max(0, MOST - state.pictures.length);
  const left = pictures.length - room;
  if (left > 0) told.push(`This page holds ${many(MOST)} pictures; ${many(left)} were left out.`);
  state.pictures = [...state.pictures, ...pictures.slice(0, room)];
  tell(told);
  changed();
  announce(`Pictures chosen: ${state.pictures.length}`);
}

const tell = (sentences) => hint("tray-hint", sentences.join(" "));

function redraw() {
  const { children } = byId("tray");
  const shown = state.pictures.slice(0, TILES);
  for (const each of [...children]) if (!shown.includes(each.picture)) each.remove(); // the others stay, with the focus
  byId("tray").append(...shown.slice(children.length).map(tile));
  const { length } = state.pictures;
  hint("tray-more", length > 1 ? `${many(length)} pictures${length > TILES ? `, the first ${TILES} of them here` : ""}` : "");
  byId("clear").hidden = length < 2;
}

function tile(picture) {
  const image = thumbnail(picture, "small");
  const name = el("span.name", picture.name);
  const size = el("span.hint", measured(picture));
  const item = el("li", image, el("span.what", name, size),
    el("button.remove", { "aria-label": `Remove ${picture.name}`, click: () => remove(picture) }, "×"));
  item.picture = picture;
  image.addEventListener("load", () => {
    picture.pixels ??= [image.naturalWidth, image.naturalHeight]; // of the file: a copy is shown later
    size.textContent = measured(picture);
  });
  return item;
}

/** How large the file is; by its pixels `batches.js` makes a copy of one that is too large. */
const measured = ({ size, pixels }) => bytes(size) + (pixels ? ` · ${pixels.join(" × ")}` : "");

function remove(picture) {
  const index = state.pictures.indexOf(picture);
  state.pictures = state.pictures.filter((each) => each !== picture);
  changed();
  const next = byId("tray").children[Math.min(index, state.pictures.length - 1)];
  (next?.querySelector("button") ?? byId("files")).focus();
}
