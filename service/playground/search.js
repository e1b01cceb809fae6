/** The panel that ranks pictures, or words, by how close they come to a sentence. */

import { cosinesOf } from "./cosines.js";
import { byId, chosen, el, lines } from "./dom.js";
import { panel } from "./panel.js";
import { SAMPLES } from "./pictures.js";
import { Complaint, Picture, json } from "./request.js";
import { bars, longList, percent, thumbnail } from "./results.js";
import { descending, dot, scores } from "./scores.js";
import { state } from "./state.js";
import { takeAway } from "./take.js";
import { embedTexts } from "./vectors.js";

const wantsPictures = () => chosen(byId("search"), "among") === "pictures";

export function searchPanel() {
  byId("search").addEventListener("input", follow);
  follow();
  panel({ name: "search", example: SAMPLES.map(({ name }) => name), wantsPictures, describe, answer });
}

function follow() {
  byId("words-field").hidden = wantsPictures();
}

function describe(pictures) {
  const query = byId("query").value.trim();
  if (!query) throw new Complaint("Write a sentence to search for.");
  const words = lines(byId("words"));
  if (!wantsPictures() && !words.length) throw new Complaint("Write at least one text to search in.");
  const candidates = wantsPictures() ? pictures.map((picture) => ({ image: new Picture(picture) })) : words;
  return json("/similarity", { queries: [query], candidates, top_k: candidates.length });
}

async function answer(pictures, work) {
  const query = byId("query").value.trim();
  return wantsPictures() ? gallery(pictures, query, work) : list(lines(byId("words")), query, work);
}

async function gallery(pictures, query, work) {
  const found = await cosinesOf(pictures, [query], work);
  const bad = pictures.filter((_, index) => found[index].error);
  const good = pictures.flatMap((picture, index) => (found[index].error ? [] : [{ picture, cosine: found[index].cosines[0] }]));
  const hits = ranked(good);
  const shown = longList("ol", { class: "gallery" }, hits, ({ picture, cosine, score }) =>
    el("li", { class: "card hit" },
      thumbnail(picture, "large"),
      el("p", { class: "name" }, picture.name),
      el("p", { class: "closeness" }, el("b", {}, cosine.toFixed(3)), ` cosine · ${percent(score)}`),
    ));
  const left = bad.length ? el("p", { class: "hint warning" }, `${bad.length} could not be read: ${bad.map(({ name }) => name).join(", ")}`) : "";
  return {
    content: el("div", { class: "verdicts" }, left, takeAway("found", () => saved(hits, ({ picture }) => picture.name), { question: { query } }), shown),
    summary: `Closest first: ${hits.slice(0, 5).map(({ picture }) => picture.name).join(", ")}`,
  };
}

const saved = (hits, nameOf) => hits.map((hit, index) => ({ rank: index + 1, candidate: nameOf(hit), cosine: hit.cosine, probability: hit.score }));

/** Best first, with the share of each in all. */
function ranked(candidates) {
  const shares = scores(candidates.map(({ cosine }) => cosine), state.model);
  return descending(shares).map((index) => ({ ...candidates[index], score: shares[index] }));
}

async function list(words, query, work) {
  const [vector, ...others] = await embedTexts([query, ...words], work);
  const rows = ranked(words.map((label, index) => ({ label, cosine: dot(vector, others[index]) })));
  return {
    content: el("div", { class: "verdicts" }, takeAway("found", () => saved(rows, ({ label }) => label), { question: { query } }), el("div", { class: "card" }, bars(rows))),
    summary: `Closest first: ${rows.map(({ label }) => label).join(", ")}`,
  };
}
