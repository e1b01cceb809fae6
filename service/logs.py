"""Logging: text on a terminal, JSON lines everywhere else; never the content of a request."""

from __future__ import annotations

import ctypes
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, TextIO

import orjson
import PIL

_FIELDS = ("request_id", "trace_id", "method", "route", "status", "code", "items", "ms")
_requests = logging.getLogger("service.request")


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields: dict[str, object] = {"worker": self._worker}
        fields |= {name: getattr(record, name, None) for name in _FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _as_json(record.created, record.levelname.lower(), record.name, record.getMessage(), fields)


def _as_json(created: float, level: str, logger: str, message: str, fields: Mapping[str, object]) -> str:
    line: dict[str, object] = {"time": _timestamp(created), "level": level, "logger": logger, "message": message}
    line |= {name: value for name, value in fields.items() if value is not None}
    return orjson.dumps(line).decode()


def _timestamp(created: float) -> str:
    """ISO 8601 in UTC, to milliseconds."""
    second = int(created)
    return f"{_date_and_time(second)}.{int((created - second) * 1e3):03d}+00:00"


@lru_cache(maxsize=1)  # of a thousand lines that a service writes in it
def _date_and_time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes JSON lines to stderr."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter(worker))
        self._always: Mapping[str, object] = {} if worker is None else {"worker": worker}

    def write_request(self, message: str, fields: Mapping[str, object]) -> None:
        """Write the line that a LogRecord would give, without making one: that takes longer than many a request."""
        line = _as_json(time.time(), "info", _requests.name, message, {**self._always, **fields})
        try:
            self.stream.write(line + self.terminator)
        except (OSError, ValueError):  # stderr is closed, or a pipe that nobody reads any more
            return


def log_request(message: str, fields: Mapping[str, object]) -> None:
    """Log a finished request; the keys of `fields` are among _FIELDS."""
    match logging.root.handlers:
        case [JsonHandler() as handler]:
            handler.write_request(message, fields)
        case _:
            _requests.info("%s", message, extra=fields)


class TextFormatter(logging.Formatter):
    """A line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = super().format(record)
        if ms := getattr(record, "ms", None):
            line += f"  {ms['total']} ms"
        return line


class Sampler:
    """Rate limit for log lines of a kind that clients can cause without end."""

    def __init__(self, a_second: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `a_second` lines in each second of `clock`."""
        self._a_second, self._clock = a_second, clock
        self._second = self._passed = self._left_out = 0

    def left_out(self) -> int | None:
        """How many lines were dropped since the last one; None where this one is to be dropped too."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= self._a_second:
            self._left_out += 1
            return None
        self._passed += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def configure(log_format: Literal["text", "json"], worker: int | None = None) -> None:
    """Write all logs of the process to stderr in this format, with its number where it is one of several workers."""
    handler = JsonHandler(worker) if log_format == "json" else logging.StreamHandler(sys.stderr)
    if log_format == "text":
        whose = "" if worker is None else f"[{worker}] "
        handler.setFormatter(TextFormatter(f"%(asctime)s %(levelname)-7s {whose}%(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Neither format shows them, and finding them takes longer than the rest of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the switch that Python's documentation names
    _silence_libraries()


def _silence_libraries() -> None:
    """These libraries log everything odd in a request, quoting it; the client learns of it by the response."""
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # and Python remembers each different warning for ever
    # libtiff writes to stderr itself, a line for each damaged row. This is the one in Pillow's wheels.
    for library in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*"):
        with suppress(AttributeError, OSError):
            ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)
