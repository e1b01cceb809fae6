"""Many at once: batches, refusals, deadlines, and clients that hang up."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.service_process import PATIENCE_S, Running, running
from tests.service import pictures

WORDS = " ".join(f"word{number % 7}" for number in range(30))
TURNS = itertools.count()
BUSY = {"inputs": [f"{number} {WORDS}" for number in range(512)]}


async def post_all(url: str, requests: list[dict[str, Any]]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=len(requests))
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=300) as client:
        return await asyncio.gather(*(client.post("/embed", **request) for request in requests))


def test_sixty_four_clients_share_batches_and_get_their_own_vectors(client: httpx.Client, service: Running) -> None:
    names = list(pictures.FILES)
    alone = {name: embed_file(client, name) for name in names}
    before = totals(service)
    requests = [
        # A byte behind the end makes each a file of its own, of the same pixels.
        {"content": pictures.read(names[n % len(names)]) + bytes([n]), "headers": {"content-type": "image/png"}}
        for n in range(128)
    ]
    answers = asyncio.run(post_all(service.url, requests))
    for number, answer in enumerate(answers):
        np.testing.assert_allclose(answer.json()["data"][0]["embedding"], alone[names[number % len(names)]], atol=1e-4)
    items, executions = (after - old for after, old in zip(totals(service), before, strict=True))
    assert items == len(requests)
    assert executions < items  # how much less is the machine's affair: where batches run side by side, they are small
    assert service.metric("sightword_batch_items_count", tower="image") == totals(service)[1]


def embed_file(client: httpx.Client, name: str) -> list[float]:
    answer = client.post("/embed", content=pictures.read(name), headers={"content-type": "image/png"})
    vector: list[float] = answer.json()["data"][0]["embedding"]
    return vector


def totals(service: Running) -> tuple[float, float]:
    return (
        service.metric("sightword_inference_items_total", tower="image"),
        service.metric("sightword_inference_executions_total", tower="image"),
    )


def test_a_full_queue_refuses_at_once(narrow: Running) -> None:
    """Forty places; each request wants thirty. A request is refused as a whole or served as a whole."""
    bodies = [{"inputs": unseen()["inputs"][:30]} for _ in range(24)]
    answers = asyncio.run(post_all(narrow.url, [{"json": body} for body in bodies]))
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1
        else:
            assert len(answer.json()["data"]) == 30
    refusals = sum(answer.status_code == 429 for answer in answers)
    assert narrow.metric("sightword_rejections_total", reason="overloaded") >= refusals
    assert narrow.metric("sightword_queue_items") == 0
    assert httpx.get(f"{narrow.url}/health/ready").status_code == 200


def test_the_clients_deadline(client: httpx.Client, service: Running) -> None:
    before = service.metric("sightword_inference_items_total", tower="text")
    answer = client.post("/embed", json=unseen(), headers={"x-request-timeout": "0.05"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    wait_until_idle(service)
    assert service.metric("sightword_inference_items_total", tower="text") - before < len(BUSY["inputs"])


def test_the_servers_deadline(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, timeout_s="0.05") as service:
        answer = httpx.post(f"{service.url}/embed", json=BUSY, headers={"x-request-timeout": "60"}, timeout=60)
        assert answer.status_code == 504
        unfinished = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
        with socket.create_connection(
            ("127.0.0.1", httpx.URL(service.url).port or 0), timeout=PATIENCE_S
        ) as connection:
            connection.sendall(unfinished)
            assert connection.recv(100).startswith(b"HTTP/1.1 504 ")


def test_a_client_that_hangs_up_leaves_the_queue(service: Running, client: httpx.Client) -> None:
    wait_until_idle(service)
    before = service.metric("sightword_inference_items_total", tower="text")
    gone = service.metric("sightword_requests_total", route="/embed", status="499")
    sent = 0
    while service.metric("sightword_requests_total", route="/embed", status="499") < gone + 3:
        assert sent < 10
        sent += 1
        with suppress(httpx.ReadTimeout):  # where the machine stands still, the answer may be here before the client
            client.post("/embed", json=unseen(), timeout=httpx.Timeout(PATIENCE_S, read=0.06))
        wait_until_idle(service)
    ran = service.metric("sightword_inference_items_total", tower="text") - before
    assert ran < sent * len(BUSY["inputs"])


def unseen() -> dict[str, Any]:
    """As much work, of texts that are not in the cache."""
    turn = next(TURNS)
    return {"inputs": [f"{turn} {text}" for text in BUSY["inputs"]]}


def wait_until_idle(service: Running) -> None:
    ends = time.monotonic() + PATIENCE_S
    while service.metric("sightword_queue_items"):
        assert time.monotonic() < ends, "cancelled items stay in the queue"
        time.sleep(0.02)
