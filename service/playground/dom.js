/** Elements, and numbers as people read them. Text is only ever set as text: nothing that is said becomes markup. */

export const byId = (id) => document.getElementById(id);

/** Show a hint, or hide it where there is nothing to say. */
export function hint(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

/** Have the element `id` listen. */
export const on = (id, event, act) => byId(id).addEventListener(event, act);

/** A new element: "tag.class", its attributes where there are any, its children. Functions are listeners; null and false are left out. */
export function el(described, ...children) {
  const [tag, ...classes] = described.split(".");
  const attributes = children[0]?.constructor === Object ? children.shift() : {};
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  if (tag === "button") element.type = "button"; // those that submit stand in the page
  return filled(element, attributes, children);
}

/** A new SVG element. */
export const svg = (tag, attributes, ...children) => filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if ((value ?? false) !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Let screen readers say it once. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** The value of the chosen radio button. */
export const chosen = (form, name) => form.elements.namedItem(name).value;

/** What stands in a text field, one entry a line; empty lines are none, and where all are, `complaint` is made. */
export function linesOf(id, complaint) {
  const lines = byId(id).value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!lines.length) throw new Complaint(complaint);
  return lines;
}

/** A request that is not worth sending, and why. */
export class Complaint extends Error {}

/** 3, "label" -> "3 labels". */
export const counted = (count, one, others = `${one}s`) => `${many(count)} ${count === 1 ? one : others}`;

/** 12345.6 -> "12,346". */
export const many = (count) => Math.round(count).toLocaleString("en");

/** 33554432 -> "32 MiB". */
export function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${Number(count.toFixed(count < 10 ? 1 : 0))} ${units[unit]}`;
}
