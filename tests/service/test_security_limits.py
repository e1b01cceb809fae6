"""What is refused before its body, and what is not cut off any more, with the application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Admission
from service.app import create_app
from service.board import Field
from service.metrics import Metrics
from service.request_context import RequestContext
from service.settings import Settings
from service.state import Service
from service.web.limits import LARGE_ANSWER_BYTES, RequestLimitsMiddleware

KEY, ADMIN = "a client's long key", "the operator's long key"


async def body_that_must_not_be_read() -> Message:
    raise AssertionError("read")


async def call(app: ASGIApp, path: str, receive: Receive, **headers: str) -> list[Message]:
    """What the application sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": given, "http_version": "1.1", "scheme": "http", "server": ("service", 80), "client": None,
        "root_path": "", "state": {"context": RequestContext("id")},
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


def run(scenario: Callable[[Service, ASGIApp], Awaitable[None]], **settings: Any) -> None:
    async def within() -> None:
        service = Service(Settings.read({"api_keys": KEY, "admin_key": ADMIN, **settings}))
        try:
            await scenario(service, create_app(service))
        finally:
            await service.aclose()

    asyncio.run(within())


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/admin/reload", "/nothing"])
def test_without_a_key_no_body_is_read(path: str) -> None:
    async def scenario(service: Service, app: ASGIApp) -> None:
        start, _ = await call(app, path, body_that_must_not_be_read, content_length="10")
        assert start["status"] == 401

    run(scenario)


def test_a_full_service_reads_no_body() -> None:
    async def scenario(service: Service, app: ASGIApp) -> None:
        service.shared.admission.row.set(Field.ITEMS, service.settings.queue_items)
        start, _ = await call(app, "/embed", body_that_must_not_be_read, content_length="10", x_api_key=KEY)
        assert start["status"] == 429
        assert dict(start["headers"])[b"retry-after"] == b"1"
        start, _ = await call(app, "/embed", body_that_must_not_be_read, transfer_encoding="chunked", x_api_key=KEY)
        assert start["status"] == 429

    run(scenario)


def test_bytes_are_counted_as_they_come() -> None:
    """What is declared is only good for an early refusal: a body without a length, or with a lying one, is counted."""

    async def scenario(service: Service, app: ASGIApp) -> None:
        admission = service.shared.admission
        admission.row.add(Field.BYTES, 6000)
        start, _ = await call(app, "/embed", body_that_must_not_be_read, content_length="5000", x_api_key=KEY)
        assert start["status"] == 429
        pieces = [b"x" * 1000] * 9

        async def receive() -> Message:
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}

        start, _ = await call(app, "/embed", receive, transfer_encoding="chunked", x_api_key=KEY)
        assert start["status"] == 429
        assert len(pieces) == 4  # refused at the fifth
        assert admission.bytes == 6000

    run(scenario, queue_bytes=10_000)


def test_the_operator_is_not_refused_by_a_full_service() -> None:
    async def scenario(service: Service, app: ASGIApp) -> None:
        service.shared.admission.row.set(Field.ITEMS, service.settings.queue_items)
        service.shared.admission.row.add(Field.BYTES, service.settings.queue_bytes)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            answer = await client.post("/admin/reload", content=b"{}", headers={"x-api-key": ADMIN})
        assert answer.status_code not in (401, 429), answer.text

    run(scenario)


class TestAnswersOnTheirWay:
    @staticmethod
    def limits(app: ASGIApp, timeout_s: float) -> tuple[RequestLimitsMiddleware, Admission]:
        metrics = Metrics()
        admission = Admission(10, 10_000, metrics.queue_items, metrics.queue_bytes)
        return RequestLimitsMiddleware(app, Settings.read({"timeout_s": timeout_s}), admission), admission

    @staticmethod
    def body() -> Receive:
        messages: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        return receive

    def test_are_not_cut_off_by_the_deadline(self) -> None:
        async def slow_to_send(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await asyncio.sleep(0.3)
            await send({"type": "http.response.body", "body": b"done"})

        sent = asyncio.run(call(self.limits(slow_to_send, 0.1)[0], "/embed", self.body()))
        assert [message.get("status") or message.get("body") for message in sent] == [200, b"done"]

    def test_leave_nothing_behind_that_the_request_held(self) -> None:
        """An idle connection keeps what is known of its last request."""
        calls: list[RequestContext] = []

        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            calls.append(scope["state"]["context"])
            assert calls[0].body == b"{}"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        asyncio.run(call(self.limits(answering, 30)[0], "/embed", self.body()))
        assert calls[0].body == b""

    def test_are_cut_off_before_they_begin(self) -> None:
        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(30)

        start, _ = asyncio.run(call(self.limits(late, 0.1)[0], "/embed", self.body()))
        assert start["status"] == 504

    def test_count_while_they_are_large_and_unread(self) -> None:
        large = b"x" * (LARGE_ANSWER_BYTES + 1)

        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": large})

        limits, admission = self.limits(answering, 30)
        held: list[int] = []

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def watched_send(message: Message) -> None:
                held.append(admission.bytes)
                await send(message)

            await limits(scope, receive, watched_send)

        sent = asyncio.run(call(watched, "/embed", self.body()))
        assert b"".join(message.get("body", b"") for message in sent) == large
        assert [message.get("more_body", False) for message in sent] == [False, True, False]
        assert held[-1] == len(large) + len(b"{}")
        assert admission.bytes == 0
