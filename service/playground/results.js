/** What comes back: bars, the time it took, and refusals. */

import { el } from "./dom.js";
import { many } from "./state.js";

/** 0.9973 -> "99.7 %". */
export const percent = (score) => (score >= 0.0995 ? `${(100 * score).toFixed(1)} %` : score >= 0.0005 ? `${(100 * score).toFixed(2)} %` : "< 0.05 %");
export const duration = (ms) => (ms >= 9_950 ? `${(ms / 1000).toFixed(1)} s` : `${ms < 0.05 ? "< 0.1" : ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`);

/** One row per prediction {label, score, cosine}, best first. */
export function bars(predictions) {
  return el("ol", { class: "bars" }, ...predictions.map(bar));
}

function bar({ label, score, cosine }) {
  const fill = el("span", { class: "fill" });
  fill.style.setProperty("--share", Math.max(score, 0.004));
  return el("li", {},
    el("span", { class: "label" }, label),
    el("span", { class: "score" }, percent(score)),
    el("span", { class: "track", "aria-hidden": true }, fill),
    el("span", { class: "cosine" }, `cosine ${cosine.toFixed(3)}`),
  );
}

/** Where the time of all requests went, told by the server; the stages of different items overlap. */
export function timeTaken(timings) {
  const sum = (name) => timings.reduce((total, { timing, roundTrip }) => total + (timing[name] ?? (name === "total" ? roundTrip : 0)), 0);
  const total = sum("total");
  const stages = [["decode", sum("decode") + sum("preprocess")], ...["cache", "queue", "inference"].map((name) => [name, sum(name)])];
  const told = stages.reduce((all, [, ms]) => all + ms, 0);
  const segments = [...stages.filter(([, ms]) => ms > 0), ["other", Math.max(0, total - told)]];
  const strip = el("div", { class: "strip", "aria-hidden": true }, ...segments.map(([name, ms]) => {
    const segment = el("span", { class: `stage stage-${name}` });
    segment.style.setProperty("flex-grow", ms);
    return segment;
  }));
  const legend = el("dl", {}, ...[...segments, ["total", total]].map(([name, ms]) =>
    el("div", { class: `stage-${name}` }, el("dt", {}, name), el("dd", {}, duration(ms))),
  ));
  if (!timings.length) return el("p", { class: "time hint" }, "The server was not asked: this page had all the vectors already.");
  const requests = timings.length > 1 ? `, ${timings.length} requests together` : "";
  const cached = sum("inference") ? "" : " (all vectors came from the cache)";
  return el("div", { class: "time" }, el("h3", {}, `Time on the server${requests}${cached}`), strip, legend);
}

/** A refusal or a complaint, and what is not lost by it. */
export function failure(error, kept = "") {
  const facts = [
    error.status ? `HTTP ${error.status}` : null,
    error.code ?? null,
    error.param ? `field ${error.param}` : null,
    error.retryAfter ? `try again in ${error.retryAfter} s` : null,
  ].filter(Boolean);
  return el("div", { class: "failure card", role: "alert" },
    el("p", { class: "message" }, error.message),
    kept ? el("p", {}, kept) : null,
    facts.length ? el("p", { class: "hint" }, facts.join(" · ")) : null,
    error.requestId ? el("p", { class: "hint" }, "Request id ", el("code", { class: "request-id" }, error.requestId)) : null,
  );
}

/** A picture with its name. */
export function thumbnail({ url }, size) {
  const image = el("img", { src: url, alt: "", class: size, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: `${size} unseen` }, "no preview")));
  return image;
}

const AT_ONCE = 60; // thousands of pictures would hold up any browser

/** The `items` that `draw` makes elements of, in a list `attributes`, the rest of them behind a button. */
export function longList(tag, attributes, items, draw) {
  const list = el(tag, attributes);
  const more = el("button", { class: "more", click: () => show() });
  const show = () => {
    const from = list.children.length;
    list.append(...items.slice(from, from + AT_ONCE).map((item, index) => draw(item, from + index)));
    const left = items.length - list.children.length;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(AT_ONCE, left)} more of ${many(left)}`;
  };
  show();
  return el("div", { class: "long" }, list, more);
}
