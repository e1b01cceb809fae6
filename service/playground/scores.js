/** The arithmetic of zero-shot classification, as the server does it. Pure functions over arrays of numbers. */

/** Dot product: the cosine of two vectors of length 1. */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

/** The same direction at length 1; a vector without a direction stays 0. */
function normalised(vector) {
  const length = Math.sqrt(dot(vector, vector));
  return length > 0 ? vector.map((x) => x / length) : vector;
}

/** The normalised mean of normalised vectors: one direction for a label in several prompts. */
export function meanVector(vectors) {
  const sum = new Float32Array(vectors[0].length);
  for (const vector of vectors) for (let i = 0; i < sum.length; i += 1) sum[i] += vector[i] / vectors.length;
  return normalised(sum);
}

export function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

export const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

/** Whether the score of a label depends on no other label: where that is asked for, and by models that learnt it so. */
export const judgesAlone = (model, multiLabel) => multiLabel || model.logit_bias !== null || model.categories !== null;

/** Whether a label is judged alone against the prompt without one. */
export const needsBackground = (model, multiLabel) => multiLabel && model.logit_bias === null && model.categories === null;

/** Cosines of one picture -> scores; `background` is its cosine to the prompt without a label, where that is needed. */
export function scores(cosines, model, background = null) {
  const { logit_scale: scale, logit_bias: bias } = model;
  if (background !== null) return cosines.map((cosine) => sigmoid(scale * (cosine - background)));
  if (bias !== null) return cosines.map((cosine) => sigmoid(scale * cosine + bias));
  return softmax(cosines.map((cosine) => scale * cosine));
}

/** Indices from the highest number down; equal ones keep their order. */
export const descending = (numbers) => [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a]);
