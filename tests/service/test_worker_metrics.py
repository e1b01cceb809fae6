"""The samples of several processes as those of one: sums that never fall, exemplars, and each gauge by a rule."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from service.workers import scrapes
from service.workers.samples import GAUGES, Collected, dump, merge
from service.workers.scrapes import ServiceMetrics
from tests.service.member_process import processes

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def test_every_gauge_has_a_rule() -> None:
    gauges = {family.name for family in Metrics().registry.collect() if family.type == "gauge"}
    assert gauges == set(GAUGES)


def test_gauges_follow_their_rules_and_one_alone_is_as_it_was() -> None:
    first, second = Metrics(), Metrics()
    for metrics, value in ((first, 1.0), (second, 3.0)):
        metrics.queue_items.set(value)
        metrics.queue_items_limit.set(7)
        metrics.redis_up.set(value - 1)
        metrics.ready.set(value == 3)
        metrics.max_batch.labels("m", "image").set(value)
        metrics.cache_bytes.set(value)
    second.max_batch.labels("m", "text").set(float("inf"))
    assert values(merge([dump(first.registry), dump(second.registry)])) >= {
        ("sightword_queue_items", 4.0), ("sightword_queue_items_limit", 7.0), ("sightword_redis_up", 0.0),
        ("sightword_ready", 1.0), ("sightword_max_batch", 1.0), ("sightword_max_batch", float("inf")),
        ("sightword_cache_bytes", 3.0),
    }  # fmt: skip
    ours = [family for family in dump(first.registry) if family[0].startswith("sightword_")]
    alone = [family for family in merge([dump(first.registry)]) if family[0].startswith("sightword_")]
    assert alone == ours


def values(families: list[list[object]]) -> set[tuple[str, float]]:
    return {(metric.name, sample.value) for metric in Collected(families).collect() for sample in metric.samples}


async def scrape(metrics: ServiceMetrics, accept: str = "") -> dict[str, Metric]:
    text = (await metrics.answer(0, accept))["content"]
    parse = openmetrics if accept else text_string_to_metric_families
    return {family.name: family for family in parse(text)}


def total(families: dict[str, Metric], family: str, sample: str) -> float:
    return sum(each.value for each in families[family].samples if each.name == sample)


def test_counters_of_processes_add_up_and_never_fall(bundle_path: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with processes(tmp_path, bundle_path, bundle_path) as workers:
            metrics = ServiceMetrics(workers)
            sent, before = 0, 0.0
            for turn in range(20):
                for number in workers.connected():
                    await workers.ask(number, "count", turn)
                    sent += turn
                if turn == 10:  # after what it has counted was seen
                    await scrape(metrics)
                    workers.kill(1)
                    await workers.gone(1)
                    metrics.forget(1)
                if turn == 12:
                    await workers.start(1, bundle_path)
                families = await scrape(metrics)
                assert total(families, "sightword_inference_items", "sightword_inference_items_total") == sent
                assert total(families, "sightword_batch_items", "sightword_batch_items_sum") == sent
                cpu_s = total(families, "process_cpu_seconds", "process_cpu_seconds_total")
                assert cpu_s >= before
                before = cpu_s
            families = await scrape(metrics, OPENMETRICS)
            assert exemplars(families) >= {f"{items:032x}" for items in (1, 10, 19)}
            assert total(families, "sightword_workers", "sightword_workers") == 2
            assert total(families, "sightword_workers_ready", "sightword_workers_ready") == 2
            check_text((await metrics.answer(0, ""))["content"])

    asyncio.run(test())


def exemplars(families: dict[str, Metric]) -> set[str]:
    samples = families["sightword_request_seconds"].samples
    return {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar}


def check_text(text: str) -> None:
    if shutil.which("promtool") is None:
        return
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_one_that_is_silent_is_told_and_its_counters_stay(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrapes, "SAMPLES_S", 0.5)

    async def test() -> None:
        async with processes(tmp_path, bundle_path, bundle_path) as workers:
            metrics = ServiceMetrics(workers)
            for number in (0, 1):
                await workers.ask(number, "count", 5)
            await scrape(metrics)
            workers.send(1, signal.SIGSTOP)
            await workers.ask(0, "count", 2)
            families = await scrape(metrics)
            assert total(families, "sightword_workers_silent", "sightword_workers_silent") == 1
            assert total(families, "sightword_workers_ready", "sightword_workers_ready") == 1
            assert total(families, "sightword_inference_items", "sightword_inference_items_total") == 12
            workers.send(1, signal.SIGCONT)
            families = await scrape(metrics)
            assert total(families, "sightword_workers_silent", "sightword_workers_silent") == 0
            assert total(families, "sightword_inference_items", "sightword_inference_items_total") == 12

    asyncio.run(test())


def test_many_who_ask_at_once_share_and_none_gets_what_was_before(bundle_path: Path, tmp_path: Path) -> None:
    asked = 0

    async def count_questions(number: int, what: str) -> None:
        nonlocal asked
        asked += what == "samples"

    async def test() -> None:
        async with processes(tmp_path, bundle_path) as workers:
            workers.before = count_questions
            metrics = ServiceMetrics(workers)
            first = asyncio.create_task(scrape(metrics))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await workers.ask(0, "count", 3)
            later = await asyncio.gather(*(scrape(metrics) for _ in range(50)))
            await first
            assert {total(each, "sightword_batch_items", "sightword_batch_items_sum") for each in later} == {3}
            assert asked <= 3

    asyncio.run(test())
