/** The panel that shows vectors. */

import { copyButton } from "./code.js";
import { byId, chosen, el, lines, svg } from "./dom.js";
import { panel } from "./panel.js";
import { Complaint, json, multipart } from "./request.js";
import { thumbnail } from "./results.js";

const PREVIEW = 6;
const wantsPictures = () => chosen(byId("embed"), "kind") === "pictures";

export function embedPanel() {
  byId("embed").addEventListener("input", follow);
  follow();
  panel({ name: "embed", example: ["coffee.jpg"], wantsPictures, describe, render });
}

function follow() {
  byId("texts-field").hidden = wantsPictures();
}

function describe(pictures) {
  const dimensions = byId("dimensions").valueAsNumber || null;
  if (wantsPictures()) {
    return multipart("/embed", pictures, { dimensions, on_error: pictures.length > 1 ? "item" : null });
  }
  const texts = lines(byId("texts"));
  if (!texts.length) throw new Complaint("Write at least one text.");
  return json("/embed", { inputs: texts, dimensions });
}

function render({ data }, request) {
  const items = data.map((entry, index) => card(entry, request.files?.[index] ?? { name: request.json.inputs[index] }));
  const good = data.find(({ embedding }) => embedding);
  const summary = good ? `${data.length} vectors of ${good.embedding.length} dimensions` : "No vector could be made";
  return { content: el("ul", { class: "vectors" }, ...items), summary };
}

function card({ embedding, error }, item) {
  const picture = item.url ? thumbnail(item, "small") : null;
  if (error) {
    return el("li", { class: "card vector" }, picture, el("div", {}, el("p", { class: "name" }, item.name), el("p", { class: "message" }, error.message)));
  }
  const length = Math.hypot(...embedding);
  const preview = el("code", { class: "numbers" }, `[${embedding.slice(0, PREVIEW).map((x) => x.toFixed(4)).join(", ")}${embedding.length > PREVIEW ? ", …" : ""}]`);
  return el("li", { class: "card vector" },
    picture,
    el("div", {},
      el("p", { class: "name" }, item.name),
      el("p", { class: "hint" }, `${embedding.length} dimensions · length ${length.toFixed(3)}`),
    ),
    copyButton(() => JSON.stringify(embedding), preview, "Copy vector"),
    drawing(embedding),
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
