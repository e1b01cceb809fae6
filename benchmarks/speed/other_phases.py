"""The shorter phases: cost of the load generator, cache hits, camera-sized pictures, start and memory."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from benchmarks.client import Client, request
from benchmarks.inputs import embed, raw_body
from benchmarks.peers.process import own_process
from benchmarks.service_process import free_port
from benchmarks.speed.bare import median_ms
from benchmarks.speed.bench import Bench, decoder, label
from benchmarks.speed.load import drive, dummy_server, serving
from benchmarks.speed.photographs import CAMERA, SMALL
from model.bundle import Bundle
from model.config import Preprocessing
from model.runtime.engine import Engine
from model.runtime.providers import PROVIDERS, choose
from service.settings import Settings

READY = request("GET", "/health/ready")
START_S = 120.0
POLL_S = 0.005


async def generator(bench: Bench) -> None:
    """What a request costs the load generator, against a server that only parses it."""
    files = bench.inputs.image_sets["640x480"]
    bodies = {
        "raw": bench.inputs.raw_requests(files),
        "json": bench.inputs.json_requests(files),
        "text": bench.inputs.text_requests,
    }
    with dummy_server("trivial") as (url, pid), bench.steps("load generator", len(bodies)) as begin:
        for kind, requests in bodies.items():
            begin(kind)
            load = await drive(url, pid, requests, bench.size.least_s)
            bench.record.add("", f"generator/{kind}/rate", 0, load.rate.items_s)
            bench.record.add("", f"generator/{kind}/core_ms", 0, load.generator_ms)


async def cache(bench: Bench) -> None:
    """The same picture, and the same text, again and again, against a FastAPI route that only reads the body."""
    asked = {
        "picture": [raw_body(bench.inputs.by_size[SMALL][0])],
        "text": [embed(bench.inputs.texts[0])],
    }
    path = bench.models[-1]
    settings = {"cache_bytes": str(Settings.model_fields["cache_bytes"].default)}
    with serving(bench.folder, path, bench.provider, **settings) as service, dummy_server("empty") as (url, pid):
        servers = {"hit": (service.url, service.process.pid), "empty": (url, pid)}
        with bench.steps("cache hits", bench.size.rounds * len(asked) * len(servers)) as begin:
            for turn in range(bench.size.rounds):
                for kind, requests in asked.items():
                    for name, server in servers.items():
                        begin(f"round {turn + 1}, {kind}, {name}")
                        load = await drive(*server, requests, bench.size.least_s)
                        bench.record.add("", f"cache/{kind}/{name}", turn, load.rate.items_s)
                        bench.record.add("", f"cache/{kind}/{name}/core_ms", turn, load.rate.core_ms)


async def camera(bench: Bench) -> None:
    """Pictures of 12 megapixels: ours against plain Pillow, in time and in what the model makes of them."""
    files = bench.inputs.by_size[CAMERA]
    for path in bench.models:
        bundle = Bundle.load(path)
        name, config = label(bundle), bundle.preprocessing
        ours = decoder(bundle, files)
        plain = _pillow_decoder(files, config)
        with bench.steps(f"{name}: 12 megapixels", bench.size.rounds) as begin:
            for turn in range(bench.size.rounds):
                begin(f"round {turn + 1}")
                bench.record.add(name, "camera/ours_ms", turn, median_ms(ours, bench.size.least_s / 2))
                bench.record.add(name, "camera/plain_ms", turn, median_ms(plain, bench.size.least_s / 2))
        engine = Engine(bundle, bench.provider)
        vectors = [
            engine.embed_images(np.stack([one() for _ in files]))
            for one in (decoder(bundle, files), _pillow_decoder(files, config))
        ]
        bench.record.add(name, "camera/cosine", 0, float(np.sum(vectors[0] * vectors[1], axis=1).min()))


def _pillow_decoder(files: Sequence[bytes], config: Preprocessing) -> Callable[[], NDArray[np.uint8]]:
    number = -1

    def decode() -> NDArray[np.uint8]:
        nonlocal number
        number += 1
        return _decode_with_pillow(files[number % len(files)], config.size)

    return decode


def _decode_with_pillow(file: bytes, size: int) -> NDArray[np.uint8]:
    """Pillow as everybody writes it: decode all, resize the shortest side, crop the centre. [size, size, 3]"""
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    scale = size / min(picture.size)
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    return np.array(picture.crop((left, top, left + size, top + size)))


async def start(bench: Bench) -> None:
    """From the start of the process to its first answer that it is ready; files have been read before."""
    path = bench.models[-1]
    name = label(Bundle.load(path))
    with bench.steps(f"{name}: start", bench.size.starts + 1) as begin:
        for turn in range(bench.size.starts + 1):
            begin(f"round {turn}")
            seconds = await _start_s(bench, path)
            if turn:  # the first one warms the disk
                bench.record.add(name, "start/s", turn - 1, seconds)


async def _start_s(bench: Bench, path: Path) -> float:
    port = free_port()
    command = [sys.executable, "-m", "service", "--port", str(port), "--model", str(path.resolve())]
    client = Client(f"http://127.0.0.1:{port}")
    started = time.perf_counter()
    with own_process([*command, "--provider", bench.provider], bench.folder / "start.log") as process:
        try:
            while (await client.send(READY)).status != 200:
                if process.poll() is not None or time.perf_counter() > started + START_S:
                    raise RuntimeError(f"the service did not start: {(bench.folder / 'start.log').read_text()[-500:]}")
                await asyncio.sleep(POLL_S)
            return time.perf_counter() - started
        finally:
            client.close()


async def memory(bench: Bench) -> None:
    """Resident memory of the service under load, and of a process with nothing but the two sessions."""
    for path in bench.models:
        name = label(Bundle.load(path))
        with bench.steps(f"{name}: memory", 2) as begin:
            begin("bare sessions")
            bench.record.add(name, "memory/bare_mib", 0, _bare_mib(bench, path))
            begin("service")
            bench.record.add(name, "memory/service_mib", 0, await _service_mib(bench, path))


def _bare_mib(bench: Bench, path: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.speed.bare_process", str(path), PROVIDERS[choose(bench.provider)[0]]]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # noqa: S603


async def _service_mib(bench: Bench, path: Path) -> float:
    pictures = bench.inputs.raw_requests(bench.inputs.image_sets["640x480"])
    with serving(bench.folder, path, bench.provider) as service:
        process = psutil.Process(service.process.pid)
        for requests in (pictures, bench.inputs.text_requests):
            await drive(service.url, process.pid, requests, bench.size.least_s)
        return process.memory_info().rss / 2**20
