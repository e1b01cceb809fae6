/** What all panels do: describe the form as a request, do it with progress, show what comes, say when it is stale. */

import { copiesTold } from "./batches.js";
import { showCode } from "./code.js";
import { announce, byId, Complaint, el, many } from "./dom.js";
import { SAMPLES, takeSamples } from "./pictures.js";
import { failure, timeTaken } from "./results.js";
import { onChange, state } from "./state.js";
import { known } from "./vectors.js";

const PATIENCE_MS = 300; // what is done sooner needs no line
const PLACEHOLDER = { name: "picture.jpg", sample: false };
const MOST_WRITTEN = 20; // pictures in a command that is shown
const SHOWN_LATER = new Set(["threshold", "top_k"]); // these change what is shown, and no answer

/**
 * Bring a panel to life.
 * `describe(pictures)` -> the request that gets the same without this page (see request.js).
 * `answer(pictures, work)` -> {content: [element], summary}; `work` has the signal that ends it and the digest of the model asked, and takes
 * progress(done, total), pause(why) and the timings of requests.
 * `wantsPictures()` tells whether the form, as it stands, asks about pictures; `example` names samples to try it with.
 */
export function panel({ name, example = SAMPLES.map((sample) => sample.name), wantsPictures = () => true, describe, answer }) {
  const form = byId(name);
  const outcome = el("div.outcome", { id: `${name}-outcome` });
  const snippet = el("div.snippet", { id: `${name}-snippet` });
  const button = form.querySelector("button[type=submit]");
  const progress = progressLine();
  form.after(progress.element, outcome, snippet);
  const request = ({ placeholder = false } = {}) => {
    if (!wantsPictures()) return describe([]);
    if (!state.pictures.length && !placeholder) throw new Complaint("Choose a picture first, or take a sample.");
    const written = state.pictures.slice(0, MOST_WRITTEN);
    return { ...describe(written.length ? written : [PLACEHOLDER]), more: state.pictures.length - written.length };
  };
  const invitation = el("div.empty",
    el("p", "The answer appears here."),
    el("button", { click: () => takeSamples(example).then(run) }, example.length > 1 ? "Try it with the samples" : "Try it with a sample"),
  );
  const redraw = showCode(snippet, request);
  const stale = el("p.stale-note.warning", { role: "status", hidden: true });
  let answered = null; // the question of what is shown
  let running = null;

  const run = async () => {
    running?.abort();
    const abort = (running = new AbortController());
    const pictures = wantsPictures() ? [...state.pictures] : [];
    const work = { signal: abort.signal, timings: [], progress: progress.show, pause: progress.pause };
    button.setAttribute("aria-busy", "true");
    progress.start(() => abort.abort("cancel"));
    try {
      request();
      if (!state.model) throw new Complaint("The server has not said yet which model it serves. Is it ready?");
      work.digest = state.model.digest;
      const asked = question(describe);
      const { content, summary } = await answer(pictures, work);
      const copies = copiesTold(pictures);
      show(stale, el("div.verdicts", ...content), ...(copies ? [el("p.hint.copies", copies)] : []), timeTaken(work.timings));
      answered = asked;
      if (outcome.getBoundingClientRect().top > innerHeight * 0.8) outcome.scrollIntoView({ block: "nearest" });
      announce(summary);
      mark();
    } catch (error) {
      if (error.name === "AbortError" && abort.signal.reason !== "cancel") return; // another run took its place
      const kept = keptTold(pictures);
      const told = error.name === "AbortError" ? el("p.card.hint", { role: "status" }, `Stopped. ${kept}`) : failure(error, kept);
      show(told, ...(wantsPictures() && !state.pictures.length ? [invitation] : []));
    }
    if (progress.element.contains(document.activeElement)) button.focus({ preventScroll: true });
    progress.stop();
    button.removeAttribute("aria-busy");
  };

  const show = (...children) => {
    if (outcome.contains(document.activeElement)) button.focus({ preventScroll: true }); // it would be lost with what goes
    outcome.replaceChildren(...children);
  };

  const mark = () => {
    const changed = answered !== null && question(describe) !== answered && outcome.contains(stale);
    stale.hidden = !changed;
    stale.textContent = changed ? `The question has changed since this answer. Press ${button.textContent} again.` : "";
    outcome.classList.toggle("stale", changed);
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  form.addEventListener("input", () => {
    redraw();
    mark();
  });
  form.addEventListener("invalid", ({ target }) => {
    if (target.closest("details")) target.closest("details").open = true; // what is wrong would stay out of sight
  }, true);
  onChange(mark);
  outcome.append(invitation);
}

/** All that an answer depends on but the pictures, as text. */
function question(describe) {
  const digest = state.model?.digest;
  try {
    const { path, fields = [], json = {} } = describe([]);
    const options = [...fields, ...Object.entries(json)].filter(([name]) => !SHOWN_LATER.has(name));
    return JSON.stringify([digest, path, options]);
  } catch (error) {
    if (error instanceof Complaint) return error.message;
    throw error;
  }
}

function keptTold(pictures) {
  const done = pictures.filter((picture) => known(picture)?.vector).length;
  return pictures.length > 1 && done ? `${done} of ${pictures.length} pictures are done and kept; ask again to go on.` : "";
}

/** The line that says how far the work is, with a button that ends it. */
function progressLine() {
  const bar = el("progress", { max: "1", "aria-label": "Progress" });
  const text = el("span.progress-text");
  const wait = el("span.warning");
  let cancel = () => {};
  const button = el("button", { click: () => cancel() }, "Cancel");
  const element = el("div.progress.card", { hidden: true }, bar, el("p.hint", text, " ", wait), button);
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
