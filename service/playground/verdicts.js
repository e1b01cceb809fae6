/** What is said of classified pictures: cards that follow the threshold while it is dragged. */

import { byId, el, many } from "./dom.js";
import { KEPT, verdict } from "./judging.js";
import { bars, grid, longList, percent, scrolled, thumbnail, unread } from "./results.js";
import { takeAway } from "./take.js";

/** {content, summary}; `how` = {model, multiLabel, alone, question, view}, where `view()` gives {threshold, topK} as they stand. */
export function verdicts(entries, how) {
  const content = el("div.verdicts");
  const redraw = () => {
    if (content.isConnected || !content.firstChild) keepFocus(content, () => content.replaceChildren(...drawn(entries, { ...how, ...how.view() }, redraw)));
  };
  redraw();
  earlier.abort(); // its answer, with all pictures, would be held
  earlier = new AbortController();
  for (const name of ["threshold", "top-k"]) follow(byId(name), redraw);
  const told = entries.slice(0, 5).map((entry) => `${entry.picture.name}: ${said(entry, { ...how, ...how.view() })}`);
  return { content: [content], summary: `${told.join(". ")}${entries.length > 5 ? `. ${entries.length - 5} more.` : ""}` };
}

/** What had the focus is drawn anew, and its like takes it over. */
function keepFocus(content, draw) {
  const like = () => [...content.querySelectorAll("button, input")];
  const index = like().indexOf(document.activeElement);
  draw();
  if (index >= 0) (like()[index] ?? content.querySelector(".scroll")).focus();
}

let earlier = new AbortController(); // ends the listening for the answer before

function follow(field, redraw) {
  let queued = false;
  const listener = () => {
    if (queued) return;
    queued = true; // one redraw a frame, however fast it is dragged
    requestAnimationFrame(() => {
      queued = false;
      redraw();
    });
  };
  field.addEventListener("input", listener, { signal: earlier.signal });
}

const NONE = "none of these";
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
const MOST_EXPLAINED = 8; // labels of a picture
const MANY = 24; // pictures, of which a table says more than cards
const VIEWS = ["Cards", "Table"];
let chosenView = null; // until somebody chooses

function drawn(entries, how, redraw) {
  const view = chosenView ?? (entries.length > MANY ? "Table" : "Cards");
  const shown = view === "Table"
    ? table(entries.map((entry) => row(entry, how)), redraw)
    : longList(entries.length > 1 ? "ul.cards" : "ul.cards.single", entries, (entry) => card(entry, how));
  const choose = (name) => {
    chosenView = name;
    redraw();
  };
  const views = VIEWS.map((name) => el("button", { "aria-pressed": String(name === view), click: () => choose(name) }, name));
  const bar = takeAway("classified", () => entries.map((entry) => saved(entry, how)), {
    question: how.question,
    children: [el("span.choices.views", { role: "group", "aria-label": "View" }, ...views)],
  });
  return [overview(entries, how), bar, shown];
}

const bestOf = (entry, how) => verdict(entry, how).map(({ label }) => label).join(", ") || null;

function row(entry, how) {
  const { picture, predictions, error } = entry;
  if (error) return { picture, name: picture.name, error: error.message };
  const label = bestOf(entry, how);
  const [first, second] = predictions;
  return { picture, name: picture.name, label: label ?? NONE, score: first?.score ?? null, cosine: first?.cosine, second: label ? (second ? `${second.label}, ${percent(second.score)}` : "") : first && `closest: ${first.label}` };
}

/** A line of the CSV, and an entry of the JSON: what is shown, and a column for each label. */
function saved(entry, how) {
  const { picture, predictions, error } = entry;
  if (error) return { picture: picture.name, label: null, score: null, cosine: null, error: error.message };
  const [first] = predictions;
  const scores = Object.fromEntries(predictions.map((each) => [`score: ${each.label}`, each.score]));
  return { picture: picture.name, label: bestOf(entry, how), score: first?.score ?? null, cosine: first?.cosine ?? null, error: null, ...scores };
}

function overview(entries, how) {
  const none = entries.filter((entry) => !entry.error && !verdict(entry, how).length).length;
  const facts = [
    entries.length > 1 ? `${many(entries.length)} pictures` : null,
    entries.length > 1 && none ? `${many(none)} ${NONE}` : null,
    entries.some(({ left }) => left && left.count !== 0) ? `of each picture the ${KEPT} best labels are kept, also in files` : null,
    entries.length > 1 && unread(entries.filter(({ error }) => error).map(({ picture }) => picture)),
  ].filter(Boolean);
  return el("p.overview.hint", { hidden: !facts.length }, facts.join(" · "));
}

