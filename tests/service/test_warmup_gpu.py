"""Warm-up on a simulated GPU: the first run of a shape is slow there, and memory runs out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import EngineError
from model.runtime.providers import PROVIDERS
from service.app import create_app
from service.inference import warmup
from service.inference.padding import padded_lengths, padded_sizes
from service.inference.pipeline import Pipeline
from service.inference.warmup import TowerProfile, measure_costs, warm_up
from service.settings import Settings
from service.state import Service
from tests.service.simulated_gpu import NO_MEMORY, Clock, SimulatedEngine, SimulatedGpu, SimulatedRun

SLOW_S = 0.6  # of a first run: longer than any batch is allowed to take
MakeEngine = Callable[..., SimulatedEngine]


@pytest.fixture
def make_engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> MakeEngine:
    """An engine on a device with these habits, whose clock is that of the warm-up, too."""

    def make(**habits: Any) -> SimulatedEngine:
        clock = Clock()
        monkeypatch.setattr(warmup, "time", clock)
        return SimulatedEngine.on(SimulatedGpu(sleep=clock.sleep, **habits))(bundle)

    return make


@pytest.fixture
def make_service(bundle: Bundle, bundle_path: Path) -> Iterator[Callable[..., Service]]:
    """A service of one pipeline on that engine."""
    made: list[Service] = []

    def make(engine: SimulatedEngine, **settings: Any) -> Service:
        made.append(Service(Settings.read({"model": str(bundle_path), "cache_bytes": 0, **settings})))
        made[-1].models.serve([Pipeline(bundle, engine, made[-1].shared)])
        return made[-1]

    yield make
    for service in made:
        asyncio.run(service.aclose())


def seconds_per_item(engine: SimulatedEngine, tower: str, size: int) -> float:
    return engine.simulated.latency_s / size + engine.simulated.item_s[tower]


def test_what_is_slow_only_once_is_not_measured(bundle: Bundle, make_engine: MakeEngine) -> None:
    engine = make_engine(plan_s=SLOW_S, latency_s=0.01)
    for tower, profile in warm_up(engine, bundle, None).items():
        assert profile.max_batch == 128
        assert profile.seconds_per_item == pytest.approx(seconds_per_item(engine, tower, 128))


def test_a_larger_batch_that_saves_nothing_is_not_taken(bundle: Bundle, make_engine: MakeEngine) -> None:
    engine = make_engine(plan_s=SLOW_S, latency_s=0.0001, item_s={"image": 0.001, "text": 0.001})
    assert {profile.max_batch for profile in warm_up(engine, bundle, None).values()} == {8}


def test_every_shape_is_run_before_any_is_measured(bundle: Bundle, make_engine: MakeEngine) -> None:
    engine = make_engine()
    warm_up(engine, bundle, None)
    warm: set[tuple[str, int, int]] = set()
    for run in engine.simulated.runs:
        if run.cold:
            warm.add((run.tower, run.shape[0], run.shape[1]))
    sides, lengths = [bundle.image_size], padded_lengths(bundle)
    expected = {("image", size, side) for size in padded_sizes(128) for side in sides}
    expected |= {("text", size, length) for size in padded_sizes(128) for length in lengths}
    assert warm >= expected


@pytest.mark.parametrize("wanted", [1, 100, 512])
def test_a_wanted_batch_is_kept_and_all_sizes_below_it_are_run(
    bundle: Bundle, make_engine: MakeEngine, wanted: int
) -> None:
    engine = make_engine()
    assert {profile.max_batch for profile in warm_up(engine, bundle, wanted).values()} == {wanted}
    assert {run.shape[0] for run in engine.simulated.runs} == set(padded_sizes(wanted))


def test_what_is_known_is_not_measured_but_its_shapes_are_run(bundle: Bundle, make_engine: MakeEngine) -> None:
    engine = make_engine()
    known = {"image": TowerProfile(16, 1, 0.01), "text": TowerProfile(4, 1, 0.001)}
    assert warm_up(engine, bundle, None, known) == known
    shapes = [(run.tower, run.shape) for run in engine.simulated.runs]
    assert len(shapes) <= len(set(shapes)) + 2  # what the engine itself runs first
    assert {shape[0] for tower, shape in shapes if tower == "text"} == {1, 2, 4}


@pytest.mark.parametrize("no_memory", NO_MEMORY)
def test_batches_without_memory_are_left_out(
    bundle: Bundle, make_engine: MakeEngine, no_memory: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(largest={"image": 40, "text": 3}, no_memory=no_memory)
    profiles = warm_up(engine, bundle, None)
    assert {tower: profile.max_batch for tower, profile in profiles.items()} == {"image": 32, "text": 2}
    assert profiles["image"].seconds_per_item == pytest.approx(seconds_per_item(engine, "image", 32))
    assert "no memory for batches of 64 images" in caplog.text


def test_a_wanted_batch_without_memory_is_reduced(bundle: Bundle, make_engine: MakeEngine) -> None:
    engine = make_engine(largest={"image": 40})
    assert {tower: one.max_batch for tower, one in warm_up(engine, bundle, 100).items()} == {"image": 32, "text": 100}


def test_several_at_once_are_left_out_where_memory_is_for_one() -> None:
    alone = threading.Lock()

    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        if not alone.acquire(blocking=False):
            raise NO_MEMORY["arena"]
        time.sleep(0.05)  # the other one begins meanwhile
        alone.release()
        return np.zeros((len(batch), 1), np.float32)

    costs = measure_costs(run, np.zeros((1, 4), np.int64), (4, 8), [1, 2])
    assert set(costs) == {(1, 4), (1, 8)}


def test_without_memory_for_one_item_the_start_fails_and_says_so(bundle: Bundle, make_engine: MakeEngine) -> None:
    with pytest.raises(EngineError, match="no memory for a single item: end what else is on it"):
        warm_up(make_engine(largest={"image": 0}), bundle, None)


def test_what_fails_otherwise_fails_as_before(bundle: Bundle, make_engine: MakeEngine) -> None:
    with pytest.raises(EngineError, match=r"does not run as its manifest says: .*illegal memory access"):
        warm_up(make_engine(lost=True), bundle, None)


def test_no_request_meets_a_shape_for_the_first_time(
    bundle: Bundle, make_engine: MakeEngine, make_service: Callable[..., Service]
) -> None:
    engine = make_engine()
    service = make_service(engine, max_batch=24)
    [pipeline] = service.models.serving
    assert pipeline.engine.provider == PROVIDERS["cuda"]
    before = len(engine.simulated.runs)

    async def scenario(client: httpx.AsyncClient) -> None:
        for words in (1, 5, 14, 15, 20, 40, 100):
            for items in (1, 2, 3, 5, 9, 17, 23, 24, 70):
                inputs = [f"{'word ' * words}{words} {items} {number}" for number in range(items)]
                answer = await client.post("/embed", json={"inputs": inputs, "truncate": True})
                assert answer.status_code == 200, answer.text
        assert (await client.get("/health/ready")).status_code == 200

    ask(service, scenario)
    assert len(engine.simulated.runs) > before
    assert engine.simulated.cold_runs(before) == []


def test_admission_believes_what_warm_up_has_measured(
    make_engine: MakeEngine, make_service: Callable[..., Service]
) -> None:
    """With the cost of a first run for each item, the second of these requests would be expected to come too late."""
    service = make_service(make_engine(plan_s=SLOW_S), timeout_s=30, queue_items=2048)

    async def scenario(client: httpx.AsyncClient) -> None:
        bodies = [{"inputs": [f"{request} {number}" for number in range(256)]} for request in range(4)]
        answers = await asyncio.gather(*(client.post("/embed", json=body) for body in bodies))
        assert [answer.status_code for answer in answers] == [200] * 4

    ask(service, scenario)


def ask(service: Service, scenario: Callable[[httpx.AsyncClient], Any]) -> None:
    async def connected() -> None:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client:
            await scenario(client)

    asyncio.run(connected())


def test_the_stand_in_is_slow_once_for_a_shape(bundle: Bundle, make_engine: MakeEngine) -> None:
    engine = make_engine(fallback_nodes=("ArgMax",))
    engine.warm_up()
    engine.warm_up()
    assert [run.cold for run in engine.simulated.runs] == [True, True, False, False]
    assert engine.simulated.runs[0] == SimulatedRun("image", (1, bundle.image_size, bundle.image_size, 3), True)
