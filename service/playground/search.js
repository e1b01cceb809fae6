/** The panel that ranks pictures, or words, by how close they come to a sentence. */

import { byId, chosen, el, lines } from "./dom.js";
import { panel } from "./panel.js";
import { SAMPLES } from "./pictures.js";
import { Complaint, Picture, json } from "./request.js";
import { bars, percent, thumbnail } from "./results.js";

const wantsPictures = () => chosen(byId("search"), "among") === "pictures";

export function searchPanel() {
  byId("search").addEventListener("input", follow);
  follow();
  panel({ name: "search", example: SAMPLES.map(({ name }) => name), wantsPictures, describe, render });
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

function render({ ranking: [ranking] }, { json: { candidates } }) {
  return typeof candidates[0] === "string" ? list(ranking, candidates) : gallery(ranking, candidates);
}

function gallery(ranking, candidates) {
  const hits = ranking.map((hit) => ({ ...hit, ...candidates[hit.index].image.picture }));
  const items = hits.map((hit) =>
    el("li", { class: "card hit" },
      thumbnail(hit, "large"),
      el("p", { class: "name" }, hit.name),
      el("p", { class: "closeness" }, el("b", {}, hit.cosine.toFixed(3)), ` cosine · ${percent(hit.probability)}`),
    ),
  );
  return {
    content: el("ol", { class: "gallery" }, ...items),
    summary: `Closest first: ${hits.map(({ name }) => name).join(", ")}`,
  };
}

function list(ranking, words) {
  const rows = ranking.map(({ index, cosine, probability }) => ({ label: words[index], score: probability, cosine }));
  return {
    content: el("div", { class: "card" }, bars(rows)),
    summary: `Closest first: ${rows.map(({ label }) => label).join(", ")}`,
  };
}
