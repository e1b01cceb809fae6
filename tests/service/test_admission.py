"""Who may come in: by the time that a request will take among those that are at work."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from service.admission import Admission, ItemReservation
from service.errors import ApiError
from service.inference.throughput import UnitCost
from service.metrics import Metrics

TEXTS, CHARACTERS = 512, 2048
# Line by line, and each to the end of its chain, most of these took 15 to 40 s.
LINES_CPU_S = 10.0


def make_admission(limit_s: float) -> Admission:
    metrics = Metrics()
    return Admission(1000, 10**9, metrics.queue_items, metrics.queue_bytes, limit_s)


def test_a_large_request_is_refused_beside_large_ones_and_a_small_one_is_not() -> None:
    admission = make_admission(limit_s=20)
    with admission.reserve_items(1) as first, admission.reserve_items(1) as second:
        first.expect(15)
        with pytest.raises(ApiError, match="this would take 30 s, of at most 20 s") as refused:
            second.expect(15)
        assert refused.value.code == "overloaded"
        second.expect(5)
        for _ in range(100):
            with admission.reserve_items(1) as small:
                small.expect(0.01)
        first.done(11)
        second.expect(15)  # 4 s are left of the first


def test_many_small_ones_are_large_together() -> None:
    admission = make_admission(limit_s=20.05)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(admission.reserve_items(1)).expect(0.1)
        with admission.reserve_items(1) as one_more, pytest.raises(ApiError):
            one_more.expect(0.1)


def test_what_is_larger_than_the_limit_comes_in_alone() -> None:
    admission = make_admission(limit_s=20)
    with admission.reserve_items(1) as large:
        large.expect(60)
        with admission.reserve_items(1) as small:
            small.expect(1)
    with admission.reserve_items(1) as again, admission.reserve_items(1) as other:
        other.expect(1)
        with pytest.raises(ApiError):
            again.expect(60)


def test_nothing_stays_reserved() -> None:
    admission = make_admission(limit_s=20)
    with suppress(ValueError), admission.reserve_items(1) as work:
        work.expect(15)
        raise ValueError
    assert not admission.reservations
    assert admission.items == 0


def test_the_seconds_of_all_are_the_sum_of_what_each_has_left() -> None:
    admission = make_admission(limit_s=100)
    draw = random.Random(0)
    with ExitStack() as stack:
        others = [stack.enter_context(admission.reserve_items(1)) for _ in range(20)]
        with admission.reserve_items(1) as left_early:
            left_early.expect(7)
        for _ in range(500):
            change = draw.choice([ItemReservation.expect, ItemReservation.done])
            change(draw.choice(others), draw.uniform(0, 3))
            left_early.done(1)  # what it began may end later than it
            assert admission.seconds == pytest.approx(sum(other.seconds for other in admission.reservations))
    assert admission.seconds == 0


def test_a_cost_follows_what_is_measured() -> None:
    cost = UnitCost(1.0, span=10)
    cost.observe(10, 30)
    assert cost.seconds_per_unit == pytest.approx(2.0)
    for _ in range(100):
        cost.observe(10, 50)
    assert cost.seconds_per_unit == pytest.approx(5.0)
    cost.observe(0, 1)
    assert cost.seconds_per_unit == pytest.approx(5.0)


@pytest.fixture(scope="module")
def service(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("texts"), bundle_path, cache_bytes="0", timeout_s="300") as service:
        yield service


NAMES = itertools.count()


def heavy(unit: str) -> dict[str, object]:
    """As many texts as are allowed, each different, all of short lines."""
    texts = [(f"{next(NAMES)} " + unit * CHARACTERS)[:CHARACTERS] for _ in range(TEXTS)]
    return {"inputs": texts, "truncate": True}


@pytest.mark.parametrize("unit", ["é\n", "\x81\n", "Ã©\u4e00\n", "Ã" + "\x83" * 500, "&" + "amp;" * 500], ids=ascii)
def test_texts_that_are_costly_to_clean(service: Running, unit: str) -> None:
    process = psutil.Process(service.process.pid)
    before = sum(process.cpu_times()[:2])
    answer = httpx.post(f"{service.url}/embed", json=heavy(unit), timeout=300)
    assert answer.status_code == 200, answer.text
    assert sum(process.cpu_times()[:2]) - before < LINES_CPU_S


def test_two_requests_of_many_items_leave_places_for_others(service: Running) -> None:
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(httpx.post(f"{service.url}/embed", json=heavy("é\n"), timeout=300))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + PATIENCE_S
    while (
        service.metric("sightword_queue_items") < 512 and time.monotonic() < ends and any(t.is_alive() for t in threads)
    ):
        time.sleep(0.005)
    with httpx.Client(base_url=service.url, timeout=60) as client:
        statuses = [client.post("/embed", json={"inputs": f"other {number}"}).status_code for number in range(40)]
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40
    assert [answer.status_code for answer in answers] == [200, 200]
