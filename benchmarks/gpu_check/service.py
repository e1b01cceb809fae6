"""The real service on the device, over HTTP: one process and two, against the bare model and against decoding."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack
from functools import partial

import httpx
import numpy as np

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.load import TEXTS_A_REQUEST, drive, text_requests, vectors
from benchmarks.gpu_check.models import to_serve
from benchmarks.gpu_check.sessions import inputs
from benchmarks.inputs import raw_body, sentences
from benchmarks.service_process import PATIENCE_S, Running
from benchmarks.speed.bare import rate
from benchmarks.speed.bench import decoder
from benchmarks.speed.load import serving
from benchmarks.speed.photographs import SMALL, photographs
from model.bundle import Bundle
from model.runtime.engine import Engine
from model.runtime.processor import usable_cores

MEASURED_S = 8.0
BARE_S = 1.5
LEAST_GAIN = 0.95  # of a second process on the device over one
SAME = 5e-3  # difference of a component between batches of other sizes, in fp16
COLUMNS = ("items", "processes", "items/s", "of the bare model", "failed requests")


def run(options: Options, findings: Findings) -> None:
    """Measure the limits, then one service, then two beside each other on the device."""
    bundle = Bundle.load(to_serve(options))
    files = photographs({SMALL: 8 if options.quick else 64})[SMALL]
    limits = _limits(options, findings, bundle, files)
    requests = {"pictures": [raw_body(file) for file in files], "texts": text_requests()}
    rates: dict[tuple[str, int], float] = {}
    for count in (1, 2):
        with ExitStack() as stack:
            services = [stack.enter_context(serving(options.folder, bundle.path, options.device)) for _ in range(count)]
            if count == 1:
                _add_model_figures(findings, services[0])
                judge_vectors(findings, asyncio.run(vectors(services[0])), _expected(bundle))
            for kind, blocks in requests.items():
                items = TEXTS_A_REQUEST if kind == "texts" else 1
                seconds = 0.3 if options.quick else MEASURED_S
                rate_s, failed, total = asyncio.run(_measure(services, blocks, items, seconds))
                rates[kind, count] = rate_s
                share = f"{rate_s / limits[kind]:.2f}"
                findings.row("Over HTTP", COLUMNS, kind, count, f"{rate_s:.0f}", share, failed)
                what = f"{kind}, {count} process{'es' * (count > 1)}: every request is answered 200"
                findings.promise(what, not failed and total > 0, f"{failed} of {total} failed")
    for kind in requests:
        judge_replicas(options, findings, kind, rates[kind, 1], rates[kind, 2])


async def _measure(services: list[Running], blocks: list[bytes], items: int, seconds: float) -> tuple[float, int, int]:
    """Items a second of all of them together, and how many requests failed, of how many."""
    starts = [itertools.islice(itertools.cycle(blocks), 31 * number, None) for number in range(len(services))]
    await asyncio.gather(*(drive(*each, seconds / 4) for each in zip(services, starts, strict=True)))
    answers = await asyncio.gather(*(drive(*each, seconds) for each in zip(services, starts, strict=True)))
    good = 0.0
    for those in answers:
        last = max(answer.sent + answer.seconds for answer in those)
        good += sum(answer.status == 200 for answer in those) / (last - min(answer.sent for answer in those))
    every = [answer for those in answers for answer in those]
    return good * items, sum(answer.status != 200 for answer in every), len(every)


def judge_replicas(options: Options, findings: Findings, kind: str, one: float, two: float) -> None:
    """The promise about a second process on the device, in items a second."""
    promise = f"{kind}: two processes on the device do ≥ {LEAST_GAIN} of what one does"
    findings.speed(options, promise, two >= LEAST_GAIN * one, f"{two:.0f} and {one:.0f} items/s")


def judge_vectors(findings: Findings, got: np.ndarray, expected: np.ndarray) -> None:
    """The promise that what comes over HTTP is what the engine gives."""
    difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("inf")
    findings.promise(f"vectors over HTTP are the CPU's, within {SAME:g}", difference <= SAME, f"{difference:.1e}")


def _expected(bundle: Bundle) -> np.ndarray:
    tokenizer = bundle.tokenizer()
    return Engine(bundle, "cpu").embed_texts(tokenizer.pad(tokenizer.encode(sentences(8, seed=1))))


def _limits(options: Options, findings: Findings, bundle: Bundle, files: list[bytes]) -> dict[str, float]:
    """Items a second of the engine alone, by one caller and by two, and of decoding on all cores."""
    engine = Engine(bundle, options.device)
    best: dict[str, float] = {}
    for kind, tower, embed in (("pictures", "image", engine.embed_images), ("texts", "text", engine.embed_texts)):
        for callers in (1, 2):
            for size in (4,) if options.quick else (32, 128):
                value = inputs(bundle, tower, size)
                seconds = options.seconds(BARE_S)
                items_s = rate(partial(embed, value), size, callers, seconds).items_s
                columns = ("items", "callers at once", "batch", "items/s")
                findings.row("The engine alone", columns, kind, callers, size, f"{items_s:.0f}")
                best[kind] = max(best.get(kind, 0.0), items_s)
    cores = usable_cores()
    decoded = rate(decoder(bundle, files), 1, cores, options.seconds(BARE_S)).items_s
    findings.figure(f"decoding 640x480 on all {cores} cores, pictures/s", f"{decoded:.0f}")
    return best


def _add_model_figures(findings: Findings, service: Running) -> None:
    """What the service has chosen for itself."""
    served = httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["models"][0]
    for name in ("provider", "precision", "max_batch", "workers"):
        findings.figure(f"/info, {name}", served[name])
