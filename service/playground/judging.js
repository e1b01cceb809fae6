/**
 * Pictures against labels. An entry for each picture: {picture, predictions, left} or {picture, error}. `predictions` are
 * {label, score, cosine}, best first; `left` are the further labels that the many of a label set leave out, as {count, score}.
 */

import { inBatches } from "./batches.js";
import { Complaint } from "./dom.js";
import { form } from "./request.js";
import { descending, dot, meanVector, needsBackground, scores } from "./scores.js";
import { state } from "./state.js";
import { embedPictures, embedTexts } from "./vectors.js";

export const KEPT = 50; // labels of a picture
const PLACE = "{}";

/** Whether the page can judge by itself: of one vector a picture, and texts that it may send. */
const canJudge = ({ labelSet, model }) => !labelSet && !model.mixture && model.categories === null;

/** `question` = {labels, labelSet, templates, multiLabel, model, options}; `options` are those of /classify. */
export async function judge(pictures, question, work) {
  return canJudge(question) ? judgeHere(pictures, question, work) : judgeThere(pictures, question, work);
}

async function judgeHere(pictures, { labels, templates, multiLabel, model }, work) {
  const background = needsBackground(model, multiLabel);
  // Texts first: a label that is too long is told before thousands of pictures are embedded.
  const vectors = await classVectors(background ? [...labels, ""] : labels, templates, work);
  const known = await embedPictures(pictures, work);
  return pictures.map((picture, index) => {
    const { vector, error } = known[index];
    if (error) return { picture, error };
    const cosines = vectors.map((each) => dot(each, vector));
    const without = background ? cosines.pop() : null;
    const found = scores(cosines, model, without);
    const all = descending(found).map((place) => ({ label: labels[place], score: found[place], cosine: cosines[place] }));
    return { picture, background: without, predictions: all.slice(0, KEPT), left: rest(all.length, all.slice(0, KEPT)) };
  });
}

async function classVectors(labels, templates, work) {
  const wrong = templates.find((template) => template.split(PLACE).length !== 2);
  if (wrong !== undefined) throw new Complaint(`The prompt “${wrong}” needs {} exactly once, where the label goes.`);
  const prompts = labels.flatMap((label) => templates.map((template) => filled(template, label)));
  const vectors = await embedTexts(prompts, work);
  const width = templates.length;
  return labels.map((_, index) => meanVector(vectors.slice(index * width, (index + 1) * width)));
}

const filled = (template, label) => (label ? template.replace(PLACE, () => label) : template.replace(PLACE, "").trim());

async function judgeThere(pictures, { options, multiLabel, model }, work) {
  const found = await inBatches(pictures, {
    request: (pairs) => form("/classify", pairs, { ...options, threshold: null, top_k: KEPT, on_error: pictures.length > 1 ? "item" : null }),
    take: ({ data }) => data.map(({ predictions, error }) =>
      error ? { error } : { predictions, left: rest(predictions.length < KEPT ? predictions.length : null, predictions) }),
  }, work);
  return pictures.map((picture, index) => {
    const entry = { picture, background: null, ...found[index] };
    if (entry.predictions?.length && needsBackground(model, multiLabel)) entry.background = backgroundOf(entry.predictions, model);
    return entry;
  });
}

/** The server does not say this cosine; it follows from the score that says most of it. */
function backgroundOf(predictions, { logit_scale: scale }) {
  const { cosine, score } = predictions.reduce((best, each) => (Math.abs(each.score - 0.5) < Math.abs(best.score - 0.5) ? each : best));
  return cosine - Math.log(score / (1 - score)) / scale;
}

/** Of the labels that are not kept: how many, and what they score together. */
function rest(count, kept) {
  const score = Math.max(0, 1 - kept.reduce((sum, { score: each }) => sum + each, 0));
  return { count: count === null ? null : count - kept.length, score };
}

/** Labels for the headline; none is "none of these". Where several may fit, each reaches the threshold, or is likelier than not. */
export function verdict({ predictions }, { threshold, multiLabel }) {
  const fitting = predictions.filter(({ score }) => score >= (threshold || (multiLabel ? 0.5 : 0)));
  return multiLabel ? fitting : fitting.slice(0, 1);
}
