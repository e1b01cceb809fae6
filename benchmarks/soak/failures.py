"""Phases in which something happens in the middle of load: Redis stops, the model is swapped, the service ends."""

from __future__ import annotations

import asyncio
import base64
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.client import Answer, Client, closed_loop, for_seconds
from benchmarks.inputs import embed, text_requests, texts
from benchmarks.redis_server import RedisServer, redis_server
from benchmarks.service_process import Running
from benchmarks.soak.bench import CLIENTS, Bench, Monitor, statuses
from benchmarks.soak.report import Phase
from model.bundle import write_manifest
from model.manifest import MANIFEST, WEIGHTS

RECOVERY_S = 60.0
GRACE_S = 2.0  # until a balancer has seen that the service is not ready any more
TOLERANCE = 1e-3


async def redis(bench: Bench) -> Phase:
    """Redis is stopped, goes on, is killed and started again."""
    phase = Phase("Redis fails")
    requests, seconds = text_requests(), bench.size.step_s
    without = await _rate_without_cache(bench, requests)
    with redis_server(bench.folder) as server, bench.serving(cache_bytes="0", redis_url=server.url) as service:
        client = Client(service.url)
        steps = {
            "up": lambda: None,
            "stopped (SIGSTOP)": server.pause,
            "up again": server.resume,
            "killed": server.kill,
        }
        everything: list[Answer] = []
        rates: dict[str, float] = {}
        for name, action in steps.items():
            async with bench.bar(f"Redis {name}", seconds):
                action()
                rate, answers = await _measure_step(client, requests, seconds)
            everything += answers
            rates[name] = rate
        phase.check("not a request fails", {a.status for a in everything} == {200}, statuses(everything))
        phase.check("metrics show that it is gone", service.metric("sightword_redis_up") == 0, "sightword_redis_up 0")
        recovered = await _recovery(service, server, client, requests)
        phase.check("it recovers by itself", recovered is not None, f"{recovered or RECOVERY_S:.1f} s after the start")
        client.close()
    without = (without + await _rate_without_cache(bench, requests)) / 2
    for name in ("up", "stopped (SIGSTOP)", "killed"):
        measured = f"{rates[name]:.0f} of {without:.0f} requests/s"
        phase.check(f"Redis {name}: 80 % of the speed of no cache", rates[name] >= 0.8 * without, measured, speed=True)
    phase.figures = {f"Redis {name}": f"{rate:.0f} requests/s, {rate / without:.0%}" for name, rate in rates.items()}
    return phase


