"""The limit of a machine: the best that `session.run` alone, and decoding alone, achieve."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.inputs import sentences
from model.bundle import Bundle
from model.images.preprocessing import load_image
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.runtime.processor import usable_cores
from model.runtime.providers import NVIDIA, PROVIDERS, Device, EngineError, choose, options
from model.runtime.session import TowerSession
from model.runtime.tensorrt import InputShapes

BATCHES = {"image": (1, 2, 4, 8, 16, 32), "text": (4, 8, 16, 32, 64)}
BATCHES_ON_ACCELERATOR = {"image": (1, 8, 32, 64, 128), "text": (8, 32, 64, 128, 256)}
GRAPHS: dict[str, tuple[FileName, str]] = {"image": (IMAGE_GRAPH, "pixels"), "text": (TEXT_GRAPH, "token_ids")}
TOWERS = tuple(GRAPHS)


@dataclass(frozen=True)
class SessionConfig:
    """An onnxruntime session of `threads` intra-op threads, run from `concurrency` threads of Python at once."""

    threads: int
    concurrency: int
    spin: bool = False

    def __str__(self) -> str:
        spins = ", spinning" if self.spin else ""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}{spins}"
        return f"one session of {threads}, run from {self.concurrency} at once"


@dataclass(frozen=True)
class RunConfig:
    """How a tower is run: the session, and the batch size."""

    batch: int
    session: SessionConfig


@dataclass(frozen=True)
class Rate:
    """Items a second, and milliseconds of a core for each."""

    items_s: float
    core_ms: float


class Tower:
    """The bare sessions of one tower, opened when they are first run, with inputs made from real items."""

    def __init__(self, bundle: Bundle, tower: str, provider: str, items: NDArray[Any] | Sequence[list[int]]) -> None:
        """`items` are pixels [n, size, size, 3] or n rows of token ids."""
        self._bundle, self._tower, self._provider = bundle, tower, provider
        self._items = items
        self._sessions: dict[tuple[int, bool], Any] = {}

    @property
    def provider(self) -> str:
        """The execution provider that is asked for first."""
        return PROVIDERS[choose(self._provider)[0]]

    @cached_property
    def session_configs(self) -> list[SessionConfig]:
        """The sessions worth trying on this device."""
        cores = usable_cores()
        if self.provider != PROVIDERS["cpu"]:
            threads = 1 if self.provider in NVIDIA else cores
            return [SessionConfig(threads, 1), SessionConfig(threads, 2)]
        return list(
            dict.fromkeys([SessionConfig(cores, 1, spin=True), SessionConfig(cores, 1), SessionConfig(1, cores)])
        )

    @property
    def batches(self) -> Sequence[int]:
        """The batch sizes worth trying on this device."""
        return (BATCHES_ON_ACCELERATOR if self.provider in NVIDIA else BATCHES)[self._tower]

    def runner(self, setting: RunConfig) -> Callable[[], None]:
        """A function that runs one batch, each time of other items."""
        session = self._session(setting.session)
        graph_input = GRAPHS[self._tower][1]
        batches = self._batches(setting.batch)
        on_gpu = TowerSession(session, graph_input, setting.session.threads) if self.provider in NVIDIA else None
        number = 0

        def run() -> None:
            nonlocal number
            number += 1
            value = batches[number % len(batches)]
            if on_gpu is None:
                session.run(None, {graph_input: value})
            else:
                on_gpu.run(value)

        return run

    def rate(self, setting: RunConfig, seconds: float) -> Rate:
        """How fast it runs that session."""
        return rate(self.runner(setting), setting.batch, setting.session.concurrency, seconds)

    def best(self, seconds: float, rounds: int) -> RunConfig:
        """The configuration of the highest median throughput; all are tried in turn, for `seconds` in all."""
        settings = [RunConfig(batch, session) for batch in self.batches for session in self.session_configs]
        seen: dict[RunConfig, list[float]] = {setting: [] for setting in settings}
        each_s = seconds / rounds / len(settings)
        for _ in range(rounds):
            for setting in settings:
                seen[setting].append(self.rate(setting, each_s).items_s)
        return max(settings, key=lambda setting: statistics.median(seen[setting]))

    def lone_ms(self, seconds: float) -> float:
        """The median latency of a batch of one in milliseconds, with the session that is best for it."""
        every_core = [RunConfig(1, session) for session in self.session_configs if session.concurrency == 1]
        return min(median_ms(self.runner(setting), seconds / len(every_core)) for setting in every_core)

    def _session(self, config: SessionConfig) -> Any:
        key = (config.threads, config.spin)
        if key not in self._sessions:
            self._sessions[key] = open_session(self._bundle, self._tower, self._provider, config)
        return self._sessions[key]

    def _batches(self, size: int) -> list[NDArray[Any]]:
        if isinstance(self._items, np.ndarray):
            return [
                np.resize(np.roll(self._items, -size * turn, 0), (size, *self._items.shape[1:])) for turn in range(8)
            ]
        tokenizer = self._bundle.tokenizer()
        count = len(self._items)
        return [tokenizer.pad([self._items[(turn * size + i) % count] for i in range(size)]) for turn in range(16)]


def open_session(bundle: Bundle, tower: str, provider: str, config: SessionConfig) -> Any:
    """A session of onnxruntime for one tower."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads, chosen.inter_op_num_threads = config.threads, 1
    chosen.enable_mem_pattern = False
    chosen.add_session_config_entry("session.intra_op.allow_spinning", str(int(config.spin)))
    chosen.log_severity_level = 3
    weights = bundle.read(WEIGHTS)
    chosen.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    if provider == "tensorrt":
        raise EngineError(
            "the limit is not measured with TensorRT, whose engines want ranges of shapes: make gpu-check is"
        )
    shapes = InputShapes(GRAPHS[tower][1], (), (), ())  # which TensorRT alone reads
    providers = [
        (PROVIDERS[key], options(key, bundle.precision, bundle.digest, config.threads, Device(), shapes))
        for key in choose(provider)
    ]
    return ort.InferenceSession(bundle.read(GRAPHS[tower][0]), chosen, providers=providers)


def towers(bundle: Bundle, provider: str, files: Sequence[bytes]) -> dict[str, Tower]:
    """Both towers, with real pictures and texts of about ten words as inputs."""
    pixels = np.stack([load_image(file, bundle.preprocessing) for file in files[:64]])
    rows = bundle.tokenizer().encode(sentences(1024))
    return {"image": Tower(bundle, "image", provider, pixels), "text": Tower(bundle, "text", provider, rows)}


def rate(run: Callable[[], object], items: int, concurrency: int, seconds: float) -> Rate:
    """Throughput of `run`, which processes `items`, called from `concurrency` threads for so long, at least twice."""
    rates, done = [0.0] * concurrency, [0] * concurrency
    run()

    def work(caller: int) -> None:
        started = now = time.perf_counter()
        while now < started + seconds:
            run()
            done[caller] += items
            now = time.perf_counter()
        rates[caller] = done[caller] / (now - started)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(concurrency)]
    cpu = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Rate(sum(rates), 1e3 * (time.process_time() - cpu) / sum(done))


def median_ms(run: Callable[[], object], seconds: float) -> float:
    """The median duration of a call in milliseconds, over so many seconds."""
    times: list[float] = []
    run()
    ends = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        started = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)
