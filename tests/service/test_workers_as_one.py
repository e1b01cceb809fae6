"""Two workers that clients cannot tell from one: they count together, and change their model together."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.service_process import PATIENCE_S, Running
from model.bundle import Bundle
from tests.service.several_workers import several, workers_of
from tests.service.test_reload import ADMIN, KEY, embed, point, wait_until
from tests.service.test_worker_metrics import check_text

CLIENTS = 6
TEXTS = [f"{number} apples" for number in range(8)]
Answer = tuple[float, str, str, np.ndarray[Any, Any]]  # when it was asked, text, digest, vector


@dataclass
class Pair:
    """A service of two workers, and the link to the bundle that it serves."""

    service: Running
    link: Path


@pytest.fixture(scope="module")
def pair(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    link = folder / "current"
    link.symlink_to(bundle_path)
    with several(folder, link, module="tests.service.chance_service", admin_key=KEY) as service:
        yield Pair(service, link)


@contextmanager
def load(service: Running, send: Callable[[httpx.Client, int], None]) -> Iterator[None]:
    """Clients, each with a connection of its own. What one of them raises is raised at the end."""
    stop, errors = threading.Event(), []

    def client(turn: int) -> None:
        with httpx.Client(base_url=service.url, timeout=PATIENCE_S, headers=ADMIN) as http:
            while not stop.is_set():
                try:
                    send(http, turn)
                except Exception as error:
                    errors.append(error)
                    return
                turn += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def scrape(service: Running) -> dict[tuple[str, ...], float]:
    """What only grows, by name and labels. On a connection of its own: either worker may answer."""
    text = httpx.get(f"{service.url}/metrics", timeout=PATIENCE_S, headers=ADMIN).text
    return {
        (sample.name, *sorted(map(str, sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.type in ("counter", "histogram") and not sample.name.endswith("_created")
    }


def answered(service: Running) -> float:
    return service.metric("sightword_requests_total", route="/embed", status="200")


def test_counters_are_of_the_service_whoever_is_asked_and_whoever_dies(pair: Pair) -> None:
    service = pair.service
    before, sent = answered(service), list[int]()

    def send(http: httpx.Client, turn: int) -> None:
        embed(http, TEXTS[turn % len(TEXTS)])
        sent.append(1)  # atomic, as counting up is not

    with load(service, send):
        seen = scrape(service)
        for _ in range(20):
            now = scrape(service)
            assert {key for key, value in seen.items() if now.get(key, -1) < value} == set()
            seen = now
    assert answered(service) - before == len(sent)
    assert service.metric("sightword_workers") == service.metric("sightword_workers_ready") == 2
    assert service.metric("sightword_ready") == 1
    check_text(httpx.get(f"{service.url}/metrics").text)
    asked_for = {"accept": "application/openmetrics-text;version=1.0.0"}
    families = {family.name for family in openmetrics(httpx.get(f"{service.url}/metrics", headers=asked_for).text)}
    assert {"sightword_requests", "sightword_workers", "process_cpu_seconds"} <= families

    seen = scrape(service)
    restarts = service.metric("sightword_worker_restarts_total")
    workers_of(service)[0].kill()
    wait_until(lambda: service.metric("sightword_worker_restarts_total") > restarts)
    while service.metric("sightword_workers_ready") < 2:
        now = scrape(service)
        assert {key for key, value in seen.items() if now.get(key, -1) < value} == set()
        seen = now
    assert answered(service) - before == len(sent)
    assert service.metric("sightword_worker_restarts_total") == restarts + 1


def test_a_reload_under_load_loses_nothing_and_mixes_nothing(pair: Pair, bundle: Bundle, other_bundle: Bundle) -> None:
    """By a request and by SIGHUP, there and back. Whoever asks after the answer is served by the new model."""
    answers: list[Answer] = []

    def send(http: httpx.Client, turn: int) -> None:
        asked, text = time.monotonic(), TEXTS[turn % len(TEXTS)]
        answers.append((asked, text, *embed(http, text)))

    with load(pair.service, send):
        wait_until(lambda: len(answers) > 50)
        point(pair.link, other_bundle.path)
        answer = httpx.post(f"{pair.service.url}/admin/reload", headers=ADMIN, timeout=PATIENCE_S)
        switched = time.monotonic()
        assert answer.json() == {
            "models": [
                {
                    "id": other_bundle.id,
                    "digest": other_bundle.digest,
                    "previous_digest": bundle.digest,
                    "changed": True,
                }
            ]
        }
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 50)
        assert {digest for asked, _, digest, _ in answers if asked > switched} == {other_bundle.digest}
        point(pair.link, bundle.path)
        pair.service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded: " in pair.service.log())
        switched = time.monotonic()
        wait_until(lambda: sum(asked > switched for asked, *_ in answers) > 50)
        assert {digest for asked, _, digest, _ in answers if asked > switched} == {bundle.digest}
    of_model: dict[tuple[str, str], np.ndarray[Any, Any]] = {}
    for _, text, digest, vector in answers:
        np.testing.assert_allclose(vector, of_model.setdefault((text, digest), vector), atol=1e-4)
    differences = [of_model[text, bundle.digest] - of_model[text, other_bundle.digest] for text in TEXTS]
    assert np.abs(differences).max() > 0.01
    assert pair.service.metric("sightword_reloads_total", outcome="done") == 2
    assert "Traceback" not in pair.service.log()


def test_a_death_in_the_middle_leaves_all_with_one_model(pair: Pair, bundle: Bundle, other_bundle: Bundle) -> None:
    """At whatever moment of a reload a worker is killed, and whatever its successor finds, all serve the same."""
    service = pair.service
    for delay_s, target in ((0.0, other_bundle), (0.4, bundle)):
        point(pair.link, target.path)
        reload = threading.Thread(target=try_to_reload, args=(service,))
        restarts = service.metric("sightword_worker_restarts_total")
        victim = workers_of(service)[-1]
        reload.start()
        time.sleep(delay_s)
        victim.kill()
        reload.join()
        wait_for_successor(service, restarts)
        # It is what the newcomer has found, if not what the reload brought.
        assert ask_all(service, lambda http: embed(http, "a cat")[0]) == {target.digest}


def test_batches_are_measured_once(pair: Pair) -> None:
    """By the first worker, while it is alone; here each measurement gives another number."""
    assert pair.service.metric("sightword_worker_restarts_total") >= 1
    assert len(ask_all(pair.service, lambda http: str(http.get("/info").json()["models"][0]["max_batch"]))) == 1


def ask_all(service: Running, ask: Callable[[httpx.Client], str]) -> set[str]:
    """The answers on many connections that are kept meanwhile, so that each worker has some."""
    with ExitStack() as stack:
        return {
            ask(stack.enter_context(httpx.Client(base_url=service.url, timeout=PATIENCE_S, headers=ADMIN)))
            for _ in range(20)
        }


def wait_for_successor(service: Running, restarts: float) -> None:
    wait_until(lambda: service.metric("sightword_worker_restarts_total") > restarts)
    wait_until(lambda: service.metric("sightword_workers_ready") == 2)


def try_to_reload(service: Running) -> None:
    with suppress(httpx.TransportError):  # it may be the one that is killed who was asked
        httpx.post(f"{service.url}/admin/reload", headers=ADMIN, timeout=PATIENCE_S)
