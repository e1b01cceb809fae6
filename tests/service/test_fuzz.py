"""Thousands of malformed bodies and pictures: each gets a refusal of the one shape, and the service is as before."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from service.errors import ERROR_KINDS
from tests.service import hostile, hostile_bodies, pictures
from tests.service.conftest import strict_error
from tests.service.hostile_bodies import JSON

CLIENTS = 6
ROUNDS = 3
PICTURES_ALONE, PICTURES_TOGETHER, PER_FORM, BODIES, FORMS = 500, 2000, 25, 700, 200  # in each round
GROWTH_BYTES = 48 * 2**20
Request = tuple[str, str, bytes]  # route, media type, body


@dataclass
class Outcomes:
    """What became of the requests, and what should not have."""

    statuses: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def attacked(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without a cache, which would grow as it should."""
    folder = tmp_path_factory.mktemp("attacked")
    with running(folder, bundle_path, timeout_s="300", cache_bytes="0", label_sets=str(folder)) as service:
        yield service


@pytest.fixture(scope="module")
def documented(attacked: Running) -> dict[str, set[str]]:
    """The statuses of each route that takes JSON."""
    paths = httpx.get(f"{attacked.url}/openapi.json").json()["paths"]
    found = {}
    for route, methods in paths.items():
        for method in {"post", "put"} & set(methods):
            if JSON in methods[method].get("requestBody", {}).get("content", {}):
                found[f"{method.upper()} {route}"] = set(methods[method]["responses"])
    return found


