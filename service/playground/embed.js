/** The panel that shows vectors. */

import { copyButton } from "./code.js";
import { byId, chosen, Complaint, el, linesOf, on, svg } from "./dom.js";
import { panel } from "./panel.js";
import { inBatches } from "./batches.js";
import { form, json, multipart } from "./request.js";
import { longList, thumbnail } from "./results.js";
import { onChange, state } from "./state.js";
import { takeAway } from "./take.js";
import { cut, embedPictures, embedTexts } from "./vectors.js";

const NO_TEXT = "Write at least one text.";
const PREVIEW = 6;
const MOST_DRAWN = 16; // of the vectors of one picture
const wantsPictures = () => chosen(byId("embed"), "kind") === "pictures";

/** Whether several vectors of each picture come back: such a model mixes them for each text, and whole. */
const wantsTokens = () => wantsPictures() && Boolean(state.model?.mixture);

export function embedPanel() {
  on("embed", "input", follow);
  onChange(follow);
  follow();
  panel({ name: "embed", example: ["coffee.jpg"], wantsPictures, describe, answer });
}

function follow() {
  byId("texts-field").hidden = wantsPictures();
  byId("dimensions-field").hidden = wantsTokens();
  byId("tokens-hint").hidden = !wantsTokens();
}

function describe(pictures) {
  const dimensions = wantsTokens() ? null : byId("dimensions").valueAsNumber || null;
  if (wantsPictures()) {
    const output = wantsTokens() ? "tokens" : null;
    return multipart("/embed", pictures, { dimensions, output });
  }
  return json("/embed", { inputs: linesOf("texts", NO_TEXT), dimensions });
}

async function answer(pictures, work) {
  const items = await embedded(pictures, work);
  const good = items.find(({ embedding }) => embedding);
  const summary = good ? `${items.length} ${shape(good.embedding)}` : "No vector could be made";
  const list = longList("ul.vectors", items, card);
  return { content: [good ? saving(items.filter(({ embedding }) => embedding)) : "", list], summary };
}

/** A row of the files for each vector; of several vectors of a picture they stand below each other. */
function saving(items) {
  const rows = items.flatMap(({ name, embedding }) => vectorsOf(embedding).map((vector) => ({ name, vector })));
  const columns = () => rows.map(({ name, vector }) => ({ name, ...Object.fromEntries(vector.map((x, i) => [`x${i}`, x])) }));
  return takeAway("vectors", columns, { vectors: () => rows.map(({ vector }) => vector) });
}

/** {name, picture?} with its embedding or error, in order. */
async function embedded(pictures, work) {
  if (wantsTokens()) return tokens(pictures, work);
  const dimensions = byId("dimensions").valueAsNumber || null;
  const most = state.model.dimensions;
  if (dimensions > most) throw new Complaint(`This model makes vectors of ${most} dimensions: ask for that many or fewer.`);
  if (wantsPictures()) {
    const found = await embedPictures(pictures, work);
    return withNames(pictures, found.map(({ vector, error }) => (error ? { error } : { embedding: [...cut(vector, dimensions)] })));
  }
  const texts = linesOf("texts", NO_TEXT);
  const vectors = await embedTexts(texts, work);
  return texts.map((name, index) => ({ name, embedding: [...cut(vectors[index], dimensions)] }));
}

async function tokens(pictures, work) {
  const found = await inBatches(pictures, {
    request: (pairs) => form("/embed", pairs, { output: "tokens", on_error: pictures.length > 1 ? "item" : null }),
    take: ({ data }) => data,
  }, work);
  return withNames(pictures, found);
}

const withNames = (pictures, found) => pictures.map((picture, index) => ({ name: picture.name, picture, ...found[index] }));

/** Of one item: a vector, or a list of them. */
const vectorsOf = (embedding) => (Array.isArray(embedding[0]) ? embedding : [embedding]);

function shape(embedding) {
  const vectors = vectorsOf(embedding);
  return `${vectors.length > 1 ? `times ${vectors.length} ` : ""}vectors of ${vectors[0].length} dimensions`;
}

function card({ embedding, error, ...item }) {
  const picture = item.picture ? thumbnail(item.picture, "small") : null;
  if (error) {
    return el("li.card.vector", picture, el("div", el("p.name", item.name), el("p.message", error.message)));
  }
  const vectors = vectorsOf(embedding);
  const [vector] = vectors;
  const length = Math.hypot(...vector);
  const preview = el("code.numbers", `[${vector.slice(0, PREVIEW).map((x) => x.toFixed(4)).join(", ")}${vector.length > PREVIEW ? ", …" : ""}]`);
  return el("li.card.vector",
    picture,
    el("div",
      el("p.name", item.name),
      el("p.hint", `${vectors.length > 1 ? `${vectors.length} vectors · ` : ""}${vector.length} dimensions · length ${length.toFixed(3)}`),
    ),
    copyButton(() => JSON.stringify(embedding), preview, vectors.length > 1 ? "Copy vectors" : "Copy vector"),
    ...vectors.slice(0, MOST_DRAWN).map(drawing),
    preview,
  );
}

/** One stroke a component, up for positive and down for negative. */
function drawing(vector) {
  const largest = Math.max(...vector.map(Math.abs)) || 1;
  const strokes = (keep) => vector.map((x, i) => (keep(x) ? `M${i + 0.5} 0V${(-x / largest).toFixed(3)}` : "")).join("");
  return svg("svg", { viewBox: `0 -1 ${vector.length} 2`, preserveAspectRatio: "none", class: "drawing", "aria-hidden": "true" },
    svg("path", { d: strokes((x) => x >= 0), class: "up" }),
    svg("path", { d: strokes((x) => x < 0), class: "down" }),
  );
}
