"""Where a request's time goes: one object from the first byte to the header, the log line and the histograms."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.admission import ByteReservation
from service.errors import NATIVE_ERRORS, ErrorShape

STAGES = ("fetch", "decode", "preprocess", "tokenize", "cache", "queue", "inference", "serialize")


@dataclass(slots=True)
class Timing:
    """Seconds by stage. The items of a request run side by side, so each stage keeps its slowest item."""

    started: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)  # when that item entered the stage; of time.perf_counter

    def record(self, stage: str, started: float, finished: float) -> None:
        """Note a stage of one item, by time.perf_counter."""
        seconds = finished - started
        if seconds >= self.stages.get(stage, 0.0):
            self.starts[stage], self.stages[stage] = started, seconds

    def stage(self, name: str) -> _Stage:
        """Note the time that the `with` takes."""
        return _Stage(self, name)

    def total_s(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self.started

    def header(self) -> str:
        """The value of `server-timing`, in milliseconds."""
        stages = self.stages
        parts = [f"{stage};dur={stages[stage] * 1e3:.2f}" for stage in STAGES if stage in stages]
        return ", ".join([*parts, f"total;dur={self.total_s() * 1e3:.2f}"])

    def milliseconds(self) -> dict[str, float]:
        """Of each stage, and in all, to a hundredth."""
        taken = {**self.stages, "total": self.total_s()}  # a copy: a thread may still decode for a request that ended
        return {name: round(seconds * 1e3, 2) for name, seconds in taken.items()}


class _Stage:
    __slots__ = ("_name", "_started", "_timing")

    def __init__(self, timing: Timing, name: str) -> None:
        self._timing, self._name = timing, name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timing.record(self._name, self._started, time.perf_counter())


@dataclass(slots=True)
class RequestContext:
    """What is known of one request while it runs: its id, timing, answer, and what it holds."""

    request_id: str
    error_shape: ErrorShape = NATIVE_ERRORS  # of the API that the request is for
    timing: Timing = field(default_factory=Timing)
    status: int = 0  # of the answer, from its first byte on
    error_code: str | None = None
    items: int = 0
    digest: str | None = None  # of the model that answers
    trained_dimensions: tuple[int, ...] = ()  # of the model, where another number was asked for
    read_as: dict[str, str] = field(default_factory=dict)  # how each list in a form or a query was read
    reservation: ByteReservation | None = None  # of the bytes received for it
    headers: Mapping[bytes, bytes] = field(default_factory=dict)  # by lower-case name, the last of several
    query_string: bytes = b""
    body: bytes = b""  # all of it, while the request is at work
    hang_up: Callable[[], None] = lambda: None  # for the connection, whose client is gone
