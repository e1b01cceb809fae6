/** The label sets and template sets that this server has. */

import { ask } from "./api.js";
import { byId, el } from "./dom.js";
import { changed, state } from "./state.js";

let offeredFor = null; // the id of the model whose own set was offered last

/** Fill the two choices; without label sets there is none to make. */
export async function offerSets() {
  const templates = Object.entries(state.info.template_sets ?? {});
  refill(byId("template-set"), templates.map(([name, { length }]) => [name, `${name} (${counted(length, "prompt")})`]));
  const { id = null } = state.model ?? {};
  const labels = (await sets()).filter(({ own_of: owner }) => owner === null || owner === id);
  refill(byId("label-set"), labels.map(({ name, label_count: count }) => [name, `${name} (${counted(count, "label")})`]));
  byId("label-set-field").hidden = !labels.length;
  const own = labels.find(({ own_of: owner }) => owner === id);
  if (own && offeredFor !== id) byId("label-set").value = own.name; // it knows nothing else
  offeredFor = id;
  changed();
}

async function sets() {
  try {
    return (await ask("/label-sets")).answer.label_sets;
  } catch {
    return []; // the rest of the page works without
  }
}

const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** Keep what the page itself offers and what is chosen. */
function refill(select, options) {
  const before = select.value || select.dataset.wanted;
  delete select.dataset.wanted;
  for (const option of [...select.querySelectorAll(".offered")]) option.remove();
  select.append(...options.map(([value, text]) => el("option", { value, class: "offered" }, text)));
  select.value = [...select.options].some(({ value }) => value === before) ? before : "";
}
