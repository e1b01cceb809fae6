/** The panel that holds pictures against texts: a heat map of cosines and of probabilities. */

import { el, linesOf } from "./dom.js";
import { panel } from "./panel.js";
import { json, Picture } from "./request.js";
import { percent, scrolled, thumbnail } from "./results.js";
import { scores } from "./scores.js";
import { state } from "./state.js";
import { takeAway } from "./take.js";
import { cosinesOf } from "./vectors.js";

const MOST_ROWS = 200;

export function comparePanel() {
  panel({ name: "compare", describe, answer });
}

const texts = () => linesOf("compared", "Write at least one text to compare with.");

const describe = (pictures) => json("/similarity", { queries: pictures.map((picture) => ({ image: new Picture(picture) })), candidates: texts() });

async function answer(pictures, work) {
  const columns = texts();
  const found = await cosinesOf(pictures, columns, work);
  const rows = pictures.map((picture, index) => ({ picture, ...found[index] }));
  const all = rows.flatMap(({ cosines = [] }) => [...cosines]);
  const [low, high] = [all.reduce((a, b) => Math.min(a, b), 1), all.reduce((a, b) => Math.max(a, b), -1)];
  for (const row of rows) row.shares = row.cosines && scores(row.cosines, state.model);
  const cell = ({ cosines, shares }, index) => {
    const td = el("td", el("b", cosines[index].toFixed(3)), el("span", percent(shares[index])));
    td.style.setProperty("--cosine", (cosines[index] - low) / (high - low || 1));
    td.style.setProperty("--share", shares[index]);
    return td;
  };
  const line = (row) => el("tr", el("th", { scope: "row" }, thumbnail(row.picture, "tiny"), row.picture.name),
    ...(row.error ? [el("td.warning", { colspan: columns.length }, row.error.message)] : columns.map((_, index) => cell(row, index))));
  const saved = () => rows.flatMap(({ picture, cosines, shares, error }) => columns.map((text, index) =>
    ({ picture: picture.name, text, cosine: cosines?.[index] ?? null, probability: shares?.[index] ?? null, error: error?.message ?? null })));
  const left = rows.length - MOST_ROWS;
  return {
    content: [
      takeAway("compared", saved),
      el("div.table.heat.card",
        el("p.hint", "Above the cosine; below, what softmax makes of it among the texts of a row."),
        scrolled("Cosines and probabilities", [el("td"), ...columns.map((text) => el("th", { scope: "col" }, text))], el("tbody", ...rows.slice(0, MOST_ROWS).map(line))),
        left > 0 ? el("p.hint", `${left} more are in the files.`) : null)],
    summary: `${rows.length} pictures compared with ${columns.length} texts. Cosines from ${low.toFixed(2)} to ${high.toFixed(2)}.`,
  };
}
