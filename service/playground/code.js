/** The same request as curl and as Python, kept up with the form, with a button that copies it. */

import { key, server } from "./api.js";
import { announce, Complaint, el } from "./dom.js";
import { curl, python } from "./snippets.js";
import { limit, onChange } from "./state.js";

const LANGUAGES = { curl, Python: python };
let language = "curl"; // one choice for all panels
const redraws = [];

/** Fill `container`; `describe` gives the request of the form as it stands. Returns the function that redraws. */
export function showCode(container, describe) {
  const text = el("code");
  const block = el("pre", { tabindex: "0", "aria-label": "The same request as a command" }, text);
  const choices = Object.keys(LANGUAGES).map((name) =>
    el("button", { "aria-pressed": "false", click: () => choose(name) }, name),
  );
  const copy = copyButton(() => text.textContent, text);
  container.append(
    el("div.snippet-head",
      el("h3", "The same request"),
      el("div.choices", { role: "group", "aria-label": "Language" }, ...choices),
      copy,
    ),
    block,
  );
  const redraw = () => {
    for (const button of choices) button.setAttribute("aria-pressed", String(button.textContent === language));
    text.textContent = written(describe);
  };
  redraws.push(redraw);
  onChange(redraw);
  redraw();
  return redraw;
}

function choose(name) {
  language = name;
  for (const redraw of redraws) redraw();
}

function written(describe) {
  try {
    const request = describe({ placeholder: true });
    const more = request.more > 0 ? `\n# and ${request.more} more pictures, in requests of at most ${limit("max_items", 512)}` : "";
    return LANGUAGES[language](request, server, key.get() !== null) + more;
  } catch (error) {
    if (error instanceof Complaint) return `# ${error.message}`;
    throw error;
  }
}

/** A button that copies what `read` gives, false if that is too long; `shown` is selected where there is no clipboard. */
export function copyButton(read, shown, label = "Copy") {
  const button = el("button.copy", { click: async () => {
    const text = read();
    const copied = text ? await copyText(text, shown) : "Too long for a link";
    button.textContent = copied;
    announce(copied);
    setTimeout(() => (button.textContent = label), 2000);
  } }, label);
  return button;
}

async function copyText(text, shown) {
  try {
    await navigator.clipboard.writeText(text); // there is none on plain http, but for localhost
    return "Copied";
  } catch {
    getSelection().selectAllChildren(shown);
    return "Press Ctrl+C";
  }
}
