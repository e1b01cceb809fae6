/** A compact table of classified pictures, sorted by any column and grouped by label. */

import { el } from "./dom.js";
import { percent, thumbnail } from "./results.js";
import { many } from "./state.js";

const MOST_ROWS = 200;
const thumbnails = new WeakMap(); // by picture: drawn anew they would flicker while the threshold is dragged
const COLUMNS = [
  { name: "Picture", of: ({ name }) => name },
  { name: "Label", of: ({ label }) => label },
  { name: "Score", of: ({ score }) => score, shown: ({ score }) => (score === null ? "" : percent(score)) },
  { name: "Cosine", of: ({ cosine }) => cosine, shown: ({ cosine }) => cosine?.toFixed(3) ?? "" },
  { name: "Runner-up", of: ({ second }) => second },
];
const order = { column: null, down: false, grouped: false, all: false }; // kept from answer to answer

/** `rows` = [{picture, name, label, score, cosine, second, error}]; `redraw` shows the table anew. */
export function table(rows, redraw) {
  const set = (change) => {
    Object.assign(order, change);
    redraw();
  };
  const grouping = el("input", { type: "checkbox", class: "grouping", checked: order.grouped, change: () => set({ grouped: grouping.checked }) });
  const groups = order.grouped ? byLabel(rows) : [[null, rows]];
  let left = order.all ? Infinity : MOST_ROWS;
  const bodies = groups.map(([label, some]) => {
    const shown = ordered(some).slice(0, left);
    left -= shown.length;
    const head = label === null ? [] : [el("tr", { class: "group" }, el("th", { colspan: COLUMNS.length, scope: "rowgroup" }, `${label} · ${many(some.length)}`))];
    return el("tbody", {}, ...head, ...shown.map(line));
  });
  const more = rows.length > MOST_ROWS && !order.all;
  return el("div", { class: "table card" },
    el("label", { class: "check" }, grouping, "Group by label"),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of results" },
      el("table", {}, el("thead", {}, el("tr", {}, ...COLUMNS.map((column, index) => heading(column, index, set)))), ...bodies)),
    more ? el("button", { class: "more", click: () => set({ all: true }) }, `Show all ${many(rows.length)}`) : null,
  );
}

function heading({ name }, index, set) {
  const sorted = order.column === index;
  const click = () => set({ column: index, down: sorted && !order.down });
  return el("th", { scope: "col", "aria-sort": sorted ? (order.down ? "descending" : "ascending") : "none" },
    el("button", { "data-column": index, click }, name, el("span", { "aria-hidden": true }, sorted ? (order.down ? " ↓" : " ↑") : "")));
}

function line(row) {
  if (!thumbnails.has(row.picture)) thumbnails.set(row.picture, thumbnail(row.picture, "tiny"));
  return el("tr", {},
    el("th", { scope: "row" }, thumbnails.get(row.picture), row.name),
    ...(row.error
      ? [el("td", { colspan: COLUMNS.length - 1, class: "warning" }, row.error)]
      : COLUMNS.slice(1).map((column) => el("td", {}, String((column.shown ?? column.of)(row) ?? "")))));
}

/** What has no value comes last. */
function ordered(rows) {
  if (order.column === null) return rows;
  const { of } = COLUMNS[order.column];
  const sign = order.down ? -1 : 1;
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
  return [...rows].sort((one, other) => {
    const [a, b] = [of(one), of(other)];
    return (a ?? null) === null || (b ?? null) === null ? ((a ?? null) === null) - ((b ?? null) === null) : sign * compare(a, b);
  });
}

/** Groups of rows, the largest first. */
function byLabel(rows) {
  const groups = new Map();
  for (const row of rows) {
    const label = row.error ? "could not be read" : row.label;
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(row);
  }
  return [...groups].sort(([, a], [, b]) => b.length - a.length);
}
