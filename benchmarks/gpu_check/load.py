"""What the sections that run the real service share: requests, a second model of the same size, memory, reloads."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import psutil

from benchmarks.client import Answer, Client, closed_loop, for_seconds
from benchmarks.gpu_check.device import used_bytes
from benchmarks.gpu_check.findings import Options
from benchmarks.inputs import WORDS, embed, jpeg_files, raw_body, sentences
from benchmarks.service_process import Running
from model.bundle import Bundle, write_manifest

TEXTS_A_REQUEST = 32
RELOAD_S = 60.0
LONG_TEXT_WORDS = 30  # more than warm-up's texts have, and fewer than any context
CLIENTS = 16


def text_requests(longer: bool = False) -> list[bytes]:
    """`/embed` of many different texts each, so that the load generator has little to do for an item."""
    texts = sentences(128 * TEXTS_A_REQUEST)
    if longer:
        rng = np.random.default_rng(0)
        texts = [" ".join(rng.choice(WORDS, LONG_TEXT_WORDS)) for _ in texts]
    return [embed(list(texts[start : start + TEXTS_A_REQUEST])) for start in range(0, len(texts), TEXTS_A_REQUEST)]


def mixed_requests() -> Iterator[bytes]:
    """Texts of usual length, long ones, and pictures, in turn without end."""
    pictures = [raw_body(file) for file in jpeg_files(32)]
    kinds = (text_requests(), text_requests(longer=True), pictures)
    return (request for together in zip(*map(itertools.cycle, kinds), strict=False) for request in together)


async def drive(service: Running, requests: Iterator[bytes], seconds: float, clients: int = CLIENTS) -> list[Answer]:
    """A closed loop of so many clients."""
    client = Client(service.url)
    try:
        return await closed_loop(client, requests, clients, for_seconds(seconds))
    finally:
        client.close()


async def vectors(service: Running) -> np.ndarray:
    """Of the same few texts each time, [texts, dimensions]. Raises RuntimeError if the service does not answer 200."""
    client = Client(service.url, keep=True)
    try:
        answer = await client.send(embed(sentences(8, seed=1)))
    finally:
        client.close()
    if answer.status != 200:
        raise RuntimeError(f"the service answers {answer.status}: {answer.body[:200]!r}")
    return np.array([each["embedding"] for each in orjson.loads(answer.body)["data"]], np.float32)


def held_bytes(options: Options, service: Running | None) -> int:
    """Memory of the GPU that is used; on the CPU, the resident memory of the service's processes."""
    if options.on_gpu:
        return used_bytes()
    if service is None:
        return 0
    process = psutil.Process(service.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


class Served:
    """A link to one of two bundles of the same weights and different names, for reloads."""

    def __init__(self, source: Path, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        other = folder / "other"
        shutil.copytree(source, other)
        manifest = Bundle.load(source).manifest.model_dump(mode="json", exclude={"files"})
        write_manifest(other, manifest | {"id": "other"})
        self._turning = itertools.cycle((source.resolve(), other))
        self.link = folder / "served"
        self._turn()

    def _turn(self) -> None:
        fresh = self.link.with_name("fresh")
        fresh.symlink_to(next(self._turning))
        fresh.replace(self.link)

    async def reload(self, service: Running) -> str:
        """Let the service take the other one; "done" or "failed", as it counts."""
        self._turn()
        before = {outcome: _reloads(service, outcome) for outcome in ("done", "failed")}
        service.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(RELOAD_S):
            while True:
                for outcome, count in before.items():
                    if await asyncio.to_thread(_reloads, service, outcome) > count:
                        return outcome
                await asyncio.sleep(0.1)


def _reloads(service: Running, outcome: str) -> float:
    return service.metric("sightword_reloads_total", outcome=outcome)
