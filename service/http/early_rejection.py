"""The shortest way out: a request that finds the queue full is refused by the connection itself, at its head.

It takes no task, no body and none of the layers, so that refusing what comes in excess leaves the time for serving the
rest. What cannot be told from the head alone is left to the layers, which refuse alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from starlette.types import Scope

from service.http.protocol import Protocol

Refuse = Callable[[Scope], bytes | None]


class Door(Protocol):
    """`full` is asked first. `refuse` gives all of an answer but its first line and date, or None: it may come in."""

    def __init__(self, *args: Any, full: Callable[[], bool], refuse: Refuse, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._full, self._refuse_early = full, refuse
        self._refused = False  # and what is left of its body is of no interest
        self._may_refuse = True

    def data_received(self, data: bytes) -> None:
        """Refuse one request of what came in at most: thousands, sent ahead, would hold up everybody else."""
        self._may_refuse = not self.flow.write_paused
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begin with a request, or refuse it."""
        words = self._refusal() if self._may_refuse and self._full() else None
        if words is None:
            super().on_headers_complete()
            return
        self._may_refuse = False
        date = b"".join(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers)
        self.transport.write(b"HTTP/1.1 429 Too Many Requests\r\n" + date + words)
        self._refused = True
        self._head_done()

    def _refusal(self) -> bytes | None:
        plain = not (self._at_work() or self.pipeline or self.expect_100_continue or self.parser.should_upgrade())
        if not plain or self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return None
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = self.url.partition(b"?")[0].decode("ascii", "replace")
        return self._refuse_early(cast(Scope, self.scope))

    def _head_done(self) -> None:
        self._head_timer.stop()
        self._unframed_bytes = 0
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, or let it go by."""
        if self._refused:
            self._unframed_bytes = 0
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._refused:
            super().on_message_complete()
            return
        self._head_done()
        self._refused = self._in_message = False
