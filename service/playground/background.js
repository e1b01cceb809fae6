/** Tasks of worker.js, over two threads. */

const THREADS = 2;
const waiting = new Map(); // by number of the task: {resolve, reject}
const threads = [];
let last = 0;

/** The result of the task `name`. Rejects where it fails, or where this browser has no such threads. */
export function inBackground(name, given) {
  const id = (last += 1);
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    try {
      thread(id % THREADS).postMessage({ id, name, given });
    } catch (error) {
      settle(id, "reject", error);
    }
  });
}

function thread(number) {
  if (threads[number]) return threads[number];
  const worker = (threads[number] = new Worker(new URL("worker.js", import.meta.url), { type: "module" }));
  worker.addEventListener("message", ({ data: { id, result, error } }) =>
    error === undefined ? settle(id, "resolve", result) : settle(id, "reject", new Error(error)));
  worker.addEventListener("error", () => {
    for (const id of [...waiting.keys()]) if (id % THREADS === number) settle(id, "reject", new Error("no thread"));
  });
  return worker;
}

function settle(id, how, value) {
  waiting.get(id)?.[how](value);
  waiting.delete(id);
}
