/** Elements. Text is only ever set as text, so that nothing a person or a server says becomes markup. */

export const byId = (id) => document.getElementById(id);

/** A new element. Functions among the attributes are listeners; null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (tag === "button") element.type = "button"; // those that submit stand in the page
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A new SVG element. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Let screen readers say it once. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** The value of the chosen radio button. */
export const chosen = (form, name) => form.elements.namedItem(name).value;

/** What stands in a text field, one entry a line; empty lines are none. */
export const lines = (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean);
