"""What one connection, and all of them together, may take: the limits, the timer that ends what is over time, and the
refusals written to a connection as they are, because what is refused never becomes a request.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple, Self
from uuid import uuid4

from service.errors import ApiError, ErrorResponse

MAX_HEAD_BYTES = 64 * 1024  # of a request line and its headers; room for labels in a query
MAX_PIPELINED = 32  # requests sent before the answer to the first; each is held
OTHER_FILES = 256  # descriptors for connections about to begin, models, Redis, fetched pictures


@dataclass(frozen=True)
class ConnectionLimits:
    """Numbers of connections, and seconds that a client may take."""

    max_connections: int = 4096  # that are served
    max_refused: int = 64  # connections above those that are answered 503; any further is reset
    accepts_per_turn: int = 256  # new connections taken in one turn of the event loop
    head_s: float = 10.0  # for a whole head, from its first byte or from the opening of the connection
    last_request_s: float = 0.5  # after the listener has closed, for a request on its way on an idle connection
    answer_s: float = 60.0  # for reading an answer
    linger_s: float = 2.0  # for reading a refusal: to close at once would take it back if more is on the way

    @classmethod
    def of_this_process(cls) -> Self:
        """The defaults, or fewer connections where the process may not open so many files."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors == resource.RLIM_INFINITY:
            return cls()
        refused = min(cls.max_refused, descriptors // 6)
        served = min(cls.max_connections, descriptors - OTHER_FILES - refused)
        return cls(
            max_connections=max(min(64, descriptors // 4), served),
            max_refused=refused,
            accepts_per_turn=max(1, min(cls.accepts_per_turn, descriptors // 8)),
        )


class Timer:
    """Calls `action` once after a while, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        self._loop, self._action = loop, action
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """Count from now, unless it counts already."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, self._action)

    def stop(self) -> None:
        """Do not call `action`; the timer may be started again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Refusal(NamedTuple):
    """An answer to what never becomes a request."""

    status: HTTPStatus
    error: ApiError

    def to_bytes(self) -> bytes:
        """The whole response, head and body, in the shape that all errors have."""
        response = ErrorResponse(self.error)
        head = [f"HTTP/1.1 {self.status.value} {self.status.phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        head += [b"x-content-type-options: nosniff", b"connection: close", b"x-request-id: " + uuid4().hex.encode()]
        return b"\r\n".join([*head, b"", bytes(response.body)])


NOT_HTTP = Refusal(HTTPStatus.BAD_REQUEST, ApiError("invalid_request", "This is not a valid HTTP request."))
HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ApiError("invalid_request", f"Address and headers are over {MAX_HEAD_BYTES} bytes; send options in a body."),
)
TOO_MANY_PIPELINED = Refusal(
    HTTPStatus.BAD_REQUEST, ApiError("invalid_request", f"Send at most {MAX_PIPELINED} requests before the answers.")
)
TOO_MANY_CONNECTIONS = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, ApiError("unavailable", "Too many connections are open; try again shortly.")
)
