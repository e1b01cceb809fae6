"""Samples that had to be skipped: counted by reason with an example of each, and logged at a limited rate."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from model.images.errors import ImageError

log = logging.getLogger(__name__)

LOGGED_IN_FULL = 5  # in full; after that a total at every power of ten
MAX_EXAMPLE = 500  # characters
MAX_REASONS = 40  # as there are in good faith; names out of a file may make more


class SkippedSamples:
    """Counts what is wrong with the samples of a set; may be used by many threads.

    Beside skipped samples it counts the files that are none, such as those of the system, and keeps notes on how the
    set was understood: which columns, which encoding.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}  # of each reason the first
        self.passed_over: Counter[str] = Counter()  # files that are no samples, by reason
        self.notes: dict[str, None] = {}  # in order, each once
        self._lock = threading.Lock()

    def add(self, key: str, reason: str, detail: object = "") -> None:
        """Count a sample or file `key` as skipped. `reason` is one of a few; `detail` says more of this one."""
        example = _shortened(f"{key} ({detail})" if detail else key)
        with self._lock:
            reason = _bounded_reason(self.counts, reason)
            self.counts[reason] += 1
            self.examples.setdefault(reason, example)
            total = self.counts.total()
        if total <= LOGGED_IN_FULL:
            log.warning("skipped %s: %s%s", _shortened(key), reason, f" ({_shortened(str(detail))})" if detail else "")
        elif str(total).strip("0") == "1":
            log.warning("skipped %s", self)

    def pass_over(self, name: str, reason: str, count: int = 1) -> None:
        """Count files that are no samples."""
        with self._lock:
            reason = _bounded_reason(self.passed_over, reason)
            self.passed_over[reason] += count
            self.examples.setdefault(reason, _shortened(name))

    def note(self, text: str) -> None:
        """Keep how something was understood."""
        with self._lock:
            if len(self.notes) < MAX_REASONS:
                self.notes.setdefault(_shortened(text))

    def as_record(self) -> dict[str, Any]:
        """For JSON, as `merge` takes it."""
        return {
            "skipped": dict(self.counts),
            "passed_over": dict(self.passed_over),
            "examples": self.examples,
            "notes": list(self.notes),
        }

    def merge(self, record: dict[str, Any]) -> None:
        """Add what another look counted, given as a record."""
        with self._lock:
            self.counts.update(record["skipped"])
            self.passed_over.update(record["passed_over"])
            self.examples = {**record["examples"], **self.examples}
            self.notes |= dict.fromkeys(record["notes"])

    def log_summary(self, write: Callable[[str], object]) -> None:
        """Give the remarks to `write`, a line each; log the total of what was skipped, if there is any."""
        for line in self.remarks():
            write(line)
        if self.counts:
            log.warning("skipped %s", self.with_examples())

    def remarks(self) -> list[str]:
        """How the set was understood, and which files of it are no samples."""
        return [*self.notes, *([f"not used: {_counted(self.passed_over, self.examples)}"] * bool(self.passed_over))]

    def with_examples(self) -> str:
        """The total, and of each reason the first example on a line of its own."""
        lines = [f"  {reason}, first {self.examples[reason]}" for reason in sorted(self.counts)]
        return "\n".join([str(self), *lines])

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self.counts.items()))
        return f"{self.counts.total():,} in all: {reasons}" if self.counts else "nothing"


def _bounded_reason(counts: Counter[str], reason: str) -> str:
    return reason if reason in counts or len(counts) < MAX_REASONS else "other reasons"


def _counted(counts: Counter[str], examples: dict[str, str]) -> str:
    return "; ".join(f"{reason}: {count:,}, first {examples[reason]}" for reason, count in sorted(counts.items()))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_EXAMPLE else f"{text[:MAX_EXAMPLE]}..."


def skip_reason(error: ImageError | OSError) -> tuple[str, str]:
    """Reason and detail of an image that cannot be read."""
    if isinstance(error, OSError):
        return "unreadable file", str(error)
    detail, _, _ = str(error).partition(":")  # what follows tells a client what to send
    return ("too many pixels" if error.code == "image_too_large" else "broken picture"), detail