function card(entry, how) {
  const { picture, predictions, error } = entry;
  const fitting = error ? [] : predictions.filter(({ score }) => score >= how.threshold).slice(0, how.topK);
  return el("li.card.result",
    thumbnail(picture, "large"),
    el("div.verdict", el("p.name", picture.name), ...headline(entry, how)),
    fitting.length ? bars(fitting) : null,
    error ? null : why(entry, how),
  );
}

function headline(entry, how) {
  if (entry.error) return [el("p.message", entry.error.message)];
  const best = bestOf(entry, how);
  if (best) return [el("p.best", best)];
  const [closest] = entry.predictions;
  const because = how.threshold ? "No score reaches the threshold." : "No label is likelier than not.";
  return [
    el("p.best.none", NONE),
    el("p.hint", closest ? `${because} Closest is ${closest.label}, ${percent(closest.score)}.` : because),
  ];
}

function said(entry, how) {
  if (entry.error) return entry.error.message;
  const best = verdict(entry, how);
  return best.length ? best.map(({ label, score }) => `${label}, ${percent(score)}`).join(" and ") : NONE;
}

/** A disclosure that fills itself when it is opened. */
function why({ predictions, background, left }, { model, alone }) {
  const box = el("details.why", { toggle: () => box.open && !box.querySelector("table") && box.append(...told()) }, el("summary", "Why this score?"));
  const { logit_scale: scale, logit_bias: bias } = model;
  const times = scale.toFixed(2);
  const logit = ({ cosine }) => scale * (cosine - (background ?? 0)) + (bias ?? 0);
  const told = () => {
    const most = logit(predictions[0]);
    const columns = ["Label", "Cosine", alone ? "Logit" : `× ${times}`, alone ? "Sigmoid" : "e^", "Score"];
    const rows = predictions.slice(0, MOST_EXPLAINED).map((each) => [
      each.label, each.cosine.toFixed(4), logit(each).toFixed(2),
      alone ? `1 / (1 + e^${(-logit(each)).toFixed(2)})` : Math.exp(logit(each) - most).toPrecision(3), percent(each.score)]);
    return [el("p.hint", sentence()), grid([columns, ...rows])];
  };
  const sentence = () => {
    const cosine = "A cosine says how close the vector of the picture and that of a label point: 1 is the same way, 0 is no relation. ";
    if (background !== null) return `${cosine}The prompt without any label has ${background.toFixed(4)}. What a label has more, times the logit scale ${times}, goes through a sigmoid: 50 % is no more than that prompt.`;
    if (alone) return `${cosine}Times the logit scale ${times}${bias === null ? "" : `, plus the bias ${bias.toFixed(2)}`}, it goes through a sigmoid: each label by itself, so the scores need not add up to 100 %.`;
    const sum = (1 / predictions[0].score).toPrecision(4);
    const rest = left.count === 0 || left.score < 5e-4 ? "" : ` Further labels${left.count ? ` (${left.count})` : ""} share ${percent(left.score)}.`;
    return `${cosine}The logit scale ${times}, which the model learnt, spreads them. Softmax shares 100 % among your labels: each e^ (less the highest) by their sum, ${sum}. One wins even if none fits.${rest}`;
  };
  return box;
}

/* ---- the table ---- */

/** `rows` = [{picture, name, label, score, cosine, second, error}]; `redraw` shows the table anew. */
function table(rows, redraw) {
  const set = (change) => {
    Object.assign(order, change);
    redraw();
  };
  const grouping = el("input.grouping", { type: "checkbox", checked: order.grouped, change: () => set({ grouped: grouping.checked }) });
  const groups = order.grouped ? byLabel(rows) : [[null, rows]];
  let left = order.all ? Infinity : MOST_ROWS;
  const bodies = groups.map(([label, some]) => {
    const shown = ordered(some).slice(0, left);
    left -= shown.length;
    const head = label === null ? [] : [el("tr.group", el("th", { colspan: COLUMNS.length, scope: "rowgroup" }, `${label} · ${many(some.length)}`))];
    return el("tbody", ...head, ...shown.map(line));
  });
  const more = rows.length > MOST_ROWS && !order.all;
  return el("div.table.card",
    el("label.check", grouping, "Group by label"),
    scrolled("Table of results", COLUMNS.map((column, index) => heading(column, index, set)), ...bodies),
    more ? el("button.more", { click: () => set({ all: true }) }, `Show all ${many(rows.length)}`) : null,
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
  return el("tr",
    el("th", { scope: "row" }, thumbnails.get(row.picture), row.name),
    ...(row.error
      ? [el("td.warning", { colspan: COLUMNS.length - 1 }, row.error)]
      : COLUMNS.slice(1).map((column) => el("td", String((column.shown ?? column.of)(row) ?? "")))));
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

function byLabel(rows) {
  const groups = new Map();
  for (const row of rows) {
    const label = row.error ? "could not be read" : row.label;
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(row);
  }
  return [...groups].sort(([, a], [, b]) => b.length - a.length);
}