def one_round(seed: int, routes: list[str]) -> list[Request]:
    random_ = random.Random(seed)
    originals = hostile.seeds()

    def spoilt() -> bytes:
        return hostile.mutated(random_, originals)

    requests: list[Request] = [("POST /embed", "image/png", spoilt()) for _ in range(PICTURES_ALONE)]
    batches = [[spoilt() for _ in range(PER_FORM)] for _ in range(PICTURES_TOGETHER // PER_FORM)]
    requests += [("POST /embed", *hostile_bodies.good_form(batch)) for batch in batches]
    for _ in range(BODIES):
        route = random_.choice(routes)
        body = hostile_bodies.bad_json(random_, route.partition(" ")[2])
        requests.append((route, random_.choice([JSON] * 9 + ["application/json; charset=utf-16"]), body))
    for _ in range(FORMS):
        route = random_.choice(["POST /embed", "POST /classify"])
        requests.append((route, *hostile_bodies.bad_form(random_, originals)))
    random_.shuffle(requests)
    return requests


def attack(service: Running, requests: list[Request], documented: dict[str, set[str]], outcomes: Outcomes) -> None:
    """Send all of them, over a few connections that are kept."""
    waiting, lock = iter(requests), threading.Lock()
    address = httpx.URL(service.url)

    def work() -> None:
        connection = http.client.HTTPConnection(str(address.host), address.port, timeout=300)
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                return connection.close()
            try:
                send(connection, request, documented, outcomes)
            except Exception as error:  # a connection that is lost is a finding
                outcomes.wrong.append(f"{error!r}: {request!r:.300}")
                connection.close()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send(
    connection: http.client.HTTPConnection, request: Request, documented: dict[str, set[str]], outcomes: Outcomes
) -> None:
    route, media_type, body = request
    method, _, path = route.partition(" ")
    path = path.replace("{id}", "default").replace("{name}", "fuzz")
    connection.request(method, path, body, {"content-type": media_type.encode("latin-1")})
    answer = connection.getresponse()
    content, status = answer.read(), str(answer.status)
    outcomes.statuses[f"{route} {status}"] += 1
    if status not in documented[route] or status >= "5":
        outcomes.wrong.append(f"{status} {content!r:.300} for {request!r:.300}")
    elif status >= "4":
        strict_error(route.partition(" ")[2]).model_validate_json(content)
    elif route == "POST /embed":
        judge_each(json.loads(content), outcomes)


def judge_each(answer: dict[str, Any], outcomes: Outcomes) -> None:
    for index, entry in enumerate(answer["data"]):
        code = entry["error"]["code"] if "error" in entry else "fine"
        outcomes.pictures[code] += 1
        if entry["index"] != index or (code != "fine" and ERROR_KINDS[code].status >= 500):
            outcomes.wrong.append(repr(entry)[:300])


def calm(service: Running) -> None:
    ends = time.monotonic() + PATIENCE_S
    while service.metric("sightword_queue_items") or service.metric("sightword_queue_bytes"):
        assert time.monotonic() < ends, "something is still counted as held"
        time.sleep(0.05)


def test_ten_thousand_attacks_leave_no_trace(attacked: Running, documented: dict[str, set[str]]) -> None:
    routes = sorted(route for route in documented if route.partition(" ")[2] in hostile_bodies.GOOD)
    work = {route for route in documented if route.startswith(("POST", "PUT")) and "/admin/" not in route}
    assert {route.partition(" ")[2] for route in work} == set(hostile_bodies.GOOD), "a route is not attacked"
    process, outcomes, resident = psutil.Process(attacked.process.pid), Outcomes(), []
    total = 0
    for number in range(ROUNDS):
        attack(attacked, one_round(number, routes), documented, outcomes)
        calm(attacked)
        resident.append(process.memory_info().rss)
        total += PICTURES_ALONE + PICTURES_TOGETHER + BODIES + FORMS
    assert not outcomes.wrong, "\n".join(outcomes.wrong[:20])
    assert total >= 10_000
    # Neither all bad nor all good, or the mutations miss.
    assert {"fine", "invalid_image"} <= set(outcomes.pictures)
    assert resident[-1] - resident[-2] < GROWTH_BYTES, resident
    assert httpx.get(f"{attacked.url}/health/ready").status_code == 200
    answer = httpx.post(f"{attacked.url}/embed", json={"inputs": {"image": pictures.as_base64("cat")}}, timeout=60)
    assert answer.status_code == 200
    # Nothing writes into the log but the log.
    for line in attacked.log().splitlines():
        assert json.loads(line)["level"] in ("info", "warning"), line


def test_bombs_are_told_from_their_headers(attacked: Running) -> None:
    before = psutil.Process(attacked.process.pid).memory_info().rss
    with httpx.Client(base_url=attacked.url, timeout=300) as client:
        for code, body in hostile.bombs():
            answer = client.post("/embed", content=body, headers={"content-type": "image/png"})
            assert answer.json()["error"]["code"] == code, (body[:80], answer.text)
            assert answer.status_code == (413 if code == "image_too_large" else 422)
    calm(attacked)
    assert psutil.Process(attacked.process.pid).memory_info().rss - before < 2 * GROWTH_BYTES


def test_floods_of_pieces_are_stopped(attacked: Running) -> None:
    """Read to the end, the largest of these take minutes or gigabytes."""
    process = psutil.Process(attacked.process.pid)
    with httpx.Client(base_url=attacked.url, timeout=300) as client:
        for number, body in enumerate(hostile.floods()):
            before = sum(process.cpu_times()[:2])
            answer = client.post("/embed", content=body, headers={"content-type": "image/png"})
            assert answer.json()["error"]["code"] == "invalid_image", number
            assert sum(process.cpu_times()[:2]) - before < 20, number
    assert process.memory_info().rss < 2**30


@pytest.mark.parametrize("name", hostile_bodies.TEXTS)
def test_hostile_texts(attacked: Running, name: str) -> None:
    text = hostile_bodies.TEXTS[name]
    answer = httpx.post(f"{attacked.url}/embed", json={"inputs": [text], "truncate": True}, timeout=60)
    assert answer.status_code == 200, answer.text
    answer = httpx.post(f"{attacked.url}/embed", json={"inputs": [text], "truncate": False}, timeout=60)
    assert answer.json().get("error", {}).get("code") in (None, "text_too_long")


FLOODS_OF_VALUES = {
    "fields": b'{"inputs": "a"' + b"".join(b',"%x":0' % index for index in range(900_000)) + b"}",
    "lists": b'{"inputs": [' + b"[]," * 1_000_000 + b"0]}",
    "objects": b'{"inputs": [' + b'{"a":0},' * 1_000_000 + b"0]}",
    "numbers": b'{"inputs": "a", "model": [' + b"0," * 4_000_000 + b"0]}",
}


@pytest.mark.parametrize("name", FLOODS_OF_VALUES)
def test_floods_of_values_are_stopped(attacked: Running, name: str) -> None:
    process = psutil.Process(attacked.process.pid)
    before = process.memory_info().rss
    answer = httpx.post(f"{attacked.url}/embed", content=FLOODS_OF_VALUES[name], timeout=60)
    assert answer.json()["error"]["code"] in ("too_many_inputs", "invalid_request"), answer.text
    assert process.memory_info().rss - before < 400 * 2**20
