"""A load generator that is much cheaper than what it measures: HTTP/1.1 over asyncio, parsed by httptools.

A request is a block of bytes that was made beforehand. Each connection carries one request at a time and is used again;
when none is free another is opened, so an open loop never waits for the server.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

import httptools

Kind = TypeVar("Kind", contravariant=True)
NO_ANSWER, NOT_CONNECTED = 0, -1  # statuses of a request that was never answered, and of one that was never sent
GRAIN_S = 0.002  # requests of an open loop that are due within so short a time are sent together


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as it is sent; underscores in the names of headers become hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@dataclass(slots=True)
class Answer:
    """What became of one request. Times are seconds."""

    status: int
    sent: float  # of time.perf_counter
    seconds: float  # from sending to the last byte
    late: float = 0.0  # how much later than planned it was sent
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


class Connection(Protocol):
    """What a client needs of a connection; `answer` is the future of the request that it carries."""

    answer: asyncio.Future[Answer] | None
    open: bool

    def send(self, data: bytes, /) -> asyncio.Future[Answer]:
        """Send a request; the future never raises."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class _Connection(asyncio.Protocol):
    """One connection; `answer` is the future of the request that it carries."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Answer] | None = None
        self.open = False
        self._sent = 0.0
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def send(self, data: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future never raises."""
        assert self.transport is not None
        self._reset()
        self.answer = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        self.transport.write(data)
        return self.answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.open = cast(asyncio.Transport, transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._finish(NO_ANSWER)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._keep:
            self._headers[name] = value

    def on_body(self, body: bytes) -> None:
        if self._keep:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        self._finish(self._parser.get_status_code())

    def _finish(self, status: int) -> None:
        if self.answer is not None and not self.answer.done():
            seconds = time.perf_counter() - self._sent
            self.answer.set_result(Answer(status, self._sent, seconds, 0.0, self._headers, b"".join(self._body)))

    def close(self) -> None:
        """Hang up."""
        self.open = False
        if self.transport is not None:
            self.transport.abort()


class Client:
    """Connections to one server. `keep` is whether answers hold their headers and bodies."""

    def __init__(self, url: str, keep: bool = False, timeout_s: float = 120.0) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.host, self.port, self.timeout_s = host, int(port), timeout_s
        self._keep = keep
        self._idle: list[Connection] = []
        self.opened = 0

    async def send(self, data: bytes) -> Answer:
        """Send one request and wait for its answer, for at most `timeout_s`."""
        called = time.perf_counter()
        if (connection := await self._connection()) is None:
            return Answer(NOT_CONNECTED, called, time.perf_counter() - called)
        give_up = asyncio.get_running_loop().call_later(self.timeout_s, connection.close)
        try:
            return await connection.send(data)
        finally:
            give_up.cancel()
            self._take_back(connection)

    def start(self, data: bytes) -> asyncio.Future[Answer]:
        """Send one request; without a task of its own where a connection is free."""
        if (connection := self._free()) is None:
            return asyncio.ensure_future(self.send(data))
        answer = connection.send(data)
        answer.add_done_callback(lambda _: self._take_back(connection))
        return answer

    def _take_back(self, connection: Connection) -> None:
        if connection.open and connection.answer is not None and connection.answer.done():
            self._idle.append(connection)
        else:
            connection.close()

    def _free(self) -> Connection | None:
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        return None

    async def _connection(self) -> Connection | None:
        if (free := self._free()) is not None:
            return free
        self.opened += 1
        try:
            return await self._connect()
        except OSError:
            return None

    async def _connect(self) -> Connection:
        """A new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._keep), self.host, self.port)
        return connection

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()


async def open_loop(
    client: Client, requests: Iterator[bytes], rate: float, seconds: float, poisson: random.Random | None = None
) -> list[Answer]:
    """`rate` requests a second for so long, whether or not earlier ones were answered; at even gaps or at random."""
    plan: list[tuple[float, asyncio.Future[Answer]]] = []
    with _no_garbage_collection():
        planned = started = time.perf_counter()
        while planned < started + seconds:
            if (wait := planned - time.perf_counter()) > 0:
                await asyncio.sleep(max(wait, GRAIN_S))
            plan.append((planned, client.start(next(requests))))
            planned += poisson.expovariate(rate) if poisson else 1 / rate
    await asyncio.wait([future for _, future in plan], timeout=client.timeout_s)
    answers = []
    for at, future in plan:
        answer = future.result() if future.done() else Answer(NO_ANSWER, at, client.timeout_s)
        answer.late = answer.sent - at
        answers.append(answer)
        future.cancel()
    return answers


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """It would look through all answers so far, and what was due meanwhile would come as one burst."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Sender(Protocol[Kind]):
    """What a closed loop drives."""

    async def send(self, data: Kind, /) -> Answer:
        """Send one request and wait for its answer."""
        ...


async def closed_loop(
    client: Sender[Kind], requests: Iterator[Kind], clients: int, more: Callable[[int], bool]
) -> list[Answer]:
    """So many clients, each sending its next request when the last was answered, while `more(requests so far)`."""
    answers: list[Answer] = []
    begun = 0

    async def one() -> None:
        nonlocal begun
        while more(begun):
            begun += 1
            answers.append(await client.send(next(requests)))

    await asyncio.gather(*(one() for _ in range(clients)))
    return answers


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """For `closed_loop`: go on for so long."""
    ends = time.perf_counter() + seconds
    return lambda begun: time.perf_counter() < ends


def percentile_s(answers: Sequence[Answer], share: float) -> float:
    """Of the times that answers took; 0 where there are none."""
    return percentile([answer.seconds for answer in answers], share)


def percentile(values: Sequence[float], share: float) -> float:
    """This share of the values is no larger; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
