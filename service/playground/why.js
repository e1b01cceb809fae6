/** "Why this score?": the arithmetic with the numbers of one picture. */

import { el } from "./dom.js";
import { percent } from "./results.js";

const MOST = 8;

/** A disclosure that fills itself when it is opened. */
export function why({ predictions, background, left }, { model, alone }) {
  const box = el("details", { class: "why", toggle: () => box.open && !box.querySelector("table") && box.append(...told()) }, el("summary", {}, "Why this score?"));
  const { logit_scale: scale, logit_bias: bias } = model;
  const times = scale.toFixed(2);
  const logit = ({ cosine }) => scale * (cosine - (background ?? 0)) + (bias ?? 0);
  const told = () => {
    const most = logit(predictions[0]);
    const columns = ["Label", "Cosine", alone ? "Logit" : `× ${times}`, alone ? "Sigmoid" : "e^", "Score"];
    const rows = predictions.slice(0, MOST).map((each) => [
      each.label, each.cosine.toFixed(4), logit(each).toFixed(2),
      alone ? `1 / (1 + e^${(-logit(each)).toFixed(2)})` : Math.exp(logit(each) - most).toPrecision(3), percent(each.score)]);
    return [el("p", { class: "hint" }, sentence()),
      el("table", {}, el("thead", {}, row(columns, "th")), el("tbody", {}, ...rows.map((cells) => row(cells, "td"))))];
  };
  const sentence = () => {
    const cosine = "A cosine says how close the vector of the picture and that of a label point: 1 is the same way, 0 is no relation. ";
    if (background !== null) return `${cosine}The prompt without any label has ${background.toFixed(4)}. What a label has more, times the logit scale ${times}, goes through a sigmoid: 50 % is no more than that prompt.`;
    if (alone) return `${cosine}Times the logit scale ${times}${bias === null ? "" : `, plus the bias ${bias.toFixed(2)}`}, it goes through a sigmoid: each label by itself, so the scores need not add up to 100 %.`;
    const sum = (1 / predictions[0].score).toPrecision(4);
    const rest = left.count === 0 || left.score < 5e-4 ? "" : ` Further labels${left.count ? ` (${left.count})` : ""} share ${percent(left.score)}.`;
    return `${cosine}The logit scale ${times}, which the model learnt, spreads them. Softmax shares 100 % among your labels: each e^ (less the highest) by their sum, ${sum}. One wins even if none fits.${rest}`;
  };
  return box;
}

const row = (cells, tag) => el("tr", {}, ...cells.map((cell) => el(tag, {}, cell)));
