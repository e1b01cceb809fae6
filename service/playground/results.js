/** What comes back: bars, the time it took, and refusals. */

import { el, many } from "./dom.js";

/** 0.9973 -> "99.7 %". */
export const percent = (score) => (score >= 0.0995 ? `${(100 * score).toFixed(1)} %` : score >= 0.0005 ? `${(100 * score).toFixed(2)} %` : "< 0.05 %");
export const duration = (ms) => (ms >= 9_950 ? `${(ms / 1000).toFixed(1)} s` : `${ms < 0.05 ? "< 0.1" : ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`);

/** One row per prediction {label, score, cosine}, best first. */
export function bars(predictions) {
  return el("ol.bars", ...predictions.map(bar));
}

function bar({ label, score, cosine }) {
  const fill = el("span.fill");
  fill.style.setProperty("--share", Math.max(score, 0.004));
  return el("li",
    el("span.label", label),
    el("span.score", percent(score)),
    el("span.track", { "aria-hidden": true }, fill),
    el("span.cosine", `cosine ${cosine.toFixed(3)}`),
  );
}

/** Where the time of all requests went, told by the server; the stages of different items overlap. */
export function timeTaken(timings) {
  const sum = (name) => timings.reduce((total, { timing, roundTrip }) => total + (timing[name] ?? (name === "total" ? roundTrip : 0)), 0);
  const total = sum("total");
  const stages = [["decode", sum("decode") + sum("preprocess")], ...["cache", "queue", "inference"].map((name) => [name, sum(name)])];
  const told = stages.reduce((all, [, ms]) => all + ms, 0);
  const segments = [...stages.filter(([, ms]) => ms > 0), ["other", Math.max(0, total - told)]];
  const strip = el("div.strip", { "aria-hidden": true }, ...segments.map(([name, ms]) => {
    const segment = el(`span.stage.stage-${name}`);
    segment.style.setProperty("flex-grow", ms);
    return segment;
  }));
  const legend = el("dl", ...[...segments, ["total", total]].map(([name, ms]) =>
    el(`div.stage-${name}`, el("dt", name), el("dd", duration(ms))),
  ));
  if (!timings.length) return el("p.time.hint", "The server was not asked: this page had all the vectors already.");
  const requests = timings.length > 1 ? `, ${timings.length} requests together` : "";
  const cached = sum("inference") ? "" : " (all vectors came from the cache)";
  return el("div.time", el("h3", `Time on the server${requests}${cached}`), strip, legend);
}

/** A refusal or a complaint, and what is not lost by it. */
export function failure(error, kept = "") {
  const facts = [
    error.status ? `HTTP ${error.status}` : null,
    error.code,
    error.param ? `field ${error.param}` : null,
    error.retryAfter ? `try again in ${error.retryAfter} s` : null,
  ].filter(Boolean);
  return el("div.failure.card", { role: "alert" },
    el("p.message", error.message),
    kept ? el("p", kept) : null,
    facts.length ? el("p.hint", facts.join(" · ")) : null,
    error.requestId ? el("p.hint", "Request id ", el("code.request-id", error.requestId)) : null,
  );
}

/** A table of texts; the first row is its head. */
export function grid([head, ...rows]) {
  const row = (cells, tag) => el("tr", ...cells.map((cell) => el(tag, cell)));
  return el("table", el("thead", row(head, "th")), el("tbody", ...rows.map((cells) => row(cells, "td"))));
}

/** A large table, which scrolls by itself. */
export const scrolled = (what, head, ...bodies) => el("div.scroll", { tabindex: 0, role: "region", "aria-label": what }, el("table", el("thead", el("tr", ...head)), ...bodies));

/** Which pictures were not read, a few of them by name; nothing where all were. */
export function unread(pictures) {
  const more = pictures.length - 5;
  return pictures.length && `${pictures.length} could not be read: ${pictures.slice(0, 5).map(({ name }) => name).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** A picture that was found, and how close it is. */
export const hit = (tag, picture, ...told) => el(`${tag}.card.hit`, thumbnail(picture, "large"), el("p.name", picture.name), el("p.closeness", ...told));

/** A picture without its name. */
export function thumbnail({ url }, size) {
  const image = el(`img.${size}`, { src: url, alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(el(`span.${size}.unseen`, "no preview")));
  return image;
}

const AT_ONCE = 60; // thousands of pictures would hold up any browser

/** The `items` that `draw` makes elements of, in a `list`, the rest of them behind a button. */
export function longList(described, items, draw) {
  const list = el(described);
  const more = el("button.more", { click: () => show(true) });
  const show = (asked) => {
    const from = list.children.length;
    list.append(...items.slice(from, from + AT_ONCE).map((item, index) => draw(item, from + index)));
    const left = items.length - list.children.length;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(AT_ONCE, left)} more of ${many(left)}`;
    if (!asked || !more.hidden) return;
    list.children[from].tabIndex = -1; // the focus would be lost with the button
    list.children[from].focus();
  };
  show();
  return el("div.long", list, more);
}
