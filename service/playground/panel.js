/** What all three panels do: describe the form as a request, send it, show what comes back. */

import { ask } from "./api.js";
import { showCode } from "./code.js";
import { announce, byId, el } from "./dom.js";
import { takeSamples } from "./pictures.js";
import { Complaint, encode } from "./request.js";
import { failure, timeTaken } from "./results.js";
import { state } from "./state.js";

const PLACEHOLDER = { name: "picture.jpg", sample: false };

/**
 * Bring a panel to life.
 * `describe(pictures)` -> a request (see request.js); `render(answer, request)` -> {content, summary}.
 * `wantsPictures()` tells whether the form, as it stands, asks about pictures; `example` names samples to try it with.
 */
export function panel({ name, example, wantsPictures, describe, render }) {
  const form = byId(name);
  const outcome = byId(`${name}-outcome`);
  const button = form.querySelector("button[type=submit]");
  const request = ({ placeholder = false } = {}) => {
    const pictures = wantsPictures() ? [...state.pictures] : [];
    if (wantsPictures() && !pictures.length && !placeholder) throw new Complaint("Choose a picture first, or take a sample.");
    return describe(pictures.length || !wantsPictures() ? pictures : [PLACEHOLDER]);
  };
  const invitation = el("div", { class: "empty" },
    el("p", {}, "The answer appears here."),
    el("button", { type: "button", click: () => takeSamples(example).then(run) }, example.length > 1 ? "Try it with the samples" : "Try it with a sample"),
  );
  const redraw = showCode(byId(`${name}-snippet`), request);
  let running = null;

  const run = async () => {
    running?.abort();
    const abort = (running = new AbortController());
    button.setAttribute("aria-busy", "true");
    try {
      const described = request();
      const result = await ask(described.path, { body: await encode(described), signal: abort.signal });
      const { content, summary } = render(result.answer, described);
      outcome.replaceChildren(content, timeTaken(result));
      if (outcome.getBoundingClientRect().top > innerHeight * 0.8) outcome.scrollIntoView({ block: "nearest" });
      announce(summary);
    } catch (error) {
      if (error.name === "AbortError") return;
      outcome.replaceChildren(failure(error), ...(wantsPictures() && !state.pictures.length ? [invitation] : []));
    }
    button.removeAttribute("aria-busy");
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  form.addEventListener("input", redraw);
  outcome.append(invitation);
}
