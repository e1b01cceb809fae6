/** What is said of classified pictures: cards that follow the threshold while it is dragged. */

import { byId, el } from "./dom.js";
import { KEPT, verdict } from "./judging.js";
import { bars, longList, percent, thumbnail } from "./results.js";
import { many } from "./state.js";
import { table } from "./table.js";
import { takeAway } from "./take.js";
import { why } from "./why.js";

/** {content, summary}; `how` = {model, multiLabel, alone, question, view}, where `view()` gives {threshold, topK} as they stand. */
export function verdicts(entries, how) {
  const content = el("div", { class: "verdicts" });
  const redraw = () => {
    if (content.isConnected || !content.firstChild) keepFocus(content, () => content.replaceChildren(...drawn(entries, { ...how, ...how.view() }, redraw)));
  };
  redraw();
  earlier.abort(); // its answer, with all pictures, would be held
  earlier = new AbortController();
  for (const name of ["threshold", "top-k"]) follow(byId(name), redraw);
  const told = entries.slice(0, 5).map((entry) => `${entry.picture.name}: ${said(entry, { ...how, ...how.view() })}`);
  return { content, summary: `${told.join(". ")}${entries.length > 5 ? `. ${entries.length - 5} more.` : ""}` };
}

/** What had the focus is drawn anew, and its like takes it over. */
function keepFocus(content, draw) {
  const like = () => [...content.querySelectorAll("button, input")];
  const index = like().indexOf(document.activeElement);
  draw();
  if (index >= 0) like()[index]?.focus();
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

const MANY = 24; // pictures, of which a table says more than cards
const VIEWS = ["Cards", "Table"];
let chosenView = null; // until somebody chooses

function drawn(entries, how, redraw) {
  const view = chosenView ?? (entries.length > MANY ? "Table" : "Cards");
  const shown = view === "Table"
    ? table(entries.map((entry) => row(entry, how)), redraw)
    : longList("ul", { class: entries.length > 1 ? "cards" : "cards single" }, entries, (entry) => card(entry, how));
  const choose = (name) => {
    chosenView = name;
    redraw();
  };
  const views = VIEWS.map((name) => el("button", { "aria-pressed": String(name === view), click: () => choose(name) }, name));
  const bar = takeAway("classified", () => entries.map((entry) => saved(entry, how)), {
    question: how.question,
    children: [el("span", { class: "choices views", role: "group", "aria-label": "View" }, ...views)],
  });
  return [overview(entries, how), bar, shown];
}

/** A line of the table. */
function row(entry, how) {
  const { picture, predictions, error } = entry;
  if (error) return { picture, name: picture.name, error: error.message };
  const best = verdict(entry, how);
  const [first, second] = predictions;
  const label = best.length ? best.map((each) => each.label).join(", ") : "none of these";
  return { picture, name: picture.name, label, score: first?.score ?? null, cosine: first?.cosine, second: best.length ? (second ? `${second.label}, ${percent(second.score)}` : "") : first && `closest: ${first.label}` };
}

/** A line of the CSV, and an entry of the JSON: what is shown, and a column for each label. */
function saved(entry, how) {
  const { picture, predictions, error } = entry;
  if (error) return { picture: picture.name, label: null, score: null, cosine: null, error: error.message };
  const [first] = predictions;
  const label = verdict(entry, how).map((each) => each.label).join(", ") || null;
  const scores = Object.fromEntries(predictions.map((each) => [`score: ${each.label}`, each.score]));
  return { picture: picture.name, label, score: first?.score ?? null, cosine: first?.cosine ?? null, error: null, ...scores };
}

/** How many pictures have an answer. */
function overview(entries, how) {
  const bad = entries.filter(({ error }) => error);
  const none = entries.filter((entry) => !entry.error && !verdict(entry, how).length).length;
  const facts = [
    entries.length > 1 ? `${many(entries.length)} pictures` : null,
    entries.length > 1 && none ? `${many(none)} none of these` : null,
    entries.some(({ left }) => left && left.count !== 0) ? `of each picture the ${KEPT} best labels are kept, also in files` : null,
    bad.length && entries.length > 1 ? `${bad.length} could not be read: ${names(bad)}` : null,
  ].filter(Boolean);
  return el("p", { class: "overview hint", hidden: !facts.length }, facts.join(" · "));
}

function names(entries) {
  const shown = entries.slice(0, 5).map(({ picture }) => picture.name).join(", ");
  return entries.length > 5 ? `${shown} and ${entries.length - 5} more` : shown;
}

function card(entry, how) {
  const { picture, predictions, error } = entry;
  const fitting = error ? [] : predictions.filter(({ score }) => score >= how.threshold).slice(0, how.topK);
  return el("li", { class: "card result" },
    thumbnail(picture, "large"),
    el("div", { class: "verdict" }, el("p", { class: "name" }, picture.name), ...headline(entry, how)),
    fitting.length ? bars(fitting) : null,
    error ? null : why(entry, how),
  );
}

function headline(entry, how) {
  if (entry.error) return [el("p", { class: "message" }, entry.error.message)];
  const best = verdict(entry, how);
  if (best.length) return [el("p", { class: "best" }, best.map(({ label }) => label).join(", "))];
  const [closest] = entry.predictions;
  const why = how.threshold ? "No score reaches the threshold." : "No label is likelier than not.";
  return [
    el("p", { class: "best none" }, "none of these"),
    el("p", { class: "hint" }, closest ? `${why} Closest is ${closest.label}, ${percent(closest.score)}.` : why),
  ];
}

function said(entry, how) {
  if (entry.error) return entry.error.message;
  const best = verdict(entry, how);
  return best.length ? best.map(({ label, score }) => `${label}, ${percent(score)}`).join(" and ") : "none of these";
}
