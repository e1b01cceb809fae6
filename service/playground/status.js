/** Live figures of the server, from /metrics and /info, while somebody looks at them. */

import { ask } from "./api.js";
import { byId, bytes, el, many } from "./dom.js";
import { duration, grid } from "./results.js";
import { state } from "./state.js";

const EVERY_MS = 2000;
const OF_THE_PAGE = /^\/($|playground|health|metrics|info|label-sets$)/; // what is asked without any work
const STAGES = ["fetch", "decode", "preprocess", "tokenize", "cache", "queue", "inference", "serialize"]; // as they follow
let before = null; // {at, requests}, for the rate
let timer = null;

export function statusFigures() {
  const box = byId("status");
  const watch = async () => {
    clearTimeout(timer);
    if (!box.open) return;
    if (!document.hidden) await refresh(byId("figures"));
    timer = setTimeout(watch, EVERY_MS);
  };
  box.addEventListener("toggle", watch);
}

async function refresh(place) {
  try {
    const samples = parsed((await ask("/metrics")).answer);
    place.replaceChildren(el("dl.figures", ...figures(samples).map(([name, value, note]) =>
      el("div", el("dt", name), el("dd", value), note ? el("dd.hint", note) : null))), stages(samples));
  } catch (error) {
    place.replaceChildren(el("p.warning", `No figures: ${error.message}`));
  }
}

/** Prometheus' text as [{name, labels, value}]. */
function parsed(text) {
  const line = /^sightword_(\w+)(?:\{(.*)\})? (\S+)$/;
  return text.split("\n").map((each) => line.exec(each)).filter(Boolean).map(([, name, labels = "", value]) =>
    ({ name, value: Number(value), labels: Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, said]) => [key, said])) }));
}

const sum = (samples, name, keep = () => true) =>
  samples.reduce((total, each) => (each.name === name && keep(each.labels) ? total + each.value : total), 0);

function figures(samples) {
  const of = (name, keep) => sum(samples, name, keep);
  const work = ({ route }) => !OF_THE_PAGE.test(route);
  const requests = of("requests_total", work);
  const now = performance.now();
  const rate = before && requests >= before.requests ? (1000 * (requests - before.requests)) / (now - before.at) : 0;
  before = { at: now, requests };
  const failed = (digit) => of("requests_total", (labels) => work(labels) && labels.status.startsWith(digit));
  const hits = of("cache_lookups_total", ({ outcome }) => outcome === "hit");
  const lookups = of("cache_lookups_total");
  const batch = (tower) => {
    const mine = (labels) => labels.tower === tower;
    const runs = of("inference_executions_total", mine);
    const items = of("inference_items_total", mine);
    const most = of("max_batch", (labels) => mine(labels) && labels.model === state.model?.id);
    return [runs ? (items / runs).toFixed(1) : "–", `on average; at most ${most}. Runs: ${many(runs)}`];
  };
  return [
    ["Requests", many(requests), `${rate.toFixed(1)} a second now`],
    ["Refused or failed", many(failed("4") + failed("5")), `${many(of("rejections_total", ({ reason }) => reason === "overloaded"))} because it was full, ${many(failed("5"))} by its own fault`],
    ["Waiting", `${many(of("queue_items"))} of ${many(of("queue_items_limit"))}`, `${bytes(of("queue_bytes"))} of ${bytes(of("queue_bytes_limit"))}`],
    ["From the cache", lookups ? `${Math.round((100 * hits) / lookups)} %` : "–", `${many(hits)} of ${many(lookups)} lookups; it holds ${bytes(of("cache_bytes"))}`],
    ["Pictures a batch", ...batch("image")],
    ["Texts a batch", ...batch("text")],
    ["Processes", state.info?.workers ?? "–"],
  ];
}

function stages(samples) {
  const seen = samples.filter(({ name }) => name === "stage_seconds_count").map(({ labels }) => labels.stage);
  const names = [...STAGES.filter((stage) => seen.includes(stage)), ...seen.filter((stage) => !STAGES.includes(stage))];
  const rows = names.map((stage) => {
    const mine = (labels) => labels.stage === stage;
    const count = sum(samples, "stage_seconds_count", mine);
    const buckets = samples.filter(({ name, labels }) => name === "stage_seconds_bucket" && mine(labels));
    const under = buckets.find(({ value }) => value >= 0.95 * count)?.labels.le;
    return [stage, many(count), duration((1000 * sum(samples, "stage_seconds_sum", mine)) / count), under > 0 ? duration(1000 * under) : "–"];
  });
  return el("div.why", grid([["Stage of a request", "Times", "On average", "95 % take less than"], ...rows]));
}
