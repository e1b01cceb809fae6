/** What would hold up the page, in a thread of its own: {id, name, given} -> {id, result} or {id, error}. */

import { project } from "./project.js";
import { shrink } from "./shrink.js";

const TASKS = { shrink, project };

addEventListener("message", async ({ data: { id, name, given } }) => {
  try {
    postMessage({ id, result: await TASKS[name](given) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
});
