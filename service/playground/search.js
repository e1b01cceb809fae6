/** The panel that ranks pictures, or words, by how close they come to a sentence. */

import { byId, chosen, el, linesOf, on } from "./dom.js";
import { panel } from "./panel.js";
import { Picture, json } from "./request.js";
import { bars, hit, longList, percent, unread } from "./results.js";
import { descending, dot, scores } from "./scores.js";
import { state } from "./state.js";
import { takeAway } from "./take.js";
import { cosinesOf, embedTexts } from "./vectors.js";

const words = () => linesOf("words", "Write at least one text to search in.");
const wantsPictures = () => chosen(byId("search"), "among") === "pictures";

export function searchPanel() {
  on("search", "input", follow);
  follow();
  panel({ name: "search", wantsPictures, describe, answer });
}

function follow() {
  byId("words-field").hidden = wantsPictures();
}

function describe(pictures) {
  const candidates = wantsPictures() ? pictures.map((picture) => ({ image: new Picture(picture) })) : words();
  return json("/similarity", { queries: [linesOf("query", "Write a sentence to search for.")[0]], candidates, top_k: candidates.length });
}

async function answer(pictures, work) {
  const query = byId("query").value.trim();
  return wantsPictures() ? gallery(pictures, query, work) : list(words(), query, work);
}

async function gallery(pictures, query, work) {
  const found = await cosinesOf(pictures, [query], work);
  const bad = pictures.filter((_, index) => found[index].error);
  const good = pictures.flatMap((picture, index) => (found[index].error ? [] : [{ picture, cosine: found[index].cosines[0] }]));
  const hits = ranked(good);
  const shown = longList("ol.gallery", hits, ({ picture, cosine, score }) => hit("li", picture, el("b", cosine.toFixed(3)), ` cosine · ${percent(score)}`));
  return {
    content: [el("p.hint.warning", { hidden: !bad.length }, unread(bad)), takeAway("found", () => saved(hits, ({ picture }) => picture.name), { question: { query } }), shown],
    summary: `Closest first: ${hits.slice(0, 5).map(({ picture }) => picture.name).join(", ")}`,
  };
}

const saved = (hits, nameOf) => hits.map((hit, index) => ({ rank: index + 1, candidate: nameOf(hit), cosine: hit.cosine, probability: hit.score }));

function ranked(candidates) {
  const shares = scores(candidates.map(({ cosine }) => cosine), state.model);
  return descending(shares).map((index) => ({ ...candidates[index], score: shares[index] }));
}

async function list(words, query, work) {
  const [vector, ...others] = await embedTexts([query, ...words], work);
  const rows = ranked(words.map((label, index) => ({ label, cosine: dot(vector, others[index]) })));
  return {
    content: [takeAway("found", () => saved(rows, ({ label }) => label), { question: { query } }), el("div.card", bars(rows))],
    summary: `Closest first: ${rows.map(({ label }) => label).join(", ")}`,
  };
}
