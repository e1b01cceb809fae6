/** The panel that draws the collection in two dimensions, and names what lies nearest to a picture. */

import { inBackground } from "./background.js";
import { Complaint, el, svg } from "./dom.js";
import { panel } from "./panel.js";
import { multipart } from "./request.js";
import { hit } from "./results.js";
import { descending, dot } from "./scores.js";
import { takeAway } from "./take.js";
import { embedPictures } from "./vectors.js";

const MOST_SEEN = 200; // pictures; of more, some are seen among dots
const NEAREST = 6;
const SIZE = 1000;

export function mapPanel() {
  const describe = (pictures) => multipart("/embed", pictures, {});
  panel({ name: "map", describe, answer });
}

async function answer(pictures, work) {
  const known = await embedPictures(pictures, work);
  const good = pictures.filter((_, index) => known[index].vector);
  if (good.length < 3) throw new Complaint("A map needs three pictures or more that can be read.");
  const vectors = known.flatMap(({ vector }) => vector ?? []);
  const matrix = new Float32Array(vectors.length * vectors[0].length);
  vectors.forEach((vector, row) => matrix.set(vector, row * vector.length));
  const { points, explained } = await inBackground("project", { matrix, count: vectors.length });
  const neighbours = el("div.gallery");
  const choice = el("select", { change: () => show(choice.selectedIndex) }, ...good.map(({ name }) => el("option", name)));
  const show = (index) => {
    choice.selectedIndex = index;
    const cosines = vectors.map((vector) => dot(vector, vectors[index]));
    const near = descending(cosines).filter((other) => other !== index).slice(0, NEAREST);
    neighbours.replaceChildren(...[index, ...near].map((other) => hit("div", good[other], `cosine ${cosines[other].toFixed(3)}`)));
  };
  show(0);
  const left = pictures.length - good.length;
  return {
    content: [
      takeAway("map", () => good.map(({ name }, index) => ({ picture: name, x: points[index][0], y: points[index][1] })), { vectors: () => vectors }),
      el("div.card", drawing(good, points, show),
        el("p.hint", `What lies near looks alike to the model. These two directions (PCA) hold ${Math.round(100 * explained)} % of the differences; `
          + `the rest is not on the map.${left ? ` ${left} could not be read.` : ""}`)),
      el("label.field", "Nearest to", choice), neighbours],
    summary: `A map of ${good.length} pictures`,
  };
}

function drawing(pictures, points, show) {
  const every = Math.ceil(pictures.length / MOST_SEEN);
  const side = Math.max(40, Math.min(140, 900 / Math.sqrt(pictures.length)));
  const scaled = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return values.map((value) => side / 2 + ((value - low) / (high - low || 1)) * (SIZE - side));
  });
  const place = ({ name, url }, index) => {
    const [x, y] = [scaled[0][index], scaled[1][index]];
    const mark = index % every
      ? svg("circle", { cx: x, cy: y, r: 6 })
      : svg("image", { href: url, x: x - side / 2, y: y - side / 2, width: side, height: side, preserveAspectRatio: "xMidYMid slice" });
    mark.append(svg("title", {}, name));
    mark.addEventListener("click", () => show(index));
    return mark;
  };
  return svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "map", role: "img", "aria-label": `${pictures.length} pictures by likeness; the choice below names neighbours` },
    ...pictures.map(place).sort((a, b) => a.tagName.localeCompare(b.tagName))); // pictures above dots
}
