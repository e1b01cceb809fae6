"""The real service on the device, over HTTP: one process, several workers on one port, and two services.

Each has a session of its own on the device. What they do is held against one process, the bare model and decoding."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.load import CLIENTS, TEXTS_A_REQUEST, drive, held_bytes, text_requests, vectors
from benchmarks.gpu_check.models import to_serve
from benchmarks.gpu_check.sessions import inputs
from benchmarks.inputs import raw_body, sentences
from benchmarks.service_process import PATIENCE_S, START_S, Running
from benchmarks.speed.bare import rate
from benchmarks.speed.bench import decoder
from benchmarks.speed.load import serving
from benchmarks.speed.photographs import SMALL, photographs
from model.bundle import Bundle
from model.runtime.engine import Engine
from model.runtime.processor import usable_cores

MEASURED_S = 6.0
BARE_S = 1.5
LEAST_GAIN = 0.95  # of several processes on the device over one
SAME = 5e-3  # difference of a component between batches of other sizes, in fp16
COLUMNS = ("items", "services", "workers of each", "items/s", "of the bare model", "memory, MiB", "failed requests")
QUEUE_ITEMS = 4 * CLIENTS * TEXTS_A_REQUEST + 1  # of the clients of four workers none is refused


class Arrangement(NamedTuple):
    """So many services, each a port and so many worker processes."""

    services: int
    workers: int

    def describe(self) -> str:
        """In words."""
        if self == ALONE:
            return "one process"
        return f"{self.workers} workers" if self.services == 1 else f"{self.services} services"


ALONE = Arrangement(1, 1)
ARRANGEMENTS = (ALONE, Arrangement(1, 2), Arrangement(1, 4), Arrangement(2, 1))


def run(options: Options, findings: Findings) -> None:
    """Measure the limits, then each arrangement."""
    bundle = Bundle.load(to_serve(options))
    files = photographs({SMALL: 8 if options.quick else 64})[SMALL]
    limits = _limits(options, findings, bundle, files)
    requests = {"pictures": [raw_body(file) for file in files], "texts": text_requests()}
    rates: dict[tuple[str, Arrangement], float] = {}
    for arrangement in ARRANGEMENTS:
        before = held_bytes(options, None)
        with _serving(options, bundle, arrangement) as services:
            if arrangement == ALONE:
                _add_model_figures(findings, services[0])
            judge_vectors(findings, arrangement.describe(), asyncio.run(vectors(services[0])), _expected(bundle))
            for kind, blocks in requests.items():
                items = TEXTS_A_REQUEST if kind == "texts" else 1
                seconds = 0.3 if options.quick else MEASURED_S
                clients = CLIENTS * arrangement.workers
                rate_s, failed, total = asyncio.run(_measure(services, blocks, items, seconds, clients))
                rates[kind, arrangement] = rate_s
                held = _held_bytes(options, services) - before
                cells = f"{rate_s:.0f}", f"{rate_s / limits[kind]:.2f}", f"{held / 2**20:.0f}", failed
                findings.row("Over HTTP", COLUMNS, kind, *arrangement, *cells)
                what = f"{kind}, {arrangement.describe()}: every request is answered 200"
                findings.promise(what, not failed and total > 0, f"{failed} of {total} failed")
    for (kind, arrangement), rate_s in rates.items():
        if arrangement != ALONE:
            judge_several(options, findings, kind, arrangement.describe(), rates[kind, ALONE], rate_s)


@contextmanager
def _serving(options: Options, bundle: Bundle, arrangement: Arrangement) -> Iterator[list[Running]]:
    """The services, once all their workers are ready."""
    settings = {"workers": str(arrangement.workers), "queue_items": str(QUEUE_ITEMS)}
    with ExitStack() as stack:
        services = [
            stack.enter_context(serving(options.folder, bundle.path, options.device, **settings))
            for _ in range(arrangement.services)
        ]
        ends = time.monotonic() + START_S
        while any(service.log().count("ready after") < arrangement.workers for service in services):
            if time.monotonic() > ends:
                raise RuntimeError(f"the workers are not ready within {START_S:g} s:\n{services[0].log()}")
            time.sleep(0.1)
        yield services


def _held_bytes(options: Options, services: list[Running]) -> int:
    return held_bytes(options, None) if options.on_gpu else sum(held_bytes(options, each) for each in services)


async def _measure(
    services: list[Running], blocks: list[bytes], items: int, seconds: float, clients: int
) -> tuple[float, int, int]:
    """Items a second of all of them together, and how many requests failed, of how many."""
    starts = [itertools.islice(itertools.cycle(blocks), 31 * number, None) for number in range(len(services))]
    await asyncio.gather(*(drive(*each, seconds / 4, clients) for each in zip(services, starts, strict=True)))
    answers = await asyncio.gather(*(drive(*each, seconds, clients) for each in zip(services, starts, strict=True)))
    good = 0.0
    for those in answers:
        last = max(answer.sent + answer.seconds for answer in those)
        good += sum(answer.status == 200 for answer in those) / (last - min(answer.sent for answer in those))
    every = [answer for those in answers for answer in those]
    return good * items, sum(answer.status != 200 for answer in every), len(every)


def judge_several(options: Options, findings: Findings, kind: str, what: str, one: float, several: float) -> None:
    """The promise about several processes on the device, in items a second."""
    promise = f"{kind}: {what} on the device do ≥ {LEAST_GAIN} of what one process does"
    findings.speed(options, promise, several >= LEAST_GAIN * one, f"{several:.0f} and {one:.0f} items/s")


def judge_vectors(findings: Findings, whose: str, got: np.ndarray, expected: np.ndarray) -> None:
    """The promise that what comes over HTTP is what the engine gives."""
    difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("inf")
    what = f"{whose}: vectors over HTTP are the CPU's, within {SAME:g}"
    findings.promise(what, difference <= SAME, f"{difference:.1e}")


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
