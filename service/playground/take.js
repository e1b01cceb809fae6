/** Results as files: CSV, JSON and NumPy's .npy. */

import { write } from "./address.js";
import { copyButton } from "./code.js";
import { el } from "./dom.js";
import { state } from "./state.js";

/**
 * A line of buttons that save `rows()` = [{column: value}], and with `vectors` those as one matrix; `question` goes into the JSON.
 * `name` begins the files' names.
 */
export function takeAway(name, rows, { question = {}, vectors = null, children = [] } = {}) {
  const save = (ending, type, make) => el("button.copy", { click: () => download(`${name}.${ending}`, make(), type) }, ending.toUpperCase());
  const { id, digest, bundled } = state.model;
  const whole = () => `${JSON.stringify({ model: id, digest, ...question, results: rows() }, null, 1)}\n`;
  const link = el("code.visually-hidden");
  return el("div.take",
    ...children,
    el("span.demo", { title: `${id}, digest ${digest}` }, bundled ? "demo model" : id),
    el("span.saving", { role: "group", "aria-label": "Save the result" }, el("span", "Save"),
      save("csv", "text/csv;charset=utf-8", () => csv(rows())), save("json", "application/json", whole),
      vectors ? save("npy", "application/octet-stream", () => npy(vectors())) : null,
      copyButton(() => write() && (link.textContent = location.href), link, "Copy link"), link),
  );
}

function download(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** With the byte order mark by which Excel knows UTF-8. */
export function csv(rows) {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  return `\uFEFF${lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("")}`;
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  // A spreadsheet would compute a text that begins like a formula. Some begin a cell after ; or tab.
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Vectors of one length as float32 [items, dimensions], format version 1.0. */
export function npy(vectors) {
  const width = vectors[0]?.length ?? 0;
  const described = `{'descr': '<f4', 'fortran_order': False, 'shape': (${vectors.length}, ${width}), }`;
  const length = 64 * Math.ceil((10 + described.length + 1) / 64);
  const head = Uint8Array.from(`\x93NUMPY\x01\x00\x00\x00${described.padEnd(length - 11)}\n`, (c) => c.charCodeAt(0));
  const view = new DataView(new ArrayBuffer(length + 4 * vectors.length * width));
  new Uint8Array(view.buffer).set(head);
  view.setUint16(8, length - 10, true);
  vectors.forEach((vector, row) => vector.forEach((x, i) => view.setFloat32(length + 4 * (row * width + i), x, true)));
  return view.buffer;
}
