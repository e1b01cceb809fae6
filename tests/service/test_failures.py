"""What happens when the model or the service itself fails, with the application in this process."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.service_process import PATIENCE_S, Running
from model.bundle import Bundle
from model.runtime.engine import Engine
from service.app import create_app
from service.inference.pipeline import Pipeline
from service.settings import Settings
from service.state import Service

SECRET = "internals at 0xdeadbeef"


class FragileEngine(Engine):
    """The real engine, until `broken`; then, and for every batch that holds a text of `poison_length` tokens, not."""

    broken = False
    poison_length = 11
    seconds_per_text = 0.0

    def embed_texts(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.broken or (np.count_nonzero(token_ids, axis=1) == self.poison_length).any():
            raise RuntimeError(SECRET)
        time.sleep(self.seconds_per_text * len(token_ids))
        return super().embed_texts(token_ids)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> FragileEngine:
    return FragileEngine(bundle, "cpu")


@pytest.fixture
def fragile(bundle: Bundle, bundle_path: Path, engine: FragileEngine) -> Iterator[Service]:
    service = Service(Settings.read({"model": str(bundle_path), "max_batch": 8}))
    service.models.serve([Pipeline(bundle, engine, service.shared)])
    yield service
    engine.broken = False
    asyncio.run(service.aclose())


def run(service: Service, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def connected() -> None:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await scenario(client)

    asyncio.run(connected())


def poison(bundle: Bundle) -> str:
    """A text of as many tokens as the engine cannot stand."""
    words = ["cat"] * (FragileEngine.poison_length - 2)
    assert len(bundle.tokenizer().encode([" ".join(words)])[0]) == FragileEngine.poison_length
    return " ".join(words)


def test_one_poisoned_item_of_a_request(fragile: Service, bundle: Bundle) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        inputs = ["a", "b", poison(bundle), "c"]
        answer = await client.post("/embed", json={"inputs": inputs, "on_error": "item"})
        assert [entry.get("error", {}).get("code") for entry in answer.json()["data"]] == [
            None, None, "inference_error", None
        ]  # fmt: skip
        whole = await client.post("/embed", json={"inputs": inputs})
        assert (whole.status_code, whole.json()["error"]["code"]) == (500, "inference_error")
        assert SECRET not in answer.text + whole.text

    run(fragile, scenario)


def test_batch_mates_of_a_poisoned_item_are_answered(fragile: Service, bundle: Bundle) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        texts = ["a", "b", "c", poison(bundle), "d", "e"]
        answers = await asyncio.gather(*(client.post("/embed", json={"inputs": text}) for text in texts))
        assert [answer.status_code for answer in answers] == [200, 200, 200, 500, 200, 200]

    run(fragile, scenario)


def test_readiness_asks_a_failing_model_for_a_proof(fragile: Service, engine: FragileEngine) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        engine.broken = True
        assert (await client.get("/health/ready")).status_code == 200  # nothing has failed yet
        assert (await client.post("/embed", json={"inputs": "a"})).status_code == 500
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "unavailable")
        assert (await client.get("/health/live")).status_code == 200
        engine.broken = False
        assert (await client.get("/health/ready")).status_code == 200

    run(fragile, scenario)


def test_a_fault_of_the_service_tells_nothing(
    fragile: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/embed", json={"inputs": "a"}, headers={"x-request-id": "to-find"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert answer.headers["x-request-id"] == "to-find"
        assert SECRET not in answer.text

    monkeypatch.setattr(fragile.models.serving[0], "embed", broken)
    with caplog.at_level(logging.ERROR):
        run(fragile, scenario)
    assert "to-find" in caplog.text
    assert SECRET in caplog.text


def test_what_is_not_http_gets_the_same_shape(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0), timeout=PATIENCE_S) as connection:
        connection.sendall(b"HELO not http\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"x-request-id: " in head
    assert b'"code":"invalid_request"' in body


def test_what_would_wait_for_too_long_is_refused_at_once(
    bundle: Bundle, bundle_path: Path, engine: FragileEngine
) -> None:
    """On a slow model, the places in the queue are not what runs out first."""
    service = Service(Settings.read({"model": str(bundle_path), "max_batch": 4, "timeout_s": 10}))
    engine.seconds_per_text = 0.05
    service.models.serve([Pipeline(bundle, engine, service.shared)])

    async def scenario(client: httpx.AsyncClient) -> None:
        requests = (client.post("/embed", json={"inputs": f"text {number}"}) for number in range(400))
        answers = await asyncio.gather(*requests)
        statuses = Counter(answer.status_code for answer in answers)
        assert {200, 429} <= set(statuses) <= {200, 429, 504}
        assert statuses[504] < 100  # none is accepted in vain, unless the machine stands still; by places, 200 would be
        assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)

    try:
        run(service, scenario)
    finally:
        engine.seconds_per_text = 0.0
        asyncio.run(service.aclose())


def test_a_model_that_gave_way_gives_its_memory_back_although_it_is_referred_to(bundle_path: Path) -> None:
    service = Service(Settings.read({"model": str(bundle_path), "max_batch": 2, "provider": "cpu"}))
    service.models.load()
    first = service.models.find(None)
    sessions = [weakref.ref(first.engine.image_session.session), weakref.ref(first.engine.text_session.session)]

    async def reopen() -> None:
        await service.models.reopen(first)
        async with asyncio.timeout(30):
            while any(session() is not None for session in sessions):
                await asyncio.sleep(0.01)
        await service.aclose()

    asyncio.run(reopen())
    assert service.models.find(None) is not first
