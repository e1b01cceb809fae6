"""Log lines: readable on a terminal, JSON everywhere else. Never the content of a request."""

from __future__ import annotations

import ctypes
import logging
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

import orjson
import PIL

_FIELDS = ("request_id", "trace_id", "method", "route", "status", "code", "items", "ms")
_requests = logging.getLogger("service.request")


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        fields: dict[str, object] = {name: getattr(record, name, None) for name in _FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _as_json(record.created, record.levelname.lower(), record.name, record.getMessage(), fields)


def _as_json(created: float, level: str, logger: str, message: str, fields: Mapping[str, object]) -> str:
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "logger": logger,
        "message": message,
        **{name: value for name, value in fields.items() if value is not None},
    }
    return orjson.dumps(line).decode()


class JsonHandler(logging.StreamHandler[TextIO]):
    """Lines of JSON."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonFormatter())

    def write_request(self, message: str, fields: Mapping[str, object]) -> None:
        """The line that a record would give, without the record: making one takes longer than many an answer."""
        with suppress(OSError, ValueError):  # nobody reads it, or nobody does any more
            self.stream.write(_as_json(time.time(), "info", _requests.name, message, fields) + self.terminator)


def log_request(message: str, fields: Mapping[str, object]) -> None:
    """Log that a request has ended; `fields` are of those that lines have."""
    match logging.root.handlers:
        case [JsonHandler() as handler]:
            handler.write_request(message, fields)
        case _:
            _requests.info("%s", message, extra=fields)


class TextFormatter(logging.Formatter):
    """For a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line = super().format(record)
        if ms := getattr(record, "ms", None):
            line += f"  {ms['total']} ms"
        return line


class Sampler:
    """Lets through a few lines a second, of a kind that clients can cause without end."""

    def __init__(self, a_second: int = 10) -> None:
        self._a_second = a_second
        self._second = self._passed = self._left_out = 0

    def left_out(self) -> int | None:
        """How many lines before this one were left out; None where this one is, too."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= self._a_second:
            self._left_out += 1
            return None
        self._passed += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def configure(log_format: Literal["text", "json"]) -> None:
    """Send all logs of the process to stderr in this format."""
    handler = JsonHandler() if log_format == "json" else logging.StreamHandler(sys.stderr)
    if log_format == "text":
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Neither format shows them, and to find them out takes longer than the rest of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the switch that Python's documentation names
    _leave_out_what_requests_hold()


def _leave_out_what_requests_hold() -> None:
    """These libraries tell of everything odd in a request, in its own words; the client is told by the answer."""
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # and Python remembers each different warning for ever
    # libtiff writes to stderr itself, a line for each damaged row. This is the one in Pillow's wheels.
    for library in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*"):
        with suppress(AttributeError, OSError):
            ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)
