/** The panel that chooses among labels. */

import { byId, el, lines } from "./dom.js";
import { panel } from "./panel.js";
import { Complaint, multipart } from "./request.js";
import { bars, percent, thumbnail } from "./results.js";
import { onChange, state } from "./state.js";

const knowsNamesOnly = () => (state.model?.categories ?? null) !== null;

export function classifyPanel() {
  for (const name of ["label-set", "template-set", "threshold", "labels"]) byId(name).addEventListener("input", follow);
  onChange(follow); // another model may know names of categories only
  follow();
  panel({ name: "classify", example: ["coffee.jpg"], wantsPictures: () => true, describe, render });
}

function describe(pictures) {
  const labels = ownLabels();
  const set = byId("label-set").value;
  if (!set && !labels.length) throw new Complaint("Write at least one label.");
  const threshold = byId("threshold").valueAsNumber;
  return multipart("/classify", pictures, {
    ...(set ? { label_set: set } : { labels: listed(labels) }),
    ...prompts(),
    multi_label: (!knowsNamesOnly() && byId("multi-label").checked) || null,
    threshold: threshold || null,
    top_k: byId("top-k").valueAsNumber || null,
    on_error: pictures.length > 1 ? "item" : null,
  });
}

function ownLabels() {
  const labels = byId("labels").value.split(/[,\n]/).map((label) => label.trim()).filter(Boolean);
  return [...new Set(labels)];
}

/** As the server reads it: between commas where that is clear, or else as a JSON list. */
function listed(labels) {
  return labels.every((label) => /^[^"[{;\t]+$/.test(label)) ? labels.join(",") : JSON.stringify(labels);
}

function prompts() {
  const chosen = byId("template-set").value;
  if (byId("label-set").value || knowsNamesOnly()) return {}; // a label set brings its own, a name is its own
  if (chosen !== "own") return { template_set: chosen || null };
  const templates = lines(byId("templates"));
  if (!templates.length) throw new Complaint("Write at least one prompt, with {} where the label goes.");
  return { templates };
}

/** Show what the form's choices ask for. */
function follow() {
  const count = ownLabels().length;
  byId("labels-count").textContent = count === 1 ? "1 label" : `${count} labels`;
  byId("template-field").hidden = byId("label-set").value !== "" || knowsNamesOnly();
  byId("multi-label-field").hidden = knowsNamesOnly();
  byId("labels-field").hidden = byId("label-set").value !== "";
  byId("templates").hidden = byId("template-set").value !== "own";
  const threshold = byId("threshold").valueAsNumber;
  byId("threshold-value").textContent = threshold ? `${Math.round(threshold * 100)} %` : "0 % (off)";
}

function render(answer, { files: pictures }) {
  const cards = answer.data.map((entry, index) => card(entry, pictures[index]));
  const summary = answer.data.map((entry, index) => `${pictures[index].name}: ${said(entry)}`).join(". ");
  return { content: el("ul", { class: cards.length > 1 ? "cards" : "cards single" }, ...cards), summary };
}

function card(entry, picture) {
  return el("li", { class: "card result" },
    thumbnail(picture, "large"),
    el("div", { class: "verdict" }, el("p", { class: "name" }, picture.name), ...verdict(entry)),
    entry.predictions?.length ? bars(entry.predictions) : null,
  );
}

function verdict({ label, error }) {
  if (error) return [el("p", { class: "message" }, error.message)];
  if (label !== null) return [el("p", { class: "best" }, label)];
  return [
    el("p", { class: "best none" }, "none of these"),
    el("p", { class: "hint" }, "No score reaches the threshold."),
  ];
}

function said({ label, score, error }) {
  if (error) return error.message;
  return label === null ? "none of these" : `${label}, ${percent(score)}`;
}
