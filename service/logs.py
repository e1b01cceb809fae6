"""Log lines: readable on a terminal, JSON everywhere else. Never the content of a request."""

from __future__ import annotations

import ctypes
import logging
import sys
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import orjson
import PIL

_FIELDS = ("request_id", "method", "route", "status", "code", "items", "ms")


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


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
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(text if log_format == "text" else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
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
