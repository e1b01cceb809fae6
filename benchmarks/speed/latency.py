"""How long answers take: closed loops of ever more clients, and open loops at shares of the limit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from benchmarks.client import Answer
from benchmarks.service_process import Running
from benchmarks.speed.bare import rate, towers
from benchmarks.speed.bench import Bench, decoder, label
from benchmarks.speed.load import drive, drive_open, percentile_ms, serving
from benchmarks.speed.ratios import limit_of
from model.bundle import Bundle
from model.runtime.processor import usable_cores

SHARES = (50, 80, 95)  # percent of the limit
PERCENTILES = (50, 95, 99)
SHORTER = 4  # a limit that is only aimed at takes a quarter of the ladder's search


async def loops(bench: Bench) -> None:
    """Pictures of 640x480 as raw bodies, for every model."""
    for path in bench.models:
        bundle = Bundle.load(path)
        with serving(bench.folder, path, bench.provider) as service:
            await _loops(bench, bundle, service)


async def _loops(bench: Bench, bundle: Bundle, service: Running) -> None:
    name, pictures = label(bundle), bench.inputs.image_sets["640x480"]
    requests = bench.inputs.raw_requests(pictures)
    with bench.steps(name, 1 + len(bench.size.clients) + len(SHARES)) as begin:
        begin("the limit")
        limit = _limit(bench, bundle)
        bench.record.add(name, "loops/limit", 0, limit)
        for clients in bench.size.clients:
            begin(f"{clients} clients")
            load = await drive(service.url, service.process.pid, requests, bench.size.seconds(limit), clients)
            bench.record.add(name, f"closed/{clients}/rate", 0, load.rate.items_s)
            _note(bench, name, f"closed/{clients}", load.answers)
        for share in SHARES:
            begin(f"{share} % of the limit")
            answers = await drive_open(service.url, itertools.cycle(requests), limit * share / 100, bench.size.open_s)
            bench.record.add(name, f"open/{share}/rate", 0, limit * share / 100)
            bench.record.add(name, f"open/{share}/late_ms", 0, 1e3 * max(answer.late for answer in answers))
            _note(bench, name, f"open/{share}", answers)


def _note(bench: Bench, name: str, loop: str, answers: Sequence[Answer]) -> None:
    for percent in PERCENTILES:
        bench.record.add(name, f"{loop}/p{percent}", 0, percentile_ms(answers, percent / 100))


def _limit(bench: Bench, bundle: Bundle) -> float:
    """Measured again, just before it is aimed at: the ladder was climbed a while ago."""
    pictures = bench.inputs.image_sets["640x480"]
    bare = towers(bundle, bench.provider, pictures)["image"]
    best = bare.best(bench.size.search_s / SHORTER, 1)
    seconds = bench.size.least_s
    decoding = rate(decoder(bundle, pictures), 1, 1, seconds / 2).items_s
    return limit_of(bare.provider, usable_cores(), bare.rate(best, seconds).items_s, decoding)
