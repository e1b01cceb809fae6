/** The line that says what is served, the choice of the model and of its label sets, and the field for the key. */

import { ApiError, ask, key } from "./api.js";
import { copyButton } from "./code.js";
import { byId, counted, el, on } from "./dom.js";
import { changed, state } from "./state.js";

let offeredFor = null; // the id of the model whose own set was offered last
const EVERY_MS = { ready: 15_000, waiting: 2_000, failed: 5_000 };

export function serverLine() {
  on("model", "change", ({ target }) => {
    choose(state.info.models[target.selectedIndex]);
    offerSets();
  });
  on("key-form", "submit", (event) => {
    event.preventDefault();
    const given = byId("key").value.trim();
    if (/[^ -~]/.test(given)) {
      byId("key-hint").textContent = "A key has letters from a to z, digits and signs. Was something else copied along?";
      return;
    }
    key.set(given);
    load();
  });
  on("key-forget", "click", () => {
    key.forget();
    byId("key").value = "";
    load();
  });
  on("facts-more", "click", ({ target }) => target.setAttribute("aria-expanded", String(byId("facts").classList.toggle("open"))));
  byId("serve").parentNode.after(copyButton(() => byId("serve").textContent, byId("serve")));
  document.addEventListener("keyrefused", wantKey);
  document.addEventListener("modelreplaced", load);
  keepWatching();
}

async function load() {
  try {
    state.info = (await ask("/info")).answer;
  } catch (error) {
    if (error.status !== 401) showState("failed", error.message);
    return;
  }
  if (key.get() !== null) showKey("The server takes your key. The commands below have $API_KEY in its place.");
  byId("model").replaceChildren(...state.info.models.map(({ id }) => el("option", { value: id }, id)));
  choose(state.info.models.find(({ id }) => id === state.model?.id) ?? state.info.models[0] ?? null);
  await offerSets();
}

async function keepWatching() {
  try {
    if (!document.hidden || !state.info) await watch();
  } finally {
    setTimeout(keepWatching, EVERY_MS[byId("state").dataset.state]);
  }
}

async function watch() {
  try {
    await ask("/health/ready");
    const news = byId("state").dataset.state !== "ready"; // it was started, perhaps with something else
    showState("ready", "ready");
    if (news) await load();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showState(error.status === 503 ? "waiting" : "failed", error.message);
  }
}

function showState(name, text) {
  byId("state").dataset.state = name;
  byId("state-text").textContent = text;
}

function choose(model) {
  state.model = model;
  const several = state.info.models.length > 1;
  byId("model").hidden = !several;
  byId("model-name").hidden = several;
  byId("model").value = model?.id;
  byId("model-name").textContent = model?.id ?? "–";
  byId("served").hidden = false;
  const facts = { Digest: model?.digest.slice(0, 12), "Runs on": model?.provider.replace("ExecutionProvider", ""), Precision: model?.precision, Version: state.info.version };
  byId("facts").replaceChildren(...[...byId("facts").children].slice(0, 2), ...Object.entries(facts).map(([name, text]) =>
    el("div", el("dt", name), el("dd", { id: name.toLowerCase(), title: name === "Digest" && model?.digest }, text ?? "–"))));
  describe(model);
  byId("dimensions").max = model?.dimensions ?? "";
  byId("dimensions").placeholder = model ? `all ${model.dimensions}` : "all";
  changed();
}

/** By what is served, not by its id: a model trained further may have the name of the one that ships. */
function describe(model) {
  document.body.classList.toggle("demonstration", Boolean(model?.bundled));
  byId("samples-hint").hidden = !model?.bundled;
  byId("bundled-model").hidden = !model?.bundled;
  byId("other-model").hidden = !model || model.bundled;
  if (!model) return;
  const { id, image_size: pixels, context_length: tokens, categories, dimensions, mixture, variant, source_warnings: warnings } = model;
  const reads = categories === null
    ? `reads up to ${tokens} tokens`
    : `knows ${categories} categories by name and no other text, tells of each alone how likely it is`;
  const mixed = mixture ? ` Of a picture it makes ${mixture.tokens}, which it mixes for each text.` : "";
  const made = variant ? ` It is a variant of ${variant.made_from_id} in ${variant.precision}.` : "";
  const doubts = warnings.map((warning) => ` Doubtful when it was imported: ${warning}.`).join("");
  byId("other-model-facts").textContent =
    `${id} sees ${pixels} × ${pixels} pixels, ${reads}, and makes vectors of ${dimensions} dimensions.${mixed}${made}${doubts}`;
}

/** A browser sends no key where a link leads; the other page of the reference sends it. */
function keyedLinks() {
  document.querySelector("#documents a[href=info]").hidden = true;
  for (const link of document.querySelectorAll("a[href=docs]")) link.href = "playground/reference.html";
}

function wantKey() {
  const wrong = key.get() !== null;
  key.forget();
  showKey(wrong
    ? "The server does not know this key. Try another one."
    : "This server wants a key. It stays in this tab and is gone when you close it.");
  if (wrong) byId("key").select();
}

function showKey(hint) {
  const had = key.get() !== null;
  keyedLinks();
  const focused = byId("key-form").contains(document.activeElement);
  byId("key-form").hidden = false;
  byId("key-entry").hidden = had;
  byId("key-forget").hidden = !had;
  byId("key-hint").textContent = hint;
  if (focused) byId(had ? "key-forget" : "key").focus(); // it would be lost with what is hidden
}

/** Fill the two choices; without label sets there is none to make. */
async function offerSets() {
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

function refill(select, options) {
  const before = select.value || select.dataset.wanted;
  delete select.dataset.wanted;
  for (const option of [...select.querySelectorAll(".offered")]) option.remove();
  select.append(...options.map(([value, text]) => el("option.offered", { value }, text)));
  select.value = [...select.options].some(({ value }) => value === before) ? before : "";
}
