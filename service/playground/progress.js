/** The line that says how far a panel's work is, with a button that ends it. */

import { announce, el } from "./dom.js";
import { many } from "./state.js";

const PATIENCE_MS = 300; // what is done sooner needs no line

/** {element, start(cancel), show(done, total), pause(text), stop()} */
export function progressLine() {
  const bar = el("progress", { max: "1", "aria-label": "Progress" });
  const text = el("span", { class: "progress-text" });
  const wait = el("span", { class: "warning" });
  let cancel = () => {};
  const button = el("button", { click: () => cancel() }, "Cancel");
  const element = el("div", { class: "progress card", hidden: true }, bar, el("p", { class: "hint" }, text, " ", wait), button);
  let timer = null;
  let heard = 0; // the last quarter that was said aloud
  return {
    element,
    start(end) {
      cancel = end;
      heard = 0;
      bar.removeAttribute("value");
      text.textContent = "Working…";
      wait.textContent = "";
      clearTimeout(timer);
      timer = setTimeout(() => (element.hidden = false), PATIENCE_MS);
    },
    show(done, total) {
      bar.value = total ? done / total : 0;
      text.textContent = `${many(done)} of ${many(total)} pictures embedded.`;
      const quarter = Math.floor((4 * done) / total);
      if (quarter > heard && !element.hidden) announce(text.textContent);
      heard = quarter;
    },
    pause(why) {
      wait.textContent = why;
      if (why) announce(why);
    },
    stop() {
      clearTimeout(timer);
      element.hidden = true;
    },
  };
}
