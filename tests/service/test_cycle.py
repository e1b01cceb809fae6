"""Responses as they leave on a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.server import ServerState

from service.http.connection_limits import ConnectionLimits
from service.http.protocol import Idle, Protocol

START = "http.response.start"
BODY = "http.response.body"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: bytes) -> None:  # type: ignore[override]  # only bytes come here
        self.writes.append(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:  # type: ignore[override]
        self.writes.append(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def connected(app: ASGI3Application) -> tuple[Protocol, Transport, ServerState]:
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state, transport = ServerState(), Transport()
    state.default_headers = [(b"date", b"today")]
    connection = Protocol(config, state, {}, limits=ConnectionLimits(), idle=Idle(), on_lost=lambda: None)
    connection.connection_made(transport)
    return connection, transport, state


def respond(request: bytes, *answer: Message) -> Transport:
    """What leaves when an application gives this answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in answer:
            await send(message)

    async def scenario() -> Transport:
        connection, transport, state = await connected(app)
        connection.data_received(request)
        await asyncio.gather(*state.tasks)
        connection.connection_lost(ConnectionResetError())  # ends its timers
        return transport

    return asyncio.run(scenario())


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": START, "status": status, "headers": list(headers)}


def test_a_short_answer_is_one_write() -> None:
    sent = respond(GET, start((b"content-length", b"5")), {"type": BODY, "body": b"short"})
    assert sent.writes == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 5\r\n\r\nshort"]
    assert not sent.closed


def test_a_long_answer_leaves_as_it_comes() -> None:
    pieces: list[Message] = [{"type": BODY, "body": b"lon", "more_body": True}, {"type": BODY, "body": b"ger"}]
    sent = respond(GET, start((b"content-length", b"6")), *pieces)
    assert [each[-3:] for each in sent.writes] == [b"lon", b"ger"]


def test_an_answer_of_unknown_length_is_chunked() -> None:
    pieces: list[Message] = [{"type": BODY, "body": b"a piece", "more_body": True}, {"type": BODY}]
    sent = respond(GET, start(), *pieces)
    assert sent.writes[0].endswith(b"transfer-encoding: chunked\r\n\r\n7\r\na piece\r\n")
    assert sent.writes[1:] == [b"0\r\n\r\n"]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204)])
def test_an_answer_without_a_body(method: bytes, status: int) -> None:
    length = [(b"content-length", b"5")] if method == b"HEAD" else []
    body = b"short" if method == b"HEAD" else b""
    sent = respond(GET.replace(b"GET", method), start(*length, status=status), {"type": BODY, "body": body})
    assert len(sent.writes) == 1
    assert sent.writes[0].endswith(b"\r\n\r\n")
    assert b"chunked" not in sent.writes[0]


def test_the_last_answer_says_so() -> None:
    for request, headers in (
        (GET, [(b"connection", b"close")]),
        (GET.replace(b"host", b"connection: close\r\nhost"), []),
    ):
        sent = respond(request, start((b"content-length", b"0"), *headers), {"type": BODY})
        assert sent.writes[0].count(b"connection: close\r\n") == 1
        assert sent.closed


@pytest.mark.parametrize("body", [b"longer than that", b"less"])
def test_an_answer_of_another_length_is_not_sent(body: bytes) -> None:
    """The client would take what is too much for the next answer, or wait for what is not there."""
    sent = respond(GET, start((b"content-length", b"5")), {"type": BODY, "body": body})
    assert body not in b"".join(sent.writes)
    assert sent.closed


def test_a_header_cannot_hold_a_line_break() -> None:
    sent = respond(GET, start((b"x-request-id", b"1\r\nset-cookie: a=b")), {"type": BODY, "body": b""})
    assert sent.writes[0].startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in b"".join(sent.writes)


def test_who_sent_a_large_body_can_still_hang_up() -> None:
    """Reading pauses while much of a body waits; a connection that is not read from does not tell of its end."""

    async def scenario() -> None:
        bodies: list[bytes] = []
        ends = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            bodies.append((await receive())["body"])
            await ends.wait()

        connection, transport, state = await connected(app)
        connection.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        await asyncio.sleep(0.01)  # until the application waits for the body
        connection.data_received(bytes(100_000))
        assert transport.paused
        await asyncio.sleep(0.01)
        assert bodies == [bytes(100_000)]
        assert not transport.paused
        ends.set()
        connection.connection_lost(None)
        await asyncio.gather(*state.tasks)

    asyncio.run(scenario())
