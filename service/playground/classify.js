/** The panel that chooses among labels. */

import { byId, Complaint, counted, linesOf, on } from "./dom.js";
import { judge } from "./judging.js";
import { panel } from "./panel.js";
import { multipart } from "./request.js";
import { judgesAlone } from "./scores.js";
import { onChange, state } from "./state.js";
import { verdicts } from "./verdicts.js";

const DEFAULT_TEMPLATES = ["a photo of a {}."];
const knowsNamesOnly = () => (state.model?.categories ?? null) !== null;
const multiLabel = () => !knowsNamesOnly() && byId("multi-label").checked;

export function classifyPanel() {
  for (const name of ["label-set", "template-set", "threshold", "labels"]) on(name, "input", follow);
  onChange(follow); // another model may know names of categories only
  follow();
  panel({ name: "classify", example: ["coffee.jpg"], describe, answer });
}

/** What is shown, which may change without asking again. */
const view = () => ({ threshold: byId("threshold").valueAsNumber, topK: byId("top-k").valueAsNumber || 6 });

function describe(pictures) {
  const top = byId("top-k").valueAsNumber || null;
  return multipart("/classify", pictures, { ...options(), threshold: view().threshold || null, top_k: top });
}

function options() {
  const set = byId("label-set").value;
  const labels = ownLabels();
  if (!set && !labels.length) throw new Complaint("Write at least one label.");
  return { ...(set ? { label_set: set } : { labels: listed(labels) }), ...prompts(), multi_label: multiLabel() || null };
}

async function answer(pictures, work) {
  const { model } = state;
  const question = { labels: ownLabels(), labelSet: byId("label-set").value, templates: templatesMeant(), multiLabel: multiLabel(), model, options: options() };
  const entries = await judge(pictures, question, work);
  return verdicts(entries, { model, multiLabel: question.multiLabel, alone: judgesAlone(model, question.multiLabel), question: { question: question.options }, view });
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
  return { templates: linesOf("templates", "Write at least one prompt, with {} where the label goes.") };
}

function templatesMeant() {
  const { templates, template_set: set } = prompts();
  return templates ?? state.info.template_sets[set] ?? DEFAULT_TEMPLATES;
}

function follow() {
  byId("labels-count").textContent = counted(ownLabels().length, "label");
  byId("template-field").hidden = byId("label-set").value !== "" || knowsNamesOnly();
  byId("multi-label-field").hidden = knowsNamesOnly();
  byId("labels-field").hidden = byId("label-set").value !== "";
  byId("templates").hidden = byId("template-set").value !== "own";
  const threshold = byId("threshold").valueAsNumber;
  byId("threshold-value").textContent = threshold ? `${Math.round(threshold * 100)} %` : "off";
}
