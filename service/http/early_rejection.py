"""Early rejection: a request that finds the queue full is answered 429 by the connection itself, at its head.

It takes no task, no body and no middleware, so that refusing what comes in excess leaves the time for serving the rest
(`benchmarks/STEPS.md` has what that buys). What cannot be decided by the head alone is left to the middleware, which
answers alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from starlette.types import Scope

from service.http.protocol import Protocol

Reject = Callable[[Scope], bytes | None]


class Gate:
    """Lets heads through while there are places, `free` of them, for those that it has just let through as well.

    These take their places only in the ready callbacks of the event loop's turn. Of many that come in one turn, those
    without a place would be refused by the middleware, which takes the time of several refusals.
    """

    def __init__(self, free: Callable[[], int]) -> None:
        self._free = free
        self._entering = 0  # in this turn

    @property
    def is_open(self) -> bool:
        """Whether there is a place for one more."""
        return self._free() > self._entering

    def enter(self) -> None:
        """One has been let through."""
        if not self._entering:
            asyncio.get_running_loop().call_soon(self._forget)  # runs just before the first of them takes its place
        self._entering += 1

    def _forget(self) -> None:
        self._entering = 0


class EarlyRejectionProtocol(Protocol):
    """Asks the gate at every head, and `reject` for the answer where it is closed.

    `reject` takes a scope with method, path and headers, and gives all of an answer but its first line and date, or
    None where the request may come in.
    """

    def __init__(self, *args: Any, gate: Gate, reject: Reject, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate, self._reject = gate, reject
        self._skips_body = False  # of the request that was rejected
        self._may_reject = True

    def data_received(self, data: bytes) -> None:
        """Reject at most one request of what came in: thousands, sent ahead, would hold up everybody else."""
        self._may_reject = not self.flow.write_paused
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begin with a request, or reject it."""
        response = None if self._gate.is_open or not self._may_reject else self._rejection()
        if response is None:
            if self.parser.get_method() == b"POST":
                self._gate.enter()
            super().on_headers_complete()
            return
        self._may_reject = False
        date = b"".join(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers)
        self.transport.write(b"HTTP/1.1 429 Too Many Requests\r\n" + date + response)
        self._skips_body = True
        self._end_head()

    def _rejection(self) -> bytes | None:
        """None also for a request that would change how the connection goes on."""
        plain = not (self._is_answering() or self.pipeline or self.expect_100_continue or self.parser.should_upgrade())
        if not plain or self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return None
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = self.url.partition(b"?")[0].decode("ascii", "replace")
        return self._reject(cast(Scope, self.scope))

    def _end_head(self) -> None:
        self._head_timer.stop()
        self._unframed_bytes = 0
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, or skip it."""
        if self._skips_body:
            self._unframed_bytes = 0
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._skips_body:
            super().on_message_complete()
            return
        self._end_head()
        self._skips_body = self._in_message = False
