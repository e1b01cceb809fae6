/**
 * What is written and chosen: in the address, so that a link says it, and in the session's storage, so that a reload loses nothing.
 * The fragment is #panel?field=value&…, with the fields of that panel that are not as the page offers them.
 */

import { server, store, stored } from "./api.js";
import { el, on } from "./dom.js";
import { takeSamples } from "./pictures.js";
import { onChange, state } from "./state.js";
import { forgetPictures, isKept, keepPictures } from "./storage.js";

const STORED = `sightword-form ${server}`;
const LONGEST = 6000; // characters of an address that every browser and chat takes
const PANELS = [...document.querySelectorAll(".ask form")];
let samplesStored = "";

const openPanel = () => PANELS.find((form) => !form.parentNode.hidden);

/** Take over what the session and the address say, and keep both up with the page. */
export function keepAddress() {
  const { fields, samples } = read();
  for (const form of PANELS) if (fields[form.id]) fill(form, new URLSearchParams(fields[form.id]));
  follow();
  keepPictures().then(() => takeSamples(samples));
  samplesStored = sampleNames();
  for (const form of PANELS) form.addEventListener("input", write);
  onChange(() => sampleNames() === samplesStored || write());
  addEventListener("hashchange", follow);
  addEventListener("beforeunload", (event) => state.pictures.some((picture) => !picture.sample && picture.embedded && !isKept(picture)) && event.preventDefault());
  on("key-forget", "click", () => {
    store(STORED, null); // who leaves takes all of it along
    forgetPictures();
  });
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
  if (whole) form.reset();
  for (const field of form.elements) {
    const value = query.get(field.type === "radio" ? field.name : field.id);
    if (value === null) continue;
    if (field.type === "radio") field.checked = field.value === value;
    else if (field.type === "checkbox") field.checked = value === "1";
    else if (field.tagName === "SELECT") chooseOption(field, value);
    else field.value = value;
  }
  form.dispatchEvent(new Event("input", { bubbles: true }));
  for (const field of form.elements) if (field.id) field.dispatchEvent(new Event("input"));
}

/** Sets are offered once the server has said which it has (see server.js). */
function chooseOption(select, value) {
  select.dataset.wanted = value;
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}

/** Radio buttons of one word each. */
const segments = ({ name, choices }) => el("div", ...choices.split(" ").map((word, index) =>
  el("label", el("input", { type: "radio", name, value: word.toLowerCase(), checked: !index }), el("span", word))));

/** A tab and its panel for each form, with arrow keys as people expect, and a fragment each in the address. */
export function tabs() {
  const panels = new Map(PANELS.map((form) => {
    const { id } = form;
    for (const choice of form.querySelectorAll(".segmented")) choice.append(segments(choice.dataset));
    const tab = el("button", { role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, click: () => open(tab) || write() }, id[0].toUpperCase() + id.slice(1));
    const panel = el("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": tab.id });
    form.replaceWith(panel);
    panel.append(form);
    return [tab, panel];
  }));
  const all = [...panels.keys()];
  document.querySelector(".tabs").append(...all);
  const open = (chosen) => panels.forEach((panel, tab) => {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    panel.hidden = tab !== chosen;
  });
  const named = () => all.find(({ id }) => id === `tab-${location.hash.slice(1).split("?")[0]}`);
  for (const [index, tab] of all.entries()) {
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined || event.altKey) return; // with Alt the browser goes back
      event.preventDefault(); // it would scroll
      const next = all.at(to % all.length);
      next.focus();
      next.click();
    });
  }
  // After a link within the page a reload would open the first panel.
  addEventListener("hashchange", () => (named() ? open(named()) : write()));
  open(named() ?? all[0]);
}
