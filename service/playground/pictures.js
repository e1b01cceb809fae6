/** The pictures to ask about: chosen, dropped, pasted, or samples. */

import { server } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { thumbnail } from "./results.js";
import { bytes, changed, onChange, state } from "./state.js";

/** Photographs that every server has; see NOTICE for their authors. */
export const SAMPLES = [
  { name: "coffee.jpg", what: "a cup of coffee" },
  { name: "chelsea.jpg", what: "a cat" },
  { name: "rocket.jpg", what: "a rocket launch" },
  { name: "astronaut.jpg", what: "an astronaut" },
];

export function pictureTray() {
  byId("files").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("clear").addEventListener("click", () => {
    state.pictures = [];
    changed();
    byId("files").focus();
  });
  document.addEventListener("paste", ({ clipboardData }) => add(clipboardData.files));
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
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-inside);
    add(event.dataTransfer.files);
  });
}

function sampleButton({ name, what }) {
  return el("li", {}, el("button", { type: "button", click: () => takeSamples([name]), "aria-label": `Add the sample: ${what}`, title: what },
    el("img", { src: sampleUrl(name), alt: "" })));
}

const sampleUrl = (name) => `${server}/playground/samples/${name}`;

/** Add those samples that are not there yet. */
export async function takeSamples(names) {
  const missing = names.filter((name) => !state.pictures.some(({ url }) => url === sampleUrl(name)));
  const taken = await Promise.all(missing.map(async (name) => {
    const url = sampleUrl(name);
    return { file: new File([await (await fetch(url)).blob()], name), name, url, sample: true };
  }));
  keep(taken);
}

function add(files) {
  const limit = state.info?.limits.max_body_bytes ?? Infinity;
  const given = [...files];
  if (!given.length) return; // a text was pasted
  const warnings = given
    .filter(({ size }) => size > limit)
    .map(({ name, size }) => `${name} has ${bytes(size)}; this server takes ${bytes(limit)} at most.`);
  const fitting = given.filter(({ size }) => size <= limit);
  // Object URLs are kept: results go on showing a picture after it was removed here.
  keep(fitting.map((file) => ({ file, name: file.name, url: URL.createObjectURL(file), sample: false })), warnings);
}

function keep(pictures, warnings = []) {
  const most = state.info?.limits.max_items ?? Infinity;
  const room = Math.max(0, most - state.pictures.length);
  if (pictures.length > room) warnings.push(`This server takes ${most} pictures at a time; the others were left out.`);
  state.pictures = [...state.pictures, ...pictures.slice(0, room)];
  byId("tray-hint").textContent = warnings.join(" ");
  byId("tray-hint").hidden = !warnings.length;
  changed();
  announce(`Pictures chosen: ${state.pictures.length}`);
}

function redraw() {
  const tray = byId("tray");
  const shown = new Map([...tray.children].map((tile) => [tile.picture, tile]));
  tray.replaceChildren(...state.pictures.map((picture) => shown.get(picture) ?? tile(picture)));
  byId("clear").hidden = state.pictures.length < 2;
}

function tile(picture) {
  const image = thumbnail(picture, "small");
  const name = el("span", { class: "name" }, picture.name);
  const item = el("li", {}, image, el("span", { class: "what" }, name, el("span", { class: "hint" }, bytes(picture.file.size))),
    el("button", { type: "button", class: "remove", "aria-label": `Remove ${picture.name}`, click: () => remove(picture) }, "×"));
  item.picture = picture;
  image.addEventListener("load", () => hintPixels(item, image));
  return item;
}

function hintPixels(item, { naturalWidth: width, naturalHeight: height }) {
  const limit = state.info?.limits.max_image_pixels ?? Infinity;
  const hint = item.querySelector(".hint");
  hint.textContent += ` · ${width} × ${height}`;
  if (width * height > limit) {
    hint.textContent += `: more than the ${Math.round(limit / 1e4) / 100} million pixels that this server takes`;
    hint.classList.add("warning");
  }
}

function remove(picture) {
  const index = state.pictures.indexOf(picture);
  state.pictures = state.pictures.filter((each) => each !== picture);
  changed();
  const next = byId("tray").children[Math.min(index, state.pictures.length - 1)];
  (next?.querySelector("button") ?? byId("files")).focus();
}