async def _rate_without_cache(bench: Bench, requests: Iterator[bytes]) -> float:
    with bench.serving(cache_bytes="0") as service:
        client = Client(service.url)
        async with bench.bar("no cache", bench.size.step_s):
            await closed_loop(client, requests, CLIENTS // 2, for_seconds(bench.size.step_s / 4))
            rate, _ = await _measure_step(client, requests, bench.size.step_s)
        client.close()
    return rate


async def _measure_step(client: Client, requests: Iterator[bytes], seconds: float) -> tuple[float, list[Answer]]:
    started = time.perf_counter()
    answers = await closed_loop(client, requests, CLIENTS // 2, for_seconds(seconds))
    return sum(answer.status == 200 for answer in answers) / (time.perf_counter() - started), answers


async def _recovery(service: Running, server: RedisServer, client: Client, requests: Iterator[bytes]) -> float | None:
    await asyncio.to_thread(server.start)
    started = time.monotonic()
    while time.monotonic() < started + RECOVERY_S:
        await client.send(next(requests))
        if await asyncio.to_thread(service.metric, "sightword_redis_up") == 1:
            return time.monotonic() - started
        await asyncio.sleep(0.1)
    return None


async def reload(bench: Bench) -> Phase:
    """SIGHUP, again and again, with two bundles in turn. Every answer must be wholly of one of them."""
    phase = Phase("Reload in the middle of load")
    other = _negated(bench.bundle, bench.folder / "other-bundle")
    folder = bench.folder / "served"
    _symlink(folder, bench.bundle)
    words = [text for text, _ in zip(texts(7), range(64), strict=False)]
    draw = random.Random(0)
    asked: dict[int, list[int]] = {}

    def requests() -> Iterator[bytes]:
        while True:
            chosen = draw.sample(range(len(words)), 8)
            asked[len(asked)] = chosen
            yield _numbered(len(asked) - 1, [words[index] for index in chosen])

    swaps = 3
    with bench.serving(folder, cache_bytes="0", timeout_s="120") as service:
        client = Client(service.url, keep=True)
        known = [_vectors(await client.send(embed(words, encoding_format="base64")))]
        async with bench.bar("reload", swaps * bench.size.step_s), Monitor.watching(service) as monitor:
            stopping = asyncio.Event()
            load = asyncio.create_task(closed_loop(client, requests(), 16, lambda begun: not stopping.is_set()))
            for number in range(swaps):
                await asyncio.sleep(bench.size.step_s / 2)
                _symlink(folder, other if number % 2 == 0 else bench.bundle)
                service.process.send_signal(signal.SIGHUP)
                await _wait_for_reload(service, number + 1)
                await asyncio.sleep(bench.size.step_s / 2)
            stopping.set()
            answers = await load
        known.append(_vectors(await client.send(embed(words, encoding_format="base64"))))
        client.close()
    kinds = [_matching_model(answer, asked, known) for answer in answers if answer.status == 200]
    phase.check("not a request fails", {a.status for a in answers} == {200}, statuses(answers))
    phase.check(
        "no answer mixes two models", None not in kinds, f"{kinds.count(0)} of one, {kinds.count(1)} of the other"
    )
    phase.check("both models answered", {0, 1} <= set(kinds), f"{swaps} swaps")
    phase.figures = {"memory": monitor.memory_summary(), "requests": len(answers)}
    return phase


def _negated(path: Path, copy: Path) -> Path:
    """The same model, but with the opposite of each text's vector: all signs of the last matrix are flipped."""
    shutil.copytree(path, copy)
    weights = bytearray((copy / WEIGHTS).read_bytes())
    start = 8 + int.from_bytes(weights[:8], "little")
    first, last = orjson.loads(weights[8:start])["text_projection"]["data_offsets"]
    rows, columns = orjson.loads(weights[8:start])["text_projection"]["shape"]
    size = (last - first) // (rows * columns)
    matrix = np.frombuffer(weights, np.uint8, last - first, start + first)
    matrix[size - 1 :: size] ^= 0x80
    (copy / WEIGHTS).write_bytes(weights)
    write_manifest(copy, orjson.loads((copy / MANIFEST).read_bytes()))
    return copy


def _numbered(number: int, inputs: list[str]) -> bytes:
    block = embed(inputs, encoding_format="base64")
    return block.replace(b"\r\n\r\n", f"\r\nx-request-id: {number}\r\n\r\n".encode(), 1)


def _vectors(answer: Answer) -> NDArray[np.float32]:
    rows = [base64.b64decode(entry["embedding"]) for entry in orjson.loads(answer.body)["data"]]
    return np.stack([np.frombuffer(row, "<f4") for row in rows])


def _matching_model(answer: Answer, asked: dict[int, list[int]], known: list[NDArray[np.float32]]) -> int | None:
    """The model that gave all of an answer's vectors; None if there is none."""
    chosen = asked[int(answer.headers[b"x-request-id"])]
    vectors = _vectors(answer)
    for model, reference in enumerate(known):
        if np.abs(vectors - reference[chosen]).max() < TOLERANCE:
            return model
    return None


def _symlink(link: Path, target: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


async def _wait_for_reload(service: Running, number: int) -> None:
    ends = time.monotonic() + RECOVERY_S
    while await asyncio.to_thread(service.metric, "sightword_reloads_total", outcome="done") < number:
        if time.monotonic() > ends:
            raise RuntimeError(f"the reload did not happen:\n{service.log()[-2000:]}")
        await asyncio.sleep(0.1)


async def stop(bench: Bench) -> Phase:
    """SIGTERM. Clients go on until a balancer would have noticed."""
    phase = Phase("SIGTERM in the middle of load")
    seconds = bench.size.step_s
    with bench.serving(cache_bytes="0") as service:
        client = Client(service.url)
        ends = time.perf_counter() + seconds + GRACE_S
        async with bench.bar("SIGTERM", seconds + GRACE_S):
            load = asyncio.create_task(
                closed_loop(client, text_requests(), CLIENTS, lambda begun: time.perf_counter() < ends)
            )
            await asyncio.sleep(seconds)
            signalled = time.perf_counter()
            service.process.send_signal(signal.SIGTERM)
            answers = await load
            code = await asyncio.to_thread(service.process.wait, 60)
        client.close()
    after = [answer for answer in answers if answer.sent + answer.seconds > signalled]
    phase.check("nothing accepted is lost", {answer.status for answer in answers} == {200}, statuses(answers))
    phase.check("the exit code is 0", code == 0, code)
    phase.figures = {"answered after the signal": len(after)}
    return phase
