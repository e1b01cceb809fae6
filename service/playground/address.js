/**
 * What is written and chosen: in the address, so that a link says it, and in the session's storage, so that a reload loses nothing.
 * The fragment is #panel?field=value&…, with the fields of that panel that are not as the page offers them.
 */

import { server, store, stored } from "./api.js";
import { byId } from "./dom.js";
import { takeSamples } from "./pictures.js";
import { onChange, state } from "./state.js";

const STORED = `sightword-form ${server}`;
const LONGEST = 6000; // characters of an address that every browser and chat takes
const PANELS = [...document.querySelectorAll("[role=tabpanel] form")];
let samplesStored = "";

export const openPanel = () => PANELS.find((form) => !form.closest("[role=tabpanel]").hidden);

/** Take over what the session and the address say, and keep both up with the page. */
export function keepAddress() {
  const { fields, samples } = read();
  for (const form of PANELS) if (fields[form.id]) fill(form, new URLSearchParams(fields[form.id]));
  follow();
  takeSamples(samples);
  samplesStored = sampleNames();
  for (const form of PANELS) form.addEventListener("input", write);
  onChange(() => sampleNames() === samplesStored || write());
  addEventListener("hashchange", follow);
  addEventListener("beforeunload", (event) => state.pictures.some(({ sample, embedded }) => !sample && embedded) && event.preventDefault());
  byId("key-forget").addEventListener("click", () => store(STORED, null)); // who leaves takes all of it along
}

function follow() {
  const [panel, query] = location.hash.slice(1).split("?");
  const form = PANELS.find(({ id }) => id === panel);
  if (form && query !== undefined) fill(form, new URLSearchParams(query), true);
}

/** The address and the storage as the page stands. False where the fields are too long for an address. */
export function write() {
  const form = openPanel();
  const query = String(differing(form));
  const fits = query.length <= LONGEST;
  history.replaceState(null, "", `#${form.id}${query && fits ? `?${query}` : ""}`);
  samplesStored = sampleNames();
  const fields = Object.fromEntries(PANELS.map((each) => [each.id, String(differing(each))]));
  store(STORED, JSON.stringify({ fields, samples: samplesStored }));
  return fits;
}

const sampleNames = () => state.pictures.filter(({ sample }) => sample).map(({ name }) => name).join();

function read() {
  try {
    const { fields, samples } = JSON.parse(stored(STORED));
    return { fields: Object(fields), samples: samples.split(",") };
  } catch {
    return { fields: {}, samples: [] }; // nothing yet, or not of this page
  }
}

/** Fields that hold something else than the page offers. */
function differing(form) {
  const query = new URLSearchParams();
  for (const field of form.elements) {
    const [name, value, offered] = valueOf(field);
    if (name && value !== offered) query.set(name, value);
  }
  return query;
}

/** [name, value, value offered]; without a name what is no field, and a radio button that is not chosen. */
function valueOf(field) {
  if (field.type === "radio") return field.checked ? [field.name, field.value, field.defaultChecked ? field.value : ""] : [];
  if (field.type === "checkbox") return [field.id, field.checked ? "1" : "", field.defaultChecked ? "1" : ""];
  if (field.tagName === "SELECT") return [field.id, field.value, ""];
  return ["text", "textarea", "number", "range"].includes(field.type) ? [field.id, field.value, field.defaultValue] : [];
}

/** With `whole`, what the query does not hold becomes what the page offers. */
function fill(form, query, whole = false) {
  for (const field of form.elements) {
    const name = field.type === "radio" ? field.name : field.id;
    const value = query.get(name);
    if (!name || (value === null && !whole)) continue;
    if (field.type === "radio") field.checked = value === null ? field.defaultChecked : field.value === value;
    else if (field.type === "checkbox") field.checked = value === "1";
    else if (field.tagName === "SELECT") chooseOption(field, value ?? "");
    else if (valueOf(field).length) field.value = value ?? field.defaultValue;
  }
  form.dispatchEvent(new Event("input", { bubbles: true }));
  for (const field of form.elements) if (field.id) field.dispatchEvent(new Event("input"));
}

/** Sets are offered once the server has said which it has (see sets.js). */
function chooseOption(select, value) {
  select.dataset.wanted = value;
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}
